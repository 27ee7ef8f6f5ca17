//! The formats whose scales are quantised in turn.

use super::put_half;
use super::search::{self, MAGNITUDE_MIN, Trials, nearest};
use crate::dequant::{SMALL, SUPER, half_at};
use crate::simd::Simd;

/// The largest scale or minimum of a group, six bits.
const GROUP_MAX: f32 = 63.0;

#[inline(always)]
pub(super) fn q4_k<S: Simd>(s: S, values: &[f32; SUPER], out: &mut [u8; 144]) {
    let trials = Trials { code_max: 15, first: -1.0, step: 0.1, steps: 20 };
    let codes = grouped(s, values, trials, out);
    for (codes, out) in codes.as_chunks::<64>().0.iter().zip(out[16..].as_chunks_mut::<32>().0) {
        for i in 0..32 {
            out[i] = codes[i] | codes[32 + i] << 4;
        }
    }
}

#[inline(always)]
pub(super) fn q5_k<S: Simd>(s: S, values: &[f32; SUPER], out: &mut [u8; 176]) {
    let trials = Trials { code_max: 31, first: -0.5, step: 0.1, steps: 15 };
    let codes = grouped(s, values, trials, out);
    let (high, low) = out[16..].split_at_mut(32);
    high.fill(0);
    for (pair, (codes, low)) in codes.as_chunks::<64>().0.iter().zip(low.as_chunks_mut::<32>().0).enumerate()
    {
        for i in 0..32 {
            low[i] = codes[i] & 15 | codes[32 + i] << 4;
            high[i] |= (codes[i] >> 4 | codes[32 + i] >> 4 << 1) << (2 * pair);
        }
    }
}

/// Finds the scale and the minimum of each group of 32, writes them to the first 16 bytes and gives the codes.
#[inline(always)]
fn grouped<S: Simd>(s: S, values: &[f32; SUPER], trials: Trials, out: &mut [u8]) -> [u8; SUPER] {
    let (mut scales, mut minima) = ([0.0_f32; 8], [0.0_f32; 8]);
    for (group, values) in values.as_chunks::<SMALL>().0.iter().enumerate() {
        let mut squares = [0.0; 8];
        for i in 0..SMALL {
            squares[i % 8] += values[i] * values[i];
        }
        let level = (squares.iter().sum::<f32>() / SMALL as f32).sqrt();
        let mut weights = [0.0; SMALL];
        for i in 0..SMALL {
            weights[i] = level + values[i].abs();
        }
        (scales[group], minima[group]) = search::ranged(s, values, &weights, trials);
    }
    let largest = |of: &[f32; 8]| of.iter().fold(0.0_f32, |a, &b| if a < b { b } else { a });
    let (scale_max, minimum_max) = (largest(&scales), largest(&minima));
    let inverse = |max: f32| if 0.0 < max { GROUP_MAX / max } else { 0.0 };
    let (scale_inverse, minimum_inverse) = (inverse(scale_max), inverse(minimum_max));
    put_half(s, out, 0, scale_max / GROUP_MAX);
    put_half(s, out, 2, minimum_max / GROUP_MAX);
    let scales = scales.map(|scale| nearest(scale_inverse * scale).clamp(0, 63) as u8);
    let minima = minima.map(|minimum| nearest(minimum_inverse * minimum).clamp(0, 63) as u8);
    for i in 0..4 {
        out[4 + i] = scales[i] | scales[4 + i] >> 4 << 6;
        out[8 + i] = minima[i] | minima[4 + i] >> 4 << 6;
        out[12 + i] = scales[4 + i] & 15 | minima[4 + i] << 4;
    }
    // The codes fit the scales as they are stored.
    let (d, dmin) = (half_at(s, out, 0), half_at(s, out, 2));
    let mut codes = [0; SUPER];
    for (group, (values, codes)) in
        values.as_chunks::<SMALL>().0.iter().zip(codes.as_chunks_mut::<SMALL>().0).enumerate()
    {
        let (scale, minimum) = (d * f32::from(scales[group]), dmin * f32::from(minima[group]));
        if scale == 0.0 {
            continue;
        }
        for i in 0..SMALL {
            codes[i] = nearest((values[i] + minimum) / scale).clamp(0, trials.code_max) as u8;
        }
    }
    codes
}

#[inline(always)]
pub(super) fn q6_k<S: Simd>(s: S, values: &[f32; SUPER], out: &mut [u8; 210]) {
    let mut scales = [0.0_f32; 16];
    let mut extreme = 0.0_f32;
    for (group, values) in values.as_chunks::<16>().0.iter().enumerate() {
        scales[group] = search::symmetric(s, values, 32);
        if extreme.abs() < scales[group].abs() {
            extreme = scales[group];
        }
    }
    out.fill(0);
    if extreme.abs() < MAGNITUDE_MIN {
        return;
    }
    let inverse = -128.0 / extreme;
    put_half(s, out, 208, 1.0 / inverse);
    let d = half_at(s, out, 208);
    let mut codes = [0; SUPER];
    for (group, (values, codes)) in
        values.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0).enumerate()
    {
        let scale = nearest(inverse * scales[group]).clamp(-128, 127);
        out[192 + group] = scale as i8 as u8;
        let scale = d * scale as f32;
        for i in 0..16 {
            // A scale of zero leaves code zero, stored as 32.
            let code = if scale == 0.0 { 0 } else { nearest(values[i] / scale).clamp(-32, 31) };
            codes[i] = (code + 32) as u8;
        }
    }
    for (part, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
        for i in 0..32 {
            let [a, b, c, d] = [codes[i], codes[32 + i], codes[64 + i], codes[96 + i]];
            out[64 * part + i] = a & 15 | c << 4;
            out[64 * part + 32 + i] = b & 15 | d << 4;
            out[128 + 32 * part + i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
        }
    }
}
