//! Requests and answers with tensors in binary form.

use bms_engine::oip::{answer_to_response, read};
use bms_engine::{Engine, Input};
use bms_nn::onnx::proto::NodeProto;
use bms_wire::oip::{InferResponse, binary};
use bms_wire::{Code, Result};
use serde_json::{Value, json};

use crate::models::{
    load, options, picture, picture_graph, picture_pipeline, table_graph, table_pipeline, tensor_pipeline,
};

/// Asks with a head and what follows it; the head of the answer and what follows that.
fn ask(engine: &Engine, head: &Value, tail: &[u8]) -> Result<(InferResponse, Vec<Vec<u8>>)> {
    let head = head.to_string();
    answer(engine, &[head.as_bytes(), tail].concat(), Some(head.len()))
}

fn answer(engine: &Engine, body: &[u8], head_bytes: Option<usize>) -> Result<(InferResponse, Vec<Vec<u8>>)> {
    let (input, asked) = read(engine.describe(), body, head_bytes)?;
    let response = answer_to_response(engine.describe(), engine.predict(input)?, &asked, None)?;
    let (body, head_bytes) = response.into_body()?;
    let (response, places) = binary::read_response(&body, head_bytes)?;
    let tensors = places.into_iter().flatten().map(|place| body[place].to_vec()).collect();
    Ok((response, tensors))
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn table() -> Engine {
    let node = NodeProto::new("Identity", "id", &["x"], &["logits"]);
    load(table_pipeline(), table_graph(node), &options()).unwrap()
}

fn x(shape: &Value, size: usize) -> Value {
    json!({ "name": "x", "datatype": "FP32", "shape": shape, "parameters": { "binary_data_size": size } })
}

#[test]
fn tensors_come_and_go_in_binary_form() {
    let engine = table();
    let values = bytes(&[1.0, -2.0, 0.25, 8.0]);
    let head = json!({
        "id": "7", "parameters": { "binary_data_output": true }, "inputs": [x(&json!([2, 2]), 16)],
        "outputs": [{ "name": "logits" }, { "name": "label", "parameters": { "binary_data": true } },
                    { "name": "probability", "parameters": { "binary_data": false } }],
    });
    let (response, tensors) = ask(&engine, &head, &values).unwrap();
    assert_eq!(response.id.as_deref(), Some("7"));
    assert_eq!(tensors[0], values);
    assert_eq!(binary::elements(&tensors[1], 4).unwrap(), [&b"low"[..], b"high", b"high", b"low"]);
    assert_eq!(tensors.len(), 2);
    assert!(response.outputs[2].data.is_array() && response.outputs[1].data.is_null());
    // Without JSON the body is the one input, whose rows follow from its size; the answer is JSON.
    let (raw, tensors) = answer(&engine, &values, Some(0)).unwrap();
    assert_eq!((raw.outputs[0].shape.as_slice(), tensors.len()), (&[2, 2][..], 0));
    assert_eq!(raw.outputs[0].data, json!([1.0, -2.0, 0.25, 8.0]));
    assert_eq!(answer(&engine, &values[..12], Some(0)).unwrap_err().code(), Code::InvalidInput);
}

#[test]
fn rows_and_pictures_can_be_binary_too() {
    let head = json!({ "inputs": [{ "name": "rows", "datatype": "FP64", "shape": [1, 2],
                                    "parameters": { "binary_data_size": 16 } }] });
    let row: Vec<u8> = [1.5f64, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let (response, _) = ask(&table(), &head, &row).unwrap();
    assert_eq!(response.outputs[0].data, json!([1.0, 0.0]), "prepared as its pipeline says");
    let engine = load(picture_pipeline(), picture_graph(), &options()).unwrap();
    let png = picture(2).encode_png().unwrap();
    let mut element = Vec::new();
    binary::push_element(&mut element, &png);
    let head = json!({ "inputs": [{ "name": "image", "datatype": "BYTES", "shape": [1],
                                    "parameters": { "binary_data_size": element.len() } }] });
    let (binary, _) = ask(&engine, &head, &element).unwrap();
    let expected = engine.predict(Input::Images(vec![png.clone()])).unwrap();
    let logits: Vec<f64> = expected.outputs[0].1.as_f32().unwrap().iter().map(|v| f64::from(*v)).collect();
    assert_eq!(binary.outputs[0].data, json!(logits));
    assert_eq!(answer(&engine, &png, Some(0)).unwrap().0, binary, "a bare picture is one, too");
}

#[test]
fn the_best_classes_are_named() {
    let labelled = table();
    let ask_for = |engine: &Engine, count: Value| {
        let outputs = json!([{ "name": "logits", "parameters": { "classification": count } }]);
        let head = json!({ "inputs": [x(&json!([2, 2]), 16)], "outputs": outputs });
        ask(engine, &head, &bytes(&[1.0, -2.0, 0.25, 8.0])).map(|(response, _)| response.outputs[0].clone())
    };
    let best = ask_for(&labelled, json!(1)).unwrap();
    assert_eq!((best.shape.as_slice(), best.datatype.as_str()), (&[2, 1][..], "BYTES"));
    assert_eq!(best.data, json!(["1.000000:0:low", "8.000000:1:high"]));
    let node = NodeProto::new("Identity", "id", &["x"], &["logits"]);
    let plain = load(tensor_pipeline(), table_graph(node), &options()).unwrap();
    let all = ask_for(&plain, json!(9)).unwrap();
    assert_eq!(all.data, json!(["1.000000:0", "-2.000000:1", "8.000000:1", "0.250000:0"]));
    assert_eq!(ask_for(&plain, json!("two")).unwrap_err().code(), Code::InvalidRequest);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let engine = table();
    let values = bytes(&[1.0, 2.0]);
    let refused = |head: Value, tail: &[u8]| ask(&engine, &head, tail).map(|_| ()).unwrap_err();
    for (input, says) in [
        (x(&json!([1, 3]), 8), "takes 12 bytes, 8 came"),
        (x(&json!([1, -2]), 8), "impossible"),
        (
            json!({ "name": "x", "datatype": "FP16", "shape": [1, 4], "parameters": { "binary_data_size": 8 } }),
            "f16[1, 4]",
        ),
        (
            json!({ "name": "x", "datatype": "BYTES", "shape": [1], "parameters": { "binary_data_size": 8 } }),
            "BYTES",
        ),
    ] {
        let error = refused(json!({ "inputs": [input] }), &values);
        assert_eq!(error.code(), Code::InvalidInput, "{error}");
        assert!(error.message().contains(says), "{error}");
    }
    let nan = refused(json!({ "inputs": [x(&json!([1, 2]), 8)] }), &bytes(&[1.0, f32::NAN]));
    assert!(nan.message().contains("not a finite number"), "{nan}");
    for (name, value, code) in [
        ("sequence_id", json!(3), Code::NotSupported),
        ("sequence_start", json!(true), Code::NotSupported),
        ("priority", json!(99), Code::InvalidRequest),
        ("timeout", json!("soon"), Code::InvalidRequest),
        ("binary_data_output", json!(1), Code::InvalidRequest),
    ] {
        let head = json!({ "inputs": [x(&json!([1, 2]), 8)], "parameters": { name: value } });
        assert_eq!(refused(head, &values).code(), code, "{name}");
    }
    let harmless =
        json!({ "sequence_id": 0, "sequence_end": false, "priority": 9, "timeout": 5, "anything": [1] });
    ask(&engine, &json!({ "inputs": [x(&json!([1, 2]), 8)], "parameters": harmless }), &values).unwrap();
    let mut shared = x(&json!([1, 2]), 8);
    shared["parameters"]["shared_memory_region"] = json!("r");
    assert_eq!(refused(json!({ "inputs": [shared] }), &values).code(), Code::NotSupported);
}
