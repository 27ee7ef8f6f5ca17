use bms_wire::Code;
use bms_wire::api::{EvaluationGate, SetAlias, SetDeployment, SlotNeeds};

use crate::bundles::{Site, manifest};

fn plain(version: u64) -> SetAlias {
    SetAlias { version, require: None, current: None }
}

fn gated(version: u64, max_drop: f64) -> SetAlias {
    SetAlias { version, require: Some(EvaluationGate { metric: "accuracy".into(), max_drop }), current: None }
}

#[tokio::test]
async fn an_alias_moves_and_is_audited() {
    let site = Site::new().await;
    for seed in 1..=2 {
        site.publish(manifest("digits", seed), &[]).await.unwrap();
    }
    site.registry.set_alias("digits", "production", &plain(1)).await.unwrap();
    let version = site.registry.set_alias("digits", "production", &plain(2)).await.unwrap();
    assert_eq!(version.aliases, ["production"]);
    assert!(site.registry.version("digits", 1).await.unwrap().aliases.is_empty());
    let event = site.registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!((event.action.as_str(), event.subject.as_str()), ("alias.set", "digits/production"));
    assert_eq!(event.details, serde_json::json!({ "previous": 1, "version": 2 }));
}

#[tokio::test]
async fn the_gate_compares_on_the_same_data() {
    let site = Site::new().await;
    site.publish_measured("digits", 1, "held-out", 0.970).await;
    site.publish_measured("digits", 2, "held-out", 0.966).await;
    site.publish_measured("digits", 3, "easy", 0.999).await;
    site.publish(manifest("digits", 4), &[]).await.unwrap();
    let registry = &site.registry;
    registry.set_alias("digits", "production", &gated(1, 0.0)).await.unwrap();

    let worse = registry.set_alias("digits", "production", &gated(2, 0.003)).await.unwrap_err();
    assert_eq!(worse.code(), Code::QualityRefused);
    assert!(worse.message().contains("0.9660") && worse.message().contains("`held-out`"), "{worse}");
    let event = registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!(event.action, "alias.refused");

    let elsewhere = registry.set_alias("digits", "production", &gated(3, 0.5)).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::QualityRefused, "a better value on other data proves nothing");
    assert!(elsewhere.message().contains("same data"), "{elsewhere}");
    assert!(elsewhere.advice().unwrap().contains("`held-out`"), "{elsewhere:?}");
    let unmeasured = registry.set_alias("digits", "production", &gated(4, 0.5)).await.unwrap_err();
    assert_eq!(unmeasured.code(), Code::QualityRefused);

    assert_eq!(registry.resolve("digits", "production").await.unwrap().version, 1, "nothing moved");
    let moved = registry.set_alias("digits", "production", &gated(2, 0.005)).await.unwrap();
    assert_eq!(moved.version, 2, "a drop within bounds is accepted");
}

#[tokio::test]
async fn the_gate_asks_for_a_measurement_even_the_first_time() {
    let site = Site::new().await;
    site.publish(manifest("digits", 1), &[]).await.unwrap();
    let error = site.registry.set_alias("digits", "production", &gated(1, 0.0)).await.unwrap_err();
    assert_eq!(error.code(), Code::QualityRefused);
}

#[tokio::test]
async fn senseless_gates_are_refused() {
    let site = Site::new().await;
    site.publish_measured("digits", 1, "held-out", 0.9).await;
    for max_drop in [-0.1, f64::NAN, f64::INFINITY] {
        let error = site.registry.set_alias("digits", "production", &gated(1, max_drop)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest, "{max_drop}");
    }
    let missing = site.registry.set_alias("digits", "production", &plain(9)).await.unwrap_err();
    assert_eq!(missing.code(), Code::VersionNotFound);
    for alias in ["3", "latest", "A", ""] {
        let error = site.registry.set_alias("digits", alias, &plain(1)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest, "{alias:?}");
    }
}

#[tokio::test]
async fn a_deployment_follows_its_alias_and_protects_it() {
    let site = Site::new().await;
    site.publish(manifest("digits", 1), &["production"]).await.unwrap();
    site.publish(manifest("digits", 2), &[]).await.unwrap();
    let registry = &site.registry;
    let set = SetDeployment::of("production");
    let deployment = registry.set_deployment("digits", &set).await.unwrap();
    assert_eq!(deployment.version, Some(1));
    registry.set_alias("digits", "production", &plain(2)).await.unwrap();
    assert_eq!(registry.deployments().await.unwrap()[0].version, Some(2));

    let kept = registry.remove_alias("digits", "production").await.unwrap_err();
    assert_eq!(kept.code(), Code::Conflict);
    let unknown = SetDeployment::of("nothing");
    assert_eq!(registry.set_deployment("digits", &unknown).await.unwrap_err().code(), Code::ModelNotFound);

    registry.remove_deployment("digits").await.unwrap();
    assert_eq!(registry.remove_deployment("digits").await.unwrap_err().code(), Code::ModelNotFound);
    registry.remove_alias("digits", "production").await.unwrap();
    assert_eq!(registry.remove_alias("digits", "production").await.unwrap_err().code(), Code::ModelNotFound);
    assert!(registry.deployments().await.unwrap().is_empty());
    registry.audit_verify().await.unwrap();
}

#[tokio::test]
async fn a_deployment_keeps_what_was_said_of_its_slots_until_it_is_taken_back() {
    let site = Site::new().await;
    site.publish(manifest("digits", 1), &["production"]).await.unwrap();
    let registry = &site.registry;
    let needing = |cores: Option<u64>, memory_bytes: Option<u64>| SetDeployment {
        needs: Some(SlotNeeds { cores, memory_bytes }),
        ..SetDeployment::of("production")
    };
    let said = async || registry.deployments().await.unwrap()[0].needs;
    registry.set_deployment("digits", &SetDeployment::of("production")).await.unwrap();
    assert!(said().await.is_empty());
    registry.set_deployment("digits", &needing(Some(2), None)).await.unwrap();
    registry.set_deployment("digits", &needing(None, Some(1 << 30))).await.unwrap();
    registry.set_deployment("digits", &SetDeployment::of("production")).await.unwrap();
    assert_eq!(said().await, SlotNeeds { cores: Some(2), memory_bytes: Some(1 << 30) });
    // An engine has its own threads.
    let by_engine = SetDeployment { engine: Some("other".into()), ..SetDeployment::of("production") };
    assert_eq!(registry.set_deployment("digits", &by_engine).await.unwrap_err().code(), Code::InvalidRequest);
    for wrong in [needing(Some(1 << 20), None), needing(None, Some(1)), needing(None, Some(u64::MAX))] {
        assert_eq!(registry.set_deployment("digits", &wrong).await.unwrap_err().code(), Code::InvalidRequest);
    }
    registry.set_deployment("digits", &needing(Some(0), None)).await.unwrap();
    assert_eq!(said().await, SlotNeeds { cores: None, memory_bytes: Some(1 << 30) });
    registry.audit_verify().await.unwrap();
}
