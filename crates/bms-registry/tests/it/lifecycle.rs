use std::path::Path;

use bms_registry::Page;
use bms_wire::Code;
use bms_wire::api::{
    NewTransition, NodeReport, RetentionRule, SetAlias, SetDeployment, StageRule, TransitionState,
    VersionName,
};

use crate::bundles::{Site, manifest, signed, upload};
use crate::databases::edit;

fn alias(version: u64) -> SetAlias {
    SetAlias { version, require: None, current: None }
}

fn of(version: u64) -> VersionName {
    VersionName { model: "digits".into(), version }
}

fn to(stage: &str) -> NewTransition {
    NewTransition { stage: stage.into(), ..NewTransition::default() }
}

async fn site(versions: u64) -> Site {
    let site = Site::new().await;
    for seed in 1..=versions {
        site.publish(manifest("digits", seed), &[]).await.unwrap();
    }
    site
}

/// Makes versions older than they are.
async fn age(root: &Path, version: u64, days: i64) {
    let sql = format!(
        "UPDATE versions SET created_ms = created_ms - {} WHERE version = {version}",
        days * 86_400_000
    );
    edit(root, &sql).await;
}

#[tokio::test]
async fn descriptions_and_tags_are_kept_and_audited() {
    let site = site(1).await;
    let registry = &site.registry;
    registry.describe_model("digits", "reads digits", "ada").await.unwrap();
    registry.describe_version("digits", 1, "数字", "ada").await.unwrap();
    registry.tag_model("digits", "team", Some("vision"), "ada").await.unwrap();
    registry.tag_version("digits", 1, "eval", Some("passed"), "ada").await.unwrap();
    registry.tag_version("digits", 1, "gone", Some("x"), "ada").await.unwrap();
    registry.tag_version("digits", 1, "gone", None, "ada").await.unwrap();
    let model = registry.model("digits").await.unwrap();
    assert_eq!((model.description.as_str(), model.tags["team"].as_str()), ("reads digits", "vision"));
    let version = registry.version("digits", 1).await.unwrap();
    assert_eq!((version.description.as_str(), version.tags.len()), ("数字", 1));
    let page = Page { offset: 0, size: 10 };
    for (filter, finds) in [
        ("name ILIKE 'DIG%' and tags.eval = 'passed'", 1),
        ("tags.eval = 'failed'", 0),
        ("version_number >= 1 and stage = 'none' and task = 'tensor' and signer = 'test'", 1),
        ("tags.gone IS NOT NULL", 0),
    ] {
        assert_eq!(registry.search_versions(filter, &[], page).await.unwrap().0.len(), finds, "{filter}");
    }
    assert_eq!(
        registry.search_models("tags.team = 'vision'", &["name DESC".into()], page).await.unwrap().0.len(),
        1
    );
    assert_eq!(
        registry.search_models("metrics.x > 1", &[], page).await.unwrap_err().code(),
        Code::InvalidRequest
    );
    let event = registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!((event.action.as_str(), event.details["by"].as_str()), ("version.tagged", Some("ada")));
    let missing = registry.tag_version("digits", 9, "a", Some("b"), "ada").await.unwrap_err();
    assert_eq!(missing.code(), Code::VersionNotFound);
}

#[tokio::test]
async fn a_stage_without_a_rule_is_entered_at_once() {
    let site = site(2).await;
    let registry = &site.registry;
    let done = registry.request_transition(&of(1), &to("production"), "ada").await.unwrap();
    assert_eq!(done.state, TransitionState::Done);
    let again = registry.request_transition(&of(1), &to("production"), "ada").await.unwrap_err();
    assert_eq!(again.code(), Code::Conflict);
    let replacing = NewTransition { archive_others: true, ..to("production") };
    registry.request_transition(&of(2), &replacing, "ada").await.unwrap();
    let stages: Vec<String> =
        registry.model("digits").await.unwrap().versions.into_iter().map(|version| version.stage).collect();
    assert_eq!(stages, ["production", "archived"]);
    for (stage, by, code) in
        [("Bad Stage", "ada", Code::InvalidRequest), ("staging", " ", Code::InvalidRequest)]
    {
        let refused = registry.request_transition(&of(1), &to(stage), by).await.unwrap_err();
        assert_eq!(refused.code(), code, "{stage}");
    }
}

