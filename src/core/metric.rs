//! How far two rows are apart.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A distance between rows; smaller is nearer. At public edges cosine is shown as a similarity in `[-1, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// `1 - a·b / (|a| |b|)`, in `[0, 2]`. Rows of norm 0 are refused.
    Cosine,
    /// `-a·b`.
    Dot,
    /// `Σ (a_i - b_i)²`: squared, no root is taken.
    L2,
    /// `Σ |a_i - b_i|`.
    L1,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 4] = [Self::Cosine, Self::Dot, Self::L2, Self::L1];

    /// The name, as typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::L2 => "l2",
            Self::L1 => "l1",
        }
    }
}

impl Metric {
    /// What people are shown for a distance: the cosine in `[-1, 1]`, the inner product, and for L2 (squared) and L1 the
    /// distance itself.
    pub fn score(self, distance: f32) -> f32 {
        let shown = match self {
            Self::Cosine => (1.0 - f64::from(distance)) as f32,
            Self::Dot => -distance,
            Self::L2 | Self::L1 => distance,
        };
        // Zero has no sign.
        shown + 0.0
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|metric| metric.name() == text).ok_or_else(|| {
            Error::usage("metric", format!("{text:?}, expected cosine, dot, l2 or l1"))
        })
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
