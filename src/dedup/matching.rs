//! Stages 2 to 6: from sketches to a verdict for every record.
//!
//! In: the corpus. Out: `verdicts.rows` and `findings.json` in the work folder. Each step leaves a file, and a
//! step whose file is there is not done again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::backend::cpu::minhash::n_equal;
use crate::core::bits::Bits;
use crate::dedup::banding::{self, Candidates, Pair, Plan};
use crate::dedup::corpus::{Corpus, FrameRef};
use crate::dedup::job::{Job, lanes_by_part, read_json, write_json};
use crate::dedup::keep::{self, Because, Evidence, Fates, Ranks, Verdict};
use crate::dedup::options::{Bands, Method, Policy};
use crate::dedup::report::SemanticReport;
use crate::dedup::semantic::{self, Scope, join};
use crate::dedup::spill::{RowReader, RowWriter, Sorted};
use crate::dedup::verify::{self, BlockSets, Edge, Sets, SetsWriter, Tally};
use crate::dedup::walk::{Sink, Work, walk};
use crate::dedup::{Stages, exact};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::reader::{PartRange, Position};
use crate::record::shingles::Shingler;

/// What the report says of stages 2 to 6.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Bands, rows, sampled histogram.
    pub plan: Option<(usize, usize, Vec<u64>)>,
    /// Candidate and verified pairs.
    pub tally: Tally,
    /// Buckets whose members were compared with leaders only.
    pub giant_buckets: u64,
    /// Members of these whose comparisons reached a cap.
    pub capped_members: u64,
    /// Records dropped for an equal text.
    pub exact_drops: u64,
    /// Size of every cluster, by number.
    pub cluster_sizes: Vec<u32>,
    /// What comparing vectors came to.
    pub semantic: Option<SemanticReport>,
    /// Records dropped for a near vector.
    pub semantic_drops: u64,
}

/// Candidate pairs whose signatures are compared at once.
const PAIRS_AT_ONCE: usize = 64 << 10;

/// The matching of one corpus.
struct Matching<'m> {
    job: &'m Job<'m>,
    parts: &'m [(usize, PartRange)],
    corpus: &'m Corpus,
    n_references: u32,
    budget: u64,
    ranks: Ranks,
    /// By rank, the best rank of equal text.
    representatives: Vec<u32>,
    /// Records dropped for a reference they share words with: `(rank, rank of the reference, share)`.
    contains: Vec<(u32, u32, f32)>,
    /// The same as a set.
    excluded: Bits,
}

/// Runs stages 2 to 6. `n_references` records of the corpus are references.
///
/// # Errors
/// Any failure of a stage.
pub fn run(
    job: &Job<'_>,
    parts: &[(usize, PartRange)],
    corpus: &Corpus,
    n_references: u32,
    stages: &mut Stages<'_>,
) -> Result<Findings> {
    let (findings_path, verdicts_path) = (job.work("findings.json"), job.work("verdicts.rows"));
    if findings_path.exists() && verdicts_path.exists() {
        return read_json(&findings_path);
    }
    let budget = job.budget(corpus.n_records())?;
    let mut matching =
        stages.time("exact", || Matching::new(job, parts, corpus, n_references, budget))?;
    let mut findings = Findings::default();
    let vectors = if job.options.method.is_semantic() {
        Some(matching.semantic_edges(&mut findings, stages)?)
    } else {
        None
    };
    let edges = match (job.options.method, &vectors) {
        (Method::Semantic, Some(vectors)) => vectors.clone(),
        (method, vectors) if method.is_lexical() => {
            matching.edges(vectors.as_deref(), &mut findings, stages)?
        }
        _ => matching.no_edges()?,
    };
    stages.time("verdicts", || matching.write_verdicts(&edges, &mut findings))?;
    write_json(&findings_path, &findings)?;
    Ok(findings)
}

