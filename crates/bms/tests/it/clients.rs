//! The official clients of OpenAI and Anthropic, against a served model.

use std::process::Command;

use crate::program::{Server, bms};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/clients.py");

#[test]
fn the_official_clients_are_served() {
    let found = |name: &str| std::env::var_os(name);
    let (Some(model), Some(python)) = (found("BMS_SMOLLM2"), found("BMS_LANGUAGE_CLIENTS")) else {
        assert!(found("CI").is_none(), "BMS_SMOLLM2 and BMS_LANGUAGE_CLIENTS must be set in CI");
        eprintln!(
            "SKIPPED: no official client was served, because BMS_SMOLLM2 or BMS_LANGUAGE_CLIENTS is not set"
        );
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let model = model.to_str().unwrap();
    let policy = home.path().join("policy.toml");
    std::fs::write(&policy, "schema = 1\nmode = \"development\"\n").unwrap();
    let policy = policy.to_str().unwrap();
    let arguments = [
        "serve",
        model,
        "--name",
        "smollm2",
        "--policy",
        policy,
        "--context",
        "2048",
        "--sequences",
        "4",
        "--queue",
        "8",
    ];
    let server = Server::start(home.path(), &arguments);
    let status = Command::new(python).arg(SCRIPT).arg(server.client.base()).arg("smollm2").status().unwrap();
    assert!(status.success(), "{status}");
    drop(server);
    let once = bms(home.path())
        .args([
            "chat",
            model,
            "--policy",
            policy,
            "--once",
            "Say hello.",
            "--max-tokens",
            "8",
            "--context",
            "512",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&once.stdout);
    assert!(once.status.success(), "{text}");
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["role"], serde_json::json!("assistant"), "{last}");
}
