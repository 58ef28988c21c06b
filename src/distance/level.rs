//! Which vector instructions this processor has, asked once per process.

use std::sync::OnceLock;

/// Instruction sets that loops are compiled for, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the target has: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// x86-64 with AVX2, FMA, F16C and POPCNT.
    Avx2,
    /// The same and AVX-512 F, BW, DQ, VL.
    Avx512,
    /// The same and AVX-512 VNNI, VPOPCNTDQ and BITALG.
    Avx512Vnni,
}

impl Level {
    /// The best level of this processor.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().unwrap_or(&Self::Baseline))
    }

    /// All levels of this processor, lowest first.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("popcnt");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let vnni = avx512
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx512vpopcntdq")
                && is_x86_feature_detected!("avx512bitalg");
            let higher = [(avx2, Self::Avx2), (avx512, Self::Avx512), (vnni, Self::Avx512Vnni)];
            levels.extend(higher.iter().filter(|(has, _)| *has).map(|(_, level)| *level));
        }
        levels
    }

    /// The name, as shown and as `NEARKIN_REQUIRE` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline if cfg!(target_arch = "aarch64") => "neon",
            Self::Baseline if cfg!(target_arch = "x86_64") => "sse2",
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
        }
    }
}
