use std::collections::BTreeMap;

use bms_registry::{Batch, Metric, NewArtifactVersion, NewRun, Page, RunLink, RunSearch, View};
use bms_wire::Code;
use bms_wire::api::{SetAlias, SetDeployment, VersionKind};
use serde_json::json;

use crate::bundles::{Site, manifest, signed};

fn page(size: usize) -> Page {
    Page { offset: 0, size }
}

fn metric(key: &str, value: f64, step: i64) -> Metric {
    Metric { key: key.into(), value, at_ms: 1000 + step, step }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

async fn run(site: &Site, experiment: u64, name: &str) -> String {
    let new = NewRun { experiment, name: name.into(), person: "ada".into(), start_ms: 5, tags: Vec::new() };
    site.registry.create_run(&new).await.unwrap().id
}

fn search(filter: &str, order: &[&str]) -> RunSearch {
    RunSearch {
        experiments: vec![0],
        filter: filter.into(),
        order: order.iter().map(|&order| order.into()).collect(),
        view: View::Active,
        page: page(1000),
    }
}

async fn found(site: &Site, filter: &str, order: &[&str]) -> Vec<String> {
    let (runs, next) = site.registry.search_runs(&search(filter, order)).await.unwrap();
    assert_eq!(next, None);
    runs.into_iter().map(|run| run.name).collect()
}

#[tokio::test]
async fn a_run_keeps_what_it_logs() {
    let site = Site::new().await;
    let id = run(&site, 0, "first").await;
    let batch = Batch {
        metrics: (0..10).map(|step| metric("loss", 1.0 / step as f64, step)).collect(),
        params: pairs(&[("rate", "0.1")]),
        tags: pairs(&[("team", "a")]),
    };
    site.registry.log_batch(&id, &batch).await.unwrap();
    // Sent again after a lost answer, and out of order.
    site.registry.log_batch(&id, &batch).await.unwrap();
    let late = Batch { metrics: vec![metric("loss", 7.0, 3)], ..Batch::default() };
    site.registry.log_batch(&id, &late).await.unwrap();
    let read = site.registry.run(&id).await.unwrap();
    assert_eq!(read.metrics, [metric("loss", 1.0 / 9.0, 9)], "the last step is the value");
    assert_eq!((read.params.clone(), read.status.as_str()), (pairs(&[("rate", "0.1")]), "RUNNING"));
    let (history, next) = site.registry.metric_history(&id, "loss", page(100)).await.unwrap();
    assert_eq!((history.len(), next), (11, None));
    assert_eq!(history[0].value, f64::INFINITY);
    let (part, next) = site.registry.metric_history(&id, "loss", page(4)).await.unwrap();
    assert_eq!((part.len(), next), (4, Some(4)));

    let other = Batch { params: pairs(&[("rate", "0.2")]), tags: pairs(&[("new", "x")]), ..Batch::default() };
    let refused = site.registry.log_batch(&id, &other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidRequest);
    assert!(
        !site.registry.run(&id).await.unwrap().tags.iter().any(|(key, _)| key == "new"),
        "all or nothing"
    );
    site.registry.update_run(&id, Some("FINISHED"), Some(99), None).await.unwrap();
    assert_eq!(site.registry.run(&id).await.unwrap().end_ms, Some(99));
    assert_eq!(
        site.registry.update_run(&id, Some("DONE"), None, None).await.unwrap_err().code(),
        Code::InvalidRequest
    );
}

#[tokio::test]
async fn curves_are_thinned_out_and_keep_their_end() {
    let site = Site::new().await;
    let id = run(&site, 0, "long").await;
    let batch =
        Batch { metrics: (0..100).map(|step| metric("x", step as f64, step)).collect(), ..Batch::default() };
    site.registry.log_batch(&id, &batch).await.unwrap();
    let curve = async |steps, most| -> Vec<i64> {
        let found = site.registry.metric_curves(std::slice::from_ref(&id), "x", steps, most).await.unwrap();
        found.into_iter().map(|(_, metric)| metric.step).collect()
    };
    assert_eq!(curve(0..=99, 1000).await.len(), 100);
    assert_eq!(curve(0..=99, 4).await, [0, 25, 50, 75, 99]);
    assert_eq!(curve(10..=12, 1).await, [10, 12]);
    assert_eq!(curve(200..=300, 4).await, Vec::<i64>::new());
}

#[tokio::test]
async fn nan_and_infinities_are_values() {
    let site = Site::new().await;
    let id = run(&site, 0, "odd").await;
    for (step, value) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0].into_iter().enumerate() {
        let batch = Batch { metrics: vec![metric("x", value, step as i64)], ..Batch::default() };
        site.registry.log_batch(&id, &batch).await.unwrap();
        let read = site.registry.run(&id).await.unwrap().metrics.remove(0).value;
        assert_eq!(read.to_bits(), value.to_bits());
    }
    // All NaNs are one, and anything but NaN is later at the same step.
    let batch = Batch {
        metrics: vec![metric("y", f64::NAN, 1), metric("y", 2.0, 1), metric("y", f64::NAN, 1)],
        ..Batch::default()
    };
    site.registry.log_batch(&id, &batch).await.unwrap();
    assert_eq!(site.registry.metric_history(&id, "y", page(10)).await.unwrap().0.len(), 2);
    assert_eq!(found(&site, "metrics.y = 2", &[]).await, ["odd"]);
}

