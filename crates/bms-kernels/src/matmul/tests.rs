//! Every instruction set against the plain product, and that against numbers taken straight from the blocks.

use half::{bf16, f16};

use super::*;
use crate::Format;

/// Deterministic bytes (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Between −1 and 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Rows of random blocks whose scales are of a sensible size.
pub(crate) fn random_rows(format: Format, rows: usize, cols: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let blocks = rows * cols / format.block_len();
    let mut bytes = Vec::with_capacity(blocks * format.block_bytes());
    for _ in 0..blocks {
        let start = bytes.len();
        bytes.extend((0..format.block_bytes()).map(|_| random.next() as u8));
        let mut put = |at: usize, value: f32| {
            bytes[start + at..][..2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
        };
        match format {
            Format::F32 => bytes[start..].copy_from_slice(&random.float().to_le_bytes()),
            Format::F16 => put(0, random.float()),
            Format::BF16 => bytes[start..].copy_from_slice(&bf16::from_f32(random.float()).to_le_bytes()),
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => put(0, random.float() / 16.0),
            Format::Q6_K => put(208, random.float() / 512.0),
            _ => {
                put(0, random.float() / 64.0);
                put(2, random.float() / 64.0);
            }
        }
    }
    bytes
}

/// The values of a row, written down from the published block layouts and nothing else.
pub(crate) fn plain_row(format: Format, bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(format.block_bytes()).flat_map(|block| plain_block(format, block)).collect()
}

fn plain_block(format: Format, b: &[u8]) -> Vec<f32> {
    let half = |at: usize| f16::from_le_bytes([b[at], b[at + 1]]).to_f32();
    let nibble = |at: usize, k: usize| f32::from(if k < 16 { b[at + k] & 15 } else { b[at + k - 16] >> 4 });
    let fifth = |at: usize, k: usize| {
        16.0 * (u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]) >> k & 1) as f32
    };
    let six = |j: usize| match j < 4 {
        true => (b[4 + j] & 63, b[8 + j] & 63),
        false => (b[8 + j] & 15 | b[j] >> 6 << 4, b[8 + j] >> 4 | b[4 + j] >> 6 << 4),
    };
    let one = |k: usize| match format {
        Format::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        Format::F16 => half(0),
        Format::BF16 => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
        Format::Q4_0 => half(0) * (nibble(2, k) - 8.0),
        Format::Q4_1 => half(0) * nibble(4, k) + half(2),
        Format::Q5_0 => half(0) * (nibble(6, k) + fifth(2, k) - 16.0),
        Format::Q5_1 => half(0) * (nibble(8, k) + fifth(4, k)) + half(2),
        Format::Q8_0 => half(0) * f32::from(b[2 + k] as i8),
        Format::Q4_K | Format::Q5_K => {
            let (scale, min) = six(k / 32);
            let codes = if format == Format::Q4_K { 16 } else { 48 };
            let byte = b[codes + k / 64 * 32 + k % 32];
            let mut code = if k % 64 < 32 { byte & 15 } else { byte >> 4 };
            if format == Format::Q5_K {
                code |= (b[16 + k % 32] >> (k / 32) & 1) << 4;
            }
            half(0) * f32::from(scale) * f32::from(code) - half(2) * f32::from(min)
        }
        Format::Q6_K => {
            let (n, q, l) = (k / 128, k % 128 / 32, k % 32);
            let low = b[64 * n + 32 * (q % 2) + l];
            let low = if q < 2 { low & 15 } else { low >> 4 };
            let high = b[128 + 32 * n + l] >> (2 * q) & 3;
            half(208) * f32::from(b[192 + k / 16] as i8) * (f32::from(low | high << 4) - 32.0)
        }
    };
    (0..format.block_len()).map(one).collect()
}

/// Eight-bit activations are off by at most half a step of 1/127 of the largest in the block, that is by a rounding error of
/// some 0.4 % of the norm of evenly spread numbers; a product by as much of the product of norms, seldom by three times that.
const QUANTISATION: f32 = 0.02;
/// Sums of 32-bit floating point numbers in another order: 1e-5 of the norms.
const ORDER: f32 = 1e-5;

