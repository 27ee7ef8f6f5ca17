//! Starting servers and talking to them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bms_bundle::{Lineage, Manifest, Policy};
use bms_nn::onnx::proto::{
    DataType, GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use bms_registry::Registry;
use bms_server::{Launch, Settings};
use bms_wire::api::{ChangeScale, FileRef, NewVersion, SetDeployment};
use bms_wire::client::Client;
use bms_wire::{Code, Pipeline, Postprocess, Preprocess, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{stand_in, stand_in_engine};

/// How long anything may take that should happen at once, on a machine that is busy with other things.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Slots that are stand-ins.
pub(crate) fn launch(mode: &str) -> Launch {
    let mut launch = Launch::new(std::env::current_exe().unwrap(), std::iter::empty());
    launch.args = stand_in::ARGS.map(Into::into).to_vec();
    launch.keeper_args = stand_in_engine::KEEPER.map(Into::into).to_vec();
    // These do nothing for as long as a test needs.
    launch.hung_after = Duration::from_secs(10);
    launch.environment = vec![(stand_in::VARIABLE.into(), mode.into())];
    launch
}

/// Slots that load and run the model.
pub(crate) fn real_launch() -> Launch {
    launch("real")
}

/// A policy that loads graphs in slots which are not wholly confined: those of these tests have the harness's own thread
/// beside them.
pub(crate) fn unconfined(policy: Policy) -> Policy {
    Policy { confine: Vec::new(), ..policy }
}

/// A folder of its own, and settings that were changed.
fn prepared(change: impl FnOnce(&mut Settings)) -> (TempDir, Settings) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&dir);
    change(&mut settings);
    (dir, settings)
}

fn settings(dir: &TempDir) -> Settings {
    Settings::new(launch("serve"), dir.path().join("work"))
}

/// Whether a status and a body are what is waited for.
type Wanted<'a> = Box<dyn Fn(u16, &Value) -> bool + Send + 'a>;

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Option<Registry>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<()>>,
    pub(crate) dir: TempDir,
}

impl Server {
    /// One that serves a bundle named `m` without a registry.
    pub(crate) fn of_one_bundle(change: impl FnOnce(&mut Settings)) -> impl Future<Output = Server> {
        let (dir, settings) = prepared(change);
        write_bundle(&dir.path().join("bundle"), "m", 1, &[]);
        Server::start(dir, None, settings)
    }

    /// One that serves a language model named `m` without a registry.
    pub(crate) fn of_a_language_model(change: impl FnOnce(&mut Settings)) -> impl Future<Output = Server> {
        Server::of_one_bundle(|settings| {
            settings.launch = launch("language");
            change(settings);
        })
    }

    /// One with a registry, empty at first.
    pub(crate) fn with_registry(change: impl FnOnce(&mut Settings)) -> impl Future<Output = Server> {
        let (dir, settings) = prepared(change);
        Server::start_with_registry(dir, settings)
    }

    /// One with the registry an earlier server left.
    pub(crate) async fn again(dir: TempDir) -> Server {
        Server::again_as(dir, |_| {}).await
    }

    /// The same, with settings that were changed.
    pub(crate) async fn again_as(dir: TempDir, change: impl FnOnce(&mut Settings)) -> Server {
        let mut settings = settings(&dir);
        change(&mut settings);
        Server::start_with_registry(dir, settings).await
    }

    async fn start_with_registry(dir: TempDir, settings: Settings) -> Server {
        let registry = Registry::open(&dir.path().join("registry")).await.unwrap();
        Server::start(dir, Some(registry), settings).await
    }

    async fn start(dir: TempDir, registry: Option<Registry>, settings: Settings) -> Server {
        let is_plain = settings.tls.is_none();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { stopped.await.unwrap_or_default() };
        let policy = unconfined(Policy::development());
        let task = tokio::spawn(match registry.clone() {
            Some(registry) => bms_server::run(settings, registry, policy, listener, shutdown),
            None => {
                let bundle = bms_server::Place::Bundle(dir.path().join("bundle"));
                bms_server::serve_one(settings, bundle, policy, listener, shutdown)
            }
        });
        let server = Server { address, registry, stop, task, dir };
        if is_plain {
            server.until("/v2/health/ready", |status, _| status == 200).await;
        }
        server
    }