#[tokio::test]
async fn distinct_people_have_to_agree() {
    let site = site(1).await;
    let registry = &site.registry;
    let rule = StageRule { model: None, stage: "production".into(), approvals: 2 };
    registry.set_stage_rule(&rule, "root").await.unwrap();
    let asked = registry.request_transition(&of(1), &to("production"), "ada").await.unwrap();
    assert_eq!((asked.state, asked.approvals_needed), (TransitionState::Pending, 2));
    let second = registry.request_transition(&of(1), &to("staging"), "bob").await.unwrap_err();
    assert_eq!(second.code(), Code::Conflict, "one at a time");
    let own = registry.approve_transition(asked.id, "", "ada").await.unwrap_err();
    assert_eq!(own.code(), Code::PermissionDenied, "whoever asks does not count");
    for _ in 0..2 {
        let once = registry.approve_transition(asked.id, "fine", "bob").await.unwrap();
        assert_eq!((once.state, once.approved_by.len()), (TransitionState::Pending, 1), "twice is once");
    }
    assert_eq!(registry.transitions(Some("digits"), true).await.unwrap().len(), 1);
    let done = registry.approve_transition(asked.id, "fine", "eve").await.unwrap();
    assert_eq!(done.state, TransitionState::Done);
    assert_eq!(registry.version("digits", 1).await.unwrap().stage, "production");
    assert_eq!(registry.approve_transition(asked.id, "", "zoe").await.unwrap_err().code(), Code::Conflict);
    let event = registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!(event.action, "stage.changed");
    assert_eq!(event.details["approved_by"], serde_json::json!(["bob", "eve"]));
    assert!(registry.transitions(None, true).await.unwrap().is_empty());
    // A rule of the model goes before that for all.
    let own = StageRule { model: Some("digits".into()), stage: "archived".into(), approvals: 1 };
    registry.set_stage_rule(&own, "root").await.unwrap();
    let asked = registry.request_transition(&of(1), &to("archived"), "ada").await.unwrap();
    let refused = registry.reject_transition(asked.id, "no", "bob").await.unwrap();
    assert_eq!(refused.state, TransitionState::Rejected);
    assert_eq!(registry.version("digits", 1).await.unwrap().stage, "production");
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted() {
    let site = site(3).await;
    let registry = &site.registry;
    registry.set_alias("digits", "production", &alias(1)).await.unwrap();
    registry.set_deployment("digits", &SetDeployment::of("production")).await.unwrap();
    let report = NodeReport {
        model: "digits".into(),
        version: Some(2),
        answers: 0,
        offline_answers: 0,
        outbox: 0,
        problem: None,
    };
    registry.report_node("edge-1", &report).await.unwrap();
    for (version, user) in [(1, "deployment of production"), (2, "edge node edge-1")] {
        let refused = registry.delete_version("digits", version, true, "ada").await.unwrap_err();
        assert_eq!(refused.code(), Code::Conflict);
        assert!(refused.message().contains(user), "{refused}");
    }
    assert_eq!(registry.delete_model("digits", true, "ada").await.unwrap_err().code(), Code::Conflict);
    assert_eq!(registry.model("digits").await.unwrap().versions.len(), 3, "all or nothing");
    registry.set_alias("digits", "spare", &alias(3)).await.unwrap();
    assert_eq!(registry.delete_version("digits", 3, false, "ada").await.unwrap_err().code(), Code::Conflict);
    registry.delete_version("digits", 3, true, "ada").await.unwrap();
    assert_eq!(registry.resolve("digits", "spare").await.unwrap_err().code(), Code::ModelNotFound);
    assert_eq!(registry.resolve("digits", "latest").await.unwrap().version, 2);
}

#[tokio::test]
async fn deleted_versions_come_back_and_keep_their_numbers() {
    let site = site(2).await;
    let registry = &site.registry;
    registry.delete_version("digits", 2, false, "ada").await.unwrap();
    assert_eq!(registry.version("digits", 2).await.unwrap_err().code(), Code::VersionNotFound);
    assert_eq!(registry.deleted_models().await.unwrap()[0].versions[0].version, 2);
    let again = site.publish(manifest("digits", 2), &[]).await.unwrap_err();
    assert_eq!(again.code(), Code::Conflict, "it can be restored");
    assert_eq!(site.publish(manifest("digits", 3), &[]).await.unwrap().version, 3, "2 is taken");
    registry.restore_version("digits", 2, "ada").await.unwrap();
    assert_eq!(registry.version("digits", 2).await.unwrap().files.len(), 3);
    assert_eq!(registry.restore_version("digits", 2, "ada").await.unwrap_err().code(), Code::VersionNotFound);

    registry.delete_version("digits", 1, false, "ada").await.unwrap();
    registry.delete_model("digits", false, "ada").await.unwrap();
    assert!(registry.models().await.unwrap().is_empty());
    assert_eq!(site.publish(manifest("digits", 9), &[]).await.unwrap_err().code(), Code::ModelNotFound);
    assert_eq!(registry.create_model("digits", "", &[], "ada").await.unwrap_err().code(), Code::Conflict);
    registry.restore_model("digits", "ada").await.unwrap();
    let versions: Vec<u64> =
        registry.model("digits").await.unwrap().versions.iter().map(|version| version.version).collect();
    assert_eq!(versions, [3, 2], "1 had been deleted before");
}

#[tokio::test]
async fn purged_versions_let_only_their_own_files_go() {
    let site = site(2).await;
    let registry = &site.registry;
    let (first, second) =
        (registry.version("digits", 1).await.unwrap(), registry.version("digits", 2).await.unwrap());
    let shared = first.files.iter().find(|file| file.path == "model.onnx").unwrap();
    let own = first.files.iter().find(|file| file.path == "bundle.json").unwrap();
    assert!(second.files.iter().any(|file| file.blake3 == shared.blake3));
    assert_eq!(registry.purge_version("digits", 1, "ada").await.unwrap_err().code(), Code::Conflict);
    registry.delete_version("digits", 1, false, "ada").await.unwrap();
    registry.purge_version("digits", 1, "ada").await.unwrap();
    assert!(registry.has_blob(&shared.blake3).await.unwrap());
    assert!(!registry.has_blob(&own.blake3).await.unwrap());
    assert_eq!(registry.restore_version("digits", 1, "ada").await.unwrap_err().code(), Code::VersionNotFound);
    let new = upload(registry, &signed(manifest("digits", 1), &site.key), &[]).await;
    let again = registry.publish("digits", new, &site.policy).await.unwrap();
    assert_eq!(again.version, 3, "the number is never given again");
    registry.audit_verify().await.unwrap();
}

#[tokio::test]
async fn retention_keeps_what_is_used_new_or_among_the_last() {
    let site = site(7).await;
    let registry = &site.registry;
    for version in 1..=5 {
        age(&site.root(), version, 40).await;
    }
    registry.set_alias("digits", "champion", &alias(1)).await.unwrap();
    registry.request_transition(&of(2), &to("staging"), "ada").await.unwrap();
    let rule =
        RetentionRule { model: None, keep_last: 3, older_than_ms: 30 * 86_400_000, purge_after_ms: Some(0) };
    registry.set_retention(&rule, "ada").await.unwrap();
    let plan = registry.apply_retention(true, "ada").await.unwrap();
    assert_eq!(plan.deleted, [of(4), of(3)], "7, 6, 5 are the last; 1 and 2 are used");
    let kept: Vec<(u64, &str)> =
        plan.kept.iter().map(|kept| (kept.version, kept.because[0].as_str())).collect();
    assert_eq!(kept, [(2, "stage staging"), (1, "alias champion")]);
    assert_eq!(registry.model("digits").await.unwrap().versions.len(), 7, "a dry run changes nothing");
    let done = registry.apply_retention(false, "ada").await.unwrap();
    assert_eq!((done.deleted, done.dry_run), (plan.deleted, false));
    assert_eq!(registry.model("digits").await.unwrap().versions.len(), 5);
    // Deleted a moment ago: next time they are purged.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(registry.apply_retention(false, "ada").await.unwrap().purged, [of(3), of(4)]);
    assert_eq!(registry.restore_version("digits", 3, "ada").await.unwrap_err().code(), Code::VersionNotFound);
    // A rule of the model goes before that for all.
    let own = RetentionRule {
        model: Some("digits".into()),
        keep_last: 100,
        older_than_ms: 0,
        purge_after_ms: None,
    };
    registry.set_retention(&own, "ada").await.unwrap();
    let report = registry.apply_retention(false, "ada").await.unwrap();
    assert!(report.deleted.is_empty() && report.purged.is_empty());
    registry.remove_retention(Some("digits"), "ada").await.unwrap();
    assert_eq!(registry.remove_retention(Some("digits"), "ada").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn lineage_goes_up_and_down() {
    let site = Site::new().await;
    let registry = &site.registry;
    let publish = async |model: &str, seed: u64, parent: Option<String>| {
        let mut child = manifest(model, seed);
        child.lineage.parent = parent;
        child.lineage.data = vec![bms_bundle::DataRef { name: "train".into(), digest: "d".repeat(64) }];
        site.publish(child, &[]).await.unwrap()
    };
    let root = publish("digits", 1, Some("f".repeat(64))).await;
    let middle = publish("digits", 2, Some(root.digest.clone())).await;
    let leaf = publish("small", 3, Some(middle.digest.clone())).await;
    let other = publish("small", 4, Some(middle.digest.clone())).await;
    let graph = registry.lineage_graph("digits", 2).await.unwrap();
    assert_eq!(graph.version.job.as_deref(), Some("test-2"));
    assert_eq!(graph.version.data[0].name, "train");
    let up: Vec<_> =
        graph.ancestors.iter().map(|node| (node.digest.clone(), node.distance, node.version)).collect();
    assert_eq!(up, [(root.digest.clone(), 1, Some(1)), ("f".repeat(64), 2, None)]);
    let down: Vec<_> = graph.descendants.iter().map(|node| node.digest.clone()).collect();
    assert_eq!(down, [leaf.digest.clone(), other.digest]);
    let trained = registry.trained_on(&"d".repeat(64)).await.unwrap();
    assert_eq!(trained.len(), 4);
    // What was deleted and purged stays part of the story.
    registry.delete_version("digits", 2, false, "ada").await.unwrap();
    registry.purge_version("digits", 2, "ada").await.unwrap();
    let graph = registry.lineage_graph("small", 1).await.unwrap();
    let up: Vec<_> = graph.ancestors.iter().map(|node| (node.version, node.deleted)).collect();
    assert_eq!(up, [(Some(2), true), (Some(1), false), (None, false)]);
    let graph = registry.lineage_graph("digits", 1).await.unwrap();
    assert_eq!(graph.descendants.len(), 3);
}
