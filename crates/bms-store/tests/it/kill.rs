//! `kill -9` of a real process on a real folder.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bms_store::{Digest, GcOptions, Location, ScrubOptions, Store};

use crate::material::{get, noise, put, runtime};

/// Names the store's folder to the process that is to be killed.
const CHILD: &str = "BMS_STORE_TEST_KILLED_IN";
/// Acknowledgements read before each kill; the kill then hits somewhere in what follows.
const ROUNDS: [usize; 6] = [1, 2, 4, 6, 9, 11];

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return work_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for (round, &count) in ROUNDS.iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::what_was_acknowledged_survives_a_kill", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        acknowledged.extend(read_then_kill(&mut child, count, round));
        runtime().block_on(check(dir.path(), &acknowledged));
    }
    assert!(acknowledged.len() >= ROUNDS.iter().sum());
}

fn read_then_kill(child: &mut Child, count: usize, round: usize) -> Vec<u64> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    while acknowledged.len() < count {
        let line = lines.next().expect("the child goes on until it is killed").unwrap();
        acknowledged.extend(parse(&line));
    }
    std::thread::sleep(Duration::from_micros(3700 * round as u64));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    acknowledged
}

fn parse(line: &str) -> Option<u64> {
    line.strip_prefix("ack ")?.strip_suffix(" end")?.parse().ok()
}

fn file(seed: u64) -> Vec<u8> {
    // Neighbours share half of their bytes.
    [noise(seed / 2, 150_000), noise(seed + 1_000_000, 150_000)].concat()
}

async fn check(dir: &Path, acknowledged: &BTreeSet<u64>) {
    let store = Store::open(&Location::Folder(dir.to_owned())).await.unwrap();
    for seed in acknowledged {
        let bytes = file(*seed);
        assert!(get(&store, Digest::of(&bytes)).await.unwrap() == bytes, "file {seed}");
    }
    for digest in store.files().await.unwrap() {
        get(&store, digest).await.unwrap();
    }
    let scrub = store.scrub(&ScrubOptions { afresh: true, ..ScrubOptions::default() }).await.unwrap();
    assert!(scrub.healthy, "{scrub:?}");
}

/// The child: pushes, collects and scrubs, and says so when it is done.
fn work_until_killed(dir: &Path) {
    runtime().block_on(async {
        let store = Store::open(&Location::Folder(dir.to_owned())).await.unwrap();
        let done = store.files().await.unwrap();
        let mut roots: BTreeSet<Digest> = done.clone();
        let begin = (0..).find(|seed| !done.contains(&Digest::of(&file(*seed)))).unwrap();
        for seed in begin.. {
            let bytes = file(seed);
            // Something that will be garbage at once.
            put(&store, &noise(seed + 2_000_000, 100_000)).await.unwrap();
            put(&store, &bytes).await.unwrap();
            roots.insert(Digest::of(&bytes));
            let mut out = std::io::stdout().lock();
            writeln!(out, "ack {seed} end").unwrap();
            out.flush().unwrap();
            drop(out);
            // Leases and the lock of those killed before are in the way until they run out; that is no error.
            let options = GcOptions { grace: Duration::ZERO, wait: Duration::ZERO, live_percent_min: 50 };
            let _ = store.gc(&roots, &options).await;
            store.scrub(&ScrubOptions::default()).await.unwrap();
        }
    });
}

/// Names the folder to the process whose fetch is to be killed.
const FETCHES: &str = "BMS_STORE_TEST_FETCHES_IN";
/// Microseconds of a fetch that pass before it is killed.
const FETCHED_US: [u64; 9] = [0, 500, 2000, 5000, 10_000, 20_000, 40_000, 80_000, 160_000];

#[test]
fn a_fetch_that_was_killed_goes_on_and_shows_nothing_half() {
    let large = noise(7, 48 << 20);
    let digest = Digest::of(&large);
    if let Some(dir) = std::env::var_os(FETCHES) {
        return fetch_until_killed(Path::new(&dir), digest);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let store = runtime().block_on(async {
        let store = Store::open(&Location::Folder(dir.path().join("store"))).await.unwrap();
        put(&store, &large).await.unwrap();
        store
    });
    let mut halves = 0;
    for delay_us in FETCHED_US {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::a_fetch_that_was_killed_goes_on_and_shows_nothing_half", "--nocapture"])
            .env(FETCHES, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines
            .find(|line| line.as_ref().unwrap().ends_with("fetching"))
            .expect("it says when it begins")
            .unwrap();
        std::thread::sleep(Duration::from_micros(delay_us));
        child.kill().unwrap();
        child.wait().unwrap();
        let part = std::fs::metadata(dir.path().join("model.part")).map_or(0, |part| part.len());
        halves += u64::from(part != 0 && part < large.len() as u64);
        match std::fs::read(&path) {
            Ok(bytes) => assert!(bytes == large, "after {delay_us} us it is there in part"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
        let fetched = runtime().block_on(store.fetch(digest, &path, &[])).unwrap();
        assert_eq!(fetched.bytes, large.len() as u64);
        assert!(std::fs::read(&path).unwrap() == large);
        assert!(!dir.path().join("model.part").exists());
        std::fs::remove_file(&path).unwrap();
    }
    println!("{halves} of {} were killed in the middle", FETCHED_US.len());
}

/// The child: fetches once, or as often as it can.
fn fetch_until_killed(dir: &Path, digest: Digest) {
    runtime().block_on(async {
        let store = Store::open(&Location::Folder(dir.join("store"))).await.unwrap();
        println!("fetching");
        loop {
            store.fetch(digest, &dir.join("model"), &[]).await.unwrap();
            std::fs::remove_file(dir.join("model")).unwrap();
        }
    });
}
