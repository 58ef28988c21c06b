//! Disks that fail, fill up and rot; files that are something else.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use nearkin::ErrorKind;
use nearkin::store::disk::FileDisk;
use nearkin::store::durable::{Durable, Parts, RECORD, Recovery};
use nearkin::store::verify::verify;

use crate::store::history::{Draw, Model, apply};
use crate::support::faulty_disk::{Calls, Fault, FaultyDisk};

const FOLDER: &str = "/data/collection";

fn created() -> (FaultyDisk, Durable, Model) {
    let disk = FaultyDisk::with_folder(Path::new("/data"));
    let store = Durable::create(Arc::new(disk.clone()), Path::new(FOLDER), 7, b"{}").unwrap();
    let model = Model::with_tenants(&store, 3);
    (disk, store, model)
}

/// A collection after a few batches, and calls of the disk that two more take.
fn filled(seed: u64) -> (FaultyDisk, Durable, Model, Draw) {
    let (disk, store, mut model) = created();
    let recovery = if seed.is_multiple_of(2) { Recovery::Noted } else { Recovery::Read };
    let store = store.with_recovery(recovery);
    let mut draw = Draw::new(seed);
    for _ in 0..4 {
        let batch = draw.batch(&mut model, 40);
        apply(&store, &batch).unwrap();
    }
    (disk, store, model, draw)
}

#[test]
fn after_a_call_that_fails_nothing_is_acknowledged_and_reading_goes_on() {
    let n_calls = {
        let (disk, store, mut model, mut draw) = filled(3);
        let before = disk.n_calls();
        apply(&store, &draw.batch(&mut model, 40)).unwrap();
        disk.n_calls() - before
    };
    let mut n_failed = 0;
    for (calls, once) in
        [(Calls::Writes, true), (Calls::Writes, false), (Calls::Syncs, true), (Calls::Syncs, false)]
    {
        for n in 1..=n_calls {
            let (disk, store, model, mut draw) = filled(3);
            let from = disk.n_calls() + n;
            let n_fail = if once { 1 } else { u64::MAX };
            disk.set_fault(Some(Fault { calls, from, n: n_fail, kind: io::ErrorKind::Other }));
            let mut next = model.clone();
            let batch = draw.batch(&mut next, 40);
            let Err(error) = apply(&store, &batch) else { continue };
            n_failed += 1;
            assert_eq!((error.kind(), error.code()), (ErrorKind::Io, "store_failed"), "{error}");
            for _ in 0..3 {
                assert_eq!(apply(&store, &batch).unwrap_err().code(), "store_failed");
                assert_eq!(store.tenants(&["x"]).unwrap_err().code(), "store_failed");
            }
            assert_eq!(store.failure().unwrap().code(), "store_failed");
            let found = Model::of(&store.view().unwrap());
            assert!(found == model || found == next, "{calls:?} {n}");
            disk.set_fault(None);
            assert_eq!(apply(&store, &batch).unwrap_err().code(), "store_failed", "still");
            drop(store);
            for disk in [disk.cut(n), disk] {
                let store = Durable::open(Arc::new(disk), Path::new(FOLDER)).unwrap();
                let mut found = Model::of(&store.view().unwrap());
                assert!(found == model || found == next, "{calls:?} {n}");
                apply(&store, &draw.batch(&mut found, 40)).unwrap();
                assert_eq!(Model::of(&store.view().unwrap()), found);
            }
        }
    }
    assert!(n_failed > 20, "{n_failed}");
}

#[test]
fn a_disk_that_cannot_be_read_is_named() {
    let (disk, store, model, _) = filled(3);
    drop(store);
    let broken = Fault { calls: Calls::Reads, from: 0, n: 0, kind: io::ErrorKind::Other };
    disk.set_fault(Some(broken));
    let open = || Durable::open(Arc::new(disk.clone()), Path::new(FOLDER));
    let error = open().err().unwrap();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Io, "io"));
    assert!(error.to_string().contains("read /data/collection/record.redb"), "{error}");
    disk.set_fault(None);
    assert_eq!(Model::of(&open().unwrap().view().unwrap()), model);
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room_again() {
    let mut n_full = 0;
    for n in 1..60 {
        let (disk, store, mut model, mut draw) = filled(4 + n % 2);
        let from = disk.n_calls() + n;
        let full =
            Fault { calls: Calls::Writes, from, n: u64::MAX, kind: io::ErrorKind::StorageFull };
        disk.set_fault(Some(full));
        for _ in 0..3 {
            let mut next = model.clone();
            let batch = draw.batch(&mut next, 40);
            let Err(error) = apply(&store, &batch) else {
                model = next;
                continue;
            };
            n_full += 1;
            assert_eq!(error.code(), "disk_full", "{error}");
            // Where the last of two writes found no room, the batch is whole.
            let found = Model::of(&store.view().unwrap());
            assert!(found == model || found == next, "call {n}");
            model = found;
        }
        disk.set_fault(None);
        apply(&store, &draw.batch(&mut model, 40)).unwrap();
        assert_eq!(Model::of(&store.view().unwrap()), model);
        assert!(store.failure().is_none());
        drop(store);
        let store = Durable::open(Arc::new(disk.cut(n)), Path::new(FOLDER)).unwrap();
        assert_eq!(Model::of(&store.view().unwrap()), model);
    }
    assert!(n_full > 30, "{n_full}");
}

