//! What a collection was made for: kept in its record as JSON, and never changed.

use serde_json::{Value, json};

use crate::core::limits::{DIM, INDEXED_FIELDS};
use crate::core::metric::Metric;
use crate::core::rows::Dtype;
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::Kind;
use crate::store::columns::path::Path;

/// Version of the JSON below.
const FORMAT: u64 = 1;

/// What a collection holds, and how its rows are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Elements of a row.
    pub dim: usize,
    /// How rows are compared.
    pub metric: Metric,
    /// Element type of rows.
    pub dtype: Dtype,
    /// The payload field whose strings or whole numbers name the tenants that may read a point.
    pub tenant_field: Option<Path>,
    /// Payload fields that have columns.
    pub indexed: Vec<(Path, Kind)>,
}

impl Settings {
    /// Fails if no collection can be so.
    ///
    /// # Errors
    /// `vector_dim`, `fields`.
    pub fn check(&self) -> Result<()> {
        if !(1..=DIM).contains(&self.dim) {
            let message = format!("{} values, expected 1 to {DIM}", self.dim);
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        if self.indexed.len() > INDEXED_FIELDS {
            let message = format!("{} indexed fields, limit {INDEXED_FIELDS}", self.indexed.len());
            return Err(Error::new(ErrorKind::Limit, "fields", message));
        }
        Ok(())
    }

    /// The settings as they are kept.
    pub fn to_json(&self) -> Vec<u8> {
        let indexed: Vec<Value> = self
            .indexed
            .iter()
            .map(|(path, kind)| json!([path.to_string(), kind.to_string()]))
            .collect();
        let tenant_field = self.tenant_field.as_ref().map(Path::to_string);
        let all = json!({
            "format": FORMAT, "dim": self.dim, "metric": self.metric.name(), "dtype": self.dtype.name(),
            "tenant_field": tenant_field, "indexed": indexed,
        });
        all.to_string().into_bytes()
    }

    /// The settings that were kept.
    ///
    /// # Errors
    /// `settings`, of kind `Corrupt`, names what cannot be read; `format_newer`.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let broken = |what: &str| Error::new(ErrorKind::Corrupt, "settings", what.to_owned());
        let all: Value =
            serde_json::from_slice(bytes).map_err(|error| broken(&error.to_string()))?;
        match all["format"].as_u64() {
            Some(FORMAT) => {}
            Some(newer) if newer > FORMAT => {
                let message = format!("settings of format {newer}, this version reads {FORMAT}");
                return Err(Error::new(ErrorKind::Corrupt, "format_newer", message));
            }
            _ => return Err(broken("no format")),
        }
        let text = |of: &Value, name: &str| {
            of.as_str().map(str::to_owned).ok_or_else(|| broken(&format!("no {name}")))
        };
        let dtype = text(&all["dtype"], "dtype")?;
        let indexed = all["indexed"].as_array().ok_or_else(|| broken("no indexed"))?;
        let settings = Self {
            dim: all["dim"].as_u64().ok_or_else(|| broken("no dim"))? as usize,
            metric: text(&all["metric"], "metric")?.parse()?,
            dtype: Dtype::ALL
                .into_iter()
                .find(|one| one.name() == dtype)
                .ok_or_else(|| broken("an unknown dtype"))?,
            tenant_field: match &all["tenant_field"] {
                Value::Null => None,
                field => Some(text(field, "tenant_field")?.parse()?),
            },
            indexed: indexed
                .iter()
                .map(|pair| {
                    Ok((text(&pair[0], "path")?.parse()?, text(&pair[1], "kind")?.parse()?))
                })
                .collect::<Result<_>>()?,
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
        let settings = Settings {
            dim: 384,
            metric: Metric::Cosine,
            dtype: Dtype::F16,
            tenant_field: Some("meta.owner".parse().unwrap()),
            indexed: vec![("tags[]".parse().unwrap(), Kind::Keyword)],
        };
        let kept = settings.to_json();
        assert_eq!(Settings::from_json(&kept).unwrap(), settings);
        let text = String::from_utf8(kept).unwrap();
        for (from, to, code) in [
            ("\"format\":1", "\"format\":2", "format_newer"),
            ("\"dim\":384", "\"dim\":0", "vector_dim"),
            ("f16", "f12", "settings"),
            ("\"indexed\"", "\"index\"", "settings"),
            ("{", "", "settings"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = Settings::from_json(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(error.code(), code, "{from} -> {to}: {error}");
        }
    }
}
