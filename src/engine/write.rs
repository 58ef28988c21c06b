//! From a point to the record: what cannot be kept is refused before anything is written.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::core::ids::{PointId, TenantId};
use crate::core::limits::TENANTS_PER_POINT;
use crate::core::rows::Rows;
use crate::engine::VECTOR;
use crate::engine::settings::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::path::{self, elements};
use crate::store::disk::FileDisk;
use crate::store::durable::{Durable, Op, Upsert};

/// A point to be stored.
#[derive(Clone, Debug)]
pub struct NewPoint {
    /// The caller's id; a point of the same id is replaced.
    pub id: PointId,
    /// The payload, a JSON object.
    pub payload: Value,
}

/// An open collection that points are written to.
pub struct Writer {
    record: Durable,
    settings: Settings,
}

impl Writer {
    /// Opens the collection in `folder`, which is made if there is none.
    ///
    /// # Errors
    /// `settings_differ` if the collection was made for others; those of [`Settings::check`], of the record and the disk.
    pub fn open(folder: &Path, settings: &Settings) -> Result<Self> {
        settings.check()?;
        let disk = Arc::new(FileDisk);
        // One writer per folder by lock: whoever made it first is who the other finds.
        let record = match Durable::open(disk.clone(), folder) {
            Err(error) if error.code() == "not_found" => {
                Durable::create(disk, folder, 0, &settings.to_json())?
            }
            opened => opened?,
        };
        let kept = Settings::from_json(&record.view()?.config()?)?;
        if kept != *settings {
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

    /// Stores points whose vectors are `rows`, one each, whole or not at all; they are on disk when this returns. A few
    /// thousand at a time is fastest.
    ///
    /// # Errors
    /// `vector_dim`, `vector_dtype`, what [`Rows::check`] says; `payload_type`, `tenant_value`, `tenants_limit`, which
    /// name the point; those of the record.
    pub fn upsert(&mut self, points: &[NewPoint], rows: &Rows) -> Result<()> {
        self.check(points, rows)?;
        let mut names = Vec::new();
        let of_points =
            points.iter().map(|point| self.tenants(point)).collect::<Result<Vec<_>>>()?;
        of_points.iter().flatten().for_each(|name| names.push(name.as_str()));
        names.sort_unstable();
        names.dedup();
        let tenants = self.record.tenants(&names)?;
        let id_of = |name: &String| tenants[names.binary_search(&name.as_str()).expect("listed")];
        let granted: Vec<Vec<TenantId>> =
            of_points.iter().map(|names| names.iter().map(id_of).collect()).collect();
        let payloads: Vec<String> = points.iter().map(|point| point.payload.to_string()).collect();
        let row_bytes = self.settings.dim * self.settings.dtype.bytes();
        let vectors: Vec<[(&str, &[u8]); 1]> =
            rows.values().bytes().chunks_exact(row_bytes).map(|row| [(VECTOR, row)]).collect();
        let ops: Vec<Op<'_>> = (0..points.len())
            .map(|i| {
                Op::Upsert(Upsert {
                    id: points[i].id,
                    payload: payloads[i].as_bytes(),
                    vectors: &vectors[i],
                    tenants: &granted[i],
                })
            })
            .collect();
        self.record.apply(&ops).map(drop)
    }

    fn check(&self, points: &[NewPoint], rows: &Rows) -> Result<()> {
        assert_eq!(points.len(), rows.n_rows(), "a row for every point");
        let Settings { dim, dtype, metric, .. } = self.settings;
        if rows.dim() != dim {
            let message = format!("{} values, the collection has {dim}", rows.dim());
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        if rows.dtype() != dtype {
            let message = format!("{}, the collection has {}", rows.dtype().name(), dtype.name());
            return Err(Error::new(ErrorKind::BadInput, "vector_dtype", message));
        }
        rows.check(metric)
    }

    /// The names of the tenants that may read a point.
    fn tenants(&self, point: &NewPoint) -> Result<Vec<String>> {
        if !point.payload.is_object() {
            let message =
                format!("point {}: {}, expected an object", point.id, kind(&point.payload));
            return Err(Error::new(ErrorKind::BadInput, "payload_type", message));
        }
        let Some(field) = &self.settings.tenant_field else { return Ok(Vec::new()) };
        let mut names = elements(&field.values(&point.payload))
            .into_iter()
            .filter(|value| !value.is_null())
            .map(|value| name(value, point.id, field))
            .collect::<Result<Vec<String>>>()?;
        names.sort_unstable();
        names.dedup();
        if names.len() > TENANTS_PER_POINT {
            let message =
                format!("point {}: {} tenants, limit {TENANTS_PER_POINT}", point.id, names.len());
            return Err(Error::new(ErrorKind::Limit, "tenants_limit", message));
        }
        Ok(names)
    }
}

/// A string, or a whole number as it is written.
fn name(value: &Value, id: PointId, field: &path::Path) -> Result<String> {
    match value {
        Value::String(name) => Ok(name.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        other => {
            let found = kind(other);
            let message =
                format!("point {id}: {found} at {field}, expected a string or a whole number");
            Err(Error::new(ErrorKind::BadInput, "tenant_value", message))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
