//! Values into the blocks of quantised weights, with the care of ggml's reference quantisers.
//!
//! The formats without super-blocks take the scale from the extreme values, as ggml does to the bit. `Q4_K`, `Q5_K` and
//! `Q6_K` search for the scales (and minima) of least weighted square error; their sums run over lanes, so that a
//! result may differ from ggml's in the last bit of a scale, not in quality.

use half::bf16;

use crate::dequant::SMALL;
use crate::simd::{LANES, Simd, kernel};
use crate::{Format, Isa};

mod search;
mod super_blocks;

/// Stores `values` as a row of `format` in `out`, with the best instruction set of the machine. Not-a-number and
/// infinite values give a row that is as useless, never a panic.
///
/// # Panics
/// When `out` is not the row's length, `format.row_bytes(values.len())`.
pub fn quantise_row(format: Format, values: &[f32], out: &mut [u8]) {
    quantise_row_with(Isa::best(), format, values, out);
}

kernel! {
    /// [`quantise_row`] with a given instruction set, or the plain one where the machine lacks it.
    ///
    /// # Panics
    /// When `out` is not the row's length, `format.row_bytes(values.len())`.
    pub fn quantise_row_with(format: Format, values: &[f32], out: &mut [u8]) = row;
}

/// Calls a block function for each block. A macro, because what is passed as a function is not compiled for the
/// instruction set.
macro_rules! each_block {
    ($s:expr, $block:path, $values:expr, $out:expr) => {
        for (values, out) in $values.as_chunks().0.iter().zip($out.as_chunks_mut().0) {
            $block($s, values, out);
        }
    };
}

#[inline(always)]
fn row<S: Simd>(s: S, format: Format, values: &[f32], out: &mut [u8]) {
    assert_eq!(
        Some(out.len()),
        format.row_bytes(values.len()),
        "a {format} row of {} values in {} bytes",
        values.len(),
        out.len()
    );
    match format {
        Format::F32 => {
            for (value, out) in values.iter().zip(out.as_chunks_mut::<4>().0) {
                *out = value.to_le_bytes();
            }
        }
        Format::F16 => halves(s, values, out),
        Format::BF16 => {
            for (value, out) in values.iter().zip(out.as_chunks_mut::<2>().0) {
                *out = bf16::from_f32(*value).to_le_bytes();
            }
        }
        Format::Q8_0 => each_block!(s, q8_0, values, out),
        Format::Q4_0 => each_block!(s, q4_0, values, out),
        Format::Q4_1 => each_block!(s, q4_1, values, out),
        Format::Q5_0 => each_block!(s, q5_0, values, out),
        Format::Q5_1 => each_block!(s, q5_1, values, out),
        Format::Q4_K => each_block!(s, super_blocks::q4_k, values, out),
        Format::Q5_K => each_block!(s, super_blocks::q5_k, values, out),
        Format::Q6_K => each_block!(s, super_blocks::q6_k, values, out),
    }
}

#[inline(always)]
fn halves<S: Simd>(s: S, values: &[f32], out: &mut [u8]) {
    let (vectors, rest) = values.as_chunks::<LANES>();
    let (out, out_rest) = out.as_chunks_mut::<2>().0.as_chunks_mut::<LANES>();
    for (values, out) in vectors.iter().zip(out) {
        let mut bits = [0; LANES];
        s.store_f16(&mut bits, s.load(values));
        for i in 0..LANES {
            out[i] = bits[i].to_le_bytes();
        }
    }
    for (value, out) in rest.iter().zip(out_rest) {
        *out = s.f32_to_f16(*value).to_le_bytes();
    }
}

/// `1 / d`, or zero when `d` is.
#[inline(always)]
fn reciprocal(d: f32) -> f32 {
    match d == 0.0 {
        true => 0.0,
        false => 1.0 / d,
    }
}

#[inline(always)]
pub(crate) fn put_half<S: Simd>(s: S, out: &mut [u8], at: usize, value: f32) {
    out[at..at + 2].copy_from_slice(&s.f32_to_f16(value).to_le_bytes());
}

/// The first value of the largest magnitude.
#[inline(always)]
fn extreme(values: &[f32; SMALL]) -> f32 {
    let mut found = 0.0_f32;
    for &value in values {
        if found.abs() < value.abs() {
            found = value;
        }
    }
    found
}

