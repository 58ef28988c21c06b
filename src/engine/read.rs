//! From a question to an answer: who may read what, which points pass, how they are found, and the nearest of them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rayon::ThreadPool;
use roaring::RoaringBitmap;
use serde_json::Value;

use crate::backend::cpu::Cpu;
use crate::backend::resident::Resident;
use crate::backend::{Backend, Stream};
use crate::core::allow::Allow;
use crate::core::bits::Bits;
use crate::core::ids::PointId;
use crate::core::limits::K;
use crate::core::metric::Metric;
use crate::core::neighbors::{Neighbor, TopK};
use crate::core::rows::{Dtype, Rows, Values};
use crate::engine::settings::Settings;
use crate::engine::stored::Stored;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::cost::{Choice, Costs, Way};
use crate::plan::filter::{Filter, evaluate};
use crate::quant::search::{ExactIndex, Keep};
use crate::store::columns::{Columns, Kind};
use crate::store::disk::FileDisk;
use crate::store::durable::{Durable, Parts, View};

/// Seed of the codes' rotation: one collection has one.
const SEED: u64 = 1;

/// Listed rows that are timed when a collection is opened.
const TIMED_ROWS: usize = 512;

/// Filters whose passing slots are remembered; when there are more, all are forgotten.
const KNOWN_FILTERS: usize = 256;

/// Slots that are listed at once, over all queries of a batch: 4 MiB of them, and of distances.
const LISTED_SLOTS: usize = 1 << 20;

/// Times that each is timed; the least counts.
const TIMINGS: usize = 3;

/// Who asks, and for what.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Only points that this tenant may read; every point without.
    pub tenant: Option<String>,
    /// Only points that pass.
    pub filter: Filter,
}

/// A point that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Its id.
    pub id: PointId,
    /// See [`Metric::score`].
    pub score: f32,
}

/// The answer to one query, and how it was found.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Nearest first, ties by slot; as many as were asked for, or as there are.
    pub points: Vec<Found>,
    /// The plan, with both predictions.
    pub choice: Choice,
    /// Points that the tenant may read and that pass.
    pub n_matches: u64,
    /// Slots that columns looked at for the filter; none if its slots were known from an earlier query.
    pub rows_touched: u64,
    /// Payloads that were read because no column could tell, and for which fields; none in that case either.
    pub payloads_read: (u64, Vec<String>),
    /// Queries that were answered together.
    pub n_together: usize,
    /// Seconds that they took, filter included.
    pub seconds: f64,
}

/// Who may be found, and what it took to know.
struct Passing {
    slots: Arc<RoaringBitmap>,
    rows_touched: u64,
    payloads_read: (u64, Vec<String>),
}

impl Passing {
    /// Slots that were known.
    fn known(slots: Arc<RoaringBitmap>) -> Self {
        Self { slots, rows_touched: 0, payloads_read: (0, Vec::new()) }
    }
}

/// What neighbors are found in.
enum Base {
    Empty,
    Codes(Box<ExactIndex>),
    Raw(Resident),
}

/// A collection as it was when it was opened.
pub struct Collection {
    settings: Settings,
    backend: Cpu,
    stored: Stored,
    columns: Columns,
    base: Base,
    costs: Costs,
    tenants: Mutex<HashMap<String, Arc<RoaringBitmap>>>,
    /// By key of a filter, the slots that pass it, whoever asks.
    filters: Mutex<HashMap<String, Arc<RoaringBitmap>>>,
}

