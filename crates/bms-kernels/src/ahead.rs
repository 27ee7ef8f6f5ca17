//! Asking for memory before it is read.

use std::arch::x86_64::*;
use std::sync::OnceLock;

/// How far ahead of what they read kernels ask that are bound by memory.
pub(crate) const FAR: usize = 3072;
/// Bytes that memory is read in.
const LINE: usize = 64;

/// Whether kernels of quantised products with few rows ask ahead. On Intel's processors (Granite Rapids) two thirds of what
/// memory gives are all that is read without; on AMD's (Zen 4), which look far ahead by themselves, asking costs as much.
pub(crate) fn asks_ahead() -> bool {
    static INTEL: OnceLock<bool> = OnceLock::new();
    *INTEL.get_or_init(|| {
        let vendor = __cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    })
}

/// Asks for the memory that lies `distance` bytes ahead of these `bytes` bytes.
#[inline(always)]
pub(crate) fn ask(reading: *const u8, bytes: usize, distance: usize) {
    let mut at = 0;
    while at < bytes {
        // SAFETY: only a hint, part of every x86-64; the address need not be one of ours.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(reading.wrapping_add(distance + at).cast()) };
        at += LINE;
    }
}
