//! The two other doors: LangCache's API, and our own.

use std::path::Path;

use nearkin::server::keys::rule::Scope as May;
use serde_json::{Value, json};

use super::super::access::key;
use super::{Front, Got};

const ONE: &str = "what is the capital city of the country France";
const OTHER: &str = "what is the capital city of the country France please";
const LOOSE: &str = "[default]\nthreshold = 0.6\nguard = false\n";

fn plain(policy: &str) -> Front {
    Front::with(policy, |settings, _| settings.upstream = None)
}

fn dump(question: &str) -> String {
    json!([{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"],
        "kwargs": {"content": question, "type": "human"}}])
    .to_string()
}

#[test]
fn langcache_clients_store_find_and_remove() {
    let front = plain(LOOSE);
    let search = |body: Value| front.post("/v1/caches/c1/entries/search", &[], &body);
    let attributes = json!({"llm_string": "model a"});
    let asked = |question: &str| json!({"prompt": question, "attributes": attributes});
    assert_eq!(search(asked(ONE)).body, json!({"data": []}));
    let stored =
        json!({"prompt": ONE, "response": "Paris", "attributes": attributes, "ttlMillis": 60000});
    let stored = front.post("/v1/caches/c1/entries", &[], &stored);
    assert_eq!(stored.status, 201, "{}", stored.text);
    let id = stored.body["entryId"].as_str().unwrap().to_owned();
    let mut equal = asked(ONE);
    equal["searchStrategies"] = json!(["exact", "semantic"]);
    let entry = json!({"id": id, "prompt": ONE, "response": "Paris", "attributes": attributes,
        "similarity": 1.0, "searchStrategy": "exact"});
    assert_eq!(search(equal.clone()).body, json!({"data": [entry]}));
    let near = search(asked(OTHER)).body["data"][0].clone();
    assert_eq!((&near["prompt"], &near["searchStrategy"]), (&json!(ONE), &json!("semantic")));
    let similarity = near["similarity"].as_f64().unwrap();
    assert!((0.8..1.0).contains(&similarity), "half of one more than the cosine: {similarity}");
    let mut strict = asked(OTHER);
    strict["similarityThreshold"] = json!(similarity + 0.01);
    assert_eq!(search(strict).body["data"], json!([]));
    equal["prompt"] = OTHER.into();
    equal["searchStrategies"] = json!(["exact"]);
    assert_eq!(search(equal).body["data"], json!([]));
    let mut foreign = asked(ONE);
    foreign["attributes"] = json!({"llm_string": "model b"});
    assert_eq!(search(foreign).body["data"], json!([]));
    let path = format!("/v1/caches/c1/entries/{id}");
    assert_eq!(front.send("DELETE", &path, &[], "").status, 204);
    assert_eq!(front.send("DELETE", &path, &[], "").status, 404);
    assert_eq!(search(asked(ONE)).body["data"], json!([]));
}

#[test]
fn langcache_entries_go_by_attributes_and_all_at_once() {
    let front = plain("");
    let store = |question: &str, user: &str| {
        let body = json!({"prompt": question, "response": question, "attributes": {"user": user, "app": "a"}});
        assert_eq!(front.post("/v1/caches/c/entries", &[], &body).status, 201);
    };
    store("what is the first question", "ann");
    store("and this is another one", "ann");
    store("what is the first question", "ben");
    let body = json!({"attributes": {"user": "ann"}}).to_string();
    let removed = front.send("DELETE", "/v1/caches/c/entries", &[], &body);
    assert_eq!((removed.status, removed.body), (200, json!({"deletedEntriesCount": 2})));
    let n = |name: &str| {
        let stats = front.send("GET", &format!("/v1/cache/{name}/stats"), &[], "");
        stats.body["result"]["entries"].clone()
    };
    assert_eq!(n("c"), 1);
    assert_eq!(front.send("POST", "/v1/caches/c/flush", &[], "").status, 204);
    assert_eq!(n("c"), 0);
}

#[test]
fn a_dump_of_messages_is_compared_by_its_question() {
    let front = plain("");
    let stored = json!({"prompt": dump("capital of France"), "response": "Paris"});
    assert_eq!(front.post("/v1/caches/c/entries", &[], &stored).status, 201);
    let search = |question: &str| {
        let body = json!({"prompt": dump(question), "searchStrategies": ["exact", "semantic"]});
        front.post("/v1/caches/c/entries/search", &[], &body).body["data"].clone()
    };
    assert_eq!(search("capital of France")[0]["response"], "Paris");
    assert_eq!(search("write a poem about rain"), json!([]), "most of a dump is like any other");
}

