//! Which request goes where: one table of routes, by which also keys are checked and tests enumerate.

use hyper::header::ALLOW;
use hyper::{Method, StatusCode};

use crate::server::cache::identity::Endpoint;
use crate::server::call::Call;
use crate::server::keys::{self, rule::Need};
use crate::server::reply::{Answer, Refusal, Speech};

/// What a key must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: anyone may ask.
    Open,
    /// Reading points.
    Read,
    /// Changing points.
    Write,
    /// Making, changing and deleting collections.
    Admin,
    /// Reading what is measured.
    Metrics,
    /// Nothing more than that it is live.
    Any,
}

impl Scope {
    /// As keys are checked by.
    pub fn need(self) -> Need {
        match self {
            Self::Open => Need::Nothing,
            Self::Any => Need::Key,
            Self::Read => Need::Scope(keys::rule::Scope::Read),
            Self::Write => Need::Scope(keys::rule::Scope::Write),
            Self::Admin => Need::Scope(keys::rule::Scope::Admin),
            Self::Metrics => Need::Scope(keys::rule::Scope::Metrics),
        }
    }
}

/// What a route works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The server.
    Server,
    /// A collection that is there or not.
    Name,
    /// A collection that is there, which it reads.
    Collection,
    /// A collection that is there, which nothing else changes meanwhile.
    Change,
}

/// A route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path: a segment in braces stands for any, `{+path}` at the end for all that follows; `{collection}` is a collection or
    /// an alias of one.
    pub path: &'static str,
    /// What a key must allow.
    pub scope: Scope,
    /// What it works on.
    pub on: On,
    /// What answers.
    pub handler: Handler,
}

/// The form of refusals at a path, whether or not there is a route.
pub fn speech(path: &str) -> Speech {
    match path.strip_prefix("/v1/") {
        Some(rest) if rest.starts_with("caches/") => Speech::LangCache,
        Some(rest) if rest == "cache" || rest.starts_with("cache/") => Speech::Qdrant,
        Some(_) => Speech::OpenAi,
        None => Speech::Qdrant,
    }
}

/// What answers a request.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// A worker.
    Worker(fn(&Call<'_>) -> Answer),
    /// Memory, or else the model server behind; no worker is held meanwhile. Without an endpoint only the latter.
    Upstream(Option<Endpoint>),
}

/// A route that was found, and the segments that stand in its braces, decoded.
pub type Found = (&'static Route, Vec<(&'static str, String)>);

/// The route of a request.
///
/// # Errors
/// `route_unknown`, 404; `method_not_allowed`, 405 with the methods that are.
pub fn find(routes: &'static [Route], method: &Method, path: &str) -> Result<Found, Refusal> {
    let mut allowed = Vec::new();
    for route in routes {
        let Some(segments) = matched(route.path, path) else { continue };
        if route.method == method.as_str() {
            return Ok((route, segments));
        }
        allowed.push(route.method);
    }
    if allowed.is_empty() {
        let message = "route_unknown: there is nothing at this path";
        return Err(Refusal::new(StatusCode::NOT_FOUND, message));
    }
    let message = format!("method_not_allowed: {method}, expected {}", allowed.join(", "));
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message);
    Err(refusal.with(ALLOW, allowed.join(", ")))
}

/// The segments that stand in the braces of a pattern, if the path is of it.
fn matched(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    if !may_match(pattern, path) {
        return None;
    }
    let mut found = Vec::new();
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return Some(found),
            (Some("{+path}"), Some(segment)) => {
                let all: Vec<&str> = [segment].into_iter().chain(segments).collect();
                // Whoever this is passed on to must not read another path of it.
                all.iter().map(|segment| decoded(segment)).collect::<Option<Vec<_>>>()?;
                found.push(("+path", all.join("/")));
                return Some(found);
            }
            (Some(pattern), Some(segment)) => {
                let name = pattern.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
                match name {
                    Some(name) => found.push((name, decoded(segment)?)),
                    None if pattern == segment => {}
                    None => return None,
                }
            }
            _ => return None,
        }
    }
}

/// Whether a path begins and ends as a pattern does before and behind its braces: most patterns need no closer look.
fn may_match(pattern: &str, path: &str) -> bool {
    let (head, _) = pattern.split_once('{').unwrap_or((pattern, ""));
    let (_, tail) = pattern.rsplit_once('}').unwrap_or(("", pattern));
    path.starts_with(head) && path.ends_with(tail)
}

/// A segment without `%`, if it can be the name of something: not empty, UTF-8, no separator and nothing that cannot be seen.
pub fn decoded(segment: &str) -> Option<String> {
    let text = unescaped(segment)?;
    let is_name = !text.is_empty() && !matches!(&*text, "." | "..");
    let is_plain = |c: char| !matches!(c, '/' | '\\') && !c.is_control();
    (is_name && text.chars().all(is_plain)).then_some(text)
}

/// A text without `%`; none if what that gives is no UTF-8.
pub fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_form_of_the_api_that_was_asked_routed_or_not() {
        for (path, expected) in [
            ("/v1/caches/c/flush", Speech::LangCache),
            ("/v1/caches/%C2%8B/flush", Speech::LangCache),
            ("/v1/cache", Speech::Qdrant),
            ("/v1/cache/c/lookup", Speech::Qdrant),
            ("/v1/chat/completions", Speech::OpenAi),
            ("/v1//models", Speech::OpenAi),
            ("/collections/v1/points", Speech::Qdrant),
            ("/", Speech::Qdrant),
        ] {
            assert_eq!(speech(path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_is_of_a_pattern_or_not() {
        let of = |path| matched("/collections/{collection}/points/{id}", path);
        let found = of("/collections/a%20b/points/7").unwrap();
        assert_eq!(found, [("collection", "a b".to_owned()), ("id", "7".to_owned())]);
        for path in [
            "/collections/a/points",
            "/collections/a/points/7/",
            "/collections//points/7",
            "//collections/a/points/7",
            "/collections/a/../points/7",
            "/collections/../points/7",
            "/collections/%2e%2e/points/7",
            "/collections/a%2fb/points/7",
            "/collections/a%00/points/7",
            "/collections/%c0%ae/points/7",
            "/collections/%f/points/7",
            "/collections/%zz/points/7",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
        let of = |path| matched("/v1/{+path}", path);
        assert_eq!(of("/v1/models/a%20b").unwrap(), [("+path", "models/a%20b".to_owned())]);
        for path in ["/v1", "/v1/", "/v1//a", "/v1/a/../b", "/v1/a/%2e%2e/b", "/v1/a%2fb", "/v2/a"]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
