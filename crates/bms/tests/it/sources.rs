//! `bms pull`, and the server as a hub: for Hugging Face's own client and for ours.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use serde_json::Value;

use crate::program::{Server, bms, fails, ok, shared};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/hub_client.py");
/// Bytes of the file that is pulled while the program is killed.
const FILE_BYTES: usize = 3_000_000;

/// A server with one version of the shared model.
fn registry(data: &Path) -> Server {
    static KEY: Once = Once::new();
    let shared = shared();
    // Servers of one home folder that start for the first time at once would both make its key.
    KEY.call_once(|| drop(ok(bms(&shared.home()).args(["key", "audit"]))));
    let server = Server::start(&shared.home(), &["up", "--data", data.to_str().unwrap()]);
    ok(bms(&shared.home()).arg("push").arg(shared.at("fp32")).args([
        "--alias",
        "production",
        "--server",
        server.client.base(),
    ]));
    server
}

/// `bms` that sees nothing of this machine's hub settings.
fn puller(home: &Path, hub: &str) -> Command {
    let mut command = bms(home);
    for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", hub).env("HF_HOME", home.join("hf"));
    command
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = bms_bundle::scan::targets(dir).unwrap();
    let name = |path: &Path| path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|file| (name(&file.path), std::fs::read(&file.path).unwrap())).collect()
}

#[test]
fn hugging_faces_client_is_served() {
    let Some(python) = std::env::var_os("BMS_HUB_CLIENT") else {
        assert!(std::env::var_os("CI").is_none(), "BMS_HUB_CLIENT must be set in CI");
        eprintln!("SKIPPED: huggingface_hub was not served, because BMS_HUB_CLIENT is not set");
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let server = registry(data.path());
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(python)
        .args([Path::new(SCRIPT), Path::new(server.client.base()), Path::new("digits"), &shared().at("fp32")])
        .env("HF_ENDPOINT", server.client.base())
        .env("HF_HOME", cache.path())
        .env("HF_TOKEN", "hf_any")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("HF_HUB_CACHE")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.trim_end().ends_with("ok"), "{printed}\n{failed}");
    println!("{printed}");
}

#[test]
fn what_one_server_has_another_gets() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (
        registry(data.path()),
        Server::start(&shared().home(), &["up", "--data", other.path().to_str().unwrap()]),
    );
    let hub = first.client.base();
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("pulled");
    let pulled = ok(puller(home.path(), hub).args(["pull", "hf://digits@v1"]).arg(&out));
    assert_eq!(contents(&out), contents(&shared().at("fp32")));
    assert_eq!(pulled["revision"].as_str().unwrap().len(), 40);
    assert!(pulled["files"].as_array().unwrap().iter().all(|file| file["verified"] == "sha256"));
    let again = ok(puller(home.path(), hub).args(["pull", "hf://digits"]).arg(&out));
    assert_eq!((&again["unchanged"], &again["revision"]), (&Value::Bool(true), &pulled["revision"]));
    // A bundle keeps its signature: the other server takes it as the same version.
    let url = second.client.base();
    let made = ok(puller(&shared().home(), hub)
        .args(["pull", "hf://digits", "--register", "digits"])
        .args(["--alias", "candidate", "--server", url]));
    assert_eq!(made["version"]["digest"], Value::from(first.client.version("digits", "1").unwrap().digest));
    assert_eq!(second.client.version("digits", "candidate").unwrap().version, 1);
    // What is no bundle becomes one, that says where it is from.
    ok(puller(&shared().home(), hub)
        .args(["pull", "hf://digits@v1/model.onnx", "--register", "plain", "--server", url])
        .args(["--licence", "MIT"]));
    let plain = second.client.version("plain", "1").unwrap();
    let source = plain.source.expect("the registry knows where it is from");
    assert!(
        source.starts_with("hf://digits@v1/model.onnx (")
            && source.contains(pulled["revision"].as_str().unwrap())
    );
    assert!(!shared().home().join("pulls").read_dir().is_ok_and(|mut left| left.next().is_some()));
    for (asked, code) in
        [("hf://digits@v9", 15), ("hf://nobody", 15), ("hf://digits/nothing", 15), ("nonsense", 10)]
    {
        let (exit, error) = fails(puller(home.path(), hub).args(["pull", asked]).arg(home.path().join("no")));
        assert_eq!(exit, code, "{asked}: {error}");
    }
    first.client.verify_audit().unwrap();
}

/// A slow server of one file, that knows ranges; ends with the value.
struct Slow {
    base: String,
    over: Arc<AtomicBool>,
}

impl Slow {
    fn start(content: Arc<Vec<u8>>) -> Slow {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let base = format!("http://{}", listener.local_addr().unwrap());
        let ended = over.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let content = content.clone();
                std::thread::spawn(move || -> std::io::Result<()> {
                    let lines = BufReader::new(stream.try_clone()?).lines();
                    let mut begin = 0;
                    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
                        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                            begin = range.trim_end_matches('-').parse().unwrap_or(0);
                        }
                    }
                    let (status, rest) = (if begin == 0 { 200 } else { 206 }, &content[begin..]);
                    let range = format!("bytes {begin}-{}/{}", content.len() - 1, content.len());
                    write!(
                        stream,
                        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\netag: \"1\"\r\n",
                        rest.len()
                    )?;
                    write!(stream, "content-range: {range}\r\nconnection: close\r\n\r\n")?;
                    for piece in rest.chunks(64 << 10) {
                        stream.write_all(piece)?;
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Ok(())
                });
            }
        });
        Slow { base, over }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.base.trim_start_matches("http://"));
    }
}

#[test]
fn a_pull_that_is_killed_goes_on_and_shows_nothing_half() {
    let text: String = (0..)
        .map(|n| format!("line {n}\n"))
        .scan(0, |size, line| {
            *size += line.len();
            (*size < FILE_BYTES).then_some(line)
        })
        .collect();
    let content = Arc::new(text.into_bytes());
    let server = Slow::start(content.clone());
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("out.txt");
    let source = format!("{}/m.txt", server.base);
    // The policy and its key are there: what is killed is the pull.
    ok(puller(home.path(), &server.base).args(["key", "show"]));
    let begin = || {
        let mut pull = puller(home.path(), &server.base);
        pull.args(["pull", &source]).arg(&out).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let here = || -> u64 {
        let entries = std::fs::read_dir(home.path().join(".out.txt.pulling")).into_iter().flatten().flatten();
        entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
    };
    let mut resumed = 0;
    for moment_ms in [1, 20, 60, 100, 150, 200, 260] {
        let mut child = begin();
        std::thread::sleep(Duration::from_millis(moment_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        if out.exists() {
            assert_eq!(std::fs::read(&out).unwrap(), *content, "what is seen is whole");
            std::fs::remove_file(&out).unwrap();
        } else {
            resumed += u64::from(100_000 < here());
        }
    }
    assert!(0 < resumed, "no kill came in the middle");
    // The last kill may have come so late that nothing is left to go on from; this one does not.
    let in_the_middle = (0..20).any(|_| {
        let mut child = begin();
        while here() <= 100_000 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if out.exists() {
            std::fs::remove_file(&out).unwrap();
        }
        100_000 < here()
    });
    assert!(in_the_middle, "a pull was always done before it was killed");
    let pulled = ok(puller(home.path(), &server.base).args(["pull", &source]).arg(&out));
    assert_eq!(std::fs::read(&out).unwrap(), *content);
    assert!(pulled["bytes_moved"].as_u64().unwrap() < content.len() as u64, "{pulled}");
    assert!(!home.path().join(".out.txt.pulling").exists());
}
