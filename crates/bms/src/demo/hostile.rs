//! Two bundles nobody should load, and the server's answer to them.
//!
//! One was changed after it was signed; the other is signed by a trusted key but carries a pickle
//! that would run a command when unpickled. The command is harmless, and nothing ever unpickles it.

use std::path::Path;

use bms_bundle::{Bundle, Draft, MANIFEST, SIGNATURE, SigningKey};
use bms_nn::onnx;
use bms_wire::client::Client;
use bms_wire::{Code, Error, Result};
use serde_json::{Value, json};

use crate::cmd::push::push;
use crate::output::Output;

/// A protocol-0 pickle: `os.system("echo this must never run")`.
const PICKLE: &[u8] = b"cos\nsystem\n(S'echo this must never run'\ntR.";

/// Tries to register both; each must be refused, with the code that says why.
pub(crate) fn try_both(
    client: &Client,
    good: &Path,
    dir: &Path,
    key: &SigningKey,
    output: &Output,
) -> Result<Vec<Value>> {
    let tampered = dir.join("tampered");
    write_tampered(good, &tampered)?;
    let malicious = dir.join("malicious");
    write_malicious(good, &malicious, key)?;
    let mut refused = Vec::new();
    for (name, path, expected) in
        [("tampered", tampered, Code::Tampered), ("malicious", malicious, Code::MaliciousContent)]
    {
        let error = match push(client, &path, None, &[], output) {
            Ok(version) => {
                return Err(Error::new(
                    Code::Internal,
                    format!("the {name} bundle was accepted as {}", version.digest),
                ));
            }
            Err(error) => error,
        };
        if error.code() != expected {
            return Err(error.while_doing(format!("see the {name} bundle refused as {expected}")));
        }
        refused.push(json!({"bundle": name, "code": error.code(), "message": error.message()}));
    }
    Ok(refused)
}

/// The good bundle with one bit of one weight flipped.
fn write_tampered(good: &Path, dir: &Path) -> Result<()> {
    let bundle = Bundle::open(good)?;
    let model = bundle.manifest_unverified()?.model;
    std::fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
    for (path, bytes) in bundle.files() {
        let mut bytes = bytes.to_vec();
        if path == model {
            let at = weight_position(&bytes)?;
            bytes[at] ^= 1;
        }
        let target = dir.join(path);
        std::fs::write(&target, bytes).map_err(|e| Error::io("write", &target, e))?;
    }
    Ok(())
}

/// A byte in the middle of the graph's largest weight.
fn weight_position(graph: &[u8]) -> Result<usize> {
    let model = onnx::read(&graph.into())?;
    let weights = model.graph.iter().flat_map(|graph| &graph.initializer).filter_map(|t| t.raw_data.as_ref());
    let largest = weights.max_by_key(|data| data.len()).filter(|data| !data.is_empty());
    let found = largest
        .and_then(|data| Some(graph.windows(data.len()).position(|w| w == &data[..])? + data.len() / 2));
    found.ok_or_else(|| Error::new(Code::Internal, "the demo's graph holds no weights"))
}

/// The good bundle with a pickle beside the graph, properly signed.
fn write_malicious(good: &Path, dir: &Path, key: &SigningKey) -> Result<()> {
    let bundle = Bundle::open(good)?;
    let mut manifest = bundle.manifest_unverified()?;
    manifest.files.clear();
    let mut draft = Draft::new(manifest);
    for (path, bytes) in bundle.files().filter(|(path, _)| ![MANIFEST, SIGNATURE].contains(path)) {
        draft.add(path, bytes)?;
    }
    draft.add("optimizer.pkl", PICKLE)?;
    draft.write_signed(dir, key)?;
    Ok(())
}
