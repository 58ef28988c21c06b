//! The tensors of `model.safetensors`, each compared with the shape that the configuration gives it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::LayerNorm;
use xxhash_rust::xxh3::xxh3_64;

use crate::core::limits::MODEL_BYTES;
use crate::embed::bert::folder::Folder;
use crate::embed::bert::forward::{Dense, Layer, Layers};
use crate::error::{Error, ErrorKind, IoContext, Result};

/// Reads the layers of the model, and a hash of the file.
pub(super) fn read(path: &Path, folder: &Folder) -> Result<(Layers, u64)> {
    let bytes = bytes(path)?;
    let hash = xxh3_64(&bytes);
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
    let tensors = tensors.map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Error::new(ErrorKind::BadInput, "model_invalid", message)
    })?;
    // Models that were saved with a head on top of the layers have one more name in front.
    let plain = |name: String| name.strip_prefix("bert.").map(str::to_owned).unwrap_or(name);
    let tensors = tensors.into_iter().map(|(name, tensor)| (plain(name), tensor)).collect();
    let layers = Tensors { path, tensors, folder }.layers()?;
    Ok((layers, hash))
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("{} does not exist", path.display());
            return Err(Error::new(ErrorKind::NotFound, "not_found", message));
        }
        file => file.at("open", path)?,
    };
    let n_bytes = file.metadata().at("look at", path)?.len();
    if n_bytes > MODEL_BYTES {
        let message =
            format!("{}: {n_bytes} bytes, limit {} GiB", path.display(), MODEL_BYTES >> 30);
        return Err(Error::new(ErrorKind::Limit, "model_size", message));
    }
    let mut bytes = Vec::with_capacity(n_bytes as usize);
    file.take(MODEL_BYTES).read_to_end(&mut bytes).at("read", path)?;
    Ok(bytes)
}

struct Tensors<'a> {
    path: &'a Path,
    tensors: HashMap<String, Tensor>,
    folder: &'a Folder,
}

impl Tensors<'_> {
    fn layers(mut self) -> Result<Layers> {
        let &Folder { dim, inner_dim, n_words, n_positions, n_types, .. } = self.folder;
        let words = self.take("embeddings.word_embeddings.weight", &[n_words, dim])?;
        let positions = self.take("embeddings.position_embeddings.weight", &[n_positions, dim])?;
        let types = self.take("embeddings.token_type_embeddings.weight", &[n_types, dim])?;
        // Each text is of the first type: that row belongs to every position.
        let positions = types.get(0).and_then(|first| positions.broadcast_add(&first));
        let positions = positions.map_err(|error| self.wrong(&error.to_string()))?;
        let norm = self.norm("embeddings.LayerNorm")?;
        let layers = (0..self.folder.n_layers).map(|number| {
            let at = format!("encoder.layer.{number}");
            Ok(Layer {
                query: self.linear(&format!("{at}.attention.self.query"), dim, dim)?,
                key: self.linear(&format!("{at}.attention.self.key"), dim, dim)?,
                value: self.linear(&format!("{at}.attention.self.value"), dim, dim)?,
                mixed: self.linear(&format!("{at}.attention.output.dense"), dim, dim)?,
                mixed_norm: self.norm(&format!("{at}.attention.output.LayerNorm"))?,
                inner: self.linear(&format!("{at}.intermediate.dense"), dim, inner_dim)?,
                outer: self.linear(&format!("{at}.output.dense"), inner_dim, dim)?,
                outer_norm: self.norm(&format!("{at}.output.LayerNorm"))?,
            })
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(Layers { words, positions, norm, layers, n_heads: self.folder.n_heads })
    }

    fn linear(&mut self, name: &str, from: usize, to: usize) -> Result<Dense> {
        let weight = self.take(&format!("{name}.weight"), &[to, from])?;
        let bias = self.take(&format!("{name}.bias"), &[to])?;
        Dense::new(&weight, bias).map_err(|error| self.wrong(&format!("{name}: {error}")))
    }

    fn norm(&mut self, name: &str) -> Result<LayerNorm> {
        let weight = self.take(&format!("{name}.weight"), &[self.folder.dim])?;
        let bias = self.take(&format!("{name}.bias"), &[self.folder.dim])?;
        Ok(LayerNorm::new(weight, bias, self.folder.epsilon))
    }

    /// The tensor of this name as f32.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(tensor) = self.tensors.remove(name) else {
            return Err(self.wrong(&format!("no tensor {name}, expected one of {shape:?}")));
        };
        if tensor.dims() != shape {
            let found = tensor.dims();
            return Err(self.wrong(&format!("{name} is {found:?}, expected {shape:?}")));
        }
        if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16) {
            let found = tensor.dtype().as_str();
            return Err(self.wrong(&format!("{name} is of {found}, expected f32, f16 or bf16")));
        }
        let tensor = tensor.to_dtype(DType::F32);
        let tensor = tensor.map_err(|error| self.wrong(&format!("{name}: {error}")))?;
        match tensor.flatten_all().and_then(|all| all.to_vec1::<f32>()) {
            Ok(numbers) if numbers.iter().all(|x| x.is_finite()) => Ok(tensor),
            Ok(_) => Err(self.wrong(&format!("{name} has numbers that are not finite"))),
            Err(error) => Err(self.wrong(&format!("{name}: {error}"))),
        }
    }

    fn wrong(&self, what: &str) -> Error {
        let message = format!("{}: {what}", self.path.display());
        Error::new(ErrorKind::BadInput, "model_tensor", message)
    }
}
