//! Language models on the command line, up to where they would run.

use std::path::{Path, PathBuf};

use bms_wire::Code;
use serde_json::json;

use crate::program::{bms, fails, ok};

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A GGUF file that says what it is and holds one tensor of twelve megabytes.
fn gguf(dir: &Path, name: &str) -> PathBuf {
    let values = 3u64 << 20;
    let pair = [string("general.architecture"), 8u32.to_le_bytes().to_vec(), string("llama")].concat();
    let axes = [1u32.to_le_bytes().to_vec(), values.to_le_bytes().to_vec()].concat();
    let tensor = [string("a"), axes, 0u32.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat();
    let counts = [1u64.to_le_bytes(), 1u64.to_le_bytes()].concat();
    let mut bytes = [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), counts, pair, tensor].concat();
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.resize(bytes.len() + 4 * values as usize, 7);
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_gguf_file_is_packaged_signed_and_found_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (home, out) = (dir.path().join("home"), dir.path().join("bundle"));
    let model = gguf(dir.path(), "some.gguf");
    let made = ok(bms(&home).arg("package").arg(&model).args(["--name", "chat", "--out"]).arg(&out));
    assert_eq!(made["manifest"]["task"], "text-generation");
    assert_eq!(made["manifest"]["precision"], "f32");
    let verified = ok(bms(&home).arg("verify").arg(&out));
    assert_eq!((&verified["verified"], &verified["signer"]), (&json!(true), &json!("local")));

    let (exit, refusal) = fails(
        bms(&home).arg("package").arg(&model).args(["--name", "x", "--labels", "l.txt", "--out"]).arg("y"),
    );
    assert_eq!((exit, &refusal["code"]), (i32::from(Code::InvalidRequest.exit()), &json!("invalid_request")));

    let file = out.join("model.gguf");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (exit, _) = fails(bms(&home).arg("verify").arg(&out));
    assert_eq!(exit, i32::from(Code::Tampered.exit()));
}

#[test]
fn a_bare_model_is_served_only_when_the_policy_admits_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let model = gguf(dir.path(), "some.gguf");
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, "schema = 1\nmode = \"enforce\"\nbare_models = false\n").unwrap();
    let serve = |policy: &Path| {
        let mut command = bms(&home);
        command.arg("serve").arg(&model).args(["--listen", "127.0.0.1:0", "--policy"]).arg(policy);
        command
    };
    let (exit, _) = fails(&mut serve(&policy));
    assert_eq!(exit, i32::from(Code::SignatureMissing.exit()));
    // Admitted, it is looked at, and is no model that could run.
    std::fs::write(&policy, "schema = 1\nmode = \"enforce\"\n").unwrap();
    let output = serve(&policy).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not signed"));
    let admitted = [Code::InvalidBundle, Code::UnsupportedModel].map(|code| Some(i32::from(code.exit())));
    assert!(admitted.contains(&output.status.code()), "{output:?}");
}
