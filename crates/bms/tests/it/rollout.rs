//! Rollouts from the command line.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{Server, bms, fails, ok, shared};

#[test]
fn a_version_takes_over_and_goes_back() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&shared.home(), &["up", "--data", dir.path().to_str().unwrap()]);
    let url = server.client.base().to_owned();
    let run = |arguments: &[&str]| -> Value {
        ok(bms(&shared.home()).args(arguments).env("BMS_SERVER", &url).env("BMS_PERSON", "ada"))
    };
    for bundle in ["fp32", "int8"] {
        ok(bms(&shared.home()).arg("push").arg(shared.at(bundle)).args(["--server", &url]));
    }
    run(&["promote", "digits", "1"]);
    run(&["deploy", "digits"]);
    server.wait_for("digits");
    let none = fails(bms(&shared.home()).args(["rollout", "pause", "digits", "--server", &url]));
    assert_eq!(none.1["code"], json!("not_found"));
    let wrong = ["deploy", "digits", "--candidate", "2", "--steps", "50,20", "--server", &url];
    assert_eq!(fails(bms(&shared.home()).args(wrong)).1["code"], json!("invalid_request"));

    let begun = run(&["deploy", "digits", "--candidate", "2", "--strategy", "blue-green"]);
    assert_eq!((&begun["stable"], &begun["candidate"]), (&json!(1), &json!(2)));
    let began = Instant::now();
    while run(&["rollout", "status", "digits"])["state"] != "promoted" {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", run(&["rollout", "status", "digits"]));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(run(&["rollback", "digits"]), json!({ "model": "digits", "version": 1, "from": 2 }));

    let split = ["deploy", "digits", "--candidate", "2", "--steps", "10", "--manual", "--sticky", "none"];
    assert_eq!(run(&split)["plan"]["steps"], json!([10.0]));
    let shown = bms(&shared.home()).args(["rollout", "status", "--server", &url]).output().unwrap();
    assert!(shown.status.success());
    assert_eq!(run(&["rollout", "abort", "digits"])["state"], json!("aborted"));
    assert_eq!(run(&["audit", "verify"])["verified"], json!(true));
}
