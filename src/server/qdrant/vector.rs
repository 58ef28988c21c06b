//! Vectors as clients write them, made rows of the collection's type, and back.

use std::fmt;

use half::f16;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::metric::Metric;
use crate::core::rows::{Dtype, Rows, Values};
use crate::core::sparse::SparseVector;
use crate::engine::query::Example;
use crate::engine::{
    DEFAULT_VECTOR, Given, Settings, StoredPoint, VectorSettings, VectorShape, Vectors,
};
use crate::error::{Error, ErrorKind, Result};
use crate::server::qdrant::json::{Entries, Form};
use crate::server::qdrant::numbers;

/// How far the square of a norm may be from 1 for a row to be left as it is: dividing a unit row again moves its last bits.
const UNIT_SLACK: f64 = 1e-6;

/// The vectors of one point: the one without a name, or some by name.
pub type Vector = Form<Numbers, Entries<Numbers>>;

/// One vector, of whatever shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// A row.
    Row(Vec<f32>),
    /// Rows.
    Rows(Vec<Vec<f32>>),
    /// Values at some indices.
    Sparse(SparseNumbers),
}

/// A sparse vector as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseNumbers {
    indices: Vec<u32>,
    values: Floats,
}

impl SparseNumbers {
    /// The vector.
    ///
    /// # Errors
    /// Those of [`SparseVector::new`].
    pub fn vector(self) -> Result<SparseVector> {
        SparseVector::new(self.indices, self.values.0)
    }
}

impl Numbers {
    /// As what is looked for.
    ///
    /// # Errors
    /// Those of [`SparseVector::new`].
    pub fn example(self) -> Result<Example> {
        Ok(match self {
            Self::Row(row) => Example::Vector(row),
            Self::Rows(rows) => Example::Rows(rows),
            Self::Sparse(sparse) => Example::Sparse(sparse.vector()?),
        })
    }

    /// The row that a query must be where nothing else can be compared.
    ///
    /// # Errors
    /// `vector_shape`.
    pub fn row(self) -> Result<Vec<f32>> {
        match self {
            Self::Row(row) => Ok(row),
            Self::Rows(_) | Self::Sparse(_) => {
                let message = "a vector of another shape, expected a list of numbers";
                Err(Error::new(ErrorKind::BadInput, "vector_shape", message))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNumbers)
    }
}

/// The first element of a list, which says what the others are.
enum First {
    Number(f32),
    Row(Vec<f32>),
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyFirst)
    }
}

struct AnyFirst;

impl<'de> Visitor<'de> for AnyFirst {
    type Value = First;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a list of numbers")
    }

    fn visit_i64<E>(self, value: i64) -> Result<First, E> {
        Ok(First::Number(value as f32))
    }

    fn visit_u64<E>(self, value: u64) -> Result<First, E> {
        Ok(First::Number(value as f32))
    }

    fn visit_f64<E>(self, value: f64) -> Result<First, E> {
        Ok(First::Number(value as f32))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<First, E> {
        AnyFloats.visit_str(text).map(|Floats(row)| First::Row(row))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<First, A::Error> {
        AnyFloats.visit_seq(seq).map(|Floats(row)| First::Row(row))
    }
}

/// A list of numbers, or what refers to some behind the head.
#[derive(Clone, Debug, PartialEq)]
struct Floats(Vec<f32>);

impl<'de> Deserialize<'de> for Floats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyFloats)
    }
}

struct AnyFloats;

