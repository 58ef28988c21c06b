//! A collection is what a map would be, over any history, and its index can be brought up to date.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nearkin::ErrorKind;
use nearkin::core::ids::{PointId, TenantId};
use nearkin::store::disk::FileDisk;
use nearkin::store::durable::{Change, Durable, Op, Parts, Recovery, Upsert, View};
use nearkin::store::verify::verify;

use crate::store::history::{Draw, Model, Step, apply};

fn create(folder: &Path) -> Durable {
    Durable::create(Arc::new(FileDisk), folder, 7, b"{}").unwrap()
}

fn open(folder: &Path) -> Durable {
    Durable::open(Arc::new(FileDisk), folder).unwrap()
}

/// What an index would hold: of each slot its point, its vectors, its tenants.
type Index = BTreeMap<u32, (PointId, u32, Vec<(String, Vec<u8>)>, Vec<TenantId>)>;

fn index(view: &View) -> Index {
    let points = view.points_by_slot(0, Parts::Vectors).unwrap().map(Result::unwrap);
    points.map(|p| (p.slot, (p.id, p.generation, p.vectors, p.tenants))).collect()
}

#[test]
fn a_collection_is_what_a_map_would_be_after_any_history() {
    for seed in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("collection");
        let mut store = create(&folder);
        if seed % 2 == 1 {
            store = store.with_recovery(Recovery::Noted);
        }
        let mut model = Model::with_tenants(&store, 5);
        let mut draw = Draw::new(seed);
        let (mut held, mut held_version) = (Index::new(), 0);
        for step in 0..60 {
            let mut next = model.clone();
            let batch = draw.batch(&mut next, 80);
            let applied = apply(&store, &batch).unwrap();
            model = next;
            if draw.below(8) == 0 {
                drop(store);
                store = open(&folder);
            }
            let view = store.view().unwrap();
            assert_eq!(view.version(), applied.version);
            assert_eq!(Model::of(&view), model, "seed {seed}, step {step}");
            if draw.below(6) == 0 {
                let changes = view.changes_since(held_version).unwrap().unwrap();
                let slots: Vec<u32> =
                    changes.iter().filter(|c| c.row || c.tenants).map(|c| c.slot).collect();
                for (slot, point) in
                    slots.iter().zip(view.get_slots(&slots, Parts::Vectors).unwrap())
                {
                    match point {
                        Some(p) => held.insert(*slot, (p.id, p.generation, p.vectors, p.tenants)),
                        None => held.remove(slot),
                    };
                }
                held_version = view.version();
                assert_eq!(held, index(&view), "seed {seed}, step {step}");
            }
            if draw.below(20) == 0 {
                store.sealed_at(held_version).unwrap();
                let view = store.view().unwrap();
                assert!(view.changes_since(held_version).unwrap().is_some());
                if held_version > 0 {
                    assert!(view.changes_since(held_version - 1).unwrap().is_none());
                }
            }
        }
        drop(store);
        let verified = verify(&FileDisk, &folder).unwrap();
        assert!(verified.damages.is_empty(), "seed {seed}: {verified:?}");
    }
}

#[test]
fn a_batch_with_one_refused_operation_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir.path().join("c"));
    let mut model = Model::with_tenants(&store, 2);
    let first = Draw::new(1).batch(&mut model, 50);
    apply(&store, &first).unwrap();
    let version = store.view().unwrap().version();
    let (absent, unknown) = (PointId::Num(1 << 40), TenantId(99));
    let present = PointId::Num(1 << 41);
    let good = Upsert { id: present, payload: b"{}", vectors: &[("", &[1, 2])], tenants: &[] };
    let large = vec![0; 1 << 20 | 1];
    let (long, nobody) = ([("", Some(large.as_slice()))], [unknown]);
    let refused: Vec<(Op<'_>, &str, ErrorKind)> = vec![
        (Op::Upsert(good), "id_duplicate", ErrorKind::BadInput),
        (Op::SetPayload { id: absent, payload: b"" }, "id_not_found", ErrorKind::NotFound),
        (Op::SetVectors { id: absent, vectors: &[] }, "id_not_found", ErrorKind::NotFound),
        (Op::Grant { id: absent, tenant: TenantId(0) }, "id_not_found", ErrorKind::NotFound),
        (Op::Grant { id: present, tenant: unknown }, "tenant_not_found", ErrorKind::NotFound),
        (Op::Revoke { id: present, tenant: unknown }, "tenant_not_found", ErrorKind::NotFound),
        (Op::DropTenant { tenant: unknown }, "tenant_not_found", ErrorKind::NotFound),
        (Op::SetPayload { id: present, payload: &large }, "payload_size", ErrorKind::Limit),
        (Op::SetVectors { id: present, vectors: &long }, "vector_size", ErrorKind::Limit),
        (
            Op::Upsert(Upsert { id: absent, vectors: &[("a", &[1]), ("a", &[2])], ..good }),
            "vector_name_duplicate",
            ErrorKind::BadInput,
        ),
        (
            Op::Upsert(Upsert { id: absent, tenants: &nobody, ..good }),
            "tenant_not_found",
            ErrorKind::NotFound,
        ),
    ];
    for (op, code, kind) in refused {
        let error = store.apply(&[Op::Upsert(good), op]).unwrap_err();
        assert_eq!((error.code(), error.kind()), (code, kind), "{op:?}");
        let view = store.view().unwrap();
        assert_eq!(view.version(), version, "{op:?}");
        assert_eq!(Model::of(&view), model, "{op:?}");
    }
    assert!(store.failure().is_none());
    let applied = store.apply(&[Op::Remove { id: absent }]).unwrap();
    assert_eq!((applied.version, applied.n_removed), (version, 0), "nothing was to be done");
}

