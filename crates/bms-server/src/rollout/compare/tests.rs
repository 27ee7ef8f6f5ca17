use serde_json::json;

use super::*;

fn tensors(outputs: Value) -> Response<Bytes> {
    Response::new(json!({ "model_name": "m", "model_version": "1", "outputs": outputs }).to_string().into())
}

fn y(data: Value, datatype: &str, shape: Value) -> Value {
    json!([{ "name": "y", "shape": shape, "datatype": datatype, "data": data }])
}

#[test]
fn numbers_agree_within_a_tolerance_and_labels_exactly() {
    let agree = |a: Value, b: Value, datatype: &str, n: usize| {
        let shape = json!([n]);
        tensors_agree(&tensors(y(a, datatype, shape.clone())), &tensors(y(b, datatype, shape)), 1e-3)
    };
    assert!(agree(json!([1.0, 1000.0]), json!([1.0015, 1000.5]), "FP32", 2));
    assert!(agree(json!([[1.0], [2.0]]), json!([1.0, 2.0]), "FP32", 2), "nested or flat");
    assert!(!agree(json!([1.0, 2.0]), json!([1.0, 2.1]), "FP32", 2));
    assert!(agree(json!(["cat"]), json!(["cat"]), "BYTES", 1));
    assert!(!agree(json!(["cat"]), json!(["dog"]), "BYTES", 1));
    assert!(!agree(json!(["cat"]), json!([1]), "BYTES", 1));
    assert!(!agree(json!([null]), json!([null]), "FP32", 1), "what cannot be compared does not agree");
}

#[test]
fn names_types_and_shapes_have_to_be_the_same() {
    let base = tensors(y(json!([1.0, 2.0]), "FP32", json!([2])));
    assert!(!tensors_agree(&base, &tensors(y(json!([1.0, 2.0]), "FP32", json!([1, 2]))), 1e-3));
    assert!(!tensors_agree(&base, &tensors(y(json!([1.0, 2.0]), "FP64", json!([2]))), 1e-3));
    assert!(!tensors_agree(&base, &tensors(json!([])), 1e-3));
    assert!(!tensors_agree(&base, &Response::new(Bytes::from_static(b"{\"error\":\"no\"}")), 1e-3));
    let renamed = json!([{ "name": "z", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0] }]);
    assert!(!tensors_agree(&base, &tensors(renamed), 1e-3));
}

#[test]
fn tensors_in_binary_form_are_compared_as_numbers() {
    let binary = |values: [f32; 2]| {
        let head = json!({ "model_name": "m", "outputs": [
            { "name": "y", "shape": [2], "datatype": "FP32", "parameters": { "binary_data_size": 8 } }
        ] });
        let mut body = head.to_string().into_bytes();
        let length = body.len();
        body.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        Response::builder().header(binary::HEADER_LENGTH, length).body(Bytes::from(body)).unwrap()
    };
    assert!(tensors_agree(&binary([1.0, 2.0]), &binary([1.0001, 2.0]), 1e-3));
    assert!(!tensors_agree(&binary([1.0, 2.0]), &binary([1.1, 2.0]), 1e-3));
    assert!(!tensors_agree(&binary([f32::NAN, 2.0]), &binary([f32::NAN, 2.0]), 1e-3));
    let plain = tensors(y(json!([1.0, 2.0]), "FP32", json!([2])));
    assert!(tensors_agree(&plain, &binary([1.0, 2.0]), 1e-3), "in whichever form");
}

#[test]
fn texts_agree_when_all_of_them_are_equal() {
    let chat = |id: &str, text: &str| {
        let message = json!({ "role": "assistant", "content": text });
        json!({ "id": id, "created": id.len(), "choices": [{ "index": 0, "message": message }] }).to_string()
    };
    let same = |a: &str, b: &str| texts_agree(a.as_bytes(), b.as_bytes());
    assert!(same(&chat("a", "yes"), &chat("bc", "yes")));
    assert!(!same(&chat("a", "yes"), &chat("a", "no")));
    let anthropic = |text: &str| json!({ "content": [{ "type": "text", "text": text }] }).to_string();
    assert!(same(&anthropic("yes"), &anthropic("yes")) && !same(&anthropic("yes"), &anthropic("no")));
    let embedding = |x: f64| json!({ "data": [{ "embedding": [x] }] }).to_string();
    assert!(same(&embedding(1.0), &embedding(1.0)) && !same(&embedding(1.0), &embedding(2.0)));
    assert!(!same("{}", "{}") && !same("no JSON", "no JSON"));
}
