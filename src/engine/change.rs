//! Changes of points that are there: of their payloads and vectors, and their removal.
//!
//! Up to [`BATCH_POINTS`] points are changed whole or not at all. More are changed in batches of so many, each whole, in the
//! order of their places; who reads meanwhile sees some batches done and others not. If one fails those before it stay, and
//! the error says how many points they were. No other write comes between them.
//!
//! Tenants follow payloads: where the values of the tenant field change, the tenants that are new there may read the point and
//! those that are gone may not, in the same batch. Grants that were given directly to others stay, until the point is
//! stored anew. Who may read a point may also change its tenants here: whoever lends this to tenants looks at the keys first.

use std::collections::HashMap;

use serde_json::Value;

use crate::core::ids::{PointId, TenantId};
use crate::core::limits::BATCH_POINTS;
use crate::engine::collection::Collection;
use crate::engine::edit::{self, Object};
use crate::engine::points::payload;
use crate::engine::search::Ask;
use crate::engine::settings::Settings;
use crate::engine::write::{Vectors, check_payload, fields, kind, tenants};
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::path::Path;
use crate::store::durable::{Op, Parts, View};

/// Which points are changed.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// Those of these ids. If one does not exist, or the tenant may not read it, nothing is changed.
    Ids {
        /// Who changes them; anyone without.
        tenant: Option<&'a str>,
        /// The ids.
        ids: &'a [PointId],
    },
    /// Those that the tenant may read and that pass.
    Matching(&'a Ask),
}

impl Collection {
    /// Gives payloads these keys, in place of those of the same names or beside them; null takes a key away. With a path, keys of
    /// the object there, which is made where there is none. Returns the number of points.
    ///
    /// # Errors
    /// `payload_type` if `keys` is no object; `id_not_found`; `payload_size`, `payload_depth`, `tenant_value`,
    /// `tenants_limit`, which name the point; those of the record and of reading.
    pub fn set_payload(&self, which: Which<'_>, keys: &Value, at: Option<&Path>) -> Result<u64> {
        let keys = object(keys)?;
        self.edit_payloads(which, |payload| match at {
            None => edit::merge(payload, keys),
            Some(path) => edit::merge_at(payload, path, keys),
        })
    }

    /// Gives points another payload. Returns the number of points.
    ///
    /// # Errors
    /// Those of [`Self::set_payload`].
    pub fn overwrite_payload(&self, which: Which<'_>, payload: &Value) -> Result<u64> {
        let whole = object(payload)?;
        self.edit_payloads(which, |payload| payload.clone_from(whole))
    }

    /// Takes what is at these paths out of payloads: keys, or with a last `[]` the elements of arrays; a last position takes
    /// nothing. Returns the number of points.
    ///
    /// # Errors
    /// Those of [`Self::set_payload`].
    pub fn delete_payload_keys(&self, which: Which<'_>, paths: &[Path]) -> Result<u64> {
        self.edit_payloads(which, |payload| {
            paths.iter().for_each(|path| edit::remove_at(payload, path));
        })
    }

    /// Leaves points an empty payload. Returns the number of points.
    ///
    /// # Errors
    /// Those of [`Self::set_payload`].
    pub fn clear_payload(&self, which: Which<'_>) -> Result<u64> {
        self.edit_payloads(which, Object::clear)
    }

