//! An agent on a thread of its own, as a process would run it.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bms_bundle::{Policy, SigningKey};
use bms_edge::{Settings, Status};
use bms_engine::EngineOptions;
use bms_nn::onnx::{RuntimeChoice, RuntimeKind};
use bms_wire::Result;
use bms_wire::client::Client;
use bms_wire::oip::InferResponse;
use tokio::sync::oneshot;

use crate::bundles;

/// How long anything here may take.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

pub(crate) fn settings(centre: &str, dir: &Path, key: &SigningKey) -> Settings {
    let policy = Policy::trusting(key.public(), "tests");
    let mut settings = Settings::new("node-1", "small", centre, dir, policy);
    settings.engine =
        EngineOptions { runtime: RuntimeChoice::Fixed(RuntimeKind::Rten), ..EngineOptions::default() };
    settings.report_every = Duration::from_millis(20);
    settings.backoff_max = Duration::from_millis(100);
    // Long enough for any disk here: every answer says whether its samples are queued.
    settings.queue_wait = Duration::from_secs(10);
    settings
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Agent {
    pub(crate) fn start(settings: Settings) -> Agent {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, asked) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                bms_edge::serve(settings, listener, async { drop(asked.await) }).await
            })
        });
        let client = Client::new(&format!("http://{address}")).unwrap();
        Agent { address, client, shutdown: Some(shutdown), thread: Some(thread) }
    }

    pub(crate) fn status(&self) -> Status {
        self.client.get("/api/v1/status").unwrap()
    }

    /// Waits until the status is as wanted.
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + WAIT;
        loop {
            match self.client.get::<Status>("/api/v1/status") {
                Ok(status) if wanted(&status) => return status,
                seen => assert!(Instant::now() < deadline, "waited for {what}, but: {seen:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn wait_for_version(&self, version: u64) -> Status {
        self.wait(&format!("version {version}"), |status| status.version == Some(version))
    }

    pub(crate) fn ask(&self, pictures: &[Vec<u8>]) -> Result<InferResponse> {
        self.client.infer("small", &bundles::question(pictures))
    }

    /// Asks for a shutdown without waiting for it.
    pub(crate) fn begin_shutdown(&mut self) {
        drop(self.shutdown.take());
    }

    /// Shuts down and waits for the end.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.begin_shutdown();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.begin_shutdown();
        if let Some(thread) = self.thread.take() {
            // A test that fails already must not panic again here.
            drop(thread.join());
        }
    }
}

/// The parameter of an answer that says how many of its samples are queued.
pub(crate) fn queued(answer: &InferResponse) -> u64 {
    answer.parameters.get("hard_samples_queued").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// The best label of each row.
pub(crate) fn labels(answer: &InferResponse) -> Vec<String> {
    let output = answer.outputs.iter().find(|output| output.name == "label").unwrap();
    let width = output.shape[1] as usize;
    let labels = output.data.as_array().unwrap().chunks_exact(width);
    labels.map(|row| row[0].as_str().unwrap().to_owned()).collect()
}
