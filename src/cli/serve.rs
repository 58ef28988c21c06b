//! `nearkin serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::args::parse_bytes;
use crate::cli::{complain, pool, say};
use crate::error::{Error, ErrorKind, Result};
use crate::server::limits::Deadlines;
use crate::server::log::Log;
use crate::server::moment::SystemClock;
use crate::server::{ServeSettings, Server};

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Folder of collections, made if it is not there
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,

    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6333")]
    pub bind: SocketAddr,

    /// Threads that search and build; all cores without
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Memory for vectors and their codes, of each collection
    #[arg(long, default_value = "16GiB", value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: u64,

    /// Name under which it is reached, beside localhost; without, any name if it listens for others
    #[arg(long, value_name = "NAME")]
    pub allowed_host: Vec<String>,
}

pub fn run(args: &ServeArgs) -> Result<u8> {
    let server = Server::start(ServeSettings {
        data: args.data.clone(),
        bind: args.bind,
        pool: pool(args.threads)?,
        budget_bytes: args.memory,
        deadlines: Deadlines::default(),
        hosts: args.allowed_host.clone(),
        log: Log::new(Box::new(std::io::stderr())),
        clock: Arc::new(SystemClock::default()),
    })?;
    ctrlc::set_handler(server.stopper()).map_err(|error| {
        Error::new(ErrorKind::Io, "signals", format!("cannot be listened to: {error}"))
    })?;
    say(format_args!("listening at http://{}", server.address()));
    if !server.wait() {
        complain(format_args!("stopped before all requests in flight were answered"));
    }
    Ok(0)
}
