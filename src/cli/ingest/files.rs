//! Points of which vectors, payloads and ids stand in files beside each other, or in the columns of one.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::cli::ingest::IngestArgs;
use crate::cli::ingest::source::{Block, Place, Points};
use crate::cli::lines::Lines;
use crate::core::ids::PointId;
use crate::core::limits::INGEST_BLOCK_POINTS;
use crate::core::rows::Dtype;
use crate::engine::NewPoint;
use crate::error::{Error, ErrorKind, Result};
use crate::record::payload;
use crate::record::point::point_id;
use crate::record::vector_file::{
    JsonLines, VectorFormat, VectorSource, kept_as, row_of, rows_beside,
};

/// The files, read as far as the last block.
pub struct FilePoints {
    path: PathBuf,
    vectors: Box<dyn VectorSource>,
    n_rows: usize,
    /// Element type to keep, and the name of the input's own if that is another.
    dtype: Dtype,
    made_of: Option<&'static str>,
    payloads: Option<Lines>,
    ids: Option<Lines>,
    columns: Option<JsonLines>,
    id_field: Option<String>,
    next_row: usize,
    /// Bytes of payload texts since the last block.
    payload_bytes: u64,
}

impl FilePoints {
    /// Opens the files.
    pub fn open(path: &Path, args: &IngestArgs) -> Result<Self> {
        let format = VectorFormat::of(path)?;
        let vectors = format.open(path, args.read.vector_field.as_deref())?;
        let source = vectors.source();
        let dtype = kept_as(&source, args.read.storage, path)?;
        let is_other = source.dtype != Some(dtype);
        let id_field = args.id_field.clone();
        if let (Some(field), None) = (&id_field, &source.field) {
            let message = format!("{field:?} of {}, which has no columns", path.display());
            return Err(Error::usage("id_field", message));
        }
        let only = if args.payload.is_some() { id_field.as_deref() } else { None };
        let columns = match &source.field {
            Some(field) if args.payload.is_none() || id_field.is_some() => {
                rows_beside(path, field, only)?
            }
            _ => None,
        };
        let lines = |path: &Option<PathBuf>| path.as_deref().map(Lines::open).transpose();
        Ok(Self {
            path: path.to_owned(),
            n_rows: source.n_rows,
            dtype,
            made_of: is_other.then(|| source.dtype.map_or("f64", Dtype::name)),
            vectors,
            payloads: lines(&args.payload)?,
            ids: lines(&args.ids)?,
            columns,
            id_field,
            next_row: 0,
            payload_bytes: 0,
        })
    }

    /// The next point, which is the row's.
    fn point(&mut self, row: usize) -> Result<NewPoint> {
        let mut object = Value::Object(Map::new());
        let beside = Place::rows(&self.path);
        if let Some(next) = &mut self.columns {
            let line = next()?.ok_or_else(|| beside.bad(row, "rows_differ", "a column ends"))?;
            self.payload_bytes += line.len() as u64;
            object = payload::parse(&line).map_err(|problem| beside.problem(row, &problem))?;
        }
        let id = match (&mut self.ids, &self.id_field) {
            (Some(lines), _) => id_of_line(lines, self.n_rows)?,
            (None, Some(field)) => id_of_column(field, &mut object, row, &beside)?,
            (None, None) => PointId::Num(row as u64),
        };
        let payload = match &mut self.payloads {
            Some(lines) => payload_of_line(lines, self.n_rows, &mut self.payload_bytes)?,
            None => object,
        };
        Ok(NewPoint { id, payload })
    }

    /// Fails if a file has lines that no row is left for.
    fn check_end(&mut self) -> Result<()> {
        for (lines, what) in [(&mut self.payloads, "payloads"), (&mut self.ids, "ids")] {
            let Some(lines) = lines else { continue };
            while lines.next()?.is_some() {}
            if lines.number() != self.n_rows {
                return Err(differ(lines, what, self.n_rows));
            }
        }
        Ok(())
    }
}

impl Points for FilePoints {
    fn next(&mut self) -> Result<Option<Block>> {
        let first_row = self.next_row;
        let Some((numbers, dim)) = self.vectors.next(INGEST_BLOCK_POINTS)? else {
            self.check_end()?;
            return Ok(None);
        };
        let n_rows = numbers.len() / dim;
        let rows =
            numbers.into_rows(dim, self.dtype, &|row| row_of(&self.path, first_row + row))?;
        let points = (first_row..first_row + n_rows).map(|row| self.point(row));
        let points = points.collect::<Result<Vec<_>>>()?;
        self.next_row += n_rows;
        let beside = Place::rows(&self.path);
        let lines = |lines: &Option<Lines>| lines.as_ref().map(|lines| Place::lines(lines.name()));
        let of_columns = self.columns.as_ref().map(|_| beside.clone());
        Ok(Some(Block {
            first_row,
            points,
            n_bytes: rows.n_bytes(),
            payload_bytes: std::mem::take(&mut self.payload_bytes),
            rows,
            made_of: self.made_of,
            ids_in: lines(&self.ids).or_else(|| self.id_field.as_ref().map(|_| beside.clone())),
            payloads_in: lines(&self.payloads).or(of_columns),
            vectors_in: beside,
        }))
    }
}

fn id_of_line(lines: &mut Lines, n_rows: usize) -> Result<PointId> {
    let place = Place::lines(lines.name());
    match lines.next()? {
        Some((number, line)) => {
            line.parse().map_err(|error: Error| error.within(place.of(number - 1)))
        }
        None => Err(differ(lines, "ids", n_rows)),
    }
}

fn id_of_column(field: &str, object: &mut Value, row: usize, place: &Place) -> Result<PointId> {
    let value = object.as_object_mut().and_then(|object| object.shift_remove(field));
    let Some(value) = value else {
        return Err(place.bad(row, "field_missing", format_args!("no column {field:?}")));
    };
    point_id(&value.to_string()).map_err(|problem| place.problem(row, &problem))
}

fn payload_of_line(lines: &mut Lines, n_rows: usize, n_bytes: &mut u64) -> Result<Value> {
    let place = Place::lines(lines.name());
    match lines.next()? {
        Some((number, line)) => {
            *n_bytes += line.len() as u64;
            payload::parse(line).map_err(|problem| place.problem(number - 1, &problem))
        }
        None => Err(differ(lines, "payloads", n_rows)),
    }
}

fn differ(lines: &Lines, what: &str, n_rows: usize) -> Error {
    let message = format!("{}: {} {what} for {n_rows} vectors", lines.name(), lines.number());
    Error::new(ErrorKind::BadInput, "rows_differ", message)
}
