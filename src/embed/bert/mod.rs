//! Sentence models of the BERT kind, read from a folder: the mean of the last states of a text's tokens.
//!
//! In: a folder as sentence-transformers lays it out, and texts. Out: unit rows; the same bits for a text whatever stands
//! beside it and however many threads there are. Next: `folder.rs` (what the files say), `weights.rs` (tensors, their
//! shapes checked), `forward.rs` (the layers, on candle), `plain.rs` (the same in loops, for tests).
//!
//! Paper: Devlin et al., "BERT", NAACL 2019, for the layers; Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, section
//! 3, for the mean. Texts of a batch stand end to end without padding: linear layers see all their tokens at once, and
//! attention one text at a time, so there is nothing to mask. Marks such as `[SEP]` in a text are read as text, where the
//! reference takes them for marks: a corpus must not be able to end a text for the model.

mod folder;
mod forward;
#[cfg(test)]
mod plain;
mod weights;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::core::rows::{Rows, Values};
use crate::embed::bert::folder::Folder;
use crate::embed::bert::forward::Layers;
use crate::embed::{Embedder, normalise};
use crate::error::{Error, ErrorKind, Result};

/// Tokens of a batch: enough that a layer's weights are read once for many, few enough that the widest states of a small
/// model (6 MiB at 1,536 inner elements) are still near the processor.
const BATCH_TOKENS: usize = 1024;

/// A model in memory.
pub struct Bert {
    folder: Folder,
    layers: Layers,
    identity: String,
    pool: Arc<ThreadPool>,
}

/// A text as the model reads it.
struct Tokens {
    ids: Vec<u32>,
    /// Whether the end of the text was cut off.
    is_cut: bool,
}

impl Bert {
    /// Reads the model in `folder`; the rows of texts are made in `pool`.
    ///
    /// # Errors
    /// `not_found` for a file that must be there, `model_invalid` for one that cannot be read, `model_tensor` for weights
    /// that are missing, of another shape than the configuration says, or not finite, `model_unsupported` for a model of
    /// another kind; each names the file.
    pub fn open(folder: &Path, pool: Arc<ThreadPool>) -> Result<Self> {
        let (config, weights) = (Folder::read(folder)?, folder.join("model.safetensors"));
        let (layers, hash) = weights::read(&weights, &config)?;
        let identity = config.identity(hash);
        Ok(Self { folder: config, layers, identity, pool })
    }

    /// Ids of the tokens that the model sees of a text, without the marks at both ends.
    pub fn token_ids(&self, text: &str) -> Vec<u32> {
        self.tokens(text).ids
    }

    fn tokens(&self, text: &str) -> Tokens {
        let limit = self.folder.max_tokens - 2;
        let (mut ids, mut is_cut) = (Vec::new(), false);
        self.folder.tokens.encode(text, &mut |id| match ids.len() < limit {
            true => ids.push(id),
            false => is_cut = true,
        });
        Tokens { ids, is_cut }
    }

    /// Rows of a batch of texts, none of them empty.
    fn batch(&self, texts: &[Vec<u32>]) -> Result<Vec<f32>> {
        let [begin, end] = self.folder.marks;
        let (mut ids, mut spans): (Vec<u32>, Vec<Range<usize>>) = Default::default();
        for text in texts {
            let start = ids.len();
            ids.push(begin);
            ids.extend_from_slice(text);
            ids.push(end);
            spans.push(start..ids.len());
        }
        let states = self.layers.states(&ids, &spans).map_err(|error| {
            let message = format!("{}: {error}", self.identity);
            Error::new(ErrorKind::Device, "model_failed", message)
        })?;
        let dim = self.dim();
        let mut rows = Vec::with_capacity(spans.len() * dim);
        for span in spans {
            let mut row = mean(&states[span.start * dim..span.end * dim], dim);
            if row.iter().any(|x| !x.is_finite()) {
                let message =
                    format!("{}: a text gives numbers that are not finite", self.identity);
                return Err(Error::new(ErrorKind::BadInput, "vector_not_finite", message));
            }
            normalise(&mut row);
            rows.extend(row);
        }
        Ok(rows)
    }
}

/// Mean of rows `[n, dim]`, summed in 64 bits.
fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let n = (rows.len() / dim) as f64;
    sums.into_iter().map(|sum| (sum / n) as f32).collect()
}

/// Runs of texts with up to [`BATCH_TOKENS`] tokens in all, at least one text each.
fn batches(texts: &[(usize, Vec<u32>)]) -> Vec<&[(usize, Vec<u32>)]> {
    let (mut batches, mut rest, mut n_tokens, mut n) = (Vec::new(), texts, 0, 0);
    for (_, ids) in texts {
        if n > 0 && n_tokens + ids.len() + 2 > BATCH_TOKENS {
            let (batch, after) = rest.split_at(n);
            batches.push(batch);
            (rest, n_tokens, n) = (after, 0, 0);
        }
        n_tokens += ids.len() + 2;
        n += 1;
    }
    if !rest.is_empty() {
        batches.push(rest);
    }
    batches
}

impl Embedder for Bert {
    fn dim(&self) -> usize {
        self.folder.dim
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn embed(&self, texts: &[&str]) -> Result<Rows> {
        let dim = self.dim();
        let mut values = vec![0.0; texts.len() * dim];
        let made: Vec<(usize, Vec<f32>)> = self.pool.install(|| {
            let ids = texts.par_iter().enumerate().map(|(at, text)| (at, self.tokens(text).ids));
            let ids: Vec<(usize, Vec<u32>)> = ids.filter(|(_, ids)| !ids.is_empty()).collect();
            let rows = batches(&ids).into_par_iter().map(|batch| {
                let of_batch: Vec<Vec<u32>> = batch.iter().map(|(_, ids)| ids.clone()).collect();
                let rows = self.batch(&of_batch)?;
                let rows = rows.chunks_exact(dim).map(<[f32]>::to_vec);
                Ok(batch.iter().map(|&(at, _)| at).zip(rows).collect::<Vec<_>>())
            });
            rows.collect::<Result<Vec<_>>>().map(|rows| rows.into_iter().flatten().collect())
        })?;
        for (at, row) in made {
            values[at * dim..(at + 1) * dim].copy_from_slice(&row);
        }
        Rows::new(Values::F32(values.into()), dim)
    }

    fn n_cut(&self, texts: &[&str]) -> usize {
        let is_cut = |text: &&&str| self.tokens(text).is_cut;
        self.pool.install(|| texts.par_iter().filter(is_cut).count())
    }
}

#[cfg(test)]
mod tests;
