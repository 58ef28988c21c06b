//! A score that is computed of the scores of prefetches and of payloads.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::core::ids::PointId;
use crate::engine::query::check::bad;
use crate::error::Result;
use crate::plan::filter::plain::{Point, passes};
use crate::plan::filter::{Filter, distance_m};
use crate::store::columns::datetime;
use crate::store::columns::geo::GeoPoint;
use crate::store::columns::path::{Path, elements};

/// An expression, and values of what points lack.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula {
    /// The score.
    pub expression: Expression,
    /// Values of variables that a point has not.
    pub defaults: BTreeMap<Variable, Value>,
}

/// Something that differs from point to point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    /// The score that the prefetch of this number gave; 0 where it did not find the point and there is no default.
    Score(usize),
    /// The one value at a path of the payload, or in the array there.
    Payload(Path),
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Score(number) => write!(f, "$score[{number}]"),
            Self::Payload(path) => path.fmt(f),
        }
    }
}

/// An expression. All numbers are 64-bit floats.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A number.
    Constant(f64),
    /// A number that differs from point to point.
    Variable(Variable),
    /// 1 for points that pass, 0 for others.
    Condition(Box<Filter>),
    /// The sum; 0 of none.
    Sum(Vec<Expression>),
    /// The product; 1 of none. Nothing after a factor of 0 is computed.
    Product(Vec<Expression>),
    /// With the other sign.
    Neg(Box<Expression>),
    /// Without a sign.
    Abs(Box<Expression>),
    /// The quotient; 0 of 0, whatever it is divided by.
    Div {
        /// What is divided.
        left: Box<Expression>,
        /// By what.
        right: Box<Expression>,
        /// What the quotient with 0 is; without, it is an error.
        by_zero: Option<f64>,
    },
    /// The square root.
    Sqrt(Box<Expression>),
    /// The power.
    Pow(Box<Expression>, Box<Expression>),
    /// The power of e.
    Exp(Box<Expression>),
    /// The logarithm to the base 10.
    Log10(Box<Expression>),
    /// The logarithm to the base e.
    Ln(Box<Expression>),
    /// Metres from a place to the one at a path.
    GeoDistance(GeoPoint, Path),
    /// A moment, in microseconds since 1970; its value is in seconds.
    Datetime(i64),
    /// The moment at a path, in seconds since 1970.
    DatetimeKey(Path),
    /// 1 at the target, the midpoint at a distance of the scale from it, and less farther off.
    Decay {
        /// How it falls.
        shape: Shape,
        /// Where.
        x: Box<Expression>,
        /// The target; 0 without.
        target: Option<Box<Expression>>,
        /// More than 0.
        scale: f64,
        /// Between 0 and 1.
        midpoint: f64,
    },
}

/// How a decay falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// On a line, to 0.
    Linear,
    /// Exponentially.
    Exponential,
    /// As a bell.
    Gauss,
}

/// What an expression is computed of.
pub(super) struct Terms<'a> {
    pub id: PointId,
    /// Of every prefetch that found the point.
    pub scores: &'a [Option<f32>],
    pub payload: &'a Value,
    pub has_vector: &'a dyn Fn(&str) -> bool,
    pub defaults: &'a BTreeMap<Variable, Value>,
}

impl Formula {
    /// The score of a point.
    ///
    /// # Errors
    /// `formula` names the point and what could not be computed.
    pub(super) fn score(&self, terms: &Terms<'_>) -> Result<f32> {
        let value = self.expression.value(terms)?;
        let score = value as f32;
        if score.is_finite() { Ok(score) } else { Err(terms.fail(format!("a score of {value}"))) }
    }
}

