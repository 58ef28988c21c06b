//! The page of the server, as a browser shows it.

use nearkin::server::keys::rule::Scope as May;
use nearkin::server::limits::Deadlines;
use serde_json::{Value, json};

use super::{Http, access, server, with_points};
use crate::support::browser::{Shown, shown};

/// Long enough for the page to ask again twice.
const OWN_MS: u32 = 7_000;

/// The page with this after the `#`; `None`, said aloud, where there is no browser.
pub fn page(address: std::net::SocketAddr, link: &[(&str, &str)]) -> Option<Shown> {
    let profile = tempfile::tempdir().unwrap();
    let escaped = |text: &str| -> String {
        let hex = |byte: u8| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        text.bytes().map(hex).collect()
    };
    let pairs: Vec<String> =
        link.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let url = format!("http://{address}/ui#{}", pairs.join("&"));
    shown(profile.path(), &url, OWN_MS)
}

/// The part of a page from where an element of this id begins to where one of that tag ends.
pub fn part<'p>(page: &'p Shown, id: &str, tag: &str) -> &'p str {
    let from = page.dom.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}"));
    let rest = &page.dom[from..];
    &rest[..rest.find(&format!("</{tag}>")).unwrap_or_else(|| panic!("no end of {id}"))]
}

#[test]
fn the_page_and_its_files_need_no_key_and_may_load_nothing_from_elsewhere() {
    let http = Http::new();
    for (path, kind) in [
        ("/ui", "text/html; charset=utf-8"),
        ("/ui/page.css", "text/css; charset=utf-8"),
        ("/ui/page.js", "text/javascript; charset=utf-8"),
        ("/ui/draw.js", "text/javascript; charset=utf-8"),
        ("/ui/cache.js", "text/javascript; charset=utf-8"),
    ] {
        let answered = http.text("GET", path, "");
        assert_eq!((answered.status, answered.header("content-type")), (200, Some(kind)), "{path}");
        let policy = answered.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let text = answered.body.as_str().unwrap().replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http://", "https://", "src=\"//", "innerHTML", "eval("] {
            assert!(!text.contains(foreign), "{path}: {foreign}");
        }
    }
}

#[test]
fn the_page_lists_collections_and_draws_how_a_search_was_answered() {
    let http = with_points(Deadlines::default()).reopened();
    let filter = r#"{"must": [{"key": "odd", "match": {"value": true}}]}"#;
    let link = [("collection", "things"), ("limit", "3"), ("filter", filter)];
    let Some(page) = page(http.address(), &link) else { return };
    assert_eq!(page.console, Vec::<String>::new());
    assert!(part(&page, "state", "p").ends_with(">live"), "{}", part(&page, "state", "p"));
    let collections = part(&page, "collections", "table");
    for text in [">things<", ">20<", ">4 Dot<"] {
        assert!(collections.contains(text), "{text}: {collections}");
    }
    assert!(collections.contains("<title>rows: "), "{collections}");
    let told = part(&page, "told", "p");
    assert!(told.contains("3 of 10 matching points in "), "{told}");
    let weighed = part(&page, "weighed", "svg");
    assert_eq!(weighed.matches("▸").count(), 1, "one way is marked: {weighed}");
    assert!(weighed.matches("<rect").count() > 1, "several ways are drawn: {weighed}");
    let funnel = part(&page, "funnel", "svg");
    for text in [">points<", ">match<", ">compared<", ">returned<", ">20<", ">10<", ">3<"] {
        assert!(funnel.contains(text), "{text}: {funnel}");
    }
    assert!(part(&page, "touched", "p").contains("20 payloads were read for odd"));
    assert_eq!(part(&page, "points", "table").matches("<tr>").count(), 1 + 3);
    // The search of the page itself was measured since.
    assert!(part(&page, "ways", "svg").contains("1 (100.0 %)"), "{}", part(&page, "ways", "svg"));
    assert!(part(&page, "ask-error", "p").contains("hidden"));
}

#[test]
fn what_cannot_be_answered_is_said_and_markup_in_points_is_text() {
    let http = with_points(Deadlines::default());
    let link = [("collection", "things"), ("filter", r#"{"musst": []}"#)];
    let Some(refused) = page(http.address(), &link) else { return };
    let error = part(&refused, "ask-error", "p");
    assert!(error.contains("400 filter_key: ") && !error.contains("hidden"), "{error}");
    assert!(part(&refused, "answer", "p").contains("hidden"), "no picture of nothing");
    let script =
        "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>";
    let point = json!({"id": 1, "vector": [9, 9, 9, 9], "payload": {"p": script}});
    http.ok("PUT", "/collections/things/points?wait=true", json!({"points": [point]}));
    let link = [("collection", "things"), ("vector", "[1, 1, 1, 1]"), ("limit", "1")];
    let page = page(http.address(), &link).unwrap();
    assert_eq!(page.console, Vec::<String>::new());
    let points = part(&page, "points", "table");
    assert!(points.contains("&lt;img src=x onerror="), "{points}");
    assert!(!page.dom.contains("<img") && page.dom.contains("<title>nearkin</title>"));
}

#[test]
fn tenants_are_listed_and_a_server_with_keys_asks_for_one() {
    let http = Http::new();
    http.ok("PUT", "/collections/notes", json!({"vectors": {"a": {"size": 2, "distance": "Dot"}}}));
    let field =
        json!({"field_name": "owner", "field_schema": {"type": "keyword", "is_tenant": true}});
    http.ok("PUT", "/collections/notes/index", field);
    let point = |id: u64| {
        let owner = if id.is_multiple_of(3) { "ann" } else { "ben" };
        json!({"id": id, "vector": {"a": [id, 1]}, "payload": {"owner": owner}})
    };
    let points: Vec<Value> = (0..30).map(point).collect();
    http.ok("PUT", "/collections/notes/points", json!({"points": points}));
    let link = [("collection", "notes"), ("using", "a"), ("limit", "5"), ("exact", "true")];
    let Some(open) = page(http.address(), &link) else { return };
    assert_eq!(open.console, Vec::<String>::new());
    let tenants = part(&open, "tenants", "table");
    let (ben, ann) = (tenants.find(">ben<").unwrap(), tenants.find(">ann<").unwrap());
    assert!(ben < ann && tenants.contains(">20<") && tenants.contains(">10<"), "{tenants}");
    assert!(part(&open, "told", "p").contains("5 of 30 matching points"));
    assert!(part(&open, "key-form", "form").starts_with("id=\"key-form\" hidden"));
    let (_, data) = http.stopped();
    access::key(data.path(), &May::ALL, |_| ());
    let server = server(data.path(), Deadlines::default());
    let locked = page(server.address(), &[]).unwrap();
    assert!(!part(&locked, "key-form", "form").starts_with("id=\"key-form\" hidden"));
    assert!(part(&locked, "collections-error", "p").contains("401 key_missing: "));
    assert!(!locked.dom.contains(">notes<"));
}