    /// Asks it to stop; the time it took until it had.
    pub(crate) async fn stop(self) -> (Result<()>, Duration) {
        let began = Instant::now();
        self.stop.send(()).unwrap();
        (self.task.await.unwrap(), began.elapsed())
    }

    /// Asks it to stop and does not wait.
    pub(crate) fn begin_stop(self) -> (JoinHandle<Result<()>>, TempDir) {
        self.stop.send(()).unwrap();
        (self.task, self.dir)
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.connect().await.send("GET", path, "").await
    }

    pub(crate) async fn infer(&self, body: &str) -> (u16, Value) {
        self.connect().await.send("POST", "/v2/models/m/infer", body).await
    }

    /// The text of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let response = self.connect().await.raw("GET", "/metrics", Bytes::new(), &[]).await;
        assert_eq!(response.status(), 200);
        String::from_utf8(response.into_body().to_vec()).unwrap()
    }

    /// Waits until that many requests are in flight.
    pub(crate) async fn until_in_flight(&self, requests: usize) {
        let wanted = format!("bms_requests_in_flight{{model=\"m\"}} {requests}\n");
        let began = Instant::now();
        while !self.metrics().await.contains(&wanted) {
            assert!(began.elapsed() < SOON, "{}", self.metrics().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks again and again until the answer is as wanted.
    pub(crate) fn until<'a>(
        &'a self,
        path: &'a str,
        wanted: impl Fn(u16, &Value) -> bool + Send + 'a,
    ) -> impl Future<Output = Value> + 'a {
        // Compiled once, whatever is waited for.
        self.until_it_is(path, Box::new(wanted))
    }

    async fn until_it_is(&self, path: &str, wanted: Wanted<'_>) -> Value {
        let began = Instant::now();
        loop {
            let (status, body) = self.get(path).await;
            if wanted(status, &body) {
                return body;
            }
            assert!(began.elapsed() < SOON, "{path} still answers {status} {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs `work` with the blocking client.
    pub(crate) async fn client<T: Send + 'static>(
        &self,
        work: impl FnOnce(Client) -> T + Send + 'static,
    ) -> T {
        let client = Client::new(&format!("http://{}", self.address)).unwrap();
        tokio::task::spawn_blocking(move || work(client)).await.unwrap()
    }

    /// Publishes a bundle of model `m` under `aliases`, over HTTP; the number of the version.
    pub(crate) async fn publish(&self, marker: i64, aliases: &[&str], extra: &[&str]) -> Result<u64> {
        let folder = self.dir.path().join(format!("published-{marker}"));
        write_bundle(&folder, "m", marker, extra);
        self.upload("m", folder, aliases).await
    }

    /// Publishes a bundle of another model as `production`, and deploys it as it is said.
    pub(crate) async fn deploy_model(&self, name: &'static str, scale: ChangeScale) {
        let folder = self.dir.path().join(format!("published-{name}"));
        write_bundle(&folder, name, 1, &[]);
        self.upload(name, folder, &["production"]).await.unwrap();
        let set = SetDeployment { scale: Some(scale), ..SetDeployment::of("production") };
        self.client(move |client| client.set_deployment(name, &set)).await.unwrap();
    }

    /// Publishes a bundle of model `m` that adds `sum` to its input of this name.
    pub(crate) async fn publish_adding(&self, marker: i64, input: &str, sum: f32, aliases: &[&str]) -> u64 {
        let folder = self.dir.path().join(format!("published-{marker}"));
        write_adding(&folder, "m", marker, &[], input, sum);
        self.upload("m", folder, aliases).await.unwrap()
    }

    /// Another server on the same registry, with slots of its own.
    pub(crate) async fn beside(&self) -> Server {
        let registry = Registry::open(&self.dir.path().join("registry")).await.unwrap();
        let (dir, settings) = prepared(|_| {});
        Server::start(dir, Some(registry), settings).await
    }

    /// Publishes the bundle that was published with this marker once more.
    pub(crate) async fn publish_again(&self, marker: i64) -> Result<u64> {
        self.upload("m", self.dir.path().join(format!("published-{marker}")), &[]).await
    }

    pub(crate) async fn upload(&self, name: &'static str, folder: PathBuf, aliases: &[&str]) -> Result<u64> {
        let aliases: Vec<String> = aliases.iter().map(ToString::to_string).collect();
        self.client(move |client| {
            let mut files = Vec::new();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                let bytes = std::fs::read(entry.path()).unwrap();
                let (size, blake3) = (bytes.len() as u64, bms_bundle::FileEntry::of("", &bytes).blake3);
                client.put_blob(&blake3, &bytes[..], size)?;
                files.push(FileRef { path: entry.file_name().into_string().unwrap(), size, blake3 });
            }
            Ok(client.publish(name, &NewVersion { files, aliases })?.version)
        })
        .await
    }
}

/// A kept-alive connection to a server.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver);
        Connection { sender, host: address.to_string() }
    }

    pub(crate) async fn raw(
        &mut self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> Response<Bytes> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", &self.host);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let response = self.raw(method, path, body.to_owned(), &[]).await;
        let status = response.status().as_u16();
        let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        (status, body)
    }
}

