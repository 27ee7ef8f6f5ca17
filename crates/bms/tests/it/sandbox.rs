//! Slots of the program are confined, serve as before, and are denied nothing they need.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use bms_wire::client::Client;
use bms_wire::oip::{Datatype, InferRequest, InferTensor, Parameters};
use serde_json::{Value, json};

use crate::program::{Server, Shared, bms, ok, shared};

/// What this machine confines, as `bms doctor` says it; `None` when slots are not confined here. In CI they must be.
fn isolation(home: &Path) -> Option<Value> {
    let isolation = ok(bms(home).arg("doctor"))["isolation"].clone();
    if isolation["confined"] == true && isolation["denials_told"] == true {
        return Some(isolation);
    }
    eprintln!("SKIPPED: this machine confines no slot: {isolation}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must run where slots are confined");
    None
}

/// A field of a process's `/proc/PID/status`.
fn status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{field}: {status}")).trim().to_owned()
}

/// Every thread of a process is confined.
#[track_caller]
fn is_confined(pid: u32) {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread: u32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        assert_eq!((status(thread, "NoNewPrivs"), status(thread, "Seccomp")), ("1".into(), "2".into()));
        // CAP_DAC_READ_SEARCH is the one that may be left.
        assert_eq!(u64::from_str_radix(&status(thread, "CapPrm"), 16).unwrap() & !(1 << 2), 0);
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for limit in ["Max file size", "Max core file size"] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_ascii_whitespace().next(), Some("0"), "{limit}{line}");
    }
}

#[track_caller]
fn nothing_was_denied(client: &Client) {
    let metrics = metrics(client);
    let denied: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("bms_sandbox_denied_total")).collect();
    assert!(denied.is_empty(), "{denied:?}");
}

