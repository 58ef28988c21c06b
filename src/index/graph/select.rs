//! Which of many near slots become links: those for which no nearer link stands.

use crate::core::neighbors::Neighbor;
use crate::index::graph::distances::Distances;

/// At most `most` of `candidates`, nearest first: one is kept unless a kept one is nearer to it than the slot whose links
/// these are; of equal rows one is kept. Places that are left go to the nearest of the others.
///
/// Paper: Malkov, Yashunin 2018, algorithm 4, with `keepPrunedConnections`.
pub fn select<D: Distances>(
    distances: &D,
    candidates: Vec<Neighbor>,
    most: usize,
) -> Vec<Neighbor> {
    if candidates.len() <= 1 {
        return candidates;
    }
    let (mut left, mut others) = (candidates, Vec::new());
    let mut kept = Vec::with_capacity(most);
    let (mut slots, mut apart) = (Vec::new(), Vec::new());
    while kept.len() < most && !left.is_empty() {
        let nearest = left.remove(0);
        kept.push(nearest);
        slots.clear();
        slots.extend(left.iter().map(|candidate| candidate.slot));
        apart.resize(slots.len(), 0.0);
        distances.measure(&distances.query_of(nearest.slot), &slots, &mut apart);
        let mut apart = apart.iter();
        left.retain(|candidate| {
            let &apart = apart.next().expect("measured for every candidate");
            // A row equal to the origin is as near to everything as the origin is; it stands for its equals only.
            let is_equal = nearest.distance == candidate.distance;
            let is_kept = apart > candidate.distance || apart == candidate.distance && !is_equal;
            if !is_kept {
                others.push(*candidate);
            }
            is_kept
        });
    }
    let n_left = most.saturating_sub(kept.len()).min(others.len());
    if n_left > 0 {
        // Stable, so that equal rows have one order.
        others.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        kept.extend_from_slice(&others[..n_left]);
    }
    kept
}
