//! Writes a tiny ONNX graph, 64 → 32 → 10 with a ReLU between: `write_mlp FILE`.
//!
//! It takes microseconds to compute, so that what a server takes beyond that is its own.

use bms_nn::onnx::proto::{
    DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};
use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("name the file to write")?;
    let graph = GraphProto {
        name: Some("mlp".into()),
        node: vec![
            NodeProto::new("MatMul", "first", &["x", "w1"], &["a"]),
            NodeProto::new("Relu", "between", &["a"], &["b"]),
            NodeProto::new("MatMul", "second", &["b", "w2"], &["y"]),
        ],
        initializer: vec![weights("w1", 64, 32), weights("w2", 32, 10)],
        input: vec![ValueInfoProto::tensor("x", DataType::Float, &[Err("n"), Ok(64)])],
        output: vec![ValueInfoProto::tensor("y", DataType::Float, &[Err("n"), Ok(10)])],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        ..ModelProto::default()
    };
    Ok(std::fs::write(path, model.encode_to_vec())?)
}

/// Numbers between −1 and 1 without a pattern that matters.
fn weights(name: &str, rows: i64, columns: i64) -> TensorProto {
    let value = |i: i64| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    let values: Vec<f32> = (0..rows * columns).map(value).collect();
    TensorProto::f32(name, &[rows, columns], &values)
}
