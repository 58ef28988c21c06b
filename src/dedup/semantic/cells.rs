//! Which records are looked at together: spherical k-means, and the two nearest cells of every record.
//!
//! Rows and centroids are rounded to 8 bits first. Their products are then exact integers, so that cells are the same
//! on every backend and with any number of threads; a pair is judged by its full rows later.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Stream};
use crate::cluster::KMeans;
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::rows::{Rows, Values};
use crate::dedup::job::{read_json, write_json};
use crate::dedup::semantic::Scope;
use crate::dedup::semantic::rows::StoredRows;
use crate::dedup::spill::{RowWriter, Sorter};
use crate::error::Result;

/// Records that are one cell: all pairs of so few take a fraction of a second, and no border loses one.
const ONE_CELL: u32 = 16_384;
/// Records that a cell should have otherwise, before each record is also put in its second cell.
const RECORDS_PER_CELL: u32 = 2048;
/// Cells that a record is in: pairs across a border are found if one of these is common.
const PROBES: usize = 2;
/// Rows that each centroid is trained on.
const SAMPLE_PER_CELL: usize = 128;
/// Tells this use of the job's seed from others.
const SAMPLE: u64 = 0x63_65_6c_6c;
/// Rounds of training; cells hardly move after these.
const ROUNDS: usize = 8;
/// Rows assigned at once.
const BLOCK: u32 = 8192;

/// A record in a cell. Sorts by cell, then by rank.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct CellRow {
    /// The cell.
    pub cell: u32,
    /// Rank of the record.
    pub rank: u32,
    /// Its row.
    pub row: u32,
}

/// What this stage came to.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Cells {
    /// Number of cells.
    pub n_cells: u32,
    /// Records whose row is zero: they are near nothing.
    pub n_without_vector: u32,
}

/// Writes `cells.rows`: all records that have a vector, in their cells.
///
/// # Errors
/// A failure of the backend or the disk.
pub fn run(scope: &Scope<'_>, rows: &StoredRows, backend: &dyn Backend) -> Result<Cells> {
    let job = scope.job;
    let (path, about) = (job.work("cells.rows"), job.work("cells.json"));
    if path.exists() && about.exists() {
        return read_json(&about);
    }
    let n = rows.n_rows();
    let centroids = match job.options.n_cells.unwrap_or_else(|| n_cells(n)).min(n) {
        0 | 1 => None,
        k => train(rows, k, job.options.seed, backend)?,
    };
    let mut cells = Cells { n_cells: 1, n_without_vector: 0 };
    let resident = centroids.map(|c| backend.upload(Arc::new(c), Metric::Dot)).transpose()?;
    cells.n_cells = resident.as_ref().map_or(1, |c| c.host().n_rows() as u32);
    let mut sorter = Sorter::new(&job.work("scratch"), "cells", scope.budget / 4, false);
    for start in (0..n).step_by(BLOCK as usize) {
        let numbers: Vec<u32> = (start..(start + BLOCK).min(n)).collect();
        let values = rows.gather(&numbers)?;
        let (present, codes) = codes(&numbers, &values, rows.dim());
        cells.n_without_vector += (numbers.len() - present.len()) as u32;
        let near = match &resident {
            Some(centroids) if !present.is_empty() => {
                let queries = Rows::new(Values::I8(codes.into()), rows.dim())?;
                backend.flat_scan(Stream::default(), &queries, centroids, Allow::All, PROBES)?
            }
            _ => vec![vec![Default::default()]; present.len()],
        };
        for (row, near) in present.into_iter().zip(near) {
            for cell in near {
                sorter.push(CellRow { cell: cell.slot, rank: rows.rank(row), row })?;
            }
        }
        job.check_stop()?;
    }
    let mut writer = RowWriter::create(&path)?;
    let mut sorted = sorter.finish()?;
    while let Some(row) = sorted.next_row()? {
        writer.write(&[row])?;
    }
    writer.finish()?;
    write_json(&about, &cells)?;
    Ok(cells)
}

/// Cells for `n` records: of even size while that is the cheaper part, then so that assigning does not outgrow joining.
fn n_cells(n: u32) -> u32 {
    if n <= ONE_CELL {
        return 1;
    }
    let most = (2.0 * f64::from(n).sqrt()) as u32;
    (n / RECORDS_PER_CELL).min(most)
}

/// Rows that are not zero, and their codes: elements in steps of a 127th of the greatest.
fn codes(numbers: &[u32], values: &[f32], dim: usize) -> (Vec<u32>, Vec<i8>) {
    let (mut present, mut codes) = (Vec::new(), Vec::new());
    for (&number, row) in numbers.iter().zip(values.chunks_exact(dim)) {
        let greatest = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        if greatest > 0.0 {
            present.push(number);
            codes.extend(row.iter().map(|x| (x / greatest * 127.0).round() as i8));
        }
    }
    (present, codes)
}

/// About `k` centroids of a seeded sample; `None` if no row of it has a vector.
fn train(rows: &StoredRows, k: u32, seed: u64, backend: &dyn Backend) -> Result<Option<Rows>> {
    let means = KMeans {
        n_cells: k as usize,
        n_rounds: ROUNDS,
        sample_per_cell: SAMPLE_PER_CELL,
        seed: seed ^ SAMPLE,
    };
    let sampled = means.sample(rows.n_rows() as usize);
    let numbers: Vec<u32> = sampled.into_iter().map(|row| row as u32).collect();
    let (present, sample) = codes(&numbers, &rows.gather(&numbers)?, rows.dim());
    if present.is_empty() {
        return Ok(None);
    }
    let sample = Rows::new(Values::I8(sample.into()), rows.dim())?;
    means.train_even(backend, sample, Metric::Dot).map(Some)
}
