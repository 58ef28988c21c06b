//! JSON bodies: what is read is meant, and what is not understood is refused.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::{Map, Value};

pub use crate::record::strict::Strict;
use crate::server::call::Call;
use crate::server::qdrant::numbers;
use crate::server::reply::Refusal;

/// The body of a request as what the route takes.
///
/// # Errors
/// `json_invalid`, `json_depth`, `json_trailing`, `json_type`, `field_unknown`, `json_duplicate_key`, with line and column.
pub fn body<T: DeserializeOwned>(call: &Call<'_>) -> Result<T, Refusal> {
    let read = unread(call)?;
    numbers::check_all_taken()?;
    Ok(read)
}

/// The same where it is not yet known which numbers behind a head are referred to: whoever reads on checks that.
///
/// # Errors
/// As of [`body`].
pub fn unread<T: DeserializeOwned>(call: &Call<'_>) -> Result<T, Refusal> {
    call.reads(|| from_bytes(call.body))
}

/// As [`body`], of these bytes.
///
/// # Errors
/// As [`body`].
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::bad("json_type: no body, expected an object"));
    }
    // A reader that is made of a sequence would take an array for an object, field by field.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'[')) {
        return Err(Refusal::bad("json_type: an array, expected an object"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        if ["numbers_reference: ", "vector_not_finite: "].iter().any(|code| text.starts_with(code))
        {
            return Refusal::bad(text);
        }
        let code = match error.classify() {
            Category::Data if text.starts_with("unknown field") => "field_unknown",
            Category::Data if text.starts_with("duplicate") => "json_duplicate_key",
            Category::Data => "json_type",
            _ if text.starts_with("recursion limit") => "json_depth",
            _ if text.starts_with("trailing characters") => "json_trailing",
            _ => "json_invalid",
        };
        Refusal::bad(format!("{code}: {text}"))
    })
}

/// A JSON object, none of which has a key twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StrictMap(pub Map<String, Value>);

impl StrictMap {
    /// As a value.
    pub fn value(self) -> Value {
        Value::Object(self.0)
    }
}

impl<'de> Deserialize<'de> for StrictMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Strict::deserialize(deserializer)? {
            Strict(Value::Object(map)) => Ok(Self(map)),
            _ => Err(D::Error::custom("invalid type, expected an object")),
        }
    }
}

/// What may be written in a short form, a list or a text, or as an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Form<S, O> {
    /// A list or a text.
    Short(S),
    /// An object.
    Object(O),
}

impl<'de, S: Deserialize<'de>, O: Deserialize<'de>> Deserialize<'de> for Form<S, O> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyForm(PhantomData))
    }
}

struct AnyForm<S, O>(PhantomData<(S, O)>);

impl<'de, S: Deserialize<'de>, O: Deserialize<'de>> Visitor<'de> for AnyForm<S, O> {
    type Value = Form<S, O>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, a text or an object")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        S::deserialize(text.into_deserializer()).map(Form::Short)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        S::deserialize(SeqAccessDeserializer::new(seq)).map(Form::Short)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        O::deserialize(MapAccessDeserializer::new(map)).map(Form::Object)
    }
}

/// The entries of an object, each key once, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnyEntries(PhantomData))
    }
}

struct AnyEntries<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AnyEntries<T> {
    type Value = Entries<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Entries<T>, A::Error> {
        let mut all: Vec<(String, T)> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            if all.iter().any(|(own, _)| *own == key) {
                return Err(A::Error::custom(format!("duplicate key {key:?}")));
            }
            all.push((key, entries.next_value()?));
        }
        Ok(Entries(all))
    }
}

/// In the place of what that API has and this server has not: null is nothing, all else is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotOffered;

impl<'de> Deserialize<'de> for NotOffered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<serde::de::IgnoredAny>::deserialize(deserializer)? {
            None => Ok(Self),
            Some(_) => {
                Err(D::Error::custom("not offered by this server, expected nothing or null"))
            }
        }
    }
}

/// Fails if an object has a key that is not known.
///
/// # Errors
/// `field_unknown` names the place and what is known.
pub fn check_keys(map: &Map<String, Value>, place: &str, known: &[&str]) -> Result<(), Refusal> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let known = known.join(", ");
            Err(Refusal::bad(format!("field_unknown: {place}.{key}, expected one of {known}")))
        }
    }
}
