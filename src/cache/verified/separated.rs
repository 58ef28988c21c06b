//! Entries that were right at all similarities above those at which they were wrong: the likelihood then has no top, the
//! steeper the better, and its curvature says nothing of how sure the threshold is.

use crate::cache::verified::fit::Fit;

/// Number of observations, variance of the threshold around the middle of the gap, and steepness (its harmonic mean), of random
/// curves whose observations happen to be separated. Made by `benches/verified_table.py`.
const TABLE: [(usize, f64, f64); 12] = [
    (6, 0.019072, 34.0),
    (8, 0.013604, 36.4),
    (10, 0.010257, 38.6),
    (12, 0.008752, 41.8),
    (16, 0.006490, 47.9),
    (20, 0.004888, 55.4),
    (24, 0.004232, 60.4),
    (32, 0.003192, 72.1),
    (48, 0.002308, 90.3),
    (64, 0.002050, 103.7),
    (96, 0.001504, 121.5),
    (130, 0.001224, 133.4),
];

/// The curve whose threshold lies in the middle of the gap; `None` if right and wrong observations overlap.
pub fn separated(all: &[(f64, bool)]) -> Option<Fit> {
    let of = |kind: bool| all.iter().filter(move |(_, right)| *right == kind).map(|(s, _)| *s);
    let most_wrong = of(false).fold(f64::NEG_INFINITY, f64::max);
    let least_right = of(true).fold(f64::INFINITY, f64::min);
    if most_wrong > least_right {
        return None;
    }
    let (variance, steepness) = looked_up(all.len());
    let threshold = f64::midpoint(most_wrong, least_right).clamp(0.0, 1.0);
    Some(Fit {
        threshold: threshold as f32,
        steepness: steepness as f32,
        variance: variance as f32,
    })
}

/// Variance and steepness for so many observations: between two rows of the table, beyond it those of its ends.
fn looked_up(n: usize) -> (f64, f64) {
    let after = TABLE.iter().position(|row| row.0 >= n).unwrap_or(TABLE.len() - 1).max(1);
    let ((from, v0, s0), (to, v1, s1)) = (TABLE[after - 1], TABLE[after]);
    let part = (n.clamp(from, to) - from) as f64 / (to - from) as f64;
    (v0 + part * (v1 - v0), s0 + part * (s1 - s0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_met_at_its_rows_and_between_them() {
        for (n, variance, steepness) in TABLE {
            assert_eq!(looked_up(n), (variance, steepness));
        }
        assert_eq!(looked_up(7), ((0.019072 + 0.013604) / 2.0, (34.0 + 36.4) / 2.0));
        assert_eq!((looked_up(1), looked_up(999)), (looked_up(6), looked_up(130)));
    }

    #[test]
    fn overlapping_observations_are_not_separated_and_touching_ones_are() {
        assert!(separated(&[(0.0, false), (0.6, true), (0.7, false), (1.0, true)]).is_none());
        let fit = separated(&[(0.0, false), (0.6, false), (0.6, true), (1.0, true)]).unwrap();
        assert_eq!(fit.threshold, 0.6);
    }
}
