//! The proxy: what is answered from memory, what is not, and that clients see no difference but in headers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use nearkin::embed::Choice;
use serde_json::{Value, json};

use super::{Front, Got, chat};

/// Questions that mean the same; the hashed words of the tests see no more than that most are equal.
const LOOSE: &str = "[default]\nthreshold = 0.6\nguard = false\n";
const ONE: &str = "what is the capital city of the country France";
const OTHER: &str = "what is the capital city of the country France please";

fn line(got: &Got) -> (u16, &str, &str) {
    (got.status, got.outcome(), got.reason())
}

#[test]
fn a_question_is_asked_once_however_it_is_worded() {
    let front = Front::with(LOOSE, |_, _| ());
    let first = front.ask(&[], &chat("m", ONE));
    assert_eq!(line(&first), (200, "MISS", "empty_partition"), "{first:?}");
    assert_eq!(first.body["id"], "chatcmpl-up1");
    assert_eq!(first.header("x-own"), Some("1"), "headers of the model server are passed on");
    let again = front.ask(&[], &chat("m", ONE));
    assert_eq!(line(&again), (200, "HIT", "exact"));
    assert_eq!((again.said(), &again.body["usage"]), (first.said(), &first.body["usage"]));
    assert_ne!(again.body["id"], first.body["id"]);
    assert_eq!(
        (again.body["object"].as_str(), again.body["model"].as_str()),
        (Some("chat.completion"), Some("m"))
    );
    assert_eq!((again.header("age"), again.header("x-cache-tokens-saved")), (Some("0"), Some("7")));
    let other = front.ask(&[], &chat("m", OTHER));
    assert_eq!(line(&other), (200, "HIT-SEMANTIC", "semantic"), "{other:?}");
    assert_eq!(other.said(), first.said());
    let similarity: f64 = other.header("x-cache-similarity").unwrap().parse().unwrap();
    assert!((0.6..1.0).contains(&similarity));
    assert!(other.header("x-cache-entry").is_some());
    assert_eq!(front.fake.n_seen(), 1);
    let different = front.ask(&[], &chat("m", "who wrote the play Faust"));
    assert_eq!(line(&different), (200, "MISS", "below_threshold"));
    let outcome =
        |word: &str| front.metric(&format!("nearkin_cache_requests_total{{outcome=\"{word}\"}}"));
    assert_eq!(["HIT", "HIT-SEMANTIC", "MISS", "BYPASS"].map(outcome), [1.0, 1.0, 2.0, 0.0]);
}

#[test]
fn answers_outlive_the_server() {
    let front = Front::new();
    let first = front.ask(&[], &chat("m", ONE)).said();
    let Front { server, fake, data, .. } = front;
    server.stopper()();
    assert!(server.wait());
    let server = super::server(data.path(), super::settings(&fake)).unwrap();
    let front = Front { server, fake, data, ..Front::new() };
    let again = front.ask(&[], &chat("m", ONE));
    assert_eq!((again.outcome(), again.said()), ("HIT", first));
}

#[test]
fn a_stream_is_remembered_and_streamed_again_as_one() {
    let front = Front::new();
    let streamed = |more: Value| {
        let mut body = chat("m", ONE);
        body["stream"] = true.into();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        front.ask(&[], &body)
    };
    let first = streamed(json!({}));
    assert_eq!(line(&first), (200, "MISS", "empty_partition"), "{first:?}");
    assert!(first.text.ends_with("data: [DONE]\n\n"));
    let again = streamed(json!({}));
    assert_eq!(line(&again), (200, "HIT", "exact"), "{again:?}");
    assert_eq!(again.said(), first.said());
    assert!(again.header("content-type").unwrap().starts_with("text/event-stream"));
    assert!(again.text.ends_with("data: [DONE]\n\n"));
    let events = again.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk" && event["model"] == "m")
    );
    // What is not streamed, and what is to say what it used, are other requests.
    assert_eq!(front.ask(&[], &chat("m", ONE)).outcome(), "MISS");
    let counted = json!({"stream_options": {"include_usage": true}});
    assert_eq!(streamed(counted.clone()).outcome(), "MISS");
    let counted = streamed(counted);
    assert_eq!(counted.outcome(), "HIT");
    assert_eq!(counted.events().last().unwrap()["usage"], json!({"total_tokens": 7}));
}

