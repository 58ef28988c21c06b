//! `nearkin serve`.

mod config;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::args::{parse_bytes, parse_share};
use crate::cli::serve::config::{Cache, Config};
use crate::cli::{complain, pool, say};
use crate::core::authorities;
use crate::embed::Choice;
use crate::error::{Error, ErrorKind, Result};
use crate::server::log::Log;
use crate::server::moment::SystemClock;
use crate::server::{FrontSettings, ServeSettings, Server};

/// Where it listens if nobody says.
const BIND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6333);

/// Memory of a collection if nobody says.
const MEMORY: u64 = 16 << 30;

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// TOML file with any of these options, deadlines and limits; what is typed wins
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Folder of collections, made if it is not there
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    pub data: Option<PathBuf>,

    /// Where to listen; port 0 is any that is free [default: 127.0.0.1:6333]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<SocketAddr>,

    /// Threads that search and build; all cores without
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Memory for vectors and their codes, of each collection [default: 16GiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: Option<u64>,

    /// Share of the searches that are asked again, exactly, while nobody waits; /metrics says what they had found [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub check_recall: Option<f64>,

    /// Name under which it is reached, beside localhost; without, any name if it listens for others
    #[arg(long, value_name = "NAME")]
    pub allowed_host: Vec<String>,

    /// A server of OpenAI's API, whose answers are remembered and given again: http(s)://HOST:PORT
    #[arg(long, value_name = "URL", help_heading = "Cache")]
    pub upstream: Option<String>,

    /// Environment variable with the key for it; without, a client's own goes on if this server asks for none
    #[arg(long, value_name = "NAME", help_heading = "Cache")]
    pub upstream_key_env: Option<String>,

    /// Policies of caches, by category (docs/cache.md); read again when it changes
    #[arg(long, value_name = "FILE", help_heading = "Cache")]
    pub cache_policy: Option<PathBuf>,

    /// What compares questions: static (shipped), hashed, http:URL#MODEL, bert:DIR [default: static]
    #[arg(long, value_name = "EMBEDDER", help_heading = "Cache")]
    pub embed: Option<Choice>,
}

/// The caches as they were asked for: what was typed, and for the rest what the file says.
fn front(args: &ServeArgs, cache: Cache) -> Result<FrontSettings> {
    let mut front = FrontSettings { authorities: authorities::named(), ..FrontSettings::default() };
    if let Some(name) = args.upstream_key_env.clone().or(cache.upstream_key_env) {
        let key = std::env::var(&name).ok().filter(|key| !key.is_empty());
        let message = || {
            format!("the environment variable {name} is not set, expected the key of the upstream")
        };
        front.upstream_key = Some(key.ok_or_else(|| Error::usage("upstream_key", message()))?);
    }
    front.upstream = args.upstream.clone().or(cache.upstream);
    front.policy = args.cache_policy.clone().or(cache.policy);
    if let Some(embed) = args.embed.clone().or(cache.embed) {
        front.embed = embed;
    }
    Ok(front)
}

pub fn run(args: &ServeArgs) -> Result<u8> {
    let server = Server::start(settings(args)?)?;
    ctrlc::set_handler(server.stopper()).map_err(|error| {
        Error::new(ErrorKind::Io, "signals", format!("cannot be listened to: {error}"))
    })?;
    say(format_args!("listening at http://{}", server.address()));
    if !server.wait() {
        complain(format_args!("stopped before all requests in flight were answered"));
    }
    Ok(0)
}

/// What was typed, and for the rest what the file says.
fn settings(args: &ServeArgs) -> Result<ServeSettings> {
    let config = args.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let Config {
        data,
        bind,
        threads,
        memory,
        check_recall,
        allowed_hosts,
        limits,
        deadlines,
        cache,
    } = config;
    let data = args.data.clone().or(data).ok_or_else(|| {
        Error::usage("data", "none, expected --data DIR or `data` in the file of --config")
    })?;
    let hosts = match args.allowed_host.is_empty() {
        true => allowed_hosts,
        false => args.allowed_host.clone(),
    };
    Ok(ServeSettings {
        data,
        bind: args.bind.or(bind).unwrap_or(BIND),
        pool: pool(args.threads.or(threads))?,
        budget_bytes: args.memory.or(memory).unwrap_or(MEMORY),
        check_recall: args.check_recall.or(check_recall).unwrap_or_default(),
        deadlines,
        limits,
        hosts,
        log: Log::new(Box::new(std::io::stderr())),
        clock: Arc::new(SystemClock::default()),
        front: front(args, cache)?,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::server::limits::Order;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn typed(words: &[&str]) -> Result<ServeSettings> {
        settings(&Typed::parse_from([&["serve"][..], words].concat()).args)
    }

    #[test]
    fn what_is_typed_wins_over_the_file_and_the_file_over_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nearkin.toml");
        let path = path.to_str().unwrap();
        std::fs::write(
            path,
            "data = \"of the file\"\nbind = \"127.0.0.1:1\"\nthreads = 1\nmemory = \"1GiB\"\n\
             check_recall = 0.25\nallowed_hosts = [\"a\"]\nlimits.order = \"first_come\"\n",
        )
        .unwrap();
        let of_file = typed(&["--config", path]).unwrap();
        assert_eq!(of_file.data, PathBuf::from("of the file"));
        assert_eq!(of_file.bind.port(), 1);
        assert_eq!((of_file.budget_bytes, of_file.pool.current_num_threads()), (1 << 30, 1));
        assert_eq!(of_file.check_recall, 0.25);
        assert_eq!((of_file.hosts, of_file.limits.order), (vec!["a".into()], Order::FirstCome));
        let words = ["--config", path, "--data", "d", "--bind", "127.0.0.1:2", "--threads", "2"];
        let more = ["--memory", "5", "--allowed-host", "b", "--check-recall", "0.5"];
        let both = typed(&[&words[..], &more].concat()).unwrap();
        assert_eq!((both.data, both.bind.port()), (PathBuf::from("d"), 2));
        assert_eq!((both.budget_bytes, both.pool.current_num_threads()), (5, 2));
        assert_eq!((both.hosts, both.check_recall), (vec!["b".to_owned()], 0.5));
        let neither = typed(&["--data", "d"]).unwrap();
        assert_eq!((neither.bind, neither.budget_bytes), (BIND, MEMORY));
        assert_eq!(neither.check_recall, 0.0);
        let cache =
            "data = \"d\"\n[cache]\nupstream = \"http://a\"\npolicy = \"p\"\nembed = \"hashed\"\n";
        std::fs::write(path, cache).unwrap();
        let front = typed(&["--config", path, "--cache-policy", "q"]).unwrap().front;
        assert_eq!(front.upstream.as_deref(), Some("http://a"));
        assert_eq!((front.policy, front.embed), (Some("q".into()), Choice::Hashed));
        let words =
            ["--data", "d", "--upstream", "http://a", "--upstream-key-env", "NEARKIN_NO_KEY"];
        assert_eq!(typed(&words).err().unwrap().code(), "upstream_key");
        std::fs::write(path, "").unwrap();
        let error = typed(&["--config", path]).err().unwrap();
        assert_eq!(error.code(), "data");
    }
}
