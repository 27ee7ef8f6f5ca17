//! Running `bms`, and the one model the tests share.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use bms_data::{ImageSet, digits};
use bms_wire::client::Client;
use bms_wire::oip::{Datatype, InferRequest, InferTensor, Parameters};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the tests share: a home folder, digits, and a small trained model as fp32 and int8.
pub(crate) struct Shared {
    dir: TempDir,
}

impl Shared {
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Digits the model was not trained on.
    pub(crate) fn held_out() -> ImageSet {
        digits().unwrap().slice(700..800).unwrap()
    }
}

/// Trained once for all tests of this process, and removed when it ends by the system's cleaning of its folder.
pub(crate) fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let shared = Shared { dir: tempfile::tempdir().unwrap() };
        digits().unwrap().take(600).save(&shared.at("train")).unwrap();
        Shared::held_out().save(&shared.at("held-out")).unwrap();
        let [train, held_out, fp32, int8] = ["train", "held-out", "fp32", "int8"].map(|n| shared.at(n));
        let (train, held_out) = (train.to_str().unwrap(), held_out.to_str().unwrap());
        let (fp32, int8) = (fp32.to_str().unwrap(), int8.to_str().unwrap());
        let home = shared.home();
        ok(bms(&home)
            .args(["train", train, "--name", "digits", "--size", "tiny", "--epochs", "15", "--out", fp32]));
        ok(bms(&home).args(["compress", fp32, "--calibration", train, "--evaluation", held_out]).args([
            "--max-drop",
            "0.03",
            "--out",
            int8,
        ]));
        shared
    })
}

/// `bms --json` with this home folder and a clean environment.
pub(crate) fn bms(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bms"));
    command
        .arg("--json")
        .arg("--home")
        .arg(home)
        .env_remove("BMS_HOME")
        .env_remove("BMS_SERVER")
        .env_remove("BMS_STORE")
        .env_remove("BMS_DATABASE")
        .env_remove("BMS_PERSON")
        .stdin(Stdio::null());
    command
}

/// Runs a command that must succeed; its last line.
#[track_caller]
pub(crate) fn ok(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    succeeded(command, output)
}

/// As [`ok`]; `None` when it ended with this code instead.
#[track_caller]
pub(crate) fn ok_unless(code: i32, command: &mut Command) -> Option<Value> {
    let output = command.output().unwrap();
    (output.status.code() != Some(code)).then(|| succeeded(command, output))
}

#[track_caller]
fn succeeded(command: &Command, output: Output) -> Value {
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    last_line(&output)
}

/// Runs a command that must fail; its exit code and last line.
#[track_caller]
pub(crate) fn fails(command: &mut Command) -> (i32, Value) {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} succeeded: {}", text(&output));
    (output.status.code().unwrap(), last_line(&output))
}

fn last_line(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(stdout.lines().last().unwrap_or("null")).unwrap_or(Value::Null)
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A server process, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) client: Client,
}

impl Server {
    /// Starts `bms ARGS --listen 127.0.0.1:0` and waits until it says where it listens.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Server {
        Server::start_with(home, args, None)
    }

    /// As [`Server::start`], with a variable in its environment.
    pub(crate) fn start_with(home: &Path, args: &[&str], variable: Option<(&str, &Path)>) -> Server {
        Server::spawn(bms(home).envs(variable).args(args))
    }

    /// Starts a command of `bms` that serves, and waits until it says where it listens.
    pub(crate) fn spawn(command: &mut Command) -> Server {
        Server::spawn_at(command, "127.0.0.1:0")
    }

    /// As [`Server::spawn`], at an address.
    pub(crate) fn spawn_at(command: &mut Command, address: &str) -> Server {
        let mut child = command
            .args(["--listen", address, "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let event: Value = serde_json::from_str(&line).ok()?;
            event["url"].as_str().map(str::to_owned)
        });
        // Keep the pipe from filling up.
        std::thread::spawn(move || lines.for_each(drop));
        let client = Client::new(&ready.expect("the server says where it listens")).unwrap();
        Server { child, client }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a model answers.
    #[track_caller]
    pub(crate) fn wait_for(&self, model: &str) {
        for _ in 0..600 {
            if self.client.is_model_ready(model).unwrap_or(false) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("`{model}` did not become ready: {:?}", self.client.deployments());
    }

    /// Asks it to end, as a service manager does, and waits until it has; where it listened.
    #[track_caller]
    pub(crate) fn stop(mut self) -> String {
        // Its standard input stays open meanwhile, as that of a service does.
        let input = self.child.stdin.take();
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        drop(input);
        assert!(status.success(), "{status}");
        self.client.base().trim_start_matches("http://").to_owned()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request with an empty picture of a digit.
pub(crate) fn zeros() -> InferRequest {
    let tensor = InferTensor {
        name: "input".into(),
        shape: vec![1, 1, 8, 8],
        datatype: Datatype::Fp32,
        parameters: Parameters::new(),
        data: json!(vec![0.0; 64]),
    };
    InferRequest { id: None, parameters: Parameters::new(), inputs: vec![tensor], outputs: vec![] }
}
