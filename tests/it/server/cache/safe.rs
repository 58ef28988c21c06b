//! What nobody may get from memory: errors, answers of others, answers to another question.

use std::path::Path;

use nearkin::server::keys::rule::Scope as May;
use serde_json::{Value, json};

use super::super::access::key;
use super::super::raw;
use super::{Front, Got, chat};

const LOOSE: &str = "[default]\nthreshold = 0.6\nguard = false\n";
const ONE: &str = "what is the capital city of the country France";
const OTHER: &str = "what is the capital city of the country France please";

/// Asks twice; the second is never from memory.
fn never_kept(front: &Front, body: &Value, status: u16) -> [Got; 2] {
    let both = [front.ask(&[], body), front.ask(&[], body)];
    for got in &both {
        assert_eq!(got.status, status, "{got:?}");
        assert!(matches!(got.outcome(), "MISS" | "BYPASS"), "{got:?}");
    }
    both
}

#[test]
fn what_is_no_whole_answer_is_passed_on_unchanged_and_never_kept() {
    let front = Front::with(LOOSE, |_, _| ());
    let failed = never_kept(&front, &chat("fails-500", ONE), 500);
    assert_eq!(failed[0].body, json!({"error": {"message": "no 500", "code": 500}}));
    let busy = never_kept(&front, &chat("fails-429", ONE), 429);
    assert_eq!(busy[0].header("retry-after"), Some("7"));
    never_kept(&front, &chat("error-200", ONE), 200);
    never_kept(&front, &chat("length", ONE), 200);
    never_kept(&front, &chat("secret", ONE), 200);
    never_kept(&front, &chat("half", ONE), 502);
    for model in ["length", "fails-500"] {
        let mut body = chat(model, ONE);
        body["stream"] = true.into();
        never_kept(&front, &body, if model == "length" { 200 } else { 500 });
    }
    assert_eq!(front.fake.n_seen(), 16);
    let stats = front.send("GET", "/v1/cache/proxy/stats", &[], "");
    assert_eq!(stats.body["result"]["entries"], 0, "{}", stats.text);
}

#[test]
fn another_prompt_model_or_turn_is_another_question() {
    let front = Front::with(LOOSE, |_, _| ());
    front.ask(&[], &chat("m", ONE));
    assert_eq!(front.ask(&[], &chat("m", OTHER)).outcome(), "HIT-SEMANTIC");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = chat("m", OTHER);
        change(&mut body);
        front.ask(&[], &body).outcome().to_owned()
    };
    assert_eq!(with(&|body| body["model"] = "n".into()), "MISS");
    assert_eq!(with(&|body| body["messages"][0]["content"] = "Be rude.".into()), "MISS");
    assert_eq!(with(&|body| body["max_tokens"] = 5.into()), "MISS");
    assert_eq!(with(&|body| body["tools"] = json!([{"type": "function"}])), "MISS");
    let earlier = |body: &mut Value| {
        let turns = body["messages"].as_array_mut().unwrap();
        turns.insert(1, json!({"role": "user", "content": "I mean in 1790."}));
        turns.insert(2, json!({"role": "assistant", "content": "I see."}));
    };
    assert_eq!(with(&earlier), "MISS");
    // All of it at once is not more than each.
    assert_eq!(front.ask(&[], &chat("m", OTHER)).outcome(), "HIT-SEMANTIC");
}

#[test]
fn a_stream_that_is_cut_short_is_cut_short_for_the_client_and_never_kept() {
    let front = Front::new();
    let mut body = chat("cut", ONE);
    body["stream"] = true.into();
    let text = body.to_string();
    for n in 1..3 {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        let got = raw(front.server.address(), head.as_bytes());
        assert!(got.contains("x-cache: MISS") && got.contains("data: {"), "{got}");
        assert!(!got.contains("[DONE]") && !got.ends_with("0\r\n\r\n"), "{got}");
        assert_eq!(front.fake.n_seen(), n);
    }
}

/// Keys of two tenants and one of none.
fn keys(data: &Path) -> [String; 3] {
    let of = |tenant: Option<&str>, scopes: &[May]| {
        let tenant = tenant.map(str::to_owned);
        format!("Bearer {}", key(data, scopes, |key| key.tenant = tenant))
    };
    let both = [May::Read, May::Write];
    [of(Some("ann"), &both), of(Some("ben"), &both), of(None, &May::ALL)]
}

#[test]
fn tenants_get_nothing_of_each_other_and_are_told_nothing_of_how_near_it_was() {
    let mut held = None;
    let front = Front::with(LOOSE, |_, data| held = Some(keys(data)));
    let [ann, ben, all] = held.unwrap();
    let ask =
        |key: &str, question: &str| front.ask(&[("authorization", key)], &chat("m", question));
    assert_eq!(ask(&ann, ONE).outcome(), "MISS");
    for (key, question) in [(&ben, ONE), (&ben, OTHER), (&all, ONE)] {
        let got = ask(key, question);
        assert!(got.outcome() != "HIT" && !got.said().contains("answer 1 "), "{got:?}");
    }
    let near = ask(&ann, OTHER);
    assert_eq!(near.outcome(), "HIT-SEMANTIC");
    assert_eq!((near.header("x-cache-similarity"), near.header("x-cache-entry")), (None, None));
    assert!(ask(&all, OTHER).header("x-cache-similarity").is_some());
    assert_eq!(front.ask(&[], &chat("m", ONE)).status, 401);
    // Keys of this server stay here.
    assert!(front.fake.seen().iter().all(|seen| seen.header("authorization").is_none()));
    let decisions =
        |key: &str| front.send("GET", "/v1/cache/proxy/decisions", &[("authorization", key)], "");
    assert_eq!(decisions(&ann).status, 403);
    let seen = decisions(&all);
    assert_eq!(seen.body["result"]["decisions"].as_array().unwrap().len(), 6, "{}", seen.text);
}