impl Collection {
    /// Opens the collection in `folder`: reads all vectors, makes their codes, and reads all payloads if a field is indexed.
    ///
    /// # Errors
    /// Those of the record, among them `not_found` and `locked`; `memory` if vectors and codes do not fit `budget_bytes`.
    pub fn open(folder: &Path, pool: &Arc<ThreadPool>, budget_bytes: u64) -> Result<Self> {
        let record = Durable::open(Arc::new(FileDisk), folder)?;
        let view = record.view()?;
        let settings = Settings::from_json(&view.config()?)?;
        let (rows, slots, ids) = vectors(&view, &settings)?;
        let stored = Stored::new(record, view, slots, ids);
        let backend = Cpu::new(Arc::clone(pool), budget_bytes);
        let mut columns = Columns::default();
        let mut fields = settings.indexed.clone();
        fields.extend(settings.tenant_field.clone().map(|field| (field, Kind::Keyword)));
        if !fields.is_empty() {
            columns.index(&fields, stored.payloads()?)?;
        }
        let rows = Arc::new(rows);
        let base = match settings.metric {
            _ if rows.n_rows() == 0 => Base::Empty,
            Metric::L1 => Base::Raw(backend.upload(Arc::clone(&rows), Metric::L1)?),
            metric => {
                let rows = Arc::clone(&rows);
                let index = ExactIndex::build(&backend, pool, rows, metric, Keep::Bits, SEED)?;
                Base::Codes(Box::new(index))
            }
        };
        let costs =
            Costs { n_rows: rows.n_rows() as u64, row_s: 0.0, pass_s: 0.0, pass: base.pass() };
        let (tenants, filters) = (Mutex::default(), Mutex::default());
        let mut collection =
            Self { settings, backend, stored, columns, base, costs, tenants, filters };
        if rows.n_rows() > 0 {
            collection.measure(&rows.slice(0..1))?;
        }
        Ok(collection)
    }

    /// What the collection was made for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Points.
    pub fn n_points(&self) -> u64 {
        self.costs.n_rows
    }

    /// Times both ways with the first row as query.
    fn measure(&mut self, query: &Rows) -> Result<()> {
        let n_rows = self.costs.n_rows as usize;
        let step = n_rows.div_ceil(TIMED_ROWS);
        let slots: Vec<u32> = (0..n_rows).step_by(step).map(|row| row as u32).collect();
        let n_listed = slots.len() as f64;
        self.costs.row_s = least_seconds(|| self.listed(query, &slots, 1).map(drop))? / n_listed;
        self.costs.pass_s = least_seconds(|| self.pass(query, Allow::All, 1).map(drop))?;
        Ok(())
    }

    /// The `k` nearest points for every query, of those its tenant may read and that pass its filter. Queries of the same
    /// tenant and filter are answered together: their filter is evaluated once, and the rows are passed over once.
    ///
    /// # Errors
    /// `k_range`, `vector_dim`, `vector_dtype`, what [`Rows::check`] says; those of reading payloads.
    pub fn search(&self, queries: &Rows, asks: &[Ask], k: usize) -> Result<Vec<Answer>> {
        assert_eq!(asks.len(), queries.n_rows(), "one ask for every query");
        self.check(queries, k)?;
        let mut groups: BTreeMap<(Option<&str>, String), Vec<usize>> = BTreeMap::new();
        for (query, ask) in asks.iter().enumerate() {
            groups.entry((ask.tenant.as_deref(), ask.filter.key())).or_default().push(query);
        }
        let mut answers: Vec<Option<Answer>> = vec![None; asks.len()];
        for members in groups.values() {
            let some = queries.picked(members);
            let found = self.answer(&some, &asks[members[0]], k)?;
            for (&query, answer) in members.iter().zip(found) {
                answers[query] = Some(answer);
            }
        }
        Ok(answers.into_iter().map(|answer| answer.expect("every query is in a group")).collect())
    }

    /// Fails if the rows cannot be compared with these queries.
    fn check(&self, queries: &Rows, k: usize) -> Result<()> {
        if !(1..=K).contains(&k) {
            return Err(Error::new(
                ErrorKind::BadInput,
                "k_range",
                format!("{k}, expected 1 to {K}"),
            ));
        }
        if queries.dim() != self.settings.dim {
            let message =
                format!("queries have {} values, points have {}", queries.dim(), self.settings.dim);
            return Err(Error::new(ErrorKind::BadInput, "vector_dim", message));
        }
        let (own, theirs) = (self.settings.dtype, queries.dtype());
        if own != theirs && (own.is_integer() || theirs.is_integer()) {
            let message = format!("{} queries, {} points", theirs.name(), own.name());
            return Err(Error::new(ErrorKind::BadInput, "vector_dtype", message));
        }
        queries.check(self.settings.metric)
    }

