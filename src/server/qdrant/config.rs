//! What a collection is made with: what changes answers becomes settings of the engine; what only tunes another engine is kept,
//! and shown again to clients that look for it.

use serde_json::{Map, Value, json};

use crate::core::metric::Metric;
use crate::core::rows::Dtype;
use crate::engine::{DEFAULT_VECTOR, Settings, VectorSettings, VectorShape};
use crate::server::qdrant::json::check_keys;
use crate::server::qdrant::vector::name as own_name;
use crate::server::reply::Refusal;

/// Keys of a new collection.
const NEW: &[&str] = &[
    "vectors",
    "shard_number",
    "sharding_method",
    "replication_factor",
    "write_consistency_factor",
    "on_disk_payload",
    "hnsw_config",
    "wal_config",
    "optimizers_config",
    "quantization_config",
    "sparse_vectors",
    "strict_mode_config",
    "metadata",
];

/// Keys of a changed one.
const CHANGED: &[&str] = &[
    "vectors",
    "optimizers_config",
    "params",
    "hnsw_config",
    "quantization_config",
    "sparse_vectors",
    "strict_mode_config",
    "metadata",
];

/// Keys of one vector.
const VECTOR: &[&str] = &[
    "size",
    "distance",
    "hnsw_config",
    "quantization_config",
    "on_disk",
    "datatype",
    "multivector_config",
];

/// Keys of a sparse vector.
const SPARSE: &[&str] = &["index", "modifier"];

/// Keys of the index of a sparse vector, which change no answer here.
const SPARSE_INDEX: &[&str] = &["full_scan_threshold", "on_disk", "datatype"];

/// Keys of how rows of a vector of several are compared.
const MULTI: &[&str] = &["comparator"];

/// Keys of a changed vector.
const CHANGED_VECTOR: &[&str] = &["hnsw_config", "quantization_config", "on_disk"];

/// Keys of what else may change.
const PARAMS: &[&str] = &[
    "replication_factor",
    "write_consistency_factor",
    "read_fan_out_factor",
    "read_fan_out_delay_ms",
    "on_disk_payload",
];

/// Names of distances in that API.
const DISTANCES: [(&str, Metric); 4] = [
    ("Cosine", Metric::Cosine),
    ("Dot", Metric::Dot),
    ("Euclid", Metric::L2),
    ("Manhattan", Metric::L1),
];

/// Names of what is done to values of sparse queries in that API, and whether it weights them.
const MODIFIERS: [(&str, bool); 2] = [("none", false), ("idf", true)];

/// Names of element types in that API. It has none for signed bytes.
const DATATYPES: [(&str, Dtype); 3] =
    [("float32", Dtype::F32), ("float16", Dtype::F16), ("uint8", Dtype::U8)];

/// What a collection keeps beside the engine's settings: how it was made, and the parameters of its payload indexes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Note {
    /// The body that made it, as it was changed since.
    pub config: Map<String, Value>,
    /// By field, as it was given.
    pub schema: Map<String, Value>,
}

impl Note {
    /// That of a collection; empty for one that was not made over HTTP.
    pub fn of(settings: &Settings) -> Self {
        let part = |name: &str| settings.note[name].as_object().cloned().unwrap_or_default();
        Self { config: part("config"), schema: part("schema") }
    }

    /// As it is kept.
    pub fn value(self) -> Value {
        json!({"config": self.config, "schema": self.schema})
    }
}

/// The settings of a new collection.
///
/// # Errors
/// `field_unknown`, `config_invalid`, `not_offered`; those of [`Settings::check`].
pub fn new(body: Map<String, Value>) -> Result<Settings, Refusal> {
    check_keys(&body, "body", NEW)?;
    check_common(&body)?;
    for key in ["shard_number", "replication_factor", "write_consistency_factor"] {
        check_one(&body, key)?;
    }
    if body.get("sharding_method").is_some_and(|method| !matches!(method.as_str(), Some("auto"))) {
        return Err(Refusal::not_offered("sharding_method, expected auto"));
    }
    let mut vectors = vectors(&body)?;
    vectors.extend(sparse_vectors(&body)?);
    let note = Note { config: body, schema: Map::new() }.value();
    let settings = Settings { vectors, tenant_field: None, indexed: Vec::new(), note };
    settings.check()?;
    Ok(settings)
}

