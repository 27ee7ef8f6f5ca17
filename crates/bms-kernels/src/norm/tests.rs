use super::*;
use crate::check::{LENGTHS, Tolerance, assert_close, guarded, pools, random};

/// Sums of a thousand squares in 32 bits, in lanes: some units of the last place.
const TOLERANCE: Tolerance = Tolerance { absolute: 1e-6, relative: 2e-6 };
const EPSILON: f32 = 1e-5;

fn exact_rms(x: &[f32], weight: &[f32]) -> Vec<f64> {
    x.chunks_exact(weight.len())
        .flat_map(|row| {
            let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / row.len() as f64;
            let scale = 1.0 / (mean + f64::from(EPSILON)).sqrt();
            row.iter()
                .zip(weight)
                .map(move |(&x, &w)| f64::from(x) * scale * f64::from(w))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn exact_layer(x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f64> {
    x.chunks_exact(weight.len())
        .flat_map(|row| {
            let count = row.len() as f64;
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
            let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
            let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            let bias = |i: usize| bias.map_or(0.0, |bias| f64::from(bias[i]));
            let of = |(i, &x): (usize, &f32)| (f64::from(x) - mean) * scale * f64::from(weight[i]) + bias(i);
            row.iter().enumerate().map(of).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn rows_have_mean_square_one() {
    for pool in pools() {
        for &len in LENGTHS {
            let (x, weight) = (random(1, len * 30), random(2, len));
            let exact = exact_rms(&x, &weight);
            let found = guarded(&vec![0.0; x.len()], |out| rms_norm(&pool, &x, &weight, EPSILON, out));
            assert_close(&found, &exact, TOLERANCE, format!("{len} on {}", pool.isa()));
            let found = guarded(&x, |x| rms_norm_in_place(&pool, x, &weight, EPSILON));
            assert_close(&found, &exact, TOLERANCE, format!("{len} in place on {}", pool.isa()));
        }
    }
}

#[test]
fn rows_have_mean_zero_and_variance_one_even_far_from_zero() {
    for pool in pools() {
        for &len in LENGTHS {
            for shift in [0.0, 1000.0] {
                let x: Vec<f32> = random(3, len * 30).iter().map(|x| x + shift).collect();
                let (weight, bias) = (random(4, len), random(5, len));
                for bias in [None, Some(&bias[..])] {
                    let found = guarded(&vec![0.0; x.len()], |out| {
                        layer_norm(&pool, &x, &weight, bias, EPSILON, out)
                    });
                    // The mean itself is known to a unit of the last place of 1000, 6e-5 of the deviation.
                    let absolute = if shift == 0.0 { 3e-6 } else { 1e-3 };
                    let tolerance = Tolerance { absolute, relative: 4e-6 };
                    let context = format!("{len} around {shift} on {}", pool.isa());
                    // One number has no variance: rounding of the mean decides.
                    if 1 < len || shift == 0.0 {
                        assert_close(&found, &exact_layer(&x, &weight, bias), tolerance, context);
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "5 numbers in rows of 3")]
fn broken_rows_are_refused() {
    rms_norm(&pools()[0], &[0.0; 5], &[0.0; 3], EPSILON, &mut [0.0; 5]);
}
