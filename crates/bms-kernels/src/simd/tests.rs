use super::*;
use crate::Isa;
use crate::check::{Tolerance, assert_close};

/// What a function of vectors becomes, so that a test can call it with any instruction set.
macro_rules! on_rows {
    ($($name:ident = $of:ident;)+) => { $(
        mod $name {
            use super::*;

            #[inline(always)]
            pub(super) fn of<S: Simd>(s: S, x: &mut [f32]) {
                for x in x.as_chunks_mut::<LANES>().0 {
                    let v = super::super::math::$of(s, s.load(x));
                    s.store(x, v);
                }
            }
        }
        kernel! { fn $name(x: &mut [f32]) = $name::of; }
    )+ };
}

on_rows! {
    exp_row = exp;
    exp2_of_negative_row = exp2_of_negative;
    tanh_row = tanh;
}

/// Numbers from `from` to `to`, a multiple of the lanes.
fn sweep(from: f32, to: f32) -> Vec<f32> {
    let steps = 160_000;
    (0..steps).map(|i| from + (to - from) * i as f32 / (steps - 1) as f32).collect()
}

fn check(f: fn(Isa, &mut [f32]), exact: fn(f64) -> f64, from: f32, to: f32, relative: f64) {
    let x = sweep(from, to);
    let expected: Vec<f64> = x.iter().map(|&x| exact(f64::from(x))).collect();
    for isa in Isa::available() {
        let mut found = x.clone();
        f(isa, &mut found);
        assert_close(&found, &expected, Tolerance { absolute: 0.0, relative }, isa);
    }
}

#[test]
fn functions_are_as_near_as_they_say() {
    check(exp_row, f64::exp, -87.3, 88.7, 3e-7);
    check(exp2_of_negative_row, f64::exp2, -126.0, 0.0, 2e-7);
    check(tanh_row, f64::tanh, -20.0, 20.0, 1e-6);
    check(tanh_row, f64::tanh, -0.3, 0.3, 1e-6);
}

#[test]
fn beyond_their_range_functions_stay_defined() {
    for isa in Isa::available() {
        let ends = [f32::NEG_INFINITY, -1e30, -127.5, f32::NAN, 0.0, 1e30, f32::INFINITY];
        let with = |f: fn(Isa, &mut [f32])| {
            let mut x = [0.0; LANES];
            x[..ends.len()].copy_from_slice(&ends);
            f(isa, &mut x);
            x
        };
        for powers in [with(exp_row), with(exp2_of_negative_row)] {
            assert_eq!((powers[0], powers[1], powers[2], powers[4]), (0.0, 0.0, 0.0, 1.0), "{isa}");
            assert!(powers[3].is_nan(), "{isa}");
        }
        let powers = with(exp_row);
        assert!(1e38 < powers[5] && powers[5].is_finite() && powers[5] == powers[6], "{isa}: {powers:?}");
        let bent = with(tanh_row);
        assert_eq!((bent[0], bent[1], bent[4], bent[5], bent[6]), (-1.0, -1.0, 0.0, 1.0, 1.0), "{isa}");
        assert!(bent[3].is_nan(), "{isa}");
    }
}

/// Every operation once, on numbers with signs, halves and not-a-number.
#[inline(always)]
fn operations<S: Simd>(s: S, a: &[f32; LANES], b: &[f32; LANES]) -> Vec<[f32; LANES]> {
    let (va, vb) = (s.load(a), s.load(b));
    let halves = a.map(|x| half::f16::from_f32(x).to_bits());
    let bytes = a.map(|x| x as i8);
    let mut back = [0; LANES];
    s.store_f16(&mut back, va);
    let results = [
        s.add(va, vb),
        s.sub(va, vb),
        s.mul(va, vb),
        s.div(va, vb),
        s.max(va, vb),
        s.min(va, vb),
        s.abs(va),
        s.round(va),
        s.if_less(va, vb, s.splat(1.0), s.splat(2.0)),
        s.with_sign(va, vb),
        s.load_f16(&halves),
        s.load_low_f16(halves.first_chunk().unwrap()),
        s.load_i8(&bytes),
        s.load_low_i8(bytes.first_chunk().unwrap()),
        s.load_low(a.first_chunk().unwrap()),
        s.load_part(&a[..5], -3.0),
        s.scale_by_power(va, s.splat(-7.0)),
        s.splat(s.sum(vb)),
        s.splat(s.largest(vb)),
        s.splat(s.largest_magnitude(vb, s.splat(-9.5))),
        s.splat(s.largest_magnitude(va, vb)),
        s.splat(s.largest_magnitude(vb, va)),
    ];
    let (codes, sum) = s.to_i8(vb);
    let mut rows: Vec<[f32; LANES]> = results
        .into_iter()
        .map(|v| {
            let mut row = [0.0; LANES];
            s.store(&mut row, v);
            row
        })
        .collect();
    rows.push(back.map(|bits| half::f16::from_bits(bits).to_f32()));
    rows.push(codes.map(f32::from));
    rows.push([sum as f32; LANES]);
    let mut parts = [9.0; LANES];
    s.store_part(&mut parts[..HALF], va);
    s.store_part(&mut parts[HALF + 2..HALF + 5], vb);
    rows.push(parts);
    rows
}

kernel! { fn operations_of(a: &[f32; LANES], b: &[f32; LANES]) -> Vec<[f32; LANES]> = operations; }

#[test]
fn operations_mean_the_same_everywhere() {
    let a = [
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        3.7,
        -0.0,
        100.25,
        -100.75,
        f32::NAN,
        0.1,
        7.0,
        65504.0,
        1e-6,
        -3.2,
        12.0,
    ];
    let b = [1.0, -2.0, 1.5, -2.5, 2.0, 4.0, 3.0, -8.0, 2.0, 1.0, -0.5, 0.25, 2.0, 16.0, -3.2, 0.125];
    let plain = operations_of(Isa::Scalar, &a, &b);
    for isa in Isa::available() {
        for (i, (found, expected)) in operations_of(isa, &a, &b).iter().zip(&plain).enumerate() {
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    found == expected || found.is_nan() && expected.is_nan(),
                    "{i} on {isa}: {found} {expected}"
                );
            }
        }
    }
}
