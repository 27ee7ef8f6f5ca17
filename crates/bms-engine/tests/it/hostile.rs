//! Inputs and bundles that mean harm or mischief: a clear code, and an engine that lives on.

use bms_engine::oip::{answer_to_response, request_to_input};
use bms_engine::{Engine, EngineOptions, Input};
use bms_nn::onnx::proto::{DataType, NodeProto, ValueInfoProto};
use bms_nn::{Data, Tensor};
use bms_wire::oip::InferRequest;
use bms_wire::{Code, Error, Result, limits};
use serde_json::{Value, json};

use crate::models::{self, SIDE, load, options, picture};

fn pictures() -> Engine {
    load(models::picture_pipeline(), models::picture_graph(), &options()).unwrap()
}

fn identity() -> NodeProto {
    NodeProto::new("Identity", "id", &["x"], &["logits"])
}

fn tables() -> Engine {
    load(models::table_pipeline(), models::table_graph(identity()), &options()).unwrap()
}

/// Asks what must be refused with `code`, and checks that the next caller is served.
fn refused(engine: &Engine, input: Input, code: Code) -> Error {
    let error = engine.predict(input).expect_err("a hostile input");
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(engine.waiting_rows(), 0, "{error}");
    error
}

#[test]
fn pictures_that_are_none_are_invalid() {
    let engine = pictures();
    let png = picture(1).encode_png().unwrap();
    let hostile = [
        vec![],
        b"GIF89a".to_vec(),
        png[..png.len() / 2].to_vec(),
        vec![0xff; 1000],
        b"\x89PNG\r\n\x1a\n".to_vec(),
    ];
    for bytes in hostile {
        refused(&engine, Input::Images(vec![bytes.clone()]), Code::InvalidInput);
        // A good one beside it does not help.
        let error = refused(&engine, Input::Images(vec![png.clone(), bytes]), Code::InvalidInput);
        assert!(error.message().contains("picture 1"), "{error}");
    }
    engine.predict(Input::Images(vec![png])).unwrap();
}

#[test]
fn inputs_of_the_wrong_kind_count_or_shape_are_invalid() {
    let engine = pictures();
    refused(&engine, Input::Images(vec![]), Code::InvalidInput);
    refused(&engine, Input::Tensors(vec![]), Code::InvalidInput);
    refused(&engine, Input::Rows(vec![vec![0.0; SIDE * SIDE]]), Code::InvalidInput);
    let tensors = |name: &str, shape: &[usize]| {
        let values = vec![0.0; shape.iter().product()];
        Input::Tensors(vec![(name.to_owned(), Tensor::f32(shape.to_vec(), values).unwrap())])
    };
    let error = refused(&engine, tensors("picture", &[1, 1, SIDE, SIDE]), Code::InvalidInput);
    assert!(error.message().contains("no input `picture`"), "{error}");
    let error = refused(&engine, tensors("image", &[1, 3, SIDE, SIDE]), Code::InvalidInput);
    assert!(error.message().contains("`image` f32[?, 1, 8, 8]"), "says what was expected: {error}");
    refused(&engine, tensors("image", &[]), Code::InvalidInput);
    refused(&engine, tensors("image", &[usize::MAX, 0]), Code::InvalidInput);
    refused(&engine, tensors("image", &[0, 1, SIDE, SIDE]), Code::InvalidInput);
    let integers = Tensor::new(vec![1, 1, SIDE, SIDE], Data::I64(vec![0; SIDE * SIDE])).unwrap();
    refused(&engine, Input::Tensors(vec![("image".into(), integers)]), Code::InvalidInput);
    engine.predict(tensors("image", &[2, 1, SIDE, SIDE])).unwrap();
}

#[test]
fn numbers_that_are_not_finite_are_invalid() {
    let engine = tables();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        refused(&engine, Input::Rows(vec![vec![0.0, 0.0], vec![0.0, bad]]), Code::InvalidInput);
        let tensor = Tensor::f32(vec![1, 2], vec![bad, 0.0]).unwrap();
        refused(&engine, Input::Tensors(vec![("x".into(), tensor)]), Code::InvalidInput);
    }
    refused(&engine, Input::Rows(vec![vec![0.0]]), Code::InvalidInput);
    refused(&engine, Input::Rows(vec![vec![0.0; 3]]), Code::InvalidInput);
}