#[test]
fn a_slot_is_used_again_with_another_generation() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir.path().join("c"));
    let upsert = |id| Op::Upsert(Upsert { id, payload: b"", vectors: &[], tenants: &[] });
    let at = |id| {
        let point = store.view().unwrap().get(&[id], Parts::None).unwrap().remove(0).unwrap();
        (point.slot, point.generation)
    };
    let [a, b, c] = [1, 2, 3].map(PointId::Num);
    store.apply(&[upsert(a), upsert(b)]).unwrap();
    assert_eq!((at(a), at(b)), ((0, 0), (1, 0)));
    store.apply(&[Op::Remove { id: a }, upsert(c)]).unwrap();
    assert_eq!(at(c), (0, 1));
    store.apply(&[Op::Remove { id: c }]).unwrap();
    store.apply(&[upsert(a)]).unwrap();
    assert_eq!(at(a), (0, 2));
    store.apply(&[upsert(a)]).unwrap();
    assert_eq!(at(a), (0, 2), "a point that is stored again keeps its slot");
    assert_eq!(store.view().unwrap().n_slots().unwrap(), 2);
    let changes = store.view().unwrap().changes_since(4).unwrap().unwrap();
    assert_eq!(changes, [Change { slot: 0, row: true, payload: true, tenants: true }]);
    let error = store.view().unwrap().changes_since(6).unwrap_err();
    assert_eq!(error.code(), "version_ahead");
}

#[test]
fn a_load_is_what_batches_would_have_been_in_few_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir.path().join("c"));
    let tenants = store.tenants(&["a", "b", "a"]).unwrap();
    assert_eq!(tenants, [TenantId(0), TenantId(1), TenantId(0)]);
    let n = 25_000u64;
    let payloads: Vec<Vec<u8>> = (0..n).map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
    let mut loader = store.load();
    for start in (0..n).step_by(500) {
        let vectors: Vec<[u8; 8]> = (start..start + 500).map(u64::to_le_bytes).collect();
        let named: Vec<[(&str, &[u8]); 1]> = vectors.iter().map(|v| [("", v.as_slice())]).collect();
        let points: Vec<Upsert<'_>> = (start..start + 500)
            .zip(&named)
            .map(|(n, vectors)| Upsert {
                id: PointId::Num(n),
                payload: &payloads[n as usize],
                vectors,
                tenants: &tenants[..(n % 3) as usize],
            })
            .collect();
        loader.push(&points).unwrap();
        assert_eq!(loader.n_committed(), (start + 500) / 10_000 * 10_000);
    }
    assert_eq!(loader.finish().unwrap().version, 3);
    let view = store.view().unwrap();
    let model = Model::of(&view);
    assert_eq!(model.points.len(), 25_000);
    assert_eq!(model.points[&PointId::Num(24_998)].payload, b"{\"n\":24998}");
    assert_eq!(view.changes_since(0).unwrap().unwrap().len(), 25_000);

    let again = Upsert { id: PointId::Num(3), payload: b"2", vectors: &[], tenants: &[] };
    let mut loader = store.load();
    loader.push(&[again]).unwrap();
    assert_eq!(loader.push(&[again]).unwrap_err().code(), "id_duplicate");
    drop(loader);
    assert_eq!(Model::of(&store.view().unwrap()), model, "a load that failed left nothing");
    let mut loader = store.load();
    loader.push(&[again]).unwrap();
    loader.finish().unwrap();
    assert_eq!(
        store.view().unwrap().get(&[again.id], Parts::All).unwrap()[0].as_ref().unwrap().payload,
        b"2"
    );
}

