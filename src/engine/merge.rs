//! What came since the base was built becomes part of it: rows that are gone are taken out of the graph in place, new ones put
//! in, and places that were given up are used again, so that a base does not grow by being changed.

use std::collections::HashMap;

use rayon::ThreadPool;
use roaring::RoaringBitmap;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::core::ids::POINT_KEY_BYTES;
use crate::core::rows::Rows;
use crate::engine::base::{Base, SEED};
use crate::engine::kept::rows_of;
use crate::engine::near::Placed;
use crate::engine::passing::KnownSets;
use crate::engine::places::{BasePlaces, NONE, Places};
use crate::engine::space::Space;
use crate::engine::spaces::VectorSpace;
use crate::engine::state::State;
use crate::error::Result;
use crate::index::graph::Scratch;
use crate::index::tree;
use crate::plan::filter::Points;
use crate::store::durable::View;

/// The share of a base that may change before it is built anew, which then is as fast, and in tree order.
const MOST_CHANGED: f64 = 0.5;

/// Places of a base to be, by those of the state.
struct Moves {
    n_base: u32,
    /// Places whose point is gone, ascending.
    gone: Vec<u32>,
    /// Recent places and those they get, both ascending.
    moved: Vec<(u32, u32)>,
}

impl Moves {
    fn of(places: &Places) -> Self {
        let n_base = places.n_base();
        let mut gone = RoaringBitmap::new();
        gone.insert_range(0..n_base);
        gone -= places.live();
        let free = gone.iter().chain(n_base..);
        let moved: Vec<(u32, u32)> = places.live().range(n_base..).zip(free).collect();
        let n_base = moved.last().map_or(n_base, |last| n_base.max(last.1 + 1));
        Self { n_base, gone: gone.iter().collect(), moved }
    }

    /// Where the point of a place of a base of this size, or a recent one, will lie.
    fn to(&self, place: u32, n_base: u32) -> Option<u32> {
        match self.moved.binary_search_by_key(&place, |moved| moved.0) {
            Ok(at) => Some(self.moved[at].1),
            Err(_) => (place < n_base && self.gone.binary_search(&place).is_err()).then_some(place),
        }
    }
}

impl State {
    /// A state of the same points whose base is all of them; `view` is of its version. `None` if so much changed that one is better
    /// built anew, or some vector has nothing yet that could be changed.
    ///
    /// Cost: an insertion into the graph for every new row, about one for every row that is gone, the codes for exact answers
    /// of all rows anew; rows are copied once.
    ///
    /// # Errors
    /// Those of reading payloads and of the parts.
    pub fn merged(&self, view: View, backend: &Cpu) -> Result<Option<Self>> {
        let moves = Moves::of(&self.places);
        let n_changed = moves.gone.len().max(moves.moved.len());
        let can_grow = self.spaces.iter().all(VectorSpace::can_grow);
        if !can_grow || n_changed as f64 > MOST_CHANGED * f64::from(self.places.n_base()) {
            return Ok(None);
        }
        let places = Places::of(base_places(&self.places, &moves));
        let to = |place: u32| moves.to(place, self.places.n_base());
        let mut spaces = Vec::new();
        for space in &self.spaces {
            spaces.push(match space {
                VectorSpace::Dense(space) => {
                    VectorSpace::Dense(Box::new(merged_space(space, &moves, backend)?))
                }
                VectorSpace::Multi(space) => {
                    VectorSpace::Multi(Box::new(space.moved(backend, to)?))
                }
                VectorSpace::Sparse(space) => {
                    VectorSpace::Sparse(Box::new(space.moved(backend, to)?))
                }
            });
        }
        let mut columns = self.columns.clone();
        let to: HashMap<u32, u32> = moves.moved.iter().copied().collect();
        let from: RoaringBitmap = moves.moved.iter().map(|moved| moved.0).collect();
        // First, since a place that one point leaves may be where the next one goes.
        from.iter().for_each(|place| columns.remove(place));
        self.read(&from, &mut |place, payload| columns.set(to[&place], payload))?;
        let (version, known) = (self.version, KnownSets::default());
        Ok(Some(Self { view, version, sealed: None, places, spaces, columns, known }))
    }
}

fn base_places(places: &Places, moves: &Moves) -> BasePlaces {
    let mut base = places.base().clone();
    let (slots, keys) = (base.slots.to_mut(), base.keys.to_mut());
    slots.resize(moves.n_base as usize, NONE);
    keys.resize(moves.n_base as usize * POINT_KEY_BYTES, 0);
    for &place in &moves.gone {
        slots[place as usize] = NONE;
    }
    for &(from, to) in &moves.moved {
        slots[to as usize] = places.slot(from);
        let start = to as usize * POINT_KEY_BYTES;
        keys[start..start + POINT_KEY_BYTES].copy_from_slice(&places.id(from).to_key());
    }
    BasePlaces::of_slots(base.slots, base.keys)
}

