//! Tensors in binary form, statistics and the repository, through the gateway and a real slot.

use bms_wire::Code;
use serde_json::{Value, json};

use crate::harness::{Server, code, real_launch};

async fn server() -> Server {
    Server::of_one_bundle(|settings| settings.launch = real_launch()).await
}

/// Posts JSON and what follows it.
async fn ask(server: &Server, head: &str, tail: &[u8], length: &str) -> http::Response<bytes::Bytes> {
    let body = [head.as_bytes(), tail].concat();
    let headers = [("inference-header-content-length", length)];
    server.connect().await.raw("POST", "/v2/models/m/infer", body, &headers).await
}

const HEAD: &str = r#"{"parameters":{"binary_data_output":true},"inputs":
    [{"name":"x","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}]}"#;

fn values() -> Vec<u8> {
    [1.0f32, 2.0, 3.0, -4.5].iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tensors_travel_in_binary_form() {
    let server = server().await;
    let answer = ask(&server, HEAD, &values(), &HEAD.len().to_string()).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let length = answer.headers()["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    let (head, tail) = answer.body().split_at(length);
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!(head["outputs"][0]["parameters"], json!({ "binary_data_size": 16 }));
    let out: Vec<f32> = tail.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    assert_eq!(out, [2.0, 3.0, 4.0, -3.5]);
    for (length, says) in
        [("12", "not an inference request"), ("9999", "the body has"), ("-1", "not a number")]
    {
        let refused = ask(&server, HEAD, &values(), length).await;
        let body: Value = serde_json::from_slice(refused.body()).unwrap();
        assert_eq!((refused.status().as_u16(), code(&body)), (400, Some(Code::InvalidRequest)));
        assert!(body["error"].as_str().unwrap().contains(says), "{body}");
    }
    let short = ask(&server, HEAD, &values()[1..], &HEAD.len().to_string()).await;
    assert_eq!(short.status(), 400);
    let (_, statistics) = server.get("/v2/models/m/stats").await;
    let statistics = &statistics["model_stats"][0];
    assert_eq!((&statistics["inference_count"], &statistics["execution_count"]), (&json!(2), &json!(1)));
    assert_eq!(server.get("/v2/models/stats").await.1["model_stats"][0], *statistics);
    let (_, config) = server.get("/v2/models/m/config").await;
    assert_eq!(config["input"], json!([{ "name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2] }]));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_done_is_said() {
    let server = server().await;
    let mut connection = server.connect().await;
    for (method, path) in [
        ("GET", "/v2/logging"),
        ("POST", "/v2/trace/setting"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/r/register"),
        ("POST", "/v2/repository/models/m/load"),
        ("POST", "/v2/repository/models/m/unload"),
    ] {
        let (status, body) = connection.send(method, path, "").await;
        assert_eq!((status, code(&body)), (501, Some(Code::NotSupported)), "{path} {body}");
    }
    let (status, index) = connection.send("POST", "/v2/repository/index", "").await;
    assert_eq!((status, index), (200, json!([{ "name": "m", "version": "1", "state": "READY" }])));
    let compressed = [("content-encoding", "gzip")];
    let refused = connection.raw("POST", "/v2/models/m/infer", "{}", &compressed).await;
    assert_eq!(refused.status(), 501);
    let (_, about) = connection.send("GET", "/v2", "").await;
    let extensions = about["extensions"].as_array().unwrap();
    assert!(
        extensions.contains(&json!("binary_tensor_data")) && !extensions.contains(&json!("model_repository"))
    );
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loading_is_deploying() {
    let server = Server::with_registry(|settings| settings.launch = real_launch()).await;
    server.publish(1, &[], &[]).await.unwrap();
    let mut connection = server.connect().await;
    let index = |state: &str, reason: Option<&str>| {
        let mut entry = json!({ "name": "m", "version": "1", "state": state });
        if let Some(reason) = reason {
            entry["reason"] = json!(reason);
        }
        json!([entry])
    };
    let absent = index("UNAVAILABLE", Some("it is not deployed"));
    assert_eq!(connection.send("POST", "/v2/repository/index", "").await.1, absent);
    assert_eq!(connection.send("POST", "/v2/repository/index", r#"{"ready":true}"#).await.1, json!([]));
    assert_eq!(connection.send("POST", "/v2/repository/models/m/load", "{}").await.0, 200);
    assert_eq!(connection.send("POST", "/v2/repository/index", "").await.1, index("READY", None));
    assert_eq!(server.get("/api/v1/deployments/m").await.1["alias"], "production");
    let (status, body) =
        connection.send("POST", "/v2/repository/models/m/load", r#"{"parameters":{"config":"{}"}}"#).await;
    assert_eq!((status, code(&body)), (501, Some(Code::NotSupported)));
    assert_eq!(connection.send("POST", "/v2/repository/models/m/unload", "").await.0, 200);
    assert_eq!(server.get("/v2/models/m/ready").await.0, 404);
    assert_eq!(connection.send("POST", "/v2/repository/models/m/unload", "").await.0, 404);
    assert_eq!(connection.send("POST", "/v2/repository/models/none/load", "").await.0, 404);
    server.stop().await.0.unwrap();
}
