//! A page that shows the server as it runs: collections, latencies, ways, and one search as a picture.
//!
//! The files hold no data: they ask the routes that clients ask, with the key that is typed in.

use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, X_CONTENT_TYPE_OPTIONS};
use hyper::header::{REFERRER_POLICY, X_FRAME_OPTIONS};

use crate::server::call::Call;
use crate::server::reply::{Answer, Reply};

/// Nothing but these files, and nobody else's page around them.
const HEADERS: &[(HeaderName, &str)] = &[
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-cache"),
];

/// `GET /ui`
pub fn page(_: &Call<'_>) -> Answer {
    Ok(Reply::file("text/html; charset=utf-8", HEADERS, include_str!("page.html")))
}

/// `GET /ui/page.css`
pub fn style(_: &Call<'_>) -> Answer {
    Ok(Reply::file("text/css; charset=utf-8", HEADERS, include_str!("page.css")))
}

/// `GET /ui/page.js`
pub fn script(_: &Call<'_>) -> Answer {
    Ok(Reply::file("text/javascript; charset=utf-8", HEADERS, include_str!("page.js")))
}

/// `GET /ui/cache.js`
pub fn caches(_: &Call<'_>) -> Answer {
    Ok(Reply::file("text/javascript; charset=utf-8", HEADERS, include_str!("cache.js")))
}

/// `GET /ui/draw.js`
pub fn drawing(_: &Call<'_>) -> Answer {
    Ok(Reply::file("text/javascript; charset=utf-8", HEADERS, include_str!("draw.js")))
}
