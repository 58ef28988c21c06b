//! A process that is killed has kept what it said was kept, and brings nothing back that it said was taken back.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nearkin::cache::{Inserted, Invalidate, Policies, Reach, SemanticCache, Which};
use nearkin::core::mix::stream;

use super::{TestClock, entry, hash, identity, open, seams, settings, vector};
use nearkin::store::disk::FileDisk;

/// Where the child is told to work.
const FOLDER: &str = "NEARKIN_TEST_KILLED_CACHE";

/// What kill tests run in a process of its own; does nothing when it is run as a test.
#[test]
fn a_cache_that_is_to_be_killed_says_what_it_kept_and_took_back() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let cache = open(Path::new(&folder), Policies::default(), &Arc::default());
    let ann = identity("ann");
    let mut out = std::io::stderr();
    for n in 0.. {
        // The parent sees nothing of what the harness captures.
        let question = stream(cache.stats().n_entries, n) % 500;
        if n % 3 == 2 {
            let which = Which::Exact(hash(question));
            let invalidate = Invalidate { reach: Reach::Tenant("ann".into()), which };
            writeln!(out, "took {question}").unwrap();
            cache.invalidate(&invalidate).unwrap();
            writeln!(out, "gone {question}").unwrap();
        } else {
            writeln!(out, "keeps {question}").unwrap();
            let inserted = cache.insert(entry(&ann, question)).unwrap();
            assert!(matches!(inserted, Inserted::New(_)), "{inserted:?}");
            writeln!(out, "kept {question}").unwrap();
        }
    }
}

fn kill(n_kills: u64) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("c");
    let clock = Arc::<TestClock>::default();
    let made = seams(Arc::new(FileDisk), &clock);
    drop(SemanticCache::create(&folder, settings(), Policies::default(), made).unwrap());
    let ann = identity("ann");
    let (mut kept, mut n_said) = (BTreeSet::new(), 0);
    for round in 0..n_kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("cache::kill::a_cache_that_is_to_be_killed_says_what_it_kept_and_took_back")
            .env(FOLDER, &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let last = 4 + stream(n_kills, round) % 60;
        let (mut n_lines, mut unsure) = (0, None);
        for line in lines {
            let (word, question) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            let question: u64 = question.parse().unwrap_or_else(|_| panic!("{line}"));
            unsure = Some(question);
            match word {
                "kept" => drop(kept.insert(question)),
                "gone" => drop(kept.remove(&question)),
                _ => {}
            }
            if matches!(word, "kept" | "gone") {
                unsure = None;
            }
            n_lines += 1;
            if n_lines == last {
                // Somewhere in what is done by now.
                (0..stream(round, 1) % 200_000).for_each(|_| std::hint::spin_loop());
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        n_said += n_lines;
        let cache = open(&folder, Policies::default(), &clock);
        for question in 0..500 {
            let asked = vector(question);
            let text = format!("question {question}");
            let lookup = nearkin::cache::Lookup::new(&ann, hash(question), &text, Some(&asked));
            let found = cache.lookup(&lookup).unwrap();
            if let Some(hit) = found.hit() {
                assert_eq!(hit.answer.bytes, format!("answer {question}").into_bytes());
            }
            if unsure == Some(question) {
                if found.hit().is_some() {
                    kept.insert(question)
                } else {
                    kept.remove(&question)
                };
            }
            let is_kept = kept.contains(&question);
            assert_eq!(found.hit().is_some(), is_kept, "round {round}, question {question}");
        }
    }
    println!("{n_kills} kills, {n_said} lines, {} kept", kept.len());
}

#[test]
fn twenty_kills_bring_nothing_back() {
    kill(20);
}

#[test]
#[ignore = "takes minutes"]
fn two_hundred_kills_bring_nothing_back() {
    kill(200);
}