/// The smallest and the largest value.
#[inline(always)]
fn bounds(values: &[f32; SMALL]) -> (f32, f32) {
    let (mut min, mut max) = (values[0], values[0]);
    for &value in values {
        min = if value < min { value } else { min };
        max = if max < value { value } else { max };
    }
    (min, max)
}

#[inline(always)]
fn q8_0<S: Simd>(s: S, values: &[f32; SMALL], out: &mut [u8; 34]) {
    let mut magnitude = 0.0_f32;
    for &value in values {
        magnitude = if magnitude < value.abs() { value.abs() } else { magnitude };
    }
    let d = magnitude / 127.0;
    let inverse = reciprocal(d);
    put_half(s, out, 0, d);
    for i in 0..SMALL {
        // Halves away from zero, as ggml's `roundf`.
        out[2 + i] = (values[i] * inverse).round() as i8 as u8;
    }
}

/// Codes of `BITS` bits around zero: the extreme value becomes the most negative code.
#[inline(always)]
fn symmetric<const BITS: u32>(values: &[f32; SMALL]) -> (f32, [u8; SMALL]) {
    let middle = (1_u32 << (BITS - 1)) as f32;
    let d = extreme(values) / -middle;
    let inverse = reciprocal(d);
    let mut codes = [0; SMALL];
    for i in 0..SMALL {
        codes[i] = ((values[i] * inverse + (middle + 0.5)) as u8).min((1 << BITS) - 1);
    }
    (d, codes)
}

/// Codes of `BITS` bits from the smallest to the largest value.
#[inline(always)]
fn ranged<const BITS: u32>(values: &[f32; SMALL]) -> (f32, f32, [u8; SMALL]) {
    let (min, max) = bounds(values);
    let d = (max - min) / ((1_u32 << BITS) - 1) as f32;
    let inverse = reciprocal(d);
    let mut codes = [0; SMALL];
    for i in 0..SMALL {
        codes[i] = (((values[i] - min) * inverse + 0.5) as u8).min((1 << BITS) - 1);
    }
    (d, min, codes)
}

/// Stores the lower four bits of the codes: the first half's below, the second half's above.
#[inline(always)]
fn put_nibbles(codes: &[u8; SMALL], out: &mut [u8]) {
    for i in 0..SMALL / 2 {
        out[i] = codes[i] & 15 | codes[SMALL / 2 + i] << 4;
    }
}

#[inline(always)]
fn put_fifth_bits(codes: &[u8; SMALL], out: &mut [u8]) {
    let mut bits = 0;
    for (i, &code) in codes.iter().enumerate() {
        bits |= u32::from(code >> 4 & 1) << i;
    }
    out.copy_from_slice(&bits.to_le_bytes());
}

#[inline(always)]
fn q4_0<S: Simd>(s: S, values: &[f32; SMALL], out: &mut [u8; 18]) {
    let (d, codes) = symmetric::<4>(values);
    put_half(s, out, 0, d);
    put_nibbles(&codes, &mut out[2..]);
}

#[inline(always)]
fn q4_1<S: Simd>(s: S, values: &[f32; SMALL], out: &mut [u8; 20]) {
    let (d, min, codes) = ranged::<4>(values);
    put_half(s, out, 0, d);
    put_half(s, out, 2, min);
    put_nibbles(&codes, &mut out[4..]);
}

#[inline(always)]
fn q5_0<S: Simd>(s: S, values: &[f32; SMALL], out: &mut [u8; 22]) {
    let (d, codes) = symmetric::<5>(values);
    put_half(s, out, 0, d);
    put_fifth_bits(&codes, &mut out[2..6]);
    put_nibbles(&codes, &mut out[6..]);
}

#[inline(always)]
fn q5_1<S: Simd>(s: S, values: &[f32; SMALL], out: &mut [u8; 24]) {
    let (d, min, codes) = ranged::<5>(values);
    put_half(s, out, 0, d);
    put_half(s, out, 2, min);
    put_fifth_bits(&codes, &mut out[4..8]);
    put_nibbles(&codes, &mut out[8..]);
}

#[cfg(test)]
mod tests;
