//! The scanner on TensorFlow, TFLite, Core ML and Keras.

use bms_bundle::{Format, scan};

use crate::samples::{clean, entry, field, finds, number, zip};

/// A node with attributes already encoded.
fn node(name: &str, operator: &str, rest: &[u8]) -> Vec<u8> {
    [field(1, name.as_bytes()), field(2, operator.as_bytes()), rest.to_vec()].concat()
}

fn attribute(key: &str, text: &str) -> Vec<u8> {
    field(5, &[field(1, key.as_bytes()), field(2, &field(2, text.as_bytes()))].concat())
}

/// A text constant.
fn constant(name: &str, text: &str) -> Vec<u8> {
    let tensor = [number(1, 7), field(8, text.as_bytes())].concat();
    node(name, "Const", &field(5, &[field(1, b"value"), field(2, &field(8, &tensor))].concat()))
}

fn graph(nodes: &[Vec<u8>], library: &[Vec<u8>]) -> Vec<u8> {
    let nodes: Vec<u8> = nodes.iter().flat_map(|node| field(1, node)).collect();
    let body: Vec<u8> = library.iter().flat_map(|node| field(3, node)).collect();
    let function = [field(1, &field(1, b"__inference_f")), body].concat();
    let library = if library.is_empty() { vec![] } else { field(2, &field(1, &function)) };
    [nodes, library, field(4, &number(1, 1087))].concat()
}

fn meta_graph(graph: &[u8]) -> Vec<u8> {
    [field(1, &field(4, b"serve")), field(2, graph)].concat()
}

fn saved_model(graph: &[u8]) -> Vec<u8> {
    [number(1, 1), field(2, &meta_graph(graph))].concat()
}

/// The same graph in each of its files.
fn files(nodes: &[Vec<u8>], library: &[Vec<u8>]) -> [Vec<u8>; 3] {
    let graph = graph(nodes, library);
    [saved_model(&graph), meta_graph(&graph), graph]
}

/// Files to be damaged.
pub(crate) fn samples() -> Vec<Vec<u8>> {
    let nodes = [constant("c", "/tmp/x"), node("p", "PrintV2", &attribute("output_stream", "stderr"))];
    let layer = r#"{"module": "keras.layers", "class_name": "Dense", "config": {"activation": "relu"}}"#;
    let graphs = files(&nodes, &[node("a", "AddV2", &[])]);
    graphs.into_iter().chain([tflite(&["FlexAddV2", "Mine"]), keras(layer)]).collect()
}

#[test]
fn ordinary_graphs_are_clean() {
    let nodes = [
        node("x", "Placeholder", &[]),
        node("m", "MatMul", &[]),
        node("p", "PrintV2", &attribute("output_stream", "stderr")),
    ];
    for file in files(&nodes, &[node("a", "AddV2", &[])]) {
        assert_eq!(scan::scan_file("x", &file).format, Format::TensorFlow);
        clean(&file);
    }
    // A path that no operator of a saver takes is a text.
    clean(&saved_model(&graph(&[constant("c", "/tmp/unused"), node("r", "Relu", &field(3, b"c"))], &[])));
}

#[test]
fn operators_that_leave_the_graph_are_found_everywhere() {
    let x = node("x", "Placeholder", &[]);
    for operator in [
        "ReadFile",
        "WriteFile",
        "PyFunc",
        "EagerPyFunc",
        "PyFuncStateless",
        "MatchingFiles",
        "TFRecordDatasetV2",
        "ExperimentalSqlDataset",
        "RpcServer",
    ] {
        for file in files(&[x.clone(), node("n", operator, &[])], &[]) {
            finds(&file, "tensorflow-operator");
        }
        for file in files(std::slice::from_ref(&x), &[node("n", operator, &[])]) {
            finds(&file, "tensorflow-operator");
        }
    }
    for (operator, key, value) in
        [("PrintV2", "output_stream", "file:///tmp/x"), ("DecodeProtoV2", "descriptor_source", "/etc/passwd")]
    {
        finds(
            &saved_model(&graph(&[x.clone(), node("n", operator, &attribute(key, value))], &[])),
            "tensorflow-operator",
        );
    }
    finds(
        &saved_model(&graph(&[x.clone(), node("n", "NobodyKnowsMe", &[])], &[])),
        "tensorflow-custom-operator",
    );
    let merge = node("m", "MergeV2Checkpoints", &field(3, b"p:0"));
    finds(&saved_model(&graph(&[x, constant("p", "/etc/profile"), merge], &[])), "tensorflow-path");
    finds(b"node {\n  name: \"r\"\n  op: \"ReadFile\"\n}\n", "tensorflow-operator");
}

#[test]
fn damaged_graphs_are_not_clean() {
    let whole = saved_model(&graph(&[node("x", "Placeholder", &[]), node("m", "MatMul", &[])], &[]));
    finds(&whole[..whole.len() - 3], "tensorflow-malformed");
}

/// A TFLite model with custom operators.
fn tflite(custom: &[&str]) -> Vec<u8> {
    let mut out = vec![0_u8; 8];
    out[4..8].copy_from_slice(b"TFL3");
    let word = |out: &mut Vec<u8>, value: usize| out.extend((value as u32).to_le_bytes());
    // The root's vtable: four fields, the second of which lies at 4.
    out.extend([8, 0, 8, 0, 0, 0, 4, 0]);
    let root = out.len();
    out[..4].copy_from_slice(&(root as u32).to_le_bytes());
    word(&mut out, 8);
    word(&mut out, 4);
    let vector = out.len();
    word(&mut out, custom.len());
    out.resize(out.len() + 4 * custom.len(), 0);
    for (index, name) in custom.iter().enumerate() {
        out.extend([8, 0, 8, 0, 0, 0, 4, 0]);
        let table = out.len();
        let slot = vector + 4 + 4 * index;
        out[slot..slot + 4].copy_from_slice(&((table - slot) as u32).to_le_bytes());
        word(&mut out, 8);
        word(&mut out, 4);
        word(&mut out, name.len());
        out.extend(name.as_bytes());
        out.resize(out.len().next_multiple_of(4) + 4, 0);
    }
    out
}

