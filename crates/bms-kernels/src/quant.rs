//! Values into the blocks of quantised weights, with the care of ggml's reference quantisers.
//!
//! The formats without super-blocks take the scale from the extreme values, as ggml does to the bit. `Q4_K`, `Q5_K` and
//! `Q6_K` search for the scales (and minima) of least weighted square error; their sums run over lanes, so that a
//! result may differ from ggml's in the last bit of a scale, not in quality.

use half::{bf16, f16};

use crate::dequant::SMALL;
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

/// [`quantise_row`] with a given instruction set, or the plain one where the machine lacks it.
///
/// # Panics
/// When `out` is not the row's length, `format.row_bytes(values.len())`.
pub fn quantise_row_with(isa: Isa, format: Format, values: &[f32], out: &mut [u8]) {
    assert_eq!(
        Some(out.len()),
        format.row_bytes(values.len()),
        "a {format} row of {} values in {} bytes",
        values.len(),
        out.len()
    );
    #[cfg(target_arch = "x86_64")]
    {
        match isa {
            // SAFETY: the machine has it.
            Isa::Avx512 if isa.is_available() => return unsafe { row_avx512(format, values, out) },
            // SAFETY: the machine has it.
            Isa::Avx2 if isa.is_available() => return unsafe { row_avx2(format, values, out) },
            _ => {}
        }
    }
    let _ = isa;
    row(format, values, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn row_avx512(format: Format, values: &[f32], out: &mut [u8]) {
    match format {
        Format::F16 => halves_f16c(values, out),
        _ => row(format, values, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn row_avx2(format: Format, values: &[f32], out: &mut [u8]) {
    match format {
        Format::F16 => halves_f16c(values, out),
        _ => row(format, values, out),
    }
}

/// Half-precision values, eight by eight.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
fn halves_f16c(values: &[f32], out: &mut [u8]) {
    use std::arch::x86_64::{_MM_FROUND_TO_NEAREST_INT, _mm_storeu_si128, _mm256_cvtps_ph, _mm256_loadu_ps};
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
    let (values8, values_rest) = values.as_chunks::<8>();
    let (out8, out_rest) = out.as_chunks_mut::<16>();
    for (values, out) in values8.iter().zip(out8) {
        // SAFETY: both arrays have the length of the access, which need not be aligned.
        unsafe {
            let halves = _mm256_cvtps_ph::<NEAREST>(_mm256_loadu_ps(values.as_ptr()));
            _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
        }
    }
    halves(values_rest, out_rest);
}

#[inline(always)]
fn halves(values: &[f32], out: &mut [u8]) {
    for (value, out) in values.iter().zip(out.as_chunks_mut::<2>().0) {
        *out = f16::from_f32(*value).to_le_bytes();
    }
}

#[inline(always)]
fn row(format: Format, values: &[f32], out: &mut [u8]) {
    match format {
        Format::F32 => {
            for (value, out) in values.iter().zip(out.as_chunks_mut::<4>().0) {
                *out = value.to_le_bytes();
            }
        }
        Format::F16 => halves(values, out),
        Format::BF16 => {
            for (value, out) in values.iter().zip(out.as_chunks_mut::<2>().0) {
                *out = bf16::from_f32(*value).to_le_bytes();
            }
        }
        Format::Q8_0 => blocks(values, out, q8_0),
        Format::Q4_0 => blocks(values, out, q4_0),
        Format::Q4_1 => blocks(values, out, q4_1),
        Format::Q5_0 => blocks(values, out, q5_0),
        Format::Q5_1 => blocks(values, out, q5_1),
        Format::Q4_K => blocks(values, out, super_blocks::q4_k),
        Format::Q5_K => blocks(values, out, super_blocks::q5_k),
        Format::Q6_K => blocks(values, out, super_blocks::q6_k),
    }
}

#[inline(always)]
fn blocks<const BYTES: usize, const LEN: usize>(
    values: &[f32],
    out: &mut [u8],
    block: impl Fn(&[f32; LEN], &mut [u8; BYTES]),
) {
    for (values, out) in values.as_chunks::<LEN>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        block(values, out);
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
pub(crate) fn put_half(out: &mut [u8], at: usize, value: f32) {
    out[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
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
fn q8_0(values: &[f32; SMALL], out: &mut [u8; 34]) {
    let mut magnitude = 0.0_f32;
    for &value in values {
        magnitude = if magnitude < value.abs() { value.abs() } else { magnitude };
    }
    let d = magnitude / 127.0;
    let inverse = reciprocal(d);
    put_half(out, 0, d);
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
fn q4_0(values: &[f32; SMALL], out: &mut [u8; 18]) {
    let (d, codes) = symmetric::<4>(values);
    put_half(out, 0, d);
    put_nibbles(&codes, &mut out[2..]);
}

#[inline(always)]
fn q4_1(values: &[f32; SMALL], out: &mut [u8; 20]) {
    let (d, min, codes) = ranged::<4>(values);
    put_half(out, 0, d);
    put_half(out, 2, min);
    put_nibbles(&codes, &mut out[4..]);
}

#[inline(always)]
fn q5_0(values: &[f32; SMALL], out: &mut [u8; 22]) {
    let (d, codes) = symmetric::<5>(values);
    put_half(out, 0, d);
    put_fifth_bits(&codes, &mut out[2..6]);
    put_nibbles(&codes, &mut out[6..]);
}

#[inline(always)]
fn q5_1(values: &[f32; SMALL], out: &mut [u8; 24]) {
    let (d, min, codes) = ranged::<5>(values);
    put_half(out, 0, d);
    put_half(out, 2, min);
    put_fifth_bits(&codes, &mut out[4..8]);
    put_nibbles(&codes, &mut out[8..]);
}

#[cfg(test)]
mod tests;
