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

/// Names the folder to the process that fetches.
const FETCHER: &str = "BMS_STORE_TEST_FETCHING_IN";

#[test]
fn a_fetch_that_is_killed_leaves_nothing_half_and_is_taken_up() {
    if let Some(dir) = std::env::var_os(FETCHER) {
        return fetch_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let content = fetched_file();
    let digest = Digest::of(&content);
    let open = || async { Store::open(&Location::Folder(dir.path().join("store"))).await.unwrap() };
    runtime().block_on(async { put(&open().await, &content).await.unwrap() });
    for (round, &count) in ROUNDS.iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "kill::a_fetch_that_is_killed_leaves_nothing_half_and_is_taken_up",
                "--nocapture",
            ])
            .env(FETCHER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let finished = read_then_kill(&mut child, count, round);
        let out = dir.path().join("out");
        // Whatever has its name is whole; what is not whole waits under another one.
        for entry in std::fs::read_dir(&out).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none() {
                assert!(std::fs::read(&path).unwrap() == content, "{}", path.display());
            }
        }
        for n in finished {
            assert!(out.join(n.to_string()).is_file(), "{n} was acknowledged");
        }
        runtime().block_on(async {
            let next = out.join("again");
            // What the killed one left is taken up under the name it was for.
            let left = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
            for part in left.filter(|path| path.extension().is_some_and(|end| end == "part")) {
                open().await.fetch(digest, &part.with_extension(""), &[]).await.unwrap();
                assert!(!part.exists() && std::fs::read(part.with_extension("")).unwrap() == content);
            }
            open().await.fetch(digest, &next, &[]).await.unwrap();
        });
        std::fs::remove_dir_all(&out).unwrap();
    }
}

fn fetched_file() -> Vec<u8> {
    noise(77, 6_000_000)
}

/// The child: fetches one file under one name after the other, and says so.
fn fetch_until_killed(dir: &Path) {
    let digest = Digest::of(&fetched_file());
    let out = dir.join("out");
    std::fs::create_dir_all(&out).unwrap();
    runtime().block_on(async {
        let store = Store::open(&Location::Folder(dir.join("store"))).await.unwrap();
        for n in 0_u64.. {
            store.fetch(digest, &out.join(n.to_string()), &[]).await.unwrap();
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "ack {n} end").unwrap();
            stdout.flush().unwrap();
        }
    });
}
