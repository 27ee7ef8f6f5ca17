//! Streams of a real language model whose slot is killed under them, again and again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bms_bundle::Policy;
use bms_server::{Place, Settings};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::{Connection, SOON, launch, signal};
use crate::random_model::{self, Size};

/// A server of one random model.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<bms_wire::Result<()>>,
    model: PathBuf,
    _dir: tempfile::TempDir,
}

impl Served {
    pub(crate) async fn start(size: Size, change: impl FnOnce(&mut Settings)) -> Served {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model.gguf");
        random_model::write(&model, size);
        Served::of(dir, model, |settings| {
            settings.launch.language.context = Some(size.context as usize);
            change(settings);
        })
        .await
    }

    async fn of(dir: tempfile::TempDir, model: PathBuf, change: impl FnOnce(&mut Settings)) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut settings = Settings::new(launch("real"), dir.path().join("work"));
        change(&mut settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let place = Place::Bare { path: model.clone(), name: "m".to_owned() };
        let serving = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or_default() };
            bms_server::serve_one(settings, place, Policy::development(), listener, shutdown).await
        });
        let served = Served { address, stop, serving, model, _dir: dir };
        let began = Instant::now();
        while served.get("/v2/health/ready").await.0 != 200 {
            assert!(began.elapsed() < SOON, "it does not get ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        served
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        Connection::open(self.address).await.send("GET", path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        Connection::open(self.address).await.send("POST", path, &body.to_string()).await
    }

    pub(crate) async fn metrics(&self) -> String {
        let answer = Connection::open(self.address).await.raw("GET", "/metrics", "", &[]).await;
        String::from_utf8(answer.into_body().to_vec()).unwrap()
    }

    /// The process of the slot.
    pub(crate) fn slot(&self) -> Option<u64> {
        process_of(&self.model)
    }

    pub(crate) async fn end(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(SOON, self.serving).await.unwrap().unwrap().unwrap();
    }

    /// A number of the metrics.
    async fn number(&self, name: &str) -> u64 {
        let metrics = self.metrics().await;
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// The events of a stream. `each` is told how many have come.
    async fn stream(&self, path: &str, body: &Value, mut each: impl FnMut(usize)) -> Vec<Value> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.0\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut text, mut part, mut told) = (Vec::new(), [0; 4096], 0);
        let (mut came, mut longest) = (Instant::now(), Duration::ZERO);
        loop {
            let n = tokio::time::timeout(3 * SOON, stream.read(&mut part)).await.unwrap().unwrap();
            if n == 0 {
                break;
            }
            longest = longest.max(came.elapsed());
            came = Instant::now();
            text.extend_from_slice(&part[..n]);
            let events = text.windows(2).filter(|pair| pair == b"\n\n").count();
            (told + 1..=events).for_each(&mut each);
            told = events;
        }
        eprintln!("longest time without an event: {} ms", longest.as_millis());
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with("HTTP/1.") && text.contains(" 200 OK\r\n") && !text.contains(": bms"),
            "{text}"
        );
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// The process that was started with this model.
fn process_of(model: &Path) -> Option<u64> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()).find(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(1));
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let names_model = line.split(|b| *b == 0).any(|arg| arg == model.as_os_str().as_encoded_bytes());
        parent == Some(&own) && names_model && crate::harness::is_running(*pid)
    })
}

/// What a client puts together of a stream: text, log-probabilities, why it ended, and the tokens counted. How many of
/// these come in one event is a matter of speed.
fn together(events: &[Value]) -> (String, Vec<Value>, Vec<Value>, Value) {
    let choices = || events.iter().filter_map(|event| event["choices"].get(0));
    let text = choices().filter_map(|c| c["delta"]["content"].as_str().or(c["text"].as_str())).collect();
    let scores = choices().filter_map(|c| c["logprobs"]["content"].as_array()).flatten().cloned().collect();
    let ends = choices().map(|c| c["finish_reason"].clone()).filter(|reason| !reason.is_null()).collect();
    let mut usage = events.last().unwrap()["usage"].clone();
    // What of the prompt was computed already is another matter in a fresh slot.
    usage.as_object_mut().map(|usage| usage.remove("prompt_tokens_details"));
    (text, scores, ends, usage)
}

