//! Who may do what: every route with every kind of key, tenants beside each other, and what is written down of it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nearkin::server::keys::file::{self, KeyRecord, Quotas};
use nearkin::server::keys::rule::Scope as May;
use nearkin::server::keys::text::Key;
use nearkin::server::limits::{Deadlines, Limits};
use nearkin::server::log::Log;
use nearkin::server::moment::{Clock, Moment};
use nearkin::server::{FrontSettings, Scope, ServeSettings, Server, listed};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::raw;

/// A clock that goes on when it is told to.
#[derive(Debug, Default)]
struct Told(AtomicU64);

impl Clock for Told {
    fn now(&self) -> Moment {
        let ms = self.0.load(Ordering::SeqCst);
        Moment { unix_ms: 1_790_000_000_000 + ms, steady: Duration::from_millis(ms) }
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A key as its holder has it, or none.
type Held = Option<String>;

struct Guarded {
    server: Server,
    clock: Arc<Told>,
    log: Kept,
    data: TempDir,
}

/// What was answered.
struct Answered {
    status: u16,
    error: String,
    body: Value,
    text: String,
}

fn start(data: &Path, bind: &str, clock: &Arc<Told>, log: &Kept) -> nearkin::Result<Server> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    Server::start(ServeSettings {
        data: data.to_owned(),
        bind: bind.parse().unwrap(),
        pool: Arc::new(pool),
        budget_bytes: 1 << 30,
        check_recall: 0.0,
        deadlines: Deadlines::default(),
        limits: Limits::default(),
        hosts: Vec::new(),
        log: Log::new(Box::new(log.clone())),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        front: FrontSettings::default(),
    })
}

/// Makes a key.
pub fn key(data: &Path, scopes: &[May], change: impl FnOnce(&mut KeyRecord)) -> String {
    let key = Key::random().unwrap();
    let mut record = KeyRecord {
        id: key.id(),
        name: "test".into(),
        secret_sha256: key.hash(),
        scopes: scopes.to_vec(),
        tenant: None,
        collections: None,
        created: 1,
        expires: None,
        revoked: None,
        quotas: Quotas::default(),
    };
    change(&mut record);
    file::change(data, |keys| {
        keys.push(record);
        Ok(())
    })
    .unwrap();
    key.text()
}

const BOTH: [May; 2] = [May::Read, May::Write];

impl Guarded {
    /// A server with a key for everything, and two collections.
    fn new() -> (Self, String) {
        let data = tempfile::tempdir().unwrap();
        let all = key(data.path(), &May::ALL, |_| ());
        let (clock, log) = (Arc::new(Told::default()), Kept::default());
        let server = start(data.path(), "127.0.0.1:0", &clock, &log).unwrap();
        let guarded = Self { server, clock, log, data };
        while guarded.ask(&None, "GET", "/readyz", "").status != 200 {
            std::thread::yield_now();
        }
        for name in ["things", "others"] {
            let path = format!("/collections/{name}");
            let vectors = json!({"vectors": {"size": 2, "distance": "Dot"}});
            guarded.ok(&all, "PUT", &path, vectors);
            let field = json!({"field_name": "owner", "field_schema": {"type": "keyword", "is_tenant": true}});
            guarded.ok(&all, "PUT", &format!("{path}/index"), field);
        }
        (guarded, all)
    }

    fn key(&self, scopes: &[May], change: impl FnOnce(&mut KeyRecord)) -> String {
        let key = key(self.data.path(), scopes, change);
        // Within a second the server knows it.
        self.later(1000);
        key
    }

    fn later(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What is answered to a head with a body, on a connection of its own.
    fn head(&self, head: &str, body: &str) -> Answered {
        let text = raw(self.address(), format!("{head}\r\n\r\n{body}").as_bytes());
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body: Value = serde_json::from_str(body).unwrap_or(Value::String(body.to_owned()));
        let error = body["status"]["error"].as_str().or_else(|| body["detail"].as_str());
        let error = error.unwrap_or_default().to_owned();
        Answered { status, error, body, text }
    }

    fn ask(&self, key: &Held, method: &str, path: &str, body: &str) -> Answered {
        let key = key.as_ref().map(|key| format!("api-key: {key}\r\n")).unwrap_or_default();
        let n_bytes = body.len();
        self.head(
            &format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{key}connection: close\r\n\
                 content-type: application/json\r\ncontent-length: {n_bytes}"
            ),
            body,
        )
    }

