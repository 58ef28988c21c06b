//! All pairs of the cells at or above the similarity, judged by their full rows.
//!
//! The backend says which pairs may be near by their bytes, a little more than are; the verdict is taken here, in 64 bits,
//! so that the pairs do not depend on the backend, on its tiles or on the memory.

use std::path::Path;

use rayon::prelude::*;

use crate::backend::{Backend, Tile};
use crate::core::rows::{Rows, Values};
use crate::dedup::semantic::bytes::Bytes;
use crate::dedup::semantic::cells::CellRow;
use crate::dedup::semantic::rows::StoredRows;
use crate::dedup::semantic::{Scope, cosine, dot, edge};
use crate::dedup::spill::{RowReader, RowWriter, Sorter};
use crate::dedup::verify::{BINS, Edge, Tally};
use crate::error::{Error, ErrorKind, Result};

/// Pairs that one job may have: 32 GiB of them. More are a threshold too low for the corpus, whatever the disk holds.
const PAIRS: u64 = 1 << 31;

/// Rows in the memory of a backend, and what the verdict needs of them.
struct Side {
    bytes: Bytes,
    values: Rows,
    squares: Vec<f64>,
    ranks: Vec<u32>,
}

struct Join<'j> {
    scope: &'j Scope<'j>,
    rows: &'j StoredRows,
    backend: &'j dyn Backend,
    /// By rank, hash of the group; empty without groups.
    groups: Vec<u64>,
    block: usize,
    tile: u32,
    n_pairs: u64,
    sorter: Sorter<Edge>,
}

/// Writes all pairs of `cells.rows` to `path`, sorted by the worse; returns how many by similarity, in 50 bins.
///
/// # Errors
/// A failure of the backend or the disk, or `too_many_pairs`.
pub fn run(
    scope: &Scope<'_>,
    rows: &StoredRows,
    backend: &dyn Backend,
    path: &Path,
) -> Result<Vec<u64>> {
    let row_bytes = rows.dim() as u64 * 5;
    // Two blocks of rows take a quarter of the budget, the pairs of a tile at most an eighth.
    let block = (scope.budget / 8 / row_bytes).clamp(256, 1 << 20) as usize;
    let tile = ((scope.budget / 8 / 16) as f64).sqrt().clamp(256.0, 4096.0) as u32;
    let sorter = Sorter::new(&scope.job.work("scratch"), "semantic", scope.budget / 4, true);
    let groups = groups(scope)?;
    let mut join = Join { scope, rows, backend, groups, block, tile, n_pairs: 0, sorter };
    let mut reader: RowReader<CellRow> = RowReader::open(&scope.job.work("cells.rows"))?;
    let mut cell: Vec<CellRow> = Vec::new();
    loop {
        let next = reader.next_row()?;
        if let (Some(first), Some(row)) = (cell.first(), &next)
            && first.cell == row.cell
        {
            cell.push(*row);
            continue;
        }
        join.cell(&cell)?;
        cell.clear();
        match next {
            Some(row) => cell.push(row),
            None => break,
        }
    }
    let mut writer = RowWriter::create(path)?;
    let mut sorted = join.sorter.finish()?;
    let mut tally = Tally::default();
    while let Some(edge) = sorted.next_row()? {
        tally.add(edge.similarity(), true);
        writer.write(&[edge])?;
    }
    writer.finish()?;
    tally.histogram.resize(BINS, 0);
    Ok(tally.histogram)
}

/// By rank, the hash of the group; empty without groups.
///
/// # Errors
/// If the sketches cannot be read.
pub fn groups(scope: &Scope<'_>) -> Result<Vec<u64>> {
    if scope.job.options.group_by.is_none() {
        return Ok(Vec::new());
    }
    let mut groups = vec![0; scope.corpus.n_records() as usize];
    for frame in scope.corpus.frames() {
        for (ordinal, meta) in frame.ordinals().zip(scope.corpus.metas(frame)?) {
            groups[scope.ranks.of(ordinal) as usize] = meta.group;
        }
    }
    Ok(groups)
}