#[test]
fn a_bit_that_flips_is_reported_or_harmless_and_never_read_as_data() {
    let (mut n_reported, mut n_harmless) = (0, 0);
    for seed in 0..400 {
        let (disk, store, model, mut draw) = filled(seed % 8);
        drop(store);
        let path = Path::new(FOLDER).join(RECORD);
        // Most of a small record is room that it does not use.
        let used: Vec<u64> =
            (0..).zip(disk.bytes(&path)).filter(|(_, byte)| *byte != 0).map(|(at, _)| at).collect();
        let at = used[draw.below(used.len() as u64) as usize];
        disk.flip(&path, at, 1 << draw.below(8));
        let read = || -> nearkin::Result<Model> {
            let store = Durable::open(Arc::new(disk.clone()), Path::new(FOLDER))?;
            let view = store.view()?;
            let mut found = Model::default();
            for point in view.points(None, Parts::All)? {
                let point = point?;
                assert_eq!(Some(&point.payload), model.points.get(&point.id).map(|p| &p.payload));
                found.points.insert(point.id, model.points[&point.id].clone());
            }
            Ok(found)
        };
        let verified = verify(&disk, Path::new(FOLDER)).unwrap();
        match read() {
            Ok(found) => {
                assert_eq!(found.points.len(), model.points.len(), "seed {seed}, byte {at}");
                n_harmless += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                assert!(!verified.damages.is_empty(), "seed {seed}, byte {at}: {error}");
                n_reported += 1;
            }
        }
    }
    assert!(n_reported > 50 && n_harmless > 50, "{n_reported} reported, {n_harmless} harmless");
}

#[test]
fn files_that_are_no_record_are_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("c");
    let open = || Durable::open(Arc::new(FileDisk), &folder).err().unwrap();
    assert_eq!((open().code(), open().kind()), ("not_found", ErrorKind::NotFound));
    fs::create_dir(&folder).unwrap();
    assert_eq!(open().code(), "not_found");
    let record = folder.join(RECORD);
    for bytes in [b"".to_vec(), b"\x89PNG\r\n\x1a\n".repeat(2000), b"PNG".to_vec(), vec![0; 8192]] {
        fs::write(&record, &bytes).unwrap();
        let error = open();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("record.redb"), "{error}");
        assert_eq!(fs::read(&record).unwrap(), bytes);
    }
    fs::remove_file(&record).unwrap();
    std::os::unix::fs::symlink(&record, &record).unwrap();
    assert_eq!(open().code(), "file_type");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    assert_eq!(open().code(), "file_type");

    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = Durable::open(Arc::new(FileDisk), &file).err().unwrap();
    assert_eq!((error.code(), error.kind()), ("not_a_folder", ErrorKind::Io));
    let error = Durable::create(Arc::new(FileDisk), &file, 1, b"").err().unwrap();
    assert_eq!(error.code(), "not_a_folder");
    let around = dir.path().join("around");
    std::os::unix::fs::symlink(&around, &around).unwrap();
    let error = Durable::open(Arc::new(FileDisk), &around.join("c")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn a_record_of_another_length_is_refused_or_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("c");
    let store = Durable::create(Arc::new(FileDisk), &folder, 7, b"{}").unwrap();
    let mut model = Model::with_tenants(&store, 3);
    let mut draw = Draw::new(9);
    for _ in 0..8 {
        apply(&store, &draw.batch(&mut model, 60)).unwrap();
    }
    drop(store);
    let record = folder.join(RECORD);
    let bytes = fs::read(&record).unwrap();
    let mut n_refused = 0;
    for n in (0..400).chain((400..bytes.len()).step_by(bytes.len() / 150)) {
        fs::write(&record, &bytes[..n]).unwrap();
        match Durable::open(Arc::new(FileDisk), &folder) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{n}: {error}");
                n_refused += 1;
            }
            Ok(store) => assert_eq!(Model::of(&store.view().unwrap()), model, "{n}"),
        }
    }
    assert!(n_refused > 400, "{n_refused}");
    fs::write(&record, [bytes, vec![0; 10_000]].concat()).unwrap();
    let error = Durable::open(Arc::new(FileDisk), &folder).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn refusals_of_the_system_are_named() {
    for (kind, code) in [
        (io::ErrorKind::ReadOnlyFilesystem, "store_readonly"),
        (io::ErrorKind::PermissionDenied, "permission_denied"),
        (io::ErrorKind::StorageFull, "disk_full"),
        (io::ErrorKind::QuotaExceeded, "disk_full"),
    ] {
        let disk = FaultyDisk::with_folder(Path::new("/data"));
        disk.set_fault(Some(Fault { calls: Calls::Writes, from: 1, n: u64::MAX, kind }));
        let error = Durable::create(Arc::new(disk), Path::new(FOLDER), 7, b"").err().unwrap();
        assert_eq!((error.code(), error.kind()), (code, ErrorKind::Io), "{error}");
        assert!(error.to_string().contains(FOLDER), "{error}");
    }
}
