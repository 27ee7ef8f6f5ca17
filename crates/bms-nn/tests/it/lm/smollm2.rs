//! SmolLM2-135M-Instruct against its computation in 64-bit numbers.
//!
//! `BMS_SMOLLM2` names the GGUF file.

use bms_kernels::Isa;
use bms_nn::lm::{LogitRows, ModelFiles};
use serde_json::Value;

use super::{Sequence, argmax, decoder, options};

/// Of log-probabilities: the activations are quantised to eight bits, the reference's are not. What moves all logits alike, as
/// much as one here, changes no answer.
const DIFFERENCE_MAX: f64 = 0.4;
/// Half of them are nearer than this.
const DIFFERENCE_MEDIAN: f64 = 0.12;

fn ids(case: &Value, key: &str) -> Vec<u32> {
    case[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn it_answers_as_its_reference() {
    let Some(path) = std::env::var_os("BMS_SMOLLM2") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "BMS_SMOLLM2 must be set in CI; `cargo xtask fixtures` gets the model"
        );
        eprintln!("SKIPPED: SmolLM2 was not run, because BMS_SMOLLM2 is not set");
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let expected: Value = serde_json::from_str(include_str!("../../data/smollm2/expected.json")).unwrap();
    for isa in Isa::available() {
        let mut model = decoder(&ModelFiles::Gguf(&bytes), &options(2, isa));
        let mut differences = Vec::new();
        for case in expected.as_array().unwrap().iter().filter(|case| case["prompt_ids"].is_array()) {
            let name = case["name"].as_str().unwrap();
            let mut sequence = Sequence::new(32);
            let mut logits = sequence.extend(&mut model, &ids(case, "prompt_ids"), LogitRows::Last);
            let total = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
            for top in case["first_top5"].as_array().unwrap() {
                let (id, wanted) = (top[0].as_u64().unwrap() as usize, top[3].as_f64().unwrap());
                let difference = (f64::from(logits[id]) - total - wanted).abs();
                assert!(difference < DIFFERENCE_MAX, "{name} on {isa}: token {id} is off by {difference}");
                differences.push(difference);
            }
            // From the first close call on another token is as good.
            let steps = case["exact_prefix_gap_ge_0_5"].as_u64().unwrap() as usize;
            for (step, wanted) in ids(case, "greedy_ids").into_iter().take(steps).enumerate() {
                assert_eq!(argmax(&logits), wanted, "{name} on {isa}: step {step}");
                logits = sequence.extend(&mut model, &[wanted], LogitRows::Last);
            }
        }
        differences.sort_by(f64::total_cmp);
        let median = differences[differences.len() / 2];
        assert!(median < DIFFERENCE_MEDIAN, "on {isa} half are off by {median} or more");
    }
}
