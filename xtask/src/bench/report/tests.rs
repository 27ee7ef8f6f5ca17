use std::path::PathBuf;

use super::*;

fn report() -> Report {
    let plan = Plan { model: PathBuf::from("model.gguf"), threads: 2, rounds: 2, works: Vec::new() };
    let machine = Machine {
        read_bytes: 20e9,
        f32_operations: 200e9,
        int8_operations: 800e9,
        isa: "avx2".to_owned(),
        all: Value::Null,
    };
    let model = json!({
        "integer_products": true, "decode_bytes_per_token": 1e9, "prefill_operations_per_token": 2e9,
        "decode_operations_per_token": 4e9,
    });
    Report::new(&plan, machine, model, true)
}

#[test]
fn a_ratio_says_how_many_times_better() {
    let mut report = report();
    for (ours, speed, pause) in
        [(true, 30.0, 100.0), (false, 10.0, 400.0), (true, 20.0, 50.0), (false, 10.0, 50.0)]
    {
        report.add(ours, vec![(Work::Generate, speed), (Work::Pauses, pause)]);
    }
    let json: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
    assert_eq!(json["works"][0]["ratios"], json!([3.0, 2.0]));
    assert_eq!(json["works"][0]["ratio_median"], 2.5);
    assert_eq!(json["works"][0]["ours"]["median"], 25.0);
    assert_eq!(json["works"][1]["ratios"], json!([4.0, 1.0]));
}

#[test]
fn limits_come_from_memory_or_arithmetic_whichever_is_less() {
    let mut report = report();
    assert_eq!(report.limit(Work::Prompt), Some(400.0));
    assert_eq!(report.limit(Work::Generate), Some(20.0));
    assert_eq!(report.limit(Work::Batch), Some(200.0));
    assert_eq!(report.limit(Work::Load), None);
    report.model["integer_products"] = json!(false);
    assert_eq!(report.limit(Work::Prompt), Some(100.0));
    report.model = Value::Null;
    assert_eq!(report.limit(Work::Prompt), None);
}

#[test]
fn the_median_of_an_even_number_lies_between() {
    assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    assert_eq!(median(&[4.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[]), None);
    assert_eq!(spread(&[1.0, 4.0], 1), "2.5 (1.0..4.0)");
}

#[test]
fn without_a_peer_ours_is_printed_alone() {
    let mut report = report();
    report.add(true, vec![(Work::Prompt, 100.0)]);
    assert!(report.text().contains("25 %"), "{}", report.text());
    let json: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
    assert_eq!(json["works"][0]["llama_cpp"], Value::Null);
    assert_eq!(json["works"][0]["ratio_median"], Value::Null);
}
