//! The layers of the model over the tokens of many texts. `plain.rs` is the same in loops.

use std::ops::Range;

use candle_core::{D, Device, Module, Result, Tensor};
use candle_nn::LayerNorm;
use candle_nn::ops::softmax_last_dim;

/// Weights, checked.
pub(super) struct Layers {
    /// `[n_words, dim]`
    pub words: Tensor,
    /// `[n_positions, dim]`, the row of the first token type added.
    pub positions: Tensor,
    pub norm: LayerNorm,
    pub layers: Vec<Layer>,
    pub n_heads: usize,
}

/// One layer: attention, then two dense ones, each added to what came in and normalised.
pub(super) struct Layer {
    pub query: Dense,
    pub key: Dense,
    pub value: Dense,
    pub mixed: Dense,
    pub mixed_norm: LayerNorm,
    pub inner: Dense,
    pub outer: Dense,
    pub outer_norm: LayerNorm,
}

/// `x · weight + bias`, the same bits for a row of `x` whatever other rows there are.
pub(super) struct Dense {
    weight: Tensor,
    bias: Tensor,
}

impl Dense {
    /// `weight` is `[to, from]`, as files have it. It is turned here, once: with the other layout, products of a few small
    /// rows would be summed in another order.
    pub fn new(weight: &Tensor, bias: Tensor) -> Result<Self> {
        Ok(Self { weight: weight.t()?.contiguous()?, bias })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

impl Layers {
    /// Last states `[n_tokens, dim]` of texts that stand end to end in `ids`, one in each of `spans`.
    pub fn states(&self, ids: &[u32], spans: &[Range<usize>]) -> Result<Vec<f32>> {
        let places: Vec<u32> = spans.iter().flat_map(|span| 0..span.len() as u32).collect();
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let places = Tensor::new(places, &Device::Cpu)?;
        let words = self.words.index_select(&ids, 0)?;
        let mut states = self.norm.forward(&(words + self.positions.index_select(&places, 0)?)?)?;
        for layer in &self.layers {
            states = layer.forward(&states, spans, self.n_heads)?;
        }
        states.flatten_all()?.to_vec1()
    }
}

impl Layer {
    fn forward(&self, states: &Tensor, spans: &[Range<usize>], n_heads: usize) -> Result<Tensor> {
        let (query, key) = (self.query.forward(states)?, self.key.forward(states)?);
        let value = self.value.forward(states)?;
        let mixed = spans.iter().map(|span| {
            let of_text = |x: &Tensor| heads(&x.narrow(0, span.start, span.len())?, n_heads);
            attention(&of_text(&query)?, &of_text(&key)?, &of_text(&value)?)
        });
        let mixed = Tensor::cat(&mixed.collect::<Result<Vec<_>>>()?, 0)?;
        let states = self.mixed_norm.forward(&(self.mixed.forward(&mixed)? + states)?)?;
        let inner = self.inner.forward(&states)?.gelu_erf()?;
        self.outer_norm.forward(&(self.outer.forward(&inner)? + &states)?)
    }
}

/// `[length, dim]` as `[n_heads, length, dim / n_heads]`.
fn heads(x: &Tensor, n_heads: usize) -> Result<Tensor> {
    let (length, dim) = x.dims2()?;
    x.reshape((length, n_heads, dim / n_heads))?.transpose(0, 1)?.contiguous()
}

/// Each head's values, weighted by how well queries and keys agree; heads side by side again: `[length, dim]`.
fn attention(query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
    let (_, length, head_dim) = query.dims3()?;
    let agreement = (query.matmul(&key.t()?)? / (head_dim as f64).sqrt())?;
    let mixed = softmax_last_dim(&agreement)?.matmul(value)?;
    let dim = mixed.dim(0)? * mixed.dim(D::Minus1)?;
    mixed.transpose(0, 1)?.reshape((length, dim))
}
