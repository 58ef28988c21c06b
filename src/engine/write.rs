//! From a point to the record: what cannot be kept is refused before anything is written.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::core::ids::{PointId, TenantId};
use crate::core::limits::{NAME_BYTES, PAYLOAD_DEPTH, TENANTS_PER_POINT};
use crate::core::rows::Rows;
use crate::core::sparse::SparseVector;
use crate::engine::collection::Collection;
use crate::engine::settings::{DEFAULT_VECTOR, Settings, VectorSettings, VectorShape};
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::path::{self, elements};
use crate::store::disk::FileDisk;
use crate::store::durable::{Applied, Durable, Op, Upsert};

/// A point to be stored.
#[derive(Clone, Debug)]
pub struct NewPoint {
    /// The caller's id; a point of the same id is replaced.
    pub id: PointId,
    /// The payload, a JSON object.
    pub payload: Value,
}

/// One vector of points to be stored.
#[derive(Clone, Debug)]
pub struct Vectors<'v> {
    /// Its name.
    pub name: &'v str,
    /// Which points have it, by their numbers; all without.
    pub points: Option<&'v [usize]>,
    /// What each of them has.
    pub rows: Given<'v>,
}

/// What points have of one vector, in their order.
#[derive(Clone, Copy, Debug)]
pub enum Given<'v> {
    /// A row each, if it is dense.
    Rows(&'v Rows),
    /// Rows each, if it is of several rows.
    Multi(&'v [Rows]),
    /// A sparse vector each, if it is sparse.
    Sparse(&'v [SparseVector]),
}

impl<'v> Vectors<'v> {
    /// The only vector of points that have one.
    pub fn only(rows: &'v Rows) -> [Self; 1] {
        [Self { name: DEFAULT_VECTOR, points: None, rows: Given::Rows(rows) }]
    }
}

/// A collection that is only written to, fast: nothing is known of its points in memory.
pub struct Writer {
    record: Durable,
    settings: Settings,
}

impl Writer {
    /// Opens the collection in `folder`, which is made if there is none. Fields that are indexed already need not be asked for
    /// again.
    ///
    /// # Errors
    /// `settings_differ` if the collection was made for others; those of [`Settings::check`], of the record and the disk.
    pub fn open(folder: &Path, settings: &Settings) -> Result<Self> {
        settings.check()?;
        let disk = Arc::new(FileDisk);
        // One writer per folder by lock: whoever made it first is who the other finds.
        let record = match Durable::open(disk.clone(), folder) {
            Err(error) if error.code() == "not_found" => {
                Durable::create(disk, folder, new_owner(), &settings.to_json())?
            }
            opened => opened?,
        };
        let kept = Settings::from_json(&record.view()?.config()?)?;
        let is_indexed = |field| kept.indexed.contains(field);
        let is_same = kept.vectors == settings.vectors
            && kept.tenant_field == settings.tenant_field
            && settings.indexed.iter().all(is_indexed);
        if !is_same {
            let message = format!(
                "{} was made with {}, asked for was {}",
                folder.display(),
                String::from_utf8_lossy(&kept.to_json()),
                String::from_utf8_lossy(&settings.to_json())
            );
            return Err(Error::usage("settings_differ", message));
        }
        Ok(Self { record, settings: kept })
    }

    /// Stores points, whole or not at all; they are on disk when this returns. A few thousand at a time is fastest.
    ///
    /// # Errors
    /// `vector_missing`, `vector_name`, `vector_shape`, `vector_rows`, `vector_dim`, `vector_dtype`, what [`Rows::check`] says;
    /// `payload_type`, `payload_depth`, `tenant_value`, `tenants_limit`, which name the point; those of the record.
    pub fn upsert(&mut self, points: &[NewPoint], vectors: &[Vectors<'_>]) -> Result<()> {
        upsert(&self.record, &self.settings, points, vectors).map(drop)
    }
}

impl Collection {
    /// Stores points, whole or not at all. When this returns they are on disk, and found by whoever asks.
    ///
    /// # Errors
    /// Those of [`Writer::upsert`], after which nothing is stored; those of reading, after which all is.
    pub fn upsert(&self, points: &[NewPoint], vectors: &[Vectors<'_>]) -> Result<()> {
        self.write(|record| upsert(record, &self.settings(), points, vectors).map(drop))
    }

    /// Removes the points that there are of these; returns how many there were.
    ///
    /// # Errors
    /// Those of the record.
    pub fn remove(&self, ids: &[PointId]) -> Result<usize> {
        let ops: Vec<Op<'_>> = ids.iter().map(|&id| Op::Remove { id }).collect();
        self.write(|record| Ok(record.apply(&ops)?.n_removed))
    }

    /// Lets the record do `work`, and follows it.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Durable) -> Result<T>) -> Result<T> {
        let _writing = self.writing.lock().expect("no writer panics half-way");
        let done = work(&self.record)?;
        self.follow()?;
        Ok(done)
    }
}

/// A number by which files of one collection are told from those of another.
fn new_owner() -> u64 {
    // The one source of chance that the standard library has.
    RandomState::new().build_hasher().finish()
}

fn upsert(
    record: &Durable,
    settings: &Settings,
    points: &[NewPoint],
    vectors: &[Vectors<'_>],
) -> Result<Applied> {
    let ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
    let fields = fields(settings, &ids, vectors)?;
    if settings.is_only()
        && let Some(i) = fields.iter().position(Vec::is_empty)
    {
        let message = format!("point {} has no vector", ids[i]);
        return Err(Error::new(ErrorKind::BadInput, "vector_missing", message));
    }
    let of_points = points
        .iter()
        .map(|point| {
            check_payload(point.id, &point.payload)?;
            tenants(settings, point.id, &point.payload)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut names: Vec<&str> = of_points.iter().flatten().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let known = record.tenants(&names)?;
    let id_of = |name: &String| known[names.binary_search(&name.as_str()).expect("listed")];
    let granted: Vec<Vec<TenantId>> =
        of_points.iter().map(|names| names.iter().map(id_of).collect()).collect();
    let payloads: Vec<String> = points.iter().map(|point| point.payload.to_string()).collect();
    let fields: Vec<Vec<(&str, &[u8])>> = fields
        .iter()
        .map(|own| own.iter().map(|(name, bytes)| (*name, &**bytes)).collect())
        .collect();
    let ops: Vec<Op<'_>> = (0..points.len())
        .map(|i| {
            Op::Upsert(Upsert {
                id: points[i].id,
                payload: payloads[i].as_bytes(),
                vectors: &fields[i],
                tenants: &granted[i],
            })
        })
        .collect();
    record.apply(&ops)
}

/// Vectors of one point by name, as they are kept.
pub(super) type NamedVectors<'v> = Vec<(&'v str, Cow<'v, [u8]>)>;

/// For every point its vectors.
pub(super) fn fields<'v>(
    settings: &Settings,
    ids: &[PointId],
    vectors: &[Vectors<'v>],
) -> Result<Vec<NamedVectors<'v>>> {
    let mut fields = vec![Vec::new(); ids.len()];
    for vectors in vectors {
        let own = &settings.vectors[settings.vector(vectors.name)?];
        let kept = kept(own, vectors.rows)?;
        let n_points = vectors.points.map_or(ids.len(), <[usize]>::len);
        if kept.len() != n_points {
            let message =
                format!("vector {:?}: {} rows for {n_points} points", own.name, kept.len());
            return Err(Error::new(ErrorKind::BadInput, "vector_rows", message));
        }
        for (i, bytes) in kept.into_iter().enumerate() {
            let point = vectors.points.map_or(i, |points| points[i]);
            let Some(of_point) = fields.get_mut(point) else {
                let message =
                    format!("vector {:?}: a row for point {point} of {}", own.name, ids.len());
                return Err(Error::new(ErrorKind::BadInput, "vector_rows", message));
            };
            of_point.push((vectors.name, bytes));
        }
    }
    Ok(fields)
}

/// What points have, as it is kept.
fn kept<'v>(own: &VectorSettings, given: Given<'v>) -> Result<Vec<Cow<'v, [u8]>>> {
    match (own.shape, given) {
        (VectorShape::Dense, Given::Rows(rows)) => {
            check(own, rows)?;
            Ok(rows.values().bytes().chunks_exact(own.row_bytes()).map(Cow::from).collect())
        }
        (VectorShape::Multi, Given::Multi(all)) => {
            let bytes = |(i, rows): (usize, &'v Rows)| {
                let of = || format!("the {i}-th multivector");
                check(own, rows).map_err(|error| error.within(of()))?;
                if rows.n_rows() == 0 {
                    let message = format!("vector {:?}: {} has no row", own.name, of());
                    return Err(Error::new(ErrorKind::BadInput, "vector_rows", message));
                }
                Ok(rows.values().bytes().into())
            };
            all.iter().enumerate().map(bytes).collect()
        }
        (VectorShape::Sparse { .. }, Given::Sparse(all)) => {
            Ok(all.iter().map(|vector| vector.to_bytes().into()).collect())
        }
        (_, Given::Rows(_)) => Err(own.shape_error("a dense one for rows")),
        (_, Given::Multi(_)) => Err(own.shape_error("one of several rows for such")),
        (_, Given::Sparse(_)) => Err(own.shape_error("a sparse one for sparse vectors")),
    }
}

fn check(own: &VectorSettings, rows: &Rows) -> Result<()> {
    let VectorSettings { name, dim, dtype, metric, .. } = own;
    if rows.dim() != *dim {
        let message = format!("vector {name:?}: {} values, the collection has {dim}", rows.dim());
        return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
    }
    if rows.dtype() != *dtype {
        let message = format!(
            "vector {name:?}: {}, the collection has {}",
            rows.dtype().name(),
            dtype.name()
        );
        return Err(Error::new(ErrorKind::BadInput, "vector_dtype", message));
    }
    rows.check(*metric)
}

/// Fails for a payload that could not be read again.
pub(super) fn check_payload(id: PointId, payload: &Value) -> Result<()> {
    if !payload.is_object() {
        let message = format!("point {id}: {}, expected an object", kind(payload));
        return Err(Error::new(ErrorKind::BadInput, "payload_type", message));
    }
    if is_deeper(payload, PAYLOAD_DEPTH) {
        let message = format!("the payload of point {id} is nested deeper than {PAYLOAD_DEPTH}");
        return Err(Error::new(ErrorKind::Limit, "payload_depth", message));
    }
    Ok(())
}

fn is_deeper(value: &Value, n_levels: usize) -> bool {
    let is_past = |value: &Value| is_deeper(value, n_levels - 1);
    match value {
        Value::Array(array) => n_levels == 0 || array.iter().any(is_past),
        Value::Object(map) => n_levels == 0 || map.values().any(is_past),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The names of the tenants that a point's payload lets read it, ascending.
pub(super) fn tenants(settings: &Settings, id: PointId, payload: &Value) -> Result<Vec<String>> {
    match &settings.tenant_field {
        None => Ok(Vec::new()),
        Some(field) => {
            tenants_at(field, payload).map_err(|error| error.within(format_args!("point {id}")))
        }
    }
}

/// The names of the tenants in this field of a payload, ascending.
///
/// # Errors
/// `tenant_value`, `tenant_name`, `tenants_limit`.
pub fn tenants_at(field: &path::Path, payload: &Value) -> Result<Vec<String>> {
    let mut names = elements(&field.values(payload))
        .into_iter()
        .filter(|value| !value.is_null())
        .map(|value| name(value, field))
        .collect::<Result<Vec<String>>>()?;
    names.sort_unstable();
    names.dedup();
    if names.len() > TENANTS_PER_POINT {
        let message = format!("{} tenants, limit {TENANTS_PER_POINT}", names.len());
        return Err(Error::new(ErrorKind::Limit, "tenants_limit", message));
    }
    Ok(names)
}

/// A string, or a whole number as it is written.
fn name(value: &Value, field: &path::Path) -> Result<String> {
    match value {
        Value::String(name) if (1..=NAME_BYTES).contains(&name.len()) => Ok(name.clone()),
        Value::String(name) => {
            let what = format!("a tenant of {} bytes, expected 1 to {NAME_BYTES}", name.len());
            Err(Error::new(ErrorKind::BadInput, "tenant_name", what))
        }
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        other => {
            let found = if other.is_number() { other.to_string() } else { kind(other).to_owned() };
            let message = format!("{found} at {field}, expected a string or a whole number");
            Err(Error::new(ErrorKind::BadInput, "tenant_value", message))
        }
    }
}

/// What a value is, as a person says it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
