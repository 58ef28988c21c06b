//! What a job is asked to do.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::backend::open::Device;
use crate::core::limits::N_PERM;
use crate::embed::Choice;
use crate::error::{Error, Result};
use crate::record::FieldNames;
use crate::record::normalize::Normalizer;
use crate::record::reader::Utf8;
use crate::record::shingles::{ShingleKind, Unit};

/// Which records are candidates for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Equal normalised texts.
    Exact,
    /// Equal normalised texts, and texts whose shingle sets have at least the asked Jaccard similarity.
    MinHash,
    /// Equal normalised texts, and texts whose vectors have at least the asked cosine similarity.
    Semantic,
    /// Both: a record goes if a kept one is near it either way; the lexical reason is told first.
    MinHashSemantic,
}

impl Method {
    /// The name, as typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::MinHash => "minhash",
            Self::Semantic => "semantic",
            Self::MinHashSemantic => "minhash,semantic",
        }
    }

    /// Whether shingle sets are compared.
    pub fn is_lexical(self) -> bool {
        matches!(self, Self::MinHash | Self::MinHashSemantic)
    }

    /// Whether vectors are compared.
    pub fn is_semantic(self) -> bool {
        matches!(self, Self::Semantic | Self::MinHashSemantic)
    }
}

/// Who of a set of duplicates is kept: the record that comes first in this order. Ties go to the record
/// that comes first in the input.
#[derive(Clone, Debug, PartialEq)]
pub enum Keep {
    /// Input order.
    First,
    /// Longest text in bytes.
    Longest,
    /// Shortest text in bytes.
    Shortest,
    /// Highest value of a numeric field; records without it come last.
    Max(String),
    /// Lowest value of a numeric field; records without it come last.
    Min(String),
    /// By input file or folder name, in the order listed; others come last.
    Source(Vec<String>),
    /// A random order fixed by the seed.
    Random,
    /// No record that has a duplicate is kept.
    None,
}

/// How pairs become verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A record is dropped only if a kept record is at or above the threshold.
    Cover,
    /// One record is kept of each connected component of such pairs.
    Components,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Whole records.
    Records,
    /// Lines within and across records; repeated ones are cut out of the texts.
    Lines,
    /// Paragraphs (separated by blank lines), likewise.
    Paragraphs,
}

/// In what form kept records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// As each input file is.
    Same,
    /// JSON Lines.
    Jsonl,
    /// JSON Lines in zstd with checksums.
    JsonlZst,
    /// Parquet.
    Parquet,
}

/// What to do about an output folder that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Refuse,
    /// Go on with an interrupted job of the same options and inputs.
    Resume,
    /// Remove the earlier job's files and start again.
    Overwrite,
}

/// Bands and rows of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bands {
    /// Planned for recall at the threshold.
    Auto,
    /// Given as bands by rows per band.
    Given(usize, usize),
}

/// Default of [`Options::similarity`].
pub const SIMILARITY: f64 = 0.95;