#[tokio::test]
async fn a_run_has_limits() {
    let site = Site::new().await;
    let id = run(&site, 0, "big").await;
    let many = Batch { metrics: (0..1001).map(|step| metric("m", 0.0, step)).collect(), ..Batch::default() };
    assert_eq!(site.registry.log_batch(&id, &many).await.unwrap_err().code(), Code::TooLarge);
    for (key, value, code) in [
        ("", "x", Code::InvalidRequest),
        ("a\0b", "x", Code::InvalidRequest),
        ("a", "x\0y", Code::InvalidRequest),
        ("k".repeat(2000).as_str(), "x", Code::InvalidRequest),
        ("a", "v".repeat(40_000).as_str(), Code::TooLarge),
    ] {
        let batch = Batch { tags: pairs(&[(key, value)]), ..Batch::default() };
        assert_eq!(site.registry.log_batch(&id, &batch).await.unwrap_err().code(), code, "{key:?}");
    }
    let link = RunLink { kind: "data".into(), id: "d".into(), details: json!({ "x": "y".repeat(300_000) }) };
    assert_eq!(site.registry.link_run(&id, &[link]).await.unwrap_err().code(), Code::TooLarge);
}

#[tokio::test]
async fn deleted_runs_and_experiments_are_out_of_sight_until_restored() {
    let site = Site::new().await;
    let registry = &site.registry;
    let experiment = registry.create_experiment("vision", &[], "ada").await.unwrap();
    let (first, second) = (run(&site, experiment, "a").await, run(&site, experiment, "b").await);
    registry.set_run_deleted(&first, true, "ada").await.unwrap();
    let batch = Batch { tags: pairs(&[("t", "u")]), ..Batch::default() };
    assert_eq!(registry.log_batch(&first, &batch).await.unwrap_err().code(), Code::InvalidRequest);
    registry.set_experiment_deleted(experiment, true, "ada").await.unwrap();
    assert!(registry.run(&second).await.unwrap().deleted);
    assert_eq!(registry.create_experiment("vision", &[], "ada").await.unwrap_err().code(), Code::Conflict);
    registry.set_experiment_deleted(experiment, false, "ada").await.unwrap();
    assert!(registry.run(&first).await.unwrap().deleted, "it was deleted before");
    assert!(!registry.run(&second).await.unwrap().deleted);
    assert_eq!(
        registry.set_experiment_deleted(0, true, "ada").await.unwrap_err().code(),
        Code::InvalidRequest
    );
}

