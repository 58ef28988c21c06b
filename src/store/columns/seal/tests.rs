//! Columns in files that are whole, changed, and damaged.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::{Value, json};

use crate::core::limits::INDEXED_FIELDS;
use crate::core::mix::stream;
use crate::core::slab::Memory;
use crate::error::{ErrorKind, Result};
use crate::store::Identity;
use crate::store::columns::bytes::put_count;
use crate::store::columns::field::{Column, Field};
use crate::store::columns::geo::Rectangle;
use crate::store::columns::indexed::Parts;
use crate::store::columns::number::Number;
use crate::store::columns::path::Path;
use crate::store::columns::presence::JsonType;
use crate::store::columns::seal::{DIRECTORY, Format, put_entry, section_name};
use crate::store::columns::{Columns, Kind};
use crate::store::disk::FileDisk;
use crate::store::mapped::Mapped;
use crate::store::sealed::{Sealed, SealedWriter};

const OWN: Identity<'_> = Identity { kind: "columns", owner: 7, version: 3 };

/// A value of any sort, alone or in an array.
fn value(seed: u64, n: u64) -> Value {
    let x = stream(seed, n);
    let one = |x: u64| match x % 9 {
        0 => Value::Null,
        1 => json!(x & 16 == 0),
        2 => json!((x >> 8) as i64 >> ((x >> 4) % 60)),
        3 => json!(u64::MAX - (x >> 60)),
        4 => json!((x >> 40) as f64 / 8.0 - 1e6),
        5 => json!({"lat": (x >> 8) as f64 % 90.0, "lon": (x >> 16) as f64 % 200.0}),
        6 => json!(format!("{:08x}-0000-4000-8000-{:012x}", x >> 60, 7)),
        7 => json!(format!("{:04}-05-31T12:00:00Z", 1990 + (x >> 60))),
        _ => json!(["red", "the red fox", "Ärger 数据", "", "blue the"][(x >> 32) as usize % 5]),
    };
    match x >> 61 {
        0 => json!([]),
        1 => json!([one(x), one(stream(x, 1)), one(stream(x, 2))]),
        _ => one(x),
    }
}

fn payload(seed: u64, n: u64) -> Value {
    json!({"v": value(seed, 2 * n), "w": [{"k": value(seed, 2 * n + 1)}]})
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn payloads(seed: u64, n_slots: u64) -> BTreeMap<u32, Value> {
    (0..n_slots).map(|n| (n as u32, payload(seed, n))).collect()
}

fn all(payloads: &BTreeMap<u32, Value>) -> impl Iterator<Item = Result<(u32, &Value)>> {
    payloads.iter().map(|(slot, payload)| Ok((*slot, payload)))
}

fn columns(payloads: &BTreeMap<u32, Value>) -> Columns {
    let mut columns = Columns::default();
    let kinds = Kind::all().map(|kind| (path("v"), kind));
    let fields: Vec<_> = kinds.chain([(path("w[].k"), Kind::Keyword)]).collect();
    columns.index(&fields, all(payloads)).unwrap();
    columns
}

fn seal(columns: &Columns, at: &FilePath) -> Result<()> {
    let mut writer = SealedWriter::create(&FileDisk, at, OWN, columns.n_sections())?;
    columns.seal(&mut writer)?;
    writer.finish()
}

/// Seals as builds before 2026-11-30 did.
fn seal_packed(columns: &Columns, at: &FilePath) {
    let mut writer = SealedWriter::create(&FileDisk, at, OWN, columns.n_sections()).unwrap();
    let mut directory = vec![Format::Packed as u8];
    put_count(&mut directory, columns.fields.len());
    for (n, (path, field)) in columns.fields.iter().enumerate() {
        let (bytes, parts) = packed(field.get().unwrap(), section_name(n));
        writer.section::<u8>(&parts.section, &[bytes.len() as u64]).unwrap();
        writer.append(&bytes[..]).unwrap();
        put_entry(&mut directory, path, &parts);
    }
    writer.section::<u8>(DIRECTORY, &[directory.len() as u64]).unwrap();
    writer.append(&directory).unwrap();
    writer.finish().unwrap();
}

fn packed(field: &Field, section: String) -> (Vec<u8>, Parts) {
    let mut bytes = Vec::new();
    field.presence.encode(&mut bytes);
    let presence = 0..bytes.len();
    let column = |(kind, column): (&Kind, &Column)| {
        let start = bytes.len();
        column.encode_packed(&mut bytes);
        (*kind, start..bytes.len())
    };
    let columns = field.columns.iter().map(column).collect();
    (bytes, Parts { section, presence, columns })
}

fn open(at: &FilePath) -> Result<Columns> {
    Columns::open(Arc::new(Sealed::open(&FileDisk, at, OWN)?))
}

fn sealed(columns: &Columns) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("columns.sealed");
    seal(columns, &at).unwrap();
    (dir, at)
}

