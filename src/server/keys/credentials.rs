//! What a request shows of who sent it: a key in a header, never in a URL.

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::http::uri::Uri;

use crate::server::keys::refusal::Refusal;
use crate::server::keys::text::Key;

/// Header of a key, as clients of vector databases send it.
const API_KEY: &str = "api-key";

/// Header that names a tenant. It decides nothing: one that contradicts the key is refused.
const TENANT: &str = "x-tenant-id";

/// Names of parameters that are expected to hold a key.
const KEY_PARAMETERS: [&str; 6] =
    ["api-key", "api_key", "apikey", "x-api-key", "access_token", "token"];

/// The key that came with a request, as text that may be anything.
///
/// # Errors
/// `key_in_url`, `key_twice`, `key_invalid` for a header that is not text.
pub fn key_text<'a>(headers: &'a HeaderMap, uri: &Uri) -> Result<Option<&'a str>, Refusal> {
    if is_in_url(uri) {
        return Err(Refusal::key_in_url());
    }
    let keys = headers.get_all(API_KEY).iter().map(text);
    let tokens = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let given = text(value);
        given.map_or_else(|refusal| Some(Err(refusal)), |given| bearer(given).map(Ok))
    });
    let mut found = None;
    for given in keys.chain(tokens) {
        let given = given?;
        if found.is_some_and(|earlier| earlier != given) {
            return Err(Refusal::key_twice());
        }
        found = Some(given);
    }
    Ok(found)
}

/// The tenant that a header names.
///
/// # Errors
/// `tenant_conflict` if several do, or if it is no text: it can be no key's tenant then.
pub fn tenant_text(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut names = headers.get_all(TENANT).iter();
    let (first, second) = (names.next(), names.next());
    if second.is_some() {
        return Err(Refusal::tenant_conflict());
    }
    // Names of tenants may have any letters, and headers are bytes.
    let name = first.map(|value| std::str::from_utf8(value.as_bytes())).transpose();
    name.map_err(|_| Refusal::tenant_conflict())
}

fn text(value: &HeaderValue) -> Result<&str, Refusal> {
    value.to_str().map_err(|_| Refusal::key_invalid())
}

/// The token of an Authorization header; none in other schemes, which are not ours.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a URL has a key, or something in the place of one.
fn is_in_url(uri: &Uri) -> bool {
    let parameters = uri.query().unwrap_or("").split('&');
    let is_named = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or("");
        KEY_PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    let mut words = uri.path().split('/').chain(parameters.clone().flat_map(|p| p.split('=')));
    parameters.clone().any(is_named) || words.any(|word| word.parse::<Key>().is_ok())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn asked(headers: &[(&str, &str)], uri: &str) -> Result<Option<String>, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        let uri: Uri = uri.parse().unwrap();
        key_text(&map, &uri).map(|text| text.map(str::to_owned)).map_err(|refusal| {
            assert!(refusal.code.starts_with("key_"));
            refusal.status
        })
    }

    #[test]
    fn a_key_comes_in_either_header_and_once() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(asked(&[], "/collections"), Ok(None));
        assert_eq!(asked(&[("api-key", "k")], "/"), some("k"));
        assert_eq!(asked(&[("Api-Key", "k")], "/"), some("k"));
        assert_eq!(asked(&[("authorization", "Bearer k")], "/"), some("k"));
        assert_eq!(asked(&[("authorization", "bearer  k ")], "/"), some("k"));
        assert_eq!(asked(&[("authorization", "Bearer")], "/"), some(""));
        assert_eq!(asked(&[("authorization", "Basic k")], "/"), Ok(None));
        assert_eq!(asked(&[("api-key", "k"), ("authorization", "Bearer k")], "/"), some("k"));
        assert_eq!(asked(&[("api-key", "k"), ("authorization", "Bearer l")], "/"), Err(401));
        assert_eq!(asked(&[("api-key", "k"), ("api-key", "l")], "/"), Err(401));
        assert_eq!(asked(&[("api-key", "\u{e9}")], "/"), Err(401));
    }

    #[test]
    fn a_key_in_a_url_is_refused_wherever_it_stands_there() {
        let key = Key::random().unwrap().text();
        let with_header = [("api-key", key.as_str())];
        for uri in [
            "/collections?api-key=x".to_owned(),
            "/collections?a=b&API_KEY=".to_owned(),
            "http://host/collections?token=x".to_owned(),
            format!("/collections?q={key}"),
            format!("/collections/{key}"),
            format!("/collections/{key}/points?wait=true"),
            format!("/?{key}"),
        ] {
            assert_eq!(asked(&with_header, &uri), Err(401), "{uri}");
        }
        for uri in ["/collections/nk1_x/points?wait=true", "/collections/tokens?timeout=3", "/"] {
            assert_eq!(asked(&[], uri), Ok(None), "{uri}");
        }
    }
}
