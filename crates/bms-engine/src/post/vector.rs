//! Hidden states to vectors.

use bms_nn::Tensor;
use bms_wire::{Outcome, Pooled, Result, VectorOutput};

use super::{broken, floats};

/// One vector a row, as sentence-transformers pools and normalises.
pub(super) fn read(
    output: &VectorOutput,
    tensor: &Tensor,
    mask: Option<&[Vec<bool>]>,
) -> Result<Vec<Outcome>> {
    let mut vectors: Vec<Vec<f32>> = match output.pooling {
        Pooled::None => {
            let ([_, width], values) = floats::<2>(tensor)?;
            values.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect()
        }
        Pooled::Mean | Pooled::First => {
            let ([rows, tokens, width], values) = floats::<3>(tensor)?;
            let mask = mask.filter(|mask| mask.len() == rows && mask.iter().all(|row| row.len() == tokens));
            let mask = mask.ok_or_else(|| broken(format!("its shape is {:?}", tensor.shape())))?;
            let row = |(states, mask): (&[f32], &Vec<bool>)| match output.pooling {
                Pooled::First => states[..width].to_vec(),
                _ => mean(states, mask, width),
            };
            values.chunks_exact((tokens * width).max(1)).zip(mask).map(row).collect()
        }
    };
    if output.normalise {
        vectors.iter_mut().for_each(|vector| normalise(vector));
    }
    Ok(vectors.into_iter().map(|vector| Outcome::Vector { vector }).collect())
}

/// The mean of the states whose place is a token.
fn mean(states: &[f32], mask: &[bool], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    let seen = states.chunks_exact(width).zip(mask).filter(|(_, is_token)| **is_token);
    let mut count = 0;
    for (state, _) in seen {
        sums.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
        count += 1;
    }
    sums.iter_mut().for_each(|sum| *sum /= count.max(1) as f32);
    sums
}

/// To length 1; a vector of zeros stays one.
fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x /= length);
}