/// What every question to the field is answered with; slots past the last are asked about as well.
fn answers(field: &Field) -> Vec<(RoaringBitmap, u64)> {
    let within: RoaringBitmap = (0..300).collect();
    let presence = field.presence();
    let mut found = vec![(presence.filled().clone(), 0), (presence.null().clone(), 0)];
    found.extend(JsonType::ALL.map(|kind| (presence.of_type(kind).clone(), 0)));
    for count in 0..4 {
        found.push((presence.counted(&(Bound::Included(count), Bound::Unbounded), &within), 0));
    }
    for column in field.columns() {
        match column {
            Column::Keyword(column) => {
                for word in ["red", "", "00000003-0000-4000-8000-000000000007"] {
                    let ids = column.find([word]);
                    found.push((column.any(&ids, &within), column.at_most(&ids)));
                    found.push((column.except(&ids), column.n_slots()));
                }
                let ids = column.matching(|word| word.contains("0"));
                found.push((column.any(&ids, &within), column.n_words()));
                found.push((column.any(&ids, &(0..2).collect()), column.at_most(&ids)));
            }
            Column::Number(column) | Column::Datetime(column) => {
                for n in 0..60 {
                    let [least, most] = [0, 1].map(|at| stream(5, 2 * n + at) as i64 >> (n % 60));
                    let number = |int: i64| Number::Int(int.into());
                    let interval = (Bound::Included(number(least)), Bound::Excluded(number(most)));
                    found.push((column.range(&interval, &within), column.n_slots()));
                    found.push((column.any(&[least.min(most), least.max(most)], &within), 0));
                    found.push((column.except(&[least], &within), 0));
                    let _ = (column.at_most(&interval), column.n_looked_at(9));
                }
            }
            Column::Bool(slots) => found.extend(slots.iter().map(|slots| (slots.clone(), 0))),
            Column::Geo(column) => {
                for n in 0..20 {
                    let (lat, lon) = (f64::from(n) * 4.0, f64::from(n) * 9.0);
                    let rectangle = Rectangle { lat: lat..=90.0, lon: -20.0..=lon };
                    let asked = column.inside(&[rectangle], &within, |point| point.lat >= lat);
                    found.push(asked);
                }
            }
            Column::Text(column) => {
                for query in ["the", "red", "the red", "Ärger 数据", "blue fox"] {
                    let ids = column.find(query);
                    found.push((column.all(&ids, &within).0, column.at_most_all(&ids)));
                    found.push((column.phrase(&ids, &within).0, column.at_most_any(&ids)));
                    found.push((column.any(&ids), column.n_slots()));
                }
            }
        }
    }
    found
}

