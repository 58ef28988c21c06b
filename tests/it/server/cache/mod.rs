//! Answers from memory, over HTTP, before a model server of the tests.

mod doors;
mod fake;
mod kept;
mod proxy;
mod safe;
#[cfg(feature = "https")]
mod tls;

use std::path::Path;
use std::sync::Arc;

use nearkin::embed::Choice;
use nearkin::server::limits::{Deadlines, Limits, Waits};
use nearkin::server::log::Log;
use nearkin::server::moment::SystemClock;
use nearkin::server::{FrontSettings, ServeSettings, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use fake::Fake;

/// A server before a model server.
pub struct Front {
    pub server: Server,
    pub fake: Fake,
    pub data: TempDir,
    agent: ureq::Agent,
}

/// What was answered, and where it is from.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
    pub body: Value,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn outcome(&self) -> &str {
        self.header("x-cache").unwrap_or("")
    }

    pub fn reason(&self) -> &str {
        self.header("x-cache-reason").unwrap_or("")
    }

    /// What was said, streamed or not.
    pub fn said(&self) -> String {
        if self.body.is_object() {
            let chat = self.body["choices"][0]["message"]["content"].as_str();
            let text = chat.or_else(|| self.body["choices"][0]["text"].as_str());
            let text = text.or_else(|| self.body["output"][0]["content"][0]["text"].as_str());
            return text.unwrap_or_else(|| panic!("{}", self.text)).to_owned();
        }
        let events = self.events();
        let piece = |event: &Value| {
            let choice = &event["choices"][0];
            let chat = choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str());
            let is_text = event["type"] == "response.output_text.delta";
            chat.or_else(|| event["delta"].as_str().filter(|_| is_text)).unwrap_or("").to_owned()
        };
        events.iter().map(piece).collect()
    }

    /// Data of the events of a stream, without its end.
    pub fn events(&self) -> Vec<Value> {
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

pub fn settings(fake: &Fake) -> FrontSettings {
    FrontSettings { upstream: Some(fake.url()), embed: Choice::Hashed, ..FrontSettings::default() }
}

pub fn server(data: &Path, front: FrontSettings) -> nearkin::Result<Server> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    Server::start(ServeSettings {
        data: data.to_owned(),
        bind: "127.0.0.1:0".parse().unwrap(),
        pool: Arc::new(pool),
        budget_bytes: 1 << 30,
        check_recall: 0.0,
        deadlines: Deadlines::default(),
        limits: Limits::default(),
        hosts: Vec::new(),
        log: Log::new(Box::new(std::io::sink())),
        clock: Arc::new(SystemClock::default()),
        front,
    })
}

impl Front {
    /// With a policy file of this text.
    pub fn with(policy: &str, change: impl FnOnce(&mut FrontSettings, &Path)) -> Self {
        let (data, fake) = (tempfile::tempdir().unwrap(), Fake::start());
        let mut settings = settings(&fake);
        if !policy.is_empty() {
            let path = data.path().join("policy.toml");
            std::fs::write(&path, policy).unwrap();
            settings.policy = Some(path);
        }
        settings.waits = Waits::default();
        change(&mut settings, data.path());
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(std::time::Duration::from_secs(60))).build().into();
        let server = server(data.path(), settings).unwrap();
        Self { server, fake, data, agent }
    }

    pub fn new() -> Self {
        Self::with("", |_, _| ())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.server.address()));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body.to_owned()).unwrap()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let headers = response.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()));
        Got {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Got {
        self.send("POST", path, headers, &body.to_string())
    }

    pub fn ask(&self, headers: &[(&str, &str)], body: &Value) -> Got {
        self.post("/v1/chat/completions", headers, body)
    }

    /// A sample of what is measured.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.send("GET", "/metrics", &[], "").text;
        let line = text
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(-1.0)
    }
}

/// A question to a model.
pub fn chat(model: &str, question: &str) -> Value {
    json!({"model": model, "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": question},
    ]})
}
