//! Examples become what a vector of the points can be compared with.

use roaring::RoaringBitmap;

use crate::core::ids::PointId;
use crate::core::rows::{Dtype, Rows, Values};
use crate::core::sparse::SparseVector;
use crate::engine::collection::Collection;
use crate::engine::kept::only_in_index;
use crate::engine::query::check::bad;
use crate::engine::query::request::{Example, Prefetch};
use crate::engine::settings::{Settings, VectorSettings, VectorShape};
use crate::engine::spaces::Queries;
use crate::engine::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::filter::Points;
use crate::store::durable::Parts;

/// The examples of a stage.
pub(super) struct Examples {
    /// Each as it was given or stored, in the order of [`Kind::examples`](super::Kind::examples): none is an id.
    pub vectors: Vec<Example>,
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
                Example::Id(id) if is_of_other => {
                    let message = format!("point {id} of another collection was not looked up");
                    return Err(Error::usage("lookup", message));
                }
                Example::Id(id) => {
                    ids.push(*id);
                    self.vector_of(tenant, *id, stage.looked_up_vector(), settings)?
                }
                given => given.clone(),
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
    ) -> Result<Example> {
        settings.vector(name)?;
        let missing = |code, message| Error::new(ErrorKind::NotFound, code, message);
        if !self.which_readable(tenant, &[id])?[0] {
            return Err(missing("id_not_found", format!("there is no point {id}")));
        }
        let stored = self.stored(id, name, settings)?.ok_or_else(|| {
            missing("vector_not_found", format!("point {id} has no vector {name:?}"))
        })?;
        Ok(match stored {
            Queries::Rows(row) => Example::Vector(widened(&row).swap_remove(0)),
            Queries::Multi(mut all) => Example::Rows(widened(&all.swap_remove(0))),
            Queries::Sparse(mut all) => Example::Sparse(all.swap_remove(0)),
        })
    }

    /// What a point has of a vector, whoever may read it.
    fn stored(&self, id: PointId, name: &str, settings: &Settings) -> Result<Option<Queries>> {
        let own = &settings.vectors[settings.vector(name)?];
        let point = self.view.get(&[id], Parts::Vectors)?.swap_remove(0);
        let bytes = point.and_then(|point| {
            point.vectors.into_iter().find(|(own, _)| own == name).map(|(_, bytes)| bytes)
        });
        bytes.map(|bytes| Queries::of_bytes(own, &bytes)).transpose()
    }

    /// The vector of a point that is known to have it, whoever may read it.
    pub(super) fn stored_vector(
        &self,
        id: PointId,
        name: &str,
        settings: &Settings,
    ) -> Result<Queries> {
        self.stored(id, name, settings)?.ok_or_else(|| only_in_index(id, name))
    }
}

fn widened(rows: &Rows) -> Vec<Vec<f32>> {
    let row = |i| {
        let mut values = vec![0.0; rows.dim()];
        rows.widen(i, &mut values);
        values
    };
    (0..rows.n_rows()).map(row).collect()
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
    ) -> Result<Example> {
        let settings = self.settings();
        self.read(|state| state.vector_of(tenant, id, name, &settings))
    }
}

/// Examples, none of which is an id, as what the points' vector can be compared with.
///
/// # Errors
/// `vector_shape` for one of another shape than the vector; those of [`rows_of`]; of rows of several what [`Rows::check`] says.
pub(super) fn queries_of(examples: &[Example], settings: &VectorSettings) -> Result<Queries> {
    match settings.shape {
        VectorShape::Dense => {
            let rows = examples.iter().map(|example| row(example, settings));
            Ok(Queries::Rows(rows_of(&rows.collect::<Result<Vec<_>>>()?, settings)?))
        }
        VectorShape::Multi => {
            let multi = |example| {
                let rows = rows_of(&several(example, settings)?, settings)?;
                rows.check(settings.metric)?;
                Ok(rows)
            };
            Ok(Queries::Multi(examples.iter().map(multi).collect::<Result<_>>()?))
        }
        VectorShape::Sparse { .. } => {
            let sparse = |example| sparse(example, settings).cloned();
            Ok(Queries::Sparse(examples.iter().map(sparse).collect::<Result<_>>()?))
        }
    }
}

fn row<'e>(example: &'e Example, settings: &VectorSettings) -> Result<&'e [f32]> {
    match example {
        Example::Vector(row) => Ok(row),
        other => Err(other_shape(other, settings)),
    }
}