fn assert_same(a: &Columns, b: &Columns) {
    let list = |columns: &Columns| -> Vec<(Path, Kind)> {
        columns.list().map(|(path, kind, _)| (path.clone(), kind)).collect()
    };
    assert_eq!(list(a), list(b));
    for (path, _) in list(a) {
        let answers = |columns: &Columns| answers(columns.field(&path).unwrap().unwrap());
        let (a, b) = (answers(a), answers(b));
        assert_eq!(a.len(), b.len());
        (0..).zip(a.iter().zip(&b)).for_each(|(n, (a, b))| assert_eq!(a, b, "{path} {n}"));
    }
}

/// Sets and removes slots of both, and of the payloads.
fn change(seed: u64, all: [&mut Columns; 2], payloads: &mut BTreeMap<u32, Value>) {
    let [a, b] = all;
    for n in 0..80 {
        let x = stream(seed, n);
        let slot = (x >> 8) as u32 % 200;
        if x.is_multiple_of(3) {
            a.remove(slot);
            b.remove(slot);
            payloads.remove(&slot);
        } else {
            let payload = payload(seed, 1000 + n);
            a.set(slot, &payload);
            b.set(slot, &payload);
            payloads.insert(slot, payload);
        }
    }
}

#[test]
fn after_any_history_opened_columns_are_those_that_were_sealed() {
    for seed in 0..20 {
        let mut payloads = payloads(seed, [0, 1, 9, 150][seed as usize % 4]);
        let mut columns = columns(&payloads);
        let (dir, at) = sealed(&columns);
        let mut opened = open(&at).unwrap();
        if seed % 3 == 0 {
            assert_same(&columns, &opened);
        }
        change(seed, [&mut columns, &mut opened], &mut payloads);
        if seed % 3 == 1 {
            assert_same(&columns, &opened);
            change(seed + 100, [&mut columns, &mut opened], &mut payloads);
        }
        let again = dir.path().join("again.sealed");
        seal(&opened, &again).unwrap();
        assert_same(&columns, &open(&again).unwrap());
        assert_same(&columns, &opened);
        assert_same(&columns, &self::columns(&payloads));
    }
}

#[test]
fn columns_of_earlier_builds_are_read_changed_and_sealed_as_those_of_this_one() {
    for seed in 0..20 {
        let mut payloads = payloads(seed, [0, 1, 9, 150][seed as usize % 4]);
        let mut columns = columns(&payloads);
        let dir = tempfile::tempdir().unwrap();
        let earlier = dir.path().join("earlier.sealed");
        seal_packed(&columns, &earlier);
        let mut opened = open(&earlier).unwrap();
        if seed % 3 == 0 {
            // Nobody has asked for any of them, and they are written anew all the same.
            let again = dir.path().join("again.sealed");
            seal(&opened, &again).unwrap();
            let file = Sealed::open(&FileDisk, &again, OWN).unwrap();
            assert_eq!(file.values::<u8>(DIRECTORY).unwrap().0[0], Format::Lent as u8);
            assert_same(&columns, &open(&again).unwrap());
            opened = open(&earlier).unwrap();
        }
        if seed % 3 == 1 {
            assert_same(&columns, &opened);
        }
        change(seed, [&mut columns, &mut opened], &mut payloads);
        assert_same(&columns, &opened);
    }
}

#[test]
fn a_field_that_nobody_asked_for_is_counted_changed_forgotten_and_sealed_as_it_lies() {
    let mut payloads = payloads(1, 100);
    let mut columns = columns(&payloads);
    let (dir, at) = sealed(&columns);
    let mut opened = open(&at).unwrap();
    let n_in_file: usize = opened.list().map(|(_, _, n_bytes)| n_bytes).sum();
    assert!(n_in_file > 0 && opened.n_bytes() > n_in_file, "{n_in_file}");
    assert!((opened.n_bytes() as u64) < fs::metadata(&at).unwrap().len());
    let again = dir.path().join("again.sealed");
    seal(&opened, &again).unwrap();
    assert_eq!(fs::read(&at).unwrap(), fs::read(&again).unwrap());
    change(2, [&mut columns, &mut opened], &mut payloads);
    for columns in [&mut columns, &mut opened] {
        assert!(columns.forget(&path("v"), Kind::Text));
        assert!(!columns.forget(&path("v"), Kind::Text));
        assert!(columns.forget(&path("w[].k"), Kind::Keyword));
    }
    assert!(opened.field(&path("w[].k")).unwrap().is_none());
    seal(&opened, &again).unwrap();
    assert_same(&columns, &open(&again).unwrap());
    assert_same(&columns, &opened);
}

