use super::*;
use crate::core::mix::stream;
use crate::core::slab::Memory;
use crate::store::columns::bytes::Reader;
use crate::store::mapped::Mapped;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys with heavy values, long tails and the ends of what there is.
fn key(seed: u64, n: u64) -> i64 {
    let x = stream(seed, n);
    match x % 8 {
        0 | 1 => (x >> 8) as i64 % 3,
        2 => i64::MIN + (x >> 60) as i64,
        3 => i64::MAX - (x >> 60) as i64,
        _ => x as i64 >> (x % 50),
    }
}

/// A few slots, or many.
fn some_of(seed: u64, n_slots: u64) -> RoaringBitmap {
    let least = [1, 10, 255][seed as usize % 3];
    (0..n_slots as u32).filter(|&slot| stream(seed, slot.into()) % 256 >= least).collect()
}

/// The same cells, as they lie in a file: lent, or packed.
fn read(cells: &Cells, slots: &RoaringBitmap, is_packed: bool) -> Cells {
    let mut bytes = vec![0; 7];
    match is_packed {
        true => cells.encode_packed(&mut bytes),
        false => cells.encode(&mut bytes),
    }
    let memory: Memory = Arc::new(Mapped::of_bytes(&bytes));
    let mut reader = Reader::within(&memory[7..], slots).lending(&memory, 7);
    let read = match is_packed {
        true => Cells::decode_packed(&mut reader).unwrap(),
        false => Cells::decode(&mut reader).unwrap(),
    };
    reader.end().unwrap();
    read
}

#[test]
fn ranges_after_any_history_are_those_of_the_keys() {
    for seed in 0..12 {
        let (mut cells, mut model) = (Cells::default(), BTreeMap::new());
        let n_slots = [1, 63, 64, 65, 300, 2000][seed as usize % 6];
        for n in 0..3 * n_slots {
            let slot = (stream(seed, 2 * n) % n_slots) as u32;
            if stream(seed, 2 * n + 1).is_multiple_of(4) {
                cells.clear(slot);
                model.remove(&slot);
            } else {
                cells.set(slot, key(seed, n));
                model.insert(slot, key(seed, n));
            }
        }
        assert_eq!(cells.n_keys(), model.len() as u64);
        assert!(cells.cells.len() <= 255);
        let all: RoaringBitmap = (0..n_slots as u32).collect();
        for n in 0..400 {
            match (n, seed / 6) {
                (150, 0) | (350, 1) => cells = read(&cells, &all, false),
                (100, 1) => cells = read(&cells, &all, true),
                _ => {}
            }
            // Lists that were made by now, or lay in the file, say what was so then.
            let (slot, at) = ((stream(seed + 200, n) % n_slots) as u32, 9 * n_slots + n);
            match n % 5 {
                0 if n >= 200 => {
                    cells.clear(slot);
                    model.remove(&slot);
                }
                1 | 2 if n >= 200 => {
                    cells.set(slot, key(seed, at));
                    model.insert(slot, key(seed, at));
                }
                _ => {}
            }
            let keys = key(seed + 100, n)..=key(seed, n % (2 * n_slots));
            let expected: RoaringBitmap =
                model.iter().filter(|(_, key)| keys.contains(key)).map(|(slot, _)| *slot).collect();
            assert_eq!(cells.range(&keys, &all), expected, "seed {seed}: {keys:?}");
            let within = some_of(seed + 300 + n, n_slots);
            let both = &expected & &within;
            assert_eq!(cells.range(&keys, &within), both, "seed {seed}: {keys:?}");
            assert!(cells.at_most(&keys) >= expected.len(), "seed {seed}: {keys:?}");
            let other = key(seed + 400, n)..=key(seed + 400, 2 * n + 1);
            let of = |marked: &dyn Fn(&i64) -> bool| -> RoaringBitmap {
                let own = model.iter().filter(|(slot, key)| within.contains(**slot) && marked(key));
                own.map(|(slot, _)| *slot).collect()
            };
            let (own, others) = (cells.mark_range(&keys), cells.mark_range(&other));
            let mut both = own.clone();
            both.and(others.clone());
            let expected_both = of(&|key| keys.contains(key) && other.contains(key));
            assert_eq!(both.within(&within), expected_both, "{seed}: {keys:?} {other:?}");
            let mut without = own;
            without.and_not(others);
            let expected_without = of(&|key| keys.contains(key) && !other.contains(key));
            assert_eq!(without.within(&within), expected_without, "{seed}: {keys:?} {other:?}");
            let mut some: Vec<i64> = (0..n % 7).map(|i| key(seed, n + i)).collect();
            some.sort_unstable();
            some.dedup();
            let is_one = |key: &i64| some.contains(key);
            let expected: RoaringBitmap =
                model.iter().filter(|(_, key)| is_one(key)).map(|(slot, _)| *slot).collect();
            assert_eq!(cells.any(&some, &all), expected, "seed {seed}: {some:?}");
            assert_eq!(cells.any(&some, &within), expected & within, "seed {seed}: {some:?}");
        }
    }
}

