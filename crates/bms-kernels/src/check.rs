//! What tests of kernels share: numbers to compute with, and a comparison that says where it failed.

use crate::dequant::tests::Numbers;
use crate::{Isa, Pool};

/// Lengths around those of vectors.
pub(crate) const LENGTHS: &[usize] = &[1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 129, 300, 1000];

/// What stands beyond the end of what a kernel may write.
pub(crate) const CANARY: f32 = -77.625;

/// Numbers in [-1, 1).
pub(crate) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    (0..len).map(|_| (numbers.next() >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

/// Numbers up to `magnitude`, and zeros.
pub(crate) fn random_up_to(magnitude: f32, seed: u64, len: usize) -> Vec<f32> {
    random(seed, len)
        .into_iter()
        .enumerate()
        .map(|(i, x)| if i % 13 == 5 { 0.0 } else { x * magnitude })
        .collect()
}

/// Pools of every instruction set, with one thread and with more than the machine may have.
pub(crate) fn pools() -> Vec<Pool> {
    Isa::available().into_iter().flat_map(|isa| [Pool::new(1, isa), Pool::new(3, isa)]).collect()
}

/// Runs `f` on a buffer with canaries beyond its end and gives what it wrote.
pub(crate) fn guarded(before: &[f32], f: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut buffer = before.to_vec();
    buffer.resize(before.len() + 64, CANARY);
    f(&mut buffer[..before.len()]);
    assert!(buffer[before.len()..].iter().all(|&x| x == CANARY), "numbers beyond the end were written");
    buffer.truncate(before.len());
    buffer
}

/// How far a result may be from the exact one: `absolute + relative * |exact|`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    pub(crate) absolute: f64,
    pub(crate) relative: f64,
}

/// The first place where a result is too far from the exact one, or no number where that is one.
pub(crate) fn difference(found: &[f32], exact: &[f64], tolerance: Tolerance) -> Option<String> {
    if found.len() != exact.len() {
        return Some(format!("{} results for {}", found.len(), exact.len()));
    }
    found.iter().zip(exact).enumerate().find_map(|(i, (&found, &exact))| {
        let allowed = tolerance.absolute + tolerance.relative * exact.abs();
        let near = (f64::from(found) - exact).abs() <= allowed || f64::from(found) == exact;
        let wrong = if exact.is_nan() { !found.is_nan() } else { !near };
        wrong.then(|| format!("at {i}: {found:?} for {exact:?}, with {allowed:e} allowed"))
    })
}

/// # Panics
/// When results are too far from the exact ones.
#[track_caller]
pub(crate) fn assert_close(
    found: &[f32],
    exact: &[f64],
    tolerance: Tolerance,
    context: impl std::fmt::Display,
) {
    if let Some(difference) = difference(found, exact, tolerance) {
        panic!("{context}: {difference}");
    }
}

#[test]
fn the_comparison_sees_what_is_wrong() {
    let tolerance = Tolerance { absolute: 1e-6, relative: 1e-6 };
    let exact = [1.0, -2.0, 0.0];
    assert_eq!(difference(&[1.0, -2.0, 0.0], &exact, tolerance), None);
    assert_eq!(difference(&[1.000_001, -2.0, 1e-7], &exact, tolerance), None);
    for wrong in [[1.0, 2.0, 0.0], [1.00001, -2.0, 0.0], [f32::NAN, -2.0, 0.0], [1.0, -2.0, f32::INFINITY]] {
        assert!(difference(&wrong, &exact, tolerance).is_some());
    }
    assert!(difference(&[1.0], &exact, tolerance).is_some());
    assert!(difference(&[0.0], &[f64::NAN], tolerance).is_some());
}

#[test]
#[should_panic(expected = "numbers beyond the end were written")]
fn the_guard_sees_one_number_too_many() {
    guarded(&[0.0; 5], |row| {
        let beyond = row.as_mut_ptr().wrapping_add(row.len());
        // SAFETY: the guard's buffer goes on beyond the row.
        unsafe { *beyond = 0.0 };
    });
}