#[test]
fn many_changes_do_not_wait_for_ever() {
    let (_dir, at) = sealed(&columns(&payloads(1, 3)));
    let mut opened = open(&at).unwrap();
    let n_in_file = opened.n_bytes();
    for slot in 0..40_000 {
        opened.set(slot, &json!({"v": slot}));
    }
    assert!(opened.n_bytes() > 4 * n_in_file, "in memory by now");
    let slots = opened.field(&path("v")).unwrap().unwrap().presence().filled();
    assert_eq!(slots.len(), 40_000);
}

#[test]
fn one_decodes_a_field_and_others_wait_for_it() {
    let columns = columns(&payloads(1, 200));
    let (_dir, at) = sealed(&columns);
    let opened = open(&at).unwrap();
    let ask = || opened.field(&path("v")).unwrap().unwrap();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        let found = asking.into_iter().map(|asked| asked.join().unwrap());
        found.for_each(|field| assert!(std::ptr::eq(field, ask())));
    });
    assert_same(&columns, &opened);
}

#[test]
fn as_many_fields_as_there_may_be_are_sealed() {
    let mut columns = Columns::default();
    let fields: Vec<_> =
        (0..INDEXED_FIELDS).map(|n| (path(&format!("\"field {n}\"")), Kind::Bool)).collect();
    columns.index(&fields, [Ok((5, json!({"field 200": true})))]).unwrap();
    let (_dir, at) = sealed(&columns);
    assert_same(&columns, &open(&at).unwrap());
}

#[test]
fn a_flip_of_any_byte_is_an_error_or_changes_nothing() {
    let payloads = payloads(3, 12);
    let columns = columns(&payloads);
    let all_answers = |columns: &Columns| {
        ["v", "w[].k"].map(|name| answers(columns.field(&path(name)).unwrap().unwrap()))
    };
    let expected = all_answers(&columns);
    let (_dir, at) = sealed(&columns);
    let (bytes, mut n_refused, mut n_damaged) = (fs::read(&at).unwrap(), 0, 0);
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (stream(6, place as u64) % 8);
        fs::write(&at, damaged).unwrap();
        let mut opened = match open(&at) {
            Ok(opened) => opened,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {place}: {error}");
                n_refused += 1;
                continue;
            }
        };
        for name in ["v", "w[].k"] {
            if let Err(error) = opened.field(&path(name)) {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {place}: {error}");
                assert!(error.to_string().contains(&format!("field {name}: ")), "{error}");
            }
        }
        n_damaged += opened.damaged().count();
        opened.rebuild(all(&payloads)).unwrap();
        assert!(all_answers(&opened) == expected, "byte {place}");
    }
    assert!(n_refused > 100 && n_damaged > 1000, "{n_refused} {n_damaged}");
}

