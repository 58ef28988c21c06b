//! Points that are lines of JSON.

use std::path::Path;

use crate::cli::ingest::is_stdin;
use crate::cli::ingest::source::{Block, Place, Points};
use crate::cli::lines::Lines;
use crate::core::ids::PointId;
use crate::core::limits::INGEST_BLOCK_POINTS;
use crate::core::rows::Dtype;
use crate::engine::NewPoint;
use crate::error::Result;
use crate::record::numbers::Numbers;
use crate::record::point::Point;

/// The lines, read as far as the last block.
pub struct JsonPoints {
    lines: Lines,
    place: Place,
    dtype: Dtype,
    /// Elements of every vector; 0 before the first.
    dim: usize,
    /// Whether every line has an id, or none.
    has_ids: bool,
    next_row: usize,
}

impl JsonPoints {
    /// Opens the file at `path`, or the standard input for `-`. Vectors are kept as `storage`, or as f32.
    pub fn open(path: &Path, storage: Option<Dtype>) -> Result<Self> {
        let lines = if is_stdin(path) { Lines::stdin() } else { Lines::open(path) }?;
        let (place, dtype) = (Place::lines(lines.name()), storage.unwrap_or(Dtype::F32));
        Ok(Self { lines, place, dtype, dim: 0, has_ids: false, next_row: 0 })
    }

    /// The id of a point, which all have or none.
    fn id(&self, given: Option<PointId>, row: usize) -> Result<PointId> {
        match given {
            Some(id) if self.has_ids => Ok(id),
            None if !self.has_ids => Ok(PointId::Num(row as u64)),
            Some(_) => Err(self.place.bad(row, "id_missing", "an id, line 1 has none")),
            None => Err(self.place.bad(row, "id_missing", "no id, line 1 has one")),
        }
    }
}

impl Points for JsonPoints {
    fn next(&mut self) -> Result<Option<Block>> {
        let first_row = self.next_row;
        let (mut points, mut numbers, mut n_bytes) = (Vec::new(), Vec::new(), 0);
        while points.len() < INGEST_BLOCK_POINTS {
            let row = self.next_row;
            let Some((_, line)) = self.lines.next()? else { break };
            n_bytes += line.len() as u64 + 1;
            let point = Point::parse(line).map_err(|problem| self.place.problem(row, &problem))?;
            if row == 0 {
                (self.dim, self.has_ids) = (point.vector.len(), point.id.is_some());
            }
            if point.vector.len() != self.dim {
                let (n, dim) = (point.vector.len(), self.dim);
                let what = format!("{n} numbers, line 1 has {dim}");
                return Err(self.place.bad(row, "vector_dim", what));
            }
            numbers.extend_from_slice(&point.vector);
            points.push(NewPoint { id: self.id(point.id, row)?, payload: point.payload });
            self.next_row += 1;
        }
        if points.is_empty() {
            return Ok(None);
        }
        let place = |row| self.place.of(first_row + row);
        let rows = Numbers::F64(numbers).into_rows(self.dim, self.dtype, &place)?;
        Ok(Some(Block {
            first_row,
            points,
            rows,
            made_of: None,
            ids_in: self.has_ids.then(|| self.place.clone()),
            payloads_in: Some(self.place.clone()),
            vectors_in: self.place.clone(),
            n_bytes,
            // At most: vectors are in the lines too.
            payload_bytes: n_bytes,
        }))
    }
}
