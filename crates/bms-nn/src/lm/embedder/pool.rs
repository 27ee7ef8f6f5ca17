//! Hidden states become one vector.

use crate::lm::hyper::Pooling;

/// One vector of `width` numbers from rows of as many.
///
/// # Panics
/// When there are no rows.
pub fn pooled(states: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    let rows = states.len() / width;
    assert!(0 < rows, "there are no states to pool");
    match pooling {
        Pooling::Cls => states[..width].to_vec(),
        Pooling::Last => states[(rows - 1) * width..rows * width].to_vec(),
        Pooling::Mean => {
            let mut sums = vec![0.0; width];
            for row in states.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            sums.iter_mut().for_each(|sum| *sum /= rows as f32);
            sums
        }
    }
}

/// Scales a vector to length one; a vector of zeros stays.
pub fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if 0.0 < length {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}
