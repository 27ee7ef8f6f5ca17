use super::super::proto::{AttributeProto, ValueInfoProto};
use super::*;

const I64: i64 = DataType::Int64 as i64;
const BOOL: i64 = DataType::Bool as i64;

/// Inputs `i: i64`, `f: f32`, `b: bool`, `n: i32`; output `y`.
fn graph(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    let input =
        [("i", DataType::Int64), ("f", DataType::Float), ("b", DataType::Bool), ("n", DataType::Int32)];
    GraphProto {
        node: nodes,
        initializer,
        input: input.map(|(name, data_type)| ValueInfoProto::tensor(name, data_type, &[Ok(2)])).into(),
        output: vec![ValueInfoProto::tensor("y", DataType::Int64, &[Ok(2)])],
        ..GraphProto::default()
    }
}

fn cast(from: &str, to: i64, into: &str) -> NodeProto {
    NodeProto::new("Cast", "cast", &[from], &[into]).with(AttributeProto::int("to", to))
}

fn node(op: &str, inputs: &[&str]) -> NodeProto {
    NodeProto::new(op, "node", inputs, &["y"])
}

#[test]
fn arithmetic_on_values_from_outside_is_refused() {
    for op in ["Add", "Sub", "Mul", "ReduceSum", "CumSum"] {
        let error = check(&graph(vec![node(op, &["i", "i"])], vec![])).unwrap_err();
        assert_eq!(error.code(), Code::UnsupportedModel);
        assert!(error.message().contains(&format!("node `node` ({op})")), "{error}");
    }
    assert!(
        check(&graph(vec![node("Add", &["n", "n"])], vec![])).is_ok(),
        "32 bits wrap as the specification says"
    );
    assert!(check(&graph(vec![node("Mul", &["f", "f"])], vec![])).is_ok());
    // Through a move, too.
    let nodes = vec![NodeProto::new("Reshape", "r", &["i", "s"], &["h"]), node("Mul", &["h", "h"])];
    assert!(check(&graph(nodes, vec![TensorProto::i64("s", &[1], &[2])])).is_err());
}

#[test]
fn arithmetic_on_shapes_and_masks_passes() {
    let nodes = vec![NodeProto::new("Shape", "s", &["f"], &["h"]), node("Mul", &["h", "two"])];
    assert!(check(&graph(nodes, vec![TensorProto::i64("two", &[1], &[2])])).is_ok());
    let nodes = vec![cast("b", I64, "h"), node("CumSum", &["h", "axis"])];
    assert!(check(&graph(nodes, vec![TensorProto::i64("axis", &[], &[0])])).is_ok());
    // Embeddings and masks only move, compare and cast the values they are given.
    let nodes = vec![cast("i", DataType::Float as i64, "h"), node("Mul", &["h", "h"])];
    assert!(check(&graph(nodes, vec![])).is_ok());
    let nodes = vec![NodeProto::new("Gather", "g", &["f", "i"], &["h"]), node("Add", &["h", "h"])];
    assert!(check(&graph(nodes, vec![])).is_ok(), "indices are no operands");
}

#[test]
fn constants_beyond_32_bits_are_refused_unless_clamped() {
    let far = || TensorProto::i64("far", &[1], &[i64::MAX]);
    let starts = || TensorProto::i64("zero", &[1], &[0]);
    let slice = || NodeProto::new("Slice", "s", &["f", "zero", "far"], &["y"]);
    assert!(check(&graph(vec![slice()], vec![far(), starts()])).is_ok(), "to the end");
    let both = vec![slice(), NodeProto::new("Equal", "e", &["i", "far"], &["z"])];
    let error = check(&graph(both, vec![far(), starts()])).unwrap_err();
    assert!(error.message().contains("constant `far` holds 9223372036854775807"), "{error}");
    let inline =
        NodeProto::new("Constant", "c", &[], &["k"]).with(AttributeProto::int("value_int", i64::MIN));
    assert!(check(&graph(vec![inline, node("Equal", &["i", "k"])], vec![])).is_err());
}

#[test]
fn casts_that_rten_does_not_do_are_refused() {
    assert!(check(&graph(vec![cast("f", BOOL, "y")], vec![])).is_err(), "0.5 would become false, 2 stay 2");
    assert!(check(&graph(vec![cast("i", BOOL, "y")], vec![])).is_err());
    let nodes =
        vec![NodeProto::new("Equal", "e", &["i", "i"], &["h"]), cast("h", I64, "k"), cast("k", BOOL, "y")];
    assert!(check(&graph(nodes, vec![])).is_ok(), "0 and 1 stay what they are");
    assert!(check(&graph(vec![cast("f", I64, "y")], vec![])).is_err(), "3e9 would be cut");
    let nodes = vec![cast("f", I64, "h"), node("Expand", &["f", "h"])];
    assert!(check(&graph(nodes, vec![])).is_ok(), "a length fits in memory");
}

#[test]
fn loops_are_walked_with_what_they_carry() {
    let body = |op: &str| GraphProto {
        node: vec![NodeProto::new(op, "inner", &["carried", "iteration"], &["next"])],
        input: ["iteration", "condition", "carried"]
            .map(|name| ValueInfoProto::tensor(name, DataType::Int64, &[]))
            .into(),
        output: ["condition", "next"].map(|name| ValueInfoProto::tensor(name, DataType::Int64, &[])).into(),
        ..GraphProto::default()
    };
    let looped = |carried: &str, op: &str| {
        let node = NodeProto::new("Loop", "loop", &["trips", "", carried], &["y"]);
        let constants = vec![TensorProto::i64("trips", &[], &[3]), TensorProto::i64("zero", &[], &[0])];
        graph(vec![node.with(AttributeProto::graph("body", body(op)))], constants)
    };
    assert!(check(&looped("zero", "Add")).is_ok(), "a counter");
    assert!(check(&looped("i", "Add")).is_err(), "a sum of values from outside");
    assert!(check(&looped("i", "Min")).is_ok());
}
