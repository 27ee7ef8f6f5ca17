//! Probes for 64-bit ARM. Arithmetic is written as assembler, so that nothing is hoisted out of the loop or spilt.

use std::arch::aarch64::*;
use std::arch::asm;

use super::STREAMS;

/// # Safety
/// The machine has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn read(bytes: &[u8]) -> u64 {
    let quarter = bytes.len() / STREAMS;
    let mut sums = [vdupq_n_u8(0); STREAMS];
    for at in (0..quarter / 64 * 64).step_by(64) {
        for (stream, sum) in sums.iter_mut().enumerate() {
            let from = bytes.as_ptr().wrapping_add(stream * quarter + at);
            // SAFETY: 64 bytes from `at` on lie within the stream, the stream within `bytes`.
            let parts = unsafe { vld1q_u8_x4(from) };
            *sum = veorq_u8(*sum, veorq_u8(veorq_u8(parts.0, parts.1), veorq_u8(parts.2, parts.3)));
        }
    }
    let mut all = sums[0];
    for sum in &sums[1..] {
        all = veorq_u8(all, *sum);
    }
    let halves = vreinterpretq_u64_u8(all);
    vgetq_lane_u64::<0>(halves) ^ vgetq_lane_u64::<1>(halves)
}

/// A loop of so many turns over instructions of 24 chains that do not depend on each other: what pipelines have places for,
/// and some more. `\\n` stands for the chain's register; all begin as zero, and so do the operands `v24` and `v25`.
macro_rules! chains {
    ($turns:expr, $($line:literal),+) => {
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25",
            "movi v\\n\\().4s, #0",
            ".endr",
            "2:",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23",
            $($line,)+
            ".endr",
            "subs {turns}, {turns}, #1",
            "b.ne 2b",
            turns = inout(reg) $turns => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
            out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
            out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _,
            out("v29") _, out("v30") _, out("v31") _,
            options(nomem, nostack)
        )
    };
}

/// Fused multiply-add: two operations in each of four lanes.
///
/// # Safety
/// The machine has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn f32(turns: u64) -> f64 {
    // SAFETY: only the named registers change, and no memory is touched.
    unsafe { chains!(turns, "fmla v\\n\\().4s, v24.4s, v25.4s") };
    turns as f64 * 192.0
}

/// Multiply to 16 bits, and add pairs to 32: the exact sum without a dot-product instruction, two operations for each of
/// sixteen codes. All chains share the register between, which processors that rename registers do not wait for; the small
/// ones that do not may be capable of more.
///
/// # Safety
/// The machine has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn int8(turns: u64) -> f64 {
    // SAFETY: only the named registers change, and no memory is touched.
    unsafe {
        chains!(
            turns,
            "smull v26.8h, v24.8b, v25.8b",
            "smlal2 v26.8h, v24.16b, v25.16b",
            "sadalp v\\n\\().4s, v26.8h"
        );
    }
    turns as f64 * 768.0
}

/// The dot-product instruction: two operations for each of sixteen codes.
///
/// # Safety
/// The machine has NEON and its dot products.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn int8_dotprod(turns: u64) -> f64 {
    // SAFETY: only the named registers change, and no memory is touched.
    unsafe { chains!(turns, "sdot v\\n\\().4s, v24.16b, v25.16b") };
    turns as f64 * 768.0
}