#[test]
fn tflite_operators_are_judged() {
    clean(&tflite(&[]));
    clean(&tflite(&["TFLite_Detection_PostProcess", "FlexAddV2"]));
    assert_eq!(scan::scan_file("x", &tflite(&[])).format, Format::TfLite);
    finds(&tflite(&["FlexAddV2", "FlexReadFile"]), "tensorflow-operator");
    finds(&tflite(&["FlexPyFunc"]), "tensorflow-operator");
    finds(&tflite(&["MyOwnOperator"]), "tflite-custom-operator");
    finds(&tflite(&["FlexAddV2"])[..30], "tflite-malformed");
    // Labels behind the model are how its tools keep them; a pickle there is none.
    clean(&[tflite(&[]), zip(&[entry("labels.txt", b"cat\ndog\n")])].concat());
    finds(
        &[tflite(&[]), zip(&[entry("labels.txt", &crate::samples::hostile_pickle())])].concat(),
        "pickle-import",
    );
}

#[test]
fn core_ml_parts_of_others_are_found() {
    let model = |number: u32, body: &[u8]| {
        [crate::samples::number(1, 4), field(2, &field(1, b"")), field(number, body)].concat()
    };
    let layer = [field(1, b"l"), field(500, &field(10, b"Evil"))].concat();
    clean(&model(500, &field(1, &[field(1, b"l"), field(140, b"")].concat())));
    finds(&model(555, &field(10, b"Evil")), "coreml-custom");
    finds(&model(500, &field(1, &layer)), "coreml-custom");
    finds(&model(202, &field(1, &model(403, &field(1, &layer)))), "coreml-custom");
    finds(&model(556, &field(1, &field(1, &field(1, b"../../x")))), "coreml-path");
}

/// A Keras file around the layers of a model.
fn keras(layers: &str) -> Vec<u8> {
    let config = format!(
        r#"{{"module": "keras", "class_name": "Sequential", "config": {{"name": "m", "layers": [{layers}]}}, "registered_name": null}}"#
    );
    zip(&[entry("metadata.json", br#"{"keras_version": "3.0.0"}"#), entry("config.json", config.as_bytes())])
}

#[test]
fn keras_layers_are_judged() {
    clean(&keras(
        r#"{"module": "keras.layers", "class_name": "Dense", "config": {"name": "lambda_os_system", "activation": "relu"}, "registered_name": null}"#,
    ));
    clean(&keras(
        r#"{"module": "builtins", "class_name": "function", "config": "my_activation", "registered_name": "package>my_activation"}"#,
    ));
    clean(&keras(
        r#"{"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": ["a"]}}"#,
    ));
    for (layer, rule) in [
        (r#"{"module": "keras.layers", "class_name": "Lambda", "config": {}}"#, "keras-code"),
        (r#"{"module": "keras.layers", "class_name": "L\u0061mbda", "config": {}}"#, "keras-code"),
        (
            r#"{"module": "keras.layers", "class_name": "Dense", "class_name": "Lambda", "config": {}}"#,
            "keras-code",
        ),
        (
            r#"{"module": "keras.layers", "class_name": "Lambda", "class_name": "Dense", "config": {}}"#,
            "keras-code",
        ),
        (
            r#"{"module": "keras.layers", "class_name": "TimeDistributed", "config": {"layer": {"class_name": "Lambda", "config": {}}}}"#,
            "keras-code",
        ),
        (
            r#"{"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "x"}}"#,
            "keras-code",
        ),
        (r#"{"module": "os", "class_name": "function", "config": "system"}"#, "keras-import"),
        (r#"{"module": "builtins", "class_name": "function", "config": "exec"}"#, "keras-import"),
        (r#"{"module": "keras.utils", "class_name": "function", "config": "get_file"}"#, "keras-import"),
        (
            r#"{"module": "keras.utils", "class_name": "get_file", "config": {"origin": "http://x/y"}}"#,
            "keras-import",
        ),
        (
            r#"{"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"}"#,
            "keras-import",
        ),
        (r#"{"module": "keras.saving.saving_api.os", "class_name": "Thing", "config": {}}"#, "keras-import"),
        (r#"{"module": "my.package", "class_name": "Layer", "config": {}}"#, "keras-import"),
        (
            r#"{"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}"#,
            "keras-file",
        ),
        (
            r#"{"module": "keras.layers", "class_name": "IntegerLookup", "config": {"vocabulary": "http://x/y"}}"#,
            "keras-file",
        ),
        (
            r#"{"module": "keras.layers", "class_name": "Dense", "config": {"activation": {"module": "builtins", "class_name": "function", "config": "eval"}}}"#,
            "keras-import",
        ),
    ] {
        finds(&keras(layer), rule);
    }
}

#[test]
fn keras_metadata_beside_a_saved_model_is_read() {
    let object = |config: &str| {
        field(
            1,
            &[
                number(2, 1),
                field(3, b"root.layer-1"),
                field(4, b"_tf_keras_layer"),
                field(5, config.as_bytes()),
            ]
            .concat(),
        )
    };
    clean(&object(r#"{"class_name": "Dense", "config": {}}"#));
    finds(&object(r#"{"class_name": "Lambda", "config": {}}"#), "keras-code");
}