    /// The answers to queries of one tenant and filter.
    fn answer(&self, queries: &Rows, ask: &Ask, k: usize) -> Result<Vec<Answer>> {
        let began = Instant::now();
        let passing = self.passing(ask)?;
        let n_matches = passing.as_ref().map_or(self.costs.n_rows, |passing| passing.slots.len());
        let choice = self.costs.choose(n_matches);
        let neighbors = match (choice.way, &passing) {
            (Way::Nothing, _) => vec![Vec::new(); queries.n_rows()],
            (Way::Listed, Some(passing)) => {
                let rows: Vec<u32> = self.stored.rows(&passing.slots).collect();
                self.listed(queries, &rows, k)?
            }
            (Way::Listed, None) => {
                let rows: Vec<u32> = (0..self.costs.n_rows as u32).collect();
                self.listed(queries, &rows, k)?
            }
            (_, None) => self.pass(queries, Allow::All, k)?,
            (_, Some(passing)) => {
                let mut bits = Bits::new(self.costs.n_rows as u32);
                self.stored.rows(&passing.slots).for_each(|row| bits.insert(row));
                self.pass(queries, Allow::Bits(&bits), k)?
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        let (rows_touched, payloads_read) = passing
            .map_or((0, (0, Vec::new())), |passing| (passing.rows_touched, passing.payloads_read));
        let shown = |neighbor: Neighbor| Found {
            id: self.stored.id_of_row(neighbor.slot),
            score: self.settings.metric.score(neighbor.distance),
        };
        let answer = |found: Vec<Neighbor>| Answer {
            points: found.into_iter().map(shown).collect(),
            choice,
            n_matches,
            rows_touched,
            payloads_read: payloads_read.clone(),
            n_together: queries.n_rows(),
            seconds,
        };
        Ok(neighbors.into_iter().map(answer).collect())
    }

    /// The slots that the tenant may read and that pass; `None` where every point does.
    fn passing(&self, ask: &Ask) -> Result<Option<Passing>> {
        let readable = ask.tenant.as_deref().map(|name| self.readable(name)).transpose()?;
        if ask.filter == Filter::default() {
            return Ok(readable.map(Passing::known));
        }
        let mut passing = self.evaluated(&ask.filter)?;
        if let Some(readable) = readable {
            passing.slots = Arc::new(&*passing.slots & &*readable);
        }
        Ok(Some(passing))
    }

    /// The slots that pass a filter, evaluated or known.
    fn evaluated(&self, filter: &Filter) -> Result<Passing> {
        let key = filter.key();
        let known = self.filters.lock().expect("no holder panics").get(&key).map(Arc::clone);
        if let Some(slots) = known {
            return Ok(Passing::known(slots));
        }
        let found = evaluate(filter, &self.columns, &self.stored)?;
        let slots = Arc::new(found.slots);
        let mut filters = self.filters.lock().expect("no holder panics");
        if filters.len() == KNOWN_FILTERS {
            filters.clear();
        }
        filters.insert(key, Arc::clone(&slots));
        let payloads_read = (found.payloads_read, found.read_for);
        Ok(Passing { slots, rows_touched: found.rows_touched, payloads_read })
    }

    /// The slots that a tenant may read; none for a tenant that does not exist.
    fn readable(&self, name: &str) -> Result<Arc<RoaringBitmap>> {
        let mut known = self.tenants.lock().expect("no holder panics");
        if let Some(slots) = known.get(name) {
            return Ok(Arc::clone(slots));
        }
        let slots = Arc::new(self.stored.readable(name)?);
        // Names that nobody has would fill the memory of whoever is asked for them.
        if !slots.is_empty() {
            known.insert(name.to_owned(), Arc::clone(&slots));
        }
        Ok(slots)
    }

    /// The nearest of listed rows, each compared where it lies.
    fn listed(&self, queries: &Rows, rows: &[u32], k: usize) -> Result<Vec<Vec<Neighbor>>> {
        let Some(resident) = self.base.rows() else {
            return Ok(vec![Vec::new(); queries.n_rows()]);
        };
        let nearest = |distances: Vec<f32>| {
            let mut top = TopK::new(k);
            let all = rows.iter().zip(distances);
            all.for_each(|(&slot, distance)| top.push(Neighbor { slot, distance }));
            top.into_sorted()
        };
        let n_together = (LISTED_SLOTS / rows.len().max(1)).max(1);
        let mut found = Vec::with_capacity(queries.n_rows());
        for start in (0..queries.n_rows()).step_by(n_together) {
            let some = queries.slice(start..(start + n_together).min(queries.n_rows()));
            let lists = vec![rows.to_vec(); some.n_rows()];
            let distances = self.backend.gather(Stream::default(), &some, resident, &lists)?;
            found.extend(distances.into_iter().map(nearest));
        }
        Ok(found)
    }

    /// The nearest allowed rows, by one pass over all.
    fn pass(&self, queries: &Rows, allow: Allow<'_>, k: usize) -> Result<Vec<Vec<Neighbor>>> {
        let stream = Stream::default();
        match &self.base {
            Base::Empty => Ok(vec![Vec::new(); queries.n_rows()]),
            Base::Codes(index) => {
                Ok(index.search((&self.backend, stream), queries, allow, k)?.neighbors)
            }
            Base::Raw(rows) => self.backend.flat_scan(stream, queries, rows, allow, k),
        }
    }
}

impl Base {
    fn rows(&self) -> Option<&Resident> {
        match self {
            Self::Empty => None,
            Self::Codes(index) => Some(index.rows()),
            Self::Raw(rows) => Some(rows),
        }
    }

    fn pass(&self) -> Way {
        match self {
            Self::Codes(_) => Way::Bounds,
            Self::Empty | Self::Raw(_) => Way::Scan,
        }
    }
}

/// All vectors in the order of their slots, with those slots and the ids.
fn vectors(view: &View, settings: &Settings) -> Result<(Rows, Vec<u32>, Vec<PointId>)> {
    let row_bytes = settings.dim * settings.dtype.bytes();
    let (mut slots, mut ids) = (Vec::new(), Vec::new());
    let mut bytes = Vec::with_capacity(row_bytes * view.n_points()? as usize);
    for point in view.points_by_slot(0, Parts::Vectors)? {
        let point = point?;
        let [(_, row)] = &point.vectors[..] else {
            let message =
                format!("point {}: {} vectors, expected 1", point.id, point.vectors.len());
            return Err(Error::new(ErrorKind::Corrupt, "record_corrupt", message));
        };
        if row.len() != row_bytes {
            let message = format!(
                "point {}: a vector of {} bytes, expected {row_bytes}",
                point.id,
                row.len()
            );
            return Err(Error::new(ErrorKind::Corrupt, "record_corrupt", message));
        }
        bytes.extend_from_slice(row);
        slots.push(point.slot);
        ids.push(point.id);
    }
    let values = match settings.dtype {
        Dtype::F32 => Values::F32(bytemuck::pod_collect_to_vec(&bytes).into()),
        Dtype::F16 => Values::F16(bytemuck::pod_collect_to_vec(&bytes).into()),
        Dtype::U8 => Values::U8(bytes.into()),
        Dtype::I8 => Values::I8(bytemuck::pod_collect_to_vec(&bytes).into()),
    };
    Ok((Rows::new(values, settings.dim)?, slots, ids))
}

/// The least seconds of several calls.
fn least_seconds(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..TIMINGS {
        let began = Instant::now();
        call()?;
        least = least.min(began.elapsed().as_secs_f64());
    }
    Ok(least)
}

/// A payload of the record, which holds JSON objects only.
pub(super) fn payload(id: PointId, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "record_corrupt", format!("payload of point {id}: {error}"))
    })
}
