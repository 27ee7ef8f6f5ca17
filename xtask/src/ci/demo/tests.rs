use serde_json::json;

use super::*;

fn good() -> Value {
    json!({
        "dataset": "digits", "seconds": 60.5,
        "versions": [
            {"version": 1, "accuracy": 0.95, "int8_accuracy": 0.945, "size_bytes": 1000, "int8_size_bytes": 300},
            {"version": 2, "accuracy": 0.97, "int8_accuracy": 0.971, "size_bytes": 1000, "int8_size_bytes": 300}
        ],
        "edge": {"accuracy_v1": 0.9, "accuracy_v2": 0.93, "offline_answers": 10, "samples_sent": 5},
        "refused": [{"bundle": "a", "code": "tampered"}, {"bundle": "b", "code": "malicious_content"}],
        "latency_ms": {"library": 0.1, "http": 0.5, "cli": 20.0, "edge": 0.4},
        "augmentation": {"accuracy_without": 0.94, "accuracy_with": 0.97}
    })
}

#[test]
fn a_summary_that_keeps_every_promise_passes() {
    assert_eq!(check(&good()), [""; 0]);
}

#[test]
fn every_promise_can_be_broken() {
    for (path, value, want) in [
        ("/dataset", json!(null), "dataset is named"),
        ("/versions", json!([]), "there are versions"),
        ("/versions/1/accuracy", json!(0.959), "a version reaches 0.96"),
        ("/versions/0/int8_accuracy", json!(0.944), "int8 costs /versions/0/accuracy at most 0.005"),
        ("/versions/0/int8_accuracy", json!(null), "/versions/0/int8_accuracy is a number"),
        ("/versions/0/int8_size_bytes", json!(1000), "/versions/0/int8_size_bytes is below"),
        ("/versions/0/version", json!(null), "/versions/0/version is named"),
        ("/edge/accuracy_v2", json!(0.9), "the edge improves"),
        ("/edge/accuracy_v2", json!(93), "/edge/accuracy_v2 is at most 1"),
        ("/edge/offline_answers", json!(0), "/edge/offline_answers is a number above zero"),
        ("/edge/samples_sent", json!("5"), "/edge/samples_sent is a number above zero"),
        ("/refused/0/code", json!("signature_invalid"), "refused with tampered"),
        ("/refused/1/code", json!("tampered"), "refused with malicious_content"),
        ("/latency_ms/cli", json!(null), "/latency_ms/cli is a number"),
        ("/augmentation/accuracy_without", json!(null), "/augmentation/accuracy_without is a number"),
        ("/seconds", json!(181), "it takes at most 180 seconds"),
    ] {
        let mut summary = good();
        *summary.pointer_mut(path).unwrap() = value;
        let broken = check(&summary);
        assert!(broken.iter().any(|promise| promise.contains(want)), "{want}: {broken:?}");
    }
}

#[test]
fn an_empty_summary_breaks_all_promises() {
    assert!(check(&json!({})).len() >= 12);
    assert!(check(&json!([1])).len() >= 12);
}

#[test]
fn a_program_that_fails_or_says_nothing_is_an_error() {
    let root = Path::new(".");
    assert!(run(Path::new("false"), root).is_err());
    assert!(format!("{:#}", run(Path::new("true"), root).unwrap_err()).contains("printed nothing"));
    assert!(format!("{:#}", run(Path::new("echo"), root).unwrap_err()).contains("not JSON"));
}
