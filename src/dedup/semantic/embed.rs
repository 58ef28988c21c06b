//! A row for each record that is compared, part by part: parts whose file is there are not embedded again.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::core::rows::Values;
use crate::dedup::corpus::FrameRef;
use crate::dedup::job::{Job, lanes_by_part, read_json, write_json};
use crate::dedup::matching::input_changed;
use crate::dedup::semantic::Scope;
use crate::dedup::semantic::source::Source;
use crate::dedup::spill::RowWriter;
use crate::dedup::walk::{Part, Sink, Work, walk};
use crate::embed::given::NpyFile;
use crate::embed::normalise;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::record::reader::{Block, Position};

/// Where the rows of a part are: f32 bits, one row after another.
pub fn path(job: &Job<'_>, part: usize) -> PathBuf {
    job.work("embed").join(format!("{part:06}.rows"))
}

/// Where it is said of how many texts of a part only the beginning was read; absent if of none.
fn cut_path(job: &Job<'_>, part: usize) -> PathBuf {
    job.work("embed").join(format!("{part:06}.cut"))
}

/// Embeds all parts that have no rows yet. Returns of how many texts, in all parts, only the beginning was read.
///
/// # Errors
/// A failure of the embedder or the disk; `given_rows` if a file of vectors has other records.
pub fn run(scope: &Scope<'_>, source: &Source) -> Result<u64> {
    let folder = scope.job.work("embed");
    std::fs::create_dir_all(&folder).at("create", &folder)?;
    let frames: Vec<&[FrameRef]> =
        scope.corpus.frames().chunk_by(|a, b| a.part == b.part).collect();
    let by_part: HashMap<usize, &[FrameRef]> =
        frames.into_iter().map(|run| (run[0].part as usize, run)).collect();
    let compared = |frames: &&[FrameRef]| {
        frames.iter().flat_map(FrameRef::ordinals).any(|ordinal| compared(scope, ordinal))
    };
    let wanted =
        |part: usize| by_part.get(&part).is_some_and(compared) && !path(scope.job, part).exists();
    if let Source::File(file) = source {
        let parts = (0..scope.parts.len()).filter(|&part| wanted(part));
        return from_file(scope, file, parts, &by_part).map(|()| 0);
    }
    let lanes = lanes_by_part(&scope.job.files, scope.parts, &wanted);
    let open = |lane: usize| -> Result<Box<dyn Sink<BlockRows> + '_>> {
        let part = lanes[lane][0].number;
        let writer = Some(RowWriter::create(&path(scope.job, part))?);
        Ok(Box::new(PartRows { writer, n_cut: 0, cut_path: cut_path(scope.job, part) }))
    };
    let (names, threads) = (scope.job.options.field_names(), scope.job.options.threads);
    walk(&lanes, &names, threads, scope.job.stop, &open, &|| (), &|(), part, number, work| {
        let Work::Block(block) = work else { return Ok(BlockRows::default()) };
        scope.job.progress.advance(block.n_bytes());
        let frame = by_part[&part.number].get(number);
        let frame = frame.ok_or_else(|| input_changed(&part.file.source))?;
        block_rows(scope, source, part, &block, frame)
    })?;
    let cut = (0..scope.parts.len()).map(|part| cut_path(scope.job, part));
    cut.filter(|path| path.exists()).map(|path| read_json::<u64>(&path)).sum()
}

fn compared(scope: &Scope<'_>, ordinal: u32) -> bool {
    (scope.takes_part)(scope.ranks.of(ordinal))
}

/// Rows of one block's texts, and how many of these were cut.
#[derive(Default)]
struct BlockRows {
    rows: Vec<f32>,
    n_cut: u64,
}

struct PartRows {
    writer: Option<RowWriter<u32>>,
    n_cut: u64,
    cut_path: PathBuf,
}

impl Sink<BlockRows> for PartRows {
    fn take(&mut self, _: usize, block: BlockRows) -> Result<()> {
        self.n_cut += block.n_cut;
        let writer = self.writer.as_mut().expect("rows come before the end");
        writer.write(bytemuck::cast_slice(&block.rows))
    }

    fn finish(&mut self) -> Result<()> {
        // Before the rows, whose file says that the part is done.
        if self.n_cut > 0 {
            write_json(&self.cut_path, &self.n_cut)?;
        }
        self.writer.take().map_or(Ok(()), |writer| writer.finish().map(drop))
    }
}

/// Rows of the compared records of one block.
fn block_rows(
    scope: &Scope<'_>,
    source: &Source,
    part: &Part<'_>,
    block: &Block,
    frame: &FrameRef,
) -> Result<BlockRows> {
    let changed = || input_changed(&part.file.source);
    let names = scope.job.names_of(part.file_number);
    let (mut texts, mut rows, mut n_cut) = (Vec::new(), Vec::new(), 0);
    for (ordinal, meta) in frame.ordinals().zip(scope.corpus.metas(frame)?) {
        if !compared(scope, ordinal) {
            continue;
        }
        let position = Position { offset: meta.offset, len: meta.len, line: meta.line };
        if let Some((field, dim)) = source.field() {
            let start = rows.len();
            rows.extend(block.vector(position, field, Some(dim)).map_err(|_| changed())?);
            normalise(&mut rows[start..]);
        } else {
            let fields = block.fields(position, &names, scope.job.options.utf8);
            texts.push(fields.map_err(|_| changed())?.text);
        }
    }
    if let Source::Text(embedder) = source {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embedded = embedder.embed(&texts)?;
        let Values::F32(values) = embedded.values() else {
            let message = format!("{} gave {} rows", embedder.identity(), embedded.dtype().name());
            return Err(Error::usage("vector_dtype", message));
        };
        rows.extend_from_slice(values);
        n_cut = embedder.n_cut(&texts) as u64;
    }
    Ok(BlockRows { rows, n_cut })
}

/// Rows of a file: row `i` is that of the input's `i`-th record.
fn from_file(
    scope: &Scope<'_>,
    file: &NpyFile,
    parts: impl Iterator<Item = usize>,
    by_part: &HashMap<usize, &[FrameRef]>,
) -> Result<()> {
    let n_records = scope.corpus.n_records() as usize;
    if file.n_rows() != n_records {
        let n_bad: u32 = scope.corpus.frames().iter().map(|frame| frame.head().n_bad).sum();
        let message = format!(
            "{} rows of vectors for {n_records} records ({n_bad} more could not be read)",
            file.n_rows()
        );
        return Err(Error::new(ErrorKind::BadInput, "given_rows", message));
    }
    let mut row = vec![0.0; file.dim()];
    for part in parts {
        let mut writer: RowWriter<u32> = RowWriter::create(&path(scope.job, part))?;
        for ordinal in by_part[&part].iter().flat_map(FrameRef::ordinals) {
            if compared(scope, ordinal) {
                file.row(ordinal as usize, &mut row)?;
                normalise(&mut row);
                writer.write(bytemuck::cast_slice(&row))?;
            }
        }
        writer.finish()?;
        scope.job.check_stop()?;
    }
    Ok(())
}