/// A run's name, metrics and tags.
type Facts = (String, BTreeMap<&'static str, f64>, BTreeMap<&'static str, &'static str>);

/// A filter, and of which runs it holds.
type Case = (&'static str, fn(&Facts) -> bool);

/// What a filter should find, computed here.
#[tokio::test]
async fn searches_find_what_a_plain_comparison_finds() {
    let site = Site::new().await;
    let mut runs: Vec<Facts> = Vec::new();
    for n in 0..12_usize {
        let name = format!("Run_{n:02}%é");
        let id = run(&site, 0, &name).await;
        let mut metrics = BTreeMap::new();
        if !n.is_multiple_of(3) {
            metrics.insert("loss", n as f64 / 4.0);
        }
        let mut tags = BTreeMap::from([("team", ["red", "Red", r"r\d", "blue"][n % 4])]);
        if n.is_multiple_of(2) {
            tags.insert("odd key", "it's");
        }
        let batch = Batch {
            metrics: metrics.iter().map(|(key, value)| metric(key, *value, 1)).collect(),
            params: Vec::new(),
            tags: tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        };
        site.registry.log_batch(&id, &batch).await.unwrap();
        runs.push((name, metrics, tags));
    }
    let cases: &[Case] = &[
        ("", |_| true),
        ("metrics.loss >= 1.25", |r| r.1.get("loss").is_some_and(|v| *v >= 1.25)),
        ("metrics.loss != 1.25", |r| r.1.get("loss").is_some_and(|v| *v != 1.25)),
        ("metrics.loss IS NULL", |r| !r.1.contains_key("loss")),
        ("tags.team = 'red'", |r| r.2["team"] == "red"),
        ("tags.team != 'red'", |r| r.2["team"] != "red"),
        ("tags.team LIKE 'r%'", |r| r.2["team"].starts_with('r')),
        ("tags.team ILIKE 'R_d'", |r| r.2["team"].eq_ignore_ascii_case("red") || r.2["team"] == r"r\d"),
        (r"tags.team LIKE 'r\%'", |r| r.2["team"] == r"r\d"),
        (r"tags.team LIKE '%\'", |_| false),
        ("tags.`odd key` = 'it''s'", |r| r.2.contains_key("odd key")),
        ("tags.`odd key` IS NOT NULL AND metrics.loss > 1", |r| {
            r.2.contains_key("odd key") && r.1.get("loss").is_some_and(|v| *v > 1.0)
        }),
        ("run_name LIKE 'Run\\_0%'", |_| false),
        ("run_name LIKE 'Run_0%'", |r| r.0.starts_with("Run_0")),
        ("run_name IN ('Run_03%é', 'x')", |r| r.0 == "Run_03%é"),
        ("run_name NOT IN ('Run_03%é')", |r| r.0 != "Run_03%é"),
        ("start_time = 5 and status = 'RUNNING' and user_id = 'ada'", |_| true),
        ("end_time IS NULL", |_| true),
    ];
    for (filter, holds) in cases.iter().copied() {
        let mut have = found(&site, filter, &[]).await;
        have.sort();
        let want: Vec<String> = runs.iter().filter(|run| holds(run)).map(|run| run.0.clone()).collect();
        assert_eq!(have, want, "{filter}");
    }
    let by_loss = found(&site, "", &["metrics.loss DESC", "run_name"]).await;
    assert_eq!(by_loss[0], "Run_11%é");
    assert_eq!(by_loss[8..], ["Run_00%é", "Run_03%é", "Run_06%é", "Run_09%é"], "those without come last");
    assert_eq!(found(&site, "", &["metrics.loss", "run_name"]).await[8..], by_loss[8..]);
    for bad in
        ["metrics.loss = 'x'", "tags.team > 'x'", "nothing = 'x'", "metrics.loss LIKE 'x'", "tags.team = 1"]
    {
        let refused = site.registry.search_runs(&search(bad, &[])).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidRequest, "{bad}");
    }
}

#[tokio::test]
async fn pages_of_a_search_join() {
    let site = Site::new().await;
    for n in 0..7 {
        run(&site, 0, &format!("r{n}")).await;
    }
    let mut names = Vec::new();
    let mut next = Some(0);
    while let Some(offset) = next {
        let asked = RunSearch { page: Page { offset, size: 3 }, ..search("", &["run_name"]) };
        let (runs, more) = site.registry.search_runs(&asked).await.unwrap();
        names.extend(runs.into_iter().map(|run| run.name));
        next = more;
    }
    assert_eq!(names, ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]);
}

async fn artifact(site: &Site, owner: &str, path: &str, bytes: &[u8]) {
    let mut incoming = site.registry.receive().await.unwrap();
    for part in bytes.chunks(1000) {
        incoming.write(bytes::Bytes::copy_from_slice(part)).await.unwrap();
    }
    site.registry.keep_artifact(owner, path, incoming).await.unwrap();
}