#[test]
fn a_damaged_field_is_named_and_rebuilt_with_all_that_changed() {
    let mut payloads = payloads(4, 150);
    let mut columns = columns(&payloads);
    let (dir, at) = sealed(&columns);
    let file = Sealed::open(&FileDisk, &at, OWN).unwrap();
    let section = file.sections().iter().find(|section| section.name == "field 0").unwrap();
    let mut bytes = fs::read(&at).unwrap();
    bytes[section.offset as usize + 20] ^= 1;
    fs::write(&at, bytes).unwrap();
    let mut opened = open(&at).unwrap();
    assert_eq!(opened.damaged().count(), 0, "nobody has asked");
    assert!(opened.rebuild(all(&payloads)).unwrap().is_empty());
    change(5, [&mut columns, &mut opened], &mut payloads);
    for _ in 0..2 {
        let error = opened.field(&path("v")).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "corrupt_file"));
        assert!(error.to_string().contains("field v: "), "{error}");
    }
    assert!(opened.field(&path("w[].k")).is_ok());
    assert_eq!(opened.damaged().collect::<Vec<_>>(), [&path("v")]);
    change(6, [&mut columns, &mut opened], &mut payloads);
    assert!(seal(&opened, &dir.path().join("again.sealed")).is_err());
    for columns in [&mut columns, &mut opened] {
        assert!(columns.forget(&path("v"), Kind::Text));
    }
    let error = opened.index(&[(path("v"), Kind::Text)], all(&payloads)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let unreadable = || Err(error.clone());
    assert_eq!(opened.rebuild::<Value>([unreadable()]).unwrap_err(), error);
    assert_eq!(opened.rebuild(all(&payloads)).unwrap(), [path("v")]);
    assert_eq!(opened.damaged().count(), 0);
    assert_same(&columns, &opened);
    assert_eq!(opened.index(&[(path("v"), Kind::Text)], all(&payloads)).unwrap(), 1);
}

/// The section of the only field.
fn section(columns: &Columns, format: Format) -> (Vec<u8>, Parts) {
    let field = columns.fields.values().next().unwrap();
    if format == Format::Packed {
        return packed(field.get().unwrap(), "v".to_owned());
    }
    let (bytes, parts) = field.encode("v".to_owned()).unwrap();
    (bytes.into_owned(), parts)
}

/// Each kind alone, so that no other hides what is wrong with it.
fn sections() -> impl Iterator<Item = (Kind, Format, Vec<u8>, Parts)> {
    let formats = [Format::Packed, Format::Lent];
    Kind::all().flat_map(move |kind| formats.map(|format| (kind, format))).map(|(kind, format)| {
        let mut columns = Columns::default();
        columns.index(&[(path("v"), kind)], all(&payloads(9, 40))).unwrap();
        let (bytes, parts) = section(&columns, format);
        (kind, format, bytes, parts)
    })
}

fn decode(parts: &Parts, format: Format, bytes: &[u8]) -> Result<Field> {
    let memory: Memory = Arc::new(Mapped::of_bytes(bytes));
    parts.decode(format, &memory, 0..bytes.len())
}

/// Whatever passes for a field is asked, emptied and filled.
fn use_it(mut field: Field) {
    answers(&field);
    for slot in 0..50 {
        field.remove(slot);
        field.insert(slot, &[&value(8, slot.into())]);
    }
    answers(&field);
    (0..50).for_each(|slot| field.remove(slot));
    answers(&field);
}

#[test]
fn bytes_that_no_checksum_guards_end_in_an_error_or_in_a_field() {
    let (mut n_errors, mut n_fields) = (0, 0);
    for (kind, format, bytes, parts) in sections() {
        for place in 0..bytes.len() {
            for with in [1, 0x80, 0xff, stream(7, place as u64) as u8 | 1] {
                let mut damaged = bytes.clone();
                damaged[place] ^= with;
                match decode(&parts, format, &damaged) {
                    Ok(field) => {
                        use_it(field);
                        n_fields += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.code(), "corrupt_file", "{kind} {place}: {error}");
                        n_errors += 1;
                    }
                }
            }
        }
    }
    assert!(n_errors > 1000 && n_fields > 1000, "{n_errors} {n_fields}");
}

#[test]
fn parts_that_end_early_or_late_are_refused() {
    for (kind, format, bytes, parts) in sections() {
        let refused = |parts: &Parts, bytes: &[u8]| {
            let Err(error) = decode(parts, format, bytes) else {
                panic!("{kind} {format:?} is read from {} bytes", bytes.len());
            };
            assert_eq!(error.code(), "corrupt_file", "{kind}: {error}");
        };
        for n in 0..bytes.len() {
            let mut shorter = parts.clone();
            shorter.presence.end = shorter.presence.end.min(n);
            if n >= parts.presence.end {
                let part = shorter.columns.values_mut().next().unwrap();
                part.end = n;
            }
            refused(&shorter, &bytes);
        }
        let longer = [&bytes[..], &[0]].concat();
        let mut late = parts.clone();
        late.columns.values_mut().next().unwrap().end += 1;
        refused(&late, &longer);
    }
}

