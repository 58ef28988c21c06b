//! Several lists made into one.
//!
//! Paper: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion", SIGIR 2009; here ranks are weighted.

use std::collections::HashMap;

use crate::engine::query::request::{Fusion, Prefetch};
use crate::engine::query::score::Ranked;
use crate::engine::query::stage::{StageFound, Walk, Window};
use crate::error::Result;

/// Standard deviations between the mean of a list and the ends of its scale.
const DEVIATIONS: f64 = 3.0;

impl Walk<'_> {
    /// The points of all prefetches that pass the filter of the stage, each once.
    pub fn fused(
        &self,
        stage: &Prefetch,
        fusion: &Fusion,
        sources: &[Vec<Ranked>],
        window: Window,
    ) -> Result<StageFound> {
        let mut points = fuse(fusion, sources);
        let n_matches = Some(points.len() as u64);
        points.truncate(window.end());
        points.retain(|point| stage.threshold.is_none_or(|threshold| point.score >= threshold));
        Ok(StageFound { points: window.of(points), n_matches, way: None })
    }
}

/// One list, greatest score first; points of one score in the order in which they came up. What else is known of a point is
/// what was when it came up first.
fn fuse(fusion: &Fusion, lists: &[Vec<Ranked>]) -> Vec<Ranked> {
    let mut fused: Vec<(Ranked, f64)> = Vec::new();
    let mut seen: HashMap<u32, usize> = HashMap::new();
    for (i, list) in lists.iter().enumerate() {
        let scores = match fusion {
            Fusion::ReciprocalRank { k, weights } => {
                by_rank(list.len(), *k, weights.as_ref().map_or(1.0, |weights| weights[i]))
            }
            Fusion::DistributionBased => by_distribution(list),
        };
        for (point, score) in list.iter().zip(scores) {
            let at = *seen.entry(point.place).or_insert_with(|| {
                fused.push((*point, 0.0));
                fused.len() - 1
            });
            fused[at].1 += score;
        }
    }
    fused.sort_by(|a, b| b.1.total_cmp(&a.1));
    fused.into_iter().map(|(point, score)| Ranked { score: score as f32, ..point }).collect()
}

fn by_rank(n: usize, k: u32, weight: f32) -> Vec<f64> {
    let (k, weight) = (f64::from(k), f64::from(weight));
    let score = |rank: usize| match weight > 0.0 {
        true => 1.0 / ((rank as f64 + 1.0) / weight + k - 1.0),
        false => 0.0,
    };
    (0..n).map(score).collect()
}

/// Scores on a scale on which all lists have one mean and one deviation.
fn by_distribution(list: &[Ranked]) -> Vec<f64> {
    let scores: Vec<f64> = list.iter().map(|point| point.score.into()).collect();
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // A list of one point has no deviation.
    if scores.len() < 2 || variance == 0.0 {
        return vec![0.5; scores.len()];
    }
    let half = DEVIATIONS * variance.sqrt();
    scores.into_iter().map(|score| (score - mean + half) / (2.0 * half)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(scores: &[(u32, f32)]) -> Vec<Ranked> {
        scores.iter().map(|&(place, score)| Ranked::new(place, score)).collect()
    }

    fn shown(fused: &[Ranked]) -> Vec<(u32, f32)> {
        fused.iter().map(|point| (point.place, (point.score * 1e4).round() / 1e4)).collect()
    }

    #[test]
    fn ranks_are_added_and_equal_sums_stay_in_order() {
        let lists = [list(&[(7, 0.9), (3, 0.8), (5, 0.1)]), list(&[(3, 9.0), (7, 8.0)])];
        let plain = Fusion::ReciprocalRank { k: 2, weights: None };
        assert_eq!(shown(&fuse(&plain, &lists)), [(7, 0.8333), (3, 0.8333), (5, 0.25)]);
        let weighted = Fusion::ReciprocalRank { k: 1, weights: Some(vec![0.0, 2.0]) };
        assert_eq!(shown(&fuse(&weighted, &lists)), [(3, 2.0), (7, 1.0), (5, 0.0)]);
    }

    #[test]
    fn lists_of_different_scales_count_the_same() {
        let small = list(&[(1, 0.3), (2, 0.2), (3, 0.1)]);
        let large = list(&[(3, 300.0), (2, 200.0), (1, 100.0)]);
        // What is left of one in the last bits orders them.
        let mut fused = shown(&fuse(&Fusion::DistributionBased, &[small, large]));
        fused.sort_unstable_by_key(|point| point.0);
        assert_eq!(fused, [(1, 1.0), (2, 1.0), (3, 1.0)]);
        let one = fuse(&Fusion::DistributionBased, &[list(&[(1, 8.0)]), Vec::new()]);
        assert_eq!(shown(&one), [(1, 0.5)]);
        let equal = fuse(&Fusion::DistributionBased, &[list(&[(1, 8.0), (2, 8.0)])]);
        assert_eq!(shown(&equal), [(1, 0.5), (2, 0.5)]);
    }
}
