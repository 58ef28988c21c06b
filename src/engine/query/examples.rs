//! Examples become rows that a vector's rows can be compared with.

use roaring::RoaringBitmap;

use crate::core::ids::PointId;
use crate::core::rows::{Dtype, Rows, Values};
use crate::engine::collection::Collection;
use crate::engine::query::check::bad;
use crate::engine::query::request::{Example, Prefetch};
use crate::engine::settings::{Settings, VectorSettings};
use crate::engine::state::State;
use crate::engine::stored::{With, WithVectors};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::filter::Points;

/// The examples of a stage.
pub(super) struct Examples {
    /// Each as it was given or stored, in the order of [`Kind::examples`](super::Kind::examples).
    pub vectors: Vec<Vec<f32>>,
    /// Places of those that are points of the collection: they are not found.
    pub mentioned: RoaringBitmap,
}

impl State {
    /// The examples of a stage.
    ///
    /// # Errors
    /// `id_not_found`, for points that the tenant may not read as for those that are not there; `vector_not_found`,
    /// `vector_name`; `lookup` for a point of another collection that was not looked up; those of reading.
    pub(super) fn examples(
        &self,
        tenant: Option<&str>,
        stage: &Prefetch,
        settings: &Settings,
    ) -> Result<Examples> {
        let is_of_other = stage.lookup.as_ref().is_some_and(|lookup| lookup.collection.is_some());
        let (mut vectors, mut ids) = (Vec::new(), Vec::new());
        for example in stage.kind.examples() {
            vectors.push(match example {
                Example::Vector(values) => values.clone(),
                Example::Id(id) if is_of_other => {
                    let message = format!("point {id} of another collection was not looked up");
                    return Err(Error::usage("lookup", message));
                }
                Example::Id(id) => {
                    ids.push(*id);
                    self.vector_of(tenant, *id, stage.looked_up_vector(), settings)?
                }
            });
        }
        // A point may be named twice.
        ids.sort_unstable();
        ids.dedup();
        Ok(Examples { vectors, mentioned: self.slots(&ids)? })
    }

    fn vector_of(
        &self,
        tenant: Option<&str>,
        id: PointId,
        name: &str,
        settings: &Settings,
    ) -> Result<Vec<f32>> {
        settings.vector(name)?;
        let with = With { payload: false, vectors: WithVectors::Named(vec![name.to_owned()]) };
        let missing = |code, message| Error::new(ErrorKind::NotFound, code, message);
        let point = self.retrieve(tenant, &[id], &with, settings)?.swap_remove(0);
        let Some(mut point) = point else {
            return Err(missing("id_not_found", format!("there is no point {id}")));
        };
        let Some((_, row)) = point.vectors.pop() else {
            let message = format!("point {id} has no vector {name:?}");
            return Err(missing("vector_not_found", message));
        };
        let mut values = vec![0.0; row.dim()];
        row.widen(0, &mut values);
        Ok(values)
    }

    /// The row of a point that has this vector, whoever may read it.
    pub(super) fn stored_row(&self, id: PointId, name: &str, settings: &Settings) -> Result<Rows> {
        let with = With { payload: false, vectors: WithVectors::Named(vec![name.to_owned()]) };
        let point = self.retrieve(None, &[id], &with, settings)?.swap_remove(0);
        let row = point.and_then(|mut point| point.vectors.pop());
        row.map(|(_, row)| row).ok_or_else(|| {
            let message = format!("point {id} has a row of {name:?} in the index only");
            Error::new(ErrorKind::Corrupt, "record_corrupt", message)
        })
    }
}

impl Collection {
    /// The vector of a point that the tenant may read.
    ///
    /// # Errors
    /// `id_not_found`, `vector_not_found`, `vector_name`; those of reading.
    pub(super) fn vector_of(
        &self,
        tenant: Option<&str>,
        id: PointId,
        name: &str,
    ) -> Result<Vec<f32>> {
        let settings = self.settings();
        self.read(|state| state.vector_of(tenant, id, name, &settings))
    }
}

/// Examples as rows of the type that the vector's rows can be compared with.
///
/// # Errors
/// `vector_dim`; `vector_dtype` for elements that a vector of whole numbers cannot have.
pub(super) fn rows_of(vectors: &[Vec<f32>], settings: &VectorSettings) -> Result<Rows> {
    let dim = settings.dim;
    if let Some(wrong) = vectors.iter().find(|vector| vector.len() != dim) {
        let message = format!("queries have {} values, points have {dim}", wrong.len());
        return Err(bad("vector_dim", message));
    }
    let all = || vectors.iter().flatten().copied();
    let whole = |least: f32, most: f32| {
        let is_whole = |x: &f32| x.fract() == 0.0 && (least..=most).contains(x);
        match all().find(|x| !is_whole(x)) {
            None => Ok(()),
            Some(other) => {
                let name = settings.dtype.name();
                let message = format!(
                    "{other} as a query of {name} points, expected whole numbers from {least} to {most}"
                );
                Err(bad("vector_dtype", message))
            }
        }
    };
    let values = match settings.dtype {
        Dtype::F32 | Dtype::F16 => Values::F32(all().collect()),
        Dtype::U8 => {
            whole(0.0, 255.0)?;
            Values::U8(all().map(|x| x as u8).collect())
        }
        Dtype::I8 => {
            whole(-127.0, 127.0)?;
            Values::I8(all().map(|x| x as i8).collect())
        }
    };
    Rows::new(values, dim)
}

/// The mean of the positive vectors, and with negative ones as far beyond it as the mean of those is before it. Where points
/// have whole numbers, so has it: the nearest that there are.
///
/// # Errors
/// `vector_dim`.
pub(super) fn average(
    positive: &[Vec<f32>],
    negative: &[Vec<f32>],
    settings: &VectorSettings,
) -> Result<Vec<f32>> {
    let dim = settings.dim;
    if let Some(wrong) = positive.iter().chain(negative).find(|vector| vector.len() != dim) {
        let message = format!("examples have {} values, points have {dim}", wrong.len());
        return Err(bad("vector_dim", message));
    }
    let mean = |vectors: &[Vec<f32>], i: usize| {
        vectors.iter().map(|vector| f64::from(vector[i])).sum::<f64>() / vectors.len() as f64
    };
    let element = |i: usize| match negative {
        [] => mean(positive, i),
        _ => 2.0 * mean(positive, i) - mean(negative, i),
    };
    let exact = (0..dim).map(element);
    Ok(match settings.dtype {
        Dtype::F32 | Dtype::F16 => exact.map(|x| x as f32).collect(),
        Dtype::U8 => exact.map(|x| x.round().clamp(0.0, 255.0) as f32).collect(),
        Dtype::I8 => exact.map(|x| x.round().clamp(-127.0, 127.0) as f32).collect(),
    })
}
