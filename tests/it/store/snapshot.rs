//! A snapshot is one point in time; what is restored is all of it, or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nearkin::ErrorKind;
use nearkin::core::ids::PointId;
use nearkin::store::Identity;
use nearkin::store::disk::{Disk, FileDisk};
use nearkin::store::durable::{Durable, Op, Parts, RECORD, Upsert};
use nearkin::store::sealed::SealedWriter;
use nearkin::store::snapshot::{MANIFEST, Manifest, Method, restore, take};
use nearkin::store::verify::verify;

use crate::store::history::{Draw, Model, apply};
use crate::support::faulty_disk::{Calls, Fault, FaultyDisk};

fn seal(disk: &dyn Disk, folder: &Path, version: u64) {
    let identity = Identity { kind: "graph", owner: 7, version };
    let path = folder.join("graph.sealed");
    let mut writer = SealedWriter::create(disk, &path, identity, 1).unwrap();
    writer.section::<u32>("links", &[1000]).unwrap();
    writer.append(&(0..1000).collect::<Vec<u32>>()).unwrap();
    writer.finish().unwrap();
}

/// A collection of some batches with one sealed file.
fn filled(disk: Arc<dyn Disk>, folder: &Path) -> (Durable, Model) {
    let store = Durable::create(Arc::clone(&disk), folder, 7, b"{}").unwrap();
    let mut model = Model::with_tenants(&store, 3);
    let mut draw = Draw::new(4);
    for _ in 0..4 {
        apply(&store, &draw.batch(&mut model, 40)).unwrap();
    }
    seal(&*disk, folder, 2);
    (store, model)
}

fn on_disk() -> (tempfile::TempDir, PathBuf, Durable, Model) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("c");
    let (store, model) = filled(Arc::new(FileDisk), &folder);
    (dir, folder, store, model)
}

#[test]
fn a_snapshot_is_restored_as_it_was_taken_and_overwrites_nothing() {
    for method in [Method::Link, Method::Copy] {
        let (dir, folder, store, model) = on_disk();
        let (target, back) = (dir.path().join("snapshot"), dir.path().join("back"));
        let taken = take(&store, &target, method).unwrap();
        let version = store.view().unwrap().version();
        assert_eq!((taken.manifest.version, taken.manifest.owner), (version, 7));
        assert!(taken.copied.is_empty() && taken.left_out.is_empty());
        store.apply(&[Op::Remove { id: *model.points.keys().next().unwrap() }]).unwrap();

        let verified = verify(&FileDisk, &target).unwrap();
        assert!(verified.damages.is_empty(), "{verified:?}");
        assert_eq!(verified.files.len(), 3);
        assert_eq!(restore(&FileDisk, &target, &back).unwrap(), taken.manifest);
        let restored = Durable::open(Arc::new(FileDisk), &back).unwrap();
        let view = restored.view().unwrap();
        assert_eq!((Model::of(&view), view.version()), (model, version));
        assert!(
            view.changes_since(2).unwrap().is_some(),
            "the sealed file can be brought up to date"
        );
        assert_eq!(
            fs::read(folder.join("graph.sealed")).unwrap(),
            fs::read(back.join("graph.sealed")).unwrap()
        );

        for error in [
            take(&store, &target, method).unwrap_err(),
            restore(&FileDisk, &target, &back).unwrap_err(),
            restore(&FileDisk, &target, &folder).unwrap_err(),
        ] {
            assert_eq!((error.code(), error.kind()), ("output_exists", ErrorKind::Usage));
        }
        assert_eq!(FileDisk.list(dir.path()).unwrap(), ["back", "c", "snapshot"]);
    }
}