/// The code of an error's body.
pub(crate) fn code(body: &Value) -> Option<Code> {
    Code::from_wire(body["code"].as_str()?)
}

/// Whether a process exists and has not ended.
pub(crate) fn is_running(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .is_some_and(|state| state != "Z")
}

/// Sends a process a signal.
pub(crate) fn signal(pid: u64, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
    if signal == rustix::process::Signal::STOP {
        // Each thread stops by itself, and may answer a request before it does.
        let is_stopped = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
        let began = Instant::now();
        let all_stopped = || {
            let mut tasks = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
            tasks.all(|task| is_stopped(&std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap()))
        };
        while !all_stopped() {
            assert!(began.elapsed() < SOON);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A bundle whose model adds one; `marker` tells bundles apart.
pub(crate) fn write_bundle(dir: &Path, name: &str, marker: i64, extra: &[&str]) {
    write_adding(dir, name, marker, extra, "x", 1.0);
}

fn write_adding(dir: &Path, name: &str, marker: i64, extra: &[&str], input: &str, sum: f32) {
    let tensor = |name: &str| bms_bundle::TensorInfo {
        name: name.to_owned(),
        dtype: "f32".to_owned(),
        shape: vec![None, Some(2)],
    };
    let manifest = Manifest {
        schema: 1,
        name: name.to_owned(),
        task: "tensor".to_owned(),
        model: "model.onnx".to_owned(),
        inputs: vec![tensor(input)],
        outputs: vec![tensor("y")],
        pipeline: Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} },
        metrics: Vec::new(),
        lineage: Lineage::default(),
        precision: "fp32".to_owned(),
        licence: None,
        created_ms: marker,
        sealed: None,
        files: Vec::new(),
    };
    let mut files = vec![("model.onnx".to_owned(), model(input, sum))];
    files.extend(extra.iter().map(|path| (path.to_string(), b"said so\n".to_vec())));
    bms_bundle::write(dir, manifest, files).unwrap();
}

/// `y = x + sum`, for f32 tensors of shape `[rows, 2]`.
fn model(input: &str, sum: f32) -> Vec<u8> {
    let x = |name| ValueInfoProto::tensor(name, DataType::Float, &[Err("rows"), Ok(2)]);
    let graph = GraphProto {
        node: vec![NodeProto::new("Add", "add", &[input, "sum"], &["y"])],
        name: Some("increment".into()),
        initializer: vec![TensorProto::f32("sum", &[1], &[sum])],
        input: vec![x(input)],
        output: vec![x("y")],
        ..GraphProto::default()
    };
    ModelProto::new(graph, 17).encode_to_vec()
}
