use super::super::proto::{DataType, ValueInfoProto};
use super::super::tests::{encode, linear};
use super::super::{LoadOptions, RuntimeChoice, load};
use super::*;

/// A graph `y = op(x)` with `x: f32[n, 3]`.
fn unary(node: NodeProto, data_type: DataType) -> GraphProto {
    GraphProto {
        node: vec![node],
        input: vec![ValueInfoProto::tensor("x", data_type, &[Err("n"), Ok(3)])],
        output: vec![ValueInfoProto::tensor("y", data_type, &[Err("n"), Ok(3)])],
        ..GraphProto::default()
    }
}

fn on_rten(graph: GraphProto) -> Result<()> {
    load(encode(graph), &LoadOptions { runtime: RuntimeChoice::Fixed(RuntimeKind::Rten), threads: 1 })
        .map(|_| ())
}

fn assert_refused(want: &str, graph: GraphProto) {
    let error = on_rten(graph).expect_err(want);
    assert_eq!(error.code(), Code::UnsupportedModel, "{error}");
    assert!(error.message().contains(want), "`{error}` does not say `{want}`");
}

#[test]
fn a_refusal_names_node_and_reason() {
    let graph = unary(NodeProto::new("Sign", "the sign", &["x"], &["y"]), DataType::Float);
    assert_refused("node `the sign` (Sign): rten gives 1 for zero", graph);
    let graph = unary(NodeProto::new("NoSuchOp", "odd", &["x"], &["y"]), DataType::Float);
    assert_refused("NoSuchOp", graph);
}

#[test]
fn types_that_would_lose_precision_are_refused() {
    let identity = || NodeProto::new("Identity", "id", &["x"], &["y"]);
    assert_refused("rten has no f64", unary(identity(), DataType::Double));
    assert_refused("rten has no f16", unary(identity(), DataType::Float16));
    assert_refused("rten has no string", unary(identity(), DataType::String));
    assert!(on_rten(unary(identity(), DataType::Int64)).is_ok());

    let mut constant = linear();
    constant.initializer.push(TensorProto {
        data_type: Some(DataType::Double as i32),
        double_data: vec![0.1],
        dims: vec![1],
        name: Some("d".into()),
        ..TensorProto::default()
    });
    assert_refused("constant `d`: rten has no Double", constant);

    let cast =
        NodeProto::new("Cast", "c", &["x"], &["h"]).with(AttributeProto::int("to", DataType::Double as i64));
    let mut graph = unary(cast, DataType::Float);
    graph.node.push(
        NodeProto::new("Cast", "back", &["h"], &["y"])
            .with(AttributeProto::int("to", DataType::Float as i64)),
    );
    assert_refused("node `c` (Cast), `to`: rten has no Double", graph);
}

#[test]
fn a_rule_applies_only_where_its_cause_is() {
    let resize = |mode: &str| {
        let mut graph = unary(
            NodeProto::new("Resize", "r", &["x", "", "s"], &["y"])
                .with(AttributeProto::string("mode", mode))
                .with(AttributeProto::string("coordinate_transformation_mode", "asymmetric")),
            DataType::Float,
        );
        graph.initializer = vec![TensorProto::f32("s", &[2], &[1.0, 1.0])];
        graph
    };
    assert!(on_rten(resize("linear")).is_ok());
    assert_refused("cubic", resize("cubic"));

    // Nothing random happens in a Dropout that does not train.
    let dropout = |inputs: &[&str]| unary(NodeProto::new("Dropout", "d", inputs, &["y"]), DataType::Float);
    assert!(on_rten(dropout(&["x"])).is_ok());
    let mut training = dropout(&["x", "", "t"]);
    training.input.push(ValueInfoProto::tensor("t", DataType::Bool, &[]));
    assert_refused("draws random numbers", training);
}

#[test]
fn a_subgraph_is_checked_too() {
    let mut branch = unary(NodeProto::new("Sign", "inner", &["x"], &["z"]), DataType::Float);
    branch.output[0].name = Some("z".into());
    branch.input.clear();
    let node = NodeProto::new("If", "if", &["c"], &["y"])
        .with(AttributeProto::graph("then_branch", branch.clone()))
        .with(AttributeProto::graph("else_branch", branch));
    let mut graph = unary(node, DataType::Float);
    graph.input.push(ValueInfoProto::tensor("c", DataType::Bool, &[]));
    assert_refused("node `inner` (Sign)", graph);
}
