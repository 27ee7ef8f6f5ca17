use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::*;

const WAIT: Duration = Duration::from_secs(20);

fn bounds() -> Bounds {
    Bounds { samples_max: 1000, bytes_max: 64 << 20, segment_bytes: 1 << 20 }
}

fn open_with(dir: &Path, bounds: Bounds) -> Outbox {
    Outbox::open(dir, bounds, || {}).unwrap()
}

fn open(dir: &Path) -> Outbox {
    open_with(dir, bounds())
}

/// A sample whose picture is told by its number.
fn sample(number: usize) -> Sample {
    Sample {
        image: format!("picture {number}").into_bytes(),
        label: format!("label {}", number % 10),
        confidence: 0.25,
        version: 7,
        at_ms: number as i64,
    }
}

fn queue(outbox: &Outbox, sample: &Sample) {
    match outbox.offer(sample) {
        Offered::Writing(answer) => assert!(answer.recv_timeout(WAIT).unwrap(), "written"),
        other => panic!("{other:?}"),
    }
}

fn all(outbox: &Outbox) -> Vec<Sample> {
    outbox.oldest(usize::MAX, usize::MAX).unwrap().samples.into_iter().map(|(_, sample)| sample).collect()
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    segments(dir).unwrap().iter().map(|first| dir.join(format!("{first:020}.log"))).collect()
}

#[test]
fn queued_samples_survive_in_order_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<Sample> = (0..20).map(sample).collect();
    {
        let outbox = open(dir.path());
        samples.iter().for_each(|sample| queue(&outbox, sample));
        assert_eq!(all(&outbox), samples);
    }
    let outbox = open(dir.path());
    assert_eq!(all(&outbox), samples);
    assert_eq!(outbox.len(), 20);
    let oldest = outbox.oldest(3, usize::MAX).unwrap();
    let ids: Vec<String> =
        samples[..3].iter().map(|sample| blake3::hash(&sample.image).to_hex().to_string()).collect();
    assert_eq!(oldest.samples.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), ids);
}

#[test]
fn a_file_cut_at_any_byte_keeps_every_whole_record() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<Sample> = (0..4).map(sample).collect();
    let mut ends = Vec::new();
    {
        let outbox = open(dir.path());
        for sample in &samples {
            queue(&outbox, sample);
            ends.push(fs::metadata(&logs(dir.path())[0]).unwrap().len() as usize);
        }
    }
    let whole = fs::read(&logs(dir.path())[0]).unwrap();
    for cut in 0..=whole.len() {
        let torn = tempfile::tempdir().unwrap();
        fs::write(torn.path().join("00000000000000000001.log"), &whole[..cut]).unwrap();
        let survivors = ends.iter().filter(|&&end| end <= cut).count();
        let outbox = open(torn.path());
        assert_eq!(all(&outbox), samples[..survivors], "cut at {cut}");
        let whole_records = cut == 0 || ends.contains(&cut);
        assert_eq!(
            outbox.counts().damaged.load(Ordering::Relaxed),
            u64::from(!whole_records),
            "cut at {cut}"
        );
        // What comes after a torn end is as safe as what came before it.
        queue(&outbox, &sample(99));
        drop(outbox);
        let expected: Vec<Sample> = samples[..survivors].iter().cloned().chain([sample(99)]).collect();
        assert_eq!(all(&open(torn.path())), expected, "cut at {cut}");
    }
}

#[test]
fn a_byte_changed_anywhere_costs_one_sample_at_most_and_alters_none() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<Sample> = (0..3).map(sample).collect();
    {
        let outbox = open(dir.path());
        samples.iter().for_each(|sample| queue(&outbox, sample));
    }
    let whole = fs::read(&logs(dir.path())[0]).unwrap();
    for at in 0..whole.len() {
        let rotten = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(rotten.path().join("00000000000000000001.log"), bytes).unwrap();
        let outbox = open(rotten.path());
        let found = all(&outbox);
        assert_eq!(found.len(), 2, "changed at {at}");
        assert!(found.iter().all(|sample| samples.contains(sample)), "changed at {at}");
        assert_eq!(outbox.counts().damaged.load(Ordering::Relaxed), 1, "changed at {at}");
    }
}

#[test]
fn damage_that_comes_while_running_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open_with(dir.path(), Bounds { segment_bytes: 1, ..bounds() });
    (0..3).for_each(|number| queue(&outbox, &sample(number)));
    let logs = logs(dir.path());
    assert_eq!(logs.len(), 3, "a segment each");
    fs::remove_file(&logs[0]).unwrap();
    fs::write(&logs[1], b"short").unwrap();
    let oldest = outbox.oldest(10, usize::MAX).unwrap();
    assert_eq!(oldest.samples.len(), 1);
    assert_eq!(outbox.counts().damaged.load(Ordering::Relaxed), 2);
    outbox.acknowledge(oldest.through).unwrap();
    assert_eq!(outbox.len(), 0);
}

