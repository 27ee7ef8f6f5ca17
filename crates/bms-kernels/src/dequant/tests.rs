use half::f16;

use super::*;

/// A linear congruential generator that a few lines of any language repeat: the upper half of the state.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
}

/// FNV-1a of 64 bits.
pub(crate) fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Digests of the little-endian values that `gguf.quants.dequantize` of the Python package gguf 0.19.0 gives for
/// [`stored`].
const GOLDEN: &[(Format, u64)] = &[
    (Format::F32, 0x1194_e1eb_f54a_a8b4),
    (Format::F16, 0xadef_17e6_b4a2_3eaa),
    (Format::BF16, 0x1325_4483_82a1_a426),
    (Format::Q8_0, 0xd982_f52d_ec1b_69dd),
    (Format::Q4_0, 0x7f8c_f5c1_7504_b28a),
    (Format::Q4_1, 0x4549_c4dc_eb49_9977),
    (Format::Q5_0, 0xb631_0aed_170b_4f42),
    (Format::Q5_1, 0x3cd3_f4b0_70da_fb1e),
    (Format::Q4_K, 0xde86_0371_76a4_9c77),
    (Format::Q5_K, 0x9f31_cdce_2a9f_361d),
    (Format::Q6_K, 0xc3bd_abfa_bf11_279f),
];

/// Where a block's half-precision numbers stand.
fn halves_of(format: Format) -> &'static [usize] {
    match format {
        Format::F16 | Format::Q8_0 | Format::Q4_0 | Format::Q5_0 => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q6_K => &[208],
        Format::F32 | Format::BF16 => &[],
    }
}

/// Random blocks whose numbers are all finite.
fn stored(format: Format) -> Vec<u8> {
    let blocks = if format.is_quantised() { 64 } else { 4096 };
    let mut numbers = Numbers(u64::from(format.ggml()) + 1);
    let mut bytes: Vec<u8> =
        (0..blocks * format.block_bytes()).map(|_| (numbers.next() >> 24) as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        for &at in halves_of(format) {
            if block[at + 1] & 0x7c == 0x7c {
                block[at + 1] &= 0xfb;
            }
        }
        let top = block.len() - 1;
        if matches!(format, Format::F32 | Format::BF16) && block[top] & 0x7f == 0x7f {
            block[top] &= 0xbf;
        }
    }
    bytes
}

fn dequantised(isa: Isa, format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / format.block_bytes() * format.block_len()];
    dequantise_row_with(isa, format, bytes, &mut out);
    out
}

fn digest_of(values: &[f32]) -> u64 {
    digest(values.iter().flat_map(|value| value.to_le_bytes()))
}

#[test]
fn every_format_gives_the_reference_bits_on_every_instruction_set() {
    assert_eq!(GOLDEN.len(), Format::ALL.len());
    for isa in Isa::available() {
        for &(format, golden) in GOLDEN {
            let found = digest_of(&dequantised(isa, format, &stored(format)));
            assert_eq!(found, golden, "{format} on {isa}");
        }
    }
}

#[test]
fn the_digest_sees_one_bit() {
    let mut values = dequantised(Isa::Scalar, Format::Q4_K, &stored(Format::Q4_K));
    let before = digest_of(&values);
    values[1000] = f32::from_bits(values[1000].to_bits() ^ 1);
    assert_ne!(digest_of(&values), before);
}

#[test]
fn rows_of_any_length_touch_nothing_beyond_their_end() {
    for isa in Isa::available() {
        for &format in Format::ALL {
            let bytes = stored(format);
            for blocks in [0, 1, 2, 3, 5, 7, 9, 15, 17, 33] {
                let len = blocks * format.block_len();
                let mut out = vec![7.25; len + 64];
                dequantise_row_with(isa, format, &bytes[..blocks * format.block_bytes()], &mut out[..len]);
                assert!(out[len..].iter().all(|&value| value == 7.25), "{format} on {isa}");
            }
        }
    }
}

#[test]
fn halves_convert_like_the_reference_down_to_the_last_of_them() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for isa in Isa::available() {
        for (bits, value) in (0..=u16::MAX).zip(dequantised(isa, Format::F16, &bytes)) {
            let expected = f16::from_bits(bits).to_f32();
            assert!(value == expected || value.is_nan() && expected.is_nan(), "{bits:#x} on {isa}: {value}");
        }
    }
}

#[test]
#[should_panic(expected = "a q4_0 row of 33 values")]
fn a_row_of_broken_blocks_is_refused() {
    dequantise_row(Format::Q4_0, &[0; 18], &mut [0.0; 33]);
}

#[test]
#[should_panic(expected = "a q6_k row of 256 values in 209 bytes")]
fn a_short_row_is_refused() {
    dequantise_row(Format::Q6_K, &[0; 209], &mut [0.0; 256]);
}
