//! The file of `nearkin serve --config`: what may stand in it, and what is refused.
//!
//! In: TOML. Out: what it says; what it does not say is none, or the default of limits and deadlines. A refusal names the file, the
//! line, the key, what was expected and what was received. `docs/server.md` lists the keys.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::args::parse_bytes;
use crate::embed::Choice;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::server::limits::{BODY_BYTES, Deadlines, Limits, Order};

/// Longest piece of a refused value that a message shows.
const SHOWN: usize = 60;

const ROOT: &[&str] = &[
    "data",
    "bind",
    "threads",
    "memory",
    "check_recall",
    "allowed_hosts",
    "limits",
    "deadlines",
    "cache",
];
const LIMITS: &[&str] = &["bodies_memory", "workers", "connections", "order"];
const DEADLINES: &[&str] = &["head", "body", "idle", "write", "stop"];

const CACHE: &[&str] = &["upstream", "upstream_key_env", "policy", "embed"];

/// Threads and workers that can be asked for.
const WORKERS: RangeInclusive<u64> = 1..=1024;

/// Connections that can be asked for: each may need a thread while its request waits half-way.
const CONNECTIONS: RangeInclusive<u64> = 1..=65_536;

/// Memory for bodies: at least one must have room.
const BODIES: RangeInclusive<u64> = BODY_BYTES as u64..=1 << 40;

/// Shares.
const SHARES: RangeInclusive<f64> = 0.0..=1.0;

/// Seconds of a deadline.
const SECONDS: RangeInclusive<f64> = 0.001..=3600.0;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Folder of collections.
    pub data: Option<PathBuf>,
    /// Where to listen.
    pub bind: Option<SocketAddr>,
    /// Threads that search and build.
    pub threads: Option<usize>,
    /// Memory for vectors and codes, of each collection.
    pub memory: Option<u64>,
    /// Share of the searches that are asked again.
    pub check_recall: Option<f64>,
    /// Names under which the server is reached.
    pub allowed_hosts: Vec<String>,
    /// How much it does at once.
    pub limits: Limits,
    /// How long it waits for what.
    pub deadlines: Deadlines,
    /// Answers from memory.
    pub cache: Cache,
}

/// What a file says of answers from memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// URL of the model server behind.
    pub upstream: Option<String>,
    /// Environment variable with the key for it.
    pub upstream_key_env: Option<String>,
    /// The file of policies.
    pub policy: Option<PathBuf>,
    /// What compares questions.
    pub embed: Option<Choice>,
}

impl Config {
    /// What a file says.
    ///
    /// # Errors
    /// `config_syntax` for what is no TOML, `config_key` for what is not known, `config_value` for what a key cannot be; those of
    /// reading.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).at("read", path)?;
        Self::of(&Source { path, text: &text })
    }

    fn of(source: &Source<'_>) -> Result<Self> {
        let table = DeTable::parse(source.text).map_err(|error| {
            let message = format!("expected TOML, received what is none: {}", error.message());
            source.refuse("config_syntax", error.span().unwrap_or(0..0), message)
        })?;
        let mut config = Self::default();
        source.each(table.get_ref(), "", ROOT, &mut |entry| config.take(entry))?;
        Ok(config)
    }

    fn take(&mut self, entry: &Entry<'_>) -> Result<()> {
        match entry.key() {
            "data" => self.data = Some(entry.text("the path of a folder")?.into()),
            "bind" => self.bind = Some(entry.parsed("an address such as \"127.0.0.1:6333\"")?),
            "threads" => self.threads = Some(entry.whole(WORKERS)? as usize),
            "memory" => self.memory = Some(entry.bytes(1..=u64::MAX)?),
            "check_recall" => self.check_recall = Some(entry.share()?),
            "allowed_hosts" => self.allowed_hosts = entry.texts()?,
            "cache" => entry.table(CACHE, &mut |entry| take_cache(&mut self.cache, entry))?,
            "limits" => entry.table(LIMITS, &mut |entry| take_limit(&mut self.limits, entry))?,
            _ => entry.table(DEADLINES, &mut |entry| take_deadline(&mut self.deadlines, entry))?,
        }
        Ok(())
    }
}

fn take_limit(limits: &mut Limits, entry: &Entry<'_>) -> Result<()> {
    match entry.key() {
        "bodies_memory" => limits.bodies_bytes = entry.bytes(BODIES)? as usize,
        "workers" => limits.workers = Some(entry.whole(WORKERS)? as usize),
        "connections" => limits.connections = entry.whole(CONNECTIONS)? as usize,
        _ => {
            let expected = "\"fair\" or \"first_come\"";
            limits.order = match entry.text(expected)? {
                "fair" => Order::Fair,
                "first_come" => Order::FirstCome,
                _ => return Err(entry.refuse(expected)),
            }
        }
    }
    Ok(())
}