#[test]
fn a_conversation_is_its_last_question_after_the_others() {
    let front = plain("");
    let search = |context: Value| {
        let body = json!({"prompt": "when was he born", "context": context});
        front.post("/v1/caches/c/conversations/search", &[], &body).body
    };
    let first = search(json!(["who wrote Faust"]));
    assert_eq!(first["data"], json!([]));
    let stored = json!({"prompt": first["actualPrompt"], "response": "1749"});
    assert_eq!(front.post("/v1/caches/c/entries", &[], &stored).status, 201);
    assert_eq!(search(json!(["who wrote Faust"]))["data"][0]["response"], "1749");
    assert_eq!(search(json!(["who wrote Emma"]))["data"], json!([]));
    assert_eq!(search(json!([]))["data"], json!([]));
}

#[test]
fn langcache_clients_get_as_many_results_as_they_ask_for_and_would_do() {
    let front = plain("[default]\nthreshold = 0.6\n");
    let search = |more: Value| {
        let mut body = json!({"prompt": ONE, "attributes": {"app": "a"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = front.post("/v1/caches/c/entries/search", &[], &body).body;
        let responses = found["data"].as_array().unwrap().iter();
        responses.map(|own| own["response"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let stored = [
        (ONE, "a", "itself"),
        (OTHER, "a", "polite"),
        ("tell me what is the capital city of the country France please", "a", "politest"),
        ("what is the capital city of the country Spain", "a", "another country"),
        ("how is bread baked", "a", "far"),
        (OTHER, "b", "another app"),
    ];
    for (prompt, app, response) in stored {
        let body = json!({"prompt": prompt, "response": response, "attributes": {"app": app}});
        assert_eq!(front.post("/v1/caches/c/entries", &[], &body).status, 201);
    }
    assert_eq!(search(json!({})), ["itself"]);
    assert_eq!(search(json!({"maxResults": 2})), ["itself", "polite"]);
    assert_eq!(search(json!({"maxResults": 9})), ["itself", "polite", "politest"]);
    assert_eq!(search(json!({"maxResults": 9, "searchStrategies": ["exact"]})), ["itself"]);
    assert_eq!(search(json!({"maxResults": 9, "similarityThreshold": 0.999})), ["itself"]);
    assert_eq!(search(json!({"maxResults": 9, "prompt": "how do I fry an egg"})).len(), 0);
}

fn result(got: Got) -> Value {
    assert_eq!(got.status, 200, "{}", got.text);
    got.body["result"].clone()
}

#[test]
fn our_own_door_takes_texts_and_says_what_it_did() {
    let front = plain(LOOSE);
    let post = |route: &str, body: Value| front.post(&format!("/v1/cache/c/{route}"), &[], &body);
    let question = json!({"text": ONE, "model": "m", "partition": "p"});
    let missed = result(post("lookup", question.clone()));
    assert_eq!((&missed["hit"], &missed["reason"]), (&json!(false), &json!("empty_partition")));
    let mut entry = question.clone();
    entry["answer"] = json!({"text": "Paris", "n": 1});
    entry["tags"] = json!(["geo"]);
    let stored = result(post("insert", entry));
    assert_eq!(stored["stored"], "new");
    let hit = result(post("lookup", question.clone()));
    assert_eq!(
        (&hit["tier"], &hit["answer"]),
        (&json!("exact"), &json!({"text": "Paris", "n": 1}))
    );
    assert_eq!((&hit["entry"], &hit["similarity"]), (&stored["entry"], &json!(1.0)));
    let batch = json!({"model": "m", "partition": "p", "lookups": [{"text": OTHER}, {"text": "who wrote Faust"}]});
    let verdicts = result(post("lookup", batch));
    assert_eq!(verdicts["verdicts"][0]["tier"], "semantic", "{verdicts}");
    assert_eq!(verdicts["verdicts"][1]["reason"], "below_threshold");
    let explained = result(post("explain", json!({"text": OTHER, "model": "m", "partition": "p"})));
    assert_eq!(explained["reason"], "semantic", "{explained}");
    assert_eq!(result(front.send("GET", "/v1/cache", &[], "")), json!({"caches": ["c"]}));
    assert_eq!(result(post("invalidate", json!({"tag": "geo"}))), json!({"removed": 1}));
    assert_eq!(result(post("lookup", question))["hit"], false);
    for (body, why) in [
        (json!({}), "invalidate"),
        (json!({"tag": "a", "all": true}), "invalidate"),
        (json!({"all": true, "what": 1}), "field_unknown"),
    ] {
        let refused = post("invalidate", body);
        assert_eq!(refused.status, 400);
        assert!(refused.text.contains(why), "{}", refused.text);
    }
}

#[test]
fn our_own_door_takes_vectors_as_json_and_as_bytes() {
    let front = plain("");
    let bytes = |route: &str, head: Value, rows: &[f32]| {
        let head = head.to_string();
        let mut body = (head.len() as u32).to_le_bytes().to_vec();
        body.extend_from_slice(head.as_bytes());
        rows.iter().for_each(|x| body.extend(x.to_le_bytes()));
        let request = ureq::http::Request::builder()
            .method("POST")
            .uri(format!("http://{}/v1/cache/v/{route}", front.server.address()))
            .header("content-type", "application/x-nearkin-f32");
        let mut response = front.agent.run(request.body(body).unwrap()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let entries = json!({"entries": [
        {"answer": "x", "vector": "f32:0:3"}, {"answer": "y", "vector": "f32:3:3"},
    ]});
    let stored = bytes("insert", entries, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert_eq!(stored["result"]["entries"][1]["stored"], "new", "{stored}");
    let lookups = json!({"lookups": [
        {"vector": "f32:0:3"}, {"vector": "f32:3:3"}, {"vector": "f32:6:3"},
    ]});
    let rows = [0.0, 1.0, 0.0, 1.0, 0.01, 0.0, 0.0, 0.0, 1.0];
    let verdicts = bytes("lookup", lookups.clone(), &rows)["result"]["verdicts"].clone();
    assert_eq!((&verdicts[0]["answer"], &verdicts[1]["answer"]), (&json!("y"), &json!("x")));
    assert_eq!(verdicts[2]["hit"], false);
    let one = front.post("/v1/cache/v/lookup", &[], &json!({"vector": [1, 0, 0]}));
    assert_eq!(result(one)["answer"], "x", "the same vector as bytes and as JSON");
    let cut = bytes("lookup", lookups, &rows[..8])["status"]["error"].as_str().unwrap().to_owned();
    assert!(cut.starts_with("numbers_reference: "), "{cut}");
    let short = front.post("/v1/cache/v/lookup", &[], &json!({"vector": [1, 0]}));
    assert_eq!(short.status, 400, "{}", short.text);
    let text = front.post("/v1/cache/v/lookup", &[], &json!({"vector": "one"}));
    assert!(text.text.contains("json_type"), "{}", text.text);
}

#[test]
fn keys_decide_which_caches_there_are_and_whose_entries() {
    let mut held = Vec::new();
    let front = Front::with("", |settings, data: &Path| {
        settings.upstream = None;
        let of = |tenant: Option<&str>, scopes: &[May], caches: Option<Vec<String>>| {
            let tenant = tenant.map(str::to_owned);
            let key = key(data, scopes, |key| {
                key.tenant = tenant;
                key.collections = caches;
            });
            format!("Bearer {key}")
        };
        let both = [May::Read, May::Write];
        held = vec![
            of(None, &May::ALL, None),
            of(Some("ann"), &both, None),
            of(Some("ben"), &both, None),
            of(Some("cy"), &both, Some(vec!["other".into()])),
        ];
    });
    let as_key = |i: usize, method: &str, path: &str, body: Value| {
        front.send(method, path, &[("authorization", &held[i])], &body.to_string())
    };
    let question = json!({"text": ONE});
    let absent = as_key(1, "POST", "/v1/cache/c/lookup", question.clone());
    assert_eq!(absent.status, 404, "{}", absent.text);
    assert_eq!(as_key(0, "PUT", "/v1/cache/c", json!({})).status, 200);
    assert_eq!(as_key(0, "PUT", "/v1/cache/c", json!({})).status, 409);
    let foreign = as_key(3, "POST", "/v1/cache/c/lookup", question.clone());
    assert_eq!((foreign.status, &foreign.body["status"]), (404, &absent.body["status"]));
    let entry = json!({"text": ONE, "answer": "ann's", "tags": ["t"]});
    assert_eq!(as_key(1, "POST", "/v1/cache/c/insert", entry).status, 200);
    let hit = result(as_key(1, "POST", "/v1/cache/c/lookup", question.clone()));
    assert_eq!(hit["answer"], "ann's");
    assert!(hit.get("similarity").is_none() && hit.get("entry").is_none(), "{hit}");
    assert_eq!(result(as_key(2, "POST", "/v1/cache/c/lookup", question.clone()))["hit"], false);
    let by_ben = result(as_key(2, "POST", "/v1/cache/c/invalidate", json!({"tag": "t"})));
    assert_eq!(by_ben, json!({"removed": 0}));
    let of_all =
        as_key(2, "POST", "/v1/cache/c/invalidate", json!({"all": true, "all_tenants": true}));
    assert_eq!(of_all.status, 403);
    assert_eq!(as_key(1, "GET", "/v1/cache/c/stats", json!({})).status, 403);
    let all =
        as_key(0, "POST", "/v1/cache/c/invalidate", json!({"all": true, "all_tenants": true}));
    assert_eq!(result(all), json!({"removed": 1}));
}
