//! Slots of the program are confined, serve as before, and are denied nothing they need.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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
        std::thread::sleep(Duration::from_millis(20));
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
        std::thread::sleep(Duration::from_millis(50));
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
    drop(server);
    // A draft passes the same gate, with a policy that the confined process cannot read again.
    let arguments = [&arguments[..], &["--draft", model.to_str().unwrap()]].concat();
    let server = Server::start(home.path(), &arguments);
    is_confined(child(server.pid()));
    assert!(server.client.stream("/v1/chat/completions", &asked).is_ok());
    nothing_was_denied(&server.client);
}

/// What the hostile library tries, the call that the audit log names, what of it the log says, and whether it works
/// in a process that is not confined, wherever the tests run.
const ATTEMPTS: [(&str, &str, Option<&str>, bool); 13] = [
    ("read a file", "openat", Some("/etc/passwd"), true),
    ("read the parent's environment", "openat", Some("/environ"), true),
    ("write a file", "openat", Some("/written (to write)"), true),
    ("open a device", "openat", Some("/dev/full (to write)"), true),
    ("connect over TCP", "socket", Some("IPv4"), true),
    ("connect to a socket", "socket", Some("Unix"), true),
    ("fork", "clone", Some("a process"), true),
    ("become a program", "execve", Some("/nowhere/program"), false),
    ("trace", "ptrace", None, false),
    ("signal", "kill", None, true),
    ("use keys", "keyctl", None, false),
    ("add a key", "add_key", None, false),
    ("use io_uring", "io_uring_setup", None, false),
];

/// A folder with the hostile library in it, and what it would reach.
struct Hostile {
    dir: tempfile::TempDir,
    port: TcpListener,
    socket: UnixListener,
}

impl Hostile {
    fn new() -> Hostile {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UnixListener::bind(dir.path().join("elsewhere.sock")).unwrap();
        port.set_nonblocking(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/library.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(dir.path().join("libonnxruntime.so"))
            .arg(format!("-DFOLDER=\"{}\"", dir.path().display()))
            .arg(format!("-DPORT={}", port.local_addr().unwrap().port()))
            .arg(source)
            .status();
        assert!(compiled.unwrap().success());
        Hostile { dir, port, socket }
    }

    fn library(&self) -> PathBuf {
        self.dir.path().join("libonnxruntime.so")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// How an attempt went, of what was said last about it.
    fn outcome(&self, what: &str) -> Option<String> {
        let log = std::fs::read_to_string(self.log()).unwrap();
        let said = format!("hostile: {what}: ");
        log.lines().rev().find_map(|line| Some(line.split_once(&said)?.1.to_owned()))
    }

    /// What it reached in this process and outside.
    fn traces(&self) -> Vec<&'static str> {
        let exists = |name| self.dir.path().join(name).exists();
        let traces = [
            (exists("written"), "a file"),
            (exists("spawned"), "a process"),
            (self.port.accept().is_ok(), "a connection"),
            (self.socket.accept().is_ok(), "a connection to a socket"),
        ];
        traces.into_iter().filter(|(there, _)| *there).map(|(_, what)| what).collect()
    }
}

#[test]
fn unconfined_a_hostile_library_gets_what_it_wants() {
    // What the next test denies would work otherwise.
    let hostile = Hostile::new();
    let home = tempfile::tempdir().unwrap();
    let log = File::create(hostile.log()).unwrap();
    ok(bms(home.path()).arg("doctor").env("BMS_ONNXRUNTIME", hostile.library()).stderr(log));
    for (what, .., works) in ATTEMPTS {
        let outcome = hostile.outcome(what).unwrap();
        assert!(!works || outcome == "done", "{what}: {outcome}");
    }
    assert_eq!(hostile.traces(), ["a file", "a process", "a connection", "a connection to a socket"]);
}

#[test]
fn a_hostile_library_in_a_slot_is_denied_everything_and_audited() {
    let shared = shared();
    let home = shared.home();
    if isolation(&home).is_none() {
        return;
    }
    let (hostile, data) = (Hostile::new(), tempfile::tempdir().unwrap());
    let mut command = bms(&home);
    command.args(["up", "--data", data.path().to_str().unwrap()]).env("BMS_ONNXRUNTIME", hostile.library());
    let server = Server::spawn(command.stderr(File::create(hostile.log()).unwrap()));
    let at = server.client.base().to_owned();
    ok(bms(&home).arg("push").arg(shared.at("fp32")).args(["--server", &at, "--alias", "production"]));
    server.client.deploy("digits", "production").unwrap();
    // The library is no run-time; the built-in one serves.
    server.wait_for("digits");
    predict(&server);
    assert_eq!(hostile.traces(), [""; 0]);
    let events = audited(&home, &at, ATTEMPTS.len());
    for (what, call, target, _) in ATTEMPTS {
        let outcome = hostile.outcome(what).unwrap();
        assert!(["errno 1", "errno 13"].contains(&&*outcome), "{what}: {outcome}");
        let event = events.iter().find(|event| {
            let told = event["details"]["target"].as_str();
            event["details"]["call"] == call
                && target.is_none_or(|end| told.is_some_and(|t| t.ends_with(end)))
        });
        let event = event.unwrap_or_else(|| panic!("{what} is not in {events:?}"));
        assert_eq!(event["subject"], "digits@1", "{what}");
        assert!(event["details"]["pid"].is_u64(), "{what}");
    }
    let counted = metrics(&server.client);
    assert!(counted.contains("bms_sandbox_denied_total{call=\"keyctl\",model=\"digits\"} 1"), "{counted}");
    ok(bms(&home).args(["audit", "--server", &at, "verify"]));
}

/// The denials in `bms audit`, once there are as many.
fn audited(home: &Path, server: &str, many: usize) -> Vec<Value> {
    let mut denied = Vec::new();
    for _ in 0..100 {
        let events = ok(bms(home).args(["audit", "--server", server]));
        denied =
            events.as_array().unwrap().iter().filter(|e| e["action"] == "sandbox.denied").cloned().collect();
        if many <= denied.len() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    denied
}

/// Threads of a process that watch slots, and their descriptors.
fn watchers(pid: u32) -> (usize, usize) {
    let entries = |folder: &str| std::fs::read_dir(format!("/proc/{pid}/{folder}")).unwrap().flatten();
    let watches = |task: std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("bms-watch"))
    };
    let listens = |file: std::fs::DirEntry| {
        std::fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy().contains("seccomp"))
    };
    (
        entries("task").filter_map(|t| watches(t).then_some(())).count(),
        entries("fd").filter_map(|f| listens(f).then_some(())).count(),
    )
}

