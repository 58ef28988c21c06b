//! Lists against vectors compared one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::ThreadPoolBuilder;

use super::*;
use crate::core::mix::stream;

type Model = BTreeMap<u32, SparseVector>;

struct World {
    backend: Cpu,
    space: SparseSpace,
    model: Model,
    seed: u64,
    n: u64,
}

fn backend() -> Cpu {
    Cpu::new(Arc::new(ThreadPoolBuilder::new().num_threads(1).build().unwrap()), 1 << 30)
}

impl World {
    fn new(seed: u64, idf: bool) -> Self {
        let (backend, model) = (backend(), Model::new());
        let settings = VectorSettings::sparse("s", idf);
        let space = SparseSpace::of(&backend, settings, &Kept::default()).unwrap();
        Self { backend, space, model, seed, n: 0 }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.n += 1;
        stream(self.seed, self.n) % n
    }

    /// A few of the indices that many have, and now and then one that few have; it may have none.
    fn vector(&mut self) -> SparseVector {
        let mut pairs = BTreeMap::new();
        for _ in 0..self.below(8) {
            let index = if self.below(5) == 0 { self.below(1 << 32) } else { self.below(12) };
            pairs.insert(index as u32, self.below(2001) as f32 / 1000.0 - 1.0);
        }
        SparseVector::new(pairs.keys().copied().collect(), pairs.into_values().collect()).unwrap()
    }

    /// Vectors at places of several windows, from one on.
    fn kept(&mut self, n: u32, from: u32) -> Kept {
        let mut kept = Kept::default();
        for i in 0..n {
            let (place, vector) = (from + i * 401, self.vector());
            kept.push(place, &vector.to_bytes());
            self.model.insert(place, vector);
        }
        kept
    }

    fn fill(&mut self) {
        let (settings, kept) = (self.space.settings.clone(), self.kept(600, 3));
        self.space = SparseSpace::of(&self.backend, settings, &kept).unwrap();
        for i in 0..4 {
            let kept = self.kept(30, 300_000 + i * 20_000);
            self.space.push(&self.backend, &kept).unwrap();
        }
    }

    fn some(&mut self, one_in: u64) -> RoaringBitmap {
        let places: Vec<u32> = self.model.keys().copied().collect();
        places.into_iter().filter(|_| self.below(one_in) == 0).collect()
    }

    fn nearest(&self, query: &SparseVector, allowed: &RoaringBitmap, k: usize) -> Vec<Neighbor> {
        let found = self.model.iter().filter(|(place, _)| allowed.contains(**place));
        let near = found.filter_map(|(&slot, vector)| {
            Some(Neighbor { slot, distance: 0.0 - query.dot(vector)? })
        });
        let mut near: Vec<Neighbor> = near.collect();
        near.sort_unstable();
        near.truncate(k);
        near
    }

    fn check(&mut self, what: &str) {
        for one_in in [1, 1, 2, 40] {
            let (query, allowed) = (self.vector(), self.some(one_in));
            for k in [1, 10, 5000] {
                let found = self.space.search(&query, &allowed, k);
                let expected = self.nearest(&query, &allowed, k);
                assert_eq!(found, expected, "seed {}, {what}, {query:?}", self.seed);
            }
            let places: Vec<u32> = allowed.iter().collect();
            let found = self.space.distances(std::slice::from_ref(&query), &places).remove(0);
            let of = |place: &u32| 0.0 - query.dot(&self.model[place]).unwrap_or(0.0);
            assert_eq!(found, places.iter().map(of).collect::<Vec<f32>>(), "{what}");
        }
    }
}

#[test]
fn lists_find_what_comparing_all_finds_for_any_set() {
    for seed in 0..40 {
        let mut world = World::new(seed, false);
        world.check("empty");
        world.fill();
        world.check("base and recent");
        // Some are gone, and others lie in their places.
        let gone: Vec<u32> = world.some(3).iter().collect();
        gone.iter().for_each(|place| drop(world.model.remove(place)));
        let to: BTreeMap<u32, u32> =
            world.model.keys().enumerate().map(|(i, &place)| (place, 2 * i as u32)).collect();
        world.space = world.space.moved(&world.backend, |place| to.get(&place).copied()).unwrap();
        world.model = world.model.into_iter().map(|(place, own)| (to[&place], own)).collect();
        assert_eq!(world.space.n_points(), (world.model.len() as u64, 0));
        world.check("moved");
    }
}

#[test]
fn weights_count_only_points_of_the_set() {
    for seed in 0..20 {
        let mut world = World::new(seed, true);
        world.fill();
        for one_in in [1, 2, 50] {
            let (query, set) = (world.vector(), world.some(one_in));
            let weighted = world.space.weighted(&query, &set);
            for ((index, value), (_, weighted)) in query.pairs().zip(weighted.pairs()) {
                let own = |place: u32| world.model[&place].indices().binary_search(&index).is_ok();
                let d = set.iter().filter(|place| own(*place)).count() as f64;
                let idf = ((set.len() as f64 - d + 0.5) / (d + 0.5) + 1.0).ln();
                assert_eq!(weighted, (f64::from(value) * idf) as f32, "seed {seed}, {index}");
            }
        }
        let plain = World::new(seed, false);
        let query = world.vector();
        assert_eq!(plain.space.weighted(&query, &RoaringBitmap::new()), query);
    }
}

#[test]
fn lists_that_do_not_fit_the_budget_are_refused() {
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    let backend = Cpu::new(pool, 100);
    let mut kept = Kept::default();
    let vector = SparseVector::new((0..50).collect(), vec![1.0; 50]).unwrap();
    kept.push(0, &vector.to_bytes());
    let settings = VectorSettings::sparse("s", false);
    let made = SparseSpace::of(&backend, settings, &kept);
    assert_eq!(made.err().map(|error| error.code().to_owned()).as_deref(), Some("device_oom"));
}