    /// The result of what must succeed.
    fn ok(&self, key: &str, method: &str, path: &str, body: Value) -> Value {
        let answered = self.ask(&Some(key.to_owned()), method, path, &body.to_string());
        assert_eq!(answered.status, 200, "{method} {path}: {}", answered.text);
        answered.body["result"].clone()
    }

    fn refused(&self, key: &str, method: &str, path: &str, body: Value) -> (u16, String) {
        let answered = self.ask(&Some(key.to_owned()), method, path, &body.to_string());
        assert_ne!(answered.status, 200, "{method} {path}: {}", answered.text);
        (answered.status, answered.error)
    }
}

fn filled(pattern: &str, collection: &str) -> String {
    let path = pattern.replace("{collection}", collection).replace("{id}", "1");
    path.replace("{field}", "n").replace("{vector}", "v").replace("{alias}", "a")
}

#[test]
fn every_route_is_closed_to_every_key_that_is_not_for_it_before_its_body_is_read() {
    let (server, _) = Guarded::new();
    let ended = server.key(&May::ALL, |key| key.expires = Some(2));
    let revoked = server.key(&May::ALL, |key| key.revoked = Some(2));
    let reads = server.key(&[May::Read], |_| ());
    let foreign = server.key(&May::ALL, |key| key.collections = Some(vec!["others".into()]));
    let unknown = Key::random().unwrap().text();
    // A body is announced and never sent: whoever reads it before it answers does not answer.
    let ask = |key: &Held, method: &str, path: &str| {
        server.later(1000);
        let key = key.as_ref().map(|key| format!("api-key: {key}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{key}connection: close\r\n\
             content-type: application/json\r\ncontent-length: 1000000"
        );
        let answered = server.head(&head, "");
        (answered.status, answered.error)
    };
    let routes: Vec<_> = listed().filter(|(_, _, scope)| *scope != Scope::Open).collect();
    assert!(routes.len() > 30, "{} routes", routes.len());
    for (method, pattern, scope) in routes {
        let (path, what) = (filled(pattern, "things"), format!("{method} {pattern}"));
        let missing = ask(&None, method, &path);
        assert_eq!((missing.0, &missing.1[..12]), (401, "key_missing:"), "{what}");
        let refused: Vec<_> = [&unknown, &ended, &revoked, "nonsense"]
            .map(|key| ask(&Some(key.to_owned()), method, &path))
            .into();
        assert_eq!((refused[0].0, &refused[0].1[..12]), (401, "key_invalid:"), "{what}");
        assert!(refused.iter().all(|one| *one == refused[0]), "{what}: {refused:?}");
        if !matches!(scope, Scope::Read | Scope::Any) {
            let (status, error) = ask(&Some(reads.clone()), method, &path);
            assert_eq!((status, &error[..6]), (403, "scope:"), "{what}");
        }
        if pattern.contains("{collection}") && !pattern.ends_with("/exists") {
            let there = ask(&Some(foreign.clone()), method, &path);
            let absent = ask(&Some(foreign.clone()), method, &filled(pattern, "nothing"));
            assert_eq!((there.0, &there.1[..21]), (404, "collection_not_found:"), "{what}");
            assert_eq!(there.1.replace("things", "nothing"), absent.1, "{what}");
        }
    }
}

#[test]
fn a_key_that_is_for_a_route_gets_past_the_gate() {
    let (server, all) = Guarded::new();
    for (method, pattern, _) in listed() {
        server.later(1000);
        // Nothing is asked for that could be done: whatever is said of the body is said by the route.
        let answered = server.ask(&Some(all.clone()), method, &filled(pattern, "things"), "");
        let is_past = !matches!(answered.status, 401 | 403 | 405);
        assert!(is_past, "{method} {pattern}: {}", answered.text);
    }
    let reads = server.key(&[May::Read], |_| ());
    let count = server.ok(&reads, "POST", "/collections/others/points/count", json!({}));
    assert_eq!(count, json!({"count": 0}));
    for probe in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(server.ask(&None, "GET", probe, "").status, 200, "{probe}");
    }
}

#[test]
fn another_collection_and_one_that_is_not_there_are_the_same_in_every_answer() {
    let (server, all) = Guarded::new();
    let alias = json!({"actions": [{"create_alias":
        {"collection_name": "things", "alias_name": "latest"}}]});
    server.ok(&all, "POST", "/collections/aliases", alias);
    let own = server.key(&May::ALL, |key| key.collections = Some(vec!["others".into()]));
    let ours = server.key(&May::ALL, |key| key.collections = Some(vec!["things".into()]));
    let names = server.ok(&own, "GET", "/collections", json!(null));
    assert_eq!(names, json!({"collections": [{"name": "others"}]}));
    assert_eq!(server.ok(&own, "GET", "/aliases", json!(null)), json!({"aliases": []}));
    let body = |name: &str, path: &str| {
        let answered = server.ask(&Some(own.clone()), "GET", &path.replace("NAME", name), "");
        let mut body = answered.body;
        body["time"] = json!(0);
        (answered.status, body.to_string().replace(name, "NAME"))
    };
    for path in ["/collections/NAME", "/collections/NAME/exists", "/collections/NAME/aliases"] {
        let absent = body("nothing", path);
        assert_eq!(body("things", path), absent, "{path}");
        assert_eq!(body("latest", path), absent, "{path}");
    }
    // An alias is whatever it names: for whoever may see that.
    let exists = server.ok(&ours, "GET", "/collections/latest/exists", json!(null));
    assert_eq!(exists, json!({"exists": true}));
    for action in [
        json!({"delete_alias": {"alias_name": "latest"}}),
        json!({"rename_alias": {"old_alias_name": "latest", "new_alias_name": "mine"}}),
        json!({"create_alias": {"collection_name": "things", "alias_name": "mine"}}),
        json!({"create_alias": {"collection_name": "others", "alias_name": "latest"}}),
    ] {
        let (status, error) =
            server.refused(&own, "POST", "/collections/aliases", json!({"actions": [action]}));
        assert_eq!(status, 404, "{error}");
    }
    assert_eq!(server.ok(&all, "GET", "/collections/latest/exists", json!(null))["exists"], true);
}

#[test]
fn tenants_of_one_collection_do_not_see_or_change_each_others_points() {
    let (server, all) = Guarded::new();
    let of = |name: &str| {
        server.key(&BOTH, |key| {
            key.tenant = Some(name.into());
            key.collections = Some(vec!["things".into()]);
        })
    };
    let (ann, ben) = (of("ann"), of("ben"));
    let points = |ids: std::ops::Range<u64>, payload: Value| {
        let point = |id| json!({"id": id, "vector": [id, 1], "payload": payload});
        json!({"points": ids.map(point).collect::<Vec<_>>()})
    };
    let path = "/collections/things/points";
    // Whose a point is comes from the key, said in the payload or not.
    server.ok(&ann, "PUT", path, points(1..5, json!({"n": "ann's"})));
    server.ok(&ben, "PUT", path, points(5..12, json!({"owner": "ben", "n": "ben's"})));
    let conflict = server.refused(&ann, "PUT", path, points(20..21, json!({"owner": "ben"})));
    assert_eq!((conflict.0, &conflict.1[..16]), (400, "tenant_conflict:"));
    let taken = server.refused(&ann, "PUT", path, points(5..6, json!({})));
    assert_eq!((taken.0, &taken.1[..9]), (409, "id_taken:"));
    let everything = json!({"vector": [1, 1], "limit": 100, "with_payload": true});
    for (key, own, other, n) in [(&ann, "ann's", "ben's", 4), (&ben, "ben's", "ann's", 7)] {
        let found = server.ok(key, "POST", &format!("{path}/search"), everything.clone());
        assert_eq!(found.as_array().unwrap().len(), n);
        let all_ids = json!({"ids": (1..12).collect::<Vec<_>>(), "with_payload": true});
        let asked = [
            ("/search/batch", json!({"searches": [everything]})),
            ("/explain", everything.clone()),
            ("/scroll", json!({"limit": 100})),
            ("", all_ids),
        ];
        for (route, body) in asked {
            let seen = server.ok(key, "POST", &format!("{path}{route}"), body).to_string();
            assert!(seen.contains(own) && !seen.contains(other), "{route}: {seen}");
        }
        let count = server.ok(key, "POST", &format!("{path}/count"), json!({}));
        assert_eq!(count, json!({"count": n}));
        let info = server.ok(key, "GET", "/collections/things", json!(null));
        assert_eq!(info["points_count"], n);
        let facet = server.ok(key, "POST", "/collections/things/facet", json!({"key": "owner"}));
        assert_eq!(facet["hits"].as_array().unwrap().len(), 1, "{facet}");
    }
    // Not one byte of an answer says that others write.
    let answers = |key: &String| -> Vec<Value> {
        let search = json!({"vector": [3, 1], "limit": 2});
        let asked = [
            ("POST", format!("{path}/search"), search.clone()),
            ("POST", format!("{path}/search/batch"), json!({"searches": [search]})),
            ("POST", format!("{path}/query"), json!({"query": [3, 1], "with_vector": true})),
            ("POST", format!("{path}/query/batch"), json!({"searches": [{"query": 2}]})),
            ("POST", format!("{path}/query/groups"), json!({"query": [3, 1], "group_by": "n"})),
            ("POST", format!("{path}/recommend"), json!({"positive": [1], "limit": 9})),
            ("POST", format!("{path}/scroll"), json!({"limit": 3})),
            ("GET", format!("{path}/2"), json!(null)),
            ("POST", format!("{path}/count"), json!({})),
            ("GET", "/collections/things".into(), json!(null)),
            ("PUT", format!("{path}/payload"), json!({"payload": {"n": "ann's"}, "points": [1]})),
        ];
        asked.map(|(method, path, body)| server.ok(key, method, &path, body)).into()
    };
    let before = answers(&ann);
    server.ok(&ben, "PUT", path, points(100..400, json!({"n": "ben's"})));
    assert_eq!(answers(&ann), before);
    server.ok(
        &ben,
        "POST",
        &format!("{path}/delete"),
        json!({"points": (100..400).collect::<Vec<_>>()}),
    );
    assert_eq!(answers(&ann), before);
    // What is another's is not there to be removed.
    server.ok(&ann, "POST", &format!("{path}/delete"), json!({"filter": {}}));
    let count = |key: &str| server.ok(key, "POST", &format!("{path}/count"), json!({}));
    assert_eq!((count(&ann), count(&all)), (json!({"count": 0}), json!({"count": 7})));
}

#[test]
fn a_tenant_is_not_told_what_answering_took_of_others() {
    let (server, all) = Guarded::new();
    let ann = server.key(&BOTH, |key| {
        key.tenant = Some("ann".into());
        key.collections = Some(vec!["things".into()]);
    });
    let path = "/collections/things";
    let of = |owner: &str, ids: std::ops::Range<u64>| {
        let point = |id| json!({"id": id, "vector": [id, 1], "payload": {"owner": owner, "n": 1}});
        json!({"points": ids.map(point).collect::<Vec<_>>()})
    };
    server.ok(&all, "PUT", &format!("{path}/points"), of("ann", 1..5));
    server.ok(&all, "PUT", &format!("{path}/points"), of("ben", 5..40));
    let body = json!({"vector": [1, 1], "limit": 3, "filter": {"must": [{"key": "n", "match": {"value": 1}}]}});
    let explained = |key: &str| {
        let path = format!("{path}/points/explain");
        server.ok(key, "POST", &path, body.clone())["plan"].clone()
    };
    let keys = |plan: &Value| plan.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let plan = explained(&ann);
    assert_eq!(keys(&plan), ["way", "exact", "took_us", "matches", "returned"]);
    assert_eq!((&plan["matches"], &plan["returned"]), (&json!(4), &json!(3)));
    let plan = explained(&all);
    assert_eq!(plan["matches"], 39);
    assert!(plan["predicted_us"].is_object() && plan["filter"].is_object(), "{plan}");
    let (status, error) = server.refused(&ann, "GET", &format!("{path}/stats"), json!(null));
    assert_eq!((status, &error[..6]), (403, "scope:"));
    let stats = server.ok(&all, "GET", &format!("{path}/stats"), json!(null));
    assert_eq!((&stats["points"], &stats["tenants"]), (&json!(39), &json!(2)));
    let largest = json!([{"tenant": "ben", "points": 35}, {"tenant": "ann", "points": 4}]);
    assert_eq!(stats["largest_tenants"], largest);
    // Reading what a collection takes changes nothing: it is not in the audit file.
    let audit = std::fs::read_to_string(server.data.path().join("audit.jsonl")).unwrap();
    let lines: Vec<&str> = audit.lines().filter(|line| line.contains("/stats")).collect();
    assert!(lines.iter().all(|line| !line.contains("\"done\"")), "{lines:?}");
}

#[test]
fn a_header_that_names_a_tenant_gives_nobody_its_points() {
    let (server, all) = Guarded::new();
    let head = |more: &str| {
        let head = format!(
            "GET /collections HTTP/1.1\r\nhost: localhost\r\napi-key: {all}\r\nconnection: close{more}"
        );
        let answered = server.head(&head, "");
        (answered.status, answered.error.split(':').next().unwrap().to_owned())
    };
    assert_eq!(head(""), (200, String::new()));
    assert_eq!(head("\r\nx-tenant-id: ann"), (400, "tenant_conflict".into()));
    assert_eq!(head("\r\nx-forwarded-user: ann"), (200, String::new()));
    assert_eq!(head("\r\norigin: http://evil.test"), (403, "foreign_origin".into()));
    assert_eq!(head("\r\nsec-fetch-site: cross-site"), (403, "foreign_origin".into()));
    let rebound = server.head(
        &format!(
            "GET /collections HTTP/1.1\r\nhost: evil.test\r\napi-key: {all}\r\nconnection: close"
        ),
        "",
    );
    assert_eq!((rebound.status, &rebound.error[..13]), (403, "foreign_host:"));
    let in_url = server.ask(&None, "GET", &format!("/collections?api-key={all}"), "");
    assert_eq!((in_url.status, &in_url.error[..11]), (401, "key_in_url:"));
}

#[test]
fn a_running_server_follows_keys_as_they_are_revoked_made_and_lost() {
    let (server, all) = Guarded::new();
    let status = |key: &str| {
        server.later(1000);
        server.ask(&Some(key.to_owned()), "GET", "/collections", "").status
    };
    let old = server.key(&[May::Read], |_| ());
    let new = server.key(&[May::Read], |_| ());
    assert_eq!([status(&old), status(&new)], [200, 200]);
    let id = old.parse::<Key>().unwrap().id();
    file::change(server.data.path(), |keys| {
        keys.iter_mut().filter(|key| key.id == id).for_each(|key| key.revoked = Some(3));
        Ok(())
    })
    .unwrap();
    assert_eq!([status(&old), status(&new)], [401, 200]);
    std::fs::rename(file::path(server.data.path()), server.data.path().join("moved")).unwrap();
    assert_eq!([status(&all), status(&new)], [503, 503], "no file is not no keys");
    std::fs::rename(server.data.path().join("moved"), file::path(server.data.path())).unwrap();
    assert_eq!([status(&all), status(&old)], [200, 401]);
}

#[test]
fn quotas_of_points_and_requests_are_kept_and_reading_goes_on() {
    let (server, _) = Guarded::new();
    let key = server.key(&BOTH, |key| {
        key.tenant = Some("ann".into());
        key.quotas = Quotas { points: Some(3), requests_per_second: Some(20), weight: None };
    });
    let path = "/collections/things/points";
    let points = |ids: &[u64]| {
        let point = |id: &u64| json!({"id": id, "vector": [1, 1]});
        json!({"points": ids.iter().map(point).collect::<Vec<_>>()})
    };
    server.ok(&key, "PUT", path, points(&[1, 2, 3]));
    let full = server.refused(&key, "PUT", path, points(&[3, 4]));
    assert_eq!(full, (507, "quota_points: quota: points 4/3".into()));
    server.ok(&key, "PUT", path, points(&[2, 3]));
    assert_eq!(server.ok(&key, "POST", &format!("{path}/count"), json!({})), json!({"count": 3}));
    server.ok(&key, "POST", &format!("{path}/delete"), json!({"points": [1]}));
    server.ok(&key, "PUT", path, points(&[4]));
    server.later(1000);
    let statuses: Vec<u16> =
        (0..22).map(|_| server.ask(&Some(key.clone()), "GET", "/collections", "").status).collect();
    assert_eq!(statuses, [&[200; 20][..], &[429; 2]].concat());
}

#[test]
fn without_keys_others_are_not_listened_to() {
    let data = tempfile::tempdir().unwrap();
    let (clock, log) = (Arc::new(Told::default()), Kept::default());
    let start = |bind: &str| start(data.path(), bind, &clock, &log);
    let error = start("0.0.0.0:0").err().unwrap();
    assert_eq!((error.code(), error.kind().exit_code()), ("insecure_bind", 2));
    drop(start("127.0.0.1:0").unwrap());
    key(data.path(), &[May::Read], |_| ());
    drop(start("0.0.0.0:0").unwrap());
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(file::path(data.path()), open).unwrap();
    let error = start("127.0.0.1:0").err().unwrap();
    assert_eq!((error.code(), error.kind().exit_code()), ("key_file_mode", 2));
}

#[test]
fn refusals_and_changes_are_in_the_audit_file_and_every_request_in_the_log() {
    let (server, all) = Guarded::new();
    let reads = server.key(&[May::Read], |key| key.tenant = Some("ann".into()));
    let id = |key: &str| key.split('_').nth(1).unwrap().to_owned();
    let audit = server.data.path().join("audit.jsonl");
    let lines = |path: &Path| -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let n_before = lines(&audit).len();
    server.log.0.lock().unwrap().clear();
    let path = "/collections/things/points";
    let canary = json!({"points": [{"id": 1, "vector": [0.625, 1], "payload": {"p": "canary-1"}}]});
    server.ok(&all, "PUT", &format!("{path}?wait=true&canary-2=1"), canary.clone());
    server.ok(&reads, "POST", &format!("{path}/count"), json!({}));
    server.refused(&reads, "PUT", path, canary);
    server.refused("canary-3", "POST", &format!("{path}/count"), json!({}));
    server.ask(&None, "GET", "/collections/canary-4/exists", "");
    server.ask(&None, "GET", "/canary-5", "");
    server.ok(&all, "DELETE", "/collections/others", json!(null));
    let found: Vec<Value> = lines(&audit).split_off(n_before);
    let told: Vec<Value> = found
        .iter()
        .map(|line| {
            json!([
                line["key"],
                line["tenant"],
                line["action"],
                line["collection"],
                line["result"],
                line["status"],
                line["code"]
            ])
        })
        .collect();
    let put = "PUT /collections/{collection}/points";
    let expected = [
        json!([id(&all), null, put, "things", "done", 200, null]),
        json!([id(&reads), "ann", put, "things", "denied", 403, "scope"]),
        json!([
            null,
            null,
            "POST /collections/{collection}/points/count",
            "things",
            "denied",
            401,
            "key_invalid"
        ]),
        json!([
            null,
            null,
            "GET /collections/{collection}/exists",
            "canary-4",
            "denied",
            401,
            "key_missing"
        ]),
        json!([id(&all), null, "DELETE /collections/{collection}", "others", "done", 200, null]),
    ];
    assert_eq!(told, expected);
    let log = String::from_utf8(server.log.0.lock().unwrap().clone()).unwrap();
    let statuses: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone())
        .collect();
    assert_eq!(statuses, [200, 200, 403, 401, 401, 404, 200]);
    let secret = |key: &str| key.split('_').nth(2).unwrap().to_owned();
    let mut unwanted = ["canary".to_owned(), "0.625".into(), secret(&all), secret(&reads)];
    assert!(unwanted.iter().all(|text| !log.contains(text)), "{log}");
    // The audit file names collections, and nothing else that was sent.
    unwanted[0] = "canary-1".into();
    let text = std::fs::read_to_string(&audit).unwrap();
    assert!(unwanted.iter().all(|text_| !text.contains(text_)), "{text}");
}