#[test]
fn a_tenant_tightens_a_threshold_and_does_not_loosen_it() {
    let mut held = None;
    let front = Front::with("[default]\nthreshold = 0.99\nguard = false\n", |_, data| {
        held = Some(keys(data))
    });
    let [ann, _, all] = held.unwrap();
    let ask = |key: &str, question: &str, threshold: &str| {
        let headers = [("authorization", key), ("x-cache-threshold", threshold)];
        front.ask(&headers, &chat("m", question)).outcome().to_owned()
    };
    assert_eq!(ask(&ann, ONE, "0.1"), "MISS");
    assert_eq!(ask(&ann, OTHER, "0.1"), "MISS", "the policy says 0.99");
    assert_eq!(ask(&all, ONE, "0.6"), "MISS");
    assert_eq!(ask(&all, OTHER, "0.6"), "HIT-SEMANTIC");
    assert_eq!(ask(&all, "what is the capital city of the country Spain", "0.999"), "MISS");
}

#[test]
fn answers_for_one_user_are_not_for_another_where_the_policy_says_so() {
    let policy = "[default]\nthreshold = 0.6\nguard = false\n[category.own]\nscope = \"user\"\n";
    let front = Front::with(policy, |_, _| ());
    let ask = |user: Option<&str>| {
        let mut body = chat("m", ONE);
        if let Some(user) = user {
            body["user"] = user.into();
        }
        front.ask(&[("x-cache-category", "own")], &body).outcome().to_owned()
    };
    assert_eq!(ask(Some("u")), "MISS");
    assert_eq!(
        [ask(Some("u")), ask(Some("v")), ask(None), ask(None)],
        ["HIT", "MISS", "MISS", "MISS"]
    );
}

#[test]
fn a_category_that_is_off_remembers_nothing() {
    let front = Front::with("[category.health]\nmode = \"off\"\n", |_, _| ());
    for _ in 0..2 {
        let got = front.ask(&[("x-cache-category", "health")], &chat("m", ONE));
        assert_eq!((got.outcome(), got.reason()), ("BYPASS", "category_off"));
    }
    let seen = front.send("GET", "/v1/cache/proxy/decisions", &[], "");
    assert!(seen.text.contains("category_off") && !seen.text.contains("France"), "{}", seen.text);
}

#[test]
fn load_loosens_a_threshold_no_further_than_the_policy_says() {
    let probe = Front::with(LOOSE, |_, _| ());
    probe.ask(&[], &chat("m", ONE));
    let near = probe.ask(&[], &chat("m", OTHER));
    let cosine: f64 = near.header("x-cache-similarity").unwrap().parse().unwrap();
    let [within, beyond] = [0.02, 0.04].map(|above| cosine + above);
    let policy = format!(
        "[category.within]\nguard = false\nthreshold = {within:.4}\nadapt = {{ delta_max = 0.03 }}\n\
         [category.beyond]\nguard = false\nthreshold = {beyond:.4}\nadapt = {{ delta_max = 0.03 }}\n\
         [category.fixed]\nguard = false\nthreshold = {within:.4}\n"
    );
    let front = Front::with(&policy, |_, _| ());
    let outcomes = |question: &str| {
        ["within", "beyond", "fixed"].map(|category| {
            let headers = [("x-cache-category", category), ("cache-control", "no-store")];
            front.ask(&headers, &chat("m", question)).outcome().to_owned()
        })
    };
    for category in ["within", "beyond", "fixed"] {
        front.ask(&[("x-cache-category", category)], &chat("m", ONE));
    }
    assert_eq!(outcomes(OTHER), ["MISS", "MISS", "MISS"]);
    let load = |load: f64| front.post("/v1/cache/proxy/load", &[], &json!({"load": load})).status;
    assert_eq!([load(1.5), load(-0.1)], [400, 400]);
    (0..64).for_each(|_| assert_eq!(load(1.0), 200));
    assert_eq!(outcomes(OTHER), ["HIT-SEMANTIC", "MISS", "MISS"]);
}

#[test]
fn what_must_not_be_stored_is_not_shown_either() {
    let front = Front::with("[category.health]\nstore = false\n", |_, _| ());
    for _ in 0..2 {
        let got = front.ask(&[("x-cache-category", "health")], &chat("m", "my own illness"));
        assert_eq!(got.outcome(), "MISS");
    }
    let seen = front.send("GET", "/v1/cache/proxy/decisions", &[], "");
    assert!(!seen.text.contains("illness"), "{}", seen.text);
    let latest = &seen.body["result"]["decisions"][0];
    assert_eq!((&latest["stored"], &latest["question"]), (&json!("not_stored"), &json!("")));
}