fn take_cache(cache: &mut Cache, entry: &Entry<'_>) -> Result<()> {
    match entry.key() {
        "upstream" => {
            cache.upstream = Some(entry.text("a URL such as \"http://localhost:8000\"")?.into())
        }
        "upstream_key_env" => {
            cache.upstream_key_env =
                Some(entry.text("the name of an environment variable")?.into());
        }
        "policy" => cache.policy = Some(entry.text("the path of a file")?.into()),
        _ => cache.embed = Some(entry.parsed("static, hashed, bert:DIR or http:URL#MODEL")?),
    }
    Ok(())
}

fn take_deadline(deadlines: &mut Deadlines, entry: &Entry<'_>) -> Result<()> {
    let own = match entry.key() {
        "head" => &mut deadlines.head,
        "body" => &mut deadlines.body,
        "idle" => &mut deadlines.idle,
        "write" => &mut deadlines.write,
        _ => &mut deadlines.stop,
    };
    *own = entry.seconds()?;
    Ok(())
}

/// A file that is read.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

/// A key with its value, and where they stand.
struct Entry<'a> {
    source: &'a Source<'a>,
    /// With the table that it stands in: `limits.workers`.
    name: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl Source<'_> {
    fn refuse(&self, code: &'static str, at: Range<usize>, message: impl Display) -> Error {
        let before = &self.text.as_bytes()[..at.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let message = format!("{}, line {line}: {message}", self.path.display());
        Error::new(ErrorKind::BadInput, code, message)
    }

    /// Takes the entries of a table, all of whose keys are among `known`.
    fn each<'a>(
        &'a self,
        table: &'a DeTable<'a>,
        of: &str,
        known: &[&str],
        take: &mut dyn FnMut(&Entry<'a>) -> Result<()>,
    ) -> Result<()> {
        for (key, value) in table {
            let name = format!("{of}{}", key.get_ref());
            if !known.contains(&&**key.get_ref()) {
                let message = format!("key {name}: expected one of {}", known.join(", "));
                return Err(self.refuse("config_key", key.span(), message));
            }
            take(&Entry { source: self, name, value })?;
        }
        Ok(())
    }
}

impl<'a> Entry<'a> {
    /// Without the table that it stands in.
    fn key(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// The error for a value that is not what was expected.
    fn refuse(&self, expected: &str) -> Error {
        let span = self.value.span();
        let mut received = self.source.text[span.clone()].to_owned();
        if let Some((end, _)) = received.char_indices().nth(SHOWN) {
            received.truncate(end);
            received.push_str("...");
        }
        let message = format!("{}: expected {expected}, received {received}", self.name);
        self.source.refuse("config_value", span, message)
    }

    fn text(&self, expected: &str) -> Result<&'a str> {
        self.value.get_ref().as_str().ok_or_else(|| self.refuse(expected))
    }

    fn parsed<T: FromStr>(&self, expected: &str) -> Result<T> {
        self.text(expected)?.parse().map_err(|_| self.refuse(expected))
    }

    fn texts(&self) -> Result<Vec<String>> {
        let wrong = || self.refuse("a list of texts");
        let list = self.value.get_ref().as_array().ok_or_else(wrong)?;
        let texts = list.iter().map(|one| one.get_ref().as_str().map(str::to_owned));
        texts.collect::<Option<_>>().ok_or_else(wrong)
    }

    fn integer(&self) -> Option<u64> {
        let integer = self.value.get_ref().as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    fn whole(&self, range: RangeInclusive<u64>) -> Result<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let number = self.integer().filter(|number| range.contains(number));
        number.ok_or_else(|| self.refuse(&expected))
    }

    fn bytes(&self, range: RangeInclusive<u64>) -> Result<u64> {
        let (start, end) = (range.start(), range.end());
        let expected = format!("{start} to {end} bytes, as a number or as \"512MiB\"");
        let written = self.value.get_ref().as_str().and_then(|text| parse_bytes(text).ok());
        let n_bytes = written.or_else(|| self.integer()).filter(|n_bytes| range.contains(n_bytes));
        n_bytes.ok_or_else(|| self.refuse(&expected))
    }

    fn number(&self) -> Option<f64> {
        let float = self.value.get_ref().as_float().and_then(|float| float.as_str().parse().ok());
        float.or_else(|| self.integer().map(|whole| whole as f64))
    }

    fn share(&self) -> Result<f64> {
        let share = self.number().filter(|share| SHARES.contains(share));
        share.ok_or_else(|| self.refuse("a number from 0 to 1"))
    }

    fn seconds(&self) -> Result<Duration> {
        let seconds = self.number().filter(|seconds| SECONDS.contains(seconds));
        seconds.map(Duration::from_secs_f64).ok_or_else(|| {
            self.refuse(&format!("{} to {} seconds", SECONDS.start(), SECONDS.end()))
        })
    }

