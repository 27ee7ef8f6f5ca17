//! Probes in plain Rust: what the compiler makes of loops for the baseline target.

use std::hint::black_box;

use super::STREAMS;

/// Values the loops work on at once: some vectors of any machine.
const LANES: usize = 64;
/// Turns between two looks of the optimiser at the operands.
const UNROLL: u64 = 256;

pub(super) fn read(bytes: &[u8]) -> u64 {
    let quarter = bytes.len() / STREAMS;
    let streams: [&[u8]; STREAMS] = std::array::from_fn(|s| &bytes[s * quarter..(s + 1) * quarter]);
    let mut sums = [0u64; 8];
    for at in (0..quarter / 64 * 64).step_by(64) {
        for stream in streams {
            for (sum, word) in sums.iter_mut().zip(stream[at..at + 64].chunks_exact(8)) {
                *sum ^= word.try_into().map_or(0, u64::from_le_bytes);
            }
        }
    }
    sums.iter().fold(0, |all, sum| all ^ sum)
}

/// Products and sums as two instructions: the baseline target of x86-64 has no fused one.
pub(super) fn f32(turns: u64) -> f64 {
    let (a, mut sums) = (black_box([0.5f32; LANES]), [0.0f32; LANES]);
    let mut done = 0;
    while done < turns {
        let b = black_box([0.25f32; LANES]);
        for _ in 0..UNROLL {
            for ((sum, a), b) in sums.iter_mut().zip(&a).zip(&b) {
                *sum = *sum * a + b;
            }
        }
        done += UNROLL;
    }
    black_box(sums);
    done as f64 * (2 * LANES) as f64
}

pub(super) fn int8(turns: u64) -> f64 {
    let mut total = 0i32;
    let mut done = 0;
    while done < turns {
        let (a, b) = (black_box([3i8; 4 * LANES]), black_box([5i8; 4 * LANES]));
        total =
            total.wrapping_add(a.iter().zip(&b).map(|(a, b)| i32::from(i16::from(*a) * i16::from(*b))).sum());
        done += 4;
    }
    black_box(total);
    done as f64 * (2 * LANES) as f64
}
