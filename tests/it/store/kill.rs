//! A process that is killed has lost nothing that it said was stored.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nearkin::core::ids::PointId;
use nearkin::store::disk::FileDisk;
use nearkin::store::durable::Durable;

use crate::store::history::{Draw, Held, Model, Step, apply};

/// Where the child is told to work.
const FOLDER: &str = "NEARKIN_TEST_KILLED_FOLDER";

/// Batch `n` of the history, which depends on nothing but the state before, and always changes something.
fn batch(n: u64, model: &mut Model) -> Vec<Step> {
    let mut steps = Draw::new(n).batch(model, 60);
    let held = Held { payload: n.to_le_bytes().to_vec(), ..Held::default() };
    let counter = Step::Upsert(PointId::Num(1 << 50), held);
    model.apply(&counter);
    steps.push(counter);
    steps
}

/// What kill tests run in a process of its own; does nothing when it is run as a test.
#[test]
fn a_writer_that_is_to_be_killed_says_what_it_stored() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = Durable::open(Arc::new(FileDisk), Path::new(&folder)).unwrap();
    let mut model = Model::of(&store.view().unwrap());
    for n in store.view().unwrap().version() + 1.. {
        let steps = batch(n, &mut model);
        let version = apply(&store, &steps).unwrap().version;
        // The parent sees nothing of what the harness captures.
        let mut out = std::io::stderr();
        writeln!(out, "stored {version} {n}").unwrap();
    }
}

fn kill(n_kills: u64) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("c");
    let store = Durable::create(Arc::new(FileDisk), &folder, 7, b"{}").unwrap();
    let mut model = Model::with_tenants(&store, 4);
    drop(store);
    let (mut version, mut n_stored) = (0, 0);
    let mut draw = Draw::new(n_kills);
    for round in 0..n_kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("store::kill::a_writer_that_is_to_be_killed_says_what_it_stored")
            .env(FOLDER, &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let wait_for = draw.below(6);
        let mut acknowledged = version;
        let mut killed = wait_for == 0;
        if killed {
            child.kill().unwrap();
        }
        for line in lines {
            let numbers: Vec<u64> =
                line.split(' ').skip(1).filter_map(|number| number.parse().ok()).collect();
            let [stored, _] = numbers[..] else { panic!("round {round}: {line}") };
            acknowledged = stored;
            n_stored += 1;
            if !killed && acknowledged >= version + wait_for {
                // Somewhere in the batch that is being stored by now.
                for _ in 0..draw.below(200_000) {
                    std::hint::spin_loop();
                }
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        let store = Durable::open(Arc::new(FileDisk), &folder).unwrap();
        let view = store.view().unwrap();
        let found = view.version();
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "round {round}: version {found}, {acknowledged} were acknowledged"
        );
        for n in version + 1..=found {
            batch(n, &mut model);
        }
        version = found;
        assert_eq!(Model::of(&view), model, "round {round}");
    }
    println!("{n_kills} kills, {n_stored} batches were acknowledged, {version} stored");
}

#[test]
fn twenty_kills_lose_nothing_that_was_acknowledged() {
    kill(20);
}

#[test]
#[ignore = "takes minutes"]
fn three_hundred_kills_lose_nothing_that_was_acknowledged() {
    kill(300);
}
