use std::sync::Arc;

use axum::Router;
use bms_bundle::Policy;
use bms_registry::Registry;

use super::{Parts, Settings};
use crate::api::Api;
use crate::keys::{KeySettings, Keys, has_a_line};
use crate::policy::SharedPolicy;
use crate::repository::Repository;
use crate::slots::Launch;
use crate::{dashboard, hub, mlflow};

/// The paths of a router, as it tells them.
fn paths(router: &Router) -> Vec<String> {
    let told = format!("{router:?}");
    let quoted = told.split('"').skip(1).step_by(2);
    let paths = quoted.filter(|text| text.starts_with('/') && !text.contains("__private__axum"));
    let mut paths: Vec<String> = paths.map(str::to_owned).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

#[tokio::test]
async fn every_route_is_for_somebody() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&dir.path().join("registry")).await.unwrap();
    let launch = Launch::new("/bin/false".into(), std::iter::empty());
    let settings = Settings::new(launch, dir.path().join("work"));
    let policy = SharedPolicy::new(Policy::development());
    let parts = Parts::new(&settings, &policy, None, Default::default()).unwrap();
    let address = "127.0.0.1:80".parse().unwrap();
    let keys = Keys::new(&KeySettings::default(), address, parts.metrics.clone()).unwrap();
    let api = Api::new(registry, policy, parts.gateway.clone(), keys.clone(), parts.changed.clone());
    let routes = Router::new()
        .merge(api.routes())
        .merge(mlflow::routes(&api))
        .merge(hub::routes(&api, "http"))
        .merge(dashboard::routes());
    let router = parts.router(&Repository::Registry(Arc::clone(&api)), routes, &keys);
    let paths = paths(&router);
    assert!(130 < paths.len(), "the router does not tell its paths any more: {paths:?}");
    for expected in ["/v1/chat/completions", "/api/v1/keys/{name}", "/metrics", "/api/2.0/mlflow/runs/create"]
    {
        assert!(paths.iter().any(|path| path == expected), "{expected}: {paths:?}");
    }
    let missing: Vec<_> = paths.iter().filter(|path| !has_a_line(path)).collect();
    assert!(missing.is_empty(), "src/keys/access.rs has no line for {missing:?}");
    let with_new = Router::new().route("/new", axum::routing::get(async || "")).merge(router);
    assert!(self::paths(&with_new).iter().any(|path| !has_a_line(path)), "a new route shows");
}
