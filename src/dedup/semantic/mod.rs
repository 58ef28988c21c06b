//! Records that mean the same: vectors to pairs at or above a cosine similarity.
//!
//! In: the corpus and where its vectors come from. Out: `semantic-edges.rows`, pairs of ranks with their exact cosine,
//! for the same cover as lexical pairs. Next, in the order of the stages: `source.rs` and `embed.rs` (a row for each
//! record), `rows.rs` (where rows lie), `cells.rs` (who is looked at with whom), `join.rs` (pairs and verdicts),
//! `border.rs` (what the cells lose), `earlier.rs` (a higher threshold, without a new join).
//!
//! Paper: Abbas et al., "SemDeDup", 2023, section 3. Where we differ: two cells are looked at for each record, verdicts
//! are exact, and a record is dropped only for a kept one.

pub mod border;
pub mod bytes;
pub mod cells;
pub mod earlier;
pub mod embed;
pub mod join;
pub mod rows;
pub mod source;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backend::Note;
use crate::backend::open::open;
use crate::dedup::Stages;
use crate::dedup::corpus::Corpus;
use crate::dedup::job::{Job, read_json, write_json};
use crate::dedup::keep::Ranks;
use crate::dedup::report::SemanticReport;
use crate::dedup::semantic::rows::StoredRows;
use crate::dedup::semantic::source::Source;
use crate::dedup::verify::Edge;
use crate::error::{Error, ErrorKind, Result};
use crate::record::reader::PartRange;

/// The denominator of a cosine in an [`Edge`]: no record has as many shingles, so it tells both kinds apart.
pub const ONE: u32 = 1 << 30;

/// What the stages work on.
pub struct Scope<'s> {
    /// The job.
    pub job: &'s Job<'s>,
    /// Parts of its files.
    pub parts: &'s [(usize, PartRange)],
    /// Their records.
    pub corpus: &'s Corpus,
    /// The keep order.
    pub ranks: &'s Ranks,
    /// Ranks below this are references, which are not compared with one another.
    pub n_references: u32,
    /// Bytes that may be used.
    pub budget: u64,
    /// By rank, whether the record is compared at all: one of each set of equal texts.
    pub takes_part: &'s (dyn Fn(u32) -> bool + Sync),
}

/// What the stages came to; kept beside the pairs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Semantics {
    /// For the report.
    pub report: SemanticReport,
}

/// Runs the stages; returns the file of pairs, sorted by the worse rank.
///
/// # Errors
/// Any failure of a stage.
pub fn edges(scope: &Scope<'_>, stages: &mut Stages<'_>) -> Result<(PathBuf, Semantics)> {
    let job = scope.job;
    let (edges, findings) = (job.work("semantic-edges.rows"), job.work("semantic.json"));
    if edges.exists() && findings.exists() {
        return Ok((edges, read_json(&findings)?));
    }
    let source = job.source.as_ref().expect("semantic jobs open a source");
    let mut report = SemanticReport {
        embedder: source.identity(),
        dim: source.dim() as u64,
        similarity: job.options.similarity,
        ..SemanticReport::default()
    };
    if let Source::Earlier { folder, .. } = source {
        let filtered = stages.time("edges", || earlier::filter(job, folder, &edges))?;
        report.n_pairs = filtered.iter().sum();
        report.histogram = filtered;
        report.from = Some(folder.to_string_lossy().into_owned());
    } else {
        report.n_cut = stages.time("embed", || embed::run(scope, source))?;
        let rows = StoredRows::open(scope, source.dim())?;
        let device = open(job.options.device, &pool(job.options.threads)?, scope.budget, None)?;
        report.device = device.backend.facts().name.clone();
        report.device_why = device.why;
        let backend = device.backend.as_ref();
        let cells = stages.time("cells", || cells::run(scope, &rows, backend))?;
        report.n_embedded = u64::from(rows.n_rows());
        report.n_without_vector = u64::from(cells.n_without_vector);
        report.n_cells = u64::from(cells.n_cells);
        report.histogram = stages.time("join", || join::run(scope, &rows, backend, &edges))?;
        report.n_pairs = report.histogram.iter().sum();
        let sampled =
            stages.time("border", || border::measure(scope, &rows, &cells, backend, &edges))?;
        report.border = Some(sampled.0);
        report.nearest_histogram = sampled.1;
        report.device_notes = backend.take_notes().iter().map(Note::to_string).collect();
    }
    let semantics = Semantics { report };
    write_json(&findings, &semantics)?;
    Ok((edges, semantics))
}

/// Threads for a backend, whose pool is its own: a stage that waits for it must not take its threads.
fn pool(threads: usize) -> Result<Arc<rayon::ThreadPool>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map(Arc::new).map_err(|error| Error::new(ErrorKind::Io, "threads", error.to_string()))
}

/// Exact cosine of two rows with their squared norms, in steps of 2^-30; 0 if one has no norm. Summed in 64 bits in one
/// fixed order, so that it is the same wherever the pair was found.
pub fn cosine(a: &[f32], b: &[f32], squares: (f64, f64)) -> i32 {
    let norms = (squares.0 * squares.1).sqrt();
    if norms == 0.0 {
        return 0;
    }
    let one = f64::from(ONE);
    (dot(a, b) / norms * one).round().clamp(-one, one) as i32
}

/// `a·b` in eight sums, so that the processor need not wait for each.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (xs, ys) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 =
        xs.remainder().iter().zip(ys.remainder()).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    for (x, y) in xs.zip(ys) {
        for lane in 0..LANES {
            sums[lane] += f64::from(x[lane]) * f64::from(y[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The edge of a pair of ranks with this cosine; below 0 counts as 0.
pub fn edge(a: u32, b: u32, cosine: i32) -> Edge {
    Edge { worse: a.max(b), better: a.min(b), shared: cosine.max(0) as u32, union: ONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_is_exact_where_it_can_be_and_never_nan() {
        let square = |a: &[f32]| dot(a, a);
        let row: Vec<f32> = (0..37).map(|i| (i as f32).sin()).collect();
        assert_eq!(cosine(&row, &row, (square(&row), square(&row))), ONE as i32);
        let minus: Vec<f32> = row.iter().map(|x| -x).collect();
        assert_eq!(cosine(&row, &minus, (square(&row), square(&minus))), -(ONE as i32));
        assert_eq!(cosine(&[3.0, 4.0], &[4.0, -3.0], (25.0, 25.0)), 0);
        assert_eq!(cosine(&[0.0; 2], &[1.0, 0.0], (0.0, 1.0)), 0);
        assert_eq!(edge(3, 7, ONE as i32 / 2).similarity(), 0.5);
    }
}
