//! Connections: who keeps the server waiting is let go, who leaves leaves nothing, and an end is orderly.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nearkin::core::mix;
use nearkin::server::limits::{Deadlines, Limits};
use serde_json::{Value, json};

use super::{raw, server_with, until_closed, with_points};

/// Deadlines that a test can wait for.
fn short() -> Deadlines {
    let [head, body, idle, write] = [300, 600, 400, 500].map(Duration::from_millis);
    Deadlines { head, body, idle, write, ..Deadlines::default() }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

const COUNT: &str = "POST /collections/things/points/count HTTP/1.1\r\nhost: x\r\n";

#[test]
fn clients_that_keep_the_server_waiting_are_let_go() {
    let http = with_points(short());
    let address = http.address();
    assert_eq!(raw(address, b""), "", "a silent one is closed without a word");
    let header = raw(address, b"GET / HTTP/1.1\r\nhost: x\r\nx: ");
    assert!(header.starts_with("HTTP/1.1 408 ") && header.contains("header_timeout"), "{header}");
    let length = header.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
    let body = header.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), body.len());
    serde_json::from_str::<Value>(body).unwrap();
    let body = raw(address, format!("{COUNT}content-length: 50\r\n\r\n{{").as_bytes());
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("body_timeout"), "{body}");
    // After an answer the connection is kept for a while, and closed without a word.
    let idle = raw(address, format!("{COUNT}content-length: 2\r\n\r\n{{}}").as_bytes());
    assert!(idle.starts_with("HTTP/1.1 200 ") && idle.ends_with('}'), "{idle}");
    assert_eq!(http.ok("POST", "/collections/things/points/count", json!({}))["count"], 20);
}

#[test]
fn a_client_that_does_not_read_its_answers_is_let_go() {
    let http = with_points(short());
    let points: Vec<Value> = (0..200)
        .map(|i| json!({"id": i, "vector": [0, 0, 0, 1], "payload": {"t": "x".repeat(10_000)}}))
        .collect();
    http.ok("PUT", "/collections/things/points", json!({"points": points}));
    let mut stream = connect(http.address());
    let body = "{\"limit\":200}";
    let ask = format!(
        "POST /collections/things/points/scroll HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    // Answers to these are far more than sockets hold. Nothing is read, so that only a closed connection ends this.
    loop {
        match stream.write(ask.as_bytes()) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    assert_eq!(http.ok("POST", "/collections/things/points/count", json!({}))["count"], 200);
}

#[test]
fn silent_sockets_leave_room_for_others() {
    let http = with_points(short());
    let silent: Vec<TcpStream> = (0..300).map(|_| connect(http.address())).collect();
    let dribbling: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(http.address());
            stream.write_all(b"GET / HT").unwrap();
            stream
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(http.ok("POST", "/collections/things/points/count", json!({}))["count"], 20);
    }
    let n_left_open = silent.into_iter().chain(dribbling).filter_map(|mut stream| {
        let answer = until_closed(&mut stream);
        (!answer.is_empty() && !answer.starts_with("HTTP/1.1 408 ")).then_some(answer)
    });
    assert_eq!(n_left_open.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn when_all_places_are_taken_whoever_keeps_waiting_makes_room() {
    let hour = Duration::from_secs(3600);
    let deadlines = Deadlines { head: hour, idle: hour, ..Deadlines::default() };
    let limits = Limits { connections: 4, ..Limits::default() };
    let data = tempfile::tempdir().unwrap();
    let server = server_with(data.path(), deadlines, limits);
    let list = b"GET /collections HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut kept = connect(server.address());
    kept.write_all(list).unwrap();
    let mut buffer = [0; 4096];
    assert!(kept.read(&mut buffer).unwrap() > 0);
    let mut silent: Vec<TcpStream> = (0..6).map(|_| connect(server.address())).collect();
    // Without room it would wait for an hour, or for as long as it reads.
    let answer =
        raw(server.address(), &[&list[..list.len() - 2], b"connection: close\r\n\r\n"].concat());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // Who has asked something stays longer than who has not.
    kept.write_all(list).unwrap();
    assert!(kept.read(&mut buffer).unwrap() > 0);
    let closed = silent.iter_mut().map(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        matches!(stream.read(&mut buffer), Ok(0))
    });
    assert!(closed.filter(|is_closed| *is_closed).count() >= 3);
}

/// Ids of the second points of pairs are so much higher.
const TWIN: u64 = 1_000_000_000;

/// So many clients send so many requests each, of which three of ten end at a random byte; answers of the others are theirs. Returns how
/// many were answered.
pub fn storm(address: SocketAddr, (n_clients, n_each): (u64, u64), seed: u64) -> u64 {
    let n_answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for client in 0..n_clients {
            let n_answered = &n_answered;
            scope.spawn(move || {
                for i in 0..n_each {
                    let chance = mix::stream(seed + client, i);
                    let id = 1000 + client * n_each + i;
                    n_answered.fetch_add(u64::from(pair(address, id, chance)), Ordering::Relaxed);
                }
            });
        }
    });
    n_answered.into_inner()
}

