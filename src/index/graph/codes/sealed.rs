//! Codes of a graph in a sealed file, and back: they stay in the file. Names of sections begin with a name that is given.
//!
//! | section | elements | holds |
//! |---|---|---|
//! | `NAME.about` | u64 `[5]` | metric, bits of an element, seed of the rotation, `dim`, `n_slots` |
//! | `NAME.centroid` | f32 `[dim]` | what residuals are taken from |
//! | `NAME.lines` | u8 `[n_lines, 64]` | records of the slots, one after another |

use crate::core::limits::DIM;
use crate::core::metric::Metric;
use crate::core::slab::Slab;
use crate::distance::Level;
use crate::distance::simd::coded::Bits;
use crate::error::Result;
use crate::index::graph::codes::{Codes, Encoder, LINE};
use crate::index::sealed::{metric_of, metric_tag};
use crate::store::sealed::{Sealed, SealedWriter};

impl Codes {
    /// Sections that [`Self::seal`] writes.
    pub const N_SECTIONS: usize = 3;

    /// Writes the codes, in sections that begin with `name`.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn seal(&self, writer: &mut SealedWriter<'_>, name: &str) -> Result<()> {
        let Encoder { metric, bits, rotation, centroid, .. } = &self.encoder;
        let bits = match bits {
            Bits::Four => 4,
            Bits::Eight => 8,
        };
        let (dim, n_slots) = (centroid.len() as u64, self.n_slots as u64);
        writer.section::<u64>(&format!("{name}.about"), &[5])?;
        writer.append(&[metric_tag(*metric), bits, rotation.seed(), dim, n_slots])?;
        writer.section::<f32>(&format!("{name}.centroid"), &[dim])?;
        writer.append(centroid)?;
        let shape = [self.lines.len() as u64, LINE as u64];
        writer.section::<u8>(&format!("{name}.lines"), &shape)?;
        writer.append(self.bytes())
    }

    /// The codes of a file; none of them is looked at.
    ///
    /// # Errors
    /// `corrupt_file`.
    pub fn open(sealed: &Sealed, name: &str) -> Result<Self> {
        let about = format!("{name}.about");
        let [metric, bits, seed, dim, n_slots] = sealed.about(&about)?;
        let metric = metric_of(metric).filter(|&metric| metric != Metric::L1);
        let bits = [(4, Bits::Four), (8, Bits::Eight)].into_iter().find(|one| one.0 == bits);
        let (Some(metric), Some((_, bits))) = (metric, bits) else {
            return Err(sealed.refuse(&about, "a metric or bits that no code has"));
        };
        if !(1..=DIM as u64).contains(&dim) || n_slots > 1 << 32 {
            return Err(sealed.refuse(&about, format!("{n_slots} slots of {dim} elements")));
        }
        let centroid: Slab<f32> = sealed.slab_as::<f32, _>(&format!("{name}.centroid"), &[dim])?;
        sealed.verify_memory(&format!("{name}.centroid"))?;
        let encoder = Encoder::new(metric, bits, centroid.into_vec(), seed);
        let (stride, n_slots) = (encoder.stride(), n_slots as usize);
        let n_lines = (n_slots * stride).div_ceil(LINE);
        let shape = [n_lines as u64, LINE as u64];
        let lines = sealed.slab_as::<u8, _>(&format!("{name}.lines"), &shape)?;
        Ok(Self { encoder, level: Level::best(), stride, n_slots, lines })
    }
}
