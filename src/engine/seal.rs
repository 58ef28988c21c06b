//! The state in files, and back: opened in milliseconds whatever its size, since what is large stays in the files.
//!
//! | file | kind | holds |
//! |---|---|---|
//! | `index-VERSION.places.sealed` | `places` | which point lies where |
//! | `index-VERSION.vector-N.sealed` | `vector` | rows, codes, graph of vector N; lists of a sparse one |
//! | `index-VERSION.columns.sealed` | `columns` | indexed payload fields |
//!
//! All files of one version belong together, the one of places is written last: without it the others are none. A file that is
//! damaged or missing costs the index, which says so and is built again; never a point, all of which are in the record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::ThreadPool;
use roaring::RoaringBitmap;

use crate::backend::cpu::Cpu;
use crate::core::ids::POINT_KEY_BYTES;
use crate::core::metric::Metric;
use crate::engine::base::{Base, Exact};
use crate::engine::multi::MultiSpace;
use crate::engine::near::{Near, Placed};
use crate::engine::passing::KnownSets;
use crate::engine::places::{BasePlaces, Places};
use crate::engine::postings::Postings;
use crate::engine::settings::{Settings, VectorSettings, VectorShape};
use crate::engine::space::Space;
use crate::engine::spaces::VectorSpace;
use crate::engine::sparse::SparseSpace;
use crate::engine::state::State;
use crate::error::Result;
use crate::index::graph::Graph;
use crate::index::graph::codes::Codes;
use crate::index::graph::codes::signs::Signs;
use crate::index::sealed::PlacedRows;
use crate::index::tree::Tree;
use crate::quant::search::ExactIndex;
use crate::store::Identity;
use crate::store::columns::Columns;
use crate::store::disk::{At, Disk, check_folder};
use crate::store::durable::{Durable, View};
use crate::store::sealed::{Sealed, SealedWriter};

/// What names of files of an index begin with.
const PREFIX: &str = "index-";

/// What the name of the file that is written last ends with.
const LAST: &str = ".places.sealed";

fn path(folder: &Path, version: u64, part: &str) -> PathBuf {
    folder.join(format!("{PREFIX}{version}.{part}.sealed"))
}

/// The version in the name of a file of an index.
fn version_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