/// A dedup job. [`Default`] is what the command line does without options.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files, folders and globs.
    pub inputs: Vec<PathBuf>,
    /// Folder for everything that is written.
    pub out: PathBuf,
    /// Field with the text.
    pub text_field: String,
    /// Field with the caller's id.
    pub id_field: String,
    /// Candidates by what.
    pub method: Method,
    /// Jaccard similarity from which two records are duplicates, in (0, 1].
    pub threshold: f64,
    /// Where vectors come from.
    pub embed: Choice,
    /// Cosine similarity from which two records mean the same, in (0, 1].
    pub similarity: f64,
    /// Cells that vectors are sorted into; by their number if not given.
    pub n_cells: Option<u32>,
    /// What compares vectors.
    pub device: Device,
    /// Folder of a finished semantic job whose pairs are used again.
    pub from: Option<PathBuf>,
    /// What a shingle is.
    pub shingle: ShingleKind,
    /// Which differences do not count.
    pub normalizer: Normalizer,
    /// Signature slots.
    pub n_perm: usize,
    /// Bands of the signature.
    pub bands: Bands,
    /// Whether each candidate pair is compared exactly.
    pub verify: bool,
    /// Who is kept.
    pub keep: Keep,
    /// How many of a set of duplicates may stay.
    pub copies: u32,
    /// Cover or components.
    pub policy: Policy,
    /// Field inside whose equal values duplicates are searched.
    pub group_by: Option<String>,
    /// Records, lines or paragraphs.
    pub scope: Scope,
    /// Reference corpora: read, never written; what repeats them is dropped.
    pub against: Vec<PathBuf>,
    /// Drop records that share this many words in a row with a reference.
    pub contains: Option<usize>,
    /// Persisted index that is matched against and added to.
    pub index: Option<PathBuf>,
    /// Memory that the job may use.
    pub memory_bytes: u64,
    /// Threads.
    pub threads: usize,
    /// Seed of the hash family and of [`Keep::Random`].
    pub seed: u64,
    /// What to do about earlier output.
    pub existing: Existing,
    /// Write all records, with what was found in added fields.
    pub annotate: bool,
    /// Form of the kept records.
    pub output_format: OutputFormat,
    /// `(i, n)`: sketch only the `i`-th of `n` shares.
    pub shard: Option<(usize, usize)>,
    /// Treatment of text that is not UTF-8.
    pub utf8: Utf8,
    /// Whether records without any word are duplicates of one another.
    pub dedup_empty: bool,
    /// Consent to threshold 0, at which every candidate pair counts as duplicate.
    pub yes_everything: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            inputs: Vec::new(),
            out: PathBuf::new(),
            text_field: "text".into(),
            id_field: "id".into(),
            method: Method::MinHash,
            threshold: 0.8,
            embed: Choice::Static,
            similarity: SIMILARITY,
            n_cells: None,
            device: Device::Auto,
            from: None,
            shingle: ShingleKind { unit: Unit::Word, n: 5 },
            normalizer: Normalizer::PROSE,
            n_perm: 128,
            bands: Bands::Auto,
            verify: true,
            keep: Keep::First,
            copies: 1,
            policy: Policy::Cover,
            group_by: None,
            scope: Scope::Records,
            against: Vec::new(),
            contains: None,
            index: None,
            memory_bytes: 4 << 30,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            seed: 0,
            existing: Existing::Refuse,
            annotate: false,
            output_format: OutputFormat::Same,
            shard: None,
            utf8: Utf8::Strict,
            dedup_empty: false,
            yes_everything: false,
        }
    }
}

/// Fields that `--annotate` adds.
pub const ANNOTATIONS: [&str; 5] = [
    "nearkin_cluster",
    "nearkin_cluster_size",
    "nearkin_kept",
    "nearkin_similarity",
    "nearkin_weight",
];

impl Options {
    /// The fields that are read of each record.
    pub fn field_names(&self) -> FieldNames {
        let rank = match &self.keep {
            Keep::Max(field) | Keep::Min(field) => Some(field.clone()),
            _ => None,
        };
        let vector = match &self.embed {
            Choice::Field(field) if self.method.is_semantic() => Some(field.clone()),
            _ => None,
        };
        let reserved = if self.annotate { ANNOTATIONS.map(String::from).to_vec() } else { vec![] };
        FieldNames {
            text: self.text_field.clone(),
            id: self.id_field.clone(),
            rank,
            group: self.group_by.clone(),
            vector,
            reserved,
        }
    }

    /// Name of everything that signatures depend on; only equal ones may be compared.
    pub fn hash_family(&self) -> String {
        format!(
            "{} n_perm={} seed={} shingle={} normalize={}",
            crate::backend::cpu::minhash::FAMILY,
            self.n_perm,
            self.seed,
            self.shingle,
            self.normalizer
        )
    }

