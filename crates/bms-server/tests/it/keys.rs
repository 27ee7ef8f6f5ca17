//! Keys of callers on a running server.

use std::time::Duration;

use bms_registry::MonitorKey;
use bms_server::{KeySettings, KeysMode};
use bms_wire::Code;
use bms_wire::api::{NewKey, Quota, Role, SetKey};
use bms_wire::client::ServerKey;

use crate::harness::{SOON, Server, code};

/// How soon a key that was revoked elsewhere counts no more, as documented.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

/// A server whose model `m` answers, and the secret of its admin's key.
async fn with_a_model() -> (Server, String) {
    let server = Server::with_registry(|_| {}).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    let admin = server.client(|client| client.create_key(&new("root", Role::Admin, SetKey::default()))).await;
    (server, admin.unwrap().secret)
}

fn new(name: &str, role: Role, limits: SetKey) -> NewKey {
    NewKey { name: name.to_owned(), role, limits }
}

async fn made(server: &Server, admin: &str, key: NewKey) -> String {
    let admin = ServerKey::new(admin).unwrap();
    server.client(move |client| client.with_key(Some(admin)).create_key(&key)).await.unwrap().secret
}

/// The answer to a request for inference with this key, and its headers.
async fn infer(server: &Server, key: &str) -> http::Response<bytes::Bytes> {
    server.connect().await.raw("POST", "/v2/models/m/infer", "{}", &[("x-api-key", key)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_there_is_a_key_every_request_needs_one_that_may() {
    let (server, admin) = with_a_model().await;
    let user = made(&server, &admin, new("a", Role::User, SetKey::default())).await;
    let bearer = format!("Bearer {user}");
    let mut connection = server.connect().await;
    let (status, body) = connection.send("POST", "/v2/models/m/infer", "{}").await;
    assert_eq!((status, code(&body)), (401, Some(Code::Unauthenticated)));
    let (status, body) = connection.send("POST", "/v1/chat/completions", "{}").await;
    assert_eq!((status, &body["error"]["type"]), (401, &"authentication_error".into()), "{body}");
    for open in ["/v2/health/live", "/v2/health/ready", "/", "/key.js"] {
        assert_eq!(connection.raw("GET", open, "", &[]).await.status(), 200, "{open}");
    }
    for closed in ["/metrics", "/v2/models/m", "/api/v1/overview", "/api/v1/keys", "/nothing"] {
        assert_eq!(connection.send("GET", closed, "").await.0, 401, "{closed}");
    }
    for header in [("authorization", bearer.as_str()), ("x-api-key", user.as_str())] {
        let answered = connection.raw("POST", "/v2/models/m/infer", "{}", &[header]).await;
        assert_eq!(answered.status(), 200);
        assert_eq!(connection.raw("GET", "/metrics", "", &[header]).await.status(), 200);
        let refused = connection.raw("PUT", "/api/v1/deployments/m", "{}", &[header]).await;
        assert_eq!(refused.status(), 403);
    }
    let call = [("x-api-key", "wrong"), ("content-type", "application/grpc"), ("te", "trailers")];
    let refused = connection.raw("POST", "/inference.GRPCInferenceService/ModelInfer", "", &call).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["grpc-status"].to_str().unwrap()), (200, "16"));
    let call = [("x-api-key", user.as_str()), ("content-type", "application/grpc"), ("te", "trailers")];
    let load = "/inference.GRPCInferenceService/RepositoryModelLoad";
    for path in [load.to_owned(), load.replace("Load", "Lo%61d")] {
        let refused = connection.raw("POST", &path, "", &call).await;
        assert_eq!(refused.headers()["grpc-status"], "7", "{path}");
    }
    let admins = connection.raw("GET", "/api/v1/audit", "", &[("x-api-key", &admin)]).await;
    let said = String::from_utf8(admins.into_body().to_vec()).unwrap();
    assert!(said.contains(r#""by":"root""#), "who asks is the key's name: {said}");
    assert!(!said.contains(&user[15..]) && !said.contains(&admin[15..]));
    let metrics = connection.raw("GET", "/metrics", "", &[("x-api-key", &user)]).await;
    let metrics = String::from_utf8(metrics.into_body().to_vec()).unwrap();
    assert!(metrics.contains("bms_key_requests_total{code=\"200\",key=\"a\"} 2\n"), "{metrics}");
    assert!(metrics.contains("bms_key_denials_total{code=\"permission_denied\"}"), "{metrics}");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_refuse_and_say_when_to_come_again() {
    let (server, admin) = with_a_model().await;
    let limits = SetKey { requests_per_minute: Some(2), ..SetKey::default() };
    let user = made(&server, &admin, new("a", Role::User, limits)).await;
    let first = infer(&server, &user).await;
    assert_eq!(
        (first.status().as_u16(), &first.headers()["x-ratelimit-limit-requests"]),
        (200, &"2".parse().unwrap())
    );
    assert_eq!(first.headers()["x-ratelimit-remaining-requests"], "1");
    assert_eq!(infer(&server, &user).await.status(), 200);
    let refused = infer(&server, &user).await;
    assert_eq!(refused.status(), 429);
    let pause: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&pause), "{pause}");
    assert_eq!(refused.headers()["x-ratelimit-remaining-requests"], "0");
    assert!(refused.headers().contains_key("x-ratelimit-reset-requests"));
    assert_eq!(code(&serde_json::from_slice(refused.body()).unwrap()), Some(Code::RateLimited));
    let models = SetKey { models: Some(vec!["other".into()]), ..SetKey::default() };
    let elsewhere = made(&server, &admin, new("b", Role::User, models)).await;
    assert_eq!(infer(&server, &elsewhere).await.status(), 403);
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_what_a_key_used_and_forget_a_revoked_one() {
    let (server, admin) = with_a_model().await;
    let limits = SetKey { requests_per_day: Some(3), ..SetKey::default() };
    let user = made(&server, &admin, new("a", Role::User, limits)).await;
    let other = server.beside().await;
    let began = std::time::Instant::now();
    for _ in 0..2 {
        assert_eq!(infer(&server, &user).await.status(), 200);
    }
    // Both are written and heard within a second each.
    let is_heard = async |server: &Server| {
        let keys = server.registry.as_ref().unwrap().keys().await.unwrap();
        keys.iter().any(|key| key.name == "a" && key.requests_today == 2)
    };
    while !is_heard(&other).await {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(REVOKED_WITHIN).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(infer(&other, &user).await.status().as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 2, "one was left: {statuses:?}");
    let revoking = ServerKey::new(&admin).unwrap();
    other.client(move |client| client.with_key(Some(revoking)).revoke_key("a")).await.unwrap();
    assert_eq!(infer(&other, &user).await.status(), 401, "where it was revoked it counts no more at once");
    let began = std::time::Instant::now();
    let mut let_in = 0;
    loop {
        // It may not have heard yet that none is left.
        match infer(&server, &user).await.status().as_u16() {
            401 => break,
            200 => let_in += 1,
            other => assert_eq!(other, 429),
        }
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(let_in <= 1, "it knows of those it let in itself");
    other.stop().await.0.unwrap();
    let registry = server.registry.clone().unwrap();
    server.stop().await.0.unwrap();
    let used = registry.keys().await.unwrap().into_iter().find(|key| key.name == "a").unwrap();
    assert_eq!(used.requests_today, 3 + let_in);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modes_say_who_needs_a_key() {
    let off = KeySettings { mode: Some(KeysMode::Off), ..KeySettings::default() };
    let server = Server::with_registry(|settings| settings.keys = off).await;
    server.client(|client| client.create_key(&new("root", Role::Admin, SetKey::default()))).await.unwrap();
    assert_eq!(server.get("/api/v1/keys").await.0, 200);
    server.stop().await.0.unwrap();
    let optional = KeySettings { mode: Some(KeysMode::Optional), ..KeySettings::default() };
    let server = Server::with_registry(|settings| settings.keys = optional).await;
    assert_eq!(server.get("/api/v1/keys").await.0, 200);
    let mut connection = server.connect().await;
    assert_eq!(connection.raw("GET", "/api/v1/keys", "", &[("x-api-key", "bms_wrong")]).await.status(), 401);
    server.stop().await.0.unwrap();
    let required =
        KeySettings { mode: Some(KeysMode::Required), metrics_open: true, ..KeySettings::default() };
    let server = Server::with_registry(|settings| settings.keys = required.clone()).await;
    assert_eq!(server.get("/api/v1/keys").await.0, 401);
    assert_eq!(server.connect().await.raw("GET", "/metrics", "", &[]).await.status(), 200);
    let registry = server.registry.clone().unwrap();
    let made = bms_server::first_key(&registry, &required, server.address).await.unwrap().unwrap();
    assert_eq!(made.key.role, Role::Admin);
    assert_eq!(bms_server::first_key(&registry, &required, server.address).await.unwrap(), None);
    let key = made.secret.clone();
    let began = std::time::Instant::now();
    loop {
        let answered = server.connect().await.raw("GET", "/api/v1/keys", "", &[("x-api-key", &key)]).await;
        if answered.status() == 200 {
            break;
        }
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitors_key_reads_the_metrics_and_nothing_else() {
    let secret = format!("bms_{}_{}", "a".repeat(10), "1".repeat(64));
    let monitors = vec![MonitorKey::new(&secret).unwrap()];
    let keys = KeySettings { mode: Some(KeysMode::Required), monitors, ..KeySettings::default() };
    let server = Server::with_registry(|settings| settings.keys = keys).await;
    let mut connection = server.connect().await;
    for (path, key, status) in [
        ("/metrics", secret.as_str(), 200),
        ("/metrics", &secret[1..], 401),
        ("/metrics", "", 401),
        ("/v2/health/progress", &secret, 401),
        ("/api/v1/overview", &secret, 401),
        ("/nothing", &secret, 404),
    ] {
        let answered = connection.raw("GET", path, "", &[("x-api-key", key)]).await;
        assert_eq!(answered.status(), status, "{path}");
    }
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_taken_by_estimate_and_what_fails_is_free() {
    let server = Server::with_registry(|settings| settings.launch = crate::harness::launch("language")).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    let admin = server.client(|client| client.create_key(&new("root", Role::Admin, SetKey::default()))).await;
    let limits = SetKey { tokens_per_minute: Some(1000), ..SetKey::default() };
    let user = made(&server, &admin.unwrap().secret, new("a", Role::User, limits)).await;
    let bearer = format!("Bearer {user}");
    let key = [("authorization", bearer.as_str())];
    let mut connection = server.connect().await;
    let path = "/v1/chat/completions";
    // What fails is free.
    let failing = r#"{"model": "m", "status": 500, "max_tokens": 500}"#;
    assert_eq!(connection.raw("POST", path, failing, &key).await.status(), 500);
    let many = r#"{"model": "m", "max_tokens": 900}"#;
    assert_eq!(connection.raw("POST", path, many, &key).await.status(), 200, "the 500 are there again");
    let more = connection.raw("POST", path, many, &key).await;
    assert_eq!(more.status(), 429);
    let told: serde_json::Value = serde_json::from_slice(more.body()).unwrap();
    assert_eq!(
        (&told["error"]["type"], &told["error"]["code"]),
        (&"rate_limit_error".into(), &"rate_limit_exceeded".into())
    );
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_does_not_say_counts_by_its_events() {
    let server = Server::with_registry(|settings| settings.launch = crate::harness::launch("language")).await;
    server.publish(1, &["production"], &[]).await.unwrap();
    server.client(|client| client.deploy("m", "production")).await.unwrap();
    server.until("/v2/models/m/ready", |status, _| status == 200).await;
    let admin = server.client(|client| client.create_key(&new("root", Role::Admin, SetKey::default()))).await;
    let limits = SetKey { tokens_per_day: Some(20), ..SetKey::default() };
    let user = made(&server, &admin.unwrap().secret, new("a", Role::User, limits)).await;
    let mut connection = server.connect().await;
    let key = [("x-api-key", user.as_str())];
    let streamed = r#"{"model": "m", "pieces": 25, "stream": true}"#;
    let answer = connection.raw("POST", "/v1/messages", streamed, &key).await;
    assert_eq!(answer.status(), 200);
    let refused = connection.raw("POST", "/v1/messages", streamed, &key).await;
    assert_eq!(refused.status(), 429, "25 tokens of 20 a day are used");
    let pause: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=24 * 3600).contains(&pause));
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_a_month_and_of_a_model_hold_are_shared_and_outlive_the_server() {
    let (server, admin) = with_a_model().await;
    let few = Quota { requests_per_day: Some(3), ..Quota::default() };
    let limits = SetKey { per_model: [("m".to_owned(), few)].into(), ..SetKey::default() };
    let of_model = made(&server, &admin, new("a", Role::User, limits)).await;
    let limits = SetKey { requests_per_month: Some(2), ..SetKey::default() };
    let of_month = made(&server, &admin, new("b", Role::User, limits)).await;
    for _ in 0..2 {
        assert_eq!(infer(&server, &of_month).await.status(), 200);
        assert_eq!(infer(&server, &of_model).await.status(), 200);
    }
    let refused = infer(&server, &of_month).await;
    assert_eq!(refused.status(), 429);
    let pause: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=31 * 24 * 3600).contains(&pause), "{pause}");
    assert!(String::from_utf8_lossy(refused.body()).contains("its 2 requests of this month"));
    assert_eq!(infer(&server, &of_model).await.status(), 200);
    let refused = infer(&server, &of_model).await;
    assert_eq!(refused.status(), 429);
    assert!(
        String::from_utf8_lossy(refused.body()).contains("its 3 requests of today (UTC) of the model `m`")
    );
    let metrics = server.connect().await.raw("GET", "/metrics", "", &[("x-api-key", &admin)]).await;
    let metrics = String::from_utf8(metrics.into_body().to_vec()).unwrap();
    for limit in ["a\",limit=\"model_requests_per_day", "b\",limit=\"requests_per_month"] {
        assert!(metrics.contains(&format!("bms_key_refusals_total{{key=\"{limit}\"}} 1\n")), "{metrics}");
    }
    // It writes down what it counted when it ends, and another one hears of it before it lets anybody in.
    let (ended, dir) = server.begin_stop();
    ended.await.unwrap().unwrap();
    let server = Server::again(dir).await;
    server.until("/v2/health/live", |status, _| status == 200).await;
    let asked = async |key: &str| infer(&server, key).await.status().as_u16();
    assert_eq!((asked(&of_month).await, asked(&of_model).await), (429, 429));
    let root = ServerKey::new(&admin).unwrap();
    let listed = server.client(move |client| client.with_key(Some(root)).keys()).await.unwrap();
    let of = |name: &str| listed.iter().find(|key| key.name == name).unwrap();
    assert_eq!((of("a").per_model["m"].requests_today, of("a").per_model["m"].requests_this_month), (3, 3));
    assert_eq!((of("a").requests_this_month, of("b").requests_this_month, of("b").requests_today), (3, 2, 2));
    let gone = Quota { requests_per_day: Some(0), ..Quota::default() };
    let set = SetKey { per_model: [("m".to_owned(), gone)].into(), ..SetKey::default() };
    let root = ServerKey::new(&admin).unwrap();
    server.client(move |client| client.with_key(Some(root)).set_key("a", &set)).await.unwrap();
    assert_ne!(asked(&of_model).await, 429, "where a limit was taken away it holds no more at once");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_pass_a_quota_of_a_day_by_one_at_most_and_let_all_of_it_in() {
    const QUOTA: u64 = 60;
    let (server, admin) = with_a_model().await;
    let other = server.beside().await;
    other.until("/v2/health/ready", |status, _| status == 401 || status == 200).await;
    // Both know of each other then, as documented.
    tokio::time::sleep(REVOKED_WITHIN).await;
    let limits = SetKey { requests_per_day: Some(QUOTA), ..SetKey::default() };
    let user = made(&server, &admin, new("a", Role::User, limits)).await;
    tokio::time::sleep(REVOKED_WITHIN).await;
    let (began, mut let_in, mut refused_for_good) = (std::time::Instant::now(), 0, [false; 2]);
    while refused_for_good.contains(&false) {
        for (replica, refused) in [&server, &other].into_iter().zip(&mut refused_for_good) {
            let answer = infer(replica, &user).await;
            match answer.status().as_u16() {
                200 => let_in += 1,
                status => {
                    assert_eq!(status, 429);
                    let pause: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                    *refused = !String::from_utf8_lossy(answer.body()).contains("share") || 1 < pause;
                }
            }
        }
        assert!(began.elapsed() < SOON, "{let_in} of {QUOTA}");
    }
    assert!((QUOTA..=QUOTA + 1).contains(&let_in), "{let_in} of {QUOTA}");
    other.stop().await.0.unwrap();
    server.stop().await.0.unwrap();
}