impl<'de> Visitor<'de> for AnyFloats {
    type Value = Floats;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Floats, E> {
        match numbers::referred(text) {
            Some(numbers) => numbers.map(Floats).map_err(E::custom),
            None => Err(E::invalid_type(Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Floats, A::Error> {
        let mut row = Vec::new();
        while let Some(value) = seq.next_element::<f32>()? {
            row.push(value);
        }
        Ok(Floats(row))
    }
}

struct AnyNumbers;

impl<'de> Visitor<'de> for AnyNumbers {
    type Value = Numbers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers, a list of such lists, or an object with indices and values")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Numbers, E> {
        match numbers::referred(text) {
            Some(numbers) => numbers.map(Numbers::Row).map_err(E::custom),
            None => Err(E::invalid_type(Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Numbers, A::Error> {
        let n_expected = seq.size_hint().unwrap_or(0).min(4096);
        match seq.next_element::<First>()? {
            None => Ok(Numbers::Row(Vec::new())),
            Some(First::Number(first)) => {
                let mut row = Vec::with_capacity(n_expected);
                row.push(first);
                while let Some(value) = seq.next_element::<f32>()? {
                    row.push(value);
                }
                Ok(Numbers::Row(row))
            }
            Some(First::Row(first)) => {
                let mut rows = vec![first];
                while let Some(Floats(row)) = seq.next_element()? {
                    rows.push(row);
                }
                Ok(Numbers::Rows(rows))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Numbers, A::Error> {
        SparseNumbers::deserialize(MapAccessDeserializer::new(entries)).map(Numbers::Sparse)
    }
}

/// The name of a vector in the collection: in that API the one without a name has an empty one.
pub fn name(given: &str) -> &str {
    if given.is_empty() { DEFAULT_VECTOR } else { given }
}

/// The name of a vector of the collection as clients know it: that which it was made with.
pub fn shown_name<'n>(settings: &Settings, own: &'n str) -> &'n str {
    let made_with = &settings.note["config"];
    let is_given =
        |of: &str| made_with[of].get(DEFAULT_VECTOR).is_some_and(|given| !given.is_null());
    let is_unnamed = own == DEFAULT_VECTOR && !is_given("vectors") && !is_given("sparse_vectors");
    if is_unnamed { "" } else { own }
}

/// The vectors of points by name: which points have each, and what they have.
pub struct Gathered {
    name: String,
    /// The numbers of the points that have it.
    points: Vec<usize>,
    values: GatheredValues,
}

enum GatheredValues {
    Rows(Rows),
    Multi(Vec<Rows>),
    Sparse(Vec<SparseVector>),
}

impl Gathered {
    /// As the engine takes them.
    pub fn lent(&self) -> Vectors<'_> {
        let rows = match &self.values {
            GatheredValues::Rows(rows) => Given::Rows(rows),
            GatheredValues::Multi(all) => Given::Multi(all),
            GatheredValues::Sparse(all) => Given::Sparse(all),
        };
        Vectors { name: &self.name, points: Some(&self.points), rows }
    }
}

/// One vector of points, while they are gathered.
#[derive(Default)]
struct Column {
    points: Vec<usize>,
    row_values: Vec<f32>,
    multi: Vec<Rows>,
    sparse: Vec<SparseVector>,
}

impl Column {
    fn add(&mut self, own: &VectorSettings, point: usize, given: Numbers) -> Result<()> {
        match (own.shape, given) {
            (VectorShape::Dense, Numbers::Row(row)) => {
                check_dim(own, row.len())?;
                match self.row_values.is_empty() {
                    true => self.row_values = row,
                    false => self.row_values.extend(row),
                }
            }
            (VectorShape::Multi, Numbers::Rows(given)) => {
                given.iter().try_for_each(|row| check_dim(own, row.len()))?;
                self.multi.push(rows(own, given.concat())?);
            }
            (VectorShape::Sparse { .. }, Numbers::Sparse(sparse)) => {
                let vector = sparse.vector();
                self.sparse.push(vector.map_err(|error| error.within(quoted(own)))?);
            }
            (VectorShape::Dense, _) => return Err(other_shape(own, "a list of numbers")),
            (VectorShape::Multi, _) => return Err(other_shape(own, "a list of lists of numbers")),
            (VectorShape::Sparse { .. }, _) => {
                return Err(other_shape(own, "indices and values"));
            }
        }
        self.points.push(point);
        Ok(())
    }

    fn gathered(self, own: &VectorSettings, place: &str) -> Result<Gathered> {
        let Self { points, row_values, multi, sparse } = self;
        let values = match own.shape {
            VectorShape::Dense => GatheredValues::Rows(
                rows(own, row_values).map_err(|error| named(error, own, &points, place))?,
            ),
            VectorShape::Multi => GatheredValues::Multi(multi),
            VectorShape::Sparse { .. } => GatheredValues::Sparse(sparse),
        };
        Ok(Gathered { name: own.name.clone(), points, values })
    }
}

fn quoted(own: &VectorSettings) -> String {
    format!("vector {:?}", own.name)
}

fn other_shape(own: &VectorSettings, expected: &str) -> Error {
    let message = format!("{} is {}, expected {expected}", quoted(own), own.shape.name());
    Error::new(ErrorKind::BadInput, "vector_shape", message)
}

/// The vectors of points, by name.
///
/// # Errors
/// `vector_name`, `vector_shape`, `vector_dim`, those of [`rows`] and of [`SparseVector::new`]; with the place in the request.
pub fn gather(settings: &Settings, points: Vec<Vector>, place: &str) -> Result<Vec<Gathered>> {
    let mut columns: Vec<Column> = settings.vectors.iter().map(|_| Column::default()).collect();
    let mut add = |point: usize, given: &str, numbers: Numbers| -> Result<()> {
        let at = settings.vector(name(given))?;
        columns[at].add(&settings.vectors[at], point, numbers)
    };
    for (point, vector) in points.into_iter().enumerate() {
        let added = match vector {
            Form::Short(numbers) => add(point, "", numbers),
            Form::Object(Entries(all)) => {
                all.into_iter().try_for_each(|(name, numbers)| add(point, &name, numbers))
            }
        };
        added.map_err(|error| error.within(format!("{place}[{point}].vector")))?;
    }
    let columns = settings.vectors.iter().zip(columns);
    let columns = columns.filter(|(_, column)| !column.points.is_empty());
    columns.map(|(own, column)| column.gathered(own, place)).collect()
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

/// The vectors of a point as they are sent: by itself if there is but the one without a name, an object otherwise.
pub struct Sent(Vec<(String, SentVector)>);

enum SentVector {
    Row(Rows),
    Rows(Rows),
    Sparse(SparseVector),
}

impl Sent {
    /// Vectors of a point of the collection.
    pub fn of(settings: &Settings, point: StoredPoint) -> Self {
        let shown = |name: &str| shown_name(settings, name).to_owned();
        let is_dense = |name: &str| {
            let own = settings.vectors.iter().find(|own| own.name == name);
            own.is_none_or(VectorSettings::is_dense)
        };
        let rows = point.vectors.into_iter().map(|(name, rows)| match is_dense(&name) {
            true => (shown(&name), SentVector::Row(rows)),
            false => (shown(&name), SentVector::Rows(rows)),
        });
        let sparse = point.sparse.into_iter();
        let sparse = sparse.map(|(name, own)| (shown(&name), SentVector::Sparse(own)));
        Self(rows.chain(sparse).collect())
    }
}

impl Serialize for Sent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let [(name, vector)] = &self.0[..]
            && name.is_empty()
        {
            return vector.serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, vector) in &self.0 {
            map.serialize_entry(name, vector)?;
        }
        map.end()
    }
}

impl Serialize for SentVector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Row(rows) => SentRow(rows, 0).serialize(serializer),
            Self::Rows(rows) => {
                let mut all = serializer.serialize_seq(Some(rows.n_rows()))?;
                (0..rows.n_rows())
                    .try_for_each(|row| all.serialize_element(&SentRow(rows, row)))?;
                all.end()
            }
            Self::Sparse(sparse) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("indices", sparse.indices())?;
                map.serialize_entry("values", sparse.values())?;
                map.end()
            }
        }
    }
}

/// A row of some.
struct SentRow<'r>(&'r Rows, usize);

impl Serialize for SentRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (rows, row) = (self.0, self.1);
        let range = row * rows.dim()..(row + 1) * rows.dim();
        serializer.collect_seq(range.map(|i| rows.values().get(i)))
    }
}