struct Case {
    format: Format,
    rows: usize,
    outputs: usize,
    cols: usize,
}

impl Case {
    fn run(&self, isa: Isa, threads: usize) -> (Vec<f32>, Vec<(f32, f32)>) {
        let pool = Pool::new(threads, isa);
        let bytes = random_rows(self.format, self.outputs, self.cols, 11);
        let matrix = Matrix::pack(&pool, self.format, self.outputs, self.cols, &bytes).unwrap();
        let mut random = Random(5);
        let x: Vec<f32> = (0..self.rows * self.cols).map(|_| random.float()).collect();
        const GUARD: f32 = 12345.0;
        let mut out = vec![GUARD; self.rows * self.outputs + 64];
        let body = &mut out[32..][..self.rows * self.outputs];
        matmul(&pool, &mut Activations::new(), &x, self.rows, &mut [(&matrix, body)]);
        assert!(out[..32].iter().chain(&out[self.rows * self.outputs + 32..]).all(|guard| *guard == GUARD));
        let out = out[32..][..self.rows * self.outputs].to_vec();
        (out, self.exact(&bytes, &x))
    }

    /// The product without quantised activations, and the product of the norms.
    fn exact(&self, bytes: &[u8], x: &[f32]) -> Vec<(f32, f32)> {
        let row_bytes = self.format.row_bytes(self.cols).unwrap();
        let weights: Vec<Vec<f32>> =
            bytes.chunks_exact(row_bytes).map(|row| plain_row(self.format, row)).collect();
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let product = |x: &[f32], w: &[f32]| (dot(x, w) as f32, (dot(x, x).sqrt() * dot(w, w).sqrt()) as f32);
        x.chunks_exact(self.cols).flat_map(|row| weights.iter().map(move |w| product(row, w))).collect()
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let norm = b.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt() / norm
}

#[test]
fn the_distance_notices_what_it_should() {
    assert!(ORDER < distance(&[1.0, 2.001], &[1.0, 2.0]));
    assert!(distance(&[f32::NAN], &[1.0]).is_nan());
}

#[test]
fn every_instruction_set_computes_the_same_product() {
    for format in Format::ALL {
        for (rows, outputs, blocks) in [
            (1, 1, 1),
            (1, 70, 2),
            (2, 16, 3),
            (3, 33, 1),
            (5, 17, 2),
            (7, 16, 1),
            (11, 64, 1),
            (16, 65, 1),
            (39, 31, 2),
        ] {
            let cols = blocks * format.block_len().max(96);
            let case = Case { format: *format, rows, outputs, cols };
            let (plain, exact) = case.run(Isa::Scalar, 1);
            let what = format!("{format}, {rows} rows, {outputs} outputs, {cols} columns");
            let bound = if format.is_quantised() { QUANTISATION } else { ORDER };
            for (found, (expected, norms)) in plain.iter().zip(exact) {
                assert!((found - expected).abs() <= bound * norms, "{what}: {found} instead of {expected}");
            }
            for isa in Isa::available() {
                let (found, _) = case.run(isa, 3);
                let off = distance(&found, &plain);
                assert!(off < ORDER, "{what} on {isa}: off by {off}");
            }
        }
    }
}

#[test]
fn a_row_has_the_same_product_alone_and_beside_others() {
    // Blocks of K formats have two levels of scales, which kernels for one row bring in later than those for many.
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1] {
        let (outputs, cols, most) = (150, 320, 37);
        let bytes = random_rows(format, outputs, cols, 3);
        let mut random = Random(8);
        let x: Vec<f32> = (0..most * cols).map(|_| random.float()).collect();
        for isa in Isa::available() {
            let pool = Pool::new(2, isa);
            let matrix = Matrix::pack(&pool, format, outputs, cols, &bytes).unwrap();
            let product = |rows: std::ops::Range<usize>| {
                let mut out = vec![0.0; rows.len() * outputs];
                let x = &x[rows.start * cols..rows.end * cols];
                matmul(&pool, &mut Activations::new(), x, rows.len(), &mut [(&matrix, &mut out)]);
                out
            };
            let together = product(0..most);
            for rows in [0..1, 36..37, 4..6, 9..12, 20..24, 11..19, 0..16] {
                let place = rows.start * outputs..rows.end * outputs;
                assert_eq!(product(rows.clone()), together[place], "{format}, rows {rows:?} on {isa}");
            }
        }
    }
}

