//! Whom a server answers at all: a page of another site, open in somebody's browser, reaches what listens on that machine, and
//! by a name that it makes lead there it does so as if it were at home.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::uri::{Authority, Uri};

use crate::error::{Error, Result};
use crate::server::keys::refusal::Refusal;

/// The names under which a server is reached.
#[derive(Clone, Debug)]
pub struct Sites {
    is_loopback: bool,
    hosts: Vec<String>,
}

impl Sites {
    /// Those of a server that listens at `bind`: names of this machine for itself if nobody else reaches it, any name else;
    /// or exactly `hosts`, if there are some, and names of this machine for itself.
    pub fn new(bind: IpAddr, hosts: Vec<String>) -> Self {
        Self { is_loopback: bind.is_loopback(), hosts }
    }

    /// Refuses requests that a page of another site sent, and those that are for another host.
    ///
    /// # Errors
    /// `foreign_host`, `foreign_origin`.
    pub fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
        let host = headers.get(HOST).map(authority).transpose()?;
        for authority in [host.as_ref(), uri.authority()].into_iter().flatten() {
            if !self.is_ours(authority.host()) {
                return Err(Refusal::foreign_host());
            }
        }
        // Without a Host there is nothing that an origin could be the same as.
        let own = host.as_ref().or(uri.authority());
        let is_same = |origin: &HeaderValue| {
            let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
            origin.is_some_and(|(_, rest)| {
                own.is_some_and(|own| rest.eq_ignore_ascii_case(own.as_str()))
            })
        };
        // What browsers say of a request that a page makes; they send no Origin when it only reads.
        let is_cross = |site: &HeaderValue| !matches!(site.as_bytes(), b"same-origin" | b"none");
        if !headers.get_all(ORIGIN).iter().all(is_same)
            || headers.get_all("sec-fetch-site").iter().any(is_cross)
        {
            return Err(Refusal::foreign_origin());
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        if !self.is_loopback && self.hosts.is_empty() {
            return true;
        }
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback())
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }
}

fn authority(value: &HeaderValue) -> Result<Authority, Refusal> {
    Authority::try_from(value.as_bytes()).map_err(|_| Refusal::foreign_host())
}

/// Refuses to listen where others can reach a server that asks for no key.
///
/// # Errors
/// `insecure_bind`.
pub fn check_bind(bind: SocketAddr, has_keys: bool) -> Result<()> {
    if has_keys || bind.ip().is_loopback() {
        return Ok(());
    }
    let message = format!(
        "{bind} is reached by others, and there are no keys: add one with nearkin key create, or bind 127.0.0.1"
    );
    Err(Error::usage("insecure_bind", message))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    fn said(sites: &Sites, uri: &str, headers: &[(&str, &str)]) -> &'static str {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        sites.check(&map, &uri.parse().unwrap()).map_or_else(|refusal| refusal.code, |()| "fine")
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_are_answered() {
        let sites = Sites::new("127.0.0.1".parse().unwrap(), vec!["db.test".into()]);
        let of_host = |host| said(&sites, "/", &[("host", host)]);
        for host in
            ["localhost", "LOCALHOST:6333", "127.0.0.1:1", "127.9.9.9", "[::1]:6333", "Db.Test:80"]
        {
            assert_eq!(of_host(host), "fine", "{host}");
        }
        for host in [
            "evil.test",
            "localhost.evil.test",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
            "",
            "a b",
            "127.0.0.1.nip.test",
        ] {
            assert_eq!(of_host(host), "foreign_host", "{host}");
        }
        assert_eq!(said(&sites, "http://evil.test/", &[("host", "localhost")]), "foreign_host");
        let open = Sites::new("0.0.0.0".parse().unwrap(), vec![]);
        assert_eq!(said(&open, "/", &[("host", "db.example.test")]), "fine");
        let named = Sites::new("0.0.0.0".parse().unwrap(), vec!["db.test".into()]);
        assert_eq!(said(&named, "/", &[("host", "other.test")]), "foreign_host");
        assert_eq!(said(&named, "/", &[("host", "db.test:1")]), "fine");
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_our_own_is_not() {
        let sites = Sites::new("127.0.0.1".parse().unwrap(), vec![]);
        let of = |more: &[(&str, &str)]| {
            let headers: Vec<_> =
                [("host", "localhost:6333")].iter().chain(more).copied().collect();
            said(&sites, "/", &headers)
        };
        assert_eq!(of(&[]), "fine");
        assert_eq!(of(&[("origin", "http://localhost:6333")]), "fine");
        assert_eq!(of(&[("sec-fetch-site", "none")]), "fine");
        assert_eq!(of(&[("sec-fetch-site", "same-origin")]), "fine");
        for origin in ["http://evil.test", "http://localhost", "http://localhost:8000", "null", ""]
        {
            assert_eq!(of(&[("origin", origin)]), "foreign_origin", "{origin}");
        }
        let two = [("origin", "http://localhost:6333"), ("origin", "http://evil.test")];
        assert_eq!(of(&two), "foreign_origin");
        for site in ["cross-site", "same-site", ""] {
            assert_eq!(of(&[("sec-fetch-site", site)]), "foreign_origin", "{site}");
        }
        assert_eq!(said(&sites, "/", &[("origin", "http://localhost:6333")]), "foreign_origin");
    }

    #[test]
    fn without_keys_only_this_machine_can_be_let_in() {
        let code = |bind: &str, has_keys| {
            check_bind(bind.parse().unwrap(), has_keys).map_or_else(|e| e.code(), |()| "fine")
        };
        for bind in ["127.0.0.1:6333", "127.1.2.3:0", "[::1]:6333"] {
            assert_eq!((code(bind, false), code(bind, true)), ("fine", "fine"));
        }
        for bind in ["0.0.0.0:6333", "[::]:6333", "10.0.0.1:6333", "[::ffff:127.0.0.1]:1"] {
            assert_eq!((code(bind, false), code(bind, true)), ("insecure_bind", "fine"), "{bind}");
        }
        let error = check_bind("0.0.0.0:1".parse().unwrap(), false).unwrap_err();
        assert_eq!(error.kind().exit_code(), 2);
    }
}