impl Expression {
    /// The expressions that this one is made of.
    pub(super) fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Sum(parts) | Self::Product(parts) => parts.iter().collect(),
            Self::Neg(part)
            | Self::Abs(part)
            | Self::Sqrt(part)
            | Self::Exp(part)
            | Self::Log10(part)
            | Self::Ln(part) => vec![part],
            Self::Div { left, right, .. } | Self::Pow(left, right) => vec![left, right],
            Self::Decay { x, target, .. } => {
                [x].into_iter().chain(target).map(|part| &**part).collect()
            }
            Self::Constant(_)
            | Self::Variable(_)
            | Self::Condition(_)
            | Self::GeoDistance(..)
            | Self::Datetime(_)
            | Self::DatetimeKey(_) => Vec::new(),
        }
    }

    fn value(&self, terms: &Terms<'_>) -> Result<f64> {
        match self {
            Self::Constant(number) => Ok(*number),
            Self::Variable(variable) => terms.number(variable),
            Self::Condition(filter) => Ok(f64::from(u8::from(passes(filter, terms.point())))),
            Self::Sum(parts) => parts.iter().map(|part| part.value(terms)).sum(),
            Self::Product(factors) => {
                let mut product = 1.0;
                for factor in factors {
                    match factor.value(terms)? {
                        0.0 => return Ok(0.0),
                        value => product *= value,
                    }
                }
                Ok(product)
            }
            Self::Neg(part) => Ok(-part.value(terms)?),
            Self::Abs(part) => Ok(part.value(terms)?.abs()),
            Self::Div { left, right, by_zero } => divided(left, right, *by_zero, terms),
            Self::Pow(base, exponent) => {
                let (base, exponent) = (base.value(terms)?, exponent.value(terms)?);
                terms.finite(base.powf(exponent), || format!("{base} to the power of {exponent}"))
            }
            Self::Sqrt(_) | Self::Exp(_) | Self::Log10(_) | Self::Ln(_) => self.function(terms),
            Self::GeoDistance(origin, to) => {
                let place = terms.value(&Variable::Payload(to.clone()))?;
                match GeoPoint::of(place).filter(|place| place.is_on_globe()) {
                    Some(place) => Ok(distance_m(*origin, place)),
                    None => Err(terms.fail(format!("{to} is {place}, expected lat and lon"))),
                }
            }
            Self::Datetime(us) => Ok(seconds(*us)),
            Self::DatetimeKey(path) => {
                let moment = terms.value(&Variable::Payload(path.clone()))?;
                match moment.as_str().and_then(datetime::parse) {
                    Some(us) => Ok(seconds(us)),
                    None => {
                        Err(terms.fail(format!("{path} is {moment}, expected a date and time")))
                    }
                }
            }
            Self::Decay { shape, x, target, scale, midpoint } => {
                let target = target.as_ref().map_or(Ok(0.0), |target| target.value(terms))?;
                Ok(shape.at(x.value(terms)? - target, *scale, *midpoint))
            }
        }
    }

    /// Those of one part that may have no value.
    fn function(&self, terms: &Terms<'_>) -> Result<f64> {
        let (name, part, function): (_, _, fn(f64) -> f64) = match self {
            Self::Sqrt(part) => ("sqrt", part, f64::sqrt),
            Self::Exp(part) => ("exp", part, f64::exp),
            Self::Log10(part) => ("log10", part, f64::log10),
            Self::Ln(part) => ("ln", part, f64::ln),
            _ => unreachable!("only asked of these"),
        };
        let x = part.value(terms)?;
        terms.finite(function(x), || format!("{name} of {x}"))
    }
}

fn divided(
    left: &Expression,
    right: &Expression,
    by_zero: Option<f64>,
    terms: &Terms<'_>,
) -> Result<f64> {
    let left = left.value(terms)?;
    if left == 0.0 {
        return Ok(0.0);
    }
    let right = right.value(terms)?;
    match by_zero {
        Some(value) if right == 0.0 => Ok(value),
        _ => terms.finite(left / right, || format!("{left} divided by {right}")),
    }
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

impl Shape {
    fn at(self, distance: f64, scale: f64, midpoint: f64) -> f64 {
        let relative = distance.abs() / scale;
        match self {
            Self::Linear => (1.0 - (1.0 - midpoint) * relative).max(0.0),
            Self::Exponential => (midpoint.ln() * relative).exp(),
            Self::Gauss => (midpoint.ln() * relative * relative).exp(),
        }
    }
}

impl Terms<'_> {
    fn point(&self) -> Point<'_> {
        Point { payload: self.payload, id: Some(self.id), has_vector: self.has_vector }
    }

    fn fail(&self, what: String) -> crate::error::Error {
        bad("formula", format!("point {}: {what}", self.id))
    }

    fn finite(&self, value: f64, what: impl Fn() -> String) -> Result<f64> {
        if value.is_finite() { Ok(value) } else { Err(self.fail(format!("{} is {value}", what()))) }
    }

    fn number(&self, variable: &Variable) -> Result<f64> {
        if let Variable::Score(number) = variable {
            if let Some(score) = self.scores.get(*number).copied().flatten() {
                return Ok(score.into());
            }
            if !self.defaults.contains_key(variable) {
                return Ok(0.0);
            }
        }
        let value = self.value(variable)?;
        value.as_f64().ok_or_else(|| self.fail(format!("{variable} is {value}, expected a number")))
    }

    /// The one value of a variable.
    fn value(&self, variable: &Variable) -> Result<&Value> {
        let mut values = match variable {
            Variable::Payload(path) => elements(&path.values(self.payload)),
            Variable::Score(_) => Vec::new(),
        };
        if values.is_empty() {
            let default = self.defaults.get(variable).filter(|value| !value.is_null());
            values = elements(&default.into_iter().collect::<Vec<_>>());
        }
        match values[..] {
            [value] => Ok(value),
            [] => Err(self.fail(format!("{variable} has no value and no default"))),
            _ => Err(self.fail(format!("{variable} has {} values, expected one", values.len()))),
        }
    }
}
