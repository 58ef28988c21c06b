//! The server over HTTP: what clients of Qdrant's REST send, and what nobody should.

mod access;
mod bad_input;
mod cache;
mod collections;
mod connections;
mod explain;
mod long;
mod numbers;
mod openapi;
mod points;
mod queries;
mod shapes;
mod tenants;
mod ui;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nearkin::server::limits::{Deadlines, Limits};
use nearkin::server::log::Log;
use nearkin::server::moment::SystemClock;
use nearkin::server::{FrontSettings, ServeSettings, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server over a folder of its own, and a client.
pub struct Http {
    server: Server,
    agent: ureq::Agent,
    data: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub struct Answered {
    status: u16,
    headers: Vec<(String, String)>,
    body: Value,
}

pub fn server(data: &std::path::Path, deadlines: Deadlines) -> Server {
    server_with(data, deadlines, Limits::default())
}

pub fn server_with(data: &std::path::Path, deadlines: Deadlines, limits: Limits) -> Server {
    Server::start(settings(data, deadlines, limits)).unwrap()
}

pub fn settings(data: &std::path::Path, deadlines: Deadlines, limits: Limits) -> ServeSettings {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    ServeSettings {
        data: data.to_owned(),
        bind: "127.0.0.1:0".parse().unwrap(),
        pool: Arc::new(pool),
        budget_bytes: 1 << 30,
        check_recall: 0.0,
        deadlines,
        limits,
        // What raw requests name.
        hosts: vec!["x".to_owned()],
        log: Log::new(Box::new(std::io::sink())),
        clock: Arc::new(SystemClock::default()),
        front: FrontSettings::default(),
    }
}

impl Http {
    pub fn new() -> Self {
        Self::with(Deadlines::default())
    }

    pub fn with(deadlines: Deadlines) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let config = config.timeout_global(Some(Duration::from_secs(60))).build();
        let server = server(data.path(), deadlines);
        Self { server, agent: config.into(), data }
    }

    /// Stops the server; says whether it stopped in order, and where its collections lie.
    pub fn stopped(self) -> (bool, TempDir) {
        self.server.stopper()();
        (self.server.wait(), self.data)
    }

    /// The same after its server was stopped and started anew: rows are in place, of which ways are weighed.
    pub fn reopened(self) -> Self {
        let agent = self.agent.clone();
        let (is_orderly, data) = self.stopped();
        assert!(is_orderly);
        let http = Self { server: server(data.path(), Deadlines::default()), agent, data };
        while http.text("GET", "/readyz", "").status != 200 {
            std::thread::yield_now();
        }
        http
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Panics of handlers so far.
    pub fn n_incidents(&self) -> u64 {
        self.server.n_incidents()
    }

    /// Sends text.
    pub fn text(&self, method: &str, path: &str, body: &str) -> Answered {
        self.bytes(method, path, ("application/json", body.as_bytes()))
    }

    /// Sends a body of this type.
    pub fn bytes(&self, method: &str, path: &str, (kind, body): (&str, &[u8])) -> Answered {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address()))
            .header("content-type", kind)
            .body(body.to_owned())
            .unwrap();
        let mut response = self.agent.run(request).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), text_of(value)));
        Answered {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }

    pub fn send(&self, method: &str, path: &str, body: Value) -> Answered {
        self.text(method, path, &body.to_string())
    }

    /// The result of what must succeed.
    pub fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let answered = self.send(method, path, body);
        assert_eq!(answered.status, 200, "{method} {path}: {}", answered.body);
        assert_eq!(answered.body["status"], "ok", "{}", answered.body);
        assert!(answered.body["time"].is_number(), "{}", answered.body);
        answered.body["result"].clone()
    }

    pub fn get(&self, path: &str) -> Value {
        let answered = self.text("GET", path, "");
        assert_eq!(answered.status, 200, "GET {path}: {}", answered.body);
        answered.body["result"].clone()
    }

    /// What is said of what must fail.
    pub fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        self.send(method, path, body).refusal()
    }
}

impl Answered {
    /// Status and error.
    pub fn refusal(&self) -> (u16, String) {
        assert_ne!(self.status, 200, "{}", self.body);
        assert!(self.body["time"].is_number(), "{}", self.body);
        (self.status, self.body["status"]["error"].as_str().unwrap().to_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

fn text_of(value: &ureq::http::HeaderValue) -> String {
    value.to_str().unwrap().to_owned()
}

/// What is answered to bytes, until the server closes the connection.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // A server that closes early may not take all.
    let _ = stream.write_all(bytes);
    until_closed(&mut stream)
}

/// What comes until the connection is closed.
pub fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(n @ 1..) => answer.extend_from_slice(&buffer[..n]),
            // A process that was stopped and goes on is told so by sockets with a time limit.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A collection of one vector of four elements with some points.
pub fn with_points(deadlines: Deadlines) -> Http {
    let http = Http::with(deadlines);
    http.ok("PUT", "/collections/things", json!({"vectors": {"size": 4, "distance": "Dot"}}));
    let points: Vec<Value> = (0..20)
        .map(|i| {
            json!({
                "id": i, "vector": [i, 1, 0, 0],
                "payload": {"n": i, "odd": i % 2 == 1, "tags": ["all", format!("t{}", i % 3)]},
            })
        })
        .collect();
    http.ok("PUT", "/collections/things/points?wait=true", json!({"points": points}));
    http
}
