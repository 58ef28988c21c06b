//! Giving each row to the nearest of many centres, by bytes: which is nearest need not be exact, and a product of bytes takes a fourth of
//! the time.

use half::f16;
use rayon::prelude::*;

use crate::cache::cells::divide::{centre, divided};
use crate::cache::cells::{Cell, Loops};
use crate::distance::simd::{Pass, Sum, Unit};

/// Centres that are compared with some rows at once: their products fit the first-level cache.
const TILE: usize = 64;

/// The same rows, each in the group whose centre is nearest, as it would be had they come one by one: dividing again and again leaves
/// many on the wrong side.
pub(super) fn gathered(loops: &Loops, whole: &Cell, groups: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let centres: Vec<f16> =
        groups.par_iter().flat_map_iter(|rows| centre(loops, whole, rows)).collect();
    let centres = Centres::new(loops, &centres);
    let n_lanes = loops.kernels.widths()[1];
    let n = whole.hots.len();
    let firsts = (0..n.div_ceil(n_lanes)).into_par_iter().map(|block| block * n_lanes);
    let nearest: Vec<u32> = firsts
        .flat_map_iter(|first| centres.nearest(loops, whole, first..(first + n_lanes).min(n)))
        .collect();
    let mut gathered = vec![Vec::new(); groups.len()];
    nearest.iter().zip(0..).for_each(|(&group, row)| gathered[group as usize].push(row));
    gathered.retain(|rows| !rows.is_empty());
    gathered.into_par_iter().flat_map_iter(|rows| divided(loops, whole, rows)).collect()
}

/// Centres as the loops over bytes read rows.
struct Centres {
    unit: Unit,
    /// Units of a vector.
    len: usize,
    units: Vec<i32>,
    starts: Vec<usize>,
}

impl Centres {
    fn new(loops: &Loops, centres: &[f16]) -> Self {
        let unit = loops.kernels.unit(Sum::Dot);
        let len = loops.dim.div_ceil(per_unit(unit));
        // One scale for all, so that products are in the order of the cosines.
        let scale = scale(centres);
        let rows = centres.chunks_exact(loops.dim);
        let units = rows.flat_map(|row| units(unit, row, scale, 128)).collect();
        Self { unit, len, units, starts: (0..TILE).map(|row| row * len).collect() }
    }

    /// The number of the nearest centre of each of some rows, as many as a panel is wide at most.
    fn nearest(&self, loops: &Loops, whole: &Cell, rows: std::ops::Range<usize>) -> Vec<u32> {
        let width = loops.kernels.widths()[1];
        let mut panel = vec![0; self.len * width];
        for (lane, at) in rows.clone().enumerate() {
            let row = whole.row(at, loops.dim);
            let places = panel[lane..].iter_mut().step_by(width);
            places.zip(units(self.unit, row, scale(row), 0)).for_each(|(to, unit)| *to = unit);
        }
        let mut nearest = vec![(i32::MIN, 0); rows.len()];
        let mut sums = vec![0; TILE * width];
        for (tile, centres) in self.units.chunks(TILE * self.len).enumerate() {
            let n = centres.len() / self.len;
            let (sums, pass) = (&mut sums[..n * width], Pass { first: true, fetch: false });
            loops.kernels.tile_bytes(
                Sum::Dot,
                width,
                centres,
                &self.starts[..n],
                &panel,
                sums,
                pass,
            );
            for (centre, sums) in sums.chunks_exact(width).enumerate() {
                let number = (tile * TILE + centre) as u32;
                for (nearest, &sum) in nearest.iter_mut().zip(sums) {
                    *nearest = if sum > nearest.0 { (sum, number) } else { *nearest };
                }
            }
        }
        nearest.into_iter().map(|(_, number)| number).collect()
    }
}

fn per_unit(unit: Unit) -> usize {
    match unit {
        Unit::Pair => 2,
        Unit::Quad => 4,
    }
}

/// What makes bytes of elements.
fn scale(row: &[f16]) -> f32 {
    let most = row.iter().fold(0.0f32, |most, x| most.max(x.to_f32().abs()));
    if most > 0.0 { 127.0 / most } else { 0.0 }
}

/// A vector of bytes in units. What is added to each byte of all centres adds the same to all products of a row.
fn units(unit: Unit, row: &[f16], scale: f32, added: i16) -> impl Iterator<Item = i32> {
    let byte = move |x: &f16| (x.to_f32() * scale).round() as i16 + added;
    row.chunks(per_unit(unit)).map(move |some| {
        let mut bytes = [0; 4];
        some.iter().zip(&mut bytes).for_each(|(x, to)| *to = byte(x));
        match unit {
            Unit::Pair => i32::from(bytes[0] as u16) | i32::from(bytes[1]) << 16,
            Unit::Quad => i32::from_le_bytes(bytes.map(|byte| byte as u8)),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::cells::tests::{hot, query};

    #[test]
    fn the_nearest_centre_by_bytes_is_nearly_the_nearest() {
        let loops = Loops::new(48);
        let mut whole = Cell::default();
        (0..300).for_each(|id| whole.append(Arc::clone(&hot(id)), &query(id).kept()));
        let centres: Vec<f16> = (0..101).flat_map(|id| query(1000 + id).kept()).collect();
        let by_bytes = Centres::new(&loops, &centres);
        let n_lanes = loops.kernels.widths()[1];
        for first in (0..300).step_by(n_lanes) {
            let rows = first..(first + n_lanes).min(300);
            let nearest = by_bytes.nearest(&loops, &whole, rows.clone());
            for (at, centre) in rows.zip(nearest) {
                let row = query(at as u64);
                let cosine = |centre: usize| row.cosine(&centres[centre * 48..(centre + 1) * 48]);
                let best = (0..101).map(cosine).fold(-1.0, f32::max);
                assert!(cosine(centre as usize) > best - 0.03, "row {at}: centre {centre}");
            }
        }
    }
}