fn several<'e>(example: &'e Example, settings: &VectorSettings) -> Result<Vec<&'e [f32]>> {
    match example {
        Example::Rows(rows) => Ok(rows.iter().map(Vec::as_slice).collect()),
        other => Err(other_shape(other, settings)),
    }
}

fn sparse<'e>(example: &'e Example, settings: &VectorSettings) -> Result<&'e SparseVector> {
    match example {
        Example::Sparse(sparse) => Ok(sparse),
        other => Err(other_shape(other, settings)),
    }
}

fn other_shape(example: &Example, settings: &VectorSettings) -> Error {
    settings.shape_error(match example {
        Example::Vector(_) => "a dense one for a list of numbers",
        Example::Rows(_) => "one of several rows for a list of rows",
        Example::Sparse(_) => "a sparse one for indices and values",
        Example::Id(_) => "one that points have",
    })
}

/// Examples as rows of the type that the vector's rows can be compared with.
///
/// # Errors
/// `vector_dim`; `vector_dtype` for elements that a vector of whole numbers cannot have.
fn rows_of(vectors: &[&[f32]], settings: &VectorSettings) -> Result<Rows> {
    let dim = settings.dim;
    if let Some(wrong) = vectors.iter().find(|vector| vector.len() != dim) {
        let message = format!("queries have {} values, points have {dim}", wrong.len());
        return Err(bad("vector_dim", message));
    }
    let all = || vectors.iter().copied().flatten().copied();
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

/// One example in the place of positive and negative ones: see [`Strategy::AverageVector`](super::Strategy::AverageVector).
///
/// # Errors
/// `vector_shape`, `vector_dim`.
pub(super) fn average(
    positive: &[Example],
    negative: &[Example],
    settings: &VectorSettings,
) -> Result<Example> {
    match settings.shape {
        VectorShape::Dense => {
            let rows = |examples: &[Example]| {
                examples.iter().map(|one| row(one, settings).map(<[f32]>::to_vec)).collect()
            };
            let (positive, negative): (Result<Vec<_>>, Result<Vec<_>>) =
                (rows(positive), rows(negative));
            Ok(Example::Vector(mean(&positive?, &negative?, settings)?))
        }
        VectorShape::Multi => {
            let mut rows: Vec<Vec<f32>> = Vec::new();
            for example in positive {
                rows.extend(several(example, settings)?.into_iter().map(<[f32]>::to_vec));
            }
            for example in negative {
                let minus = |row: &[f32]| row.iter().map(|value| -value).collect();
                rows.extend(several(example, settings)?.into_iter().map(minus));
            }
            Ok(Example::Rows(rows))
        }
        VectorShape::Sparse { .. } => {
            let of = |examples: &[Example], weight: f64| -> Result<Vec<(f64, SparseVector)>> {
                let weight = weight / examples.len() as f64;
                let one = |one| Ok((weight, sparse(one, settings)?.clone()));
                examples.iter().map(one).collect()
            };
            let twice = if negative.is_empty() { 1.0 } else { 2.0 };
            let parts = [of(positive, twice)?, of(negative, -1.0)?].concat();
            let parts = parts.iter().map(|(weight, sparse)| (*weight, sparse));
            Ok(Example::Sparse(SparseVector::sum(parts)))
        }
    }
}

/// The mean of the positive vectors, and with negative ones as far beyond it as the mean of those is before it. Where points
/// have whole numbers, so has it: the nearest that there are.
///
/// # Errors
/// `vector_dim`.
fn mean(
    positive: &[Vec<f32>],
    negative: &[Vec<f32>],
    settings: &VectorSettings,
) -> Result<Vec<f32>> {
    let dim = settings.dim;
    if let Some(wrong) = positive.iter().chain(negative).find(|vector| vector.len() != dim) {
        let message = format!("examples have {} values, points have {dim}", wrong.len());
        return Err(bad("vector_dim", message));
    }
    let mean_of = |vectors: &[Vec<f32>], i: usize| {
        vectors.iter().map(|vector| f64::from(vector[i])).sum::<f64>() / vectors.len() as f64
    };
    let element = |i: usize| match negative {
        [] => mean_of(positive, i),
        _ => 2.0 * mean_of(positive, i) - mean_of(negative, i),
    };
    let exact = (0..dim).map(element);
    Ok(match settings.dtype {
        Dtype::F32 | Dtype::F16 => exact.map(|x| x as f32).collect(),
        Dtype::U8 => exact.map(|x| x.round().clamp(0.0, 255.0) as f32).collect(),
        Dtype::I8 => exact.map(|x| x.round().clamp(-127.0, 127.0) as f32).collect(),
    })
}
