//! What a job did, as data: the contents of `report.json` and of the page made from it.

use serde::{Deserialize, Serialize};

/// Everything that `report.json` says about a finished job.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Version of nearkin that ran the job.
    pub version: String,
    /// The options as they were resolved, by their long names.
    pub options: serde_json::Value,
    /// Identity of the hash family, shingles and normaliser; equal ids give comparable signatures.
    pub hash_family: String,
    /// Sums over all files.
    pub totals: Counts,
    /// One row per input file, in input order.
    pub files: Vec<FileReport>,
    /// One row per reference file or index segment: read only, never part of the totals.
    pub references: Vec<ReferenceReport>,
    /// Files found in input folders whose names are not of a known format; not read.
    pub ignored: Vec<String>,
    /// Things that a person should know: repeated inputs, frames without checksum, idle references.
    pub warnings: Vec<String>,
    /// Bands chosen for the signatures; absent for exact jobs.
    pub bands: Option<BandsReport>,
    /// Candidate pairs and verified pairs.
    pub pairs: PairsReport,
    /// What comparing vectors came to; absent for jobs without.
    pub semantic: Option<SemanticReport>,
    /// Duplicate clusters.
    pub clusters: ClustersReport,
    /// Stages in the order in which they ran.
    pub stages: Vec<StageReport>,
    /// Largest resident set of the process in bytes, if the system says.
    pub peak_memory_bytes: Option<u64>,
    /// Wall-clock seconds of the whole job (this process only, when resumed).
    pub seconds: f64,
}

/// Record counts: `read = kept + dropped + quarantined`, or the job fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records found in the input.
    pub read: u64,
    /// Records written to `kept/`.
    pub kept: u64,
    /// Records in `dropped.jsonl`.
    pub dropped: u64,
    /// Records in `quarantine.jsonl`.
    pub quarantined: u64,
    /// Records with no word at all; they are never duplicates of one another.
    pub empty: u64,
    /// Records with fewer words than one shingle has; their only shingle is their whole text.
    pub short: u64,
    /// Bytes of the records that were read.
    pub bytes: u64,
    /// Bytes of the dropped records.
    pub dropped_bytes: u64,
}

/// One input file.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileReport {
    /// Path relative to the common folder of the inputs.
    pub source: String,
    /// `jsonl`, `json`, `parquet` or `text`, with `.gz` or `.zst` when compressed.
    pub format: String,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
    /// What is wrong with the file as a whole, as `code: message`.
    pub damage: Option<String>,
}

/// One reference file or index segment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReferenceReport {
    /// Its path.
    pub source: String,
    /// Records read.
    pub read: u64,
    /// Records that could not be read.
    pub quarantined: u64,
    /// Input records dropped because of this file.
    pub matched: u64,
}

/// The banding and its S-curve.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BandsReport {
    /// Number of bands.
    pub n_bands: usize,
    /// Signature slots per band.
    pub rows_per_band: usize,
    /// Chance that a pair exactly at the threshold becomes a candidate.
    pub recall_at_threshold: f64,
    /// `[similarity, chance to become a candidate]`, similarity 0.00 to 1.00 in steps of 0.01.
    pub s_curve: Vec<[f64; 2]>,
    /// Similarity histogram of random record pairs that the plan was made from: 32 bins over [0, 1].
    pub sampled_histogram: Vec<u64>,
}

/// Pairs by fate.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PairsReport {
    /// Pairs that share a band.
    pub candidates: u64,
    /// Candidates at or above the threshold.
    pub verified: u64,
    /// Candidate pairs by exact similarity: 50 bins of width 0.02 over [0, 1]; 1.0 is in the last.
    pub similarity_histogram: Vec<u64>,
    /// Records dropped because their normalised text is equal to a kept one.
    pub exact_drops: u64,
    /// Buckets too large for all pairs; their members were compared with leaders.
    pub giant_buckets: u64,
    /// Comparisons of members of giant buckets that were given up, since the bucket has too many leaders.
    pub capped_members: u64,
}

/// Pairs of vectors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SemanticReport {
    /// Model and content hash of what made the vectors.
    pub embedder: String,
    /// Elements of a vector.
    pub dim: u64,
    /// Cosine similarity from which two records mean the same.
    pub similarity: f64,
    /// Folder of the earlier job whose pairs were used; what follows about cells and devices is then in its report.
    pub from: Option<String>,
    /// What compared the vectors.
    pub device: String,
    /// Why this device.
    pub device_why: String,
    /// What the processor did for a card that could not, and what passed through it in parts.
    pub device_notes: Vec<String>,
    /// Records with a row: one of each set of equal texts.
    pub n_embedded: u64,
    /// Of these, records whose row is zero, since the embedder sees too little in them: they are near nothing.
    pub n_without_vector: u64,
    /// Of these, records of which the embedder read only the beginning, since its model reads no longer texts.
    pub n_cut: u64,
    /// Cells that the vectors were sorted into; each record is in its two nearest.
    pub n_cells: u64,
    /// Pairs at or above the similarity.
    pub n_pairs: u64,
    /// These by cosine: 50 bins of width 0.02 over [0, 1]; 1.0 is in the last.
    pub histogram: Vec<u64>,
    /// A sample of records by the cosine of the nearest other record, found by comparing all: the same bins, what lies
    /// below 0 in the first.
    pub nearest_histogram: Vec<u64>,
    /// What the cells lost; absent if the pairs are an earlier job's.
    pub border: Option<BorderReport>,
    /// Records dropped for a near vector.
    pub drops: u64,
}

impl SemanticReport {
    /// What a person should know of the vectors before trusting the result.
    pub fn warnings(&self) -> Vec<String> {
        let &Self { n_without_vector: blind, n_cut: cut, .. } = self;
        let mut warnings = Vec::new();
        if blind > 0 {
            warnings.push(format!(
                "without_vector: the embedder sees too little in {blind} records; they are near nothing"
            ));
        }
        if cut > 0 {
            warnings.push(format!(
                "texts_cut: {cut} records are longer than the model reads; their vectors are those of their beginnings"
            ));
        }
        warnings
    }
}

/// Near pairs of a sample of records, found by comparing them with all others, that no cell had together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BorderReport {
    /// Records sampled.
    pub n_sampled: u64,
    /// Their pairs at or above the similarity (none are counted if there is one cell, which loses none).
    pub n_pairs: u64,
    /// Of these, pairs that the cells missed.
    pub n_missed: u64,
    /// The share; like its interval 0 if there is one cell.
    pub share: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Clusters by size.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClustersReport {
    /// Clusters of two or more records.
    pub n_clusters: u64,
    /// Records in them.
    pub n_records: u64,
    /// Size of the largest.
    pub largest: u64,
    /// `[size, number of clusters of that size]`, by size.
    pub sizes: Vec<[u64; 2]>,
}

/// One stage.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Bytes read and written by it.
    pub bytes: u64,
}

/// A cluster as the page shows it: the kept record beside records dropped for it.
#[derive(Clone, Debug, Default)]
pub struct ClusterSample {
    /// Cluster id, as in `dropped.jsonl`.
    pub cluster: u64,
    /// Records in the cluster, shown or not.
    pub size: u64,
    /// The kept record.
    pub kept: Member,
    /// Some of the records dropped for it, with their similarity to `kept`.
    pub dropped: Vec<(Member, f64)>,
}

/// A record as the page shows it.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// Its id as a JSON token.
    pub id: String,
    /// Its file.
    pub source: String,
    /// Its line or row, from 1.
    pub line: u64,
    /// The first part of its text.
    pub text: String,
    /// Whether `text` is cut.
    pub truncated: bool,
}
