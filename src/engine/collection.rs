//! An open collection: one version of its points, which writes replace by the next.

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use rayon::ThreadPool;

use crate::backend::cpu::Cpu;
use crate::engine::points::payloads;
use crate::engine::recall::LiveRecall;
use crate::engine::seal::sealed_version;
use crate::engine::settings::Settings;
use crate::engine::space::Space;
use crate::engine::spaces::VectorSpace;
use crate::engine::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::Columns;
use crate::store::disk::FileDisk;
use crate::store::durable::Durable;

/// An open collection. Searches see one version, whole; a write is seen by all that begins after it returned.
pub struct Collection {
    settings: RwLock<Arc<Settings>>,
    pub(super) backend: Cpu,
    pub(super) record: Durable,
    current: RwLock<Current>,
    /// Held by whoever writes.
    pub(super) writing: Mutex<()>,
    notes: Mutex<Vec<String>>,
    pub(super) recall: LiveRecall,
}

/// What [`Collection::index`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// Points that are in the index now: all.
    pub n_points: u64,
    /// Whether there was anything to do.
    pub changed: bool,
    /// See [`Collection::notes`].
    pub notes: Vec<String>,
}

/// The state, and why it must not be used, if that is so.
struct Current {
    state: State,
    broken: Option<Error>,
}

