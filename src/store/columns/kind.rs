//! What the values of an indexed field are taken for.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What the values of an indexed field are taken for. Its number stands for it in sealed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Strings, compared whole.
    Keyword = 1,
    /// Numbers, most of them whole and of 64 bits.
    Integer = 2,
    /// Numbers, most of them 64-bit floats.
    Float = 3,
    /// True and false.
    Bool = 4,
    /// Strings that say a moment.
    Datetime = 5,
    /// Objects with `lat` and `lon`.
    Geo = 6,
    /// Strings, by their words.
    Text = 7,
    /// Strings, most of them UUIDs; compared whole, as keywords are.
    Uuid = 8,
}

/// Every kind with its name.
const KINDS: [(Kind, &str); 8] = [
    (Kind::Keyword, "keyword"),
    (Kind::Integer, "integer"),
    (Kind::Float, "float"),
    (Kind::Bool, "bool"),
    (Kind::Datetime, "datetime"),
    (Kind::Geo, "geo"),
    (Kind::Text, "text"),
    (Kind::Uuid, "uuid"),
];

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, _)| *kind)
    }

    /// The kind for which a number stands, if there is one.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::all().find(|kind| *kind as u8 == number)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = KINDS.iter().find(|(kind, _)| kind == self).expect("every kind is named");
        f.write_str(name)
    }
}

impl FromStr for Kind {
    type Err = Error;

    /// # Errors
    /// `field_kind` lists the names.
    fn from_str(text: &str) -> Result<Self> {
        let named = KINDS.iter().find(|(_, name)| *name == text);
        named.map(|(kind, _)| *kind).ok_or_else(|| {
            let names: Vec<&str> = KINDS.iter().map(|(_, name)| *name).collect();
            Error::usage("field_kind", format!("{text:?}, expected one of {}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_kinds_are_read_back() {
        for kind in Kind::all() {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
            assert_eq!(Kind::of_number(kind as u8), Some(kind));
        }
        assert_eq!("int".parse::<Kind>().unwrap_err().code(), "field_kind");
        assert_eq!(Kind::of_number(0), None);
    }
}
