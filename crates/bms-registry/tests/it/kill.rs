//! What was acknowledged survives `kill -9`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bms_bundle::{Policy, SigningKey};
use bms_wire::api::{HardSample, SampleDelivery};
use serde_json::{Value, json};

use crate::bundles::{manifest, signed, upload};
use crate::databases::open;

/// Names the registry's folder to the process that is to be killed.
const CHILD: &str = "BMS_REGISTRY_TEST_KILLED_IN";
/// Acknowledgements read before each kill; the kill then hits at any point of the next write.
const ROUNDS: [usize; 4] = [1, 7, 20, 33];

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    SigningKey::generate().save(&dir.path().join("key.pem")).unwrap();
    let mut acknowledged = Vec::new();
    for (round, &count) in ROUNDS.iter().enumerate() {
        let mut child = spawn(dir.path(), "kill::what_was_acknowledged_survives_a_kill");
        acknowledged.extend(read_then_kill(&mut child, count, round));
        check(dir.path(), &acknowledged);
    }
    assert!(acknowledged.len() >= ROUNDS.iter().sum());
}

fn spawn(dir: &Path, test: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads `count` acknowledgements and then, some microseconds later, kills; what was already in the pipe
/// counts too.
fn read_then_kill(child: &mut Child, count: usize, round: usize) -> Vec<Value> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    while acknowledged.len() < count {
        let line = lines.next().expect("the child goes on until it is killed").unwrap();
        acknowledged.extend(parse(&line));
    }
    std::thread::sleep(std::time::Duration::from_micros(700 * round as u64));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    acknowledged
}

/// An acknowledgement; the test harness prints other lines, and the last line may be torn.
fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line.strip_prefix("ack ")?).ok()
}

/// Everything acknowledged is there, unchanged, and the audit chain holds.
fn check(dir: &Path, acknowledged: &[Value]) {
    runtime().block_on(async {
        let registry = open(&dir.join("registry")).await.unwrap();
        let events = registry.audit_verify().await.unwrap();
        let mut last = 0;
        for ack in acknowledged {
            let number = ack["number"].as_u64().unwrap();
            let hash = ack["hash"].as_str().unwrap();
            match ack["what"].as_str().unwrap() {
                "version" => {
                    let version = registry.version("digits", number).await.unwrap();
                    assert_eq!(version.digest, hash);
                    for file in &version.files {
                        let mut reader = registry.get_blob(&file.blake3).await.unwrap();
                        while reader.next().await.unwrap().is_some() {}
                    }
                    last = last.max(number);
                }
                "event" => {
                    assert!(number <= events);
                    let event = registry.audit_events(number - 1, 1).await.unwrap().remove(0);
                    assert_eq!((event.sequence, event.hash.as_str()), (number, hash));
                }
                "sample" => assert_eq!(registry.sample(hash).await.unwrap().sample.id, hash),
                other => panic!("{other}"),
            }
        }
        let versions = registry.model("digits").await.unwrap().versions;
        let numbers: Vec<_> = versions.iter().rev().map(|v| v.version).collect();
        assert_eq!(numbers, (1..=versions.len() as u64).collect::<Vec<_>>(), "no gaps");
        assert!(last <= versions.len() as u64);
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The child: publishes, audits and stores samples, and prints each once it is acknowledged.
fn write_until_killed(dir: &Path) {
    let key = SigningKey::load(&dir.join("key.pem")).unwrap();
    let policy = Policy::trusting(key.public(), "test");
    runtime().block_on(async {
        let registry = open(&dir.join("registry")).await.unwrap();
        let begin = registry.models().await.unwrap().first().map_or(0, |model| model.versions.len() as u64);
        for seed in begin.. {
            let files = signed(manifest("digits", seed), &key);
            let new = upload(&registry, &files, &["production"]).await;
            let version = registry.publish("digits", new, &policy).await.unwrap();
            print("version", version.version, &version.digest);
            let event = registry.audit("test.happened", "digits", json!({ "seed": seed })).await.unwrap();
            print("event", event.sequence, &event.hash);
            let sample = hard_sample(seed);
            let id = sample.id.clone();
            registry
                .store_samples("edge-1", "digits", &SampleDelivery { samples: vec![sample] })
                .await
                .unwrap();
            print("sample", seed, &id);
        }
    });
}

fn hard_sample(seed: u64) -> HardSample {
    use base64::Engine;
    let image = format!("picture {seed}");
    HardSample {
        id: blake3::hash(image.as_bytes()).to_hex().to_string(),
        image: base64::engine::general_purpose::STANDARD.encode(image),
        label: "1".into(),
        confidence: 0.5,
        version: 1,
        at_ms: 1,
    }
}

fn print(what: &str, number: u64, hash: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {}", json!({ "what": what, "number": number, "hash": hash })).unwrap();
    out.flush().unwrap();
}
