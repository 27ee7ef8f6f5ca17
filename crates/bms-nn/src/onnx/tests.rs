use super::proto::{
    AttributeProto, DataType, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use super::*;
use crate::Data;

/// A model of these nodes, as bytes.
pub(super) fn encode(graph: GraphProto) -> Arc<[u8]> {
    ModelProto::new(graph, 17).encode_to_vec().into()
}

/// `y = relu(x · w + b)` with `x: f32[n, 3]`, `y: f32[n, 2]`.
pub(super) fn linear() -> GraphProto {
    GraphProto {
        name: Some("linear".into()),
        node: vec![
            NodeProto::new("Gemm", "gemm", &["x", "w", "b"], &["h"])
                .with(AttributeProto::float("alpha", 1.0)),
            NodeProto::new("Relu", "relu", &["h"], &["y"]),
        ],
        initializer: vec![
            TensorProto::f32("w", &[3, 2], &[1.0, -1.0, 2.0, -2.0, 3.0, -3.0]),
            TensorProto::f32("b", &[2], &[0.5, 0.5]),
        ],
        input: vec![ValueInfoProto::tensor("x", DataType::Float, &[Err("n"), Ok(3)])],
        output: vec![ValueInfoProto::tensor("y", DataType::Float, &[Err("n"), Ok(2)])],
        ..GraphProto::default()
    }
}

pub(super) fn on_rten() -> LoadOptions {
    LoadOptions { runtime: RuntimeChoice::Fixed(RuntimeKind::Rten), threads: 1 }
}

fn x(values: &[f32]) -> Vec<(String, Tensor)> {
    vec![("x".into(), Tensor::f32(vec![values.len() / 3, 3], values.to_vec()).unwrap())]
}

#[test]
fn a_graph_runs() {
    let mut session = load(encode(linear()), &on_rten()).unwrap();
    assert_eq!(session.inputs()[0].to_string(), "`x` f32[?, 3]");
    let outputs = session.run(x(&[1.0, 1.0, 1.0, -1.0, 0.0, 0.0])).unwrap();
    assert_eq!(outputs[0].0, "y");
    assert_eq!(outputs[0].1, Tensor::f32(vec![2, 2], vec![6.5, 0.0, 0.0, 1.5]).unwrap());
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let mut session = load(encode(linear()), &on_rten()).unwrap();
    let mut refuse = |inputs: Vec<(String, Tensor)>, want: &str| {
        let error = session.run(inputs).unwrap_err();
        assert_eq!(error.code(), Code::InvalidInput);
        assert!(error.message().contains(want), "{error}");
    };
    refuse(vec![], "input `x` f32[?, 3] is missing");
    refuse(vec![("z".into(), Tensor::f32(vec![], vec![0.0]).unwrap())], "there is no input `z`");
    refuse([x(&[0.0; 3]), x(&[0.0; 3])].concat(), "given twice");
    refuse(vec![("x".into(), Tensor::f32(vec![1, 4], vec![0.0; 4]).unwrap())], "was given as f32[1, 4]");
    refuse(vec![("x".into(), Tensor::f32(vec![3], vec![0.0; 3]).unwrap())], "was given as f32[3]");
    refuse(vec![("x".into(), Tensor::new(vec![1, 3], Data::I64(vec![0; 3])).unwrap())], "was given as i64");
}

#[test]
fn damaged_files_are_invalid_bundles() {
    let bytes = encode(linear());
    for length in 0..bytes.len() {
        // A cut between two fields can leave a sound model only if all the rest was optional; none is.
        let error = load(bytes[..length].into(), &on_rten()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidBundle, "cut at {length}: {error}");
    }
    for garbage in [&b"PK\x03\x04 not a model"[..], b"\x80\x04\x95", &[0xff; 64], &[0; 64]] {
        assert_eq!(load(garbage.into(), &on_rten()).unwrap_err().code(), Code::InvalidBundle);
    }
}

#[test]
fn names_of_runtimes_round_trip() {
    for kind in RuntimeKind::ALL {
        assert_eq!(RuntimeKind::parse(kind.as_str()), Some(kind));
        assert_eq!(RuntimeChoice::parse(kind.as_str()), Some(RuntimeChoice::Fixed(kind)));
    }
    assert_eq!(RuntimeChoice::parse("auto"), Some(RuntimeChoice::Auto));
    assert_eq!(RuntimeChoice::parse("tract"), None);
}

#[test]
fn a_panic_inside_a_runtime_is_an_error() {
    let error =
        fenced::<()>(Code::Internal, "the run-time", || panic!("index {} out of bounds", 3)).unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Internal, "the run-time gave up: index 3 out of bounds")
    );
}
