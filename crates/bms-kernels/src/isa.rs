//! Instruction sets, detected at run time.

#[cfg(target_arch = "x86_64")]
mod tiles;

/// An instruction set that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, the reference of all others; what the compiler makes of it for the baseline target.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C (Haswell, Zen and later).
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL, DQ and VNNI (Ice Lake, Zen 4 and later).
    Avx512,
    /// The same with AMX tiles of eight-bit integers (Sapphire Rapids and later).
    Amx,
    /// 64-bit ARM with NEON, which every one has (Cortex-A53 and A72, Raspberry Pi 3 and 4).
    Neon,
    /// The same with the dot products of eight-bit integers (Cortex-A55 and A76, Raspberry Pi 5, Graviton 2, Apple M1 and later).
    NeonDotprod,
}

impl Isa {
    /// Every instruction set kernels exist for, on whatever machine; of one architecture, plainest first.
    pub const ALL: &'static [Isa] =
        &[Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Amx, Isa::Neon, Isa::NeonDotprod];

    /// The best this machine has.
    pub fn best() -> Isa {
        Isa::ALL.iter().copied().filter(|isa| isa.is_available()).max().unwrap_or(Isa::Scalar)
    }

    /// All this machine has, plainest first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.iter().copied().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this machine has it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        let avx2 = || {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
        };
        let avx512 = || {
            avx2()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni")
        };
        match self {
            Isa::Scalar => true,
            Isa::Avx2 => avx2(),
            Isa::Avx512 => avx512(),
            Isa::Amx => avx512() && tiles::are_available(),
            Isa::Neon | Isa::NeonDotprod => false,
        }
    }

    /// Whether this machine has it.
    #[cfg(target_arch = "aarch64")]
    pub fn is_available(self) -> bool {
        use std::arch::is_aarch64_feature_detected;
        // Kernels take words apart as they lie in memory.
        let neon = || cfg!(target_endian = "little") && is_aarch64_feature_detected!("neon");
        match self {
            Isa::Scalar => true,
            Isa::Neon => neon(),
            Isa::NeonDotprod => neon() && is_aarch64_feature_detected!("dotprod"),
            Isa::Avx2 | Isa::Avx512 | Isa::Amx => false,
        }
    }

    /// Whether this machine has it.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn is_available(self) -> bool {
        self == Isa::Scalar
    }

    /// Its name in options and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::NeonDotprod => "neon-dotprod",
        }
    }

    /// The instruction set with this name.
    pub fn parse(name: &str) -> Option<Isa> {
        Isa::ALL.iter().copied().find(|isa| isa.as_str() == name)
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
