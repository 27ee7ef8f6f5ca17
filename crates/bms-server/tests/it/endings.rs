//! How a server and its slots stop, and how they do not start.

use std::time::{Duration, Instant};

use bms_bundle::Policy;
use bms_server::Settings;
use bms_wire::Code;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Connection, SOON, Server, is_running, launch, write_bundle};
use crate::stand_in::REFUSED_FILE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_requests_are_answered_before_the_server_ends() {
    let server = Server::of_one_bundle(|_| {}).await;
    let address = server.address;
    let mut idle = server.connect().await;
    let pid = idle.send("POST", "/v2/models/m/infer", "{}").await.1["pid"].as_u64().unwrap();
    let gate = server.dir.path().join("open");
    let body = format!(r#"{{"wait_for": {gate:?}}}"#);
    let ask = |_| {
        let body = body.clone();
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await;
            connection.send("POST", "/v2/models/m/infer", &body).await.0
        })
    };
    let open: Vec<_> = (0..20).map(ask).collect();
    server.until_in_flight(20).await;
    let (ending, _dir) = server.begin_stop();
    let began = Instant::now();
    while TcpStream::connect(address).await.is_ok() {
        assert!(began.elapsed() < SOON, "it still accepts connections");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_running(pid), "the slot is there for the open requests");
    std::fs::File::create(gate).unwrap();
    for request in open {
        assert_eq!(request.await.unwrap(), 200);
    }
    ending.await.unwrap().unwrap();
    assert!(!is_running(pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_takes_too_long_does_not_hold_up_the_end() {
    let server = Server::of_one_bundle(|settings| settings.drain = Duration::from_secs(4)).await;
    let mut connection = server.connect().await;
    let pid = connection.send("POST", "/v2/models/m/infer", "{}").await.1["pid"].as_u64().unwrap();
    let open =
        tokio::spawn(
            async move { connection.send("POST", "/v2/models/m/infer", r#"{"sleep_ms": 60000}"#).await },
        );
    server.until_in_flight(1).await;
    let (ended, took) = server.stop().await;
    ended.unwrap();
    assert!(Duration::from_secs(1) <= took && took < Duration::from_secs(10), "{took:?}");
    assert!(open.await.is_err(), "the connection was closed without an answer");
    assert!(!is_running(pid));
}

/// Serves one bundle that cannot be served, and says how that ends.
async fn refused(mode: &str, extra: &[&str], policy: Policy) -> bms_wire::Error {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle");
    write_bundle(&bundle, "m", 1, extra);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings::new(launch(mode), dir.path().join("work"));
    bms_server::serve_one(
        settings,
        bms_server::Place::Bundle(bundle.clone()),
        policy,
        listener,
        std::future::pending(),
    )
    .await
    .unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_the_slot_refuses_is_not_served() {
    let error = refused("serve", &[REFUSED_FILE], Policy::development()).await;
    assert_eq!(error.code(), Code::Tampered, "{error}");
    assert!(error.message().contains("the bytes differ"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_ends_at_once_again_and_again_is_reported() {
    let error = refused("crash", &[], Policy::development()).await;
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains("exit status: 3"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    write_bundle(&dir.path().join("bundle"), "m", 1, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = Settings::new(launch("serve"), dir.path().join("work"));
    settings.launch.program = dir.path().join("absent");
    let bundle = dir.path().join("bundle");
    let served = bms_server::serve_one(
        settings,
        bms_server::Place::Bundle(bundle.clone()),
        Policy::development(),
        listener,
        std::future::pending(),
    );
    let error = served.await.unwrap_err();
    assert!(error.message().contains("absent"), "{error}");
}

#[tokio::test]
async fn addresses_others_can_reach_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let registry = bms_registry::Registry::open(dir.path()).await.unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let settings = Settings::new(launch("serve"), dir.path().join("work"));
    let run = bms_server::run(settings, registry, Policy::development(), listener, std::future::pending());
    assert_eq!(run.await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_do_not_share_a_working_folder() {
    let server = Server::with_registry(|_| {}).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings::new(launch("serve"), server.dir.path().join("work"));
    let registry = server.registry.clone().unwrap();
    let run = bms_server::run(settings, registry, Policy::development(), listener, std::future::pending());
    assert_eq!(run.await.unwrap_err().code(), Code::Conflict);
    server.stop().await.0.unwrap();
}
