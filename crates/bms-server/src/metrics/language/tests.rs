use bms_wire::language::{Finished, WeightReading};

use super::*;

#[test]
fn histograms_add_up_and_every_model_has_its_labels() {
    let of = |model: &str| VersionName { model: model.to_owned(), version: 2 };
    let histogram = Histogram { edges: vec![0.1, 1.0], counts: vec![3, 2, 1], sum: 4.5 };
    let reading = Reading {
        running: 7,
        kv_pages: 8,
        kv_pages_used: 2,
        finished: vec![Finished { reason: "stop".to_owned(), requests: 6 }],
        time_to_first_token: histogram,
        weights: WeightReading {
            passes: 3,
            audited_bytes: 70,
            faults: 2,
            repaired: 1,
            last_pass_seconds: 1.5,
        },
        ..Reading::default()
    };
    let text = render(&[(of("a"), reading), (of("b"), Reading::default())]);
    for line in [
        "# TYPE bms_llm_requests_running gauge",
        r#"bms_llm_requests_running{model="a",version="2"} 7"#,
        r#"bms_llm_requests_running{model="b",version="2"} 0"#,
        r#"bms_llm_kv_cache_usage_ratio{model="a",version="2"} 0.25"#,
        r#"bms_llm_kv_cache_usage_ratio{model="b",version="2"} 0"#,
        r#"bms_weights_audit_passes_total{model="a",version="2"} 3"#,
        r#"bms_weights_audited_bytes_total{model="a",version="2"} 70"#,
        r#"bms_weights_faults_total{model="a",version="2"} 2"#,
        r#"bms_weights_repaired_total{model="a",version="2"} 1"#,
        r#"bms_weights_audit_last_pass_seconds{model="a",version="2"} 1.5"#,
        r#"bms_llm_requests_finished_total{model="a",version="2",finished_reason="stop"} 6"#,
        r#"bms_llm_time_to_first_token_seconds_bucket{model="a",version="2",le="0.1"} 3"#,
        r#"bms_llm_time_to_first_token_seconds_bucket{model="a",version="2",le="1"} 5"#,
        r#"bms_llm_time_to_first_token_seconds_bucket{model="a",version="2",le="+Inf"} 6"#,
        r#"bms_llm_time_to_first_token_seconds_sum{model="a",version="2"} 4.5"#,
        r#"bms_llm_time_to_first_token_seconds_count{model="a",version="2"} 6"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert_eq!(text.matches("# TYPE bms_llm_requests_running").count(), 1);
    assert_eq!(render(&[]), "");
}
