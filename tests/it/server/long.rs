//! The same promises over minutes, to the program as it is installed. `docs/server.md` says how these are run and what came of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::connections::{connect, storm, stormed};
use super::until_closed;
use crate::support::signal;

/// `nearkin serve` as a process.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(data: &Path, config: &str) -> Self {
        let file = data.join("nearkin.toml");
        // What raw requests name.
        std::fs::write(&file, format!("allowed_hosts = [\"x\"]\n{config}")).unwrap();
        // A debug build takes minutes to build an index while writes wait: another program can be named.
        let program = std::env::var_os("NEARKIN");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_nearkin").into());
        let mut child = Command::new(program)
            .args(["serve", "--bind", "127.0.0.1:0", "--data"])
            .arg(data.join("collections"))
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().unwrap().parse().unwrap();
        Self { child, address }
    }

    fn ask(&self, (method, path): (&str, &str), body: &Value) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", "application/json")
            .body(body.to_string())
            .unwrap();
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent =
            config.timeout_global(Some(Duration::from_secs(60))).build().into();
        let mut response = agent.run(request).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (response.status().as_u16(), body)
    }

    fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask((method, path), &body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["result"].clone()
    }

    fn with_things(data: &Path, config: &str) -> Self {
        let process = Self::start(data, config);
        let vectors = json!({"vectors": {"size": 4, "distance": "Dot"}});
        process.ok("PUT", "/collections/things", vectors);
        process
    }

    fn count(&self) -> u64 {
        let count = self.ok("POST", "/collections/things/points/count", json!({}));
        count["count"].as_u64().unwrap()
    }

    /// A value of `/metrics`.
    fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.ask(("GET", "/metrics"), &json!({}));
        let text = text.as_str().unwrap().to_owned();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn n_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Bytes of memory that it holds.
    fn held_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// Waits until it serves nobody but whoever asks, and has as many descriptors as before.
    fn settle(&self, n_descriptors: usize) {
        while self.n_descriptors() > n_descriptors
            || self.metric("nearkin_workers_busy") > 1.0
            || self.metric("nearkin_queue_depth") > 0.0
        {
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn terminated(mut self) -> ExitStatus {
        signal(&self.child, "TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What slow clients send at first, and then byte by byte.
const SLOW: [&[u8]; 3] = [
    b"",
    b"GET / HTTP/1.1\r\nx: ",
    b"POST /collections/things/points/count HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{",
];

#[test]
#[ignore = "some minutes, 2,000 sockets: docs/server.md, longer runs"]
fn two_thousand_silent_and_slow_sockets_are_let_go_while_others_are_answered() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::with_things(data.path(), "limits.connections = 4096\n");
    // The connections that made the things are let go a little later.
    std::thread::sleep(Duration::from_millis(500));
    let before = process.n_descriptors();
    let sockets: Vec<Mutex<Option<TcpStream>>> = (0..2000)
        .map(|i| {
            let mut stream = connect(process.address);
            stream.write_all(SLOW[if i < 1000 { 0 } else { 1 + i % 2 }]).unwrap();
            Mutex::new(Some(stream))
        })
        .collect();
    // Connecting ends before the server has taken a connection in.
    let are_open = || process.n_descriptors() >= before + 2000;
    (0..200).find(|_| {
        are_open() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }
    });
    assert!(are_open(), "{} of 2,000 are open", process.n_descriptors() - before);
    let (n_open, n_honest) = (AtomicU64::new(2000), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while n_open.load(Ordering::Relaxed) > 0 {
                    assert_eq!(process.count(), 0);
                    n_honest.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while n_open.load(Ordering::Relaxed) > 0 {
            for socket in sockets.iter().skip(1000) {
                if let Some(stream) = &mut *socket.lock().unwrap() {
                    // What was closed takes nothing any more.
                    let _ = stream.write_all(b" ");
                }
            }
            for socket in &sockets {
                let mut held = socket.lock().unwrap();
                if held.as_mut().is_some_and(is_closed) {
                    *held = None;
                    n_open.fetch_sub(1, Ordering::Relaxed);
                }
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    process.settle(before);
    println!("{} answers to others while 2,000 were let go", n_honest.load(Ordering::Relaxed));
    assert!(n_honest.into_inner() > 100);
    assert!(process.terminated().success());
}

/// Whether the server has closed a connection, whatever it said before.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
#[ignore = "some minutes: docs/server.md, longer runs"]
fn fifty_thousand_requests_of_which_three_of_ten_are_dropped_leave_nothing() {
    let seed = 23;
    println!("seed {seed}");
    let data = tempfile::tempdir().unwrap();
    let process = Process::with_things(data.path(), "");
    let n_first = storm(process.address, (64, 100), seed);
    let before = process.n_descriptors();
    process.settle(before);
    let held = process.held_bytes();
    let n_second = storm(process.address, (64, 782), seed + 1000);
    // Connections of requests that were cut and never closed end with their deadlines.
    process.settle(before);
    let grown = process.held_bytes().saturating_sub(held) >> 20;
    println!("{n_first} and {n_second} answered of 6,400 and 50,048; memory grew by {grown} MiB");
    let scroll = |ask| process.ok("POST", "/collections/things/points/scroll", ask);
    let n_points = stormed(scroll);
    assert!(n_second > 34_000 && n_points >= 2 * n_second, "{n_points}");
    assert_eq!(process.metric("nearkin_panics_total"), 0.0);
    // A hundred thousand points of some hundred bytes are there, in memory as well.
    assert!(grown < 200, "{grown} MiB");
    assert!(process.terminated().success());
}

#[test]
#[ignore = "some minutes: docs/server.md, longer runs"]
fn two_hundred_ends_under_load_lose_nothing_that_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    drop(Process::with_things(data.path(), ""));
    let acknowledged = AtomicU64::new(0);
    for round in 0..200_u64 {
        let process = Process::start(data.path(), "");
        assert!(process.count() >= acknowledged.load(Ordering::Relaxed), "round {round}");
        let (is_over, n_before) = (AtomicBool::new(false), acknowledged.load(Ordering::Relaxed));
        let address = process.address;
        let status = std::thread::scope(|scope| {
            for client in 0..4_u64 {
                let (acknowledged, is_over) = (&acknowledged, &is_over);
                scope.spawn(move || {
                    for i in 0.. {
                        let id = round * 1_000_000 + client * 100_000 + i;
                        match put(address, id) {
                            true => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                            false if is_over.load(Ordering::Relaxed) => return,
                            false => {}
                        }
                    }
                });
            }
            while acknowledged.load(Ordering::Relaxed) < n_before + 8 + round % 13 {
                std::thread::yield_now();
            }
            is_over.store(true, Ordering::Relaxed);
            process.terminated()
        });
        assert!(status.success(), "round {round}: {status}");
    }
    let process = Process::start(data.path(), "");
    let (n_there, n_acknowledged) = (process.count(), acknowledged.into_inner());
    println!("{n_acknowledged} points acknowledged in 200 rounds, {n_there} are there");
    assert!(n_there >= n_acknowledged);
}

/// Stores a point; says whether that was acknowledged.
fn put(address: SocketAddr, id: u64) -> bool {
    let body = format!("{{\"points\":[{{\"id\":{id},\"vector\":[1,1,1,1]}}]}}");
    let request = format!(
        "PUT /collections/things/points HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    if stream.write_all(request.as_bytes()).is_err() {
        return false;
    }
    let answer = until_closed(&mut stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200 "), "{answer}");
    !answer.is_empty()
}
