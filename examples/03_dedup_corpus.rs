//! Clean the corpus that ships with the repository, and read the result from code.
//!
//! `cargo run --example 03_dedup_corpus`

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use nearkin::dedup::{self, Existing, Options, Outcome, Silent};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::temp_dir().join("nearkin-example-03");
    let options = Options {
        inputs: vec!["datasets/fixtures/corpus".into()],
        out: out.clone(),
        // Two texts are duplicates from 70 % shared five-word shingles on.
        threshold: 0.7,
        existing: Existing::Overwrite,
        ..Options::default()
    };

    // The flag can be set from a signal handler or another thread; the job then stops, and can be resumed.
    let stop = AtomicBool::new(false);
    let Outcome::Finished(report) = dedup::run(&options, &stop, &Silent)? else {
        return Err("neither a shard nor resumed".into());
    };
    let totals = report.totals;
    assert_eq!(totals.read, totals.kept + totals.dropped + totals.quarantined);
    println!("{} of {} records kept", totals.kept, totals.read);

    // Every dropped record names the kept one that it repeats, and how similar they are.
    let mut by_method: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(out.join("dropped.jsonl"))?.lines() {
        let row: serde_json::Value = serde_json::from_str(line)?;
        let similarity = row["similarity"].as_f64().ok_or("a number")?;
        assert!(similarity >= options.threshold);
        *by_method.entry(row["method"].to_string()).or_default() += 1;
    }
    println!("dropped by method: {by_method:?}");
    println!("look at {}", out.join("report.html").display());
    Ok(())
}