#[test]
fn a_request_over_the_limit_is_too_large() {
    let engine = tables();
    let rows = limits::TENSOR_VALUES_MAX / 2 + 1;
    let tensor = Tensor::f32(vec![rows, 2], vec![0.0; rows * 2]).unwrap();
    refused(&engine, Input::Tensors(vec![("x".into(), tensor)]), Code::TooLarge);
}

#[test]
fn bundles_that_do_not_fit_are_refused_at_load() {
    let code = |result: Result<Engine>| result.expect_err("must not load").code();
    // Sound as a file, so the gate lets it pass, but nothing computes what a node uses.
    let mut dangling = models::picture_graph();
    dangling.node[1].input[0] = "nowhere".into();
    assert_eq!(code(load(models::picture_pipeline(), dangling, &options())), Code::InvalidBundle);

    // A pipeline for rows on a graph for pictures, and the other way round.
    assert_eq!(
        code(load(models::table_pipeline(), models::picture_graph(), &options())),
        Code::InvalidBundle
    );
    assert_eq!(
        code(load(models::picture_pipeline(), models::table_graph(identity()), &options())),
        Code::InvalidBundle
    );
    // Labels that the graph's output cannot carry.
    let mut wide = models::table_graph(identity());
    wide.output[0] = ValueInfoProto::tensor("logits", DataType::Float, &[Err("n"), Ok(5)]);
    assert_eq!(code(load(models::table_pipeline(), wide, &options())), Code::InvalidBundle);
    let mut deep = models::table_graph(identity());
    deep.output[0] = ValueInfoProto::tensor("logits", DataType::Float, &[Err("n"), Ok(1), Ok(2)]);
    assert_eq!(code(load(models::table_pipeline(), deep, &options())), Code::InvalidBundle);
    // What the run-time would compute wrong.
    let sign = NodeProto::new("Sign", "sign", &["x"], &["logits"]);
    assert_eq!(
        code(load(models::table_pipeline(), models::table_graph(sign), &options())),
        Code::UnsupportedModel
    );
}

#[test]
fn absurd_options_are_bounded() {
    let absurd = EngineOptions {
        threads: 0,
        batch_rows_max: usize::MAX,
        batch_wait: std::time::Duration::MAX,
        queue_rows_max: 0,
        ..options()
    };
    // The first row fills the queue; with an endless wait for others it would never be answered, and an
    // instant that far away cannot be computed. The wait is cut to the deadline of a request, so this
    // only asks for what needs no wait: as many rows as one batch holds.
    let engine = load(models::table_pipeline(), models::table_graph(identity()), &absurd).unwrap();
    let rows = vec![vec![0.0, 0.0]; limits::BATCH_ROWS_MAX];
    assert_eq!(engine.predict(Input::Rows(rows)).unwrap().outputs[0].1.rows(), limits::BATCH_ROWS_MAX);
}

fn ask(engine: &Engine, request: Value) -> Result<Value> {
    let request: InferRequest = serde_json::from_value(request).expect("the protocol's form");
    let (input, asked) = request_to_input(engine.describe(), request)?;
    let answer = engine.predict(input)?;
    let response = answer_to_response(engine.describe(), answer, &asked, Some("3".into()))?;
    Ok(serde_json::to_value(response.head).unwrap())
}