#[test]
fn all_four_routes_are_remembered() {
    let front = Front::new();
    for (path, body) in [
        ("/v1/completions", json!({"model": "m", "prompt": ONE})),
        ("/v1/completions", json!({"model": "m", "prompt": ONE, "stream": true})),
        ("/v1/responses", json!({"model": "m", "input": ONE})),
        ("/v1/responses", json!({"model": "m", "input": ONE, "stream": true})),
    ] {
        let first = front.post(path, &[], &body);
        assert_eq!((first.status, first.outcome()), (200, "MISS"), "{path} {body}");
        let again = front.post(path, &[], &body);
        assert_eq!(line(&again), (200, "HIT", "exact"), "{path} {body}: {}", first.text);
        assert_eq!(again.said(), first.said(), "{path} {body}");
    }
    let responses = front.post("/v1/responses", &[], &json!({"model": "m", "input": ONE}));
    assert_eq!(responses.body["id"], "resp_3", "a next turn is asked by it");
    let embeddings = json!({"model": "m", "input": ["a", "b"]});
    let first = front.post("/v1/embeddings", &[], &embeddings);
    let again = front.post("/v1/embeddings", &[], &embeddings);
    assert_eq!((again.outcome(), &again.body), ("HIT", &first.body));
    let near = front.post("/v1/embeddings", &[], &json!({"model": "m", "input": ["a", "b", "c"]}));
    assert_eq!(near.outcome(), "MISS");
}

#[test]
fn headers_of_a_request_are_obeyed() {
    let front = Front::new();
    let ask = |control: &str| front.ask(&[("cache-control", control)], &chat("m", ONE));
    let unknown = ask("only-if-cached");
    assert_eq!((unknown.status, unknown.outcome()), (504, "MISS"));
    assert_eq!(unknown.body["error"]["code"], "not_cached", "{}", unknown.text);
    assert_eq!(ask("no-store").outcome(), "MISS");
    assert_eq!(ask("no-store").outcome(), "MISS", "nothing was stored");
    let first = ask("max-age=60").said();
    assert_eq!((ask("no-store").outcome(), ask("only-if-cached").said()), ("HIT", first.clone()));
    let renewed = ask("no-cache");
    assert_eq!(line(&renewed), (200, "REFRESH", "no_cache"));
    assert_ne!(renewed.said(), first);
    assert_eq!(ask("max-age=60").said(), renewed.said(), "the new one is given from now on");
    assert_eq!(ask("max-age=soon").status, 400);
    let named = front.ask(&[("x-cache-namespace", "docs")], &chat("m", ONE));
    assert_eq!(named.outcome(), "MISS");
    let long = front.ask(&[("x-cache-ttl", "99999999")], &chat("m", "who wrote Faust"));
    assert_eq!(long.outcome(), "MISS");
    assert_eq!(
        front.ask(&[], &chat("m", "who wrote Faust")).outcome(),
        "MISS",
        "longer than the policy allows"
    );
}

