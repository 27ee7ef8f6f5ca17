use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bms_registry::{SampleCounts, SampleFilter};
use bms_wire::Code;
use bms_wire::api::{AssignedLabel, HardSample, NodeReport, SampleDelivery};

use crate::bundles::Site;

fn sample(content: &str) -> HardSample {
    HardSample {
        id: blake3::hash(content.as_bytes()).to_hex().to_string(),
        image: BASE64.encode(content),
        label: "7".into(),
        confidence: 0.4,
        version: 1,
        at_ms: 5,
    }
}

fn delivery(contents: &[&str]) -> SampleDelivery {
    SampleDelivery { samples: contents.iter().map(|content| sample(content)).collect() }
}

#[tokio::test]
async fn a_delivery_sent_twice_stores_nothing_twice() {
    let site = Site::new().await;
    let registry = &site.registry;
    assert_eq!(registry.store_samples("edge-1", "digits", &delivery(&["a", "b", "a"])).await.unwrap(), 2);
    assert_eq!(registry.store_samples("edge-1", "digits", &delivery(&["b", "c"])).await.unwrap(), 1);
    assert_eq!(registry.store_samples("edge-2", "digits", &delivery(&["a", "b", "c"])).await.unwrap(), 0);
    let stored = registry.samples(&SampleFilter::default(), 10).await.unwrap();
    let ids: Vec<_> = stored.iter().map(|s| s.sample.id.clone()).collect();
    assert_eq!(ids, ["a", "b", "c"].map(|content| sample(content).id), "in order of arrival");
    assert!(stored.iter().all(|s| s.node == "edge-1" && s.sample.image.is_empty()));
    let first = registry.sample(&ids[0]).await.unwrap();
    assert_eq!(first.sample, sample("a"), "the picture comes with the single sample");
}

#[tokio::test]
async fn labels_are_kept_listed_and_audited() {
    let site = Site::new().await;
    let registry = &site.registry;
    registry.store_samples("edge-1", "digits", &delivery(&["a", "b", "c"])).await.unwrap();
    registry.store_samples("edge-1", "letters", &delivery(&["d"])).await.unwrap();
    let id = sample("b").id;
    let label = AssignedLabel { label: "1".into(), by: "model:teacher@1".into(), confidence: 0.99 };
    registry.label_sample(&id, &label).await.unwrap();

    assert_eq!(registry.sample_counts().await.unwrap(), SampleCounts { total: 4, unlabelled: 3 });
    let of_digits = |labelled| SampleFilter { model: Some("digits".into()), labelled, after: None };
    let labelled = registry.samples(&of_digits(Some(true)), 10).await.unwrap();
    assert_eq!(labelled.len(), 1);
    assert_eq!((labelled[0].sample.id.as_str(), labelled[0].assigned.as_ref()), (id.as_str(), Some(&label)));
    let open = registry.samples(&of_digits(Some(false)), 10).await.unwrap();
    assert_eq!(open.len(), 2);
    let after = SampleFilter { after: Some(open[0].sample.id.clone()), ..of_digits(None) };
    let next: Vec<_> =
        registry.samples(&after, 1).await.unwrap().iter().map(|s| s.sample.id.clone()).collect();
    assert_eq!(next, std::slice::from_ref(&id), "the next page of one");
    let event = registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!((event.action.as_str(), event.subject.as_str()), ("sample.labelled", id.as_str()));
}

#[tokio::test]
async fn what_is_wrong_with_a_sample_refuses_the_whole_delivery() {
    let site = Site::new().await;
    let check = async |want: Code, edit: fn(&mut HardSample)| {
        let mut delivery = delivery(&["good", "bad"]);
        edit(&mut delivery.samples[1]);
        let error = site.registry.store_samples("edge-1", "digits", &delivery).await.unwrap_err();
        assert_eq!(error.code(), want, "{error}");
        assert_eq!(site.registry.sample_counts().await.unwrap().total, 0);
    };
    check(Code::InvalidRequest, |s| s.id = sample("other").id).await;
    check(Code::InvalidRequest, |s| s.id = "../x".into()).await;
    check(Code::InvalidRequest, |s| s.image = "not base64!".into()).await;
    check(Code::InvalidRequest, |s| s.confidence = f32::NAN).await;
    check(Code::InvalidRequest, |s| s.confidence = 1.5).await;
    check(Code::InvalidRequest, |s| s.label = String::new()).await;
    check(Code::TooLarge, |s| s.version = u64::MAX).await;
    check(Code::TooLarge, |s| s.image = "A".repeat(2 << 20)).await;

    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    let many = delivery(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(
        site.registry.store_samples("edge-1", "digits", &many).await.unwrap_err().code(),
        Code::TooLarge
    );
    let error = site.registry.store_samples("Edge/1", "digits", &delivery(&["a"])).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
}

#[tokio::test]
async fn labels_for_nothing_are_refused() {
    let site = Site::new().await;
    let label = AssignedLabel { label: "1".into(), by: "someone".into(), confidence: 1.0 };
    let id = sample("unknown").id;
    assert_eq!(site.registry.label_sample(&id, &label).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(site.registry.sample(&id).await.unwrap_err().code(), Code::NotFound);
    let empty = AssignedLabel { label: String::new(), ..label };
    assert_eq!(site.registry.label_sample(&id, &empty).await.unwrap_err().code(), Code::InvalidRequest);
}

#[tokio::test]
async fn nodes_join_once_and_report_often() {
    let site = Site::new().await;
    let mut report = NodeReport {
        model: "digits".into(),
        version: None,
        answers: 0,
        offline_answers: 0,
        outbox: 0,
        problem: None,
    };
    site.registry.report_node("edge-1", &report).await.unwrap();
    report.version = Some(2);
    report.answers = 10;
    report.problem = Some("x".repeat(5000));
    site.registry.report_node("edge-1", &report).await.unwrap();
    let nodes = site.registry.nodes().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!((nodes[0].report.version, nodes[0].report.answers), (Some(2), 10));
    assert_eq!(nodes[0].report.problem.as_ref().unwrap().len(), 1000, "long problems are cut");
    assert_eq!(site.registry.audit_verify().await.unwrap(), 2, "one event for joining");
    assert!(site.registry.report_node("Edge 1", &report).await.is_err());
}
