//! Whether a graph answers a row alone as it answers it among others.
//!
//! A free first axis only says that any length is accepted. A graph may still mix its rows: a softmax
//! over the wrong axis, a normalisation over the batch. Joining requests would then leak one caller's
//! input into another's answer, so such a graph runs each request alone.

use bms_nn::Tensor;
use bms_wire::limits;

use crate::batch::Run;

/// How far a row's values may move with its neighbours, relative to the largest: other block sizes in
/// the matrix kernels round differently.
const ROUNDING: f32 = 1e-3;

/// Runs two rows together and each alone, and compares. `shape` is one row's.
pub(crate) fn rows_are_independent(session: &mut impl Run, input: &str, shape: &[usize]) -> bool {
    let count: usize = shape.iter().product();
    if limits::TENSOR_VALUES_MAX / 2 < count {
        return false;
    }
    // Two unlike rows without structure, by Knuth's multiplicative hash.
    let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32;
    let values: Vec<f32> =
        (0..count).map(value).chain((0..count).map(|i| 1.0 - 2.0 * value(i * 7 + 3))).collect();
    let mut run = |rows: usize, values: &[f32]| {
        let tensor = Tensor::f32([&[rows], shape].concat(), values.to_vec()).ok()?;
        session.run(vec![(input.to_owned(), tensor)]).ok()
    };
    let (Some(both), Some(first), Some(second)) =
        (run(2, &values), run(1, &values[..count]), run(1, &values[count..]))
    else {
        return false;
    };
    both.iter().zip(first.iter().zip(&second)).all(|((_, both), ((_, first), (_, second)))| {
        let alone = Tensor::concat_rows(&[first, second]);
        alone.is_ok_and(|alone| alike(&alone, both))
    })
}

fn alike(a: &Tensor, b: &Tensor) -> bool {
    if a.shape() != b.shape() {
        return false;
    }
    let (Some(x), Some(y)) = (a.as_f32(), b.as_f32()) else { return a.data() == b.data() };
    let largest = x.iter().filter(|v| v.is_finite()).fold(0f32, |max, v| max.max(v.abs()));
    x.iter().zip(y).all(|(x, y)| x == y || (x - y).abs() <= ROUNDING * largest)
}