#[test]
fn snapshots_taken_while_writing_are_each_one_version() {
    let dir = tempfile::tempdir().unwrap();
    let store = Durable::create(Arc::new(FileDisk), &dir.path().join("c"), 7, b"{}").unwrap();
    let write = |n: u64| {
        let payload = n.to_le_bytes();
        let ops: Vec<Op<'_>> = (0..n % 50 + 1)
            .map(|id| {
                let id = PointId::Num(id);
                Op::Upsert(Upsert { id, payload: &payload, vectors: &[], tenants: &[] })
            })
            .chain((n % 50 + 1..50).map(|id| Op::Remove { id: PointId::Num(id) }))
            .collect();
        store.apply(&ops).unwrap();
    };
    write(1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 1;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                write(n);
            }
        });
        for round in 0..8 {
            let (target, back) =
                (dir.path().join(format!("s{round}")), dir.path().join(format!("r{round}")));
            let taken = take(&store, &target, Method::Link).unwrap();
            restore(&FileDisk, &target, &back).unwrap();
            let restored = Durable::open(Arc::new(FileDisk), &back).unwrap();
            let view = restored.view().unwrap();
            let version = view.version();
            assert_eq!(version, taken.manifest.version);
            let points: Vec<_> =
                view.points(None, Parts::All).unwrap().map(Result::unwrap).collect();
            assert_eq!(points.len() as u64, version % 50 + 1);
            assert!(points.iter().all(|point| point.payload == version.to_le_bytes()));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_snapshot_that_is_not_whole_is_refused_and_leaves_no_collection() {
    let (dir, _folder, store, _model) = on_disk();
    let target = dir.path().join("snapshot");
    take(&store, &target, Method::Copy).unwrap();
    let back = dir.path().join("back");
    let mut draw = Draw::new(8);
    for name in [MANIFEST, "graph.sealed", RECORD] {
        let path = target.join(name);
        let bytes = fs::read(&path).unwrap();
        let step = if name == MANIFEST { 1 } else { bytes.len() / 40 };
        for n in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[n] ^= 1 << draw.below(8);
            for damaged in [&bytes[..n], &flipped] {
                fs::write(&path, damaged).unwrap();
                let error = restore(&FileDisk, &target, &back).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} {n}: {error}");
                assert!(!back.exists());
            }
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(restore(&FileDisk, &target, &back).unwrap_err().code(), "not_found");
        fs::write(&path, bytes).unwrap();
    }
    restore(&FileDisk, &target, &back).unwrap();
}

#[test]
fn a_manifest_that_leads_elsewhere_is_refused() {
    let (dir, _folder, store, _model) = on_disk();
    let target = dir.path().join("snapshot");
    take(&store, &target, Method::Copy).unwrap();
    let path = target.join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    let list = text.lines().next().unwrap();
    let code = |list: &str| {
        let hash = xxhash_rust::xxh3::xxh3_64(list.as_bytes());
        fs::write(&path, format!("{list}\n{hash:016x}\n")).unwrap();
        let manifest = Manifest::read(&FileDisk, &target);
        assert_eq!(manifest.is_err(), restore(&FileDisk, &target, &dir.path().join("b")).is_err());
        let _ = fs::remove_dir_all(dir.path().join("b"));
        manifest.err().map(|error| error.code())
    };
    assert_eq!(code(list), None);
    for name in
        ["../graph.sealed", "/graph.sealed", "a/graph.sealed", ".sealed", RECORD, "x.exe", ""]
    {
        assert_eq!(code(&list.replace("graph.sealed", name)), Some("snapshot_entry"), "{name:?}");
    }
    assert_eq!(code(&list.replace(RECORD, "other.sealed")), Some("snapshot_entry"));
    assert_eq!(code(&list.replace("\"format\":1", "\"format\":2")), Some("format_newer"));
    assert_eq!(
        code(&list.replace("\"format\":1", "\"format\":1,\"x\":0")),
        Some("snapshot_manifest")
    );
    assert_eq!(code("[]"), Some("snapshot_manifest"));
}

