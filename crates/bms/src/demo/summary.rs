//! What the demo found, for people and for machines.

use std::collections::BTreeMap;

use bms_data::{Dataset, ImageSet};
use serde::Serialize;
use serde_json::{Value, json};

use super::edge::Streamed;
use crate::output::{self, bytes, percent};

/// The demo's last line in JSON. Everything in it was measured in this run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// The data and its parts.
    pub(crate) dataset: Value,
    /// The two versions of the small model.
    pub(crate) versions: Vec<VersionEntry>,
    /// The edge before and after.
    pub(crate) edge: EdgeSummary,
    /// What the gate refused.
    pub(crate) refused: Vec<Value>,
    /// Median milliseconds of one answer on each path.
    pub(crate) latency_ms: BTreeMap<&'static str, f64>,
    /// The small model with and without augmented data.
    pub(crate) augmentation: Augmentation,
    /// The larger model's accuracy on the held-out digits.
    pub(crate) teacher_accuracy: f64,
    /// Where the dashboard is.
    pub(crate) dashboard: String,
    /// Seconds from start to end.
    pub(crate) seconds: f64,
}

/// One version: accuracy on the held-out digits and bytes, before and after compression.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VersionEntry {
    pub(crate) version: u64,
    pub(crate) accuracy: f64,
    pub(crate) int8_accuracy: f64,
    pub(crate) size_bytes: u64,
    pub(crate) int8_size_bytes: u64,
    pub(crate) training_samples: usize,
}

/// Accuracy on the held-out digits of the same network, with the same number of steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Augmentation {
    pub(crate) accuracy_without: f64,
    pub(crate) accuracy_with: f64,
}

/// What the edge did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EdgeSummary {
    pub(crate) accuracy_v1: f64,
    pub(crate) accuracy_v2: f64,
    pub(crate) answers: u64,
    pub(crate) offline_answers: u64,
    pub(crate) samples_sent: u64,
}

impl EdgeSummary {
    pub(crate) fn new(before: f64, after: f64, streamed: &Streamed) -> EdgeSummary {
        EdgeSummary {
            accuracy_v1: before,
            accuracy_v2: after,
            answers: streamed.answers,
            offline_answers: streamed.offline_answers,
            samples_sent: streamed.samples_sent,
        }
    }
}

/// The data set's entry.
pub(crate) fn dataset(labelled: &ImageSet, stream: &ImageSet, held_out: &Dataset) -> Value {
    json!({
        "name": "UCI optical digits",
        "pixels": "8x8",
        "licence": "CC-BY-4.0",
        "labelled": labelled.samples.len(),
        "stream": stream.samples.len(),
        "held_out": held_out.len(),
        "held_out_digest": held_out.digest(),
    })
}

impl Summary {
    /// Tables for people.
    pub(crate) fn text(&self) -> String {
        let mut models =
            output::table(&["small model", "trained on", "accuracy", "as int8", "size", "as int8"]);
        for v in &self.versions {
            models.add_row([
                format!("version {}", v.version),
                format!("{} digits", v.training_samples),
                percent(v.accuracy),
                percent(v.int8_accuracy),
                bytes(v.size_bytes),
                bytes(v.int8_size_bytes),
            ]);
        }
        let mut facts = output::table(&["what", "measured"]);
        let [without, with] = [self.augmentation.accuracy_without, self.augmentation.accuracy_with];
        facts.add_row([
            "augmentation".to_owned(),
            format!("{} without, {} with", percent(without), percent(with)),
        ]);
        facts.add_row(["larger model".to_owned(), percent(self.teacher_accuracy)]);
        let edge = &self.edge;
        let turn = format!(
            "{} with version 1, {} with version 2",
            percent(edge.accuracy_v1),
            percent(edge.accuracy_v2)
        );
        facts.add_row(["on the edge".to_owned(), turn]);
        let away = format!("{} of {} answers with the centre down", edge.offline_answers, edge.answers);
        facts.add_row(["edge offline".to_owned(), away]);
        facts.add_row([
            "back to data".to_owned(),
            format!("{} hard samples sent to the centre", edge.samples_sent),
        ]);
        let latency: Vec<_> = self.latency_ms.iter().map(|(path, ms)| format!("{path} {ms:.3} ms")).collect();
        facts.add_row(["median latency".to_owned(), latency.join(", ")]);
        for refusal in &self.refused {
            let text = |key: &str| refusal[key].as_str().unwrap_or_default().to_owned();
            facts.add_row([format!("refused: {}", text("bundle")), text("code")]);
        }
        format!(
            "\nAccuracy is measured on {} digits by writers whose digits no version was trained on.\n{models}\n{facts}\n\
             The whole loop took {:.0} seconds.",
            self.dataset["held_out"], self.seconds
        )
    }
}