#[test]
fn acknowledged_samples_are_gone_and_so_are_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open_with(dir.path(), Bounds { segment_bytes: 300, ..bounds() });
    (0..20).for_each(|number| queue(&outbox, &sample(number)));
    let before = logs(dir.path()).len();
    assert!(4 < before, "{before} segments");
    let oldest = outbox.oldest(15, usize::MAX).unwrap();
    outbox.acknowledge(oldest.through).unwrap();
    assert!(logs(dir.path()).len() < before / 2);
    let on_disk: u64 = logs(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(outbox.bytes(), on_disk);
    drop(outbox);
    let outbox = open(dir.path());
    assert_eq!(all(&outbox), (15..20).map(sample).collect::<Vec<_>>());
    let oldest = outbox.oldest(100, usize::MAX).unwrap();
    outbox.acknowledge(oldest.through).unwrap();
    assert_eq!((outbox.len(), outbox.bytes(), logs(dir.path()).len()), (0, 0, 0));
}

#[test]
fn what_comes_after_an_acknowledged_and_emptied_log_is_not_taken_for_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let outbox = open(dir.path());
        assert_eq!(all(&outbox), (round..round).map(sample).collect::<Vec<_>>());
        queue(&outbox, &sample(round));
        drop(outbox);
        let outbox = open(dir.path());
        assert_eq!(all(&outbox), [sample(round)]);
        outbox.acknowledge(outbox.oldest(9, usize::MAX).unwrap().through).unwrap();
        // And in the same run.
        queue(&outbox, &sample(100 + round));
        assert_eq!(all(&outbox), [sample(100 + round)]);
        outbox.acknowledge(outbox.oldest(9, usize::MAX).unwrap().through).unwrap();
    }
}

#[test]
fn a_damaged_mark_of_what_was_delivered_means_delivering_again_not_losing() {
    let dir = tempfile::tempdir().unwrap();
    {
        let outbox = open(dir.path());
        (0..3).for_each(|number| queue(&outbox, &sample(number)));
        outbox.acknowledge(outbox.oldest(2, usize::MAX).unwrap().through).unwrap();
    }
    assert_eq!(all(&open(dir.path())), [sample(2)]);
    let mark = dir.path().join("acknowledged");
    let good = fs::read(&mark).unwrap();
    for bad in [&good[..good.len() - 1], b"", &[0xFF; 40][..]] {
        fs::write(&mark, bad).unwrap();
        assert_eq!(all(&open(dir.path())).len(), 3);
    }
}

#[test]
fn when_full_the_newest_is_refused_and_counted_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open_with(dir.path(), Bounds { samples_max: 3, ..bounds() });
    (0..3).for_each(|number| queue(&outbox, &sample(number)));
    assert!(matches!(outbox.offer(&sample(3)), Offered::Refused));
    assert_eq!(outbox.counts().full.load(Ordering::Relaxed), 1);
    assert_eq!(all(&outbox), (0..3).map(sample).collect::<Vec<_>>());
    outbox.acknowledge(outbox.oldest(1, usize::MAX).unwrap().through).unwrap();
    queue(&outbox, &sample(3));
    assert_eq!(all(&outbox), (1..4).map(sample).collect::<Vec<_>>());
}

#[test]
fn the_bytes_on_disk_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let bytes_max = 10_000;
    let outbox = open_with(dir.path(), Bounds { bytes_max, segment_bytes: 3000, ..bounds() });
    let mut kept = 0;
    for number in 0..50 {
        let sample = Sample { image: vec![number; 1000], ..sample(0) };
        if let Offered::Writing(answer) = outbox.offer(&sample) {
            assert!(answer.recv_timeout(WAIT).unwrap());
            kept += 1;
        }
    }
    assert!((8..10).contains(&kept), "{kept} kept");
    let on_disk: u64 = logs(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(on_disk, outbox.bytes());
    assert!(on_disk <= bytes_max);
}

#[test]
fn the_same_picture_is_queued_once_and_a_picture_over_the_limit_never() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    queue(&outbox, &sample(1));
    let again = Sample { label: "other".to_owned(), ..sample(1) };
    assert!(matches!(outbox.offer(&again), Offered::Known(true)));
    let most = Sample { image: vec![1; limits::EDGE_SAMPLE_BYTES_MAX], ..sample(0) };
    queue(&outbox, &most);
    let over = Sample { image: vec![1; limits::EDGE_SAMPLE_BYTES_MAX + 1], ..sample(0) };
    assert!(matches!(outbox.offer(&over), Offered::Refused));
    assert_eq!(outbox.counts().too_large.load(Ordering::Relaxed), 1);
    drop(outbox);
    assert_eq!(all(&open(dir.path())), [sample(1), most]);
}