#[test]
fn a_power_cut_while_a_snapshot_is_taken_or_restored_leaves_it_whole_or_not_there() {
    let folder = Path::new("/data/c");
    let (target, back) = (Path::new("/data/snapshot"), Path::new("/data/back"));
    let work = |fault: Option<u64>| {
        let disk = FaultyDisk::with_folder(Path::new("/data"));
        let (store, model) = filled(Arc::new(disk.clone()), folder);
        let before = disk.n_calls();
        let fault = fault.map(|n| Fault {
            calls: Calls::All,
            from: before + n,
            n: u64::MAX,
            kind: io::ErrorKind::Other,
        });
        disk.set_fault(fault);
        let taken = take(&store, target, Method::Link).is_ok();
        let restored = taken && restore(&disk, target, back).is_ok();
        (disk.n_calls() - before, disk, model, taken, restored)
    };
    let n_calls = work(None).0;
    assert!(n_calls > 30, "{n_calls}");
    for n in 1..=n_calls + 1 {
        let (_, disk, model, taken, restored) = work(Some(n));
        assert_eq!(restored, n > n_calls);
        for seed in 0..3 {
            let left = disk.cut(n * 3 + seed);
            let open = |path| Durable::open(Arc::new(left.clone()), path);
            assert_eq!(Model::of(&open(folder).unwrap().view().unwrap()), model, "call {n}");
            for (path, acknowledged) in [(target, taken), (back, restored)] {
                let is_there = left.entry(path).unwrap().is_some();
                assert!(is_there || !acknowledged, "call {n}: {} is gone", path.display());
                if is_there {
                    let verified = verify(&left, path).unwrap();
                    assert!(verified.damages.is_empty(), "call {n}: {verified:?}");
                }
            }
            // What an attempt left is no hindrance to the next.
            let store = open(folder).unwrap();
            if left.entry(target).unwrap().is_none() {
                take(&store, target, Method::Link).unwrap();
            }
        }
    }
}

#[test]
fn verify_names_the_file_the_place_and_what_is_lost_and_changes_nothing() {
    let (_dir, folder, store, model) = on_disk();
    assert_eq!(verify(&FileDisk, &folder).unwrap_err().kind(), ErrorKind::Locked);
    drop(store);
    let record = folder.join(RECORD);
    let bytes = fs::read(&record).unwrap();
    let verified = verify(&FileDisk, &folder).unwrap();
    assert!(verified.damages.is_empty(), "{verified:?}");
    assert_eq!(fs::read(&record).unwrap(), bytes);

    // The longest payload is there once as it is now, and damage of it is damage of one point.
    let (id, held) = model.points.iter().max_by_key(|(_, held)| held.payload.len()).unwrap();
    let sample = &held.payload[..64];
    let places: Vec<usize> =
        bytes.windows(64).enumerate().filter(|(_, w)| *w == sample).map(|(at, _)| at).collect();
    let mut damaged = bytes.clone();
    places.iter().for_each(|&at| damaged[at + 5] ^= 1);
    fs::write(&record, &damaged).unwrap();
    let damages = verify(&FileDisk, &folder).unwrap().damages;
    let lost = format!("payload of point {id}");
    let found = damages.iter().find(|damage| damage.lost == lost);
    let found = found.unwrap_or_else(|| panic!("{lost}: {damages:?}"));
    assert_eq!(found.file, RECORD);
    let is_near = |&at: &usize| (found.offset..found.offset + (1 << 20)).contains(&(at as u64));
    assert!(places.iter().any(is_near), "{found:?} {places:?}");
    assert_eq!(fs::read(&record).unwrap(), damaged);
    fs::write(&record, bytes).unwrap();

    let graph = folder.join("graph.sealed");
    let mut sealed = fs::read(&graph).unwrap();
    sealed[2000] ^= 1;
    fs::write(&graph, sealed).unwrap();
    fs::write(folder.join("notes.txt"), "x").unwrap();
    let verified = verify(&FileDisk, &folder).unwrap();
    assert_eq!(verified.others, ["notes.txt"]);
    let [damage] = &verified.damages[..] else { panic!("{verified:?}") };
    assert_eq!((damage.file.as_str(), damage.offset), ("graph.sealed", 256));
    fs::write(&record, "").unwrap();
    let verified = verify(&FileDisk, &folder).unwrap();
    assert!(verified.damages.iter().any(|damage| damage.file == RECORD), "{verified:?}");
    fs::remove_file(&record).unwrap();
    let verified = verify(&FileDisk, &folder).unwrap();
    let missing = verified.damages.iter().find(|damage| damage.file == RECORD).unwrap();
    assert_eq!((missing.what.as_str(), missing.lost.as_str()), ("it is missing", "everything"));
}