/// The vectors of rows of a new collection; there may be none beside sparse ones.
fn vectors(body: &Map<String, Value>) -> Result<Vec<VectorSettings>, Refusal> {
    let given = match body.get("vectors").filter(|given| !given.is_null()) {
        Some(Value::Object(given)) => given,
        None if body.get("sparse_vectors").is_some_and(|sparse| !is_empty(sparse)) => {
            return Ok(Vec::new());
        }
        given => return Err(invalid("vectors", given, "an object with size and distance")),
    };
    if given.get("size").is_some_and(|size| !size.is_object()) {
        return Ok(vec![vector(DEFAULT_VECTOR, "vectors", given)?]);
    }
    let named = given.iter().map(|(name, own)| {
        let place = format!("vectors.{name}");
        let Value::Object(own) = own else {
            return Err(invalid(&place, Some(own), "an object with size and distance"));
        };
        vector(own_name(name), &place, own)
    });
    named.collect()
}

/// The sparse vectors of a new collection.
fn sparse_vectors(body: &Map<String, Value>) -> Result<Vec<VectorSettings>, Refusal> {
    let given = match body.get("sparse_vectors") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(given)) => given,
        given => return Err(invalid("sparse_vectors", given, "an object of vectors by name")),
    };
    let sparse = |(name, own): (&String, &Value)| {
        let idf = sparse_idf(&format!("sparse_vectors.{name}"), own)?;
        Ok(VectorSettings::sparse(name, idf.unwrap_or(false)))
    };
    given.iter().map(sparse).collect()
}

/// Whether values of queries are weighted, if it is said.
fn sparse_idf(place: &str, own: &Value) -> Result<Option<bool>, Refusal> {
    let own = match own {
        Value::Null => return Ok(None),
        Value::Object(own) => own,
        own => return Err(invalid(place, Some(own), "an object with modifier and index")),
    };
    check_keys(own, place, SPARSE)?;
    match own.get("index") {
        None | Some(Value::Null) => {}
        Some(Value::Object(index)) => check_keys(index, &format!("{place}.index"), SPARSE_INDEX)?,
        index => return Err(invalid(&format!("{place}.index"), index, "an object")),
    }
    let place = format!("{place}.modifier");
    match own.get("modifier").filter(|modifier| !modifier.is_null()) {
        None => Ok(None),
        modifier => Ok(Some(one_of(&MODIFIERS, modifier, &place)?)),
    }
}

/// A collection's config with these changes; nothing of it changes an answer.
///
/// # Errors
/// `field_unknown`, `config_invalid`, `not_offered`, `vector_name`.
pub fn changed(
    settings: &Settings,
    mut config: Map<String, Value>,
    body: Map<String, Value>,
) -> Result<Map<String, Value>, Refusal> {
    check_keys(&body, "body", CHANGED)?;
    check_common(&body)?;
    for (key, given) in body {
        match (key.as_str(), given) {
            (_, Value::Null) => {}
            ("vectors", given) => change_vectors(settings, &mut config, &given)?,
            ("sparse_vectors", given) => change_sparse(settings, &mut config, &given)?,
            ("params", Value::Object(given)) => {
                check_keys(&given, "params", PARAMS)?;
                for key in ["replication_factor", "write_consistency_factor"] {
                    check_one(&given, key)?;
                }
                config.extend(given);
            }
            ("params", given) => return Err(invalid("params", Some(&given), "an object")),
            ("quantization_config", given) => {
                config.insert(key, given);
            }
            (_, Value::Object(given)) => merge(&mut config, &key, given),
            (_, given) => return Err(invalid(&key, Some(&given), "an object")),
        }
    }
    Ok(config)
}