#[test]
fn many_threads_share_flushes_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open_with(dir.path(), Bounds { segment_bytes: 2000, ..bounds() });
    let delivered = Mutex::new(Vec::new());
    let done = AtomicBool::new(false);
    let deadline = Instant::now() + WAIT;
    std::thread::scope(|scope| {
        let deliverer = scope.spawn(|| {
            while (!done.load(Ordering::Acquire) || outbox.len() != 0) && Instant::now() < deadline {
                let oldest = outbox.oldest(7, usize::MAX).unwrap();
                if oldest.through != 0 {
                    delivered
                        .lock()
                        .unwrap()
                        .extend(oldest.samples.into_iter().map(|(_, sample)| sample.at_ms));
                    outbox.acknowledge(oldest.through).unwrap();
                }
            }
        });
        let offerers: Vec<_> = (0..8)
            .map(|thread| {
                let outbox = &outbox;
                scope.spawn(move || (0..25).for_each(|number| queue(outbox, &sample(thread * 25 + number))))
            })
            .collect();
        offerers.into_iter().for_each(|thread| thread.join().unwrap());
        done.store(true, Ordering::Release);
        deliverer.join().unwrap();
    });
    let mut delivered = delivered.into_inner().unwrap();
    delivered.sort_unstable();
    assert_eq!(delivered, (0..200).collect::<Vec<i64>>());
    assert_eq!((outbox.bytes(), logs(dir.path()).len()), (0, 0));
}

#[test]
fn a_disk_that_refuses_is_said_so_counted_and_recovered_from() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("outbox");
    let outbox = open(&dir);
    fs::remove_dir_all(&dir).unwrap();
    match outbox.offer(&sample(1)) {
        Offered::Writing(answer) => assert!(!answer.recv_timeout(WAIT).unwrap()),
        other => panic!("{other:?}"),
    }
    assert_eq!(outbox.counts().failed.load(Ordering::Relaxed), 1);
    assert_eq!((outbox.len(), outbox.bytes()), (0, 0), "the room is given back");
    fs::create_dir(&dir).unwrap();
    queue(&outbox, &sample(1));
    drop(outbox);
    assert_eq!(all(&open(&dir)), [sample(1)]);
}

#[test]
fn closing_writes_what_waits_and_then_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let waiting: Vec<_> = (0..10).map(|number| outbox.offer(&sample(number))).collect();
    outbox.close();
    for offered in waiting {
        let Offered::Writing(answer) = offered else { panic!("{offered:?}") };
        assert!(answer.recv_timeout(WAIT).unwrap());
    }
    assert!(matches!(outbox.offer(&sample(11)), Offered::Refused));
    assert_eq!(all(&open(dir.path())).len(), 10);
}

/// The name of the variable that makes the test below the process that is killed.
const VICTIM: &str = "BMS_TEST_OUTBOX_DIR";

#[test]
fn what_was_said_to_be_queued_is_there_after_a_kill() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let log = dir.path().join("log");
    let mut before = 0;
    for round in 0..6u32 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "outbox::tests::what_was_said_to_be_queued_is_there_after_a_kill"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let count = || fs::read_to_string(&told).unwrap_or_default().lines().count();
        let deadline = Instant::now() + WAIT;
        while count() < before + 5 + round as usize {
            assert!(Instant::now() < deadline, "the victim writes");
            assert!(victim.try_wait().unwrap().is_none(), "the victim lives until it is killed");
            std::thread::sleep(Duration::from_millis(u64::from(round)));
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let text = fs::read_to_string(&told).unwrap();
        // The last line may be cut off in the middle; the kill came before it was told.
        let promised: Vec<&str> =
            text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
        before = text.lines().count();
        let outbox = open_with(&log, Bounds { samples_max: usize::MAX, ..bounds() });
        let found: std::collections::HashSet<String> =
            all(&outbox).into_iter().map(|sample| String::from_utf8(sample.image).unwrap()).collect();
        let lost: Vec<&&str> = promised.iter().filter(|name| !found.contains(**name)).collect();
        assert!(lost.is_empty(), "lost after kill {round}: {lost:?}");
    }
    assert!(30 <= before);
}

/// Queues samples from several threads, and notes each once it is said to be queued.
fn write_until_killed(dir: &Path) -> ! {
    let bounds = Bounds { samples_max: usize::MAX, segment_bytes: 500, ..bounds() };
    let outbox = open_with(&dir.join("log"), bounds);
    let told = fs::OpenOptions::new().create(true).append(true).open(dir.join("told")).unwrap();
    let process = std::process::id();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (outbox, told) = (&outbox, &told);
            scope.spawn(move || {
                for number in 0.. {
                    let name = format!("{process}-{thread}-{number}");
                    let sample = Sample { image: name.clone().into_bytes(), ..sample(0) };
                    if let Offered::Writing(answer) = outbox.offer(&sample)
                        && answer.recv().unwrap()
                    {
                        use std::io::Write;
                        (&*told).write_all(format!("{name}\n").as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    unreachable!("the threads write until the process is killed")
}
