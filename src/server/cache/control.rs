//! What the headers of a request say about answers from memory, and what those of an answer say about where it is from.

use std::str::FromStr;
use std::time::Duration;

use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};

use crate::server::reply::Refusal;

/// How an answer came about.
pub const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
/// Why, in a stable word.
pub const X_CACHE_REASON: HeaderName = HeaderName::from_static("x-cache-reason");
/// How near the question was that was answered before: for trusted keys only.
pub const X_CACHE_SIMILARITY: HeaderName = HeaderName::from_static("x-cache-similarity");
/// Which entry it was: for trusted keys only.
pub const X_CACHE_ENTRY: HeaderName = HeaderName::from_static("x-cache-entry");
/// Tokens that were not spent.
pub const X_CACHE_TOKENS: HeaderName = HeaderName::from_static("x-cache-tokens-saved");

/// Longest name of a category or a namespace.
const NAME_BYTES: usize = 128;

/// How an answer came about, as it is told and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// From an equal request.
    Hit,
    /// From a request that means the same.
    HitSemantic,
    /// From an equal request that was on its way.
    HitCoalesced,
    /// From the model.
    Miss,
    /// From the model, because memory has nothing to do with it.
    Bypass,
    /// From the model, because the request asks for a new answer.
    Refresh,
}

impl Outcome {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Hit, Self::HitSemantic, Self::HitCoalesced, Self::Miss, Self::Bypass, Self::Refresh];

    /// As the header says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::HitSemantic => "HIT-SEMANTIC",
            Self::HitCoalesced => "HIT-COALESCED",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
            Self::Refresh => "REFRESH",
        }
    }
}

/// What a request says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    /// A new answer is wanted.
    pub no_cache: bool,
    /// The answer is not to be remembered.
    pub no_store: bool,
    /// An answer from memory or none.
    pub only_if_cached: bool,
    /// The oldest answer that will do.
    pub max_age: Option<Duration>,
    /// How long the answer may be remembered.
    pub ttl: Option<Duration>,
    /// Which policy applies.
    pub category: Option<String>,
    /// Answers of another namespace are not given.
    pub namespace: String,
    /// The least similarity.
    pub threshold: Option<f32>,
}

impl Control {
    /// Reads headers.
    ///
    /// # Errors
    /// `cache_header`, with what is expected.
    pub fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut control = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            for directive in text(&CACHE_CONTROL, value)?.split(',') {
                control.directive(directive.trim())?;
            }
        }
        let seconds = one::<u64>(headers, "x-cache-ttl", "whole seconds")?;
        control.ttl = seconds.map(Duration::from_secs);
        control.category = name(headers, "x-cache-category")?;
        control.namespace = name(headers, "x-cache-namespace")?.unwrap_or_default();
        control.threshold = one::<f32>(headers, "x-cache-threshold", "a cosine in [-1, 1]")?;
        match control.threshold {
            Some(own) if !(-1.0..=1.0).contains(&own) => {
                Err(bad("x-cache-threshold", &own.to_string(), "a cosine in [-1, 1]"))
            }
            _ => Ok(control),
        }
    }

    /// What other caches understand and this one does not is passed over, as that header is defined.
    fn directive(&mut self, directive: &str) -> Result<(), Refusal> {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => {
                let seconds = value.trim().trim_matches('"').parse();
                let seconds =
                    seconds.map_err(|_| bad("cache-control", directive, "max-age=SECONDS"))?;
                self.max_age = Some(Duration::from_secs(seconds));
            }
            _ => {}
        }
        Ok(())
    }
}

fn one<T: FromStr>(
    headers: &HeaderMap,
    name: &'static str,
    expected: &str,
) -> Result<Option<T>, Refusal> {
    let mut all = headers.get_all(name).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let value = text(&HeaderName::from_static(name), value)?.trim();
    if all.next().is_some() {
        return Err(bad(name, "it came twice", expected));
    }
    value.parse().map(Some).map_err(|_| bad(name, value, expected))
}

fn name(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Refusal> {
    let found = one::<String>(headers, name, "a name")?;
    match found {
        Some(own) if own.is_empty() || own.len() > NAME_BYTES => {
            Err(bad(name, &own, &format!("a name of 1 to {NAME_BYTES} bytes")))
        }
        found => Ok(found),
    }
}

fn text<'v>(name: &HeaderName, value: &'v HeaderValue) -> Result<&'v str, Refusal> {
    value.to_str().map_err(|_| bad(name.as_str(), "bytes", "visible ASCII"))
}

fn bad(name: &str, received: &str, expected: &str) -> Refusal {
    Refusal::bad(format!("cache_header: {name}: {received}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Result<Control, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Control::read(&map).map_err(|refusal| refusal.code().to_owned())
    }

    #[test]
    fn headers_say_what_they_say_and_nothing_by_mistake() {
        assert_eq!(read(&[]), Ok(Control::default()));
        let all = read(&[
            ("cache-control", "No-Cache, no-store , max-age=60, only-if-cached, no-transform"),
            ("x-cache-ttl", "30"),
            ("x-cache-category", "code"),
            ("x-cache-namespace", "docs"),
            ("x-cache-threshold", "0.95"),
        ]);
        let expected = Control {
            no_cache: true,
            no_store: true,
            only_if_cached: true,
            max_age: Some(Duration::from_secs(60)),
            ttl: Some(Duration::from_secs(30)),
            category: Some("code".into()),
            namespace: "docs".into(),
            threshold: Some(0.95),
        };
        assert_eq!(all, Ok(expected));
        let two = read(&[("cache-control", "no-store"), ("cache-control", "no-cache")]).unwrap();
        assert!(two.no_store && two.no_cache);
        let long = "x".repeat(NAME_BYTES + 1);
        for (name, value) in [
            ("cache-control", "max-age=soon"),
            ("cache-control", "max-age"),
            ("x-cache-ttl", "-1"),
            ("x-cache-ttl", "1.5"),
            ("x-cache-threshold", "high"),
            ("x-cache-threshold", "NaN"),
            ("x-cache-threshold", "1.1"),
            ("x-cache-category", ""),
            ("x-cache-namespace", &long),
        ] {
            assert_eq!(read(&[(name, value)]), Err("cache_header".into()), "{name}: {value}");
        }
        let twice = read(&[("x-cache-ttl", "1"), ("x-cache-ttl", "2")]);
        assert_eq!(twice, Err("cache_header".into()));
    }
}
