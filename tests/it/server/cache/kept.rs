//! What is done with answers while nobody waits: a judge is asked, policies are followed, LiteLLM's collections are swept.

use std::time::Duration;

use nearkin::cache::CollectionPolicy;
use nearkin::engine::{Ask, Collection};
use nearkin::plan::filter::Filter;
use nearkin::server::cache::litellm::{Swept, sweep};
use serde_json::{Value, json};

use super::super::ui::{page, part};
use super::{Front, chat};

const ONE: &str = "what is the capital city of the country France";

/// Before a judge, whom every near miss is told to.
fn judged() -> Front {
    Front::with("", |settings, data| {
        let url = settings.upstream.as_ref().unwrap();
        let policy = format!(
            "[default]\nthreshold = 0.99\nmargin = 0.5\nguard = false\njudge = \"{url}/judge\"\n"
        );
        let path = data.join("policy.toml");
        std::fs::write(&path, policy).unwrap();
        settings.policy = Some(path);
    })
}

impl Front {
    /// Waits until a judge has said this so often.
    pub(super) fn wait_judged(&self, word: &str, n: f64) {
        while self.metric(&format!("nearkin_cache_judged_total{{opinion=\"{word}\"}}")) < n {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_judge_is_asked_of_near_misses_afterwards_and_what_it_approves_stands_in() {
    let front = judged();
    let first = front.ask(&[], &chat("m", ONE)).said();
    let polite = format!("{ONE} please");
    let near = front.ask(&[], &chat("m", &polite));
    assert_eq!((near.outcome(), near.reason()), ("MISS", "below_threshold"));
    front.wait_judged("same", 1.0);
    assert_eq!(
        front.ask(&[], &chat("m", &polite)).said(),
        near.said(),
        "it has an answer of its own"
    );
    let cut = format!("{ONE} please cut short");
    assert_eq!(front.ask(&[], &chat("m", &cut)).outcome(), "MISS");
    front.wait_judged("same", 2.0);
    let stood_in = front.ask(&[], &chat("m", &cut));
    assert_eq!((stood_in.outcome(), stood_in.reason()), ("HIT", "exact"));
    assert!([first, near.said()].contains(&stood_in.said()), "{stood_in:?}");
    let rude = format!("{ONE} cut short");
    assert_eq!(front.ask(&[], &chat("m", &rude)).outcome(), "MISS");
    front.wait_judged("different", 1.0);
    assert_eq!(front.ask(&[], &chat("m", &rude)).outcome(), "MISS");
    let asked: Vec<Value> = front
        .fake
        .seen()
        .into_iter()
        .filter(|seen| seen.line.contains("/judge"))
        .map(|seen| seen.body)
        .collect();
    assert_eq!(asked[0]["question"], json!(polite));
    assert_eq!(
        (&asked[0]["known"], asked[0]["answer"].as_str().unwrap().is_empty()),
        (&json!(ONE), false)
    );
}

#[test]
fn policies_are_followed_while_the_server_runs_and_a_broken_file_changes_nothing() {
    let front = Front::with("[default]\nthreshold = 0.5\n", |_, _| ());
    let path = front.data.path().join("policy.toml");
    let threshold = || {
        let policy = front.send("GET", "/v1/cache/proxy/policy", &[], "");
        policy.body["result"]["default"]["threshold"].as_f64().unwrap()
    };
    assert!((threshold() - 0.5).abs() < 1e-6);
    std::fs::write(&path, "[default]\nthresold = 0.7\n").unwrap();
    let other = front.data.path().join("policy.part");
    std::fs::write(&other, "[default]\nthreshold = 0.75\n").unwrap();
    assert!((threshold() - 0.5).abs() < 1e-6);
    std::fs::rename(&other, &path).unwrap();
    while (threshold() - 0.75).abs() > 1e-6 {
        std::thread::yield_now();
    }
}

#[test]
fn collections_of_litellm_lose_what_had_its_time_and_what_is_there_twice() {
    let front = Front::with("", |settings, _| settings.upstream = None);
    let vectors = json!({"vectors": {"size": 2, "distance": "Cosine"}});
    assert_eq!(front.send("PUT", "/collections/llm", &[], &vectors.to_string()).status, 200);
    let point = |id: u64, key: &str, time: &str, vector: [f32; 2]| {
        let response = format!("{{'timestamp': {time}, 'response': '{{}}'}}");
        let payload = json!({"litellm_cache_key": key, "text": "t", "response": response});
        json!({"id": id, "vector": vector, "payload": payload})
    };
    let points = [
        point(1, "a", "100.5", [1.0, 0.0]),
        point(2, "a", "200.5", [1.0, 0.0]),
        point(3, "a", "300.5", [1.0, 0.001]),
        point(4, "a", "300.5", [0.0, 1.0]),
        point(5, "b", "250.5", [1.0, 0.0]),
        point(6, "b", "never", [1.0, 0.0]),
    ];
    let put = front.send(
        "PUT",
        "/collections/llm/points?wait=true",
        &[],
        &json!({"points": points}).to_string(),
    );
    assert_eq!(put.status, 200, "{}", put.text);
    let Front { server, data, .. } = front;
    server.stopper()();
    assert!(server.wait());
    let pool = std::sync::Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    let collection = Collection::open(&data.path().join("llm"), &pool, 1 << 30).unwrap();
    let count = || collection.count(&Ask::new(None, Filter::default())).unwrap();
    let mut policy = CollectionPolicy { ttl: None, dedup: None, partition: None };
    assert_eq!(sweep(&collection, &policy, 1000).unwrap(), Swept::default());
    assert_eq!(count(), 6);
    policy.ttl = Some(Duration::from_secs(100));
    assert_eq!(sweep(&collection, &policy, 201).unwrap(), Swept { n_expired: 1, n_joined: 0 });
    policy.dedup = Some(0.99);
    // Of the three on one side of `a` the newest stays; of `b`, the one with a time; other partitions are no matter.
    let swept = sweep(&collection, &policy, 201).unwrap();
    assert_eq!(swept, Swept { n_expired: 0, n_joined: 2 });
    assert_eq!(count(), 3);
    assert_eq!(sweep(&collection, &policy, 351).unwrap(), Swept { n_expired: 1, n_joined: 0 });
}

/// The load that the proxy's cache acts on, and what is said of reading it.
fn load(front: &Front) -> (f64, Value) {
    let stats = front.send("GET", "/v1/cache/proxy/stats", &[], "").body;
    (stats["result"]["load"].as_f64().unwrap(), stats["result"]["load_read"].clone())
}

#[test]
fn load_is_read_from_metrics_moves_what_may_move_and_stays_when_nothing_is_told() {
    let probe = Front::with("[default]\nthreshold = 0.6\nguard = false\n", |_, _| ());
    let polite = format!("{ONE} please");
    probe.ask(&[], &chat("m", ONE));
    let near = probe.ask(&[], &chat("m", &polite));
    let cosine: f64 = near.header("x-cache-similarity").unwrap().parse().unwrap();
    let front = Front::with("", |settings, data| {
        let policy = format!(
            "[default]\nguard = false\nthreshold = {:.4}\nadapt = {{ delta_max = 0.03 }}\n\
             [category.fixed]\nadapt = false\n\
             [load]\nmetrics = \"{}/metrics\"\nperiod_s = 0.1\nrequests = 64\n",
            cosine + 0.02,
            settings.upstream.as_ref().unwrap()
        );
        let path = data.join("policy.toml");
        std::fs::write(&path, policy).unwrap();
        settings.policy = Some(path);
    });
    let outcomes = || {
        ["any", "fixed"].map(|category| {
            let headers = [("x-cache-category", category), ("cache-control", "no-store")];
            front.ask(&headers, &chat("m", &polite)).outcome().to_owned()
        })
    };
    for category in ["any", "fixed"] {
        front.ask(&[("x-cache-category", category)], &chat("m", ONE));
    }
    let wait = |is_so: &dyn Fn(f64, &Value) -> bool| loop {
        let (load, read) = load(&front);
        if is_so(load, &read) {
            return (load, read);
        }
    };
    // It tells nothing yet.
    let (none, read) = wait(&|_, read| read["failure"].is_string());
    assert!((none, &read["load"]) == (0.0, &Value::Null), "{none} {read}");
    assert!(read["failure"].as_str().unwrap().contains("vllm:num_requests_running"), "{read}");
    assert_eq!(outcomes(), ["MISS", "MISS"]);
    front.fake.tell("vllm:num_requests_running{engine=\"0\"} 60\nvllm:num_requests_waiting 40\n");
    let (_, read) = wait(&|load, _| load > 0.99);
    assert_eq!(read, json!({"load": 1.0, "failure": null}));
    assert_eq!(outcomes(), ["HIT-SEMANTIC", "MISS"]);
    front.fake.tell("vllm:num_requests_running many\n");
    let (before, _) = wait(&|_, read| read["failure"].is_string());
    let failed = || front.metric("nearkin_cache_load_reads_total{outcome=\"failed\"}");
    let n = failed();
    while failed() < n + 2.0 {
        std::thread::yield_now();
    }
    let (after, read) = load(&front);
    assert_eq!((before, &read["load"]), (after, &json!(1.0)));
    assert!(read["failure"].as_str().unwrap().contains("received \"many\""), "{read}");
    front.fake.tell("vllm:num_requests_running 0\nvllm:kv_cache_usage_perc 0.0\n");
    wait(&|load, _| load < before);
    assert!(front.metric("nearkin_cache_load_reads_total{outcome=\"read\"}") > 0.0);
}

#[test]
fn a_policy_that_sends_the_server_to_no_server_is_refused() {
    let (data, fake) = (tempfile::tempdir().unwrap(), super::fake::Fake::start());
    let path = data.path().join("policy.toml");
    let mut settings = super::settings(&fake);
    settings.policy = Some(path.clone());
    for (policy, key) in [
        ("[category.a]\njudge = \"localhost:1\"\n", "category.a.judge"),
        ("[default]\njudge = \"ftp://a\"\n", "default.judge"),
        ("[load]\nmetrics = \"/metrics\"\n", "load.metrics"),
    ] {
        std::fs::write(&path, policy).unwrap();
        let error = super::server(data.path(), settings.clone()).err().unwrap();
        assert_eq!(error.code(), "policy", "{error}");
        let said = ["policy.toml", key, "expected a URL"];
        assert!(said.iter().all(|said| error.to_string().contains(said)), "{key}: {error}");
    }
}

#[test]
fn the_page_shows_what_was_decided_and_why() {
    let front = Front::new();
    front.ask(&[], &chat("m", "a question with <b>markup</b>"));
    front.ask(&[], &chat("m", "a question with <b>markup</b>"));
    let Some(page) = page(front.server.address(), &[]) else { return };
    assert_eq!(page.console, Vec::<String>::new());
    let caches = part(&page, "caches", "table");
    for text in [">proxy<", ">50.0 %<", "exact+semantic, cosine at least 0.9300, for a tenant"] {
        assert!(caches.contains(text), "{text}: {caches}");
    }
    let decisions = part(&page, "decisions", "table");
    for text in [">HIT<", ">exact<", ">MISS<", ">empty_partition; answer: new<", "&lt;b&gt;markup"]
    {
        assert!(decisions.contains(text), "{text}: {decisions}");
    }
    assert!(part(&page, "cache-error", "p").contains("hidden"));
}
