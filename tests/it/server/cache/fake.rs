//! A small model server: it answers what it is asked, says how often it was, and fails as it is told to by the model's name.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What a request was.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    /// Whether those that wait for it may go on.
    is_open: Mutex<bool>,
    opened: Condvar,
    n_left: Mutex<usize>,
    /// What it tells of itself.
    metrics: Mutex<String>,
}

/// A model server.
pub struct Fake {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Fake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let own = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&own));
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn n_seen(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    /// Waits until so many requests came.
    pub fn wait_for(&self, n: usize) {
        while self.n_seen() < n {
            thread::yield_now();
        }
    }

    /// From now on it tells this of itself.
    pub fn tell(&self, metrics: &str) {
        *self.state.metrics.lock().unwrap() = metrics.to_owned();
    }

    /// Lets those go on that wait: of the model `gate`.
    pub fn open(&self) {
        *self.state.is_open.lock().unwrap() = true;
        self.state.opened.notify_all();
    }

    /// Waits until a client left in the middle of a stream.
    pub fn wait_left(&self, n: usize) {
        while *self.state.n_left.lock().unwrap() < n {
            thread::yield_now();
        }
    }
}

fn serve(mut stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        let n = {
            let mut seen = state.seen.lock().unwrap();
            seen.push(request.clone());
            seen.len()
        };
        if answer(&mut stream, state, &request, n).is_none() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, n)| n.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Seen { line: lines[0].clone(), headers, body })
}

/// Answers; nothing if the connection is at its end.
fn answer(stream: &mut TcpStream, state: &State, seen: &Seen, n: usize) -> Option<()> {
    let path = seen.line.split(' ').nth(1).unwrap_or_default();
    let model = seen.body["model"].as_str().unwrap_or("none").to_owned();
    if model == "gate" {
        let mut open = state.is_open.lock().unwrap();
        while !*open {
            open = state.opened.wait(open).unwrap();
        }
    }
    let error = |status: u16| json!({"error": {"message": format!("no {status}"), "code": status}});
    match model.as_str() {
        "fails-500" => return send(stream, 500, "", &error(500)),
        "fails-429" => return send(stream, 429, "retry-after: 7\r\n", &error(429)),
        "error-200" => return send(stream, 200, "", &error(200)),
        "secret" => {
            return send(
                stream,
                200,
                "cache-control: private, no-store\r\n",
                &whole(seen, path, n),
            );
        }
        "half" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"choices\"");
            return None;
        }
        _ => {}
    }
    if path == "/metrics" {
        let text = state.metrics.lock().unwrap().clone();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
        return stream.write_all(format!("{head}{text}").as_bytes()).ok();
    }
    if seen.body["stream"] == true {
        return streamed(stream, state, seen, path, &model, n);
    }
    send(stream, 200, "x-own: 1\r\n", &whole(seen, path, n))
}

/// The text that is answered, with the number of the request: no two are the same.
fn said(seen: &Seen, n: usize) -> String {
    let body = &seen.body;
    let last = |turns: &Value| {
        let content =
            &turns.as_array().and_then(|turns| turns.last()).unwrap_or(&Value::Null)["content"];
        content.as_str().map(str::to_owned).unwrap_or_else(|| content.to_string())
    };
    let question = body["prompt"].as_str().map(str::to_owned);
    let question = question.or_else(|| body["input"].as_str().map(str::to_owned));
    let question = question.unwrap_or_else(|| {
        last(if body["input"].is_array() { &body["input"] } else { &body["messages"] })
    });
    format!("answer {n} to: {question}")
}

fn finish(seen: &Seen) -> &'static str {
    let is_cut = seen.body["model"] == "length" || seen.body.to_string().contains("cut short");
    if is_cut { "length" } else { "stop" }
}

fn whole(seen: &Seen, path: &str, n: usize) -> Value {
    let model = &seen.body["model"];
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7});
    match path {
        "/v1/chat/completions" => json!({
            "id": format!("chatcmpl-up{n}"), "object": "chat.completion", "created": 1, "model": model,
            "choices": [{"index": 0, "finish_reason": finish(seen),
                "message": {"role": "assistant", "content": said(seen, n)}}],
            "usage": usage,
        }),
        "/v1/completions" => json!({
            "id": format!("cmpl-up{n}"), "object": "text_completion", "created": 1, "model": model,
            "choices": [{"index": 0, "text": said(seen, n), "finish_reason": finish(seen)}],
            "usage": usage,
        }),
        "/v1/responses" => json!({
            "id": format!("resp_{n}"), "object": "response", "status": "completed", "model": model,
            "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": said(seen, n), "annotations": []}]}],
            "usage": {"total_tokens": 7},
        }),
        "/v1/embeddings" => json!({
            "object": "list", "model": model,
            "data": [{"object": "embedding", "index": 0, "embedding": [n, 0.5]}],
            "usage": {"total_tokens": 2},
        }),
        // A judge, for whom politeness changes nothing.
        "/judge" => json!({"same": seen.body["question"].as_str().unwrap().contains("please")}),
        _ => json!({"object": "list", "path": path, "n": n}),
    }
}

fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &Value) -> Option<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()
}

fn chunk(stream: &mut TcpStream, text: &str) -> Option<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).ok()
}

fn streamed(
    stream: &mut TcpStream,
    state: &State,
    seen: &Seen,
    path: &str,
    model: &str,
    n: usize,
) -> Option<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    let text = said(seen, n);
    let mut events: Vec<Value> = Vec::new();
    if path == "/v1/responses" {
        let whole = whole(seen, path, n);
        events.push(
            json!({"type": "response.created", "response": {"id": whole["id"], "output": []}}),
        );
        for piece in text.split_inclusive(' ') {
            events.push(
                json!({"type": "response.output_text.delta", "delta": piece, "item_id": "msg_1"}),
            );
        }
        events.push(json!({"type": "response.completed", "response": whole}));
    } else {
        let of = |delta: Value, finish: Value| {
            let choice = match path {
                "/v1/completions" => {
                    json!({"index": 0, "text": delta["content"].as_str().unwrap_or(""), "finish_reason": finish})
                }
                _ => json!({"index": 0, "delta": delta, "finish_reason": finish}),
            };
            json!({"id": format!("up{n}"), "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]})
        };
        events.push(of(json!({"role": "assistant", "content": ""}), Value::Null));
        for piece in text.split_inclusive(' ') {
            events.push(of(json!({"content": piece}), Value::Null));
        }
        events.push(of(json!({}), finish(seen).into()));
        if seen.body["stream_options"]["include_usage"] == true {
            events.push(json!({"id": "u", "choices": [], "usage": {"total_tokens": 7}}));
        }
    }
    if model == "endless" {
        let mut first = events.iter().take(3);
        // Who left before the third is found out afterwards, as all others are.
        let _ = first.try_for_each(|event| chunk(stream, &format!("data: {event}\n\n")));
        until_left(stream, state);
        return None;
    }
    for (i, event) in events.iter().enumerate() {
        if i == 3 && model == "cut" {
            return None;
        }
        chunk(stream, &format!("data: {event}\n\n"))?;
    }
    if path != "/v1/responses" {
        chunk(stream, "data: [DONE]\n\n")?;
    }
    stream.write_all(b"0\r\n\r\n").ok()
}

/// Goes on until the client is not there any more.
fn until_left(stream: &mut TcpStream, state: &State) {
    while chunk(stream, ": still there\n\n").is_some() {
        thread::sleep(Duration::from_millis(1));
    }
    *state.n_left.lock().unwrap() += 1;
}
