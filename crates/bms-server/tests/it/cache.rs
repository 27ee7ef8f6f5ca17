//! Answers that are kept: asked once, per version and caller, as long as they are good, and never failures.

use std::time::Duration;

use bms_server::CacheSettings;
use bytes::Bytes;
use http::Response;

use crate::harness::Server;

async fn serving(age: Duration) -> Server {
    let server = Server::with_registry(|settings| {
        settings.cache = Some(CacheSettings { memory: 8 << 20, age, models: Vec::new() });
    })
    .await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    server
}

async fn ask(
    server: &Server,
    body: &'static str,
    headers: &[(&str, &str)],
) -> (u16, String, Response<Bytes>) {
    let answer = server.connect().await.raw("POST", "/v2/models/m/infer", body, headers).await;
    let cached = answer.headers().get("x-bms-cache").map_or("", |value| value.to_str().unwrap()).to_owned();
    (answer.status().as_u16(), cached, answer)
}

/// Requests its slots were asked.
async fn asked(server: &Server) -> u64 {
    let slots = server.get("/api/v1/slots").await.1;
    slots.as_array().unwrap().iter().map(|slot| slot["requests"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_requests_are_asked_once_also_at_the_same_time() {
    let server = serving(Duration::from_secs(600)).await;
    let before = asked(&server).await;
    let all = (0..8).map(|_| ask(&server, r#"{"sleep_ms": 200}"#, &[]));
    let answers = futures_util::future::join_all(all).await;
    let misses = answers.iter().filter(|(_, cached, _)| cached == "miss").count();
    let hits =
        answers.iter().filter(|(status, cached, _)| (*status, cached.as_str()) == (200, "hit")).count();
    assert_eq!((misses, hits), (1, 7));
    assert!(answers.iter().all(|(.., answer)| answer.body() == answers[0].2.body()));
    assert_eq!(asked(&server).await, before + 1);
    let (_, other, _) = ask(&server, r#"{"sleep_ms": 1}"#, &[]).await;
    assert_eq!(other, "miss", "another body is another request");
    let (_, own, _) = ask(&server, r#"{"sleep_ms": 200}"#, &[("cache-control", "no-cache")]).await;
    assert_eq!(own, "", "whoever wants an own answer gets one");
    assert_eq!(asked(&server).await, before + 3);
    let metrics = server.metrics().await;
    assert!(metrics.contains("bms_cache_requests_total{model=\"m\",outcome=\"hit\"} 7"), "{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_of_its_version_and_a_failure_is_not_kept() {
    let server = serving(Duration::from_secs(600)).await;
    for _ in 0..2 {
        let (status, cached, answer) = ask(&server, r#"{"status": 400}"#, &[]).await;
        assert_eq!((status, cached.as_str()), (400, "miss"), "{:?}", answer.body());
    }
    assert_eq!(ask(&server, "{}", &[]).await.1, "miss");
    let (_, cached, first) = ask(&server, "{}", &[]).await;
    assert_eq!(cached, "hit");
    server.publish(2, &["production"], &[]).await.unwrap();
    server.until("/v2/models/m", |_, body| body["versions"] == serde_json::json!(["2"])).await;
    let (status, cached, second) = ask(&server, "{}", &[]).await;
    assert_eq!((status, cached.as_str()), (200, "miss"));
    assert_ne!(first.body(), second.body());
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_answer_is_asked_for_again() {
    let server = serving(Duration::from_millis(1)).await;
    for _ in 0..2 {
        assert_eq!(ask(&server, "{}", &[]).await.1, "miss");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await.0.unwrap();
}
