use bms_nn::onnx::proto::AttributeProto;

use super::*;

fn graph(node: NodeProto, constants: Vec<TensorProto>) -> GraphProto {
    GraphProto { node: vec![node], initializer: constants, ..GraphProto::default() }
}

fn only(graph: &GraphProto) -> Layer {
    let mut layers = find(graph);
    assert_eq!(layers.len(), 1);
    layers.remove(0)
}

#[test]
fn a_gemm_is_brought_to_one_form() {
    let node = NodeProto::new("Gemm", "g", &["x", "w", "c"], &["y"])
        .with(AttributeProto::float("alpha", 2.0))
        .with(AttributeProto::float("beta", 3.0))
        .with(AttributeProto::int("transB", 1));
    // Two outputs of three inputs, stored [2, 3].
    let weights = TensorProto::f32("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let layer = only(&graph(node, vec![weights, TensorProto::f32("c", &[1, 2], &[10.0, 20.0])]));
    assert_eq!(layer.dims, [3, 2]);
    assert_eq!(layer.weights, [2.0, 8.0, 4.0, 10.0, 6.0, 12.0]);
    assert_eq!(layer.bias, [30.0, 60.0]);
    assert_eq!([0, 1, 2, 3].map(|idx| layer.channel_of(idx)), [0, 1, 0, 1]);
}

#[test]
fn a_convolution_has_its_channels_first() {
    let node = NodeProto::new("Conv", "", &["x", "w"], &["y"]);
    let layer = only(&graph(node, vec![TensorProto::f32("w", &[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0])]));
    assert_eq!((layer.name.as_str(), layer.bias.as_slice()), ("y", &[0.0, 0.0][..]));
    assert_eq!([0, 1, 2, 3].map(|idx| layer.channel_of(idx)), [0, 0, 1, 1]);
}

#[test]
fn what_cannot_be_done_in_eight_bits_is_left() {
    let weights = || TensorProto::f32("w", &[2, 2], &[1.0; 4]);
    let gemm = |inputs: &[&str]| NodeProto::new("Gemm", "g", inputs, &["y"]);
    let left = [
        // Weights computed at run time, a bias computed at run time, a bias per row.
        graph(gemm(&["x", "v"]), vec![weights()]),
        graph(gemm(&["x", "w", "c"]), vec![weights()]),
        graph(gemm(&["x", "w", "c"]), vec![weights(), TensorProto::f32("c", &[2, 1], &[1.0; 2])]),
        graph(gemm(&["x", "w"]).with(AttributeProto::int("transA", 1)), vec![weights()]),
        // Both operands constant, weights of another type or not finite, a product of batches, another operator.
        graph(gemm(&["w", "w"]), vec![weights()]),
        graph(gemm(&["x", "w"]), vec![TensorProto::i64("w", &[1, 1], &[1])]),
        graph(gemm(&["x", "w"]), vec![TensorProto::f32("w", &[1, 1], &[f32::NAN])]),
        graph(
            NodeProto::new("MatMul", "m", &["x", "w"], &["y"]),
            vec![TensorProto::f32("w", &[1, 1, 1], &[1.0])],
        ),
        graph(
            NodeProto::new("Conv", "c", &["x", "w"], &["y"]),
            vec![TensorProto::f32("w", &[1, 1, 1], &[1.0])],
        ),
        graph(NodeProto::new("Add", "a", &["x", "w"], &["y"]), vec![weights()]),
    ];
    for graph in left {
        assert!(find(&graph).is_empty(), "{:?}", graph.node[0]);
    }
}
