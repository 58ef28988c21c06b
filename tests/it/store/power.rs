//! After a power cut at any moment a collection is what it was before or after the batch in flight.

use std::io;
use std::path::Path;
use std::sync::Arc;

use nearkin::store::Identity;
use nearkin::store::durable::{Durable, Recovery};
use nearkin::store::sealed::{Sealed, SealedWriter};

use crate::store::history::{Draw, Model, apply};
use crate::support::faulty_disk::{Calls, Fault, FaultyDisk};

const FOLDER: &str = "/data/collection";

fn new_disk() -> FaultyDisk {
    FaultyDisk::with_folder(Path::new("/data"))
}

fn cut_at(n: u64) -> Fault {
    Fault { calls: Calls::All, from: n, n: u64::MAX, kind: io::ErrorKind::Other }
}

/// How far a history came before the power went.
struct Reached {
    /// The collection was made, and what it was told to make.
    created: bool,
    /// After what was acknowledged, with its version.
    acknowledged: (u64, Model),
    /// With the batch in flight too.
    in_flight: Option<Model>,
}

/// The history of a seed, until a call fails.
fn run(disk: &FaultyDisk, seed: u64, n_batches: usize) -> Reached {
    let mut draw = Draw::new(seed);
    let mut reached =
        Reached { created: false, acknowledged: (0, Model::default()), in_flight: None };
    let Ok(store) = Durable::create(Arc::new(disk.clone()), Path::new(FOLDER), 7, b"{}") else {
        return reached;
    };
    let recovery = if seed.is_multiple_of(2) { Recovery::Noted } else { Recovery::Read };
    let store = store.with_recovery(recovery);
    reached.created = true;
    let names = ["a", "b", "c"];
    let mut made = Model::default();
    for (id, name) in names.iter().enumerate() {
        made.tenants.insert(nearkin::core::ids::TenantId(id as u32), (*name).to_owned());
    }
    reached.in_flight = Some(made.clone());
    if store.tenants(&names).is_err() {
        return reached;
    }
    reached.acknowledged.1 = made;
    for _ in 0..n_batches {
        let mut next = reached.acknowledged.1.clone();
        let batch = draw.batch(&mut next, 40);
        reached.in_flight = Some(next.clone());
        match apply(&store, &batch) {
            Ok(applied) => reached.acknowledged = (applied.version, next),
            Err(_) => return reached,
        }
    }
    reached.in_flight = None;
    reached
}

/// Opens what is left, and checks that it is what it may be. Returns what it is.
fn check(disk: &FaultyDisk, reached: &Reached, what: &str) -> Option<(Durable, Model)> {
    let store = match Durable::open(Arc::new(disk.clone()), Path::new(FOLDER)) {
        Ok(store) => store,
        Err(error) => {
            assert!(!reached.created && error.code() == "not_found", "{what}: {error}");
            Durable::create(Arc::new(disk.clone()), Path::new(FOLDER), 7, b"{}").unwrap();
            return None;
        }
    };
    let view = store.view().unwrap();
    let found = Model::of(&view);
    let (version, acknowledged) = &reached.acknowledged;
    if found == *acknowledged {
        assert!([*version, version + 1].contains(&view.version()), "{what}");
    } else {
        assert_eq!(Some(&found), reached.in_flight.as_ref(), "{what}");
        assert!([*version, version + 1].contains(&view.version()), "{what}");
    }
    assert!(view.changes_since(*version).unwrap().is_some(), "{what}");
    Some((store, found))
}

