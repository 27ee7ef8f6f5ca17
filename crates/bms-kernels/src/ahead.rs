//! Asking for memory before it is read.

use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Bytes ahead of what is read.
const AHEAD: usize = 3072;

/// Whether kernels of quantised products with few rows ask ahead. On Intel's processors (Granite Rapids) two thirds of what memory gives
/// are all that is read without; on AMD's (Zen 4), which look far ahead by themselves, asking costs as much.
pub(crate) fn asks_ahead() -> bool {
    static INTEL: OnceLock<bool> = OnceLock::new();
    *INTEL.get_or_init(|| {
        let vendor = __cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    })
}

/// Asks for the line that lies ahead of this address.
#[inline(always)]
pub(crate) fn ask(reading: *const u8) {
    // SAFETY: only a hint, part of every x86-64; the address need not be one of ours.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(reading.wrapping_add(AHEAD).cast()) };
}
