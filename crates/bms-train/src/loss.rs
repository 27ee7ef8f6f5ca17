//! Cross-entropy.

use bms_wire::Result;
use burn::tensor::{Tensor, TensorData, activation};

use crate::network::to_vec;

/// Loss and hits of one shard.
pub(crate) struct Measured {
    /// Sum of the samples' losses over the *batch's* size: shards add up to the batch's mean.
    pub(crate) loss: Tensor<1>,
    /// Samples whose largest logit is their label's.
    pub(crate) hits: usize,
}

/// Cross-entropy of logits `[rows, labels]` with `targets`, through log-softmax, which subtracts the
/// largest logit and so neither overflows nor takes the logarithm of zero.
///
/// `smoothing` moves that share of each target evenly to all labels (Szegedy et al. 2016,
/// arXiv 1512.00567). `batch` is the number of rows the mean is taken over.
pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    targets: &[usize],
    smoothing: f32,
    batch: usize,
) -> Result<Measured> {
    let [rows, labels] = logits.dims();
    let even = smoothing / labels as f32;
    let mut wanted = vec![even; rows * labels];
    for (row, &target) in targets.iter().enumerate() {
        wanted[row * labels + target] += 1.0 - smoothing;
    }
    let device = logits.device();
    let hits = hits(&to_vec(logits.clone().inner())?, targets, labels);
    let wanted = Tensor::<2>::from_data(TensorData::new(wanted, [rows, labels]), &device);
    let loss = (activation::log_softmax(logits, 1) * wanted).sum() * (-1.0 / batch as f32);
    Ok(Measured { loss, hits })
}

/// How many rows have their largest value at their target.
fn hits(logits: &[f32], targets: &[usize], labels: usize) -> usize {
    let rows = logits.chunks_exact(labels).zip(targets);
    rows.filter(|(row, target)| largest(row) == Some(**target)).count()
}

/// Index of the largest value, the first of equals; `None` when one is NaN or there is none.
pub(crate) fn largest(row: &[f32]) -> Option<usize> {
    if row.iter().any(|x| x.is_nan()) {
        return None;
    }
    (0..row.len()).reduce(|best, idx| if row[best] < row[idx] { idx } else { best })
}

#[cfg(test)]
mod tests;
