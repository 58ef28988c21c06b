//! The model in loops: the specification of `forward.rs`.

use std::collections::HashMap;

/// Tensors by name, as rows of f32.
pub type Weights = HashMap<String, Vec<f32>>;

/// Mean of the last states of one text, not scaled to norm 1.
pub fn row(weights: &Weights, dim: usize, n_heads: usize, epsilon: f32, ids: &[u32]) -> Vec<f32> {
    let of = |name: &str| weights[name].as_slice();
    let types = of("embeddings.token_type_embeddings.weight");
    let mut states: Vec<Vec<f32>> = Vec::new();
    for (place, &id) in ids.iter().enumerate() {
        let word = &of("embeddings.word_embeddings.weight")[id as usize * dim..];
        let position = &of("embeddings.position_embeddings.weight")[place * dim..];
        let state: Vec<f32> = (0..dim).map(|i| word[i] + position[i] + types[i]).collect();
        states.push(norm(weights, "embeddings.LayerNorm", epsilon, &state));
    }
    let mut layer = 0;
    while weights.contains_key(&format!("encoder.layer.{layer}.output.dense.weight")) {
        let at = format!("encoder.layer.{layer}");
        let dense = |name: &str, x: &[f32]| linear(weights, &format!("{at}.{name}"), x);
        let all = |name: &str| states.iter().map(|x| dense(name, x)).collect::<Vec<_>>();
        let (queries, keys) = (all("attention.self.query"), all("attention.self.key"));
        let values = all("attention.self.value");
        let mut next = Vec::new();
        for (state, query) in states.iter().zip(&queries) {
            let mixed = attention(query, &keys, &values, dim / n_heads);
            let mixed = add(&dense("attention.output.dense", &mixed), state);
            let state = norm(weights, &format!("{at}.attention.output.LayerNorm"), epsilon, &mixed);
            let inner: Vec<f32> =
                dense("intermediate.dense", &state).into_iter().map(gelu).collect();
            let outer = add(&dense("output.dense", &inner), &state);
            next.push(norm(weights, &format!("{at}.output.LayerNorm"), epsilon, &outer));
        }
        states = next;
        layer += 1;
    }
    (0..dim).map(|i| states.iter().map(|state| state[i]).sum::<f32>() / ids.len() as f32).collect()
}

fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn linear(weights: &Weights, name: &str, x: &[f32]) -> Vec<f32> {
    let rows = weights[&format!("{name}.weight")].chunks_exact(x.len());
    let bias = &weights[&format!("{name}.bias")];
    rows.zip(bias)
        .map(|(row, bias)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>() + bias)
        .collect()
}

fn norm(weights: &Weights, name: &str, epsilon: f32, x: &[f32]) -> Vec<f32> {
    let n = x.len() as f32;
    let mean = x.iter().sum::<f32>() / n;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
    let (scale, shift) = (&weights[&format!("{name}.weight")], &weights[&format!("{name}.bias")]);
    let unit = x.iter().map(|x| (x - mean) / (variance + epsilon).sqrt());
    unit.zip(scale).zip(shift).map(|((x, scale), shift)| x * scale + shift).collect()
}

fn attention(query: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>], head_dim: usize) -> Vec<f32> {
    let mut mixed = vec![0.0; query.len()];
    for start in (0..query.len()).step_by(head_dim) {
        let head = start..start + head_dim;
        let agreement: Vec<f32> = keys
            .iter()
            .map(|key| head.clone().map(|i| query[i] * key[i]).sum::<f32>())
            .map(|sum| sum / (head_dim as f32).sqrt())
            .collect();
        let largest = agreement.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = agreement.iter().map(|x| (x - largest).exp()).collect();
        let sum: f32 = weights.iter().sum();
        for (weight, value) in weights.iter().zip(values) {
            head.clone().for_each(|i| mixed[i] += weight / sum * value[i]);
        }
    }
    mixed
}

/// `x` times the normal distribution function, whose integral is summed by Simpson's rule.
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let (n, step) = (200, x / 200.0);
    let weight = |i: usize| {
        if i == 0 || i == n {
            1.0
        } else if i % 2 == 1 {
            4.0
        } else {
            2.0
        }
    };
    let integral: f64 = (0..=n).map(|i| weight(i) * density(i as f64 * step)).sum();
    (x * (0.5 + integral * step / 3.0)) as f32
}
