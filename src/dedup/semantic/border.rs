//! What the cells lose: a sample of records is compared with all others, and its near pairs are looked for in the result.

use std::path::Path;
use std::sync::Arc;

use crate::backend::{Backend, Stream, Tile};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::rows::{Rows, Values};
use crate::dedup::report::BorderReport;
use crate::dedup::semantic::bytes::Bytes;
use crate::dedup::semantic::cells::Cells;
use crate::dedup::semantic::rows::StoredRows;
use crate::dedup::semantic::{Scope, cosine, dot, edge, join};
use crate::dedup::spill::RowReader;
use crate::dedup::verify::{BINS, Edge};
use crate::error::Result;

/// Records sampled at most: the share of lost pairs is then known to a few hundredths.
const SAMPLE: u64 = 1000;
/// Pairs compared at most: a second or two.
const PAIRS: u64 = 1 << 30;
/// Rows compared with the sample at once.
const BLOCK: usize = 8192;

/// Share of the sample's near pairs that are not in `edges`, and how near the nearest other record of each of the sample
/// is: 50 bins over [0, 1], what lies below 0 in the first.
///
/// # Errors
/// A failure of the backend or the disk.
pub fn measure(
    scope: &Scope<'_>,
    rows: &StoredRows,
    cells: &Cells,
    backend: &dyn Backend,
    edges: &Path,
) -> Result<(BorderReport, Vec<u64>)> {
    let n = u64::from(rows.n_rows());
    let n_sampled = SAMPLE.min(n).min((PAIRS / n.max(1)).max(32));
    let pick = |i: u64| {
        let (start, end) = (i * n / n_sampled, (i + 1) * n / n_sampled);
        (start + stream(scope.job.options.seed ^ 0x626f72646572, i) % (end - start)) as u32
    };
    let (numbers, sample) = present(rows, &(0..n_sampled.min(n)).map(pick).collect::<Vec<_>>())?;
    let mut border = BorderReport { n_sampled: numbers.len() as u64, ..BorderReport::default() };
    let mut nearest = vec![-1.0f32; numbers.len()];
    let mut found: Vec<Edge> = Vec::new();
    if !numbers.is_empty() {
        let queries = Rows::new(Values::F32(sample.into()), rows.dim())?;
        let bytes = Bytes::place(backend, &queries)?;
        let groups = join::groups(scope)?;
        for start in (0..rows.n_rows()).step_by(BLOCK) {
            let block: Vec<u32> = (start..(start + BLOCK as u32).min(rows.n_rows())).collect();
            let (block, values) = present(rows, &block)?;
            if block.is_empty() {
                continue;
            }
            let others = Arc::new(Rows::new(Values::F32(values.into()), rows.dim())?);
            let placed = backend.upload(Arc::clone(&others), Metric::Cosine)?;
            let near = backend.flat_scan(Stream::default(), &queries, &placed, Allow::All, 2)?;
            for ((best, near), &number) in nearest.iter_mut().zip(near).zip(&numbers) {
                let other = near.iter().find(|near| block[near.slot as usize] != number);
                *best = best.max(other.map_or(-1.0, |other| 1.0 - other.distance));
            }
            if cells.n_cells > 1 {
                let sample = Side { rows: &queries, numbers: &numbers, bytes: &bytes };
                let block_bytes = Bytes::place(backend, &others)?;
                let block = Side { rows: &others, numbers: &block, bytes: &block_bytes };
                brute(scope, rows, backend, &groups, (sample, block), &mut found)?;
            }
            scope.job.check_stop()?;
        }
    }
    found.sort_unstable();
    found.dedup();
    border.n_pairs = found.len() as u64;
    border.n_missed = missed(&found, edges)?;
    if cells.n_cells > 1 {
        (border.share, border.low, border.high) = interval(border.n_missed, border.n_pairs);
    }
    let mut histogram = vec![0; BINS];
    for best in nearest {
        let bin = (f64::from(best.max(0.0)) * BINS as f64 + 1e-6) as usize;
        histogram[bin.min(BINS - 1)] += 1;
    }
    Ok((border, histogram))
}

/// Those of the rows that are not zero, and their values.
fn present(rows: &StoredRows, numbers: &[u32]) -> Result<(Vec<u32>, Vec<f32>)> {
    let values = rows.gather(numbers)?;
    let (mut kept, mut out) = (Vec::new(), Vec::new());
    for (&number, row) in numbers.iter().zip(values.chunks_exact(rows.dim())) {
        if row.iter().any(|&x| x != 0.0) {
            kept.push(number);
            out.extend_from_slice(row);
        }
    }
    Ok((kept, out))
}

/// Rows, their numbers in the file, and their bytes.
struct Side<'s> {
    rows: &'s Rows,
    numbers: &'s [u32],
    bytes: &'s Bytes,
}

/// All near pairs of two sides, exactly as the join judges them.
fn brute(
    scope: &Scope<'_>,
    rows: &StoredRows,
    backend: &dyn Backend,
    groups: &[u64],
    (a, b): (Side<'_>, Side<'_>),
    found: &mut Vec<Edge>,
) -> Result<()> {
    let tile = Tile { a: 0..a.numbers.len() as u32, b: 0..b.numbers.len() as u32 };
    let similarity = scope.job.options.similarity;
    let (mut x, mut y) = (vec![0.0; rows.dim()], vec![0.0; rows.dim()]);
    for pair in a.bytes.near(backend, Some(b.bytes), tile, similarity)? {
        let (i, j) = (pair.a as usize, pair.b as usize);
        let ranks = (rows.rank(a.numbers[i]), rows.rank(b.numbers[j]));
        let refused = ranks.0 == ranks.1
            || ranks.0.max(ranks.1) < scope.n_references
            || !groups.is_empty() && groups[ranks.0 as usize] != groups[ranks.1 as usize];
        if refused {
            continue;
        }
        a.rows.widen(i, &mut x);
        b.rows.widen(j, &mut y);
        let verdict = edge(ranks.0, ranks.1, cosine(&x, &y, (dot(&x, &x), dot(&y, &y))));
        if verdict.similarity() >= similarity {
            found.push(verdict);
        }
    }
    Ok(())
}

/// How many of the sorted pairs are not in the file.
fn missed(found: &[Edge], edges: &Path) -> Result<u64> {
    let mut reader: RowReader<Edge> = RowReader::open(edges)?;
    let mut next = reader.next_row()?;
    let mut n_missed = 0;
    for pair in found {
        while next.is_some_and(|edge| edge < *pair) {
            next = reader.next_row()?;
        }
        n_missed += u64::from(next != Some(*pair));
    }
    Ok(n_missed)
}

/// A share and its 95 % interval.
///
/// Paper: Wilson, "Probable inference", JASA 1927. It takes pairs for independent; those of one record are not, so that
/// the truth may lie a little outside more often than once in twenty.
fn interval(part: u64, all: u64) -> (f64, f64, f64) {
    if all == 0 {
        return (0.0, 0.0, 1.0);
    }
    const Z: f64 = 1.96;
    let (n, p) = (all as f64, part as f64 / all as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    (p, (centre - half).max(0.0), (centre + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        assert_eq!(interval(0, 0), (0.0, 0.0, 1.0));
        let (p, low, high) = interval(10, 100);
        assert!(p == 0.1 && (low - 0.0552).abs() < 1e-3 && (high - 0.1744).abs() < 1e-3);
        let (_, low, high) = interval(0, 100);
        assert!(low == 0.0 && (high - 0.037).abs() < 1e-3);
    }
}
