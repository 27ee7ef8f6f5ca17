use bms_wire::api::{Memory, SlotState};

use super::{Metrics, SlotReading};

const MEMORY: Memory = Memory { budget_bytes: Some(4096), used_bytes: 1024 };

fn reading(version: u64, state: SlotState) -> SlotReading {
    SlotReading {
        model: "digits".into(),
        version,
        state,
        resident_bytes: Some(4096),
        progress_age_seconds: Some(0.0),
    }
}

#[test]
fn names_follow_the_conventions_and_slots_are_shown_as_they_stand() {
    let metrics = Metrics::new().unwrap();
    metrics.requests.with_label_values(&["digits", "1", "200"]).inc();
    metrics.latency.with_label_values(&["digits", "1"]).observe(0.002);
    let text =
        metrics.render(&[reading(1, SlotState::Ready), reading(2, SlotState::Starting)], &MEMORY, 0).unwrap();
    for line in [
        r#"bms_requests_total{code="200",model="digits",version="1"} 1"#,
        r#"bms_request_duration_seconds_bucket{model="digits",version="1",le="0.0025"} 1"#,
        r#"bms_slots{model="digits",state="ready",version="1"} 1"#,
        r#"bms_slots{model="digits",state="starting",version="2"} 1"#,
        r#"bms_slot_resident_memory_bytes{model="digits",version="1"} 4096"#,
        r#"bms_build_info{version="0.1.0"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
    let text = metrics.render(&[reading(2, SlotState::Ready)], &MEMORY, 0).unwrap();
    assert!(!text.contains(r#"version="1"} 4096"#), "a slot that has gone is still shown:\n{text}");
    assert!(!text.contains("starting"), "a state that has passed is still shown:\n{text}");
}
