//! All that is known of the points at one version of the record, and how it follows the record.
//!
//! There is one way in which anything becomes known: from the record. What was sealed is what was read at an earlier version;
//! the slots that changed since are read again. So it is when a collection is opened, and after every write.

use rayon::ThreadPool;
use roaring::RoaringBitmap;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::cluster::gather;
use crate::core::ids::PointId;
use crate::core::rows::{Dtype, Rows};
use crate::engine::base::{Base, SEED};
use crate::engine::kept::{Kept, rows_of, vector};
use crate::engine::near::Placed;
use crate::engine::passing::KnownSets;
use crate::engine::places::{BasePlaces, Places};
use crate::engine::points::{payload, payloads};
use crate::engine::settings::{Settings, VectorSettings};
use crate::engine::space::Space;
use crate::engine::spaces::VectorSpace;
use crate::error::Result;
use crate::index::tree;
use crate::store::columns::path::Path;
use crate::store::columns::{Columns, Kind};
use crate::store::durable::{Change, Parts, View};

/// Changed points that are read at once.
const BLOCK: usize = 1024;

/// The points at one version.
pub(super) struct State {
    pub view: View,
    /// Of the view; while it follows, the one before.
    pub version: u64,
    /// The version of the files that hold all of this, if there are such.
    pub sealed: Option<u64>,
    pub places: Places,
    /// By number of the vector.
    pub spaces: Vec<VectorSpace>,
    pub columns: Columns,
    pub known: KnownSets,
}

impl State {
    /// All points of a version, for exact answers: reads all vectors and makes their codes, and reads all payloads if a field is
    /// indexed.
    ///
    /// # Errors
    /// Those of reading; `memory` if vectors and codes do not fit the backend's budget.
    pub fn read(view: View, settings: &Settings, backend: &Cpu) -> Result<Self> {
        let loaded = Loaded::read(&view, settings)?;
        Self::of(view, loaded, settings, backend)
    }

    fn of(view: View, loaded: Loaded, settings: &Settings, backend: &Cpu) -> Result<Self> {
        let places = Places::of(BasePlaces::new(&loaded.points));
        let columns = columns(&view, settings, &places)?;
        let spaces = settings.vectors.iter().zip(loaded.vectors);
        let spaces = spaces.map(|(settings, loaded)| space(backend, settings, loaded));
        let spaces = spaces.collect::<Result<_>>()?;
        let version = view.version();
        let known = KnownSets::default();
        Ok(Self { view, version, sealed: None, places, spaces, columns, known })
    }

    /// All points of a version in the order of a clustering tree over their first dense vector, with what makes near answers.
    ///
    /// # Errors
    /// As for [`Self::read`]; those of the parts.
    pub fn build(view: View, settings: &Settings, backend: &Cpu) -> Result<Self> {
        let mut loaded = Loaded::read(&view, settings)?;
        let mut placed: Vec<Option<Placed>> = Vec::new();
        let first = settings.vectors.iter().position(VectorSettings::is_dense);
        for i in 0..settings.vectors.len() {
            let rows = match &loaded.vectors[i] {
                LoadedVector::Rows(rows, _) if rows.n_rows() > 0 => rows,
                LoadedVector::Rows(..) | LoadedVector::Kept(_) => {
                    placed.push(None);
                    continue;
                }
            };
            let params = tree::BuildParams { seed: SEED, ..tree::BuildParams::default() };
            let on: (&dyn Backend, &ThreadPool) = (backend, backend.pool());
            let built = tree::build(on, rows, settings.vectors[i].metric, &params)?;
            let mut paths = vec![0; built.paths.len()];
            // Rows lie in the order of the first one's tree; other trees say where theirs are.
            if first == Some(i) {
                loaded = loaded.ordered(&built.order);
                paths = built.paths;
            } else {
                for (&place, path) in built.order.iter().zip(built.paths) {
                    paths[place as usize] = path;
                }
            }
            placed.push(Some(Placed { tree: built.tree, paths: paths.into() }));
        }
        let mut state = Self::of(view, loaded, settings, backend)?;
        for (space, placed) in state.spaces.iter_mut().zip(placed) {
            if let (VectorSpace::Dense(space), Some(placed)) = (space, placed) {
                space.build_near(backend, placed)?;
            }
        }
        Ok(state)
    }

    /// Points.
    pub fn n_points(&self) -> u64 {
        self.places.live().len()
    }

