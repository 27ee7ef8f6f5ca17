//! What comes out of a model.

use bms_nn::Tensor;
use bms_wire::{Code, Error, Result};

/// The answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The graph's outputs as they are.
    pub outputs: Vec<(String, Tensor)>,
    /// One a row, when the model classifies.
    pub classes: Option<Vec<Classification>>,
}

/// The labels of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// Every label with its probability, best first; equal ones in the order of the labels.
    pub ranked: Vec<(String, f32)>,
}

/// Softmax over the first output's logits, row by row; `None` without labels.
pub(crate) fn classify(
    outputs: &[(String, Tensor)],
    labels: &[String],
) -> Result<Option<Vec<Classification>>> {
    if labels.is_empty() {
        return Ok(None);
    }
    let broken =
        |what: &str| Error::new(Code::Internal, format!("the model's output cannot be classified: {what}"));
    let (_, logits) = outputs.first().ok_or_else(|| broken("there is none"))?;
    let values = logits.as_f32().ok_or_else(|| broken("it is not f32"))?;
    if logits.shape().len() != 2 || logits.shape().last() != Some(&labels.len()) {
        return Err(broken(&format!("its shape is {:?}, the labels are {}", logits.shape(), labels.len())));
    }
    if !logits.is_finite() {
        return Err(broken("it holds NaN or infinity"));
    }
    let row = |logits: &[f32]| {
        let mut ranked: Vec<_> = labels.iter().cloned().zip(softmax(logits)).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        Classification { ranked }
    };
    Ok(Some(values.chunks_exact(labels.len()).map(row).collect()))
}

/// Probabilities of finite logits; the largest is subtracted first, so nothing overflows.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|x| (x - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}
