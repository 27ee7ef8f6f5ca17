//! Workers by the library, and what their own policies say while their slots run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bms_bundle::{Policy, Revocation, SigningKey};
use bms_registry::Registry;
use bms_server::{JoinSettings, Nodes, Settings};
use bms_wire::Result;
use bms_wire::api::{NewJoinToken, Worker as Seen};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::{SOON, Server, real_launch, unconfined, write_bundle};
use crate::lost::Load;

/// A worker of this very process.
pub(crate) struct Worker {
    stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<Result<()>>,
}

impl Worker {
    /// Joins, and waits until the centre has heard of it.
    pub(crate) async fn join(settings: JoinSettings) -> Result<Worker> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or_default() };
        let task = tokio::spawn(bms_server::join(settings, listener, shutdown, |_, _| {
            let _ = ready.send(());
        }));
        match is_ready.await {
            Ok(()) => Ok(Worker { stop, task }),
            Err(_) => Err(task.await.unwrap().unwrap_err()),
        }
    }

    pub(crate) async fn leave(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) fn settings(data: &Path, name: &str, token: Option<String>, policy: Policy) -> JoinSettings {
    JoinSettings {
        name: Some(name.to_owned()),
        usual_name: None,
        token,
        address: None,
        data: data.to_owned(),
        memory_bytes: 2 << 30,
        cores: 4,
        labels: BTreeMap::new(),
        until: None,
        margin: Duration::from_secs(60),
        launch: real_launch(),
        policy: unconfined(policy),
        policy_file: None,
    }
}

/// Settings of a server that workers join.
fn centre(nodes: SocketAddr, authority: PathBuf) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.launch = real_launch();
        settings.nodes = Some(Nodes::new(nodes, authority));
    }
}

async fn server(dir: &Path) -> Server {
    Server::with_registry(centre("127.0.0.1:0".parse().unwrap(), dir.join("ca"))).await
}

pub(crate) async fn token(server: &Server) -> Option<String> {
    let new = NewJoinToken { uses: 1, seconds: 60, labels: BTreeMap::new() };
    Some(server.client(move |client| client.create_join_token(&new)).await.unwrap().token)
}

/// Publishes a model that the key signs, and deploys it.
pub(crate) async fn deploy(server: &Server, key: &SigningKey) {
    let folder = server.dir.path().join("signed");
    write_bundle(&folder, "m", 1, &[]);
    bms_bundle::sign_dir(&folder, key).unwrap();
    server.upload("m", folder, &["production"]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
}

/// Waits until the model's slot is ready on this worker, or on the centre itself.
pub(crate) async fn until_at(server: &Server, worker: Option<&str>) {
    let is_there = |overview: &Value| {
        let slots = overview["slots"].as_array().unwrap();
        slots.len() == 1 && slots[0]["state"] == "ready" && slots[0]["worker"].as_str() == worker
    };
    server.until("/api/v1/overview", |status, overview| status == 200 && is_there(overview)).await;
}

fn load(server: &Server) -> Load {
    let inputs = json!([{ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0] }]);
    Load::of_answers(server, 2, json!({ "inputs": inputs }).to_string(), |answer| {
        assert_eq!(answer["outputs"][0]["data"], json!([2.0, 3.0]));
        (0, 1)
    })
}

pub(crate) async fn until_seen(registry: &Registry, wanted: impl Fn(&Seen) -> bool) -> Seen {
    let began = Instant::now();
    loop {
        let workers = registry.workers().await.unwrap();
        if let Some(seen) = workers.iter().find(|worker| wanted(worker)) {
            return seen.clone();
        }
        assert!(began.elapsed() < SOON, "{workers:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn audited(registry: &Registry, action: &str) -> usize {
    let events = registry.audit_events(0, 1000).await.unwrap();
    events.iter().filter(|event| event.action == action).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_revoked_on_a_worker_ends_its_slots_there_and_fails_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path()).await;
    let registry = server.registry.clone().unwrap();
    let key = SigningKey::generate();
    let trusting = unconfined(Policy::trusting(key.public(), "me"));
    let file = dir.path().join("policy.toml");
    trusting.save(&file).unwrap();
    let joining = settings(&dir.path().join("w"), "w", token(&server).await, trusting.clone());
    let worker = Worker::join(JoinSettings { policy_file: Some(file.clone()), ..joining }).await.unwrap();
    deploy(&server, &key).await;
    until_at(&server, Some("w")).await;
    let load = load(&server);
    load.more(50).await;

    let at_ms = 1_700_000_000_000;
    let revocation =
        Revocation { key: key.key_id().to_owned(), reason: "the laptop was stolen".to_owned(), at_ms };
    Policy { revoked: vec![revocation], ..trusting.clone() }.save(&file).unwrap();
    // Its word: the slot does not serve, and why.
    let refused = |worker: &Seen| {
        let slot = worker.report.slots.first();
        let problem = slot.and_then(|slot| slot.problem.as_deref());
        slot.is_some_and(|slot| slot.state.as_str() == "refused")
            && problem.is_some_and(|why| why.contains("the laptop was stolen"))
    };
    until_seen(&registry, refused).await;
    until_at(&server, None).await;
    load.more(50).await;
    let seen = until_seen(&registry, |worker| worker.report.slots.is_empty()).await;
    let refusal = &seen.report.refused[0];
    assert_eq!((refusal.model.as_str(), refusal.version), ("m", 1));
    assert!(refusal.why.contains("the laptop was stolen"), "{refusal:?}");

    // Nothing is tried again.
    let placed = registry.placements().await.unwrap().0;
    assert_eq!((placed.len(), placed[0].worker.as_deref()), (1, None));
    assert!(placed[0].why.contains("it refuses the version"), "{placed:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(registry.placements().await.unwrap().0, placed);
    assert_eq!(audited(&registry, "worker.refused").await, 1);
    assert!(registry.quarantined().await.unwrap().is_empty(), "the centre's own policy trusts it");

    // The policy is mended: the slot comes back.
    trusting.save(&file).unwrap();
    until_at(&server, Some("w")).await;
    load.more(50).await;
    load.end().await;
    worker.leave().await;
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_worker_refuses_another_takes() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path()).await;
    let registry = server.registry.clone().unwrap();
    let (key, other) = (SigningKey::generate(), SigningKey::generate());
    let strict = Policy::trusting(other.public(), "somebody");
    let strict = settings(&dir.path().join("strict"), "strict", token(&server).await, strict);
    // The fuller one is asked first.
    let strict = Worker::join(JoinSettings { memory_bytes: 1 << 30, ..strict }).await.unwrap();
    let open = settings(&dir.path().join("open"), "open", token(&server).await, Policy::development());
    let open = Worker::join(open).await.unwrap();
    deploy(&server, &key).await;
    until_at(&server, Some("open")).await;
    let seen = until_seen(&registry, |worker| worker.name == "strict").await;
    assert!(seen.report.refused[0].why.contains("not on the allow-list"), "{seen:?}");
    assert_eq!(audited(&registry, "worker.refused").await, 1);
    open.leave().await;
    until_at(&server, None).await;
    strict.leave().await;
    server.stop().await.0.unwrap();
}