    /// Follows the record to a later version; says whether it could. If not, the log of changes is too short, nothing has changed,
    /// and all is to be read.
    ///
    /// # Errors
    /// Those of reading; then what was known is no longer whole, and must not be used.
    pub fn follow(&mut self, view: View, settings: &Settings, backend: &Cpu) -> Result<bool> {
        let Some(changes) = view.changes_since(self.version)? else { return Ok(false) };
        self.view = view;
        self.known.clear();
        for block in changes.chunks(BLOCK) {
            self.take(block, settings, backend)?;
        }
        self.version = self.view.version();
        Ok(true)
    }

    fn take(&mut self, changes: &[Change], settings: &Settings, backend: &Cpu) -> Result<()> {
        let of = |is: fn(&Change) -> bool| -> Vec<u32> {
            changes.iter().filter(|change| is(change)).map(|change| change.slot).collect()
        };
        for change in changes.iter().filter(|change| change.row) {
            if let Some(place) = self.places.give_up(change.slot) {
                self.columns.remove(place);
            }
        }
        let points = self.view.get_slots(&of(|change| change.row), Parts::All)?;
        let mut vectors = vec![Kept::default(); settings.vectors.len()];
        for point in points.into_iter().flatten() {
            let place = self.places.put(point.slot, point.id);
            self.columns.set(place, &payload(point.id, &point.payload)?);
            for (i, kept) in vectors.iter_mut().enumerate() {
                if let Some(bytes) = vector(&point, settings, i)? {
                    kept.push(place, bytes);
                }
            }
        }
        for (space, kept) in self.spaces.iter_mut().zip(vectors) {
            space.push(backend, kept)?;
        }
        let others = of(|change| change.payload && !change.row);
        for point in self.view.get_slots(&others, Parts::Payload)?.into_iter().flatten() {
            if let Some(place) = self.places.place(point.slot) {
                self.columns.set(place, &payload(point.id, &point.payload)?);
            }
        }
        Ok(())
    }
}

impl State {
    /// Indexes the fields that settings name and forgets others: those of an index that was sealed under earlier settings.
    /// Cost: none where they are the same, else every payload is read once.
    ///
    /// # Errors
    /// Those of reading payloads.
    pub(super) fn fit_columns(&mut self, settings: &Settings) -> Result<()> {
        let wanted = fields(settings);
        let known: Vec<(Path, Kind)> =
            self.columns.list().map(|(path, kind, _)| (path.clone(), kind)).collect();
        for (path, kind) in known.iter().filter(|field| !wanted.contains(field)) {
            self.columns.forget(path, *kind);
            self.sealed = None;
        }
        let missing: Vec<(Path, Kind)> =
            wanted.into_iter().filter(|field| !known.contains(field)).collect();
        if !missing.is_empty() {
            let places = &self.places;
            let payloads = payloads(&self.view, |slot| places.place(slot))?;
            self.columns.index(&missing, payloads)?;
            self.sealed = None;
        }
        Ok(())
    }
}

/// Columns over all payloads of a version.
///
/// # Errors
/// Those of reading.
fn columns(view: &View, settings: &Settings, places: &Places) -> Result<Columns> {
    let mut columns = Columns::default();
    let fields = fields(settings);
    if !fields.is_empty() {
        columns.index(&fields, payloads(view, |slot| places.place(slot))?)?;
    }
    Ok(columns)
}

/// The fields that have columns: those that were asked for, and that of the tenants.
pub(super) fn fields(settings: &Settings) -> Vec<(Path, Kind)> {
    let mut fields = settings.indexed.clone();
    fields.extend(settings.tenant_field.clone().map(|field| (field, Kind::Keyword)));
    fields
}

/// A vector of points of a base.
///
/// # Errors
/// Those of the spaces.
fn space(backend: &Cpu, settings: &VectorSettings, loaded: LoadedVector) -> Result<VectorSpace> {
    let (rows, has) = match loaded {
        LoadedVector::Kept(kept) => return VectorSpace::of(backend, settings, &kept),
        LoadedVector::Rows(rows, has) => (rows, has),
    };
    let (pool, metric) = (backend.pool(), settings.metric);
    let base = match rows.n_rows() {
        0 => None,
        _ => Some(Base::of((backend, pool), rows, metric)?),
    };
    Ok(VectorSpace::Dense(Box::new(Space::new(backend, settings.clone(), base, has)?)))
}

