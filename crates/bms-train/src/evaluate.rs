//! How good a classifier is.

use std::collections::BTreeMap;
use std::path::Path;

use bms_bundle::Evaluation;
use bms_data::Dataset;
use bms_wire::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use crate::loss::largest;
use crate::predict::Probabilities;
use crate::samples::label_map;

mod picture;

/// Samples asked for at a time.
const BATCH_ROWS: usize = 64;
/// Bins of the reliability diagram and of the calibration error.
const BINS: usize = 15;

/// The evaluation of a classifier on a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Samples evaluated.
    pub samples: u64,
    /// Share of samples whose most probable label is theirs.
    pub accuracy: f64,
    /// Mean of the classes' F1.
    pub macro_f1: f64,
    /// Mean negative logarithm of the probability given to the right label (natural logarithm;
    /// probabilities below 1.2e-7 count as that).
    pub nll: f64,
    /// Expected calibration error: the mean distance between confidence and accuracy over 15 bins of equal
    /// width, weighted by their samples (Guo et al. 2017, arXiv 1706.04599).
    pub ece: f64,
    /// Each class.
    pub classes: Vec<ClassReport>,
    /// Row: true label; column: answered label.
    pub confusion: Vec<Vec<u64>>,
    /// The bins of the calibration error.
    pub reliability: Vec<Bin>,
}

/// One class. A quotient without cases is 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassReport {
    /// Its name.
    pub label: String,
    /// Of the samples answered so, the share that are.
    pub precision: f64,
    /// Of the samples that are, the share answered so.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Samples that are.
    pub support: u64,
}

/// Samples whose largest probability lies in `(low, high]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bin {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// How many.
    pub samples: u64,
    /// Their mean largest probability; 0 without samples.
    pub confidence: f64,
    /// Their accuracy; 0 without samples.
    pub accuracy: f64,
}

/// Evaluates on every sample of `data`. `predict` gives, for sample indices, their probabilities in the
/// order of `labels`, the model's labels.
///
/// # Errors
/// `InvalidInput` when `data` is empty or has a label not among `labels`, or when a prediction is not a row
/// of finite numbers as long as `labels`; whatever `predict` fails with.
pub fn evaluate(
    predict: &mut dyn FnMut(&[usize]) -> Result<Probabilities>,
    data: &Dataset,
    labels: &[String],
) -> Result<Report> {
    let map = label_map(data, labels)?;
    let indices: Vec<usize> = (0..data.len()).collect();
    let mut tally = Tally::new(labels.len());
    for rows in indices.chunks(BATCH_ROWS) {
        let answers = predict(rows)?;
        if answers.len() != rows.len() {
            let message = format!("{} predictions for {} samples", answers.len(), rows.len());
            return Err(Error::new(Code::InvalidInput, message));
        }
        for (&idx, row) in rows.iter().zip(&answers) {
            tally
                .add(map[data.target(idx)], row)
                .map_err(|e| e.while_doing(format!("evaluate sample {idx}")))?;
        }
    }
    Ok(tally.report(labels))
}

impl Report {
    /// The files `report.json` and `confusion.svg`.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::new(Code::Internal, "failed to write the report").because(e))?;
        json.push(b'\n');
        let names: Vec<&str> = self.classes.iter().map(|class| class.label.as_str()).collect();
        let svg = picture::confusion(&names, &self.confusion)?;
        Ok(vec![("report.json".to_owned(), json), ("confusion.svg".to_owned(), svg.into_bytes())])
    }

    /// Writes [`Report::files`] to the folder `dir`, making it when it is not there.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("create the folder", dir, e))?;
        for (name, bytes) in self.files()? {
            let path = dir.join(name);
            std::fs::write(&path, bytes).map_err(|e| Error::io("write", &path, e))?;
        }
        Ok(())
    }

    /// The entry for a manifest's metrics.
    pub fn evaluation(&self, data_digest: String, data_name: &str) -> Evaluation {
        let values =
            [("accuracy", self.accuracy), ("macro_f1", self.macro_f1), ("nll", self.nll), ("ece", self.ece)];
        Evaluation {
            data_digest,
            data_name: data_name.to_owned(),
            samples: self.samples,
            values: values
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<BTreeMap<_, _>>(),
        }
    }
}

/// Counts and sums while samples come in.
struct Tally {
    confusion: Vec<Vec<u64>>,
    nll_sum: f64,
    /// Samples, sum of confidences, hits.
    bins: Vec<(u64, f64, u64)>,
}

impl Tally {
    fn new(labels: usize) -> Tally {
        Tally { confusion: vec![vec![0; labels]; labels], nll_sum: 0.0, bins: vec![(0, 0.0, 0); BINS] }
    }

    fn add(&mut self, target: usize, row: &[f32]) -> Result<()> {
        if row.len() != self.confusion.len() || row.iter().any(|p| !p.is_finite()) {
            let message = format!("expected {} finite probabilities, not {row:?}", self.confusion.len());
            return Err(Error::new(Code::InvalidInput, message));
        }
        let answer =
            largest(row).ok_or_else(|| Error::new(Code::InvalidInput, "a prediction without labels"))?;
        self.confusion[target][answer] += 1;
        self.nll_sum -= f64::from(row[target].clamp(f32::EPSILON, 1.0)).ln();
        let confidence = f64::from(row[answer]);
        // Bins are open below and closed above, so that a confidence of exactly 1 has one.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let (samples, sum, hits) = &mut self.bins[bin];
        *samples += 1;
        *sum += confidence;
        *hits += u64::from(answer == target);
        Ok(())
    }

    fn report(self, labels: &[String]) -> Report {
        let all: u64 = self.confusion.iter().flatten().sum();
        let right: u64 = (0..labels.len()).map(|label| self.confusion[label][label]).sum();
        let classes: Vec<ClassReport> =
            labels.iter().enumerate().map(|(idx, label)| self.class(idx, label)).collect();
        let reliability: Vec<Bin> =
            self.bins.iter().enumerate().map(|(idx, bin)| reliability(idx, *bin)).collect();
        let gap = |bin: &Bin| bin.samples as f64 * (bin.accuracy - bin.confidence).abs();
        Report {
            samples: all,
            accuracy: quotient(right, all),
            macro_f1: classes.iter().map(|class| class.f1).sum::<f64>() / classes.len() as f64,
            nll: self.nll_sum / all as f64,
            ece: reliability.iter().map(gap).sum::<f64>() / all as f64,
            classes,
            confusion: self.confusion,
            reliability,
        }
    }

    fn class(&self, idx: usize, label: &str) -> ClassReport {
        let right = self.confusion[idx][idx];
        let support: u64 = self.confusion[idx].iter().sum();
        let answered: u64 = self.confusion.iter().map(|row| row[idx]).sum();
        ClassReport {
            label: label.to_owned(),
            precision: quotient(right, answered),
            recall: quotient(right, support),
            f1: quotient(2 * right, support + answered),
            support,
        }
    }
}

fn reliability(idx: usize, (samples, sum, hits): (u64, f64, u64)) -> Bin {
    let edge = |idx: usize| idx as f64 / BINS as f64;
    let confidence = if samples == 0 { 0.0 } else { sum / samples as f64 };
    Bin { low: edge(idx), high: edge(idx + 1), samples, confidence, accuracy: quotient(hits, samples) }
}

fn quotient(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
