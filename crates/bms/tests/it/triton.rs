//! The unmodified Triton client over HTTP and gRPC, against a server with a registry and one of a single model.

use std::path::{Path, PathBuf};
use std::process::Command;

use bms_bundle::{Lineage, Manifest};
use bms_nn::onnx::proto::{DataType, GraphProto, Message, ModelProto, NodeProto, ValueInfoProto};
use bms_wire::{Pipeline, Postprocess, Preprocess};

use crate::program::{Server, bms, ok};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/triton_client.py");

/// Every datatype of the protocol, as ONNX and as manifests have it.
const DATATYPES: [(&str, DataType, &str); 14] = [
    ("bool", DataType::Bool, "bool"),
    ("uint8", DataType::Uint8, "u8"),
    ("uint16", DataType::Uint16, "u16"),
    ("uint32", DataType::Uint32, "u32"),
    ("uint64", DataType::Uint64, "u64"),
    ("int8", DataType::Int8, "i8"),
    ("int16", DataType::Int16, "i16"),
    ("int32", DataType::Int32, "i32"),
    ("int64", DataType::Int64, "i64"),
    ("fp16", DataType::Float16, "f16"),
    ("bf16", DataType::Bfloat16, "bf16"),
    ("fp32", DataType::Float, "f32"),
    ("fp64", DataType::Double, "f64"),
    ("bytes", DataType::String, "string"),
];

/// One tensor: its name, ONNX's type and the manifest's, and its dimensions; −1 is free.
pub(crate) type Spec<'a> = (&'a str, DataType, &'a str, &'a [i64]);

/// A bundle whose graph gives back each input under another name.
pub(crate) fn identity(folder: &Path, name: &str, pairs: &[(Spec<'_>, &str)]) {
    let value = |name: &str, kind, dims: &[i64]| {
        let dims: Vec<_> = dims.iter().map(|&dim| if dim < 0 { Err("n") } else { Ok(dim) }).collect();
        ValueInfoProto::tensor(name, kind, &dims)
    };
    let info = |name: &str, dtype: &str, dims: &[i64]| bms_bundle::TensorInfo {
        name: name.to_owned(),
        dtype: dtype.to_owned(),
        shape: dims.iter().map(|&dim| usize::try_from(dim).ok()).collect(),
    };
    let graph = GraphProto {
        name: Some("identity".into()),
        node: pairs.iter().map(|((x, ..), y)| NodeProto::new("Identity", y, &[x], &[y])).collect(),
        input: pairs.iter().map(|((x, kind, _, dims), _)| value(x, *kind, dims)).collect(),
        output: pairs.iter().map(|((_, kind, _, dims), y)| value(y, *kind, dims)).collect(),
        ..GraphProto::default()
    };
    let model = ModelProto::new(graph, 17);
    let manifest = Manifest {
        schema: 1,
        name: name.to_owned(),
        task: "tensor".to_owned(),
        model: "model.onnx".to_owned(),
        inputs: pairs.iter().map(|((x, _, dtype, dims), _)| info(x, dtype, dims)).collect(),
        outputs: pairs.iter().map(|((_, _, dtype, dims), y)| info(y, dtype, dims)).collect(),
        pipeline: Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} },
        metrics: Vec::new(),
        lineage: Lineage::default(),
        precision: "fp32".to_owned(),
        licence: None,
        created_ms: 1,
        sealed: None,
        files: Vec::new(),
    };
    bms_bundle::write(folder, manifest, vec![("model.onnx".to_owned(), model.encode_to_vec())]).unwrap();
}

/// The Python with the client, when there is one, and ONNX Runtime: rten has no halves and no strings.
fn python() -> Option<std::ffi::OsString> {
    let found = |name: &str| std::env::var_os(name);
    if let (Some(python), Some(_)) = (found("BMS_TRITON_CLIENT"), found("BMS_ONNXRUNTIME")) {
        return Some(python);
    }
    assert!(found("CI").is_none(), "BMS_TRITON_CLIENT and BMS_ONNXRUNTIME must be set in CI");
    eprintln!(
        "SKIPPED: no Triton client was served, because BMS_TRITON_CLIENT or BMS_ONNXRUNTIME is not set"
    );
    None
}

/// A policy that takes unsigned bundles.
fn policy(home: &Path) -> PathBuf {
    let policy = home.join("policy.toml");
    std::fs::write(&policy, "schema = 1\nmode = \"development\"\n").unwrap();
    policy
}

fn drive(python: &std::ffi::OsStr, server: &Server, mode: &str) {
    let output = Command::new(python).arg(SCRIPT).arg(server.client.base()).arg(mode).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.trim_end().ends_with("ok"), "{printed}\n{failed}");
}

#[test]
fn the_triton_client_is_served_by_a_server_with_a_registry() {
    let Some(python) = python() else { return };
    let home = tempfile::tempdir().unwrap();
    let policy = policy(home.path());
    let data = home.path().join("data");
    let server = Server::spawn(bms(home.path()).args([
        "up",
        "--data",
        data.to_str().unwrap(),
        "--policy",
        policy.to_str().unwrap(),
    ]));
    let push = |name: &str, pairs: &[(Spec<'_>, &str)], alias: &[&str]| {
        let folder = home.path().join(name);
        identity(&folder, name, pairs);
        let url = server.client.base();
        ok(bms(home.path()).arg("push").arg(&folder).args(["--server", url]).args(alias));
    };
    let mut names = Vec::new();
    for (name, kind, dtype) in DATATYPES {
        let name = format!("identity-{name}");
        push(&name, &[(("x", kind, dtype, &[-1]), "y")], &["--alias", "production"]);
        names.push(name);
    }
    let pair: [(Spec<'_>, &str); 2] =
        [(("x", DataType::Float, "f32", &[-1, 2]), "y"), (("k", DataType::Int64, "i64", &[-1, 2]), "l")];
    push("pair", &pair, &["--alias", "production"]);
    names.push("pair".to_owned());
    push("spare", &[(("x", DataType::Float, "f32", &[-1]), "y")], &[]);
    for name in &names {
        server.client.deploy(name, "production").unwrap();
    }
    names.iter().for_each(|name| server.wait_for(name));
    drive(&python, &server, "up");
    let loaded = server.client.audit(0).unwrap();
    assert!(loaded.iter().any(|event| event.action == "deployment.removed"), "unloading is audited");
    server.client.verify_audit().unwrap();
}

#[test]
fn the_triton_client_is_served_by_a_server_of_one_model() {
    let Some(python) = python() else { return };
    let home = tempfile::tempdir().unwrap();
    let policy = policy(home.path());
    let bundle = home.path().join("bundle");
    identity(&bundle, "identity-fp32", &[(("x", DataType::Float, "f32", &[-1]), "y")]);
    let arguments = ["serve", bundle.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    let server = Server::start(home.path(), &arguments);
    drive(&python, &server, "one");
}
