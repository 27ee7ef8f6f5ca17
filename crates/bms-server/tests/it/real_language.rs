//! Language models of the world, in real slots.
//!
//! `BMS_SMOLLM2` names SmolLM2 as a GGUF file, `BMS_MINILM` the folder of all-MiniLM-L6-v2.

use std::path::PathBuf;
use std::time::Duration;

use bms_bundle::Policy;
use bms_server::{Place, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::{Connection, launch};

fn fixture(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name);
    assert!(
        path.is_some() || std::env::var_os("CI").is_none(),
        "{name} must be set in CI; `cargo xtask fixtures` gets it"
    );
    if path.is_none() {
        eprintln!("SKIPPED: no language model was served, because {name} is not set");
    }
    path.map(PathBuf::from)
}

struct Served {
    connection: Connection,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<bms_wire::Result<()>>,
    _dir: tempfile::TempDir,
}

/// Serves a model that is no bundle.
async fn serve(path: PathBuf) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = Settings::new(launch("real"), dir.path().join("work"));
    settings.launch.threads = Some(2);
    settings.launch.language.context = Some(512);
    let (stop, stopped) = oneshot::channel::<()>();
    let place = Place::Bare { path, name: "m".to_owned() };
    let serving = tokio::spawn(async move {
        let shutdown = async { stopped.await.unwrap_or_default() };
        bms_server::serve_one(settings, place, Policy::development(), listener, shutdown).await
    });
    let connection = Connection::open(address).await;
    Served { connection, stop, serving, _dir: dir }
}

impl Served {
    async fn post(&mut self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.connection.send("POST", path, &body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(30), self.serving).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gguf_file_is_served_where_it_lies() {
    let Some(path) = fixture("BMS_SMOLLM2") else { return };
    let mut served = serve(path).await;
    let ask =
        json!({ "model": "m", "prompt": "The capital of France is", "temperature": 0, "max_tokens": 8 });
    let answer = served.post("/v1/completions", &ask).await;
    assert!(answer["choices"][0]["text"].as_str().unwrap().contains("Paris"), "{answer}");
    let question = json!([{ "role": "user", "content": "What is the capital of France?" }]);
    let ask = json!({ "model": "m", "messages": question, "temperature": 0, "max_tokens": 16 });
    let answer = served.post("/v1/chat/completions", &ask).await;
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(!said.is_empty(), "{answer}");

    let mut streaming = ask.clone();
    streaming["stream"] = json!(true);
    let answer = served.connection.raw("POST", "/v1/chat/completions", streaming.to_string(), &[]).await;
    let text = String::from_utf8(answer.into_body().to_vec()).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let pieces = text.split("\n\n").filter_map(|event| event.strip_prefix("data: {"));
    let pieces = pieces.map(|piece| serde_json::from_str::<Value>(&format!("{{{piece}")).unwrap());
    let streamed: String = pieces
        .filter_map(|piece| Some(piece["choices"].get(0)?["delta"]["content"].as_str()?.to_owned()))
        .collect();
    // Not word for word the same: what is known of the prompt is not computed again, so sums round elsewhere.
    assert!(!streamed.is_empty() && streamed.chars().next() == said.chars().next(), "{streamed}");

    let tokens = served.post("/tokenize", &json!({ "model": "m", "prompt": "Hello world" })).await;
    let text = served.post("/detokenize", &json!({ "model": "m", "tokens": tokens["tokens"] })).await;
    assert_eq!(text["prompt"], "Hello world");
    let (_, models) = served.connection.send("GET", "/v1/models", "").await;
    assert_eq!((&models["data"][0]["id"], &models["data"][0]["max_model_len"]), (&json!("m"), &json!(512)));
    let (status, body) = served.connection.send("POST", "/v2/models/m/infer", "{}").await;
    assert_eq!((status, body["code"].as_str()), (400, Some("invalid_request")), "{body}");
    let metrics = served.connection.raw("GET", "/metrics", "", &[]).await.into_body();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(
        metrics.contains(r#"bms_llm_time_to_first_token_seconds_count{model="m",version="1"} 3"#),
        "{metrics}"
    );
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_an_embedder_is_served_where_it_lies() {
    let Some(path) = fixture("BMS_MINILM") else { return };
    let mut served = serve(path).await;
    let texts = json!(["A cat sits on the mat.", "A kitten rests on the rug.", "Interest rates rose again."]);
    let answer = served.post("/v1/embeddings", &json!({ "model": "m", "input": texts })).await;
    let vectors: Vec<Vec<f64>> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect())
        .collect();
    let product = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(x, y)| x * y).sum::<f64>();
    assert_eq!(vectors[0].len(), 384);
    assert!((product(0, 0) - 1.0).abs() < 1e-3);
    assert!(product(0, 2) + 0.3 < product(0, 1), "{} {}", product(0, 1), product(0, 2));
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] }).to_string();
    let (status, body) = served.connection.send("POST", "/v1/chat/completions", &body).await;
    assert!((400..500).contains(&status), "{status} {body}");
    served.end().await;
}
