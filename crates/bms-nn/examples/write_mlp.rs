//! Writes an ONNX graph, 64 → WIDTH → … → 10 with ReLUs between: `write_mlp FILE [WIDTH LAYERS]`.
//!
//! Without more it has one layer of 32 and takes microseconds to compute, so that what a server takes beyond that is its
//! own. Wide and deep it takes so long that a server can be overloaded with few requests.

use bms_nn::onnx::proto::{DataType, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name the file to write")?;
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<i64>());
    let (width, layers) = (number(32)?, number(1)?);
    let mut node = Vec::new();
    let mut initializer = Vec::new();
    let mut from = ("x".to_owned(), 64);
    for layer in 0..=layers {
        let to = if layer == layers { 10 } else { width };
        let [weight, product, out] = ["w", "p", "a"].map(|name| format!("{name}{layer}"));
        initializer.push(weights(&weight, from.1, to));
        let product = if layer == layers { "y".to_owned() } else { product };
        node.push(NodeProto::new("MatMul", &weight, &[&from.0, &weight], &[&product]));
        if layer < layers {
            node.push(NodeProto::new("Relu", &out, &[&product], &[&out]));
        }
        from = (out, to);
    }
    let graph = GraphProto {
        name: Some("mlp".into()),
        node,
        initializer,
        input: vec![ValueInfoProto::tensor("x", DataType::Float, &[Err("n"), Ok(64)])],
        output: vec![ValueInfoProto::tensor("y", DataType::Float, &[Err("n"), Ok(10)])],
        ..GraphProto::default()
    };
    Ok(std::fs::write(path, ModelProto::new(graph, 17).encode_to_vec())?)
}

/// Numbers without a pattern that matters, small enough that no layer makes them large.
fn weights(name: &str, rows: i64, columns: i64) -> TensorProto {
    let value = |i: i64| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    let scale = (3.0 / rows as f32).sqrt().min(1.0);
    let values: Vec<f32> = (0..rows * columns).map(|i| scale * value(i)).collect();
    TensorProto::f32(name, &[rows, columns], &values)
}
