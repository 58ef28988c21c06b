//! Who may be found: one exact set of places for a tenant and a filter, and what it took to know.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use roaring::RoaringBitmap;

use crate::core::bits::Bits;
use crate::core::limits::KNOWN_SETS_BYTES;
use crate::engine::unpacked::{set_bits, set_list};
use crate::error::Result;
use crate::index::tree::skeleton::MAX_LIST;
use crate::index::tree::{Run, Skeleton, Tree};

/// The places that a tenant may read and that pass a filter, of points that have a vector.
#[derive(Debug, Default)]
pub(super) struct Passing {
    places: RoaringBitmap,
    n_matches: u64,
    bits: OnceLock<Bits>,
    run: OnceLock<Vec<u32>>,
    skeleton: OnceLock<(Run, Skeleton)>,
}

impl Passing {
    /// A set.
    pub fn new(places: RoaringBitmap) -> Self {
        let n_matches = places.len();
        Self { places, n_matches, ..Self::default() }
    }

    /// The places.
    pub fn places(&self) -> &RoaringBitmap {
        &self.places
    }

    /// How many there are.
    pub fn n_matches(&self) -> u64 {
        self.n_matches
    }

    /// Those of the base, a bit each, made once.
    pub fn bits(&self, n_base: u32) -> &Bits {
        self.bits.get_or_init(|| set_bits(&self.places, n_base))
    }

    /// Those of the base, listed, made once.
    pub fn run(&self, n_base: u32) -> &[u32] {
        self.run.get_or_init(|| set_list(&self.places, n_base))
    }

    /// Those of the base in tree order, and the part of the tree that they fill, made once.
    ///
    /// # Errors
    /// Those of [`Skeleton::build`].
    pub fn skeleton(&self, tree: &Tree, paths: &[u64], n_base: u32) -> Result<&(Run, Skeleton)> {
        if let Some(made) = self.skeleton.get() {
            return Ok(made);
        }
        let run = Run::new(self.run(n_base).to_vec(), paths)?;
        let skeleton = Skeleton::build(tree, paths, &run, MAX_LIST)?;
        Ok(self.skeleton.get_or_init(|| (run, skeleton)))
    }

    /// Whether the skeleton was made.
    pub fn has_skeleton(&self) -> bool {
        self.skeleton.get().is_some()
    }

    /// Bytes that this takes, with what was made of it so far.
    fn n_bytes(&self) -> u64 {
        let bits = self.bits.get().map_or(0, |bits| 8 * bits.words().len());
        let run = self.run.get().map_or(0, |run| 4 * run.len());
        let skeleton =
            self.skeleton.get().map_or(0, |made| made.0.n_bytes() as usize + 2 * made.0.len());
        (self.places.serialized_size() + bits + run + skeleton) as u64
    }
}

/// What was asked for: vector, tenant, key of the filter.
pub(super) type Key = (usize, Option<Arc<str>>, Arc<str>);

/// Sets that were asked for, until something changes or they take too much memory.
#[derive(Default)]
pub(super) struct KnownSets {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    sets: HashMap<Key, Arc<Passing>>,
    /// Sets that came since all were counted.
    n_new: usize,
}

/// Sets come at least so many before the bytes of all are counted again, as they grow by what is made of them; and a quarter of
/// those there are, so that counting costs each of them a few looks.
const COUNTED_EVERY: usize = 64;

impl KnownSets {
    /// A set that was remembered.
    pub fn get(&self, key: &Key) -> Option<Arc<Passing>> {
        self.held.lock().expect("no holder panics").sets.get(key).map(Arc::clone)
    }

    /// Remembers a set; when all take more than [`KNOWN_SETS_BYTES`], the others are forgotten.
    pub fn put(&self, key: Key, set: &Arc<Passing>) {
        let mut held = self.held.lock().expect("no holder panics");
        held.n_new += 1;
        if held.n_new >= COUNTED_EVERY.max(held.sets.len() / 4) {
            held.n_new = 0;
            let n_bytes: u64 =
                held.sets.iter().map(|(key, set)| set.n_bytes() + key.2.len() as u64).sum();
            if n_bytes > KNOWN_SETS_BYTES {
                *held = Held::default();
            }
        }
        held.sets.insert(key, Arc::clone(set));
    }

    /// Forgets all.
    pub fn clear(&self) {
        *self.held.lock().expect("no holder panics") = Held::default();
    }
}
