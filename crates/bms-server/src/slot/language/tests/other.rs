//! Embeddings, tokens, models, readings, adapters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Server, say};

#[tokio::test]
async fn embeddings_in_both_encodings() {
    let server = Server::new();
    let answer = server.ok("/v1/embeddings", json!({"model": "m", "input": ["ab", "c"]})).await;
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}));
    let numbers = |value: &Value| -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let first = numbers(&answer["data"][0]["embedding"]);
    assert_eq!(first.len(), 4);
    let length: f32 = first.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    let answer = server.ok("/v1/embeddings", json!({"input": "ab", "encoding_format": "base64"})).await;
    let bytes = STANDARD.decode(answer["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let decoded: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!(decoded, first);
    let short = server.ok("/v1/embeddings", json!({"input": "ab", "dimensions": 2})).await;
    assert_eq!(numbers(&short["data"][0]["embedding"]).len(), 2);
    let (status, answer) = server.ask("/v1/embeddings", json!({"input": "ab", "dimensions": 5})).await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("dimensions")));
}

#[tokio::test]
async fn tokens_of_texts_and_conversations() {
    let server = Server::new();
    let answer = server.ok("/tokenize", json!({"prompt": "ab", "return_token_strs": true})).await;
    assert_eq!((&answer["tokens"], &answer["token_strs"]), (&json!([97, 98]), &json!(["a", "b"])));
    let answer = server.ok("/tokenize", json!({"messages": say("a")})).await;
    assert_eq!(answer["count"], json!("user:say:a~\nassistant:".len()));
    let answer = server.ok("/detokenize", json!({"tokens": [97, 98]})).await;
    assert_eq!((&answer["prompt"], &answer["content"]), (&json!("ab"), &json!("ab")));
    assert_eq!(server.ask("/detokenize", json!({"tokens": [999]})).await.0, 400);
}

#[tokio::test]
async fn readings_count_and_models_are_listed() {
    let server = Server::new();
    server.ok("/v1/chat/completions", json!({"messages": say("abc"), "temperature": 0})).await;
    let get = |path: &str| http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let read = async |path: &str| -> Value {
        use http_body_util::BodyExt;
        let bytes = server.send(get(path)).await.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    };
    let reading = read("/v2/readings").await;
    assert_eq!(reading["generation_tokens"], json!(4), "{reading}");
    let models = read("/v1/models").await;
    assert_eq!(models["data"][0]["id"], json!("m"));
    assert_eq!(read("/v1/models/m").await["object"], json!("model"));
    assert_eq!(server.send(get("/v1/models/x")).await.status(), 404);
}

#[tokio::test]
async fn adapters_lie_in_their_folders_alone() {
    let server = Server::new();
    for path in ["../secret", "/etc/passwd", "absent"] {
        let body = json!({"lora_name": "a", "lora_path": path});
        let (status, answer) = server.ask("/v1/load_lora_adapter", body).await;
        assert_eq!((status, &answer["error"]["param"]), (403, &json!("lora_path")), "{path}: {answer}");
    }
    assert_eq!(server.ask("/v1/unload_lora_adapter", json!({"lora_name": "a"})).await.0, 404);
}
