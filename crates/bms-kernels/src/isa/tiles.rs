//! Whether this process may use AMX tiles.

use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Bits of EDX in leaf 7 of CPUID: AMX-TILE and AMX-INT8 (Intel 64 and IA-32 Architectures Software Developer's Manual,
/// volume 2A).
const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;

/// Whether the processor has tiles of eight-bit integers, and the system lets this process use them. Asked once: the
/// permission is the whole process's, threads to come included.
pub(super) fn are_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| __cpuid_count(7, 0).edx & TILE_AND_INT8 == TILE_AND_INT8 && permitted())
}

/// Asks Linux for the tiles' part of a thread's state, which it saves only for processes that ask
/// (<https://docs.kernel.org/arch/x86/xstate.html>).
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes nothing but this permission.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// How other systems are asked is not known here.
#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}