impl<'m> Matching<'m> {
    fn new(
        job: &'m Job<'m>,
        parts: &'m [(usize, PartRange)],
        corpus: &'m Corpus,
        n_references: u32,
        budget: u64,
    ) -> Result<Self> {
        let scratch = job.work("scratch");
        let ranks = Ranks::new(corpus, &job.options.keep, n_references, &scratch, budget)?;
        let mut contains = Vec::new();
        let mut excluded = Bits::new(corpus.n_records());
        if job.options.contains.is_some() {
            for frame in corpus.frames() {
                for (ordinal, meta) in frame.ordinals().zip(corpus.metas(frame)?) {
                    if meta.contains > 0 && ordinal >= n_references {
                        let rank = ranks.of(ordinal);
                        contains.push((rank, meta.contains - 1, meta.contains_share));
                        excluded.insert(rank);
                    }
                }
            }
            contains.sort_by_key(|c| c.0);
        }
        let representatives = exact::representatives(
            corpus,
            &ranks,
            &|rank| !excluded.contains(rank),
            job.options.dedup_empty,
            &scratch,
            budget,
        )?;
        Ok(Self {
            job,
            parts,
            corpus,
            n_references,
            budget,
            ranks,
            representatives,
            contains,
            excluded,
        })
    }

    fn no_edges(&self) -> Result<PathBuf> {
        let path = self.job.work("edges.rows");
        RowWriter::<Edge>::create(&path)?.finish()?;
        Ok(path)
    }

    fn takes_part(&self, rank: u32) -> bool {
        self.representatives[rank as usize] == rank && !self.excluded.contains(rank)
    }

    /// Near pairs of vectors, among one of each set of equal texts.
    fn semantic_edges(&self, findings: &mut Findings, stages: &mut Stages<'_>) -> Result<PathBuf> {
        self.with_scope(&|rank| self.takes_part(rank), |scope| {
            let (edges, semantics) = semantic::edges(scope, stages)?;
            findings.semantic = Some(semantics.report);
            Ok(edges)
        })
    }

