//! `nearkin key`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::{complain, say};
use crate::error::{Error, ErrorKind, Result};
use crate::server::keys::file::{self, KeyRecord, Quotas};
use crate::server::keys::rule::Scope;
use crate::server::keys::text::{Key, KeyId};
use crate::server::moment::{Clock, Moment, SystemClock};

#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    pub step: KeyStep,
}

#[derive(Debug, Subcommand)]
pub enum KeyStep {
    /// Make a key for clients of `nearkin serve`, and show it: it cannot be shown again
    Create(Box<CreateArgs>),
    /// End a key; a running server refuses it within a second
    Revoke(RevokeArgs),
    /// Show whose keys there are, and what for
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// Folder of collections; made if there is none
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// What a person calls it
    #[arg(long, value_name = "NAME")]
    pub name: String,

    /// What it may be used for: read, write, admin, metrics; none includes another
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
    pub scope: Vec<Scope>,

    /// Whose points it finds and stores; all points without
    #[arg(long, value_name = "TENANT", requires = "collection")]
    pub tenant: Option<String>,

    /// Collections that there are for it; '*' for all, which is also meant without, but has to be said for a tenant
    #[arg(long, value_name = "NAME")]
    pub collection: Vec<String>,

    /// When it ends by itself, such as 12h or 90d [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub expires_in: Option<u64>,

    /// Points that it can bring a collection to: its tenant's, or all without tenant
    #[arg(long, value_name = "N")]
    pub points: Option<u64>,

    /// Requests in a second
    #[arg(long, value_name = "N")]
    pub requests_per_second: Option<u32>,

    /// Share of the workers beside other users, each of whom has 1 without
    #[arg(long, value_name = "N")]
    pub weight: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// Folder of collections
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// The id of the key: its second part, or as listed
    #[arg(value_name = "ID")]
    pub id: KeyId,
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Folder of collections
    #[arg(value_name = "DIR")]
    pub data: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &KeyArgs) -> Result<u8> {
    let now = SystemClock::default().now();
    match &args.step {
        KeyStep::Create(args) => create(args, now)?,
        KeyStep::Revoke(args) => revoke(args, now)?,
        KeyStep::List(args) => list(args, now)?,
    }
    Ok(0)
}

fn create(args: &CreateArgs, now: Moment) -> Result<()> {
    let key = Key::random()?;
    let record = record(args, &key, now)?;
    record.check()?;
    std::fs::create_dir_all(&args.data)
        .map_err(|error| Error::io("create folder", &args.data, &error))?;
    file::change(&args.data, |keys| {
        keys.push(record);
        Ok(())
    })?;
    say(format_args!("{}", key.text()));
    complain(format_args!("key {} is shown this once; only a hash of it is kept", key.id()));
    Ok(())
}

fn record(args: &CreateArgs, key: &Key, now: Moment) -> Result<KeyRecord> {
    let mut scopes = args.scope.clone();
    scopes.sort_unstable();
    scopes.dedup();
    let end = |seconds: u64| {
        let too_long = || Error::usage("key_expires", format!("in {seconds} s, expected less"));
        now.unix_s().checked_add(seconds).ok_or_else(too_long)
    };
    Ok(KeyRecord {
        id: key.id(),
        name: args.name.clone(),
        secret_sha256: key.hash(),
        scopes,
        tenant: args.tenant.clone(),
        collections: collections(&args.collection)?,
        created: now.unix_s(),
        expires: args.expires_in.map(end).transpose()?,
        revoked: None,
        quotas: Quotas {
            points: args.points,
            requests_per_second: args.requests_per_second,
            weight: args.weight,
        },
    })
}

/// Collections as typed; `None` for all.
fn collections(typed: &[String]) -> Result<Option<Vec<String>>> {
    match typed {
        [] => Ok(None),
        [all] if all == "*" => Ok(None),
        names if names.iter().any(|name| name == "*") => {
            Err(Error::usage("key_collections", "'*' beside names, expected one or the other"))
        }
        names => Ok(Some(names.to_vec())),
    }
}

fn revoke(args: &RevokeArgs, now: Moment) -> Result<()> {
    must_exist(&args.data)?;
    let earlier = file::change(&args.data, |keys| {
        let key = keys.iter_mut().find(|key| key.id == args.id).ok_or_else(|| {
            let message = format!("no key has the id {}", args.id);
            Error::new(ErrorKind::NotFound, "key_not_found", message)
        })?;
        Ok(key.revoked.replace(key.revoked.unwrap_or(now.unix_s())))
    })?;
    match earlier {
        None => say(format_args!("key {} is revoked", args.id)),
        Some(since) => {
            say(format_args!("key {} is revoked since {}", args.id, time(since)));
        }
    }
    Ok(())
}

fn list(args: &ListArgs, now: Moment) -> Result<()> {
    must_exist(&args.data)?;
    let keys = file::read(&args.data)?.unwrap_or_default();
    if args.json {
        let all: Vec<Value> = keys.iter().map(|key| object(key, now)).collect();
        let all = serde_json::to_string_pretty(&json!({ "keys": all }));
        say(format_args!("{}", all.expect("strings and numbers")));
    } else if keys.is_empty() {
        say(format_args!("{}: no keys", args.data.display()));
    } else {
        keys.iter().for_each(|key| say(format_args!("{}", line(key, now))));
    }
    Ok(())
}

fn must_exist(data: &Path) -> Result<()> {
    if data.is_dir() {
        return Ok(());
    }
    let message = format!("{} does not exist, or is no folder", data.display());
    Err(Error::new(ErrorKind::NotFound, "not_found", message))
}

fn state(key: &KeyRecord, now: Moment) -> &'static str {
    match (key.revoked, key.is_live(now.unix_s())) {
        (Some(_), _) => "revoked",
        (None, false) => "ended",
        (None, true) => "live",
    }
}

fn object(key: &KeyRecord, now: Moment) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "state": state(key, now),
        "scopes": key.scopes,
        "tenant": key.tenant,
        "collections": key.collections,
        "created": time(key.created),
        "expires": key.expires.map(time),
        "revoked": key.revoked.map(time),
        "quotas": key.quotas,
    })
}

fn line(key: &KeyRecord, now: Moment) -> String {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
    let whose = key.tenant.as_ref().map_or("all tenants".to_owned(), |t| format!("tenant {t:?}"));
    let what = match &key.collections {
        None => "all collections".to_owned(),
        Some(names) => names.join(" "),
    };
    let mut line = format!(
        "{} {} {:?} {}, {whose}, {what}",
        key.id,
        state(key, now),
        key.name,
        scopes.join(",")
    );
    if let Some(end) = key.expires {
        line += &format!(", until {}", time(end));
    }
    if let Some(n) = key.quotas.points {
        line += &format!(", {n} points");
    }
    if let Some(n) = key.quotas.requests_per_second {
        line += &format!(", {n} requests per second");
    }
    if let Some(weight) = key.quotas.weight {
        line += &format!(", weight {weight}");
    }
    line
}

fn time(unix_s: u64) -> String {
    Moment { unix_ms: unix_s.saturating_mul(1000), ..Moment::default() }.rfc3339()
}

/// Seconds of a number with a unit: `30s`, `15m`, `12h`, `90d`.
fn parse_seconds(text: &str) -> Result<u64> {
    let wrong = || Error::usage("time", format!("{text:?}, expected a time such as 12h or 90d"));
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let unit = match &text[at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).filter(|&seconds| seconds > 0).ok_or_else(wrong)
}