/// Cuts the power, opens, cuts the power during that as well, opens, and goes on.
fn cut_and_check(disk: &FaultyDisk, reached: &Reached, seed: u64, what: &str) {
    let left = disk.cut(seed);
    let mut draw = Draw::new(seed ^ 0xc0ffee);
    let at = draw.below(12) + 1;
    left.set_fault(Some(cut_at(at)));
    drop(Durable::open(Arc::new(left.clone()), Path::new(FOLDER)));
    let twice = left.cut(seed + 1);
    let what = format!("{what}, cut {seed}, second cut at call {at}");
    let Some((store, mut model)) = check(&twice, reached, &what) else { return };
    for _ in 0..2 {
        let batch = draw.batch(&mut model, 40);
        apply(&store, &batch).unwrap();
        assert_eq!(Model::of(&store.view().unwrap()), model, "{what}");
    }
    drop(store);
    let store = Durable::open(Arc::new(twice), Path::new(FOLDER)).unwrap();
    assert_eq!(Model::of(&store.view().unwrap()), model, "{what}");
}

#[test]
fn a_power_cut_at_every_write_and_sync_leaves_what_was_before_or_after() {
    // Both ways of recovery.
    for history in [1, 2] {
        let disk = new_disk();
        run(&disk, history, 4);
        let n_calls = disk.n_calls();
        assert!(n_calls > 40, "{n_calls}");
        for n in 1..=n_calls {
            let disk = new_disk();
            disk.set_fault(Some(cut_at(n)));
            let reached = run(&disk, history, 4);
            for seed in 0..2 {
                let what = format!("history {history}, call {n}");
                cut_and_check(&disk, &reached, n * 8 + seed * 2, &what);
            }
        }
    }
}

#[test]
fn hundreds_of_histories_survive_power_cuts() {
    for seed in 0..300 {
        let mut draw = Draw::new(seed);
        let n_batches = 1 + draw.below(12) as usize;
        let disk = new_disk();
        disk.set_fault(Some(cut_at(10 + draw.below(60 + 12 * n_batches as u64))));
        let reached = run(&disk, seed, n_batches);
        for cut in 0..2 {
            cut_and_check(&disk, &reached, seed * 8 + cut * 2, &format!("history {seed}"));
        }
    }
}

#[test]
fn a_power_cut_while_a_file_is_sealed_leaves_the_old_one_or_the_new_one() {
    let path = Path::new("/data/graph.sealed");
    let seal = |disk: &FaultyDisk, version: u64| {
        let identity = Identity { kind: "graph", owner: 7, version };
        let mut writer = SealedWriter::create(disk, path, identity, 2)?;
        for name in ["links", "levels"] {
            writer.section::<u64>(name, &[3000])?;
            writer.append(&vec![version; 3000])?;
        }
        writer.finish()
    };
    let work = |fault: Option<u64>| {
        let disk = new_disk();
        seal(&disk, 1).unwrap();
        let before = disk.n_calls();
        disk.set_fault(fault.map(|n| cut_at(before + n)));
        let sealed = seal(&disk, 2).is_ok();
        (disk.n_calls() - before, disk, sealed)
    };
    let n_calls = work(None).0;
    for n in 1..=n_calls + 1 {
        let (_, disk, sealed) = work(Some(n));
        assert_eq!(sealed, n > n_calls);
        for seed in 0..20 {
            let left = disk.cut(n * 20 + seed);
            let expected = Identity { kind: "graph", owner: 7, version: 2 };
            let file = Sealed::open(&left, path, expected).unwrap();
            assert!(file.verify().unwrap().is_empty(), "call {n}, cut {seed}");
            let version = file.version();
            assert!(version == 2 || (version == 1 && !sealed), "call {n}, cut {seed}");
            assert_eq!(file.values::<u64>("levels").unwrap().0, vec![version; 3000]);
            seal(&left, 2).unwrap();
        }
    }
}

#[test]
fn on_a_disk_that_ignores_syncs_these_tests_would_fail() {
    let n_lost: u64 = (0..20)
        .map(|seed| {
            let disk = new_disk();
            disk.ignore_syncs();
            let reached = run(&disk, seed, 6);
            let left = disk.cut(seed);
            let found = Durable::open(Arc::new(left), Path::new(FOLDER))
                .and_then(|store| Ok(Model::of(&store.view()?)));
            u64::from(found.ok() != Some(reached.acknowledged.1))
        })
        .sum();
    assert!(n_lost > 5, "{n_lost}");
}
