//! Values out of the blocks of quantised weights: exactly what the format says, rounding included.
//!
//! Each format is one block function over arrays, plain enough for the compiler to vectorise; it is compiled once for
//! every instruction set. Nothing here fuses a multiplication with an addition, so that all of them give the same
//! bits.

use crate::simd::{LANES, Simd, kernel};
use crate::{Format, Isa};

/// Values of one block of the formats with super-blocks.
pub(crate) const SUPER: usize = 256;
/// Values of one block of the other quantised formats.
pub(crate) const SMALL: usize = 32;

/// Writes the values of the row stored in `bytes` to `out`, with the best instruction set of the machine.
///
/// # Panics
/// When `bytes` is not the row's length, `format.row_bytes(out.len())`.
pub fn dequantise_row(format: Format, bytes: &[u8], out: &mut [f32]) {
    dequantise_row_with(Isa::best(), format, bytes, out);
}

kernel! {
    /// [`dequantise_row`] with a given instruction set, or the plain one where the machine lacks it.
    ///
    /// # Panics
    /// When `bytes` is not the row's length, `format.row_bytes(out.len())`.
    pub fn dequantise_row_with(format: Format, bytes: &[u8], out: &mut [f32]) = row;
}

/// Calls a block function for each block. A macro, because what is passed as a function is not compiled for the
/// instruction set.
macro_rules! each_block {
    ($s:expr, $block:ident, $bytes:expr, $out:expr) => {
        for (bytes, out) in $bytes.as_chunks().0.iter().zip($out.as_chunks_mut().0) {
            $block($s, bytes, out);
        }
    };
}

#[inline(always)]
fn row<S: Simd>(s: S, format: Format, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        Some(bytes.len()),
        format.row_bytes(out.len()),
        "a {format} row of {} values in {} bytes",
        out.len(),
        bytes.len()
    );
    match format {
        Format::F32 => {
            for (bytes, out) in bytes.as_chunks::<4>().0.iter().zip(out) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Format::F16 => halves(s, bytes, out),
        Format::BF16 => {
            for (bytes, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        Format::Q8_0 => each_block!(s, q8_0, bytes, out),
        Format::Q4_0 => each_block!(s, q4_0, bytes, out),
        Format::Q4_1 => each_block!(s, q4_1, bytes, out),
        Format::Q5_0 => each_block!(s, q5_0, bytes, out),
        Format::Q5_1 => each_block!(s, q5_1, bytes, out),
        Format::Q4_K => each_block!(s, q4_k, bytes, out),
        Format::Q5_K => each_block!(s, q5_k, bytes, out),
        Format::Q6_K => each_block!(s, q6_k, bytes, out),
    }
}

#[inline(always)]
fn halves<S: Simd>(s: S, bytes: &[u8], out: &mut [f32]) {
    let (vectors, rest) = bytes.as_chunks::<2>().0.as_chunks::<LANES>();
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for (bytes, out) in vectors.iter().zip(out) {
        let mut bits = [0; LANES];
        for i in 0..LANES {
            bits[i] = u16::from_le_bytes(bytes[i]);
        }
        s.store(out, s.load_f16(&bits));
    }
    for (bytes, out) in rest.iter().zip(out_rest) {
        *out = s.f16_to_f32(u16::from_le_bytes(*bytes));
    }
}

/// The half-precision number at `at`.
#[inline(always)]
pub(crate) fn half_at<S: Simd>(s: S, bytes: &[u8], at: usize) -> f32 {
    s.f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// `d * code` for sixteen codes.
#[inline(always)]
fn put<S: Simd>(s: S, out: &mut [f32], codes: &[i8; LANES], d: f32) {
    if let Some(out) = out.first_chunk_mut() {
        s.store(out, s.mul(s.splat(d), s.load_i8(codes)));
    }
}

/// `d * code + m` for sixteen codes.
#[inline(always)]
fn put_with_minimum<S: Simd>(s: S, out: &mut [f32], codes: &[i8; LANES], d: f32, m: f32) {
    if let Some(out) = out.first_chunk_mut() {
        s.store(out, s.add(s.mul(s.splat(d), s.load_i8(codes)), s.splat(m)));
    }
}

/// The lower four bits of sixteen bytes with `high` bits above, less `middle`.
#[inline(always)]
fn lower(bytes: &[u8], high: &[u8], middle: i8) -> [i8; LANES] {
    let mut codes = [0; LANES];
    for ((code, byte), high) in codes.iter_mut().zip(bytes).zip(high) {
        *code = (byte & 15 | high) as i8 - middle;
    }
    codes
}

/// The upper four bits of sixteen bytes with `high` bits above, less `middle`.
#[inline(always)]
fn upper(bytes: &[u8], high: &[u8], middle: i8) -> [i8; LANES] {
    let mut codes = [0; LANES];
    for ((code, byte), high) in codes.iter_mut().zip(bytes).zip(high) {
        *code = (byte >> 4 | high) as i8 - middle;
    }
    codes
}

/// For formats without higher bits.
const NOTHING: [u8; LANES] = [0; LANES];

#[inline(always)]
fn q8_0<S: Simd>(s: S, block: &[u8; 34], out: &mut [f32; SMALL]) {
    let d = half_at(s, block, 0);
    for (bytes, out) in block[2..].as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
        put(s, out, &bytes.map(|byte| byte as i8), d);
    }
}

#[inline(always)]
fn q4_0<S: Simd>(s: S, block: &[u8; 18], out: &mut [f32; SMALL]) {
    let d = half_at(s, block, 0);
    put(s, out, &lower(&block[2..], &NOTHING, 8), d);
    put(s, &mut out[LANES..], &upper(&block[2..], &NOTHING, 8), d);
}

#[inline(always)]
fn q4_1<S: Simd>(s: S, block: &[u8; 20], out: &mut [f32; SMALL]) {
    let (d, m) = (half_at(s, block, 0), half_at(s, block, 2));
    put_with_minimum(s, out, &lower(&block[4..], &NOTHING, 0), d, m);
    put_with_minimum(s, &mut out[LANES..], &upper(&block[4..], &NOTHING, 0), d, m);
}

/// The fifth bits of 32 values, each in its place (16), the others zero.
#[inline(always)]
fn fifth_bits(bytes: &[u8]) -> [u8; SMALL] {
    let mut out = [0; SMALL];
    for (i, out) in out.iter_mut().enumerate() {
        *out = (bytes[i / 8] >> (i % 8) & 1) << 4;
    }
    out
}

#[inline(always)]
fn q5_0<S: Simd>(s: S, block: &[u8; 22], out: &mut [f32; SMALL]) {
    let (d, high) = (half_at(s, block, 0), fifth_bits(&block[2..6]));
    put(s, out, &lower(&block[6..], &high[..LANES], 16), d);
    put(s, &mut out[LANES..], &upper(&block[6..], &high[LANES..], 16), d);
}

#[inline(always)]
fn q5_1<S: Simd>(s: S, block: &[u8; 24], out: &mut [f32; SMALL]) {
    let (d, m, high) = (half_at(s, block, 0), half_at(s, block, 2), fifth_bits(&block[4..8]));
    put_with_minimum(s, out, &lower(&block[8..], &high[..LANES], 0), d, m);
    put_with_minimum(s, &mut out[LANES..], &upper(&block[8..], &high[LANES..], 0), d, m);
}

/// The 6-bit scales and minima of a `Q4_K` or `Q5_K` block's eight groups.
#[inline(always)]
pub(crate) fn scales_and_minima(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = packed[i] & 63;
        minima[i] = packed[4 + i] & 63;
        scales[4 + i] = packed[8 + i] & 15 | packed[i] >> 6 << 4;
        minima[4 + i] = packed[8 + i] >> 4 | packed[4 + i] >> 6 << 4;
    }
    (scales, minima)
}

/// The scale and the minimum of each group of a `Q4_K` or `Q5_K` block.
#[inline(always)]
fn groups<S: Simd>(s: S, block: &[u8]) -> ([f32; 8], [f32; 8]) {
    let (d, dmin) = (half_at(s, block, 0), half_at(s, block, 2));
    let mut packed = [0; 12];
    packed.copy_from_slice(&block[4..16]);
    let (scales, minima) = scales_and_minima(&packed);
    (scales.map(|scale| d * f32::from(scale)), minima.map(|minimum| dmin * f32::from(minimum)))
}

#[inline(always)]
fn q4_k<S: Simd>(s: S, block: &[u8; 144], out: &mut [f32; SUPER]) {
    let (d, m) = groups(s, block);
    for (pair, (codes, out)) in
        block[16..].as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<64>().0).enumerate()
    {
        for at in [0, LANES] {
            let (low, high) = (lower(&codes[at..], &NOTHING, 0), upper(&codes[at..], &NOTHING, 0));
            put_with_minimum(s, &mut out[at..], &low, d[2 * pair], -m[2 * pair]);
            put_with_minimum(s, &mut out[32 + at..], &high, d[2 * pair + 1], -m[2 * pair + 1]);
        }
    }
}

