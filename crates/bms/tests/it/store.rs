//! A server's store from the command line: what a push sends, what a scrub finds, what garbage is.

use std::path::{Path, PathBuf};

use bms_bundle::{Bundle, Draft, SigningKey};
use serde_json::Value;

use crate::program::{Server, Shared, bms, fails, ok, shared};

/// The shared model with a large text beside it, signed again.
pub(crate) fn bundle(shared: &Shared, dir: &Path, name: &str, text: &str) -> PathBuf {
    let made = Bundle::open(&shared.at("fp32")).unwrap();
    let mut manifest = made.manifest_unverified().unwrap();
    manifest.files.clear();
    let mut draft = Draft::new(manifest);
    for (path, bytes) in made.files().filter(|(path, _)| !["bundle.json", "model.sig"].contains(path)) {
        draft.add(path, bytes).unwrap();
    }
    draft.add("notes/large.txt", text).unwrap();
    let place = dir.join(name);
    let key = SigningKey::load(&shared.home().join("signing-key.pem")).unwrap();
    draft.write_signed(&place, &key).unwrap();
    place
}

/// Words that repeat nowhere.
pub(crate) fn words(count: u32) -> String {
    (0..count).map(|n| format!("{:08x}\n", n.wrapping_mul(0x9E37_79B9))).collect()
}

/// Pushes and gives what was sent.
pub(crate) fn push(shared: &Shared, bundle: &Path, server: &str) -> Value {
    let output = bms(&shared.home()).arg("push").arg(bundle).args(["--server", server]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let mut events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.find(|event| event["event"] == "uploaded").expect("a push says what it sent")
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &place),
            false => drop(std::fs::copy(entry.path(), place).unwrap()),
        }
    }
}

#[test]
fn a_push_sends_what_is_missing_and_a_scrub_repairs_what_rotted() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&shared.home(), &["up", "--data", data.to_str().unwrap()]);
    let url = server.client.base().to_owned();
    let text = words(1_000_000);
    let first = bundle(shared, dir.path(), "first", &text);
    let sent = push(shared, &first, &url);
    let bytes = sent["bytes"].as_u64().unwrap();
    assert!(text.len() as u64 <= sent["bytes_moved"].as_u64().unwrap(), "{sent}");
    assert_eq!(push(shared, &first, &url)["bytes_moved"], 0, "the same again sends nothing");

    let mut changed = text.clone();
    for place in (1..11).map(|n| n * 800_000) {
        changed.replace_range(place..place + 45_000, &"other words, 15".repeat(3000));
    }
    let second = bundle(shared, dir.path(), "second", &changed);
    let sent = push(shared, &second, &url);
    let share = sent["bytes_moved"].as_u64().unwrap() as f64 / bytes as f64;
    assert!(share <= 0.08, "{share} of the second version were sent: {sent}");
    drop(server);

    let store = data.join("store");
    let copy = dir.path().join("copy");
    copy_folder(&store, &copy);
    let data = data.to_str().unwrap();
    let healthy = ok(bms(&shared.home()).args(["scrub", "--data", data]));
    assert!(healthy["healthy"] == true && 4_000_000 < healthy["bytes_read"].as_u64().unwrap(), "{healthy}");
    let packs = std::fs::read_dir(store.join("packs")).unwrap();
    let largest = packs.map(|pack| pack.unwrap().path()).max_by_key(|pack| pack.metadata().unwrap().len());
    let largest = largest.unwrap();
    let mut pack = std::fs::read(&largest).unwrap();
    pack[2_000_000] ^= 1;
    std::fs::write(&largest, pack).unwrap();
    let (code, error) = fails(bms(&shared.home()).args(["scrub", "--data", data]));
    assert_eq!(code, 21, "{error}");
    let repaired = ok(bms(&shared.home()).args(["scrub", "--data", data, "--from", copy.to_str().unwrap()]));
    assert!(repaired["healthy"] == true && repaired["problems_repaired"] != 0, "{repaired}");
    let collected = ok(bms(&shared.home()).args(["gc", "--data", data]));
    assert!(collected["complete"] == true && collected["packs_removed"] != 0, "{collected}");

    let server = Server::start(&shared.home(), &["up", "--data", data]);
    for version in server.client.models().unwrap().iter().flat_map(|model| &model.versions) {
        let version = server.client.version(&version.model, &version.version.to_string()).unwrap();
        for file in &version.files {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut server.client.get_blob(&file.blake3).unwrap(), &mut content)
                .unwrap();
            assert_eq!(content.len() as u64, file.size, "{}", file.path);
        }
    }
}

#[test]
fn a_place_that_is_no_store_is_refused() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (code, _) = fails(bms(&shared.home()).args(["scrub", "--store", "gs://bucket"]));
    assert_eq!(code, 10);
    let (code, _) = fails(bms(&shared.home()).args(["scrub", "--store", path, "--from", path]));
    assert_eq!(code, 15, "an empty folder has nothing to repair from");
    let (code, _) = fails(bms(&shared.home()).args(["gc", "--data", dir.path().join("x").to_str().unwrap()]));
    assert_eq!(code, 15);
}
