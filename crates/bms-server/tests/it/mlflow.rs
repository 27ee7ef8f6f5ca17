//! MLflow's routes byte for byte: what its client does not show.

use bms_registry::NewRun;
use serde_json::{Value, json};

use crate::harness::Server;

const RUNS: &str = "/api/2.0/mlflow/runs";

async fn run(server: &Server) -> String {
    let new = NewRun { person: "ada".into(), name: "r".into(), ..NewRun::default() };
    server.registry.as_ref().unwrap().create_run(&new).await.unwrap().id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_the_shape_mlflow_reads() {
    let server = Server::with_registry(|_| {}).await;
    let mut connection = server.connect().await;
    for (method, path, body, status, code) in [
        ("GET", "/api/2.0/mlflow/runs/get?run_id=x", "", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", "/api/2.0/mlflow/runs/get", "", 400, "INVALID_PARAMETER_VALUE"),
        ("POST", "/api/2.0/mlflow/runs/create", "{", 400, "INVALID_PARAMETER_VALUE"),
        ("POST", "/api/2.0/mlflow/runs/create", r#"{"experiment_id": "99"}"#, 404, "RESOURCE_DOES_NOT_EXIST"),
        (
            "POST",
            "/api/2.0/mlflow/runs/create",
            r#"{"experiment_id": "x-1"}"#,
            404,
            "RESOURCE_DOES_NOT_EXIST",
        ),
        (
            "POST",
            "/api/2.0/mlflow/runs/search",
            r#"{"experiment_ids": ["0"], "max_results": 0}"#,
            400,
            "INVALID_PARAMETER_VALUE",
        ),
        (
            "POST",
            "/api/2.0/mlflow/experiments/create",
            r#"{"name": "Default"}"#,
            409,
            "RESOURCE_ALREADY_EXISTS",
        ),
        ("GET", "/api/2.0/mlflow/traces/search", "", 404, "ENDPOINT_NOT_FOUND"),
        ("GET", "/api/3.0/mlflow/anything", "", 404, "ENDPOINT_NOT_FOUND"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/0/x/artifacts/a", "", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/nowhere", "x", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/registry/m/1/a", "x", 400, "INVALID_PARAMETER_VALUE"),
        (
            "POST",
            "/api/2.0/mlflow/registered-models/rename",
            r#"{"name": "a", "new_name": "b"}"#,
            400,
            "INVALID_PARAMETER_VALUE",
        ),
    ] {
        let (found, answer) = connection.send(method, path, body).await;
        assert_eq!((found, answer["error_code"].as_str()), (status, Some(code)), "{method} {path} {answer}");
        assert!(!answer["message"].as_str().unwrap().is_empty());
    }
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_come_as_protobuf_writes_them() {
    let server = Server::with_registry(|_| {}).await;
    let id = run(&server).await;
    let mut connection = server.connect().await;
    let batch = json!({
        "run_id": id,
        "metrics": [
            { "key": "a", "value": "NaN", "timestamp": "12", "step": "1" },
            { "key": "b", "value": "-Infinity", "timestamp": 12.0 },
            { "key": "c", "value": 1e300, "timestamp": 12 },
            { "key": "d", "timestamp": 12 },
        ],
        "params": [{ "key": "empty", "value": "" }, { "key": "absent" }],
        "tags": null,
    });
    let (status, answer) = connection.send("POST", &format!("{RUNS}/log-batch"), &batch.to_string()).await;
    assert_eq!((status, &answer), (200, &json!({})), "{answer}");
    let (_, answer) = connection.send("GET", &format!("{RUNS}/get?run_uuid={id}"), "").await;
    let metrics = answer["run"]["data"]["metrics"].as_array().unwrap();
    let values: Vec<&Value> = metrics.iter().map(|metric| &metric["value"]).collect();
    assert_eq!(values, [&json!("NaN"), &json!("-Infinity"), &json!(1e300), &json!(0.0)]);
    assert_eq!(metrics[0]["step"], json!(1));
    for bad in [r#""x""#, "true", "[]", r#"{"a": 1}"#] {
        let body = format!(r#"{{"run_id": "{id}", "key": "e", "value": {bad}}}"#);
        let (status, answer) = connection.send("POST", &format!("{RUNS}/log-metric"), &body).await;
        assert_eq!(status, 400, "{bad}: {answer}");
    }
    // A stage that needs people says which transition waits for them; the person is the user of basic authentication.
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_cannot_leave_their_run() {
    let server = Server::with_registry(|_| {}).await;
    let id = run(&server).await;
    let mut connection = server.connect().await;
    let base = format!("/api/2.0/mlflow-artifacts/artifacts/0/{id}/artifacts");
    for path in ["..%2f..%2fx", "a%2f..%2f..%2fx", "%2fetc%2fpasswd/..", "a%00b", "."] {
        let (status, _) = connection.send("PUT", &format!("{base}/{path}"), "x").await;
        assert_eq!(status, 400, "{path}");
    }
    let (status, _) = connection.send("PUT", &format!("{base}/a%20b/c"), "content").await;
    assert_eq!(status, 200);
    let answer = connection.raw("GET", &format!("{base}/a%20b/c"), "", &[]).await;
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"content"[..]));
    assert_eq!(answer.headers()["content-disposition"], "attachment");
    let list = format!("/api/2.0/mlflow-artifacts/artifacts?path=0/{id}/artifacts");
    let (_, answer) = connection.send("GET", &list, "").await;
    assert_eq!(answer["files"], json!([{ "path": "a b", "is_dir": true }]));
    // A page of another origin may not write, as everywhere.
    let origin = [("origin", "http://evil.example")];
    let refused = connection.raw("PUT", &format!("{base}/x"), "x", &origin).await;
    assert_eq!(refused.status(), 403);
    server.stop().await.0.unwrap();
}
