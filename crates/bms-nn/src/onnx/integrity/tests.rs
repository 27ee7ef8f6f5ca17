use super::super::proto::{AttributeProto, Bytes, Message, NodeProto, OperatorSetIdProto, TensorProto};
use super::super::tests::{encode, linear};
use super::super::{read, signature};
use super::*;

/// The error for the linear graph after a change.
fn refused(change: impl FnOnce(&mut GraphProto)) -> Error {
    let mut graph = linear();
    change(&mut graph);
    read(&encode(graph)).expect_err("the changed graph is unsound")
}

fn assert_invalid(want: &str, change: impl FnOnce(&mut GraphProto)) {
    let error = refused(change);
    assert_eq!(error.code(), Code::InvalidBundle, "{error}");
    assert!(error.message().contains(want), "`{error}` does not say `{want}`");
}

#[test]
fn a_sound_graph_passes() {
    let (inputs, outputs) = signature(&encode(linear())).unwrap();
    assert_eq!((inputs.len(), outputs.len()), (1, 1), "constants are no inputs");
}

#[test]
fn dangling_and_repeated_names_are_invalid() {
    assert_invalid("uses `nowhere`", |graph| graph.node[0].input[0] = "nowhere".into());
    assert_invalid("nothing computes the graph's output", |graph| graph.output[0].name = Some("z".into()));
    assert_invalid("a second time", |graph| graph.node[1].output[0] = "h".into());
    assert_invalid("names no operator", |graph| graph.node[1].op_type = None);
    assert_invalid("has no output", |graph| graph.output.clear());
    assert_invalid("has no name of its own", |graph| graph.input.push(graph.input[0].clone()));
    // A graph is in topological order; the other way round is a cycle or a mistake.
    assert_invalid("nothing before it computes", |graph| graph.node.swap(0, 1));
}

#[test]
fn tensors_of_another_length_than_their_shape_are_invalid() {
    assert_invalid("20 raw bytes: cut short", |graph| {
        let short = graph.initializer[0].raw_data.as_ref().unwrap().slice(..20);
        graph.initializer[0].raw_data = Some(short);
    });
    assert_invalid("impossible shape", |graph| graph.initializer[0].dims = vec![-3, 2]);
    assert_invalid("impossible shape", |graph| graph.initializer[0].dims = vec![i64::MAX, i64::MAX]);
    assert_invalid("has 0 values", |graph| graph.initializer[0].raw_data = None);
    assert_invalid("no known element type", |graph| graph.initializer[0].data_type = Some(99));
    assert_invalid("neither 0 nor 1", |graph| {
        let mut tensor = TensorProto::u8("flag", &[1], &[7]);
        tensor.data_type = Some(DataType::Bool as i32);
        graph.initializer.push(tensor);
    });
    // A hidden one, inside a node.
    assert_invalid("read node `c`", |graph| {
        let mut tensor = TensorProto::f32("", &[4], &[0.0; 4]);
        tensor.raw_data = Some(Bytes::from_static(b"short"));
        let node = NodeProto::new("Constant", "c", &[], &["k"]).with(AttributeProto::tensor("value", tensor));
        graph.node.insert(0, node);
    });
}

#[test]
fn weights_in_other_files_are_unsupported() {
    let error = refused(|graph| graph.initializer[0].data_location = Some(DataLocation::External as i32));
    assert_eq!(error.code(), Code::UnsupportedModel);
    assert!(error.message().contains("keeps its values in another file"), "{error}");
    assert!(error.advice().is_some());
}

#[test]
fn graphs_nested_without_end_are_invalid() {
    let mut graph = linear();
    for _ in 0..=DEPTH_MAX {
        let mut outer = linear();
        outer.node.push(
            NodeProto::new("If", "if", &["x"], &["z"]).with(AttributeProto::graph("then_branch", graph)),
        );
        graph = outer;
    }
    // Deep nesting is refused while decoding or afterwards, and never reaches a run-time's recursion.
    assert_eq!(read(&encode(graph)).unwrap_err().code(), Code::InvalidBundle);
}

#[test]
fn a_model_that_is_read_and_written_is_the_same() {
    let mut model = read(&encode(linear())).unwrap();
    model.opset_import.push(OperatorSetIdProto { domain: Some("ai.onnx.ml".into()), version: Some(3) });
    let bytes = model.encode_to_vec();
    assert_eq!(ModelProto::decode(&bytes[..]).unwrap(), model);
}