impl Join<'_> {
    /// All pairs of one cell, block by block.
    fn cell(&mut self, members: &[CellRow]) -> Result<()> {
        let blocks: Vec<&[CellRow]> = members.chunks(self.block).collect();
        for (i, block) in blocks.iter().enumerate() {
            let a = self.side(block)?;
            self.tiles(&a, None)?;
            for other in &blocks[i + 1..] {
                let b = self.side(other)?;
                self.tiles(&a, Some(&b))?;
            }
        }
        Ok(())
    }

    fn side(&self, members: &[CellRow]) -> Result<Side> {
        let numbers: Vec<u32> = members.iter().map(|member| member.row).collect();
        let values = self.rows.gather(&numbers)?;
        let squares = values.chunks_exact(self.rows.dim()).map(|row| dot(row, row)).collect();
        let values = Rows::new(Values::F32(values.into()), self.rows.dim())?;
        let bytes = Bytes::place(self.backend, &values)?;
        let ranks = members.iter().map(|member| member.rank).collect();
        Ok(Side { bytes, values, squares, ranks })
    }

    fn tiles(&mut self, a: &Side, b: Option<&Side>) -> Result<()> {
        let (n_a, n_b) = (a.ranks.len() as u32, b.unwrap_or(a).ranks.len() as u32);
        let cut = |start: u32, n: u32| start..(start + self.tile).min(n);
        let step = self.tile as usize;
        let tiles: Vec<Tile> = (0..n_a)
            .step_by(step)
            .flat_map(|i| {
                let from = if b.is_none() { i } else { 0 };
                (from..n_b).step_by(step).map(move |j| (i, j))
            })
            .map(|(i, j)| Tile { a: cut(i, n_a), b: cut(j, n_b) })
            .collect();
        let similarity = self.scope.job.options.similarity;
        for tile in tiles {
            let near = a.bytes.near(self.backend, b.map(|b| &b.bytes), tile, similarity)?;
            self.judge(a, b.unwrap_or(a), &near)?;
            self.scope.job.check_stop()?;
        }
        Ok(())
    }

    fn judge(&mut self, a: &Side, b: &Side, near: &[crate::backend::Pair]) -> Result<()> {
        let (left, right) = (floats(&a.values), floats(&b.values));
        let dim = self.rows.dim();
        let similarity = self.scope.job.options.similarity;
        let verdict = |pair: &crate::backend::Pair| -> Option<Edge> {
            let (i, j) = (pair.a as usize, pair.b as usize);
            let (x, y) = (a.ranks[i], b.ranks[j]);
            let refused = x == y
                || x.max(y) < self.scope.n_references
                || !self.groups.is_empty() && self.groups[x as usize] != self.groups[y as usize];
            if refused {
                return None;
            }
            let (row_a, row_b) = (&left[i * dim..][..dim], &right[j * dim..][..dim]);
            // The better rank first: the order of a product's factors does not matter, that of the sums is fixed.
            let found = edge(x, y, cosine(row_a, row_b, (a.squares[i], b.squares[j])));
            (found.similarity() >= similarity).then_some(found)
        };
        let edges: Vec<Edge> = near.par_iter().with_min_len(1024).filter_map(verdict).collect();
        self.n_pairs += edges.len() as u64;
        if self.n_pairs > PAIRS {
            let message = format!(
                "over {PAIRS} pairs at or above {similarity}; ask for a higher --similarity"
            );
            return Err(Error::new(ErrorKind::Limit, "too_many_pairs", message));
        }
        edges.into_iter().try_for_each(|edge| self.sorter.push(edge))
    }
}

/// Cosines of pairs of ranks that the join did not compare, whatever they are; 0 for a record without a vector.
///
/// # Errors
/// A failure of the disk.
pub fn between(scope: &Scope<'_>, pairs: &[[u32; 2]]) -> Result<Vec<Edge>> {
    let dim = scope.job.source.as_ref().expect("semantic jobs open a source").dim();
    let rows = StoredRows::open(scope, dim)?;
    let mut ranks: Vec<u32> = pairs.iter().flatten().copied().collect();
    ranks.sort_unstable();
    ranks.dedup();
    let known = rows.rows_of(&ranks);
    let row_of = |rank: u32| {
        let at = known.binary_search_by_key(&rank, |known| known.0).ok()?;
        Some(known[at].1)
    };
    let mut edges = Vec::with_capacity(pairs.len());
    for &[a, b] in pairs {
        let cosine = match (row_of(a), row_of(b)) {
            (Some(x), Some(y)) => {
                let both = rows.gather(&[x, y])?;
                let (x, y) = both.split_at(dim);
                cosine(x, y, (dot(x, x), dot(y, y)))
            }
            _ => 0,
        };
        edges.push(edge(a, b, cosine));
    }
    Ok(edges)
}

/// The elements of rows that were made here.
fn floats(rows: &Rows) -> &[f32] {
    match rows.values() {
        Values::F32(values) => values,
        _ => unreachable!("made of f32 above"),
    }
}
