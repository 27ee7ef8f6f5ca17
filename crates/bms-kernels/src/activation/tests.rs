use super::*;
use crate::check::{LENGTHS, Tolerance, assert_close, guarded, pools, random, random_up_to};

/// A few units of the last place of the exponential function, and for the exact unit the published error of its series.
fn tolerance(activation: Activation) -> Tolerance {
    match activation {
        // The product with the value is rounded.
        Activation::Relu => Tolerance { absolute: 0.0, relative: 6e-8 },
        Activation::Silu => Tolerance { absolute: 1e-30, relative: 6e-7 },
        // The argument of its exponential is a rounded cubic, up to 88.
        Activation::GeluTanh => Tolerance { absolute: 1e-7, relative: 1e-6 },
        Activation::Gelu => Tolerance { absolute: 1e-6, relative: 4e-7 },
    }
}

/// The complementary error function by its continued fraction, or the error function's series: to 1e-12.
fn erf(x: f64) -> f64 {
    if x.abs() < 2.5 {
        let mut term = x;
        let mut sum = x;
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let z = x.abs();
    let fraction = (1..=60).rev().fold(z, |below, n| z + f64::from(n) / 2.0 / below);
    (1.0 - (-z * z).exp() / fraction / std::f64::consts::PI.sqrt()).copysign(x)
}

fn exact(activation: Activation, x: f32) -> f64 {
    let x = f64::from(x);
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => x * (1.0 + erf(x / 2.0_f64.sqrt())) / 2.0,
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x * (1.0 + u.tanh()) / 2.0
        }
        Activation::Relu => x.max(0.0),
    }
}

const ALL: [Activation; 4] = [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu];

#[test]
fn every_function_is_near_its_definition_on_every_instruction_set() {
    for pool in pools() {
        for activation in ALL {
            for &len in LENGTHS.iter().chain(&[20_000]) {
                for magnitude in [0.01, 1.0, 8.0, 80.0] {
                    let (x, up) = (random_up_to(magnitude, 1, len), random(2, len));
                    let expected: Vec<f64> = x.iter().map(|&x| exact(activation, x)).collect();
                    let context = format!("{activation:?} of {len} up to {magnitude} on {}", pool.isa());
                    let found = guarded(&x, |x| activate(&pool, activation, x));
                    assert_close(&found, &expected, tolerance(activation), &context);
                    let expected: Vec<f64> =
                        expected.iter().zip(&up).map(|(x, &up)| x * f64::from(up)).collect();
                    let found = guarded(&x, |x| gate(&pool, activation, x, &up));
                    assert_close(&found, &expected, tolerance(activation), &context);
                }
            }
        }
    }
}

#[test]
fn far_from_zero_they_are_the_number_or_nothing_and_none_stays_none() {
    for pool in pools() {
        for activation in ALL {
            let mut x = [1e4, 3e38, -1e4, -3e38, f32::NAN, 0.0];
            activate(&pool, activation, &mut x);
            assert_eq!((x[0], x[1], x[5]), (1e4, 3e38, 0.0), "{activation:?} on {}", pool.isa());
            assert!(x[2].abs() < 1e-33 && x[3].abs() < 1.0, "{activation:?} on {}: {x:?}", pool.isa());
            assert!(x[4].is_nan(), "{activation:?} on {}", pool.isa());
        }
    }
}