fn change_vectors(
    settings: &Settings,
    config: &mut Map<String, Value>,
    given: &Value,
) -> Result<(), Refusal> {
    let Value::Object(given) = given else {
        return Err(invalid("vectors", Some(given), "an object of vectors by name"));
    };
    let mut shown = shown_vectors(settings, config);
    for (name, diff) in given {
        let place = format!("vectors.{name}");
        let Value::Object(diff) = diff else {
            return Err(invalid(&place, Some(diff), "an object"));
        };
        check_keys(diff, &place, CHANGED_VECTOR)?;
        let is_only = name.is_empty() && shown.get("size").is_some_and(Value::is_u64);
        let own = if is_only { Some(&mut shown) } else { shown.get_mut(name) };
        let Some(Value::Object(own)) = own else {
            settings.vector(own_name(name))?;
            return Err(invalid(&place, None, "the name of a vector"));
        };
        own.extend(diff.clone());
    }
    config.insert("vectors".to_owned(), shown);
    Ok(())
}

fn change_sparse(
    settings: &Settings,
    config: &mut Map<String, Value>,
    given: &Value,
) -> Result<(), Refusal> {
    let Value::Object(given) = given else {
        return Err(invalid("sparse_vectors", Some(given), "an object of vectors by name"));
    };
    let mut shown = shown_sparse(settings, config);
    for (name, diff) in given {
        let place = format!("sparse_vectors.{name}");
        let idf = sparse_idf(&place, diff)?;
        let (Some(Value::Object(own)), Value::Object(diff)) = (shown.get_mut(name), diff) else {
            settings.vector(name)?;
            return Err(invalid(&place, Some(diff), "an object for a sparse vector"));
        };
        let shape = settings.vectors[settings.vector(name)?].shape;
        if idf.is_some_and(|idf| shape != (VectorShape::Sparse { idf })) {
            return Err(Refusal::not_offered(&format!("{place}.modifier, which does not change")));
        }
        own.extend(diff.clone());
    }
    config.insert("sparse_vectors".to_owned(), Value::Object(shown));
    Ok(())
}

fn merge(config: &mut Map<String, Value>, key: &str, given: Map<String, Value>) {
    match config.get_mut(key) {
        Some(Value::Object(own)) => own.extend(given),
        _ => drop(config.insert(key.to_owned(), Value::Object(given))),
    }
}

/// Fails for what may stand in a new collection and in a changed one alike, and changes answers.
fn check_common(body: &Map<String, Value>) -> Result<(), Refusal> {
    let strict = &body.get("strict_mode_config").unwrap_or(&Value::Null)["enabled"];
    if strict.as_bool() == Some(true) {
        return Err(Refusal::not_offered("strict_mode_config.enabled"));
    }
    for key in ["hnsw_config", "wal_config", "optimizers_config", "metadata"] {
        match body.get(key) {
            None | Some(Value::Null | Value::Object(_)) => {}
            given => return Err(invalid(key, given, "an object")),
        }
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// Fails for a number of copies or parts other than one.
fn check_one(body: &Map<String, Value>, key: &str) -> Result<(), Refusal> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(()),
        Some(given) if given.as_u64() == Some(1) => Ok(()),
        Some(given) => Err(Refusal::not_offered(&format!("{key}: {given}, expected 1"))),
    }
}

fn vector(name: &str, place: &str, own: &Map<String, Value>) -> Result<VectorSettings, Refusal> {
    check_keys(own, place, VECTOR)?;
    let shape = match own.get("multivector_config") {
        None | Some(Value::Null) => VectorShape::Dense,
        Some(Value::Object(config)) => {
            let place = format!("{place}.multivector_config");
            check_keys(config, &place, MULTI)?;
            let comparator = config.get("comparator");
            one_of(&[("max_sim", VectorShape::Multi)], comparator, &format!("{place}.comparator"))?
        }
        config => return Err(invalid(&format!("{place}.multivector_config"), config, "an object")),
    };
    let size = own.get("size");
    let dim = size.and_then(Value::as_u64).and_then(|dim| usize::try_from(dim).ok());
    let dim = dim.ok_or_else(|| invalid(&format!("{place}.size"), size, "a whole number"))?;
    let metric = one_of(&DISTANCES, own.get("distance"), &format!("{place}.distance"))?;
    let dtype = match own.get("datatype") {
        None | Some(Value::Null) => Dtype::F32,
        given => one_of(&DATATYPES, given, &format!("{place}.datatype"))?,
    };
    Ok(VectorSettings { name: name.to_owned(), dim, metric, dtype, shape })
}