    /// Everything that decides the output, by long option name; threads and memory do not.
    pub fn identity(&self) -> Value {
        let bands = match self.bands {
            Bands::Auto => "auto".to_owned(),
            Bands::Given(n, rows) => format!("{n}x{rows}"),
        };
        let mut identity = json!({
            "text_field": self.text_field,
            "id_field": self.id_field,
            "method": self.method.name(),
            "threshold": self.threshold,
            "shingle": self.shingle.to_string(),
            "normalize": self.normalizer.to_string(),
            "n_perm": self.n_perm,
            "bands": bands,
            "verify": self.verify,
            "keep": self.keep.to_string(),
            "copies": self.copies,
            "policy": match self.policy { Policy::Cover => "cover", Policy::Components => "components" },
            "group_by": self.group_by,
            "scope": match self.scope {
                Scope::Records => "records",
                Scope::Lines => "lines",
                Scope::Paragraphs => "paragraphs",
            },
            "contains": self.contains,
            "index": self.index,
            "seed": self.seed,
            "annotate": self.annotate,
            "output_format": self.output_format.to_string(),
            "utf8": match self.utf8 { Utf8::Strict => "strict", Utf8::Lossy => "lossy" },
            "dedup_empty": self.dedup_empty,
        });
        if self.method.is_semantic() {
            identity["embed"] = self.embed.to_string().into();
            identity["similarity"] = self.similarity.into();
            identity["cells"] = self.n_cells.into();
        }
        if self.method == Method::Semantic
            && let Some(options) = identity.as_object_mut()
        {
            for lexical in ["threshold", "n_perm", "bands", "verify"] {
                options.shift_remove(lexical);
            }
        }
        identity
    }

    /// Checks the options against one another.
    ///
    /// # Errors
    /// A usage error that names the option, what was expected and what was given.
    pub fn check(&self) -> Result<()> {
        let t = self.threshold;
        let refuse = |code, message: String| Err(Error::usage(code, message));
        if !(0.0..=1.0).contains(&t) {
            return refuse("threshold_range", format!("{t}, expected over 0 and at most 1"));
        }
        if t == 0.0 && !self.yes_everything {
            let message =
                "0 makes every candidate pair a duplicate; add --yes-everything to mean it";
            return refuse("threshold_range", message.into());
        }
        if !(1..=N_PERM).contains(&self.n_perm) {
            return refuse("n_perm", format!("{}, expected 1 to {N_PERM}", self.n_perm));
        }
        if let Bands::Given(bands, rows) = self.bands
            && (bands == 0 || rows == 0 || bands.saturating_mul(rows) > self.n_perm)
        {
            let needed = bands.saturating_mul(rows);
            let message =
                format!("{bands}x{rows} needs {needed} slots, --n-perm gives {}", self.n_perm);
            return refuse("bands", message);
        }
        if self.copies == 0 {
            return refuse(
                "copies",
                "0, expected at least 1 (to keep none, use --keep none)".into(),
            );
        }
        if self.threads == 0 || self.threads > 4096 {
            return refuse("threads", format!("{}, expected 1 to 4096", self.threads));
        }
        if self.memory_bytes < 64 << 20 {
            return refuse(
                "memory",
                format!("{} bytes, expected at least 64MiB", self.memory_bytes),
            );
        }
        if let Some((i, n)) = self.shard
            && (n == 0 || (i >= n && i != crate::dedup::MERGE))
        {
            return refuse("shard", format!("{i}/{n}, expected i/n with i from 0 to n-1"));
        }
        self.check_combinations()
    }

