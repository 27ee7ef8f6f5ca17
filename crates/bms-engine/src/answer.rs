//! What comes out of a model.

use bms_nn::Tensor;
use bms_wire::{Activation, Code, Error, LabelsOutput, Outcome, Result, Scored};

/// The answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The graph's outputs as they are.
    pub outputs: Vec<(String, Tensor)>,
    /// One a row, when the model classifies.
    pub classes: Option<Vec<Classification>>,
    /// One an input, when the pipeline makes something else than labels of it; never [`Outcome::Labels`].
    pub found: Option<Vec<Outcome>>,
}

impl Answer {
    /// What the pipeline makes of each input; none when it only gives tensors.
    pub fn into_outcomes(self) -> Option<Vec<Outcome>> {
        let labels = |class: Classification| {
            let scored = |(label, probability)| Scored { label, probability };
            Outcome::Labels { labels: class.ranked.into_iter().map(scored).collect() }
        };
        self.found.or_else(|| Some(self.classes?.into_iter().map(labels).collect()))
    }
}

/// The labels of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// The labels, as many as the pipeline gives, with their probabilities, best first; equal ones in the order of the
    /// labels.
    pub ranked: Vec<(String, f32)>,
}

/// The first output's scores as labels, best first, row by row.
pub(crate) fn classify(outputs: &[(String, Tensor)], output: &LabelsOutput) -> Result<Vec<Classification>> {
    let labels = &output.labels;
    let broken =
        |what: &str| Error::new(Code::Internal, format!("the model's output cannot be classified: {what}"));
    let (_, scores) = outputs.first().ok_or_else(|| broken("there is none"))?;
    let values = scores.as_f32().ok_or_else(|| broken("it is not f32"))?;
    if scores.shape().len() != 2 || scores.shape().last() != Some(&labels.len()) {
        return Err(broken(&format!("its shape is {:?}, the labels are {}", scores.shape(), labels.len())));
    }
    if !scores.is_finite() {
        return Err(broken("it holds NaN or infinity"));
    }
    let row = |scores: &[f32]| {
        let probabilities = match output.activation {
            Activation::Softmax => softmax(scores),
            Activation::Sigmoid => scores.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
            Activation::None => scores.to_vec(),
        };
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        order.truncate(output.top.unwrap_or(labels.len()));
        Classification { ranked: order.into_iter().map(|i| (labels[i].clone(), probabilities[i])).collect() }
    };
    Ok(values.chunks_exact(labels.len()).map(row).collect())
}

/// Probabilities of finite logits; the largest is subtracted first, so nothing overflows.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|x| (x - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}