fn one_of<T: Copy>(known: &[(&str, T)], given: Option<&Value>, place: &str) -> Result<T, Refusal> {
    let found = known.iter().find(|(name, _)| given.and_then(Value::as_str) == Some(name));
    found.map(|(_, one)| *one).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        invalid(place, given, &format!("one of {}", names.join(", ")))
    })
}

fn invalid(place: &str, given: Option<&Value>, expected: &str) -> Refusal {
    let given = given.map_or("nothing".to_owned(), Value::to_string);
    Refusal::bad(format!("config_invalid: {place}: {given}, expected {expected}"))
}

/// The config of a collection as that API shows it.
pub fn shown(settings: &Settings) -> Value {
    let Note { config, .. } = Note::of(settings);
    let given = |key: &str| config.get(key).cloned().unwrap_or(Value::Null);
    let over = |defaults: Value, key: &str| {
        let mut all = defaults;
        if let (Value::Object(all), Value::Object(given)) = (&mut all, given(key)) {
            all.extend(given.into_iter().filter(|(_, value)| !value.is_null()));
        }
        all
    };
    let on_disk = config.get("on_disk_payload").and_then(Value::as_bool).unwrap_or(true);
    let mut shown = json!({
        "params": {
            "vectors": shown_vectors(settings, &config),
            "shard_number": 1,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": on_disk,
        },
        "hnsw_config": over(json!({
            "m": 16, "ef_construct": 100, "full_scan_threshold": 10_000, "max_indexing_threads": 0,
            "on_disk": false,
        }), "hnsw_config"),
        "optimizer_config": over(json!({
            "deleted_threshold": 0.2, "vacuum_min_vector_number": 1000,
            "default_segment_number": 0, "max_segment_size": null, "memmap_threshold": null,
            "indexing_threshold": 10_000, "flush_interval_sec": 5, "max_optimization_threads": null,
        }), "optimizers_config"),
        "wal_config": over(json!({"wal_capacity_mb": 32, "wal_segments_ahead": 0}), "wal_config"),
        "quantization_config": match given("quantization_config") {
            Value::Object(config) => Value::Object(config),
            _ => Value::Null,
        },
    });
    let sparse = shown_sparse(settings, &config);
    if !sparse.is_empty() {
        shown["params"]["sparse_vectors"] = Value::Object(sparse);
    }
    for key in ["strict_mode_config", "metadata"] {
        if let Value::Object(own) = given(key) {
            shown[key] = Value::Object(own);
        }
    }
    shown
}

/// The sparse vectors as they were given, or as they would have been.
fn shown_sparse(settings: &Settings, config: &Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(given)) = config.get("sparse_vectors") {
        let shown = |own: &Value| if own.is_null() { json!({}) } else { own.clone() };
        return given.iter().map(|(name, own)| (name.clone(), shown(own))).collect();
    }
    let of = |own: &VectorSettings| match own.shape {
        VectorShape::Sparse { idf } => {
            let modifier = if idf { "idf" } else { "none" };
            Some((own.name.clone(), json!({"modifier": modifier})))
        }
        VectorShape::Dense | VectorShape::Multi => None,
    };
    settings.vectors.iter().filter_map(of).collect()
}

/// The vectors of rows as they were given, or as they would have been.
fn shown_vectors(settings: &Settings, config: &Map<String, Value>) -> Value {
    if let Some(given) = config.get("vectors").filter(|given| !given.is_null()) {
        return given.clone();
    }
    let of = |own: &VectorSettings| {
        let distance = DISTANCES.iter().find(|(_, metric)| *metric == own.metric);
        let datatype = DATATYPES.iter().find(|(_, dtype)| *dtype == own.dtype);
        let distance = distance.map(|(name, _)| *name);
        let mut shown = json!({"size": own.dim, "distance": distance});
        if own.dtype != Dtype::F32 {
            shown["datatype"] = json!(datatype.map_or(own.dtype.name(), |(name, _)| *name));
        }
        if own.shape == VectorShape::Multi {
            shown["multivector_config"] = json!({"comparator": "max_sim"});
        }
        shown
    };
    if settings.is_only() {
        return of(&settings.vectors[0]);
    }
    let of_rows =
        settings.vectors.iter().filter(|own| !matches!(own.shape, VectorShape::Sparse { .. }));
    of_rows.map(|own| (own.name.clone(), of(own))).collect::<Map<_, _>>().into()
}
