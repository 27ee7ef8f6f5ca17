//! The plain reading of packed weights: what every kernel must agree with.

use half::{bf16, f16};

use super::LANES;
use crate::Format;

/// Columns the kernels work on at a time.
pub(crate) const COLS: usize = 32;

/// 32 columns of the sixteen rows of a group: `weight = scale · code + min`, scale and minimum for 16 columns each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    /// Codes by lane.
    pub(crate) codes: [[u8; COLS]; LANES],
    /// Scales by lane, of the first and the second 16 columns.
    pub(crate) scale: [[f32; 2]; LANES],
    /// Minima by lane, likewise.
    pub(crate) min: [[f32; 2]; LANES],
}

impl Block {
    /// Reads columns `32 index ..` of a group in a quantised format.
    pub(crate) fn read(format: Format, group: &[u8], index: usize) -> Block {
        let per_block = format.block_len() / COLS;
        let stored = &group[index / per_block * format.block_bytes() * LANES..];
        let mut block = Block { codes: [[0; COLS]; LANES], scale: [[0.0; 2]; LANES], min: [[0.0; 2]; LANES] };
        for lane in 0..LANES {
            block.read_lane(format, stored, index % per_block, lane);
        }
        block
    }

    fn read_lane(&mut self, format: Format, stored: &[u8], sub: usize, lane: usize) {
        let half =
            |at: usize| f16::from_le_bytes([stored[at + 2 * lane], stored[at + 2 * lane + 1]]).to_f32();
        let octet = |at: usize, position: usize| stored[at + position * LANES + lane];
        // Byte `k` of a field of words: word `k / 4` of this lane, byte `k % 4` of that.
        let coded = |at: usize, k: usize| stored[at + k / 4 * 4 * LANES + 4 * lane + k % 4];
        let nibble = |byte: u8, high: bool| if high { byte >> 4 } else { byte & 0xF };
        let (scale, min) = match format {
            Format::Q4_0 | Format::Q5_0 => ([half(0); 2], [0.0; 2]),
            Format::Q8_0 => ([half(0); 2], [-128.0 * half(0); 2]),
            Format::Q4_1 | Format::Q5_1 => ([half(0); 2], [half(32); 2]),
            Format::Q4_K | Format::Q5_K => {
                let (scale, min) = k_scale(sub, |position| octet(64, position));
                ([half(0) * f32::from(scale); 2], [-(half(32) * f32::from(min)); 2])
            }
            Format::Q6_K => {
                let of = |i: usize| half(0) * f32::from(octet(32, 2 * sub + i) as i8);
                ([of(0), of(1)], [-32.0 * of(0), -32.0 * of(1)])
            }
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("not a quantised format"),
        };
        let zero = match format {
            Format::Q4_0 => 8.0,
            Format::Q5_0 => 16.0,
            _ => 0.0,
        };
        self.scale[lane] = scale;
        self.min[lane] = [min[0] - zero * scale[0], min[1] - zero * scale[1]];
        for (k, code) in self.codes[lane].iter_mut().enumerate() {
            let fifth = |at: usize| (coded(at, k % 4) >> (k / 4) & 1) << 4;
            *code = match format {
                Format::Q4_0 => nibble(coded(32, k % 16), 16 <= k),
                Format::Q4_1 => nibble(coded(64, k % 16), 16 <= k),
                Format::Q5_0 => nibble(coded(96, k % 16), 16 <= k) | fifth(32),
                Format::Q5_1 => nibble(coded(128, k % 16), 16 <= k) | fifth(64),
                Format::Q8_0 => coded(32, k),
                Format::Q4_K => nibble(coded(256, sub / 2 * 32 + k), sub % 2 == 1),
                Format::Q5_K => {
                    let fifth = (coded(256, k) >> sub & 1) << 4;
                    nibble(coded(768, sub / 2 * 32 + k), sub % 2 == 1) | fifth
                }
                _ => {
                    let at = 288 + sub / 4 * 1536;
                    let low = coded(at + 512, sub % 2 * 32 + k);
                    let high = coded(at, k) >> (2 * (sub % 4)) & 3;
                    nibble(low, 2 <= sub % 4) | high << 4
                }
            };
        }
    }
}

/// Scale and minimum of 32-column block `sub` of Q4_K and Q5_K, 6 bits each, out of their twelve bytes.
fn k_scale(sub: usize, octet: impl Fn(usize) -> u8) -> (u8, u8) {
    if sub < 4 {
        return (octet(sub) & 63, octet(sub + 4) & 63);
    }
    let (mixed, low, high) = (octet(sub + 4), octet(sub - 4), octet(sub));
    (mixed & 0xF | (low >> 6) << 4, mixed >> 4 | (high >> 6) << 4)
}

/// Values of the row in one lane of a group.
pub(super) fn row(format: Format, group: &[u8], lane: usize, out: &mut [f32]) {
    let float = |k: usize, bytes: usize| &group[(k * LANES + lane) * bytes..][..bytes];
    match format {
        Format::F32 => {
            for (k, value) in out.iter_mut().enumerate() {
                let b = float(k, 4);
                *value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        Format::F16 => {
            for (k, value) in out.iter_mut().enumerate() {
                let b = float(k, 2);
                *value = f16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
        Format::BF16 => {
            for (k, value) in out.iter_mut().enumerate() {
                let b = float(k, 2);
                *value = bf16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
        _ => {
            let per_block = format.block_len() / COLS;
            for (index, values) in out.chunks_exact_mut(COLS).enumerate() {
                let stored = &group[index / per_block * format.block_bytes() * LANES..];
                let mut block =
                    Block { codes: [[0; COLS]; LANES], scale: [[0.0; 2]; LANES], min: [[0.0; 2]; LANES] };
                block.read_lane(format, stored, index % per_block, lane);
                for (k, value) in values.iter_mut().enumerate() {
                    let (scale, min) = (block.scale[lane][k / 16], block.min[lane][k / 16]);
                    *value = scale * f32::from(block.codes[lane][k]) + min;
                }
            }
        }
    }
}
