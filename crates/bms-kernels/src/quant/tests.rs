use super::*;
use crate::dequant::tests::{Numbers, digest};
use crate::dequantise_row;

/// Digests of the bytes that `gguf.quants.quantize` of the Python package gguf 0.19.0 gives for [`awkward`] values.
/// It has no quantiser for the formats with super-blocks.
const GOLDEN: &[(Format, u64)] = &[
    (Format::F32, 0x2b71_ce02_512b_9a50),
    (Format::F16, 0xb94c_7724_d423_d1b5),
    (Format::BF16, 0xe7d0_1528_8018_26c0),
    (Format::Q8_0, 0x7e83_f2dd_068d_4a93),
    (Format::Q4_0, 0xa6e8_9d7f_f1b2_55b8),
    (Format::Q4_1, 0x79ac_b6c9_0b59_9d32),
    (Format::Q5_0, 0xdd73_0bc2_48e8_cb4b),
    (Format::Q5_1, 0x140f_3bd0_6c87_ca7b),
];

/// Blocks of 32: uniform, zero, constant, one spike, ties, positive, tiny, large.
fn awkward(seed: u64, len: usize) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    (0..len)
        .map(|i| {
            let value = (numbers.next() >> 8) as f32 / 16_777_216.0 - 0.5;
            match i / 32 % 8 {
                1 => 0.0,
                2 => 0.25,
                3 if i % 32 != 7 => 0.0,
                4 => (value * 16.0).floor() / 16.0,
                5 => value.abs(),
                6 => value / 262_144.0,
                7 => value * 4096.0,
                _ => value,
            }
        })
        .collect()
}

/// About normally distributed, as weights are.
fn weights(seed: u64, len: usize) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    (0..len)
        .map(|_| (0..6).map(|_| (numbers.next() >> 8) as f32 / 16_777_216.0 - 0.5).sum::<f32>() * 0.03)
        .collect()
}

fn quantised(isa: Isa, format: Format, values: &[f32]) -> Vec<u8> {
    let mut out = vec![0xa5; format.row_bytes(values.len()).unwrap()];
    quantise_row_with(isa, format, values, &mut out);
    out
}

fn restored(format: Format, bytes: &[u8], len: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; len];
    dequantise_row(format, bytes, &mut out);
    out
}

/// Root of the mean squared error over that of the values.
fn relative_error(values: &[f32], restored: &[f32]) -> f64 {
    let squares = |of: &mut dyn Iterator<Item = f32>| of.map(|v| f64::from(v) * f64::from(v)).sum::<f64>();
    let error = squares(&mut values.iter().zip(restored).map(|(a, b)| a - b));
    (error / squares(&mut values.iter().copied())).sqrt()
}

#[test]
fn formats_of_plain_blocks_give_the_reference_bytes_on_every_instruction_set() {
    for isa in Isa::available() {
        for &(format, golden) in GOLDEN {
            let found = quantised(isa, format, &awkward(u64::from(format.ggml()) + 1, 4096));
            assert_eq!(digest(found), golden, "{format} on {isa}");
        }
    }
}

/// The largest relative error on normal values; a tenth above what ggml's quantisers reach, far below what the scale
/// of the extreme values would (see the test after the next).
fn error_max(format: Format) -> f64 {
    match format {
        Format::F32 => 0.0,
        Format::F16 => 3e-4,
        Format::BF16 => 2.2e-3,
        Format::Q8_0 => 6.0e-3,
        Format::Q6_K => 1.9e-2,
        Format::Q5_K => 3.7e-2,
        Format::Q5_0 | Format::Q5_1 => 4.6e-2,
        Format::Q4_K => 7.5e-2,
        Format::Q4_0 | Format::Q4_1 => 9.3e-2,
    }
}

#[test]
fn normal_values_come_back_within_the_error_of_their_format() {
    let values = weights(3, 64 * 256);
    for isa in Isa::available() {
        for &format in Format::ALL {
            let back = restored(format, &quantised(isa, format, &values), values.len());
            let error = relative_error(&values, &back);
            assert!(error <= error_max(format), "{format} on {isa}: {error}");
            assert!(
                error_max(format) / 1.6 <= error || format == Format::F32,
                "{format}: {error} hides a loss"
            );
        }
    }
}

#[test]
fn the_search_beats_the_scale_of_the_extremes() {
    let values = weights(5, 64 * 256);
    let error_of = |format| {
        relative_error(&values, &restored(format, &quantised(Isa::best(), format, &values), values.len()))
    };
    // The plain formats store their scale more finely and in more bits, and still lose.
    for (searched, plain) in [(Format::Q4_K, Format::Q4_1), (Format::Q5_K, Format::Q5_1)] {
        let (searched, plain) = (error_of(searched), error_of(plain));
        assert!(searched < 0.98 * plain, "{searched} {plain}");
    }
}

#[test]
fn swapped_codes_do_not_pass_for_an_error_of_the_format() {
    let values = weights(3, 4096);
    let mut bytes = quantised(Isa::Scalar, Format::Q4_K, &values);
    for block in bytes.chunks_exact_mut(Format::Q4_K.block_bytes()) {
        block[16..].iter_mut().for_each(|code| *code = code.rotate_left(4));
    }
    let error = relative_error(&values, &restored(Format::Q4_K, &bytes, values.len()));
    assert!(error_max(Format::Q4_K) < error, "{error}");
}

#[test]
fn every_instruction_set_gives_the_same_bytes() {
    let values: Vec<f32> = [awkward(9, 4096), weights(10, 4096)].concat();
    for &format in Format::ALL {
        let plain = quantised(Isa::Scalar, format, &values);
        for isa in Isa::available() {
            assert!(quantised(isa, format, &values) == plain, "{format} on {isa}");
        }
    }
}

#[test]
fn blocks_that_are_zero_or_constant_or_no_numbers_do_no_harm() {
    for &format in Format::ALL {
        let len = 256;
        let zero = quantised(Isa::best(), format, &vec![0.0; len]);
        assert_eq!(restored(format, &zero, len), vec![0.0; len], "{format}");
        for value in [1.0_f32, -3.0, 1e-30, -1e-30, 1e4] {
            let back = restored(format, &quantised(Isa::best(), format, &vec![value; len]), len);
            // Scales are half-precision numbers: what is smaller than the smallest of them is lost.
            let allowed = value.abs() * 0.05 + 1e-7;
            assert!(back.iter().all(|b| (b - value).abs() <= allowed), "{format} of {value}: {}", back[0]);
        }
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN] {
            let mut values = weights(1, len);
            values[17] = poison;
            quantised(Isa::best(), format, &values);
            quantised(Isa::Scalar, format, &vec![poison; len]);
        }
    }
}

#[test]
fn rows_of_any_length_touch_nothing_beyond_their_end() {
    for isa in Isa::available() {
        for &format in Format::ALL {
            for blocks in [0, 1, 2, 3, 7, 9, 17] {
                let values = weights(2, blocks * format.block_len());
                let len = blocks * format.block_bytes();
                let mut out = vec![0xa5; len + 64];
                quantise_row_with(isa, format, &values, &mut out[..len]);
                assert!(out[len..].iter().all(|&byte| byte == 0xa5), "{format} on {isa}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "a q4_k row of 100 values")]
fn a_row_of_broken_blocks_is_refused() {
    quantise_row(Format::Q4_K, &[0.0; 100], &mut [0; 144]);
}
