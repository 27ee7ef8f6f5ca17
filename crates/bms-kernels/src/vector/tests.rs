use super::*;
use crate::Isa;
use crate::check::{LENGTHS, Tolerance, assert_close, guarded, pools, random};

/// One multiplication and one addition, rounded each.
const TOLERANCE: Tolerance = Tolerance { absolute: 2e-7, relative: 2e-7 };

#[test]
fn sums_are_taken_number_by_number() {
    for pool in pools() {
        for &len in LENGTHS.iter().chain(&[30_000]) {
            let (x, y) = (random(1, len), random(2, len));
            let with = |f: f64| -> Vec<f64> {
                x.iter().zip(&y).map(|(&x, &y)| f64::from(x) + f * f64::from(y)).collect()
            };
            let context = format!("{len} on {}", pool.isa());
            assert_close(&guarded(&x, |x| add(&pool, x, &y)), &with(1.0), TOLERANCE, &context);
            assert_close(&guarded(&x, |x| add_scaled(&pool, x, -0.5, &y)), &with(-0.5), TOLERANCE, &context);
            let scaled: Vec<f64> = x.iter().map(|&x| f64::from(x) * 3.0).collect();
            assert_close(&guarded(&x, |x| scale(&pool, x, 3.0)), &scaled, TOLERANCE, &context);
        }
    }
}

#[test]
fn a_bias_is_added_to_every_row() {
    for pool in pools() {
        let (x, bias) = (random(1, 50 * 333), random(2, 333));
        let expected: Vec<f64> =
            x.iter().enumerate().map(|(i, &x)| f64::from(x) + f64::from(bias[i % 333])).collect();
        let found = guarded(&x, |x| add_bias(&pool, x, &bias));
        assert_close(&found, &expected, TOLERANCE, pool.isa());
    }
}

#[test]
fn products_are_summed_over_the_whole_row() {
    for isa in Isa::available() {
        for &len in [0].iter().chain(LENGTHS) {
            let (x, y) = (random(3, len), random(4, len));
            let expected = x.iter().zip(&y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            // A thousand terms below one, added in 64 sums.
            let tolerance = Tolerance { absolute: 2e-5, relative: 0.0 };
            assert_close(&[dot(isa, &x, &y)], &[expected], tolerance, format!("{len} on {isa}"));
        }
    }
}