fn metrics(client: &Client) -> String {
    let mut text = String::new();
    let mut stream = std::net::TcpStream::connect(client.base().trim_start_matches("http://")).unwrap();
    let head = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

/// Asks what the first of the held-out digits is.
#[track_caller]
fn predict(server: &Server) {
    let picture = Shared::held_out().samples[0].image.encode_png().unwrap();
    let tensor = InferTensor {
        name: "image".into(),
        shape: vec![1],
        datatype: Datatype::Bytes,
        parameters: Parameters::new(),
        data: json!([base64::engine::general_purpose::STANDARD.encode(picture)]),
    };
    let request =
        InferRequest { id: None, parameters: Parameters::new(), inputs: vec![tensor], outputs: vec![] };
    let answer = server.client.infer("digits", &request).unwrap();
    assert!(answer.outputs.iter().any(|output| output.name == "label"));
}

/// Serves the digits and predicts, on a run-time.
fn digits_on(runtime: &str, environment: Option<(&str, &Path)>) {
    let shared = shared();
    let home = shared.home();
    let bundle = shared.at("fp32");
    let arguments = ["serve", bundle.to_str().unwrap(), "--runtime", runtime, "--threads", "2"];
    let server = Server::start_with(&home, &arguments, environment);
    let slot = child(server.pid());
    is_confined(slot);
    for _ in 0..3 {
        predict(&server);
    }
    nothing_was_denied(&server.client);
    // Killed, it comes back confined.
    assert!(Command::new("kill").arg("-KILL").arg(slot.to_string()).status().unwrap().success());
    server.wait_for("digits");
    predict(&server);
    let next = child(server.pid());
    assert_ne!(slot, next);
    is_confined(next);
    nothing_was_denied(&server.client);
}

/// The one child of a process.
fn child(parent: u32) -> u32 {
    for _ in 0..200 {
        let children = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
            (fields.next()? != "Z" && fields.next()?.parse() == Ok(parent)).then_some(pid)
        });
        if let [child] = children.collect::<Vec<_>>()[..] {
            return child;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("process {parent} has no child");
}

#[test]
fn graphs_are_served_confined() {
    if isolation(&shared().home()).is_none() {
        return;
    }
    digits_on("rten", None);
    match std::env::var_os("BMS_ONNXRUNTIME") {
        Some(library) => {
            digits_on("onnxruntime", Some(("BMS_ONNXRUNTIME", Path::new(&library))));
            digits_on("auto", Some(("BMS_ONNXRUNTIME", Path::new(&library))));
        }
        None => {
            assert!(std::env::var_os("CI").is_none(), "BMS_ONNXRUNTIME must be set in CI");
            eprintln!("SKIPPED: ONNX Runtime was not confined, because BMS_ONNXRUNTIME is not set");
        }
    }
}

#[test]
fn a_server_audits_nothing_while_all_is_well() {
    let shared = shared();
    let home = shared.home();
    if isolation(&home).is_none() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(&home, &["up", "--data", data.path().to_str().unwrap()]);
    let at = server.client.base().to_owned();
    ok(bms(&home).arg("push").arg(shared.at("fp32")).args(["--server", &at, "--alias", "production"]));
    server.client.deploy("digits", "production").unwrap();
    server.wait_for("digits");
    predict(&server);
    let slot = server.client.slots().unwrap()[0].pid.unwrap();
    is_confined(slot);
    // A second version: the first drains and ends.
    ok(bms(&home).arg("push").arg(shared.at("int8")).args(["--server", &at, "--alias", "production"]));
    for _ in 0..600 {
        let slots = server.client.slots().unwrap();
        if slots.len() == 1 && slots[0].version == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    predict(&server);
    nothing_was_denied(&server.client);
    let events = server.client.audit(0).unwrap();
    let about: Vec<_> = events.iter().filter(|event| event.action.starts_with("sandbox.")).collect();
    assert!(about.is_empty(), "{about:?}");
    assert!(events.iter().all(|event| event.action != "policy.unconfined"));
}

#[test]
fn a_language_model_is_served_confined_with_adapters() {
    let home = tempfile::tempdir().unwrap();
    if isolation(home.path()).is_none() {
        return;
    }
    let Some(model) = std::env::var_os("BMS_SMOLLM2") else {
        assert!(std::env::var_os("CI").is_none(), "BMS_SMOLLM2 must be set in CI");
        eprintln!("SKIPPED: no language model was confined, because BMS_SMOLLM2 is not set");
        return;
    };
    let policy = home.path().join("policy.toml");
    std::fs::write(&policy, "schema = 1\nmode = \"development\"\n").unwrap();
    let adapters = home.path().join("adapters");
    std::fs::create_dir(&adapters).unwrap();
    let arguments = ["serve", model.to_str().unwrap(), "--name", "m", "--context", "512", "--policy"];
    let arguments =
        [&arguments[..], &[policy.to_str().unwrap(), "--adapters", adapters.to_str().unwrap()]].concat();
    let server = Server::start(home.path(), &arguments);
    is_confined(child(server.pid()));
    let ask = |path: &str, body: &Value| -> Result<String, String> {
        let mut text = String::new();
        let mut answer = server.client.stream(path, body).map_err(|e| e.to_string())?;
        std::io::Read::read_to_string(&mut answer, &mut text).map_err(|e| e.to_string())?;
        Ok(text)
    };
    let asked = json!({"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]});
    assert!(ask("/v1/chat/completions", &asked).unwrap().contains("choices"));
    // Put there while the slot runs: it is read, and found to be no adapter.
    std::fs::write(adapters.join("late.gguf"), b"GGUF but no adapter").unwrap();
    let load = |path: &str| ask("/v1/load_lora_adapter", &json!({"lora_name": "late", "lora_path": path}));
    let refused = load("late.gguf").unwrap_err();
    assert!(!refused.contains("ermission"), "{refused}");
    assert!(ask("/v1/chat/completions", &asked).unwrap().contains("choices"));
    nothing_was_denied(&server.client);
}
