//! MLServer as an engine: another project's server, which installs from a package index, behind our gate and gateway.

use std::path::Path;
use std::time::{Duration, Instant};

use bms_nn::onnx::proto::DataType;
use serde_json::{Value, json};

use crate::program::{Server, bms, ok};
use crate::triton::{Spec, identity};

/// Where the runtime lies that a user of MLServer would write.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");

fn mlserver() -> Option<String> {
    if let Some(program) = std::env::var_os("BMS_MLSERVER") {
        return Some(program.into_string().unwrap());
    }
    assert!(std::env::var_os("CI").is_none(), "BMS_MLSERVER must be set in CI");
    eprintln!("SKIPPED: no server of another project ran as an engine, because BMS_MLSERVER is not set");
    None
}

/// An engine as the guide has it.
fn engines(program: &str) -> String {
    format!(
        r#"schema = 1
[engines.mlserver]
protocol = "oip"
command = [{program:?}, "start", "{{folder}}"]
[engines.mlserver.environment]
MLSERVER_HOST = "127.0.0.1"
MLSERVER_HTTP_PORT = "{{port}}"
MLSERVER_GRPC_PORT = "0"
MLSERVER_METRICS_ENDPOINT = ""
MLSERVER_PARALLEL_WORKERS = "0"
MLSERVER_MODEL_NAME = "{{name}}"
MLSERVER_MODEL_URI = "{{weights}}"
MLSERVER_MODEL_IMPLEMENTATION = "mlserver_onnx.OnnxModel"
PYTHONPATH = {PYTHON:?}
"#
    )
}

/// Posts a body; its status and bytes.
fn post(url: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let request = ureq::post(url).config().http_status_as_error(false).build();
    let mut answer = request.send(body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_vec().unwrap())
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

fn deployed(home: &Path, program: &str) -> Server {
    let (policy, file) = (home.join("policy.toml"), home.join("engines.toml"));
    // Engines of others are not confined, so the policy has to let graphs go there.
    std::fs::write(&policy, "schema = 1\nmode = \"development\"\nconfine = []\n").unwrap();
    std::fs::write(&file, engines(program)).unwrap();
    let data = home.join("data");
    let paths = [data.to_str().unwrap(), policy.to_str().unwrap(), file.to_str().unwrap()];
    let server = Server::spawn(bms(home).args([
        "up",
        "--data",
        paths[0],
        "--policy",
        paths[1],
        "--engines",
        paths[2],
    ]));
    let pair: [(Spec<'_>, &str); 2] =
        [(("x", DataType::Float, "f32", &[-1, 2]), "y"), (("k", DataType::Int64, "i64", &[-1, 2]), "l")];
    let folder = home.join("pair");
    identity(&folder, "pair", &pair);
    let url = server.client.base();
    ok(bms(home).arg("push").arg(&folder).args(["--server", url, "--alias", "production"]));
    let deployment = ok(bms(home).args(["deploy", "pair", "--engine", "mlserver", "--server", url]));
    assert_eq!(deployment["engine"], "mlserver");
    server.wait_for("pair");
    server
}

#[test]
fn mlserver_runs_a_version_behind_the_gateway() {
    let Some(program) = mlserver() else { return };
    let home = tempfile::tempdir().unwrap();
    let server = deployed(home.path(), &program);
    let url = format!("{}/v2/models/pair/infer", server.client.base());
    let inputs = json!([
        { "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0] },
        { "name": "k", "datatype": "INT64", "shape": [1, 2], "data": [7, 8] },
    ]);
    let plain = json!({ "id": "a", "inputs": inputs }).to_string();
    let check = |answer: &Value| {
        assert_eq!(
            (&answer["model_name"], &answer["model_version"]),
            (&json!("pair"), &json!("1")),
            "{answer}"
        );
        assert_eq!(answer["outputs"][0]["name"], "y", "{answer}");
    };
    let ask = || {
        let (status, body) = post(&url, plain.as_bytes());
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, 200, "{answer}");
        check(&answer);
        assert_eq!(answer["outputs"][0]["data"], json!([1.5, -2.0]));
        assert_eq!(answer["outputs"][1]["data"], json!([7, 8]));
    };
    ask();
    let slot = &server.client.slots().unwrap()[0];
    assert_eq!(slot.runtime.as_deref(), Some("engine mlserver"));
    let pid = slot.pid.unwrap();
    assert!(10 << 20 < slot.resident_bytes.unwrap(), "{slot:?}");
    // It dies, and the next request is answered by the next one.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    ask();
    let slot = &server.client.slots().unwrap()[0];
    assert_eq!(slot.restarts, 1, "{slot:?}");
    let pid = slot.pid.unwrap();
    server.kill();
    let began = Instant::now();
    while is_running(pid) {
        assert!(began.elapsed() < Duration::from_secs(20), "MLServer outlives a server that was killed");
        std::thread::sleep(Duration::from_millis(20));
    }
}
