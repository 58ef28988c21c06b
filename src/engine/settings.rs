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
const FORMAT: u64 = 2;

/// The name of the one vector of points that have one.
pub const DEFAULT_VECTOR: &str = "default";

/// One vector of every point that has it.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSettings {
    /// Its name.
    pub name: String,
    /// Elements.
    pub dim: usize,
    /// How it is compared.
    pub metric: Metric,
    /// Element type in which it is kept.
    pub dtype: Dtype,
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
        let vector = VectorSettings { name: DEFAULT_VECTOR.to_owned(), dim, metric, dtype };
        Self { vectors: vec![vector], tenant_field: None, indexed: Vec::new(), note: Value::Null }
    }

    /// Whether points have one vector, [`DEFAULT_VECTOR`], which none of them lacks.
    pub fn is_only(&self) -> bool {
        matches!(&self.vectors[..], [vector] if vector.name == DEFAULT_VECTOR)
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
            if !(1..=DIM).contains(&dim) {
                let message = format!("vector {name:?}: {dim} values, expected 1 to {DIM}");
                return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
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
                "dtype": vector.dtype.name(),
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
            Some(FORMAT) => {}
            Some(other) => {
                let code = if other > FORMAT { "format_newer" } else { "format_older" };
                let message = format!("settings of format {other}, this version reads {FORMAT}");
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
            Ok(VectorSettings {
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
        let kept = settings.to_json();
        assert_eq!(Settings::from_json(&kept).unwrap(), settings);
        let text = String::from_utf8(kept).unwrap();
        for (from, to, code) in [
            ("\"format\":2", "\"format\":3", "format_newer"),
            ("\"format\":2", "\"format\":1", "format_older"),
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
        settings.vectors.clear();
        assert_eq!(settings.check().unwrap_err().code(), "vector_names");
    }
}