    /// Gives points these vectors, in place of those of the same names or beside them; `ids` is to [`Vectors::points`] what points
    /// are when they are stored. Payloads and tenants stay. Returns the number of points that got some.
    ///
    /// # Errors
    /// `id_not_found` for a point that is not there or that the tenant may not read; `id_duplicate`,
    /// `vector_name_duplicate`; `vector_name`, `vector_shape`, `vector_rows`, `vector_dim`, `vector_dtype`, what
    /// [`crate::core::rows::Rows::check`] says; those of the record and of reading.
    pub fn update_vectors(
        &self,
        tenant: Option<&str>,
        ids: &[PointId],
        vectors: &[Vectors<'_>],
    ) -> Result<u64> {
        let settings = self.settings();
        let fields = fields(&settings, ids, vectors)?;
        let mut by_id = HashMap::new();
        for (&id, fields) in ids.iter().zip(&fields) {
            let mut names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            let twice = |code, what: String| {
                let message = format!("point {id}: {what} is given twice");
                Err(Error::new(ErrorKind::BadInput, code, message))
            };
            if let Some(two) = names.windows(2).find(|two| two[0] == two[1]) {
                return twice("vector_name_duplicate", format!("vector {:?}", two[0]));
            }
            let given: Vec<_> =
                fields.iter().map(|(name, bytes)| (*name, Some(&**bytes))).collect();
            if by_id.insert(id, given).is_some() {
                return twice("id_duplicate", "it".to_owned());
            }
        }
        self.change(Which::Ids { tenant, ids }, |_, ids| {
            let given = ids.iter().map(|&id| (id, &by_id[&id][..]));
            let ops: Vec<Op<'_>> = given
                .filter(|(_, vectors)| !vectors.is_empty())
                .map(|(id, vectors)| Op::SetVectors { id, vectors })
                .collect();
            self.record.apply(&ops)?;
            Ok(ops.len() as u64)
        })
    }

    /// Takes vectors of these names away from points that have them. Returns the number of points.
    ///
    /// # Errors
    /// `vector_name`; `vector_missing` in a collection of one vector, whose points all have it; `id_not_found`; those
    /// of the record and of reading.
    pub fn delete_vectors(&self, which: Which<'_>, names: &[&str]) -> Result<u64> {
        let settings = self.settings();
        names.iter().try_for_each(|name| settings.vector(name).map(drop))?;
        if settings.is_only() && !names.is_empty() {
            let message = format!("{names:?}: points of a collection with one vector have it");
            return Err(Error::new(ErrorKind::BadInput, "vector_missing", message));
        }
        let vectors: Vec<_> = names.iter().map(|&name| (name, None)).collect();
        self.change(which, |_, ids| {
            let ops: Vec<Op<'_>> =
                ids.iter().map(|&id| Op::SetVectors { id, vectors: &vectors }).collect();
            self.record.apply(&ops)?;
            Ok(ids.len() as u64)
        })
    }

    /// Removes the points that the tenant may read and that pass; returns how many there were.
    ///
    /// # Errors
    /// Those of the record and of reading.
    pub fn remove_where(&self, ask: &Ask) -> Result<u64> {
        self.change(Which::Matching(ask), |_, ids| {
            let ops: Vec<Op<'_>> = ids.iter().map(|&id| Op::Remove { id }).collect();
            Ok(self.record.apply(&ops)?.n_removed as u64)
        })
    }

    /// Does `batch` for all points, [`BATCH_POINTS`] at a time, each id once, with the record as the batch before left it. Returns
    /// the sum of what it returns.
    pub(super) fn change(
        &self,
        which: Which<'_>,
        mut batch: impl FnMut(&View, &[PointId]) -> Result<u64>,
    ) -> Result<u64> {
        let _writing = self.writing.lock().expect("no writer panics half-way");
        let ids = self.chosen(which)?;
        let (mut n_done, mut sum) = (0, 0);
        for some in ids.chunks(BATCH_POINTS) {
            let done = self.record.view().and_then(|view| batch(&view, some));
            let done = done.and_then(|n| self.follow().map(|()| n));
            sum += done.map_err(|error| match n_done {
                0 => error,
                _ => error.within(format!("{n_done} of {} points are done", ids.len())),
            })?;
            n_done += some.len();
        }
        Ok(sum)
    }

    fn chosen(&self, which: Which<'_>) -> Result<Vec<PointId>> {
        self.read_whole(|state| match which {
            Which::Matching(ask) => {
                Ok(state.matching(ask)?.iter().map(|place| state.places.id(place)).collect())
            }
            Which::Ids { tenant, ids } => {
                let readable = state.which_readable(tenant, ids)?;
                if let Some(i) = readable.iter().position(|may| !may) {
                    let message = format!("there is no point {}", ids[i]);
                    return Err(Error::new(ErrorKind::NotFound, "id_not_found", message));
                }
                let mut ids = ids.to_vec();
                ids.sort_unstable();
                ids.dedup();
                Ok(ids)
            }
        })
    }

    fn edit_payloads(&self, which: Which<'_>, edit: impl Fn(&mut Object)) -> Result<u64> {
        let settings = self.settings();
        self.change(which, |view, ids| {
            let points = view.get(ids, Parts::Payload)?;
            let edited = points
                .into_iter()
                .flatten()
                .map(|point| Edited::of(&settings, point.id, &point.payload, &edit))
                .collect::<Result<Vec<_>>>()?;
            let known = self.tenants_of(view, &edited)?;
            let mut ops = Vec::with_capacity(edited.len());
            for one in &edited {
                let id = one.id;
                ops.push(Op::SetPayload { id, payload: one.payload.as_bytes() });
                let known = |name: &String| known.get(name.as_str()).copied();
                let gone = one.gone.iter().filter_map(known);
                ops.extend(gone.map(|tenant| Op::Revoke { id, tenant }));
                let new = one.new.iter().filter_map(known);
                ops.extend(new.map(|tenant| Op::Grant { id, tenant }));
            }
            self.record.apply(&ops)?;
            Ok(edited.len() as u64)
        })
    }

    /// The tenants that come or go: those that come are made where there are none.
    fn tenants_of<'e>(
        &self,
        view: &View,
        edited: &'e [Edited],
    ) -> Result<HashMap<&'e str, TenantId>> {
        let mut known = HashMap::new();
        for name in edited.iter().flat_map(|one| &one.gone) {
            if !known.contains_key(name.as_str())
                && let Some(tenant) = view.tenant(name)?
            {
                known.insert(name.as_str(), tenant);
            }
        }
        let mut new: Vec<&str> =
            edited.iter().flat_map(|one| &one.new).map(String::as_str).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            known.extend(new.iter().copied().zip(self.record.tenants(&new)?));
        }
        Ok(known)
    }
}

/// A payload as it will be, and the names of tenants that come and go with it.
struct Edited {
    id: PointId,
    payload: String,
    gone: Vec<String>,
    new: Vec<String>,
}

impl Edited {
    fn of(
        settings: &Settings,
        id: PointId,
        bytes: &[u8],
        edit: impl Fn(&mut Object),
    ) -> Result<Self> {
        let mut payload = payload(id, bytes)?;
        let mut gone = tenants(settings, id, &payload)?;
        edit(payload.as_object_mut().expect("only objects are stored"));
        check_payload(id, &payload)?;
        let mut new = tenants(settings, id, &payload)?;
        let before = gone.clone();
        gone.retain(|name| new.binary_search(name).is_err());
        new.retain(|name| before.binary_search(name).is_err());
        Ok(Self { id, payload: payload.to_string(), gone, new })
    }
}

fn object(value: &Value) -> Result<&Object> {
    value.as_object().ok_or_else(|| {
        let message = format!("{}, expected an object", kind(value));
        Error::new(ErrorKind::BadInput, "payload_type", message)
    })
}
