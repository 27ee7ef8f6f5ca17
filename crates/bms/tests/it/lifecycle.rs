//! The life of a version after it was pushed, from the command line.

use serde_json::{Value, json};

use crate::program::{Server, bms, fails, ok, shared};

#[test]
fn versions_are_described_approved_found_deleted_and_traced() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&shared.home(), &["up", "--data", dir.path().to_str().unwrap()]);
    let url = server.client.base().to_owned();
    let run = |person: &str, arguments: &[&str]| -> Value {
        ok(bms(&shared.home()).args(arguments).env("BMS_SERVER", &url).env("BMS_PERSON", person))
    };
    for bundle in ["fp32", "int8"] {
        ok(bms(&shared.home()).arg("push").arg(shared.at(bundle)).args(["--server", &url]));
    }
    run("ada", &["model", "describe", "digits", "reads digits"]);
    run("ada", &["model", "tag", "digits@2", "eval=passed"]);
    let found = run("ada", &["model", "find", "name LIKE 'dig%' and tags.eval = 'passed'"]);
    assert_eq!((found.as_array().unwrap().len(), &found[0]["version"]), (1, &json!(2)));

    run("root", &["stage", "rule", "production", "2"]);
    let asked = run("ada", &["stage", "request", "digits@2", "production", "--comment", "better"]);
    assert_eq!((&asked["state"], &asked["approvals_needed"]), (&json!("pending"), &json!(2)));
    let own = fails(bms(&shared.home()).args(["stage", "approve", "1", "--by", "ada", "--server", &url]));
    assert_eq!(own.1["code"], json!("permission_denied"));
    run("王芳", &["stage", "approve", "1"]);
    assert_eq!(run("ada", &["stage", "list"]).as_array().unwrap().len(), 1);
    let done = run("bob", &["stage", "approve", "1"]);
    assert_eq!((&done["state"], &done["approved_by"]), (&json!("done"), &json!(["王芳", "bob"])));

    let lineage = run("ada", &["lineage", "digits@1"]);
    assert_eq!(lineage["descendants"][0]["version"], json!(2), "int8 was made from fp32: {lineage}");
    let tree = bms(&shared.home()).args(["lineage", "digits@2", "--server", &url]).output().unwrap();
    assert!(tree.status.success());

    run("ada", &["promote", "digits", "1", "--current", "0"]);
    let moved =
        fails(bms(&shared.home()).args(["promote", "digits", "2", "--current", "2", "--server", &url]));
    assert_eq!(moved.1["code"], json!("conflict"));
    let used = fails(bms(&shared.home()).args(["model", "delete", "digits@1", "--server", &url]));
    assert_eq!(used.1["code"], json!("conflict"));
    run("ada", &["promote", "digits", "2", "--current", "1"]);
    run("ada", &["model", "delete", "digits@1"]);
    assert_eq!(run("ada", &["model", "restore"])[0]["versions"][0]["version"], json!(1));
    run("ada", &["model", "restore", "digits@1"]);

    run("ada", &["retention", "set", "--keep-last", "1", "--older-than", "0d", "--purge-after", "0"]);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let plan = run("ada", &["retention", "apply", "--dry-run"]);
    assert_eq!(plan["deleted"], json!([{ "model": "digits", "version": 1 }]), "{plan}");
    assert_eq!(run("ada", &["retention", "apply"])["deleted"], plan["deleted"]);
    assert_eq!(run("ada", &["models"])[0]["versions"].as_array().unwrap().len(), 1);
    assert_eq!(run("ada", &["audit", "verify"])["verified"], json!(true));
    let wrong = bms(&shared.home()).args(["up", "--database", "mysql://u:hunter2@h/d"]).output().unwrap();
    assert!(!wrong.status.success());
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("hunter2"));
}
