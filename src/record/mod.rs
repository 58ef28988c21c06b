//! Text in: files of records, whatever their format, and the shingles of their texts.
//!
//! In: paths. Out: blocks of records with their byte positions, and [`Problem`]s for what could not be
//! read. Next: `input.rs` (which files), `reader.rs` (files to blocks), `normalize.rs`, `shingles.rs`.

mod block;
pub mod codec;
pub mod input;
pub mod json;
pub mod normalize;
pub mod npy;
pub mod numbers;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod payload;
pub mod point;
pub mod reader;
pub mod shingles;
pub mod strict;
mod values;
pub mod vecs;
pub mod vector;
pub mod vector_file;

/// Which fields of a record are read; every other field is carried through untouched.
#[derive(Clone, Debug)]
pub struct FieldNames {
    /// Field with the text; a record without it is quarantined.
    pub text: String,
    /// Field with the caller's id; a record without it is named `<source>:<line>`.
    pub id: String,
    /// Numeric field that a keep policy ranks by.
    pub rank: Option<String>,
    /// Field inside whose equal values duplicates are searched.
    pub group: Option<String>,
    /// Field with the caller's vector. Parquet rows are read with it; in JSON it is found when it is asked for.
    pub vector: Option<String>,
    /// Field names that must not occur, since the output adds them.
    pub reserved: Vec<String>,
}

/// Why one record, or the rest of one file, could not be read. Displayed in `quarantine.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable snake_case word, such as `json_invalid`.
    pub code: &'static str,
    /// What was expected and what was found.
    pub message: String,
}

impl Problem {
    /// A new problem.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The fields that dedup reads of one record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    /// The id as a JSON token (`"a"`, `7`), if the record has one.
    pub id: Option<String>,
    /// The decoded text.
    pub text: String,
    /// The value of [`FieldNames::rank`], if it is a number.
    pub rank: Option<f64>,
    /// The value of [`FieldNames::group`] as a JSON token, if present.
    pub group: Option<String>,
}

/// What `--annotate` says of a record, in fields that are added to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// Number of its cluster; `None` for a record that is alone.
    pub cluster: Option<u64>,
    /// Records in the cluster; 1 for a record that is alone.
    pub cluster_size: u64,
    /// Whether it would be kept.
    pub kept: bool,
    /// Exact similarity with the kept record that it repeats.
    pub similarity: Option<f64>,
    /// One over the cluster size: equal total weight for every cluster.
    pub weight: f64,
}