/// Stores two points and reads one of them, or ends at a byte; says whether it was answered.
fn pair(address: SocketAddr, id: u64, chance: u64) -> bool {
    let body = json!({"points": [
        {"id": id, "vector": [1, 2, 3, 4], "payload": {"nonce": id, "whole": true}},
        {"id": id + TWIN, "vector": [4, 3, 2, 1], "payload": {"nonce": id}},
    ]})
    .to_string();
    let put = format!(
        "PUT /collections/things/points HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let get = format!(
        "GET /collections/things/points/{id} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    );
    let whole = format!("{put}{get}");
    let mut stream = connect(address);
    if chance % 10 < 3 {
        let cut = (chance >> 8) as usize % whole.len();
        stream.write_all(&whole.as_bytes()[..cut]).unwrap();
        if chance.is_multiple_of(2) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        return false;
    }
    stream.write_all(whole.as_bytes()).unwrap();
    let answer = until_closed(&mut stream);
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    assert!(answer.contains(&format!("\"nonce\":{id},")), "{id}: {answer}");
    true
}

/// How many points of a storm are there: of every request both or none.
pub fn stormed(mut page: impl FnMut(Value) -> Value) -> u64 {
    let (mut ids, mut from) = (BTreeSet::new(), Value::Null);
    loop {
        let filter = json!({"must": [{"key": "nonce", "range": {"gte": 0}}]});
        let given = page(json!({"limit": 10_000, "offset": from, "filter": filter}));
        ids.extend(given["points"].as_array().unwrap().iter().map(|p| p["id"].as_u64().unwrap()));
        from = given["next_page_offset"].clone();
        if from.is_null() {
            break;
        }
    }
    let twin = |id: u64| if id < TWIN { id + TWIN } else { id - TWIN };
    let halves: Vec<u64> = ids.iter().copied().filter(|&id| !ids.contains(&twin(id))).collect();
    assert_eq!(halves, Vec::<u64>::new());
    ids.len() as u64
}

#[test]
fn requests_that_are_dropped_half_way_leave_nothing_and_nobody_reads_anothers_answer() {
    let seed = 11;
    println!("seed {seed}");
    let http = with_points(Deadlines::default());
    let n_answered = storm(http.address(), (8, 100), seed);
    assert!(n_answered > 400);
    let n_points = stormed(|ask| http.ok("POST", "/collections/things/points/scroll", ask));
    assert!(n_points >= 2 * n_answered);
    assert_eq!(http.n_incidents(), 0);
}

#[test]
fn a_server_that_stops_answers_what_it_began_and_keeps_what_it_acknowledged() {
    let http = with_points(Deadlines::default());
    let address = http.address();
    let mut idle = connect(address);
    let acknowledged = AtomicU64::new(0);
    let (is_clean, data) = std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                for i in 0.. {
                    let id = 1000 + thread * 100_000 + i;
                    let body = format!("{{\"points\":[{{\"id\":{id},\"vector\":[1,1,1,1]}}]}}");
                    let put = format!(
                        "PUT /collections/things/points HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                         content-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    let Ok(mut stream) = TcpStream::connect(address) else { return };
                    if stream.write_all(put.as_bytes()).is_err() {
                        return;
                    }
                    let mut answer = String::new();
                    let read = stream.read_to_string(&mut answer);
                    if read.is_err() || answer.is_empty() {
                        return;
                    }
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while acknowledged.load(Ordering::Relaxed) < 40 {
            std::thread::yield_now();
        }
        http.stopped()
    });
    assert!(is_clean);
    assert_eq!(until_closed(&mut idle), "");
    assert!(TcpStream::connect(address).is_err());
    let again = super::server(data.path(), Deadlines::default());
    let count = raw(
        again.address(),
        format!("{COUNT}connection: close\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes(),
    );
    let n: u64 =
        count.split("\"count\":").nth(1).unwrap().split('}').next().unwrap().parse().unwrap();
    assert!(n >= 20 + acknowledged.load(Ordering::Relaxed), "{n}");
}

#[test]
fn after_a_refusal_the_connection_is_kept_or_its_end_is_announced() {
    let http = with_points(Deadlines::default());
    for path in ["/nothing", "/collections/things", "/collections/absent/points/count"] {
        let mut stream = connect(http.address());
        let post = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n");
        stream.write_all(post.as_bytes()).unwrap();
        // The body comes in a packet of its own, and the next request in another.
        stream.write_all(b"{}").unwrap();
        let last = format!("{COUNT}connection: close\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(last.as_bytes()).unwrap();
        let answers = until_closed(&mut stream);
        assert_eq!(answers.matches("HTTP/1.1 40").count(), 1, "{path}: {answers}");
        assert!(answers.ends_with('}') && answers.contains("{\"count\":20}"), "{path}: {answers}");
    }
    let large = raw(
        http.address(),
        "POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n{"
            .to_owned()
            .as_bytes(),
    );
    assert!(large.starts_with("HTTP/1.1 404 ") && large.contains("connection: close"), "{large}");
}