    fn check_combinations(&self) -> Result<()> {
        let refuse = |message: &str| Err(Error::usage("options", message));
        if self.contains.is_some() && self.against.is_empty() {
            return refuse("--contains needs --against");
        }
        if self.contains == Some(0) {
            return refuse("--contains 0, expected at least 1 word");
        }
        if self.scope != Scope::Records {
            let asked = self.contains.is_some() || self.index.is_some() || self.annotate;
            if asked || self.method != Method::Exact {
                return refuse(
                    "--lines and --paragraphs compare exactly, and go without --contains, --index and \
                     --annotate",
                );
            }
            if self.keep == Keep::None {
                return refuse(
                    "--lines and --paragraphs keep one copy; --keep none goes with records",
                );
            }
        }
        if !self.verify && !self.method.is_lexical() {
            return refuse("--no-verify goes with --method minhash");
        }
        if self.method.is_semantic() {
            self.check_semantic()?;
        }
        if self.copies > 1 && self.policy == Policy::Components {
            return refuse("--copies over 1 goes with --policy cover");
        }
        Ok(())
    }

    fn check_semantic(&self) -> Result<()> {
        let refuse = |code, message: String| Err(Error::usage(code, message));
        let s = self.similarity;
        if !(s > 0.0 && s <= 1.0) {
            return refuse("similarity_range", format!("{s}, expected over 0 and at most 1"));
        }
        if self.n_cells == Some(0) {
            return refuse("cells", "0, expected at least 1".into());
        }
        if self.index.is_some() && matches!(self.embed, Choice::Field(_) | Choice::File(_)) {
            let message = "--index keeps texts, no vectors: use an embedder of texts with it";
            return refuse("options", message.into());
        }
        if self.from.is_some() && self.policy == Policy::Components {
            let message = "another threshold needs the vectors again under --policy components, \
                           which compares the ends of chains; run the job anew";
            return refuse("options", message.into());
        }
        Ok(())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Exact, Self::MinHash, Self::Semantic, Self::MinHashSemantic];
        all.into_iter().find(|method| method.name() == text).ok_or_else(|| {
            let expected = "exact, minhash, semantic or minhash,semantic";
            Error::usage("method", format!("{text:?}, expected {expected}"))
        })
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Longest => f.write_str("longest"),
            Self::Shortest => f.write_str("shortest"),
            Self::Max(field) => write!(f, "max:{field}"),
            Self::Min(field) => write!(f, "min:{field}"),
            Self::Source(names) => write!(f, "source:{}", names.join(",")),
            Self::Random => f.write_str("random"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for Keep {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let message = format!(
                "{text:?}, expected first, longest, shortest, max:FIELD, min:FIELD, source:A,B, random or none"
            );
            Error::usage("keep", message)
        };
        match text.split_once(':') {
            Some((_, "")) => Err(wrong()),
            Some(("max", field)) => Ok(Self::Max(field.into())),
            Some(("min", field)) => Ok(Self::Min(field.into())),
            Some(("source", names)) => {
                Ok(Self::Source(names.split(',').map(String::from).collect()))
            }
            Some(_) => Err(wrong()),
            None => match text {
                "first" => Ok(Self::First),
                "longest" => Ok(Self::Longest),
                "shortest" => Ok(Self::Shortest),
                "random" => Ok(Self::Random),
                "none" => Ok(Self::None),
                _ => Err(wrong()),
            },
        }
    }
}

impl FromStr for Bands {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let message = format!("{text:?}, expected auto or BANDSxROWS such as 18x6");
            Error::usage("bands", message)
        };
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (bands, rows) = text.split_once('x').ok_or_else(wrong)?;
        Ok(Self::Given(bands.parse().map_err(|_| wrong())?, rows.parse().map_err(|_| wrong())?))
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Jsonl => "jsonl",
            Self::JsonlZst => "jsonl.zst",
            Self::Parquet => "parquet",
        })
    }
}

impl FromStr for OutputFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "same" => Ok(Self::Same),
            "jsonl" => Ok(Self::Jsonl),
            "jsonl.zst" => Ok(Self::JsonlZst),
            "parquet" => Ok(Self::Parquet),
            _ => {
                let message = format!("{text:?}, expected same, jsonl, jsonl.zst or parquet");
                Err(Error::usage("output_format", message))
            }
        }
    }
}