    fn table(&self, known: &[&str], take: &mut dyn FnMut(&Entry<'a>) -> Result<()>) -> Result<()> {
        let table = self.value.get_ref().as_table();
        let table = table.ok_or_else(|| self.refuse("a table"))?;
        self.source.each(table, &format!("{}.", self.name), known, take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config> {
        Config::of(&Source { path: Path::new("a.toml"), text })
    }

    const ALL: &str = r#"
data = "things"
bind = "[::1]:7000"
threads = 3
memory = "2GiB"
check_recall = 0.01
allowed_hosts = ["vectors.example", "other.example"]

[limits]
bodies_memory = 0x0800_0000
workers = 5
connections = 4_096
order = "first_come"

[deadlines]
head = 1
body = 2.5
idle = 3
write = 4
stop = 0.25

[cache]
upstream = "http://localhost:8000"
upstream_key_env = "MODEL_KEY"
policy = "policy.toml"
embed = "hashed"
"#;

    #[test]
    fn every_key_is_taken_at_its_word() {
        let read = config(ALL).unwrap();
        let [head, body, idle, write, stop] =
            [1.0, 2.5, 3.0, 4.0, 0.25].map(Duration::from_secs_f64);
        let expected = Config {
            data: Some("things".into()),
            bind: Some("[::1]:7000".parse().unwrap()),
            threads: Some(3),
            memory: Some(2 << 30),
            check_recall: Some(0.01),
            allowed_hosts: vec!["vectors.example".into(), "other.example".into()],
            limits: Limits {
                bodies_bytes: 128 << 20,
                workers: Some(5),
                connections: 4096,
                order: Order::FirstCome,
            },
            deadlines: Deadlines { head, body, idle, write, stop },
            cache: Cache {
                upstream: Some("http://localhost:8000".into()),
                upstream_key_env: Some("MODEL_KEY".into()),
                policy: Some("policy.toml".into()),
                embed: Some(Choice::Hashed),
            },
        };
        assert_eq!(read, expected);
        for key in [ROOT, LIMITS, DEADLINES, CACHE].concat() {
            assert!(ALL.contains(&format!("{key} =")) || ALL.contains(&format!("[{key}]")));
        }
        assert_eq!(config("# nothing\n").unwrap(), Config::default());
        assert_eq!(config("[limits]\nworkers = 2").unwrap().limits.connections, 1024);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line_its_key_and_what_was_expected() {
        let cases = [
            (
                "data = 3",
                "config_value: a.toml, line 1: data: expected the path of a folder, received 3",
            ),
            (
                "\n\nbind = \"here\"",
                "config_value: a.toml, line 3: bind: expected an address such as \"127.0.0.1:6333\", received \"here\"",
            ),
            (
                "threads = 0",
                "config_value: a.toml, line 1: threads: expected a whole number from 1 to 1024, received 0",
            ),
            ("check_recall = 1.5", "check_recall: expected a number from 0 to 1, received 1.5"),
            ("threads = -2", "received -2"),
            ("threads = 1.0", "received 1.0"),
            ("threads = \"2\"", "received \"2\""),
            (
                "memory = \"much\"",
                "memory: expected 1 to 18446744073709551615 bytes, as a number or as \"512MiB\", received \"much\"",
            ),
            ("memory = 99999999999999999999", "received 99999999999999999999"),
            (
                "allowed_hosts = \"one\"",
                "allowed_hosts: expected a list of texts, received \"one\"",
            ),
            ("allowed_hosts = [1]", "received [1]"),
            (
                "thread = 2",
                "config_key: a.toml, line 1: key thread: expected one of data, bind, threads,",
            ),
            ("limits = 1", "limits: expected a table, received 1"),
            (
                "[limits]\n\nworker = 2",
                "config_key: a.toml, line 3: key limits.worker: expected one of bodies_memory, workers,",
            ),
            (
                "[limits]\nworkers = 1025",
                "line 2: limits.workers: expected a whole number from 1 to 1024, received 1025",
            ),
            (
                "[limits]\nconnections = 0",
                "limits.connections: expected a whole number from 1 to 65536, received 0",
            ),
            (
                "[limits]\nbodies_memory = \"1MiB\"",
                "limits.bodies_memory: expected 33554432 to 1099511627776 bytes",
            ),
            (
                "[limits]\norder = \"last\"",
                "limits.order: expected \"fair\" or \"first_come\", received \"last\"",
            ),
            ("[deadlines]\nhead = 0", "deadlines.head: expected 0.001 to 3600 seconds, received 0"),
            (
                "[deadlines]\nidle = nan",
                "deadlines.idle: expected 0.001 to 3600 seconds, received nan",
            ),
            ("[deadlines]\nstop = inf", "received inf"),
            ("[deadlines]\nstop = -1", "received -1"),
            ("[deadlines]\nstop = \"1s\"", "received \"1s\""),
            ("threads = 1\nthreads = 2", "config_syntax: a.toml, line 2: "),
            ("data = \"a", "config_syntax: a.toml, line 1: "),
            ("[other]\nx = 1", "config_key: a.toml, line 1: key other: "),
        ];
        for (text, expected) in cases {
            let error = config(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let long = config(&format!("data = [{}]", "1, ".repeat(500))).unwrap_err().to_string();
        assert!(long.len() < 200 && long.ends_with("..."), "{long}");
    }
}