#[test]
fn a_heavy_value_is_found_without_a_look_at_keys() {
    let mut cells = Cells::default();
    (0..10_000).for_each(|slot| cells.set(slot, i64::from(if slot % 3 == 0 { 7 } else { slot })));
    cells.cut();
    let cut = cells.place(&(7..=7));
    assert_eq!((cut.n_inside, cut.n_check), (3335, 0));
}

#[test]
fn light_values_between_heavy_ones_do_not_need_more_cells_than_a_byte_counts() {
    let (mut cells, mut slot) = (Cells::default(), 0);
    for value in 0..236 {
        for _ in 0..if value % 2 == 0 { 60 } else { 1 } {
            cells.set(slot, value);
            slot += 1;
        }
    }
    cells.cut();
    assert!((200..=255).contains(&cells.cells.len()), "{}", cells.cells.len());
    assert_eq!(cells.range(&(3..=4), &(0..slot).collect()).len(), 61);
}

#[test]
fn cells_of_a_file_are_lent_and_nothing_is_listed_for_a_narrow_range() {
    let mut cells = Cells::default();
    (0..20_000).for_each(|slot| cells.set(slot, key(7, slot.into())));
    cells.clear(11);
    let all: RoaringBitmap = (0..20_000).collect();
    let lent = read(&cells, &all, false);
    assert!(lent.codes.is_lent() && lent.keys.is_lent());
    let (least, greatest) = (1 << 20, 3 << 20);
    assert_eq!(lent.range(&(least..=greatest), &all), cells.range(&(least..=greatest), &all));
    assert!(
        lent.lists.by_code.get().is_none() && lent.lists.groups.iter().all(|g| g.get().is_none())
    );
    // What is changed is a copy, and sealed again as if it had never been lent.
    let mut changed = lent.clone();
    changed.set(11, 2 << 20);
    cells.set(11, 2 << 20);
    assert!(!changed.codes.is_lent() && lent.codes.is_lent());
    let bytes = |cells: &Cells| {
        let mut bytes = Vec::new();
        cells.encode(&mut bytes);
        bytes
    };
    assert_eq!(bytes(&changed), bytes(&cells));
    assert_eq!(bytes(&lent), bytes(&read(&lent, &all, false)));
}

#[test]
fn cells_that_do_not_belong_together_are_refused() {
    let mut cells = Cells::default();
    (0..300).for_each(|slot| cells.set(slot, i64::from(slot % 150)));
    let refused = |damage: &dyn Fn(&mut Cells)| {
        let mut damaged = cells.clone();
        damage(&mut damaged);
        let mut bytes = Vec::new();
        damaged.encode(&mut bytes);
        let memory: Memory = Arc::new(Mapped::of_bytes(&bytes));
        let slots: RoaringBitmap = (0..300).collect();
        let read = Cells::decode(&mut Reader::within(&memory, &slots).lending(&memory, 0));
        read.err().map(|error| error.code())
    };
    let damages: [&dyn Fn(&mut Cells); 6] = [
        &|cells| cells.n_keys -= 1,
        &|cells| cells.n_at_cut = 400,
        &|cells| cells.codes.to_mut()[5] = cells.cells.len() as u8 + 1,
        &|cells| cells.cells[1].from = cells.cells[0].from,
        &|cells| cells.cells[0].from = 5,
        &|cells| cells.keys.to_mut().fill(7),
    ];
    assert_eq!(refused(&|_| {}), None);
    for (i, damage) in damages.iter().enumerate() {
        assert_eq!(refused(damage), Some("corrupt_file"), "damage {i}");
    }
}