#[inline(always)]
fn q5_k<S: Simd>(s: S, block: &[u8; 176], out: &mut [f32; SUPER]) {
    let (d, m) = groups(s, block);
    let mut high = [0; 32];
    high.copy_from_slice(&block[16..48]);
    for (pair, (codes, out)) in
        block[48..].as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<64>().0).enumerate()
    {
        for i in 0..32 {
            let code = codes[i] & 15 | (high[i] >> (2 * pair) & 1) << 4;
            out[i] = d[2 * pair] * f32::from(code) - m[2 * pair];
        }
        for i in 0..32 {
            let code = codes[i] >> 4 | (high[i] >> (2 * pair + 1) & 1) << 4;
            out[32 + i] = d[2 * pair + 1] * f32::from(code) - m[2 * pair + 1];
        }
    }
}

#[inline(always)]
fn q6_k<S: Simd>(s: S, block: &[u8; 210], out: &mut [f32; SUPER]) {
    let d = half_at(s, block, 208);
    let low = block[..128].as_chunks::<64>().0;
    let high = block[128..192].as_chunks::<32>().0;
    let scales = block[192..208].as_chunks::<8>().0;
    for (((low, high), scales), out) in low.iter().zip(high).zip(scales).zip(out.as_chunks_mut::<128>().0) {
        let scales = scales.map(|scale| d * f32::from(scale as i8));
        for quarter in 0..4 {
            for i in 0..32 {
                let low = low[32 * (quarter % 2) + i] >> (4 * (quarter / 2)) & 15;
                let code = low | (high[i] >> (2 * quarter) & 3) << 4;
                out[32 * quarter + i] = scales[2 * quarter + i / 16] * f32::from(code as i8 - 32);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
