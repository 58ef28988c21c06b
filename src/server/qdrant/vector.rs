//! Vectors as clients write them, made rows of the collection's type, and back.

use std::fmt;

use half::f16;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::metric::Metric;
use crate::core::rows::{Dtype, Rows, Values};
use crate::engine::{DEFAULT_VECTOR, Settings, VectorSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::server::qdrant::json::{Entries, Form};
use crate::server::qdrant::numbers;

/// How far the square of a norm may be from 1 for a row to be left as it is: dividing a unit row again moves its last bits.
const UNIT_SLACK: f64 = 1e-6;

/// The vectors of one point: the one without a name, or some by name.
pub type Vector = Form<Numbers, Entries<Numbers>>;

/// The numbers of one vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers(pub Vec<f32>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNumbers)
    }
}

struct AnyNumbers;

impl<'de> Visitor<'de> for AnyNumbers {
    type Value = Numbers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Numbers, E> {
        match numbers::referred(text) {
            Some(numbers) => numbers.map(Numbers).map_err(E::custom),
            None => Err(E::invalid_type(Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Numbers, A::Error> {
        let mut row = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(value) = seq.next_element::<f32>()? {
            row.push(value);
        }
        Ok(Numbers(row))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Numbers, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        let what = "sparse vectors and texts to embed are not offered, expected a list of numbers";
        Err(A::Error::custom(what))
    }
}

/// The name of a vector in the collection: in that API the one without a name has an empty one.
pub fn name(given: &str) -> &str {
    if given.is_empty() { DEFAULT_VECTOR } else { given }
}

/// The name of a vector of the collection as clients know it: that which it was made with.
pub fn shown_name<'n>(settings: &Settings, own: &'n str) -> &'n str {
    let made_with = &settings.note["config"]["vectors"];
    if own == DEFAULT_VECTOR && made_with.get(DEFAULT_VECTOR).is_none() { "" } else { own }
}

/// The vectors of points by name: which points have each, and their rows.
pub struct Gathered {
    /// The name.
    pub name: String,
    /// The numbers of the points that have it.
    pub points: Vec<usize>,
    /// A row for each.
    pub rows: Rows,
}

/// The vectors of points, by name.
///
/// # Errors
/// `vector_name`, `vector_dim`, those of [`rows`]; with the place in the request.
pub fn gather(settings: &Settings, points: Vec<Vector>, place: &str) -> Result<Vec<Gathered>> {
    let mut columns: Vec<(Vec<usize>, Vec<f32>)> = vec![Default::default(); settings.vectors.len()];
    let mut add = |point: usize, given: &str, row: Vec<f32>| -> Result<()> {
        let at = settings.vector(name(given))?;
        check_dim(&settings.vectors[at], row.len())?;
        columns[at].0.push(point);
        match columns[at].1.is_empty() {
            true => columns[at].1 = row,
            false => columns[at].1.extend(row),
        }
        Ok(())
    };
    for (point, vector) in points.into_iter().enumerate() {
        let added = match vector {
            Form::Short(Numbers(row)) => add(point, "", row),
            Form::Object(Entries(rows)) => {
                rows.into_iter().try_for_each(|(name, row)| add(point, &name, row.0))
            }
        };
        added.map_err(|error| error.within(format!("{place}[{point}].vector")))?;
    }
    let mut gathered = Vec::new();
    for (own, (points, values)) in settings.vectors.iter().zip(columns) {
        if !points.is_empty() {
            let rows = rows(own, values).map_err(|error| named(error, own, &points, place))?;
            gathered.push(Gathered { name: own.name.clone(), points, rows });
        }
    }
    Ok(gathered)
}

/// The error with the vector that it is about; of some rows the numbers are those of points.
fn named(error: Error, own: &VectorSettings, points: &[usize], place: &str) -> Error {
    let of = match points.last().is_some_and(|last| last + 1 == points.len()) {
        true => format!("rows are {place}"),
        false => format!("rows are those of {place} that have it"),
    };
    error.within(format!("vector {:?}, whose {of}", own.name))
}

fn check_dim(own: &VectorSettings, n_values: usize) -> Result<()> {
    if n_values == own.dim {
        return Ok(());
    }
    let message = format!("{n_values} values, vector {:?} has {}", own.name, own.dim);
    Err(Error::new(ErrorKind::BadInput, "vector_dim", message))
}

/// Rows of a vector's type. For cosine each has norm 1, as clients of that API expect what they stored to come back.
///
/// # Errors
/// `vector_not_finite`, `vector_zero_norm`, `vector_magnitude`; `vector_range` for numbers that the type has not.
pub fn rows(own: &VectorSettings, mut values: Vec<f32>) -> Result<Rows> {
    let is_unit = own.metric == Metric::Cosine && !own.dtype.is_integer();
    if is_unit {
        let rows = Rows::new(Values::F32(values.into()), own.dim)?;
        rows.check(Metric::Cosine)?;
        let Values::F32(given) = rows.values() else { unreachable!("they were made so") };
        values = given.to_vec();
        values.chunks_exact_mut(own.dim).for_each(normalize);
    }
    let rows = Rows::new(typed(own.dtype, own.dim, values)?, own.dim)?;
    rows.check(own.metric)?;
    Ok(rows)
}

fn normalize(row: &mut [f32]) {
    let square: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if (square - 1.0).abs() > UNIT_SLACK {
        let norm = square.sqrt();
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}

fn typed(dtype: Dtype, dim: usize, values: Vec<f32>) -> Result<Values> {
    let refused = |is_bad: &dyn Fn(f32) -> bool, expected: &str| -> Result<()> {
        match values.iter().position(|&x| x.is_finite() && is_bad(x)) {
            None => Ok(()),
            Some(at) => {
                let (row, element) = (at / dim, at % dim);
                let message =
                    format!("row {row}, element {element} is {}, expected {expected}", values[at]);
                Err(Error::new(ErrorKind::BadInput, "vector_range", message))
            }
        }
    };
    let whole = |low: f32, high: f32| move |x: f32| x.fract() != 0.0 || !(low..=high).contains(&x);
    match dtype {
        Dtype::F32 => {}
        Dtype::F16 => refused(&|x| f16::from_f32(x).is_infinite(), "at most 65504")?,
        Dtype::U8 => refused(&whole(0.0, 255.0), "a whole number from 0 to 255")?,
        Dtype::I8 => refused(&whole(-127.0, 127.0), "a whole number from -127 to 127")?,
    }
    if dtype.is_integer() {
        // What is not finite has no integer.
        drop(Rows::new(Values::F32(values.clone().into()), dim)?);
    }
    Ok(match dtype {
        Dtype::F32 => Values::F32(values.into()),
        Dtype::F16 => Values::F16(values.into_iter().map(f16::from_f32).collect::<Vec<_>>().into()),
        Dtype::U8 => Values::U8(values.into_iter().map(|x| x as u8).collect::<Vec<_>>().into()),
        Dtype::I8 => Values::I8(values.into_iter().map(|x| x as i8).collect::<Vec<_>>().into()),
    })
}

/// What clients are shown as the score of a point: the similarity for cosine and dot, the distance for the others, of which
/// the engine knows the Euclidean one squared.
pub fn score(metric: Metric, score: f32) -> f32 {
    match metric {
        Metric::L2 => f64::from(score).sqrt() as f32,
        Metric::Cosine | Metric::Dot | Metric::L1 => score,
    }
}

/// The vectors of a point as they are sent: a list if there is but the one without a name, an object otherwise.
pub struct Sent(Vec<(String, Rows)>);

impl Sent {
    /// Vectors of a point of the collection.
    pub fn of(settings: &Settings, vectors: Vec<(String, Rows)>) -> Self {
        let shown = |(name, rows): (String, Rows)| (shown_name(settings, &name).to_owned(), rows);
        Self(vectors.into_iter().map(shown).collect())
    }
}

impl Serialize for Sent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let [(name, row)] = &self.0[..]
            && name.is_empty()
        {
            return SentRow(row).serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, row) in &self.0 {
            map.serialize_entry(name, &SentRow(row))?;
        }
        map.end()
    }
}

struct SentRow<'r>(&'r Rows);

impl Serialize for SentRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = self.0.values();
        serializer.collect_seq((0..values.len()).map(|i| values.get(i)))
    }
}
