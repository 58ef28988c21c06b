//! A stream of requests, replayed against an empty cache at all thresholds at once.

use crate::cache::calibrate::{Count, Curve, THRESHOLDS, threshold};
use crate::distance::Level;
use crate::distance::simd::{Kernels, Sum};

/// Hits and errors of the requests in this order, at every threshold. At each of them the nearest prompt that is stored
/// answers, if it is as near as the threshold and `agrees(stored, asked)`; what is not answered is stored. An answer is right
/// if both have one intent; a request without has no right answer. `rows` `[n, dim]` have norm 1. Computes every request with
/// all before it.
///
/// # Panics
/// If there are not as many rows as intents.
pub fn of_stream(
    rows: &[f32],
    dim: usize,
    intents: &[Option<u32>],
    agrees: &dyn Fn(usize, usize) -> bool,
) -> Curve {
    assert_eq!(rows.len(), intents.len() * dim, "a row for each request");
    let kernels = Kernels::at(Level::best());
    let starts: Vec<usize> = (0..intents.len()).map(|i| i * dim).collect();
    let mut similarities = vec![0.0; intents.len()];
    let mut counts = vec![Count::default(); THRESHOLDS];
    // Bit `t` of one: it is stored in the cache of threshold `t`.
    let mut stored = vec![0u128; intents.len()];
    for asked in 0..intents.len() {
        let row = &rows[asked * dim..(asked + 1) * dim];
        kernels.rows_f32(Sum::Dot, row, rows, &starts[..asked], &mut similarities[..asked]);
        let mut missed = ALL;
        for (near, waiting) in nearest(&similarities[..asked], &stored) {
            if !agrees(near, asked) {
                continue;
            }
            let is_right = intents[near].is_some() && intents[near] == intents[asked];
            let reached = |t: &usize| similarities[near] >= threshold(*t);
            for t in (0..THRESHOLDS).take_while(reached).filter(|t| waiting >> t & 1 == 1) {
                counts[t].hits += 1;
                counts[t].errors += u64::from(!is_right);
                missed &= !(1 << t);
            }
        }
        stored[asked] = missed;
    }
    Curve { n: intents.len() as u64, counts }
}

/// All thresholds.
const ALL: u128 = (1u128 << THRESHOLDS) - 1;

/// The nearest stored prompt of each threshold, as the prompt and the thresholds whose nearest it is. Prompts below the
/// loosest threshold are left out. Of equal ones the first counts.
fn nearest(similarities: &[f32], stored: &[u128]) -> Vec<(usize, u128)> {
    let is_near = |&i: &usize| similarities[i] >= threshold(0);
    let mut near: Vec<usize> = (0..similarities.len()).filter(is_near).collect();
    near.sort_by(|&a, &b| similarities[b].total_cmp(&similarities[a]).then(a.cmp(&b)));
    let mut waiting = ALL;
    let mut found = Vec::new();
    for i in near {
        if stored[i] & waiting != 0 {
            found.push((i, stored[i] & waiting));
            waiting &= !stored[i];
        }
        if waiting == 0 {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;
    use crate::embed::normalise;

    /// One cache of one threshold, asked one request after the other.
    fn plain(rows: &[f32], dim: usize, intents: &[Option<u32>], t: f32) -> Count {
        let row = |i: usize| &rows[i * dim..(i + 1) * dim];
        let (mut stored, mut count) = (Vec::<usize>::new(), Count::default());
        for asked in 0..intents.len() {
            let dot = |i: usize| row(i).iter().zip(row(asked)).map(|(a, b)| a * b).sum::<f32>();
            let near = stored.iter().copied().reduce(|a, b| if dot(b) > dot(a) { b } else { a });
            match near.filter(|&near| dot(near) >= t && !(near + asked).is_multiple_of(7)) {
                Some(near) => {
                    count.hits += 1;
                    let is_right = intents[near].is_some() && intents[near] == intents[asked];
                    count.errors += u64::from(!is_right);
                }
                None => stored.push(asked),
            }
        }
        count
    }

    #[test]
    fn all_thresholds_at_once_are_as_each_one_alone() {
        for seed in 0..6 {
            let (n, dim) = (150, 5);
            let number = |i: usize| (stream(seed, i as u64) % 2001) as f32 / 1000.0 - 1.0;
            let mut rows: Vec<f32> = (0..n * dim).map(number).collect();
            rows.chunks_mut(dim).for_each(|row| assert!(normalise(row)));
            let intent = |i: usize| Some((stream(seed, 9999 + i as u64) % 4) as u32);
            let intents: Vec<_> = (0..n).map(|i| intent(i).filter(|&x| x > 0)).collect();
            let curve =
                of_stream(&rows, dim, &intents, &|near, asked| !(near + asked).is_multiple_of(7));
            for t in 0..THRESHOLDS {
                let plain = plain(&rows, dim, &intents, threshold(t));
                assert_eq!(curve.counts[t], plain, "seed {seed} at {}", threshold(t));
            }
        }
    }
}
