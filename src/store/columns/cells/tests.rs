use super::*;
use crate::core::mix::stream;
use std::collections::BTreeMap;

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
            // Lists that were made by now say what was so then.
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