#[test]
fn bytes_of_no_meaning_end_in_an_error_or_in_a_field() {
    for (kind, format, bytes, parts) in sections() {
        for seed in 0..300 {
            let mut damaged = bytes.clone();
            for n in 0..1 + seed % 40 {
                let place = stream(seed, 2 * n) as usize % bytes.len();
                damaged[place] = stream(seed, 2 * n + 1) as u8 >> (n % 8);
            }
            if let Ok(field) = decode(&parts, format, &damaged) {
                use_it(field);
            }
        }
        let section = || "v".to_owned();
        let noise: Vec<u8> = (0..4000).map(|n| (stream(3, n) >> 40) as u8 >> (n % 8)).collect();
        let columns = [(kind, 0..noise.len())].into();
        let parts = Parts { section: section(), presence: 0..0, columns };
        assert!(decode(&parts, format, &noise).is_err(), "{kind}");
    }
}

#[test]
fn files_of_others_and_of_later_builds_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("columns.sealed");
    let with_directory = |directory: &[u8]| {
        let mut writer = SealedWriter::create(&FileDisk, &at, OWN, 2).unwrap();
        writer.section::<u8>("field 0", &[4]).unwrap();
        writer.append(&[0u8; 4]).unwrap();
        writer.section::<u8>("fields", &[directory.len() as u64]).unwrap();
        writer.append(directory).unwrap();
        writer.finish().unwrap();
        open(&at).map(|columns| columns.list().count())
    };
    let entry = |presence: u64, column: u64| {
        let mut bytes = vec![1, 0, 0, 0, b'a'];
        bytes.extend(presence.to_le_bytes());
        bytes.extend([1, Kind::Bool as u8]);
        bytes.extend(column.to_le_bytes());
        bytes
    };
    let one = [&[1, 1, 0, 0, 0], &entry(1, 3)[..]].concat();
    assert_eq!(with_directory(&one).unwrap(), 1);
    assert_eq!(with_directory(&[&[2], &one[1..]].concat()).unwrap(), 1);
    assert_eq!(with_directory(&[3, 0, 0, 0, 0]).unwrap_err().code(), "format_newer");
    let many_kinds = [&one[..18], &[2], &one[19..], &one[19..]].concat();
    for broken in [
        &one[..one.len() - 1],
        &[&one[..], &[0]].concat(),
        &[&[1, 2, 0, 0, 0], &entry(1, 3)[..], &entry(1, 3)].concat(),
        &[&[1, 1, 0, 0, 0], &entry(1, 4)[..]].concat(),
        &[&[1, 1, 0, 0, 0], &entry(u64::MAX, 5)[..]].concat(),
        &[&[1, 1, 0, 0, 0, 1, 0, 0, 0, b'.'], &one[10..]].concat(),
        &[&one[..19], &[99], &one[20..]].concat(),
        &many_kinds,
        &[1, 255, 255, 255, 255],
        &[&[0], &one[1..]].concat(),
        &[],
    ] {
        let error = with_directory(broken).unwrap_err();
        assert_eq!(error.code(), "corrupt_file", "{broken:?}: {error}");
    }
    let mut writer = SealedWriter::create(&FileDisk, &at, OWN, 0).unwrap();
    Columns::default().seal(&mut writer).unwrap_err();
    writer = SealedWriter::create(&FileDisk, &at, OWN, 0).unwrap();
    writer.finish().unwrap();
    assert_eq!(open(&at).unwrap_err().code(), "corrupt_file", "without a directory");
}
