//! What a collection was made for: kept in its record as JSON. Nothing of it changes but which fields
//! are indexed, the field that names tenants, and the note.

use serde_json::{Value, json};

use crate::core::limits::{DIM, INDEXED_FIELDS, NAME_BYTES, VECTOR_NAMES};
use crate::core::metric::Metric;
use crate::core::rows::Dtype;
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::Kind;
use crate::store::columns::path::Path;

/// Version of the JSON below.
const FORMAT: u64 = 3;

/// The oldest version that is read: in it all vectors are dense.
const OLDEST: u64 = 2;

/// The name of the one vector of points that have one.
pub const DEFAULT_VECTOR: &str = "default";

/// One vector of every point that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSettings {
    /// Its name.
    pub name: String,
    /// Elements of a row; 0 where it is sparse.
    pub dim: usize,
    /// How it is compared; sparse ones by [`Metric::Dot`].
    pub metric: Metric,
    /// Element type in which it is kept; sparse ones as [`Dtype::F32`].
    pub dtype: Dtype,
    /// What a point has of it.
    pub shape: VectorShape,
}

/// What a point has of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorShape {
    /// A row.
    Dense,
    /// One row or more. The similarity to other rows is the sum, over those, of the greatest similarity to one of its own.
    Multi,
    /// Values at some indices.
    Sparse {
        /// Whether values of queries are weighted by how few points have their index: with `n` points, `d` of which have it,
        /// by `ln((n - d + 0.5) / (d + 0.5) + 1)`. Counted are the points that whoever asks may read.
        idf: bool,
    },
}

impl VectorShape {
    /// The name, as it is kept and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Multi => "multi",
            Self::Sparse { .. } => "sparse",
        }
    }
}

impl VectorSettings {
    /// A sparse vector.
    pub fn sparse(name: &str, idf: bool) -> Self {
        Self {
            name: name.to_owned(),
            dim: 0,
            metric: Metric::Dot,
            dtype: Dtype::F32,
            shape: VectorShape::Sparse { idf },
        }
    }

    /// Whether a point has one row of it.
    pub fn is_dense(&self) -> bool {
        self.shape == VectorShape::Dense
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        self.dim * self.dtype.bytes()
    }

    /// The error for what only a vector of another shape can be asked.
    pub(super) fn shape_error(&self, expected: &str) -> Error {
        let message =
            format!("vector {:?} is {}, expected {expected}", self.name, self.shape.name());
        Error::new(ErrorKind::BadInput, "vector_shape", message)
    }
}

/// What a collection holds, and how its rows are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The vectors of a point, each name once.
    pub vectors: Vec<VectorSettings>,
    /// The payload field whose strings or whole numbers name the tenants that may read a point.
    pub tenant_field: Option<Path>,
    /// Payload fields that have columns.
    pub indexed: Vec<(Path, Kind)>,
    /// What whoever serves the collection keeps with it, null without: nothing here depends on it.
    pub note: Value,
}

impl Settings {
    /// A collection of points with one vector, [`DEFAULT_VECTOR`], without tenants and indexed fields.
    pub fn of_vector(dim: usize, metric: Metric, dtype: Dtype) -> Self {
        let (name, shape) = (DEFAULT_VECTOR.to_owned(), VectorShape::Dense);
        let vector = VectorSettings { name, dim, metric, dtype, shape };
        Self { vectors: vec![vector], tenant_field: None, indexed: Vec::new(), note: Value::Null }
    }

    /// Whether points have one vector, [`DEFAULT_VECTOR`], which none of them lacks.
    pub fn is_only(&self) -> bool {
        let is_sparse = |own: &VectorSettings| matches!(own.shape, VectorShape::Sparse { .. });
        matches!(&self.vectors[..], [own] if own.name == DEFAULT_VECTOR && !is_sparse(own))
    }