#[test]
fn extreme_codes_do_not_overflow() {
    for format in [Format::Q8_0, Format::Q4_0, Format::Q5_1, Format::Q6_K, Format::Q5_K] {
        let cols = 256;
        for byte in [0x00, 0xFF, 0x7F, 0x80] {
            let mut bytes = random_rows(format, 16, cols, 1);
            let codes = match format {
                Format::Q6_K => 0..192,
                Format::Q5_K => 16..176,
                Format::Q5_1 => 4..24,
                _ => 2..format.block_bytes(),
            };
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                block[codes.clone()].fill(byte);
            }
            let mut results = Vec::new();
            for isa in Isa::available() {
                let pool = Pool::new(1, isa);
                let matrix = Matrix::pack(&pool, format, 16, cols, &bytes).unwrap();
                for sign in [1.0, -1.0] {
                    let x = vec![sign; cols];
                    let mut out = vec![0.0; 16];
                    matmul(&pool, &mut Activations::new(), &x, 1, &mut [(&matrix, &mut out)]);
                    results.push(out.iter().map(|v| sign * v).collect::<Vec<f32>>());
                }
            }
            for result in &results {
                assert!(distance(result, &results[0]) < ORDER, "{format} with codes of {byte:#x}");
            }
        }
    }
}

#[test]
fn what_is_no_number_spoils_the_products_of_its_row_only() {
    let (outputs, cols) = (20, 256);
    for format in Format::ALL {
        for poison in [f32::NAN, f32::INFINITY] {
            for isa in Isa::available() {
                let pool = Pool::new(1, isa);
                let bytes = random_rows(*format, outputs, cols, 3);
                let matrix = Matrix::pack(&pool, *format, outputs, cols, &bytes).unwrap();
                let mut x = vec![0.5; 3 * cols];
                x[cols + 77] = poison;
                let mut out = vec![0.0; 3 * outputs];
                matmul(&pool, &mut Activations::new(), &x, 3, &mut [(&matrix, &mut out)]);
                let finite: Vec<bool> =
                    out.chunks_exact(outputs).map(|row| row.iter().all(|v| v.is_finite())).collect();
                assert_eq!(finite, [true, false, true], "{poison} in {format} on {isa}");
            }
        }
    }
}

#[test]
fn several_matrices_share_one_start() {
    let pool = Pool::new(2, Isa::best());
    let cols = 256;
    let mut random = Random(9);
    let x: Vec<f32> = (0..3 * cols).map(|_| random.float()).collect();
    let pack =
        |format, rows| Matrix::pack(&pool, format, rows, cols, &random_rows(format, rows, cols, 2)).unwrap();
    let (a, b, c) = (pack(Format::Q4_K, 40), pack(Format::Q8_0, 17), pack(Format::F32, 5));
    let (mut ya, mut yb, mut yc) = (vec![0.0; 3 * 40], vec![0.0; 3 * 17], vec![0.0; 3 * 5]);
    let mut activations = Activations::new();
    let all: &mut [(&Matrix, &mut [f32])] = &mut [(&a, &mut ya), (&b, &mut yb), (&c, &mut yc)];
    matmul(&pool, &mut activations, &x, 3, all);
    for (matrix, together) in [(&a, &ya), (&b, &yb), (&c, &yc)] {
        let mut alone = vec![0.0; together.len()];
        matmul(&pool, &mut activations, &x, 3, &mut [(matrix, &mut alone)]);
        assert_eq!(&alone, together);
    }
}
