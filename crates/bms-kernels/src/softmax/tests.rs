use super::*;
use crate::Isa;
use crate::check::{LENGTHS, Tolerance, assert_close, guarded, pools, random_up_to};

/// The difference of two scores up to 40 is rounded, which the exponential function makes relative: 2^-18. To that come its
/// own units of the last place and those of the sum.
const TOLERANCE: Tolerance = Tolerance { absolute: 1e-30, relative: 5e-6 };

fn exact(x: &[f32]) -> Vec<f64> {
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = x.iter().map(|&x| (f64::from(x) - f64::from(most)).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}

#[test]
fn rows_become_probabilities() {
    for pool in pools() {
        for &len in LENGTHS {
            for magnitude in [0.1, 3.0, 40.0] {
                let x = random_up_to(magnitude, 7, len * 9);
                let expected: Vec<f64> = x.chunks_exact(len).flat_map(exact).collect();
                let found = guarded(&x, |x| softmax(&pool, x, len));
                assert_close(&found, &expected, TOLERANCE, format!("{len} on {}", pool.isa()));
            }
        }
    }
}

#[test]
fn forbidden_scores_get_nothing_and_large_ones_do_not_overflow() {
    for isa in Isa::available() {
        let mut x = vec![f32::NEG_INFINITY; 37];
        (x[3], x[36]) = (3e38, 3e38);
        softmax_row(isa, &mut x);
        assert!(
            x.iter().enumerate().all(|(i, &p)| p == if i == 3 || i == 36 { 0.5 } else { 0.0 }),
            "{isa}: {x:?}"
        );
    }
}

#[test]
fn the_logarithm_of_the_sum_is_near_its_definition() {
    for isa in Isa::available() {
        for &len in LENGTHS {
            for magnitude in [0.1, 3.0, 200.0] {
                let x = random_up_to(magnitude, 8, len);
                let most = f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let sum = x.iter().map(|&x| (f64::from(x) - most).exp()).sum::<f64>();
                let tolerance = Tolerance { absolute: 1e-6, relative: 1e-6 };
                assert_close(
                    &[log_sum_exp(isa, &x)],
                    &[most + sum.ln()],
                    tolerance,
                    format!("{len} on {isa}"),
                );
            }
        }
        assert_eq!(log_sum_exp(isa, &[]), f32::NEG_INFINITY);
        assert_eq!(log_sum_exp(isa, &[f32::NEG_INFINITY; 20]), f32::NEG_INFINITY);
    }
}

#[test]
fn the_largest_score_is_found_wherever_it_stands_and_the_first_of_equals() {
    for isa in Isa::available() {
        for len in [1, 5, 16, 17, 1023, 1024, 1025, 5000] {
            for at in [0, 1, 7, len / 2, len - 1].into_iter().filter(|at| *at < len) {
                let mut x = random_up_to(5.0, 3, len);
                x[at] = 6.0;
                assert_eq!(argmax(isa, &x), Some(at), "{isa}");
                x[len - 1] = 6.0;
                assert_eq!(argmax(isa, &x), Some(at), "{isa}");
            }
        }
        assert_eq!(argmax(isa, &[]), None);
        assert_eq!(argmax(isa, &[f32::NEG_INFINITY; 40]), Some(0));
        assert_eq!(argmax(isa, &[f32::NAN, 1.0, f32::NAN, 2.0, f32::NAN]), Some(3));
        assert_eq!(argmax(isa, &[f32::NAN; 40]), None);
    }
}

#[test]
fn scores_are_bent_to_the_cap() {
    for pool in pools() {
        for &len in LENGTHS {
            let x = random_up_to(100.0, 7, len);
            let expected: Vec<f64> = x.iter().map(|&x| 30.0 * (f64::from(x) / 30.0).tanh()).collect();
            let found = guarded(&x, |x| soft_cap(&pool, x, 30.0));
            let tolerance = Tolerance { absolute: 1e-9, relative: 2e-6 };
            assert_close(&found, &expected, tolerance, format!("{len} on {}", pool.isa()));
        }
    }
}