/// The versions of which an index is in the folder, the newest first.
fn versions(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>> {
    check_folder(disk, folder)?;
    let names = disk.list(folder).at("list", folder)?;
    let mut versions: Vec<u64> = names
        .iter()
        .filter(|name| name.ends_with(LAST))
        .filter_map(|name| version_of(name))
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    Ok(versions)
}

/// The version of the newest index in the folder, if there is one.
///
/// # Errors
/// `not_found` if there is no such folder; those of the disk.
pub(super) fn sealed_version(disk: &dyn Disk, folder: &Path) -> Result<Option<u64>> {
    Ok(versions(disk, folder)?.first().copied())
}

/// Whether a file of this name is part of an index.
pub(super) fn is_of_index(name: &str) -> bool {
    version_of(name).is_some()
}

impl State {
    /// Writes the base, which must be all there is, into the folder of its record, and removes files of earlier versions.
    ///
    /// # Errors
    /// Those of the disk; files of earlier versions are then still there.
    pub fn seal(&mut self, record: &Durable, pool: &ThreadPool) -> Result<()> {
        let (disk, folder) = (&**record.disk(), record.folder());
        let identity = |kind| Identity { kind, owner: record.owner(), version: self.version };
        for (i, space) in self.spaces.iter().enumerate() {
            let path = path(folder, self.version, &format!("vector-{i}"));
            seal_vector(space, pool, (disk, &path), identity("vector"))?;
        }
        let columns = path(folder, self.version, "columns");
        let n_sections = self.columns.n_sections();
        let mut writer = SealedWriter::create(disk, &columns, identity("columns"), n_sections)?;
        self.columns.seal(&mut writer)?;
        writer.finish()?;
        let BasePlaces { slots, keys, places } = self.places.base();
        let path = path(folder, self.version, "places");
        let mut writer = SealedWriter::create(disk, &path, identity("places"), 3)?;
        writer.section::<u32>("places.slots", &[slots.len() as u64])?;
        writer.append::<u32>(slots)?;
        writer.section::<u8>("places.keys", &[slots.len() as u64, POINT_KEY_BYTES as u64])?;
        writer.append::<u8>(keys)?;
        writer.section::<u32>("places.places", &[places.len() as u64])?;
        writer.append::<u32>(places)?;
        writer.finish()?;
        record.sealed_at(self.version)?;
        self.sealed = Some(self.version);
        for name in disk.list(folder).at("list", folder)? {
            if version_of(&name).is_some_and(|version| version != self.version) {
                let path = folder.join(&name);
                disk.remove(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }

    /// The newest index in the folder of a record, brought to the version of the view; `None` if there is none, or it is
    /// so old that the log of changes does not reach back to it.
    ///
    /// # Errors
    /// Of kind `Corrupt` if a file is damaged or of others; those of reading and of the disk.
    pub fn open(
        record: &Durable,
        view: View,
        settings: &Settings,
        backend: &Cpu,
    ) -> Result<Option<Self>> {
        let (disk, folder) = (&**record.disk(), record.folder());
        let Some(version) = sealed_version(disk, folder)? else { return Ok(None) };
        let open = |part: &str, kind| {
            let expected = Identity { kind, owner: record.owner(), version: view.version() };
            Sealed::open(disk, &path(folder, version, part), expected)
        };
        let of_places = open("places", "places")?;
        let n_base = of_places.values::<u32>("places.slots")?.0.len() as u32;
        // What decides what is read is verified on both sides at once: it is most of the time.
        let (places, spaces) = backend.pool().join(
            || open_places(&of_places),
            || {
                let numbered = settings.vectors.iter().enumerate();
                let space = |(i, settings): (usize, &VectorSettings)| {
                    let sealed = open(&format!("vector-{i}"), "vector")?;
                    open_vector(&sealed, settings.clone(), n_base, backend)
                };
                numbered.map(space).collect::<Result<Vec<VectorSpace>>>()
            },
        );
        let (places, spaces) = (Places::of(places?), spaces?);
        let columns = Columns::open(Arc::new(open("columns", "columns")?))?;
        let known = KnownSets::default();
        let (view_before, sealed) = (record.view()?, Some(version));
        let mut state = Self { view: view_before, version, sealed, places, spaces, columns, known };
        if !state.follow(view, settings, backend)? {
            return Ok(None);
        }
        state.fit_columns(settings)?;
        Ok(Some(state))
    }
}

fn open_places(sealed: &Sealed) -> Result<BasePlaces> {
    for name in ["places.slots", "places.keys", "places.places"] {
        sealed.verify_memory(name)?;
    }
    let places = BasePlaces {
        slots: sealed.slab("places.slots")?.0,
        keys: sealed.slab("places.keys")?.0,
        places: sealed.slab("places.places")?.0,
    };
    places.check().map_err(|error| sealed.refuse("places.slots", error))?;
    Ok(places)
}

/// Writes the base of a vector, which must be all there is.
fn seal_vector(
    space: &VectorSpace,
    pool: &ThreadPool,
    (disk, path): (&dyn Disk, &Path),
    identity: Identity<'_>,
) -> Result<()> {
    match space {
        VectorSpace::Dense(space) => seal_space(space, pool, (disk, path), identity),
        VectorSpace::Multi(space) => {
            let mut writer = SealedWriter::create(disk, path, identity, space.n_sections())?;
            space.seal(&mut writer)?;
            writer.finish()
        }
        VectorSpace::Sparse(space) => {
            let n_sections = 1 + Postings::N_SECTIONS;
            let mut writer = SealedWriter::create(disk, path, identity, n_sections)?;
            seal_has(&mut writer, Some(space.has()))?;
            space.base().seal(&mut writer)?;
            writer.finish()
        }
    }
}

fn open_vector(
    sealed: &Sealed,
    settings: VectorSettings,
    n_base: u32,
    backend: &Cpu,
) -> Result<VectorSpace> {
    Ok(match settings.shape {
        VectorShape::Dense => {
            VectorSpace::Dense(Box::new(open_space(sealed, settings, n_base, backend)?))
        }
        VectorShape::Multi => {
            VectorSpace::Multi(Box::new(MultiSpace::open(backend, settings, sealed, n_base)?))
        }
        VectorShape::Sparse { .. } => {
            let (postings, has) = (Postings::open(sealed, n_base)?, open_has(sealed)?);
            let space = SparseSpace::of_parts(backend, settings, postings, has)?;
            VectorSpace::Sparse(Box::new(space))
        }
    })
}

/// Writes the places that have a vector; nothing where all have it.
fn seal_has(writer: &mut SealedWriter<'_>, places: Option<&RoaringBitmap>) -> Result<()> {
    let mut has = Vec::new();
    if let Some(places) = places {
        places.serialize_into(&mut has).expect("memory takes all that is written");
    }
    writer.section::<u8>("vector.has", &[has.len() as u64])?;
    writer.append(&has)
}

fn open_has(sealed: &Sealed) -> Result<RoaringBitmap> {
    sealed.verify_memory("vector.has")?;
    let (bytes, _) = sealed.values::<u8>("vector.has")?;
    RoaringBitmap::deserialize_from(bytes).map_err(|error| sealed.refuse("vector.has", error))
}

/// Sections of the file of a dense vector beside those of its parts: what parts there are, recall by width, which places have it.
///
/// | section | elements | holds |
/// |---|---|---|
/// | `vector.parts` | u64 `[3]` | 1 if there are rows; if a graph; if not all places have it |
/// | `vector.recalls`, `vector.tree_recalls` | f32 `[n]` | recall at each width that was tried |
/// | `vector.paths` | u64 `[n_base]` or `[0]` | path codes |
/// | `vector.has` | u8 `[n]` | the places that have it, a portable Roaring bitmap |
const OWN_SECTIONS: usize = 5;

fn seal_space(
    space: &Space,
    pool: &ThreadPool,
    (disk, path): (&dyn Disk, &Path),
    identity: Identity<'_>,
) -> Result<()> {
    let near = space.base.as_ref().and_then(|base| base.near.as_ref());
    let exact = space.base.as_ref().map(|base| &base.exact);
    let of_exact = match exact {
        Some(Exact::Codes(index)) => index.n_sections(),
        _ => 0,
    };
    let of_near = near.map_or(0, |near| {
        let of_codes = near.codes.as_ref().map_or(0, |_| Codes::N_SECTIONS);
        let of_signs = near.signs.as_ref().map_or(0, |_| Signs::N_SECTIONS);
        Graph::N_SECTIONS + Tree::N_SECTIONS + of_codes + of_signs
    });
    let of_rows = exact.map_or(0, |_| PlacedRows::N_SECTIONS);
    let n_sections = OWN_SECTIONS + of_rows + of_exact + of_near;
    let mut writer = SealedWriter::create(disk, path, identity, n_sections)?;
    writer.section::<u64>("vector.parts", &[3])?;
    let has_parts = [exact.is_some(), near.is_some(), space.has().is_some()];
    writer.append(&has_parts.map(u64::from))?;
    let recalls = near.map(|near| near.recalls.as_slice()).unwrap_or_default();
    writer.section::<f32>("vector.recalls", &[recalls.len() as u64])?;
    writer.append(recalls)?;
    let recalls = near.map(|near| near.tree_recalls.as_slice()).unwrap_or_default();
    writer.section::<f32>("vector.tree_recalls", &[recalls.len() as u64])?;
    writer.append(recalls)?;
    let paths: &[u64] = near.map(|near| &*near.placed.paths).unwrap_or_default();
    writer.section::<u64>("vector.paths", &[paths.len() as u64])?;
    writer.append(paths)?;
    seal_has(&mut writer, space.has())?;
    if let Some(base) = &space.base {
        base.rows.seal(&mut writer, "rows")?;
        if let Exact::Codes(index) = &base.exact {
            index.seal(pool, &mut writer)?;
        }
    }
    if let Some(near) = near {
        near.graph.seal(&mut writer)?;
        near.placed.tree.seal(&mut writer)?;
        if let Some(codes) = &near.codes {
            codes.seal(&mut writer, "codes")?;
        }
        if let Some(signs) = &near.signs {
            signs.seal(&mut writer, "signs")?;
        }
    }
    writer.finish()
}

fn open_space(
    sealed: &Sealed,
    settings: VectorSettings,
    n_base: u32,
    backend: &Cpu,
) -> Result<Space> {
    let [has_rows, has_near, has_some] = sealed.about("vector.parts")?;
    for name in ["vector.recalls", "vector.tree_recalls", "vector.paths"] {
        sealed.verify_memory(name)?;
    }
    let has = (has_some == 1).then(|| open_has(sealed)).transpose()?;
    if has_rows == 0 {
        return Space::new(backend, settings, None, has);
    }
    let rows = PlacedRows::open(sealed, "rows")?;
    let own = (rows.rows().n_rows(), rows.rows().dim(), rows.rows().dtype(), rows.metric());
    let expected = (n_base as usize, settings.dim, settings.dtype, settings.metric);
    if own != expected {
        return Err(sealed.refuse("rows.about", format!("{own:?}, expected {expected:?}")));
    }
    let exact = match settings.metric {
        Metric::L1 => Exact::Raw(rows.upload(backend)?),
        _ => Exact::Codes(Box::new(ExactIndex::open(sealed, backend, &rows)?)),
    };
    let near = match has_near {
        0 => None,
        _ => {
            let pool = backend.pool();
            let (graph, tree) = pool.join(|| Graph::open(pool, sealed), || Tree::open(sealed));
            let (graph, tree) = (graph?, tree?);
            let codes = (settings.metric != Metric::L1).then(|| Codes::open(sealed, "codes"));
            let codes = codes.transpose()?;
            let signs =
                codes.as_ref().map(|codes| Signs::open(backend.pool(), sealed, "signs", codes));
            let near = Near {
                signs: signs.transpose()?,
                codes,
                graph,
                placed: Placed { tree, paths: sealed.slab("vector.paths")?.0 },
                recalls: sealed.values::<f32>("vector.recalls")?.0.to_vec(),
                tree_recalls: sealed.values::<f32>("vector.tree_recalls")?.0.to_vec(),
            };
            near.check(n_base).map_err(|what| sealed.refuse("vector.parts", what))?;
            Some(near)
        }
    };
    let space = Space::new(backend, settings, Some(Base::of_parts(rows, exact, near)?), has);
    // Last: what is brought meanwhile takes the time of what is verified.
    sealed.bring();
    space
}
