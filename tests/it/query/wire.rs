//! Bodies as an unmodified client sent them, recorded: every query among them is understood.

use std::collections::BTreeMap;
use std::io::Read;

use nearkin::server::qdrant::query::Source;
use serde_json::Value;

use crate::support::skip;

#[test]
fn recorded_queries_are_understood_but_for_those_with_no_numbers() {
    let Some(file) = std::env::var_os("NEARKIN_WIRE_BODIES") else {
        return skip("wire", "NEARKIN_WIRE_BODIES names no gzip file with recorded requests");
    };
    let mut text = String::new();
    let bytes = std::fs::read(file).unwrap();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let source = Source { collection: "own", seed: 1 };
    let (mut n_read, mut n_refused) = (BTreeMap::<&str, usize>::new(), 0);
    for line in text.lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        let (path, body) = (request["path"].as_str().unwrap(), &request["body"]);
        let (kind, read) = match path.rsplit_once("/points/").map(|(_, rest)| rest) {
            Some("query") => ("query", source.query(body).map(drop)),
            Some("query/batch") => ("batch", source.batch(body, 100).map(drop)),
            Some("query/groups") => ("groups", source.groups(body).map(drop)),
            Some("search/matrix/pairs" | "search/matrix/offsets") => {
                ("matrix", source.matrix(body).map(drop))
            }
            _ => continue,
        };
        match read {
            Ok(()) => *n_read.entry(kind).or_default() += 1,
            Err(error) => {
                // A vector with a NaN, which JSON writes as null, was sent to see it refused.
                let is_null = error.to_string().ends_with("expected a number, received null");
                assert!(is_null, "{error}\n{line}");
                n_refused += 1;
            }
        }
    }
    println!("{n_read:?} were understood, {n_refused} refused");
    assert!(n_read.len() == 4 && n_read["query"] > 500 && n_read["groups"] > 200, "{n_read:?}");
}