impl Collection {
    /// Opens the collection in `folder`, for this process alone. Cost: milliseconds if its index is sealed, and what changed since;
    /// otherwise all vectors are read and encoded, and answers are exact.
    ///
    /// # Errors
    /// Those of the record, among them `not_found` and `locked`; `memory` if vectors and codes do not fit `budget_bytes`.
    pub fn open(folder: &Path, pool: &Arc<ThreadPool>, budget_bytes: u64) -> Result<Self> {
        let record = Durable::open(Arc::new(FileDisk), folder)?;
        let settings = Settings::from_json(&record.view()?.config()?)?;
        let backend = Cpu::new(Arc::clone(pool), budget_bytes);
        let mut notes = Vec::new();
        let sealed = match State::open(&record, record.view()?, &settings, &backend) {
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                notes.push(format!("the index cannot be used: {error}"));
                None
            }
            opened => opened?,
        };
        let state = match sealed {
            Some(state) => state,
            None => State::read(record.view()?, &settings, &backend)?,
        };
        Ok(Self::of(record, settings, backend, state, notes))
    }

    /// Opens the collection in `folder`, builds its index anew and seals it: the clustering tree, in whose order rows lie from
    /// then on, codes and graph.
    ///
    /// # Errors
    /// Those of [`Self::open`] and of the disk.
    pub fn build(folder: &Path, pool: &Arc<ThreadPool>, budget_bytes: u64) -> Result<Self> {
        let record = Durable::open(Arc::new(FileDisk), folder)?;
        let settings = Settings::from_json(&record.view()?.config()?)?;
        let backend = Cpu::new(Arc::clone(pool), budget_bytes);
        let mut state = State::build(record.view()?, &settings, &backend)?;
        state.seal(&record, pool)?;
        Ok(Self::of(record, settings, backend, state, Vec::new()))
    }

    /// Brings the index of the collection in `folder` to all points there are: by [`Self::seal`] where there is one, by [`Self::build`]
    /// otherwise.
    ///
    /// # Errors
    /// Those of both.
    pub fn index(folder: &Path, pool: &Arc<ThreadPool>, budget_bytes: u64) -> Result<Indexed> {
        let is_sealed = sealed_version(&FileDisk, folder)?.is_some();
        let (collection, changed) = if is_sealed {
            let collection = Self::open(folder, pool, budget_bytes)?;
            collection.check_links()?;
            let changed = collection.seal()?;
            (collection, changed)
        } else {
            (Self::build(folder, pool, budget_bytes)?, true)
        };
        let (n_points, notes) = (collection.n_points()?, collection.notes());
        Ok(Indexed { n_points, changed, notes })
    }

    /// Compares what opening leaves for walks to compare; what is damaged is given up, and said.
    fn check_links(&self) -> Result<()> {
        self.read_whole(|state| {
            let dense = state.spaces.iter().filter_map(VectorSpace::dense);
            dense.filter_map(Space::near).try_for_each(|near| near.graph.verify())
        })
    }

    /// Makes what changed since the index was built part of it, in place where that is less work than building it anew, and
    /// seals it. Searches go on meanwhile, writes wait. Says whether there was anything to do.
    ///
    /// # Errors
    /// Those of reading, building and the disk; the index is then the one before.
    pub fn seal(&self) -> Result<bool> {
        let _writing = self.writing.lock().expect("no writer panics half-way");
        let view = || self.record.view();
        let merged = self.read_whole(|state| match state.sealed == Some(state.version) {
            true => Ok(Some(None)),
            false => Ok(state.merged(view()?, &self.backend)?.map(Some)),
        });
        let state = match merged? {
            Some(None) => return Ok(false),
            Some(Some(state)) => state,
            None => State::build(view()?, &self.settings(), &self.backend)?,
        };
        self.replace(state)?;
        Ok(true)
    }

    /// Builds the index anew from all points there are, in the order of a new clustering tree, and seals it. Searches go on
    /// meanwhile, writes wait.
    ///
    /// # Errors
    /// Those of reading, building and the disk; the index is then the one before.
    pub fn rebuild(&self) -> Result<()> {
        let _writing = self.writing.lock().expect("no writer panics half-way");
        self.replace(State::build(self.record.view()?, &self.settings(), &self.backend)?)
    }

    fn replace(&self, mut state: State) -> Result<()> {
        state.seal(&self.record, self.backend.pool())?;
        let mut current = self.current.write().expect("no writer panics half-way");
        *current = Current { state, broken: None };
        self.recall.forget();
        Ok(())
    }

    /// What was found since the collection was opened that its owner should know.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("no holder panics").clone()
    }

    /// Indexes payload fields anew that were found to be damaged, and gives up graphs that were: answers are then exact until
    /// the index is built again.
    ///
    /// # Errors
    /// Those of reading payloads.
    fn mend(&self) -> Result<()> {
        let mut current = self.current.write().expect("no writer panics half-way");
        let State { view, places, columns, sealed, spaces, known, .. } = &mut current.state;
        let given_up: Vec<Error> =
            spaces.iter_mut().filter_map(VectorSpace::give_up_damaged).collect();
        if !given_up.is_empty() {
            *sealed = None;
            known.clear();
        }
        let note = |note| self.notes.lock().expect("no holder panics").push(note);
        given_up.iter().for_each(|error| note(format!("the index cannot be used: {error}")));
        if columns.damaged().next().is_none() {
            return Ok(());
        }
        let mended = columns.rebuild(payloads(view, |slot| places.place(slot))?)?;
        *sealed = None;
        mended.iter().for_each(|field| {
            note(format!(
                "the index of payload field {field} was damaged and has been built again"
            ));
        });
        Ok(())
    }

    fn of(
        record: Durable,
        settings: Settings,
        backend: Cpu,
        state: State,
        notes: Vec<String>,
    ) -> Self {
        let current = RwLock::new(Current { state, broken: None });
        let settings = RwLock::new(Arc::new(settings));
        let (writing, notes) = (Mutex::default(), Mutex::new(notes));
        Self { settings, backend, record, current, writing, notes, recall: LiveRecall::default() }
    }

    /// What the collection was made for, with the fields that are indexed now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().expect("no holder panics"))
    }

    /// Points.
    ///
    /// # Errors
    /// As for [`Self::search`], if an earlier write could not be followed.
    pub fn n_points(&self) -> Result<u64> {
        self.read(|state| Ok(state.n_points()))
    }

    /// Brings the state to the version of the record. Where that fails half-way, all is read again.
    pub(super) fn follow(&self) -> Result<()> {
        let mut current = self.current.write().expect("no writer panics half-way");
        let is_whole = current.broken.is_none();
        let (view, settings) = (self.record.view()?, self.settings());
        if is_whole && current.state.follow(view, &settings, &self.backend).unwrap_or(false) {
            return Ok(());
        }
        match State::read(self.record.view()?, &settings, &self.backend) {
            Ok(state) => {
                *current = Current { state, broken: None };
                self.recall.forget();
                Ok(())
            }
            Err(error) => {
                current.broken = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Sets other columns over the same points, and the settings that name them. Only for whoever writes.
    pub(super) fn set_columns(&self, settings: Settings, columns: Columns) {
        let mut current = self.current.write().expect("no writer panics half-way");
        current.state.columns = columns;
        current.state.sealed = None;
        *self.settings.write().expect("no holder panics") = Arc::new(settings);
    }

    /// Sets settings that change nothing of the state. Only for whoever writes.
    pub(super) fn set_settings(&self, settings: Settings) {
        *self.settings.write().expect("no holder panics") = Arc::new(settings);
    }

    /// Does `work` with the state of one version, once more if columns or a graph that it needed were damaged: they have been mended
    /// or given up by then, by this call or by another that met the same.
    pub(super) fn read_whole<T>(&self, work: impl Fn(&State) -> Result<T>) -> Result<T> {
        match self.read(&work) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.mend()?;
                self.read(&work)
            }
            done => done,
        }
    }

    /// Does `work` with the state of one version.
    pub(super) fn read<T>(&self, work: impl FnOnce(&State) -> Result<T>) -> Result<T> {
        let current = self.current.read().expect("no writer panics half-way");
        match &current.broken {
            None => work(&current.state),
            Some(error) => Err(error.clone()),
        }
    }
}