fn tensor(name: &str, datatype: &str, shape: Value, data: Value) -> Value {
    json!({"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]})
}

#[test]
fn the_protocol_gives_the_same_answer_for_pictures_and_tensors() {
    use base64::Engine as _;
    let engine = pictures();
    let png = picture(2).encode_png().unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(&png);
    let by_picture = ask(&engine, tensor("image", "BYTES", json!([1]), json!([text]))).unwrap();
    let values = bms_data::preprocess_image(&models::picture_input(), &picture(2)).unwrap();
    let shape = json!([1, 1, SIDE, SIDE]);
    let flat = ask(&engine, tensor("image", "FP32", shape.clone(), json!(values))).unwrap();
    let rows: Vec<Vec<f32>> = values.chunks(SIDE).map(<[f32]>::to_vec).collect();
    let nested = ask(&engine, tensor("image", "FP32", shape, json!([[rows]]))).unwrap();
    assert_eq!(by_picture, flat);
    assert_eq!(flat, nested);
    assert_eq!(by_picture["model_version"], "3");
    let outputs = by_picture["outputs"].as_array().unwrap();
    let names: Vec<&str> = outputs.iter().map(|output| output["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["logits", "label", "probability"]);
    for output in outputs {
        assert_eq!(output["shape"], json!([1, 3]));
        assert_eq!(output["data"].as_array().unwrap().len(), 3);
    }
    let total: f64 = outputs[2]["data"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum();
    assert!((total - 1.0).abs() < 1e-6);
}

#[test]
fn malformed_protocol_data_is_invalid() {
    let engine = pictures();
    let full: Vec<f32> = vec![0.0; SIDE * SIDE];
    let shape = || json!([1, 1, SIDE, SIDE]);
    for (what, request) in [
        ("not base64", tensor("image", "BYTES", json!([1]), json!(["@@@"]))),
        ("not a string", tensor("image", "BYTES", json!([1]), json!([7]))),
        ("fewer than the shape", tensor("image", "BYTES", json!([2]), json!(["aaaa"]))),
        ("not an array", tensor("image", "FP32", shape(), json!("0"))),
        ("too few", tensor("image", "FP32", shape(), json!(full[1..]))),
        ("ragged", tensor("image", "FP32", json!([1, 1, 2, 2]), json!([[[[0.0, 1.0], [2.0]]]]))),
        ("nested too deep", tensor("image", "FP32", json!([1]), json!([[0.0]]))),
        ("half nested", tensor("image", "FP32", json!([2]), json!([0.0, [1.0]]))),
        ("null", tensor("image", "FP32", json!([1, 1, 1, 1]), json!([null]))),
        ("beyond f32", tensor("image", "FP32", json!([1, 1, 1, 1]), json!([1e300]))),
        ("text for a number", tensor("image", "FP32", json!([1, 1, 1, 1]), json!(["1"]))),
        ("negative length", tensor("image", "FP32", json!([-1, 1, SIDE, SIDE]), json!(full))),
        ("overflowing shape", tensor("image", "FP32", json!([i64::MAX, i64::MAX]), json!([]))),
        ("empty rows", tensor("image", "FP32", json!([i64::MAX, 0]), json!([]))),
        ("fraction for an integer", tensor("image", "INT32", json!([1]), json!([1.5]))),
        ("beyond the integer", tensor("image", "INT8", json!([1]), json!([200]))),
        ("half precision", tensor("image", "FP16", shape(), json!(full))),
        ("no inputs", json!({"inputs": []})),
    ] {
        let error = ask(&engine, request).expect_err(what);
        assert_eq!(error.code(), Code::InvalidInput, "{what}: {error}");
    }
    let error = ask(&engine, tensor("image", "FP32", json!([1_i64 << 40]), json!([]))).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    let mut request = tensor("image", "FP32", shape(), json!(full));
    request["outputs"] = json!([{"name": "logitz"}]);
    let error = ask(&engine, request).unwrap_err();
    assert!(error.message().contains("no output `logitz`"), "{error}");
}

#[test]
fn every_element_type_of_the_protocol_round_trips() {
    let types = [
        ("BOOL", DataType::Bool, json!([true, false])),
        ("INT8", DataType::Int8, json!([-128, 127])),
        ("UINT8", DataType::Uint8, json!([0, 255])),
        ("INT32", DataType::Int32, json!([i32::MIN, i32::MAX])),
        ("INT64", DataType::Int64, json!([-5, 2_000_000_000])),
        ("FP32", DataType::Float, json!([0.5, -1.25])),
    ];
    for (datatype, data_type, data) in types {
        let mut graph = models::table_graph(identity());
        graph.input[0] = ValueInfoProto::tensor("x", data_type, &[Ok(2)]);
        graph.output[0] = ValueInfoProto::tensor("logits", data_type, &[Ok(2)]);
        let engine = load(models::tensor_pipeline(), graph, &options()).unwrap();
        let response = ask(&engine, tensor("x", datatype, json!([2]), data.clone())).unwrap();
        assert_eq!(response["outputs"][0]["data"], data, "{datatype}");
        assert_eq!(response["outputs"][0]["datatype"], datatype);
    }
}

#[test]
fn an_integer_the_runtime_cannot_hold_is_invalid() {
    let mut graph = models::table_graph(identity());
    graph.input[0] = ValueInfoProto::tensor("x", DataType::Int64, &[Ok(1)]);
    graph.output[0] = ValueInfoProto::tensor("logits", DataType::Int64, &[Ok(1)]);
    let engine = load(models::tensor_pipeline(), graph, &options()).unwrap();
    let error = ask(&engine, tensor("x", "INT64", json!([1]), json!([1_i64 << 40]))).unwrap_err();
    assert_eq!(error.code(), Code::InvalidInput);
    assert!(error.message().contains("counts in 32 bits"), "{error}");
}
