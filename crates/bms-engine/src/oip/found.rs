//! Outcomes as tensors. What there may be several of for one input comes one after the other, with `row` saying of which.

use bms_nn::{Data, Tensor};
use bms_wire::{Outcome, Postprocess, Result};

/// Names of the tensors a pipeline gives besides the graph's.
pub(super) fn names(post: &Postprocess) -> &'static [&'static str] {
    match post {
        Postprocess::Classify { .. } | Postprocess::Labels(_) | Postprocess::Tensor {} => &[],
        Postprocess::Vector(_) => &["embedding"],
        Postprocess::Boxes(_) => &["row", "label", "score", "box"],
        Postprocess::Line(_) => &["text", "score"],
        Postprocess::Lines(_) => &["text", "row", "line", "score", "corners"],
        Postprocess::Speech(_) => &["row", "probability", "segment_row", "segment"],
    }
}

/// Outcomes of one kind as tensors.
pub(super) fn outputs(outcomes: &[Outcome]) -> Result<Vec<(String, Tensor)>> {
    let mut columns = Columns::default();
    for (row, outcome) in outcomes.iter().enumerate() {
        columns.add(row as i32, outcome);
    }
    let Columns { rows, segment_rows, labels, texts, lines, scores, numbers, times } = columns;
    let count = rows.len();
    let tensor = |name: &str, shape: Vec<usize>, data| Tensor::new(shape, data).map(|t| (name.to_owned(), t));
    match outcomes.first() {
        None | Some(Outcome::Labels { .. }) => Ok(Vec::new()),
        Some(Outcome::Vector { vector }) => {
            Ok(vec![tensor("embedding", vec![outcomes.len(), vector.len()], Data::F32(numbers))?])
        }
        Some(Outcome::Boxes { .. }) => Ok(vec![
            tensor("row", vec![count], Data::I32(rows))?,
            tensor("label", vec![count], Data::Text(labels))?,
            tensor("score", vec![count], Data::F32(scores))?,
            tensor("box", vec![count, 4], Data::F32(numbers))?,
        ]),
        Some(Outcome::Line { .. }) => Ok(vec![
            tensor("text", vec![texts.len()], Data::Text(texts))?,
            tensor("score", vec![scores.len()], Data::F32(scores))?,
        ]),
        Some(Outcome::Lines { .. }) => Ok(vec![
            tensor("text", vec![texts.len()], Data::Text(texts))?,
            tensor("row", vec![count], Data::I32(rows))?,
            tensor("line", vec![count], Data::Text(lines))?,
            tensor("score", vec![count], Data::F32(scores))?,
            tensor("corners", vec![count, 4, 2], Data::F32(numbers))?,
        ]),
        Some(Outcome::Speech { .. }) => Ok(vec![
            tensor("row", vec![count], Data::I32(rows))?,
            tensor("probability", vec![count], Data::F32(scores))?,
            tensor("segment_row", vec![segment_rows.len()], Data::I32(segment_rows))?,
            tensor("segment", vec![times.len() / 2, 2], Data::F64(times))?,
        ]),
    }
}

/// What the tensors are made of.
#[derive(Default)]
struct Columns {
    rows: Vec<i32>,
    segment_rows: Vec<i32>,
    labels: Vec<String>,
    texts: Vec<String>,
    lines: Vec<String>,
    scores: Vec<f32>,
    numbers: Vec<f32>,
    times: Vec<f64>,
}

impl Columns {
    fn add(&mut self, row: i32, outcome: &Outcome) {
        match outcome {
            Outcome::Labels { .. } => {}
            Outcome::Vector { vector } => self.numbers.extend(vector),
            Outcome::Boxes { boxes, .. } => {
                for found in boxes {
                    self.rows.push(row);
                    self.labels.push(found.label.clone());
                    self.scores.push(found.score);
                    self.numbers.extend([found.left, found.top, found.right, found.bottom]);
                }
            }
            Outcome::Line { text, score } => {
                self.texts.push(text.clone());
                self.scores.push(*score);
            }
            Outcome::Lines { text, lines, .. } => {
                self.texts.push(text.clone());
                for line in lines {
                    self.rows.push(row);
                    self.lines.push(line.text.clone());
                    self.scores.push(line.score);
                    self.numbers.extend(line.corners.as_flattened());
                }
            }
            Outcome::Speech { segments, probabilities, .. } => {
                self.rows.extend(probabilities.iter().map(|_| row));
                self.scores.extend(probabilities);
                for segment in segments {
                    self.segment_rows.push(row);
                    self.times.extend([segment.start, segment.end]);
                }
            }
        }
    }
}
