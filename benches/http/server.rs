//! `nearkin serve` as a process, and what it says of itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::NAME;
use crate::load::Connection;

/// The program: that of this build, or another one to compare it with.
fn program() -> OsString {
    std::env::var_os("NEARKIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_nearkin").into())
}

/// A server that ends with this.
pub struct Served {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Served {
    /// A server of this folder, with what the file of `--config` is to say.
    pub fn start(data: &Path, config: &str) -> Self {
        let file = data.with_extension("toml");
        std::fs::write(&file, config).expect("a file");
        let mut child = Command::new(program())
            .args(["serve", "--bind", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("it was asked for");
        BufReader::new(out).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().rsplit('/').next().and_then(|text| text.parse().ok());
        let served = Self { child, address: address.expect("an address") };
        while served.get("/readyz").0 != 200 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        served
    }

    /// Status and body of what needs no key.
    fn get(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut connection = Connection::open(self.address);
        let (status, body) = connection.ask(request.as_bytes());
        (status, String::from_utf8_lossy(body).into_owned())
    }

    /// Seconds of every stage so far, and how many requests.
    pub fn stages(&self) -> BTreeMap<String, f64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        let sums = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("nearkin_stage_seconds_sum{stage=\"")?;
            let (name, value) = rest.split_once("\"} ")?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        sums.collect()
    }

    /// Seconds that the process has computed.
    pub fn cpu_s(&self) -> f64 {
        cpu_s(&self.child.id().to_string())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds that a process has computed.
pub fn cpu_s(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    let fields = text.rsplit(')').next().expect("the rest of the line").split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// A key of a tenant for the collection.
pub fn key(data: &Path, tenant: &str) -> String {
    let made = Command::new(program())
        .args(["key", "create"])
        .arg(data)
        .args(["--name", tenant, "--scope", "read", "--tenant", tenant, "--collection", NAME])
        .output()
        .expect("a key is made");
    let text = String::from_utf8_lossy(&made.stdout);
    text.split_whitespace().find(|word| word.starts_with("nk1_")).expect("a key").to_owned()
}