const SIZE: Size = Size { width: 256, layers: 4, context: 8192 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_however_often_its_slot_is_killed() {
    let served = Served::start(SIZE, |_| {}).await;
    let messages = json!([{ "role": "user", "content": "Tell me something of length." }]);
    let chat = json!({ "model": "m", "messages": messages, "stream": true, "temperature": 1, "seed": 7,
        "frequency_penalty": 0.3, "logprobs": true, "top_logprobs": 1, "ignore_eos": true, "max_tokens": 1500,
        "stream_options": { "include_usage": true } });
    let text = json!({ "model": "m", "prompt": "Once upon a time", "stream": true, "temperature": 0,
        "repetition_penalty": 1.1, "ignore_eos": true, "max_tokens": 1500,
        "stream_options": { "include_usage": true } });
    let mut killed = 0;
    for (path, body) in [("/v1/chat/completions", chat), ("/v1/completions", text)] {
        let whole = served.stream(path, &body, |_| {}).await;
        let kill = |events: usize| {
            if events % 250 == 100 && events < 900 {
                // When the last one is not even back there is none.
                if let Some(slot) = served.slot() {
                    signal(slot, Signal::KILL);
                    killed += 1;
                }
            }
        };
        let cut = served.stream(path, &body, kill).await;
        let name =
            |events: &[Value]| (events[0]["id"].clone(), events.iter().all(|e| e["id"] == events[0]["id"]));
        assert!(name(&cut).1 && name(&cut).0 != name(&whole).0, "it is one answer");
        let (cut, whole) = (together(&cut), together(&whole));
        assert_eq!((&cut.0, &cut.2, &cut.3), (&whole.0, &whole.2, &whole.3));
        assert_eq!(cut.1, whole.1);
        assert_eq!(cut.3["completion_tokens"], 1500);
    }
    assert!(4 <= killed, "{killed} slots were killed");
    assert!(4 <= served.number("bms_stream_continuations_total{model=\"m\"}").await);
    assert!(4 <= served.number("bms_slot_restarts_total{model=\"m\",reason=\"ended\",version=\"1\"}").await);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_tell_a_slot_where_to_go_on() {
    let served = Served::start(Size { width: 64, layers: 1, context: 256 }, |_| {}).await;
    let body = json!({ "model": "m", "prompt": "x", "max_tokens": 3 }).to_string();
    for header in ["x-bms-continues", "x-bms-continuable"] {
        let mut connection = Connection::open(served.address).await;
        let answer = connection.raw("POST", "/v1/completions", body.clone(), &[(header, "1")]).await;
        assert_eq!(answer.status(), 400, "{header}");
    }
    assert_eq!(served.post("/v1/completions", &serde_json::from_str(&body).unwrap()).await.0, 200);
    served.end().await;
}

/// `BMS_SMOLLM2` names SmolLM2 as a GGUF file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_the_world_goes_on() {
    let Some(path) = std::env::var_os("BMS_SMOLLM2") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "BMS_SMOLLM2 must be set in CI; `cargo xtask fixtures` gets it"
        );
        eprintln!("SKIPPED: no language model was killed, because BMS_SMOLLM2 is not set");
        return;
    };
    let served = Served::of(tempfile::tempdir().unwrap(), path.into(), |settings| {
        settings.launch.threads = Some(2);
        settings.launch.language.context = Some(2048);
    })
    .await;
    let messages = json!([{ "role": "user", "content": "Write a story about a lighthouse." }]);
    for (temperature, seed) in [(0.0, 1), (0.8, 2), (1.0, 3)] {
        let ask = json!({ "model": "m", "messages": messages, "stream": true, "temperature": temperature,
            "seed": seed, "max_tokens": 160, "ignore_eos": true });
        let whole = served.stream("/v1/chat/completions", &ask, |_| {}).await;
        let before = served.number("bms_stream_continuations_total{model=\"m\"}").await;
        let kill = |events: usize| {
            if [30, 80].contains(&events)
                && let Some(slot) = served.slot()
            {
                signal(slot, Signal::KILL);
            }
        };
        let cut = served.stream("/v1/chat/completions", &ask, kill).await;
        assert!(before < served.number("bms_stream_continuations_total{model=\"m\"}").await);
        assert_eq!(together(&cut).0, together(&whole).0, "at temperature {temperature}");
    }
    served.end().await;
}