    fn with_scope<T>(
        &self,
        takes_part: &(dyn Fn(u32) -> bool + Sync),
        work: impl FnOnce(&Scope<'_>) -> Result<T>,
    ) -> Result<T> {
        work(&Scope {
            job: self.job,
            parts: self.parts,
            corpus: self.corpus,
            ranks: &self.ranks,
            n_references: self.n_references,
            budget: self.budget,
            takes_part,
        })
    }

    /// Stages 3 and 4, and again for what leaders of giant buckets hid. Near pairs of `vectors` count as well.
    fn edges(
        &mut self,
        vectors: Option<&Path>,
        findings: &mut Findings,
        stages: &mut Stages<'_>,
    ) -> Result<PathBuf> {
        let plan = stages.time("plan", || self.plan())?;
        findings.plan = Some((plan.n_bands, plan.rows_per_band, plan.histogram.clone()));
        let pairs = self.job.work("pairs-0.rows");
        let giants = stages.time("candidates", || self.candidates(&plan, &pairs, findings))?;
        let sets = stages.time("sets", || self.sets(&pairs, &giants))?;
        let mut edges = self.job.work("edges-0.rows");
        let tally = stages.time("verify", || self.verify(&pairs, sets.as_ref(), &edges))?;
        findings.tally.merge(&tally);
        if let Some(vectors) = vectors {
            let (copy, both) = (self.job.work("vectors.rows"), self.job.work("edges-both.rows"));
            std::fs::copy(vectors, &copy).at("copy", vectors)?;
            verify::merge_runs(vec![edges, copy], &both)?;
            edges = both;
        }
        let mut seen = vec![pairs];
        for round in 1.. {
            if giants.is_empty() {
                break;
            }
            let fates = self.decide(&edges)?;
            let pairs = self.job.work(&format!("pairs-{round}.rows"));
            if self.hidden_pairs(&giants, &fates, &seen, &pairs, findings)? == 0 {
                break;
            }
            let more = self.job.work(&format!("more-{round}.rows"));
            let tally = stages.time("verify", || self.verify(&pairs, sets.as_ref(), &more))?;
            findings.tally.merge(&tally);
            let merged = self.job.work(&format!("edges-{round}.rows"));
            verify::merge_runs(vec![edges, more], &merged)?;
            edges = merged;
            seen.push(pairs);
        }
        Ok(edges)
    }

    fn plan(&self) -> Result<Plan> {
        let options = self.job.options;
        let histogram = banding::sample_histogram(self.corpus, options.seed)?;
        Ok(match options.bands {
            Bands::Auto => banding::plan(options.n_perm, options.threshold, histogram),
            Bands::Given(n_bands, rows_per_band) => Plan { n_bands, rows_per_band, histogram },
        })
    }

    /// Writes all candidate pairs; returns the giant buckets.
    fn candidates(
        &self,
        plan: &Plan,
        path: &Path,
        findings: &mut Findings,
    ) -> Result<Vec<Vec<u32>>> {
        let takes_part = |rank: u32| self.takes_part(rank);
        let found = banding::candidates(
            self.corpus,
            &self.ranks,
            plan,
            &takes_part,
            self.n_references,
            &self.job.work("scratch"),
            self.budget,
        )?;
        let Candidates { mut pairs, giants } = found;
        for members in &giants {
            let threshold = self.job.options.threshold;
            let leading = banding::lead(
                self.corpus,
                &self.ranks,
                members,
                threshold,
                self.n_references,
                0,
                &|_| false,
            )?;
            findings.capped_members += leading.n_capped;
            leading.pairs.into_iter().try_for_each(|pair| pairs.push(pair))?;
            self.job.check_stop()?;
        }
        findings.giant_buckets = giants.len() as u64;
        if self.job.options.verify {
            self.write_near(pairs.finish()?, path)?;
        } else {
            write_sorted(pairs.finish()?, path)?;
        }
        Ok(giants)
    }

    /// Leaves out pairs whose signatures say that they are far below the threshold: most of what shares a
    /// band, and each would cost two texts read again.
    fn write_near(&self, mut pairs: Sorted<Pair>, path: &Path) -> Result<()> {
        let near = banding::near_slots(self.corpus.n_perm(), self.job.options.threshold);
        let mut writer = RowWriter::create(path)?;
        loop {
            let mut chunk: Vec<Pair> = Vec::with_capacity(PAIRS_AT_ONCE);
            while chunk.len() < PAIRS_AT_ONCE
                && let Some(pair) = pairs.next_row()?
            {
                chunk.push(pair);
            }
            if chunk.is_empty() {
                return writer.finish().map(drop);
            }
            let runs: Vec<&[Pair]> = chunk.chunk_by(|a, b| a[0] == b[0]).collect();
            let kept: Result<Vec<Vec<Pair>>> =
                runs.par_iter().with_min_len(16).map(|run| self.near_of(run, near)).collect();
            kept?.iter().try_for_each(|run| writer.write(run))?;
            self.job.check_stop()?;
        }
    }

    /// Those pairs of one worse rank that have `near` equal slots.
    fn near_of(&self, run: &[Pair], near: u32) -> Result<Vec<Pair>> {
        let n_perm = self.corpus.n_perm();
        let (mut a, mut b) = (vec![0; n_perm], vec![0; n_perm]);
        self.corpus.signature(self.ranks.ordinal(run[0][0]), &mut a)?;
        let mut out = Vec::new();
        for &pair in run {
            self.corpus.signature(self.ranks.ordinal(pair[1]), &mut b)?;
            if n_equal(&a, &b) >= near {
                out.push(pair);
            }
        }
        Ok(out)
    }

    /// Pairs of kept members of giant buckets that were not compared yet.
    fn hidden_pairs(
        &self,
        giants: &[Vec<u32>],
        fates: &Fates,
        seen: &[PathBuf],
        path: &Path,
        findings: &mut Findings,
    ) -> Result<u64> {
        let mut known: Vec<Pair> = Vec::new();
        for pairs in seen {
            let mut reader: RowReader<Pair> = RowReader::open(pairs)?;
            while let Some(pair) = reader.next_row()? {
                if pair.iter().all(|&rank| fates.is_kept(rank)) {
                    known.push(pair);
                }
            }
        }
        known.sort_unstable();
        let scratch = self.job.work("scratch");
        let mut pairs = crate::dedup::spill::Sorter::new(&scratch, "pairs", self.budget / 2, true);
        for members in giants {
            let kept: Vec<u32> =
                members.iter().copied().filter(|&rank| fates.is_kept(rank)).collect();
            let leading = banding::lead(
                self.corpus,
                &self.ranks,
                &kept,
                self.job.options.threshold,
                self.n_references,
                seen.len() as u32,
                &|pair| known.binary_search(&pair).is_ok(),
            )?;
            findings.capped_members += leading.n_capped;
            leading.pairs.into_iter().try_for_each(|pair| pairs.push(pair))?;
        }
        write_sorted(pairs.finish()?, path)
    }

    /// Reads the candidates' texts again and leaves their shingle sets; none without verification.
    fn sets(&self, pairs: &Path, giants: &[Vec<u32>]) -> Result<Option<Sets>> {
        if !self.job.options.verify {
            return Ok(None);
        }
        let path = self.job.work("sets.rows");
        let mut wanted = Bits::new(self.corpus.n_records());
        let mut reader: RowReader<Pair> = RowReader::open(pairs)?;
        while let Some(pair) = reader.next_row()? {
            pair.iter().for_each(|&rank| wanted.insert(self.ranks.ordinal(rank)));
        }
        for &rank in giants.iter().flatten() {
            wanted.insert(self.ranks.ordinal(rank));
        }
        let writer = SetsWriter::create(&path)?;
        collect_sets(self.job, self.parts, self.corpus, &self.ranks, &wanted, &writer)?;
        writer.finish()?;
        Sets::open(&path).map(Some)
    }

    fn verify(&self, pairs: &Path, sets: Option<&Sets>, edges: &Path) -> Result<Tally> {
        match sets {
            Some(sets) => {
                let threshold = self.job.options.threshold;
                verify::verify(pairs, sets, threshold, self.budget / 2, edges)
            }
            None => self.trust(pairs, edges),
        }
    }

    /// `--no-verify`: every candidate pair counts, at the similarity that its signatures estimate.
    fn trust(&self, pairs: &Path, edges: &Path) -> Result<Tally> {
        let n_perm = self.corpus.n_perm();
        let (mut a, mut b) = (vec![0; n_perm], vec![0; n_perm]);
        let mut tally = Tally::default();
        let mut writer = RowWriter::create(edges)?;
        let mut reader: RowReader<Pair> = RowReader::open(pairs)?;
        while let Some([worse, better]) = reader.next_row()? {
            self.corpus.signature(self.ranks.ordinal(worse), &mut a)?;
            self.corpus.signature(self.ranks.ordinal(better), &mut b)?;
            let shared = n_equal(&a, &b);
            let edge = Edge { worse, better, shared, union: n_perm as u32 };
            tally.add(edge.similarity(), true);
            writer.write(&[edge])?;
        }
        writer.finish()?;
        Ok(tally)
    }

    fn evidence<'e>(&'e self, edges: &'e Path) -> Evidence<'e> {
        Evidence {
            representatives: &self.representatives,
            edges,
            n_references: self.n_references,
            excluded: &self.excluded,
        }
    }

    fn decide(&self, edges: &Path) -> Result<Fates> {
        let options = self.job.options;
        let evidence = self.evidence(edges);
        let mut fates = keep::decide(&evidence, &options.keep, options.policy, options.copies)?;
        if options.policy == Policy::Components {
            self.complete_similarities(&mut fates)?;
        }
        Ok(fates)
    }

    /// In a component, a record and the kept one need not have been compared.
    fn complete_similarities(&self, fates: &mut Fates) -> Result<()> {
        let mut missing: Vec<Pair> = Vec::new();
        for (rank, &twin) in fates.twin.iter().enumerate() {
            let rank = rank as u32;
            let group = self.representatives[rank as usize];
            let compared = twin == keep::NONE
                || rank != group
                || self.representatives[twin as usize] == group
                || fates.similarity.contains_key(&group);
            if !compared {
                missing.push([rank, twin]);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if self.job.options.method.is_semantic() {
            for edge in self
                .with_scope(&|rank| self.takes_part(rank), |scope| join::between(scope, &missing))?
            {
                fates.similarity.insert(edge.worse, (edge.shared, edge.union));
            }
            return Ok(());
        }
        let (pairs, edges) = (self.job.work("last-pairs.rows"), self.job.work("last-edges.rows"));
        let mut writer = RowWriter::create(&pairs)?;
        writer.write(&missing)?;
        writer.finish()?;
        if self.job.options.verify {
            let sets = Sets::open(&self.job.work("sets.rows"))?;
            verify::verify(&pairs, &sets, 0.0, self.budget / 2, &edges)?;
        } else {
            self.trust(&pairs, &edges)?;
        }
        let mut reader: RowReader<Edge> = RowReader::open(&edges)?;
        while let Some(edge) = reader.next_row()? {
            fates.similarity.insert(edge.worse, (edge.shared, edge.union));
        }
        Ok(())
    }

    fn write_verdicts(&self, edges: &Path, findings: &mut Findings) -> Result<()> {
        let fates = self.decide(edges)?;
        let (rows, clusters) = keep::verdicts(
            fates,
            &self.evidence(edges),
            &self.ranks,
            &self.contains,
            &self.job.work("scratch"),
            self.budget,
        )?;
        findings.cluster_sizes = clusters.sizes().to_vec();
        let mut writer = RowWriter::create(&self.job.work("verdicts.rows"))?;
        let mut sorted = rows.finish()?;
        while let Some(verdict) = sorted.next_row()? {
            findings.exact_drops += u64::from(verdict.because == Because::Exact as u32);
            findings.semantic_drops += u64::from(verdict.because == Because::Semantic as u32);
            writer.write(&[verdict])?;
        }
        writer.finish().map(drop)
    }
}

fn write_sorted(mut rows: Sorted<Pair>, path: &Path) -> Result<u64> {
    let mut writer = RowWriter::create(path)?;
    while let Some(pair) = rows.next_row()? {
        writer.write(&[pair])?;
    }
    writer.finish()
}

/// Walks the input for the records in `wanted` (by ordinal) and gives their shingle sets to `writer`.
fn collect_sets(
    job: &Job<'_>,
    parts: &[(usize, PartRange)],
    corpus: &Corpus,
    ranks: &Ranks,
    wanted: &Bits,
    writer: &SetsWriter,
) -> Result<()> {
    let frames: Vec<&[FrameRef]> = corpus.frames().chunk_by(|a, b| a.part == b.part).collect();
    let by_part: HashMap<usize, &[FrameRef]> =
        frames.into_iter().map(|run| (run[0].part as usize, run)).collect();
    let is_wanted = |part: usize| {
        by_part.get(&part).is_some_and(|run| run.iter().any(|f| wanted.any_in(f.ordinals())))
    };
    // The order of the sets does not matter, so every part is a lane of its own.
    let lanes = lanes_by_part(&job.files, parts, &is_wanted);
    let open = |_: usize| -> Result<Box<dyn Sink<BlockSets> + '_>> { Ok(Box::new(writer)) };
    let state = || Shingler::new(job.options.shingle, job.options.normalizer);
    walk(
        &lanes,
        &job.options.field_names(),
        job.options.threads,
        job.stop,
        &open,
        &state,
        &|shingler, part, number, work| {
            let Work::Block(block) = work else { return Ok(Vec::new()) };
            job.progress.advance(block.n_bytes());
            let frame = by_part[&part.number]
                .get(number)
                .ok_or_else(|| input_changed(&part.file.source))?;
            let mut out = Vec::new();
            if !wanted.any_in(frame.ordinals()) {
                return Ok(out);
            }
            for (ordinal, meta) in frame.ordinals().zip(corpus.metas(frame)?) {
                if wanted.contains(ordinal) {
                    let position = Position { offset: meta.offset, len: meta.len, line: meta.line };
                    let fields = block
                        .fields(position, &job.names_of(part.file_number), job.options.utf8)
                        .map_err(|_| input_changed(&part.file.source))?;
                    shingler.read(&fields.text);
                    out.push((ranks.of(ordinal), shingler.sorted_set()));
                }
            }
            Ok(out)
        },
    )
}

/// The error of a record that is not where it was.
pub fn input_changed(source: &str) -> Error {
    let message = format!("{source}: a record is not what it was; nothing was published");
    Error::new(ErrorKind::Accounting, "input_changed", message)
}

/// Frames of each file, in block order.
pub fn frames_by_file(corpus: &Corpus, n_files: usize) -> Vec<Vec<FrameRef>> {
    let mut frames = vec![Vec::new(); n_files];
    for frame in corpus.frames() {
        frames[corpus.file_of(frame)].push(*frame);
    }
    frames
}

/// All verdicts of the job, by ordinal.
///
/// # Errors
/// If the file cannot be read.
pub fn verdicts(job: &Job<'_>) -> Result<RowReader<Verdict>> {
    RowReader::open(&job.work("verdicts.rows"))
}