#[test]
fn points_are_listed_from_any_id_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir.path().join("c"));
    let ids: Vec<PointId> = (0..40)
        .map(|n| if n % 2 == 0 { PointId::Num(n * 7) } else { PointId::Uuid(u128::from(n)) })
        .collect();
    let ops: Vec<Op<'_>> = ids
        .iter()
        .map(|&id| Op::Upsert(Upsert { id, payload: b"p", vectors: &[("v", b"1")], tenants: &[] }))
        .collect();
    store.apply(&ops).unwrap();
    let view = store.view().unwrap();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    for from in [PointId::Num(0), PointId::Num(100), PointId::Num(u64::MAX), PointId::Uuid(9)] {
        let listed: Vec<PointId> =
            view.points(Some(from), Parts::None).unwrap().map(|p| p.unwrap().id).collect();
        let expected: Vec<PointId> = sorted.iter().copied().filter(|&id| id >= from).collect();
        assert_eq!(listed, expected, "{from}");
    }
    for (parts, has) in [
        (Parts::None, (false, false)),
        (Parts::Payload, (true, false)),
        (Parts::Vectors, (false, true)),
        (Parts::All, (true, true)),
    ] {
        let point = view.get(&ids[..1], parts).unwrap().remove(0).unwrap();
        assert_eq!((!point.payload.is_empty(), !point.vectors.is_empty()), has, "{parts:?}");
    }
    assert_eq!(view.slots_of(&[ids[5], PointId::Num(1)]).unwrap(), [Some(5), None]);
    assert_eq!(view.vector_names(), ["v"]);
}

#[test]
fn readers_see_one_version_while_a_writer_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir.path().join("c"));
    // Every batch gives all points the same payload, so that a reader between two would see.
    let write = |n: u64| {
        let payload = n.to_le_bytes();
        let vectors: [(&str, &[u8]); 1] = [("", &payload)];
        let ops: Vec<Op<'_>> = (0..50)
            .map(|id| {
                let id = PointId::Num(id);
                Op::Upsert(Upsert { id, payload: &payload, vectors: &vectors, tenants: &[] })
            })
            .collect();
        store.apply(&ops).unwrap().version
    };
    write(1);
    let (done, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let view = store.view().unwrap();
                    let points: Vec<_> =
                        view.points(None, Parts::All).unwrap().map(Result::unwrap).collect();
                    assert_eq!(points.len(), 50);
                    for point in points {
                        assert_eq!(point.payload, view.version().to_le_bytes());
                        assert_eq!(point.version, view.version());
                        assert_eq!(point.vectors[0].1, point.payload);
                    }
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut n = 1;
        while seen.load(Ordering::Relaxed) < 60 || n < 40 {
            n += 1;
            assert_eq!(write(n), n);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn many_writers_at_once_are_applied_one_after_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = create(&dir.path().join("c"));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..10 {
                    let id = PointId::Num(writer * 100 + n);
                    let upsert = Upsert { id, payload: b"x", vectors: &[], tenants: &[] };
                    store.apply(&[Op::Upsert(upsert)]).unwrap();
                }
            });
        }
    });
    let view = store.view().unwrap();
    assert_eq!((view.version(), view.n_points().unwrap()), (40, 40));
}

#[test]
fn a_second_opener_is_told_who_has_the_folder_and_none_once_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("c");
    let store = create(&folder);
    let error = Durable::open(Arc::new(FileDisk), &folder).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let text = error.to_string();
    let holder = format!("process {}", std::process::id());
    assert!(text.contains(&*folder.to_string_lossy()) && text.contains(&holder), "{text}");
    drop(store);
    let wins = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let racers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Durable::open(Arc::new(FileDisk), &folder))).collect();
        let opened: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        for result in &opened {
            match result {
                Ok(_) => wins.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    assert_eq!(error.code(), "locked");
                    0
                }
            };
        }
    });
    assert_eq!(wins.load(Ordering::Relaxed), 1);
    let again = Durable::create(Arc::new(FileDisk), &folder, 1, b"").err().unwrap();
    assert_eq!(again.code(), "output_exists");
}

#[test]
fn configuration_and_tenants_are_kept_and_dropped_tenants_are_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("c");
    let store = create(&folder);
    store.set_config(b"{\"metric\":\"cosine\"}").unwrap();
    let [a, b] = store.tenants(&["a", "b"]).unwrap()[..] else { panic!("two were asked for") };
    let model = Model::with_tenants(&store, 0);
    assert!(model.points.is_empty());
    apply(&store, &[Step::DropTenant(a)]).unwrap();
    drop(store);
    let store = open(&folder);
    let view = store.view().unwrap();
    assert_eq!(view.config().unwrap(), b"{\"metric\":\"cosine\"}");
    assert_eq!((view.owner().unwrap(), view.tenant("a").unwrap()), (7, None));
    assert_eq!(view.tenant_facts(b).unwrap(), Some(("b".to_owned(), 0)));
    assert_eq!(store.tenants(&["a"]).unwrap(), [TenantId(2)]);
    assert_eq!(store.tenants(&[""]).unwrap_err().code(), "tenant_name");
}
