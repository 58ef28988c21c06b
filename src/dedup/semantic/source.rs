//! Where the vectors of a job come from, opened and named before anything is read, since the job's manifest holds the
//! name: rows of two models are never mixed.

use std::path::PathBuf;
use std::sync::Arc;

use crate::dedup::options::Options;
use crate::dedup::semantic::earlier;
use crate::embed::given::NpyFile;
use crate::embed::{self, Choice, Embedder};
use crate::error::{Error, ErrorKind, Result};
use crate::record::input::{Format, InputFile};
use crate::record::reader::{Block, Item, PartReader, parts};
use crate::record::{FieldNames, Problem};

/// An open source of vectors.
pub enum Source {
    /// Made of the texts.
    Text(Arc<dyn Embedder>),
    /// A field of each record, of the length that the first has.
    Field {
        /// The field.
        name: String,
        /// Elements.
        dim: usize,
    },
    /// Rows of a file.
    File(NpyFile),
    /// None: pairs come from an earlier job.
    Earlier {
        /// Its folder.
        folder: PathBuf,
        /// Field of each record that held its vectors, if they were given so.
        field: Option<String>,
        /// Its embedder.
        identity: String,
        /// Elements of its rows.
        dim: usize,
    },
}

impl Source {
    /// Opens what the options name; `files` are references, then inputs.
    ///
    /// # Errors
    /// What opening the model says; `given_format` or `given_missing` for fields that are not there.
    pub fn open(
        options: &Options,
        files: &[InputFile],
        n_references: usize,
        names: &FieldNames,
    ) -> Result<Self> {
        if let Some(folder) = &options.from {
            let (identity, dim) = earlier::embedder(folder)?;
            let field = match &options.embed {
                Choice::Field(name) => Some(name.clone()),
                _ => None,
            };
            return Ok(Self::Earlier { folder: folder.clone(), field, identity, dim });
        }
        if let Some(embedder) = embed::open(&options.embed, options.threads)? {
            return Ok(Self::Text(embedder));
        }
        match &options.embed {
            Choice::File(path) => {
                if n_references > 0 {
                    let message = "given:FILE.npy has rows for the input only; with --against, use given:FIELD";
                    return Err(Error::usage("given_format", message));
                }
                Ok(Self::File(NpyFile::open(path)?))
            }
            Choice::Field(name) => {
                Ok(Self::Field { name: name.clone(), dim: first_dim(name, files, options, names)? })
            }
            other => unreachable!("{other} is an embedder of texts"),
        }
    }

    /// Elements of a row.
    pub fn dim(&self) -> usize {
        match self {
            Self::Text(embedder) => embedder.dim(),
            Self::File(file) => file.dim(),
            Self::Field { dim, .. } | Self::Earlier { dim, .. } => *dim,
        }
    }

    /// Model and content, as in [`Embedder::identity`].
    pub fn identity(&self) -> String {
        match self {
            Self::Text(embedder) => embedder.identity(),
            Self::Field { name, dim } => format!("given/{name}/{dim}"),
            Self::File(file) => file.identity(),
            Self::Earlier { identity, .. } => identity.clone(),
        }
    }

    /// The field that must be in every record, and its length.
    pub fn field(&self) -> Option<(&str, usize)> {
        match self {
            Self::Field { name, dim } | Self::Earlier { field: Some(name), dim, .. } => {
                Some((name, *dim))
            }
            _ => None,
        }
    }
}

/// Length of the first good vector of the files, in their order.
fn first_dim(
    name: &str,
    files: &[InputFile],
    options: &Options,
    names: &FieldNames,
) -> Result<usize> {
    let mut reason = "no record could be read".to_owned();
    for file in files {
        if matches!(file.kind, Ok((Format::Text, _))) {
            let message = format!(
                "given:{name} is read of JSON and Parquet records, and {} has none; give a .npy file instead",
                file.source
            );
            return Err(Error::usage("given_format", message));
        }
        // What cannot be read is quarantined when the records are.
        for range in parts(file).unwrap_or_default() {
            let Ok(mut reader) = PartReader::open(file, &range, names) else { continue };
            while let Ok(Some(block)) = reader.next_block() {
                match first_vector(&block, name, options, names) {
                    Some(Ok(dim)) => return Ok(dim),
                    Some(Err(problem)) => {
                        reason = format!("{}: {}", problem.code, problem.message);
                    }
                    None => {}
                }
            }
        }
    }
    let message = format!("no record has a vector in {name:?}; the last that was read: {reason}");
    Err(Error::new(ErrorKind::BadInput, "given_missing", message))
}

/// Length of the first good vector of a block, or why its last record has none.
fn first_vector(
    block: &Block,
    field: &str,
    options: &Options,
    names: &FieldNames,
) -> Option<Result<usize, Problem>> {
    let mut found: Option<Result<usize, Problem>> = None;
    block.visit(names, options.utf8, &mut |item| {
        if let Item::Record(position, ..) = item
            && !matches!(found, Some(Ok(_)))
        {
            found = Some(block.vector(position, field, None).map(|vector| vector.len()));
        }
    });
    found
}