fn from(owner: &str, path: &str) -> NewArtifactVersion {
    NewArtifactVersion {
        owner: owner.into(),
        path: path.into(),
        source: format!("runs:/{owner}/{path}"),
        ..NewArtifactVersion::default()
    }
}

#[tokio::test]
async fn artifacts_stay_inside_their_run() {
    let site = Site::new().await;
    let id = run(&site, 0, "a").await;
    artifact(&site, &id, "model/deep/x", b"one").await;
    artifact(&site, &id, "model-2", b"two").await;
    artifact(&site, &id, "model/deep/x", b"three").await;
    let below = |path: &'static str| site.registry.artifacts(&id, path);
    assert_eq!(below("").await.unwrap().len(), 2);
    let files = below("model").await.unwrap();
    assert_eq!(
        (files.len(), files[0].path.as_str(), files[0].size),
        (1, "model/deep/x", 5),
        "replaced; `model-2` is another"
    );
    for path in ["../x", "/x", "a/../../x", "", "a\0", "a//b"] {
        let incoming = site.registry.receive().await.unwrap();
        let refused = site.registry.keep_artifact(&id, path, incoming).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidRequest, "{path:?}");
    }
    let incoming = site.registry.receive().await.unwrap();
    assert_eq!(
        site.registry.keep_artifact("nobody", "x", incoming).await.unwrap_err().code(),
        Code::NotFound
    );
    site.registry.remove_artifacts(&id, "model", "ada").await.unwrap();
    assert_eq!(below("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn files_become_a_version_that_is_never_served() {
    let site = Site::new().await;
    let id = run(&site, 0, "a").await;
    artifact(&site, &id, "model/weights.txt", b"1 2 3").await;
    let made =
        site.registry.register_artifacts("plain", from(&id, "model"), &site.policy, "ada").await.unwrap();
    assert_eq!(
        (made.version, made.kind, made.files[0].path.as_str()),
        (1, VersionKind::Artifacts, "weights.txt")
    );
    let set = SetAlias { version: 1, require: None, current: None };
    site.registry.set_alias("plain", "champion", &set).await.unwrap();
    let deploy = SetDeployment::of("champion");
    let refused = site.registry.set_deployment("plain", &deploy).await.unwrap_err();
    assert_eq!(refused.code(), Code::UnsupportedModel);
    let nothing = site.registry.register_artifacts("plain", from(&id, "other"), &site.policy, "ada").await;
    assert_eq!(nothing.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_bundle_among_artifacts_goes_through_the_gate() {
    let site = Site::new().await;
    let id = run(&site, 0, "a").await;
    for (path, bytes) in signed(manifest("digits", 1), &site.key) {
        artifact(&site, &id, &format!("bundle/{path}"), &bytes).await;
    }
    let made =
        site.registry.register_artifacts("digits", from(&id, "bundle"), &site.policy, "ada").await.unwrap();
    assert_eq!((made.kind, made.signer.as_deref()), (VersionKind::Bundle, Some("test")));
    let stranger = bms_bundle::SigningKey::generate();
    for (path, bytes) in signed(manifest("digits", 2), &stranger) {
        artifact(&site, &id, &format!("other/{path}"), &bytes).await;
    }
    let refused = site.registry.register_artifacts("digits", from(&id, "other"), &site.policy, "ada").await;
    assert_eq!(refused.unwrap_err().code(), Code::SignerUntrusted);
    assert_eq!(site.registry.quarantined().await.unwrap().len(), 1);
    // What the run logged is still there: only the version was refused.
    let file = site.registry.artifacts(&id, "other/model.onnx").await.unwrap().remove(0);
    assert!(site.registry.has_blob(&file.blake3).await.unwrap());
}

#[tokio::test]
async fn files_that_attack_are_no_version() {
    let site = Site::new().await;
    let id = run(&site, 0, "a").await;
    // A pickle that would run a command; it is never opened here.
    artifact(&site, &id, "bad/model.bin", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.").await;
    let refused =
        site.registry.register_artifacts("bad", from(&id, "bad"), &site.policy, "ada").await.unwrap_err();
    assert_eq!(refused.code(), Code::MaliciousContent, "{refused}");
    assert_eq!(site.registry.quarantined().await.unwrap()[0].model, "bad");
    assert!(site.registry.models().await.unwrap().is_empty());
    site.registry.audit_verify().await.unwrap();
}