fn merged_space(space: &Space, moves: &Moves, backend: &Cpu) -> Result<Space> {
    let (base, pool) = (space.base.as_ref().expect("near"), backend.pool());
    let near = base.near.as_ref().expect("near");
    let metric = space.settings().metric;
    let mut recent = space.recent().rows();
    let has = |place: u32| space.has().is_none_or(|has| has.contains(place));
    let new: Vec<(u32, Rows)> = moves
        .moved
        .iter()
        .filter(|(from, _)| has(*from))
        .map(|(from, to)| {
            (*to, recent.remove(from).expect("recent places with this vector have a row"))
        })
        .collect();
    let bytes = patched(base.rows(), moves.n_base as usize, &new);
    let rows = rows_of(space.settings(), &bytes)?;
    drop(bytes);
    let mut merged = Base::of((backend, pool), rows, metric)?;
    let gone: Vec<u32> =
        moves.gone.iter().copied().filter(|&place| near.graph.contains(place)).collect();
    let mut graph = near.graph.clone();
    graph.remove(&base.raw, &gone, &mut Scratch::default())?;
    let slots: Vec<u32> = new.iter().map(|(to, _)| *to).collect();
    graph.insert(pool, &merged.raw, &slots)?;
    graph.repair(&merged.raw)?;
    let mut codes = near.codes.clone();
    if let Some(codes) = &mut codes {
        for (to, row) in &new {
            codes.put(pool, *to, row)?;
        }
    }
    let has = space.has().map(|has| {
        let mut kept: RoaringBitmap = has.range(0..base.rows().n_rows() as u32).collect();
        moves.gone.iter().for_each(|&place| {
            kept.remove(place);
        });
        kept.extend(slots.iter().copied());
        kept
    });
    let mut placed = placed_with(&near.placed, &new, moves.n_base, pool)?;
    divide_crowded(&mut placed, merged.rows(), |place| graph.contains(place), backend)?;
    merged.near = Some(near.with(pool, codes, graph, placed));
    Space::new(backend, space.settings().clone(), Some(merged), has)
}

/// The same tree, and paths with those of new rows.
fn placed_with(
    placed: &Placed,
    new: &[(u32, Rows)],
    n_base: u32,
    pool: &ThreadPool,
) -> Result<Placed> {
    let mut placed = placed.clone();
    let paths = placed.paths.to_mut();
    paths.resize(n_base as usize, 0);
    for (to, row) in new {
        paths[*to as usize] = placed.tree.place(pool, row)?[0];
    }
    Ok(placed)
}

/// Gives leaves of their own to leaves that have grown to twice what a tree is built with; rows of other leaves stay where they are.
fn divide_crowded(
    placed: &mut Placed,
    rows: &Rows,
    is_live: impl Fn(u32) -> bool,
    backend: &Cpu,
) -> Result<()> {
    let params = tree::BuildParams { seed: SEED, ..tree::BuildParams::default() };
    let Placed { tree, paths } = placed;
    let paths = paths.to_mut();
    let live: Vec<usize> = (0..paths.len()).filter(|&place| is_live(place as u32)).collect();
    let codes = live.iter().map(|&place| paths[place]);
    for (leaf, _) in tree.crowded(codes, 2 * params.max_leaf)? {
        let code = tree.nodes()[leaf as usize].code;
        let own: Vec<usize> = live.iter().copied().filter(|&place| paths[place] == code).collect();
        let on: (&dyn Backend, &ThreadPool) = (backend, backend.pool());
        let new = tree.divide(on, leaf, &rows.picked(&own), &params)?;
        for (place, code) in own.iter().zip(new.into_iter().flatten()) {
            paths[*place] = code;
        }
    }
    Ok(())
}