#[test]
fn what_is_not_for_memory_passes_and_says_why() {
    let front = Front::new();
    let with = |changes: Value| {
        let mut body = chat("m", ONE);
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        front.ask(&[], &body)
    };
    for (changes, why) in [
        (json!({"n": 2}), "several_answers"),
        (json!({"temperature": 0.9}), "temperature"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"tool_choice": "required", "tools": [{}]}), "forced_tool"),
    ] {
        for _ in 0..2 {
            let got = with(changes.clone());
            assert_eq!(line(&got), (200, "BYPASS", why), "{changes}");
        }
    }
    let twice =
        front.send("POST", "/v1/chat/completions", &[], "{\"model\":\"a\",\"model\":\"b\"}");
    assert_eq!(line(&twice), (200, "BYPASS", "unreadable"));
    let models = front.send("GET", "/v1/models?limit=2", &[], "");
    assert_eq!((models.status, &models.body["path"]), (200, &json!("/v1/models?limit=2")));
    let other = front.send("POST", "/v1/audio/speech", &[("content-type", "text/plain")], "hi");
    assert_eq!((other.status, other.outcome()), (200, ""));
    assert_eq!(front.send("DELETE", "/v1/models/own", &[], "").status, 200);
    assert_eq!(front.send("GET", "/v1/cache/nothing", &[], "").status, 404, "ours, not theirs");
    let lines: Vec<String> = front.fake.seen().iter().map(|seen| seen.line.clone()).collect();
    assert_eq!(lines.last().unwrap(), "DELETE /v1/models/own HTTP/1.1");
    assert_eq!(lines.len(), 12);
}

#[test]
fn equal_questions_on_their_way_are_asked_once() {
    let front = Front::new();
    for is_stream in [false, true] {
        let mut body = chat("gate", if is_stream { OTHER } else { ONE });
        body["stream"] = is_stream.into();
        let before = front.fake.n_seen();
        let all: Vec<Got> = thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| front.ask(&[], &body))).collect();
            front.fake.wait_for(before + 1);
            // The others are on their way as soon as they wait for the first.
            front.fake.open();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(front.fake.n_seen(), before + 1);
        assert!(all.iter().all(|got| got.said() == all[0].said()), "{all:?}");
        let n = |word: &str| all.iter().filter(|got| got.outcome() == word).count();
        assert_eq!((n("MISS"), n("HIT-COALESCED") + n("HIT")), (1, 7));
    }
    assert_eq!(front.metric("nearkin_cache_flights"), 0.0);
}

#[test]
fn whoever_leaves_in_the_middle_ends_it_there_and_nothing_is_stored() {
    let front = Front::new();
    let mut body = chat("endless", ONE);
    body["stream"] = true.into();
    let text = body.to_string();
    let mut stream = TcpStream::connect(front.server.address()).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut buffer = [0; 512];
    assert!(stream.read(&mut buffer).unwrap() > 0, "it comes as it is said");
    drop(stream);
    front.fake.wait_left(1);
    let latest =
        &front.send("GET", "/v1/cache/proxy/decisions", &[], "").body["result"]["decisions"];
    assert_eq!(latest, &json!([]), "nothing was decided of it");
    assert_eq!(front.metric("nearkin_cache_flights"), 0.0);
}

#[test]
fn an_embedder_that_is_down_holds_nobody_up() {
    // It answers once, to say how long its vectors are, and never again.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/embeddings#m", listener.local_addr().unwrap());
    let once = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).unwrap();
        let body = json!({"data": [{"index": 0, "embedding": [1.0, 0.0]}]}).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    });
    let front = Front::with("", |settings, _| {
        settings.embed = Choice::Http(url);
        settings.waits.embed = Duration::from_millis(50);
    });
    once.join().unwrap();
    let first = front.ask(&[], &chat("m", ONE));
    assert_eq!((first.status, first.outcome()), (200, "MISS"));
    assert!(first.reason().starts_with("embedder_"), "{first:?}");
    assert_eq!(front.ask(&[], &chat("m", ONE)).outcome(), "HIT", "equal questions need no vector");
    let reason = first.reason();
    assert!(front.metric(&format!("nearkin_cache_fail_open_total{{reason=\"{reason}\"}}")) >= 1.0);
}

#[test]
fn without_a_model_server_its_routes_say_so() {
    let front = Front::with("", |settings, _| settings.upstream = None);
    let got = front.ask(&[], &chat("m", ONE));
    assert_eq!((got.status, &got.body["error"]["code"]), (404, &json!("no_upstream")));
    let gone = Front::with("", |settings, _| settings.upstream = Some("http://127.0.0.1:1".into()));
    let got = gone.ask(&[], &chat("m", ONE));
    assert_eq!((got.status, &got.body["error"]["code"]), (502, &json!("upstream_unreachable")));
}
