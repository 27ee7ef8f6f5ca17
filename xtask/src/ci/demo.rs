//! The demo from end to end: what a newcomer runs, with its promises checked.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::process;

/// Accuracy the best version must reach on held-out digits of 8x8 pixels.
const ACCURACY_MIN: f64 = 0.96;
/// Accuracy that int8 may cost.
const INT8_DROP_MAX: f64 = 0.005;
/// How long the whole loop may take.
const SECONDS_MAX: f64 = 180.0;
/// Codes with which the two hostile bundles must be refused.
const REFUSALS: &[&str] = &["tampered", "malicious_content"];

/// Runs `bms demo --once --json` without any fixture and checks its last line.
pub(super) fn run(program: &Path, root: &Path) -> Result<()> {
    let mut demo = Command::new(program);
    demo.args(["demo", "--once", "--json"]).current_dir(root).env("CI", "true");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BMS_")) {
        demo.env_remove(name);
    }
    let printed = process::tee(&mut demo)?;
    ensure!(printed.success, "the demo failed");
    let last =
        printed.out.iter().rev().find(|line| !line.trim().is_empty()).context("the demo printed nothing")?;
    let summary: Value = serde_json::from_str(last).context("the demo's last line is not JSON")?;
    let broken = check(&summary);
    if !broken.is_empty() {
        bail!("the demo does not keep its promises:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

/// Every promise the summary breaks.
fn check(summary: &Value) -> Vec<String> {
    let mut promises = Promises { summary, broken: vec![] };
    promises.that("dataset is named", !summary["dataset"].is_null());
    promises.versions();
    let v1 = promises.share("/edge/accuracy_v1");
    let v2 = promises.share("/edge/accuracy_v2");
    promises.that(&format!("the edge improves from {v1} to more, not {v2}"), v1 < v2);
    promises.positive("/edge/offline_answers");
    promises.positive("/edge/samples_sent");
    let refused: Vec<&str> =
        list(&summary["refused"]).iter().filter_map(|one| one["code"].as_str()).collect();
    for code in REFUSALS {
        promises.that(&format!("a bundle is refused with {code}, among {refused:?}"), refused.contains(code));
    }
    for path in ["library", "http", "cli", "edge"] {
        promises.positive(&format!("/latency_ms/{path}"));
    }
    promises.share("/augmentation/accuracy_without");
    promises.share("/augmentation/accuracy_with");
    let seconds = promises.positive("/seconds");
    promises.that(&format!("it takes at most {SECONDS_MAX} seconds, not {seconds}"), seconds <= SECONDS_MAX);
    promises.broken
}

struct Promises<'a> {
    summary: &'a Value,
    broken: Vec<String>,
}

impl Promises<'_> {
    fn that(&mut self, promise: &str, kept: bool) {
        if !kept {
            self.broken.push(promise.to_owned());
        }
    }

    /// The number at a JSON pointer, greater than zero.
    fn positive(&mut self, path: &str) -> f64 {
        let number = self.summary.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
        self.that(&format!("{path} is a number above zero"), number > 0.0);
        number
    }

    /// The number at a JSON pointer, between zero and one.
    fn share(&mut self, path: &str) -> f64 {
        let number = self.positive(path);
        self.that(&format!("{path} is at most 1"), number.is_nan() || number <= 1.0);
        number
    }

    fn versions(&mut self) {
        let versions = list(&self.summary["versions"]);
        self.that("there are versions", !versions.is_empty());
        let mut best = 0.0f64;
        for (index, version) in versions.iter().enumerate() {
            let at = |field: &str| format!("/versions/{index}/{field}");
            self.that(&format!("{} is named", at("version")), !version["version"].is_null());
            let (accuracy, int8) = (self.share(&at("accuracy")), self.share(&at("int8_accuracy")));
            let drop = accuracy - int8;
            // One part in a billion for the rounding of decimal fractions.
            let kept = drop <= INT8_DROP_MAX + 1e-9;
            self.that(&format!("int8 costs {} at most {INT8_DROP_MAX}, not {drop}", at("accuracy")), kept);
            let (size, small) = (self.positive(&at("size_bytes")), self.positive(&at("int8_size_bytes")));
            self.that(&format!("{} is below {size}, not {small}", at("int8_size_bytes")), small < size);
            best = best.max(accuracy);
        }
        self.that(&format!("a version reaches {ACCURACY_MIN}, not {best}"), best >= ACCURACY_MIN);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests;
