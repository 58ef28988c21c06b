//! A value of a body and where it stands, so that whatever is refused is named.

use std::fmt;

use serde_json::{Map, Value};

use crate::core::limits::PAGE;
use crate::error::{Error, ErrorKind, Result};
use crate::store::columns::geo::GeoPoint;
use crate::store::columns::path::Path;

/// Longest piece of a refused value that a message shows.
const SHOWN: usize = 60;

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub value: &'a Value,
    parent: Option<&'a Node<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    At(usize),
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_below_root = self.parent.is_some_and(|parent| matches!(parent.step, Step::Root));
        if let Some(parent) = self.parent.filter(|_| !is_below_root) {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => f.write_str("body"),
            Step::Key(key) if is_below_root => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::At(at) => write!(f, "[{at}]"),
        }
    }
}

impl<'a> Node<'a> {
    /// A whole body.
    pub fn root(value: &'a Value) -> Self {
        Self { value, parent: None, step: Step::Root }
    }

    fn child<'b>(&'b self, value: &'b Value, step: Step<'b>) -> Node<'b> {
        Node { value, parent: Some(self), step }
    }

    /// The error for a value that is not what was expected.
    pub fn refuse(&self, code: &'static str, expected: &str) -> Error {
        let mut received = self.value.to_string();
        if let Some((end, _)) = received.char_indices().nth(SHOWN) {
            received.truncate(end);
            received.push_str("...");
        }
        let message = format!("{self}: expected {expected}, received {received}");
        Error::new(ErrorKind::BadInput, code, message)
    }

    /// The error for a value of a wrong type.
    pub fn wrong_type(&self, expected: &str) -> Error {
        self.refuse("query_type", expected)
    }

    /// The object that the value is, all of whose keys are among `known`.
    pub fn object(&self, known: &[&str]) -> Result<&'a Map<String, Value>> {
        let Value::Object(map) = self.value else {
            return Err(self.wrong_type(&format!("an object with {}", known.join(", "))));
        };
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(map),
            Some(key) => {
                let message = format!("{self}: unknown key {key:?}, expected {}", known.join(", "));
                Err(Error::new(ErrorKind::BadInput, "query_key", message))
            }
        }
    }

    /// The value at a key; null is as good as none.
    pub fn get<'b>(&'b self, map: &'b Map<String, Value>, key: &'b str) -> Option<Node<'b>> {
        map.get(key).filter(|value| !value.is_null()).map(|value| self.child(value, Step::Key(key)))
    }

    /// The value at a key that has to be there.
    pub fn need<'b>(&'b self, map: &'b Map<String, Value>, key: &'b str) -> Result<Node<'b>> {
        self.get(map, key).ok_or_else(|| {
            let message = format!("{self}: no key {key:?}");
            Error::new(ErrorKind::BadInput, "query_key", message)
        })
    }

    /// The value at a key, read, if it is there.
    pub fn read<T>(
        &self,
        map: &Map<String, Value>,
        key: &str,
        read: impl FnOnce(Node<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.get(map, key).map(read).transpose()
    }

    /// Every element of a list, read.
    pub fn each<T>(&self, of: &str, mut read: impl FnMut(Node<'_>) -> Result<T>) -> Result<Vec<T>> {
        let Value::Array(list) = self.value else {
            return Err(self.wrong_type(&format!("a list of {of}")));
        };
        let nodes = list.iter().enumerate();
        nodes.map(|(at, value)| read(self.child(value, Step::At(at)))).collect()
    }

    /// Every element of a list, or the one value that stands for a list of one.
    pub fn one_or_each<T>(
        &self,
        of: &str,
        mut read: impl FnMut(Node<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        match self.value {
            Value::Array(_) => self.each(of, read),
            _ => Ok(vec![read(*self)?]),
        }
    }

    /// A string.
    pub fn string(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a string"))
    }

    /// True or false.
    pub fn bool(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    /// A number.
    pub fn number(&self) -> Result<f64> {
        self.value.as_f64().ok_or_else(|| self.wrong_type("a number"))
    }

    /// A number of 32 bits.
    pub fn float(&self) -> Result<f32> {
        let number = self.number()? as f32;
        if number.is_finite() { Ok(number) } else { Err(self.wrong_type("a number of 32 bits")) }
    }

    /// A number of points.
    pub fn count(&self, least: usize) -> Result<usize> {
        let whole = self.value.as_u64().and_then(|n| usize::try_from(n).ok());
        match whole {
            Some(n) if (least..=PAGE).contains(&n) => Ok(n),
            _ => {
                let expected = format!("a whole number from {least} to {PAGE}");
                let code = if whole.is_some() { "query_range" } else { "query_type" };
                Err(self.refuse(code, &expected))
            }
        }
    }

    /// A path into the payload.
    pub fn path(&self) -> Result<Path> {
        self.string()?.parse().map_err(|error: Error| error.within(self))
    }

    /// A place on the globe.
    pub fn place(&self) -> Result<GeoPoint> {
        let map = self.object(&["lat", "lon"])?;
        let (lat, lon) = (self.need(map, "lat")?.number()?, self.need(map, "lon")?.number()?);
        let place = GeoPoint { lat, lon };
        if !place.is_on_globe() {
            let expected = "lat in [-90, 90] and lon in [-180, 180]";
            return Err(self.refuse("query_value", expected));
        }
        Ok(place)
    }
}