/// All points and vectors of a version, in the order of their slots.
pub(super) struct Loaded {
    /// Slot and id.
    pub points: Vec<(u32, PointId)>,
    /// By number of the vector.
    pub vectors: Vec<LoadedVector>,
}

/// One vector of all points.
pub(super) enum LoadedVector {
    /// Rows of a dense one and, if there are others, the places that have it: the rows of other places are made up. No row if no
    /// point has it.
    Rows(Rows, Option<RoaringBitmap>),
    /// What places have of one of another shape.
    Kept(Kept),
}

impl Loaded {
    /// Reads all.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(view: &View, settings: &Settings) -> Result<Self> {
        let n_points = view.n_points()? as usize;
        let mut points = Vec::with_capacity(n_points);
        let mut vectors: Vec<Loading> =
            settings.vectors.iter().map(|own| Loading::new(own, n_points)).collect();
        for point in view.points_by_slot(0, Parts::Vectors)? {
            let point = point?;
            for (i, loading) in vectors.iter_mut().enumerate() {
                let bytes = vector(&point, settings, i)?;
                loading.push(points.len() as u32, &settings.vectors[i], bytes);
            }
            points.push((point.slot, point.id));
        }
        let is_only = settings.is_only();
        let vectors = settings.vectors.iter().zip(vectors);
        let vectors = vectors.map(|(settings, loading)| loading.loaded(settings, is_only));
        Ok(Self { vectors: vectors.collect::<Result<_>>()?, points })
    }

    /// The same in the order of these places.
    fn ordered(self, order: &[u32]) -> Self {
        let points = order.iter().map(|&place| self.points[place as usize]).collect();
        let vectors = self.vectors.into_iter().map(|loaded| loaded.ordered(order));
        Self { vectors: vectors.collect(), points }
    }
}

impl LoadedVector {
    fn ordered(self, order: &[u32]) -> Self {
        let (rows, has) = match self {
            Self::Rows(rows, has) => (rows, has),
            Self::Kept(kept) => {
                let mut to = vec![0; order.len()];
                (0u32..).zip(order).for_each(|(new, &old)| to[old as usize] = new);
                return Self::Kept(kept.moved(|old| Some(to[old as usize])));
            }
        };
        let has = has.map(|has| {
            let numbered = (0u32..).zip(order);
            numbered.filter(|(_, old)| has.contains(**old)).map(|(new, _)| new).collect()
        });
        let rows = match rows.n_rows() {
            0 => rows,
            _ => gather(&rows, order.iter().map(|&place| place as usize)),
        };
        Self::Rows(rows, has)
    }
}

/// One vector while it is read.
enum Loading {
    Rows(Vec<u8>, RoaringBitmap),
    Kept(Kept),
}

impl Loading {
    fn new(settings: &VectorSettings, n_points: usize) -> Self {
        match settings.is_dense() {
            true => {
                let bytes = Vec::with_capacity(n_points * settings.row_bytes());
                Self::Rows(bytes, RoaringBitmap::new())
            }
            false => Self::Kept(Kept::default()),
        }
    }

    fn push(&mut self, place: u32, settings: &VectorSettings, given: Option<&[u8]>) {
        match (self, given) {
            (Self::Rows(bytes, has), Some(row)) => {
                has.insert(place);
                bytes.extend_from_slice(row);
            }
            (Self::Rows(bytes, _), None) => bytes.extend(stand_in(settings)),
            (Self::Kept(kept), Some(given)) => kept.push(place, given),
            (Self::Kept(_), None) => {}
        }
    }

    fn loaded(self, settings: &VectorSettings, is_only: bool) -> Result<LoadedVector> {
        let (bytes, has) = match self {
            Self::Rows(bytes, has) => (bytes, has),
            Self::Kept(kept) => return Ok(LoadedVector::Kept(kept)),
        };
        let bytes = if has.is_empty() { Vec::new() } else { bytes };
        Ok(LoadedVector::Rows(rows_of(settings, &bytes)?, (!is_only).then_some(has)))
    }
}

/// The bytes of a row that every metric can compare.
fn stand_in(settings: &VectorSettings) -> Vec<u8> {
    let mut bytes = vec![0; settings.row_bytes()];
    let one: &[u8] = match settings.dtype {
        Dtype::F32 => &1f32.to_le_bytes(),
        Dtype::F16 => &half::f16::ONE.to_le_bytes(),
        Dtype::U8 | Dtype::I8 => &[1],
    };
    bytes[..one.len()].copy_from_slice(one);
    bytes
}
