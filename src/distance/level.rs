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
    const ALL: [Self; 4] = [Self::Baseline, Self::Avx2, Self::Avx512, Self::Avx512Vnni];

    /// The best level of this processor.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().unwrap_or(&Self::Baseline))
    }

    /// All levels of this processor, lowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .take_while(|level| level.adds().iter().all(|&name| has(name)))
            .collect()
    }

    /// The level above the best one, and which of the features it asks for are missing; `None` at the
    /// highest.
    pub fn beyond() -> Option<(Self, Vec<&'static str>)> {
        if !cfg!(target_arch = "x86_64") {
            return None;
        }
        let level = *Self::ALL.get(Self::available().len())?;
        Some((level, level.adds().iter().copied().filter(|name| !has(name)).collect()))
    }

    /// Features that the level asks for beyond those of the level below.
    fn adds(self) -> &'static [&'static str] {
        match self {
            Self::Baseline => &[],
            Self::Avx2 => &["avx2", "fma", "f16c", "popcnt"],
            Self::Avx512 => &["avx512f", "avx512bw", "avx512dq", "avx512vl"],
            Self::Avx512Vnni => &["avx512vnni", "avx512vpopcntdq", "avx512bitalg"],
        }
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

/// The vector features of this processor that a level asks for, and those of the same kind that no loop uses yet.
pub fn features() -> (Vec<&'static str>, Vec<&'static str>) {
    let used = Level::ALL.iter().flat_map(|level| level.adds());
    let unused = ["avx512bf16", "avx512fp16", "avx512vbmi", "avxvnni"];
    let of_this = |names: Vec<&'static str>| names.into_iter().filter(|name| has(name)).collect();
    (of_this(used.copied().collect()), of_this(unused.to_vec()))
}

#[cfg(target_arch = "x86_64")]
fn has(name: &str) -> bool {
    match name {
        "avx2" => is_x86_feature_detected!("avx2"),
        "fma" => is_x86_feature_detected!("fma"),
        "f16c" => is_x86_feature_detected!("f16c"),
        "popcnt" => is_x86_feature_detected!("popcnt"),
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        "avx512vnni" => is_x86_feature_detected!("avx512vnni"),
        "avx512vpopcntdq" => is_x86_feature_detected!("avx512vpopcntdq"),
        "avx512bitalg" => is_x86_feature_detected!("avx512bitalg"),
        "avx512bf16" => is_x86_feature_detected!("avx512bf16"),
        "avx512fp16" => is_x86_feature_detected!("avx512fp16"),
        "avx512vbmi" => is_x86_feature_detected!("avx512vbmi"),
        "avxvnni" => is_x86_feature_detected!("avxvnni"),
        _ => unreachable!("{name} is not listed"),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has(_: &str) -> bool {
    false
}