#[test]
fn metrics_need_their_scope_and_name_no_tenant() {
    let (server, all) = Guarded::new();
    let metrics = server.key(&[May::Metrics], |_| ());
    let tenant = server.key(&BOTH, |key| key.tenant = Some("tenant-canary".into()));
    let path = "/collections/things/points";
    server.ok(&tenant, "PUT", path, json!({"points": [{"id": 1, "vector": [1, 1]}]}));
    let search = json!({"vector": [1, 1], "limit": 3});
    server.ok(&tenant, "POST", &format!("{path}/search"), search);
    assert_eq!(server.refused(&tenant, "GET", "/metrics", json!(null)).0, 403);
    assert_eq!(server.refused(&metrics, "GET", "/collections", json!(null)).0, 403);
    for key in [metrics, all] {
        let answered = server.ask(&Some(key), "GET", "/metrics", "");
        assert_eq!(answered.status, 200, "{}", answered.text);
        for sample in [
            "nearkin_requests_total{method=\"POST\",route=\"/collections/{collection}/points/search\",status=\"200\"} 1",
            "nearkin_request_seconds_count{plan=\"listed\",tenants=\"small\"} 1",
            "nearkin_collections 2",
            "nearkin_queue_depth 0",
            "nearkin_workers_busy 1",
            "nearkin_memory_bytes{part=\"",
        ] {
            assert!(answered.text.contains(sample), "{sample}\n{}", answered.text);
        }
        assert!(!answered.text.contains("canary") && !answered.text.contains("things"));
    }
}