/// A copy of rows with others in some places; where there was no row, and is none, stands the first. As the record has them.
fn patched(rows: &Rows, n_rows: usize, new: &[(u32, Rows)]) -> Vec<u8> {
    let old = rows.values().bytes();
    let row_bytes = rows.dim() * rows.dtype().bytes();
    let mut all = Vec::with_capacity(n_rows * row_bytes);
    all.extend_from_slice(old);
    while all.len() < n_rows * row_bytes {
        all.extend_from_slice(&old[..row_bytes]);
    }
    for (place, row) in new {
        let start = *place as usize * row_bytes;
        all[start..start + row_bytes].copy_from_slice(row.values().bytes());
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::core::metric::Metric;
    use crate::core::mix::stream;
    use crate::core::rows::{Dtype, Values};
    use crate::engine::near::{Near, Scratches};
    use crate::engine::settings::{VectorSettings, VectorShape};

    const DIM: usize = 8;

    /// Rows in a cube with this corner.
    fn rows(n: usize, corner: f32, seed: u64) -> Rows {
        let value = |i| corner + (stream(seed, i) % 1000) as f32 / 1000.0;
        let values: Vec<f32> = (0..(n * DIM) as u64).map(value).collect();
        Rows::new(Values::F32(values.into()), DIM).unwrap()
    }

    #[test]
    fn a_leaf_that_has_grown_is_divided_and_no_row_changes_to_another() {
        let backend = Cpu::new(Arc::new(ThreadPoolBuilder::new().build().unwrap()), 1 << 30);
        let (first, later) = (rows(3000, 0.0, 1), rows(2000, 0.9, 2));
        let params = tree::BuildParams { seed: SEED, ..tree::BuildParams::default() };
        let on: (&dyn Backend, &ThreadPool) = (&backend, backend.pool());
        let built = tree::build(on, &first, Metric::L2, &params).unwrap();
        let order: Vec<usize> = built.order.iter().map(|&row| row as usize).collect();
        let all = first.picked(&order).followed_by(&later);
        let mut paths = built.paths;
        paths.extend(built.tree.place(backend.pool(), &later).unwrap());
        let (before, tree) = (paths.clone(), built.tree.clone());
        // A place that was given up has a code too, which says nothing.
        let is_live = |place: u32| place != 7;
        let live = |paths: &[u64]| -> Vec<u64> {
            (0..).zip(paths).filter(|(place, _)| is_live(*place)).map(|(_, &path)| path).collect()
        };
        let most = 2 * params.max_leaf;
        assert!(!tree.crowded(live(&before), most).unwrap().is_empty());
        let mut placed = Placed { tree: built.tree, paths: paths.into() };
        divide_crowded(&mut placed, &all, is_live, &backend).unwrap();
        assert!(placed.tree.crowded(live(&placed.paths), most).unwrap().is_empty());
        for (old, new) in before.iter().zip(&*placed.paths) {
            let leaf = tree.nodes()[tree.leaf_of(*old).unwrap() as usize];
            assert!((leaf.code..=leaf.last_code()).contains(new), "{old:016x} became {new:016x}");
        }
    }

    #[test]
    fn what_is_merged_has_no_row_that_went_and_no_crowded_leaf() {
        let backend = Cpu::new(Arc::new(ThreadPoolBuilder::new().build().unwrap()), 1 << 30);
        let (first, later) = (rows(3000, 0.0, 1), rows(1400, 0.9, 2));
        let params = tree::BuildParams { seed: SEED, ..tree::BuildParams::default() };
        let on = (&backend, backend.pool());
        let built = tree::build((&backend, on.1), &first, Metric::L2, &params).unwrap();
        let order: Vec<usize> = built.order.iter().map(|&row| row as usize).collect();
        let base = Base::of((on.0, on.1), first.picked(&order), Metric::L2).unwrap();
        let (name, dtype) = ("default".to_owned(), Dtype::F32);
        let settings =
            VectorSettings { name, dim: DIM, metric: Metric::L2, dtype, shape: VectorShape::Dense };
        let mut space = Space::new(&backend, settings, Some(base), None).unwrap();
        let placed = Placed { tree: built.tree, paths: built.paths.into() };
        space.build_near(&backend, placed).unwrap();
        space.push(&backend, (3000..4400).collect(), later).unwrap();

        // Two more go than are put in their places, so that some stay empty.
        let gone: Vec<u32> = (0..1402).map(|i| 2 * i).collect();
        let moved = (3000..4400).zip(gone.iter().copied()).collect();
        let moves = Moves { n_base: 3000, gone: gone.clone(), moved };
        let merged = merged_space(&space, &moves, &backend).unwrap();
        let Near { graph, placed, .. } = merged.near().unwrap();
        let kept: Vec<u32> = (0..3000).filter(|&place| graph.contains(place)).collect();
        let expected: Vec<u32> = (0..3000).filter(|place| !gone[1400..].contains(place)).collect();
        assert_eq!(kept, expected);
        let live = kept.iter().map(|&place| placed.paths[place as usize]);
        assert!(placed.tree.crowded(live, 2 * params.max_leaf).unwrap().is_empty());

        // A row that came is found by its signs, among all that are there.
        let (base, mut n_found) = (merged.base.as_ref().unwrap(), 0);
        let Near { codes: Some(codes), signs: Some(signs), .. } = merged.near().unwrap() else {
            panic!("codes and signs")
        };
        for &place in gone[..1400].iter().step_by(50) {
            let (query, scratch) = ((base.rows(), place as usize), &mut Scratches::default());
            let found = Near::signed((codes, signs), &base.raw, query, &kept, 1, scratch).unwrap();
            assert_eq!(found.n_signs, kept.len() as u64);
            n_found += usize::from(found.neighbors[0].slot == place);
        }
        assert_eq!(n_found, 28);
    }
}