#[test]
fn a_slot_that_dies_frees_its_watcher_and_dies_with_its_server() {
    let shared = shared();
    let home = shared.home();
    if isolation(&home).is_none() {
        return;
    }
    let bundle = shared.at("fp32");
    let server = Server::start(&home, &["serve", bundle.to_str().unwrap()]);
    let mut slot = child(server.pid());
    for _ in 0..3 {
        assert_eq!(watchers(server.pid()), (1, 1));
        assert!(Command::new("kill").arg("-KILL").arg(slot.to_string()).status().unwrap().success());
        server.wait_for("digits");
        predict(&server);
        let gone = slot;
        while slot == gone {
            slot = child(server.pid());
        }
    }
    assert_eq!(watchers(server.pid()), (1, 1));
    is_confined(slot);
    server.kill();
    for _ in 0..100 {
        // It may be a zombie for whoever adopts it.
        let stat = std::fs::read_to_string(format!("/proc/{slot}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("slot {slot} outlived its server");
}

#[test]
fn onnx_runtime_notes_nothing_about_its_user() {
    let Some(library) = std::env::var_os("BMS_ONNXRUNTIME") else {
        assert!(std::env::var_os("CI").is_none(), "BMS_ONNXRUNTIME must be set in CI");
        eprintln!("SKIPPED: ONNX Runtime was not watched, because BMS_ONNXRUNTIME is not set");
        return;
    };
    let shared = shared();
    let person = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = bms(&shared.home());
        command.args(arguments).env("BMS_ONNXRUNTIME", &library).env("HOME", person.path());
        ok(command.env_remove("XDG_CACHE_HOME").env_remove("ORT_DISABLE_TELEMETRY"))
    };
    let doctor = run(&["doctor"]);
    assert!(doctor["runtimes"].as_array().unwrap().iter().all(|r| r["available"] == true), "{doctor}");
    let (bundle, data) = (shared.at("fp32"), shared.at("held-out"));
    let (bundle, data) = (bundle.to_str().unwrap(), data.to_str().unwrap());
    run(&["evaluate", bundle, data, "--runtime", "onnxruntime"]);
    assert_eq!(
        std::fs::read_dir(person.path()).unwrap().count(),
        0,
        "it made a folder in {:?}",
        person.path()
    );
}