    /// The number of a vector.
    ///
    /// # Errors
    /// `vector_name` lists the names.
    pub fn vector(&self, name: &str) -> Result<usize> {
        self.vectors.iter().position(|vector| vector.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.vectors.iter().map(|vector| vector.name.as_str()).collect();
            let message = format!("{name:?}, expected one of {names:?}");
            Error::new(ErrorKind::BadInput, "vector_name", message)
        })
    }

    /// Fails if no collection can be so.
    ///
    /// # Errors
    /// `vector_names`, `vector_dim`, `fields`.
    pub fn check(&self) -> Result<()> {
        let n_vectors = self.vectors.len();
        if !(1..=VECTOR_NAMES).contains(&n_vectors) {
            let message = format!("{n_vectors} vectors, expected 1 to {VECTOR_NAMES}");
            return Err(Error::new(ErrorKind::BadInput, "vector_names", message));
        }
        for (i, vector) in self.vectors.iter().enumerate() {
            let (name, dim) = (&vector.name, vector.dim);
            let is_new = self.vectors[..i].iter().all(|other| other.name != *name);
            if !(1..=NAME_BYTES).contains(&name.len()) || !is_new {
                let message = format!(
                    "vector {name:?}, expected names of 1 to {NAME_BYTES} bytes, each once"
                );
                return Err(Error::new(ErrorKind::BadInput, "vector_names", message));
            }
            let dims = match vector.shape {
                VectorShape::Dense | VectorShape::Multi => 1..=DIM,
                VectorShape::Sparse { .. } => 0..=0,
            };
            if !dims.contains(&dim) {
                let (least, most) = (dims.start(), dims.end());
                let message = format!("vector {name:?}: {dim} values, expected {least} to {most}");
                return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
            }
            let is_sparse = matches!(vector.shape, VectorShape::Sparse { .. });
            if is_sparse && (vector.metric, vector.dtype) != (Metric::Dot, Dtype::F32) {
                let message = format!("sparse vector {name:?}, expected metric dot and type f32");
                return Err(Error::new(ErrorKind::BadInput, "vector_shape", message));
            }
        }
        if self.indexed.len() > INDEXED_FIELDS {
            let message = format!("{} indexed fields, limit {INDEXED_FIELDS}", self.indexed.len());
            return Err(Error::new(ErrorKind::Limit, "fields", message));
        }
        Ok(())
    }

    /// The settings as they are kept.
    pub fn to_json(&self) -> Vec<u8> {
        let vector = |vector: &VectorSettings| {
            json!({
                "name": vector.name, "dim": vector.dim, "metric": vector.metric.name(),
                "dtype": vector.dtype.name(), "shape": vector.shape.name(),
                "idf": vector.shape == VectorShape::Sparse { idf: true },
            })
        };
        let vectors: Vec<Value> = self.vectors.iter().map(vector).collect();
        let indexed: Vec<Value> = self
            .indexed
            .iter()
            .map(|(path, kind)| json!([path.to_string(), kind.to_string()]))
            .collect();
        let tenant_field = self.tenant_field.as_ref().map(Path::to_string);
        let all = json!({
            "format": FORMAT, "vectors": vectors, "tenant_field": tenant_field, "indexed": indexed,
            "note": self.note,
        });
        all.to_string().into_bytes()
    }

    /// The settings that were kept.
    ///
    /// # Errors
    /// `settings`, of kind `Corrupt`, names what cannot be read; `format_newer`, `format_older`.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let broken = |what: &str| Error::new(ErrorKind::Corrupt, "settings", what.to_owned());
        let all: Value =
            serde_json::from_slice(bytes).map_err(|error| broken(&error.to_string()))?;
        match all["format"].as_u64() {
            Some(OLDEST..=FORMAT) => {}
            Some(other) => {
                let code = if other > FORMAT { "format_newer" } else { "format_older" };
                let message =
                    format!("settings of format {other}, this version reads {OLDEST} to {FORMAT}");
                return Err(Error::new(ErrorKind::Corrupt, code, message));
            }
            None => return Err(broken("no format")),
        }
        let text = |of: &Value, name: &str| {
            of.as_str().map(str::to_owned).ok_or_else(|| broken(&format!("no {name}")))
        };
        let vector = |vector: &Value| {
            let dtype = text(&vector["dtype"], "dtype")?;
            let known = Dtype::ALL.into_iter().find(|one| one.name() == dtype);
            let shape = match vector["shape"].as_str() {
                Some("dense") => VectorShape::Dense,
                None if all["format"] == OLDEST => VectorShape::Dense,
                Some("multi") => VectorShape::Multi,
                Some("sparse") => VectorShape::Sparse { idf: vector["idf"] == true },
                _ => return Err(broken("an unknown shape")),
            };
            Ok(VectorSettings {
                shape,
                name: text(&vector["name"], "name")?,
                dim: vector["dim"].as_u64().ok_or_else(|| broken("no dim"))? as usize,
                metric: text(&vector["metric"], "metric")?.parse()?,
                dtype: known.ok_or_else(|| broken("an unknown dtype"))?,
            })
        };
        let list = |name: &str| all[name].as_array().ok_or_else(|| broken(&format!("no {name}")));
        let indexed =
            |pair: &Value| Ok((text(&pair[0], "path")?.parse()?, text(&pair[1], "kind")?.parse()?));
        let settings = Self {
            vectors: list("vectors")?.iter().map(vector).collect::<Result<_>>()?,
            tenant_field: match &all["tenant_field"] {
                Value::Null => None,
                field => Some(text(field, "tenant_field")?.parse()?),
            },
            indexed: list("indexed")?.iter().map(indexed).collect::<Result<_>>()?,
            note: all["note"].clone(),
        };
        settings.check()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_back_and_damage_is_named() {
        let mut settings = Settings {
            tenant_field: Some("meta.owner".parse().unwrap()),
            indexed: vec![("tags[]".parse().unwrap(), Kind::Keyword)],
            note: json!({"made_by": "a test"}),
            ..Settings::of_vector(384, Metric::Cosine, Dtype::F16)
        };
        settings
            .vectors
            .push(VectorSettings { name: "title".into(), ..settings.vectors[0].clone() });
        settings.vectors.push(VectorSettings {
            name: "words".into(),
            shape: VectorShape::Multi,
            ..settings.vectors[0].clone()
        });
        settings.vectors.push(VectorSettings::sparse("terms", true));
        let kept = settings.to_json();
        assert_eq!(Settings::from_json(&kept).unwrap(), settings);
        let text = String::from_utf8(kept).unwrap();
        for (from, to, code) in [
            ("\"format\":3", "\"format\":4", "format_newer"),
            ("\"format\":3", "\"format\":1", "format_older"),
            ("multi", "many", "settings"),
            ("\"dim\":0", "\"dim\":3", "vector_dim"),
            ("\"dim\":384", "\"dim\":0", "vector_dim"),
            ("\"name\":\"title\"", "\"name\":\"default\"", "vector_names"),
            ("f16", "f12", "settings"),
            ("\"indexed\"", "\"index\"", "settings"),
            ("{", "", "settings"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = Settings::from_json(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(error.code(), code, "{from} -> {to}: {error}");
        }
        assert_eq!(settings.vector("title").unwrap(), 1);
        assert_eq!(settings.vector("other").unwrap_err().code(), "vector_name");
        settings.vectors[3].metric = Metric::L2;
        assert_eq!(settings.check().unwrap_err().code(), "vector_shape");
        settings.vectors.clear();
        assert_eq!(settings.check().unwrap_err().code(), "vector_names");
    }

    #[test]
    fn vectors_of_an_older_format_are_dense() {
        let settings = Settings::of_vector(4, Metric::L2, Dtype::F32);
        let text = String::from_utf8(settings.to_json()).unwrap();
        let older = text.replace("\"format\":3", "\"format\":2");
        let older = older.replace(",\"shape\":\"dense\"", "").replace(",\"idf\":false", "");
        assert!(!older.contains("dense") && !older.contains("idf"), "{older}");
        assert_eq!(Settings::from_json(older.as_bytes()).unwrap(), settings);
        let error = Settings::from_json(older.replace(":2", ":3").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "settings: an unknown shape");
    }
}
