//! A compressed set as one bit per place, which walks and passes ask for every row that they meet, and as a list.
//!
//! A set gives its numbers one by one, a nanosecond each, which for half of a million takes as long as ten searches. Its
//! portable form has the words themselves of all that is dense (`RoaringFormatSpec`): they are copied.

use roaring::RoaringBitmap;

use crate::core::bits::Bits;

/// Words of a container: it has the numbers of one value of the upper 16 bits.
const CONTAINER_WORDS: usize = 1024;

/// Most numbers of a container that lists them.
const LISTED: usize = 4096;

/// First four bytes of a form without runs; with runs, the first two, then the number of containers less one.
const NO_RUNS: u32 = 12_346;

/// Containers from which on a form with runs says where each begins.
const WITH_OFFSETS: usize = 4;

/// A set that is smaller than its bound by this factor gives its numbers one by one.
const FEW: u64 = 256;

/// The numbers of a set that are below `bound`, a bit each.
pub(super) fn set_bits(set: &RoaringBitmap, bound: u32) -> Bits {
    if set.len() < u64::from(bound) / FEW {
        let mut bits = Bits::new(bound);
        set.range(0..bound).for_each(|n| bits.insert(n));
        return bits;
    }
    let n_words = (bound as usize).div_ceil(64);
    let mut words = vec![0u64; n_words.next_multiple_of(CONTAINER_WORDS)];
    let form = form_of(set);
    Form { bytes: &form }.containers(|start, container| {
        let start = start as usize / 64;
        if let Some(words) = words.get_mut(start..start + CONTAINER_WORDS) {
            container.put_in(words);
        }
    });
    words.truncate(n_words);
    Bits::of_words(words, bound)
}

/// The numbers of a set that are below `bound`, ascending.
pub(super) fn set_list(set: &RoaringBitmap, bound: u32) -> Vec<u32> {
    let mut list = Vec::with_capacity(set.len() as usize);
    let form = form_of(set);
    Form { bytes: &form }.containers(|start, container| container.add_to(&mut list, start));
    list.truncate(list.partition_point(|&n| n < bound));
    list
}

fn form_of(set: &RoaringBitmap) -> Vec<u8> {
    let mut form = Vec::with_capacity(set.serialized_size());
    set.serialize_into(&mut form).expect("memory takes all that is written");
    form
}

/// The lower 16 bits of the numbers of a container, little-endian.
enum Container<'a> {
    Numbers(&'a [[u8; 2]]),
    Words(&'a [[u8; 8]]),
    /// First number, and how many more.
    Runs(&'a [[u8; 4]]),
}

impl Container<'_> {
    fn put_in(&self, words: &mut [u64]) {
        match self {
            Self::Numbers(numbers) => numbers.iter().for_each(|&n| {
                let n = usize::from(u16::from_le_bytes(n));
                words[n / 64] |= 1 << (n % 64);
            }),
            Self::Words(own) => {
                let own = own.iter().map(|&own| u64::from_le_bytes(own));
                words.iter_mut().zip(own).for_each(|(word, own)| *word = own);
            }
            Self::Runs(runs) => runs.iter().map(run).for_each(|(first, last)| {
                set_range(words, first.into(), last.into());
            }),
        }
    }

    fn add_to(&self, list: &mut Vec<u32>, start: u32) {
        match self {
            Self::Numbers(numbers) => {
                list.extend(numbers.iter().map(|&n| start + u32::from(u16::from_le_bytes(n))));
            }
            Self::Words(words) => {
                for (n, &word) in (start / 64..).zip(*words) {
                    let mut left = u64::from_le_bytes(word);
                    while left != 0 {
                        list.push(64 * n + left.trailing_zeros());
                        left &= left - 1;
                    }
                }
            }
            Self::Runs(runs) => runs.iter().map(run).for_each(|(first, last)| {
                list.extend((first..=last).map(|n| start + u32::from(n)));
            }),
        }
    }
}

/// The first and the last number of a run.
fn run(&[a, b, c, d]: &[u8; 4]) -> (u16, u16) {
    let (first, more) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
    (first, first + more)
}

/// What is left to read of a form.
struct Form<'a> {
    bytes: &'a [u8],
}

impl<'a> Form<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.bytes.split_at(n);
        self.bytes = tail;
        head
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    /// Calls `visit` with the least number that could be in each container, and the container.
    fn containers(&mut self, mut visit: impl FnMut(u32, Container<'_>)) {
        let cookie = self.u32();
        let (n, runs) = match cookie {
            NO_RUNS => (self.u32() as usize, Vec::new()),
            _ => {
                let n = (cookie >> 16) as usize + 1;
                (n, self.take(n.div_ceil(8)).to_vec())
            }
        };
        let described: Vec<(u16, usize)> =
            (0..n).map(|_| (self.u16(), usize::from(self.u16()) + 1)).collect();
        if runs.is_empty() || n >= WITH_OFFSETS {
            self.take(4 * n);
        }
        for (i, (upper, n_numbers)) in described.into_iter().enumerate() {
            let is_runs = runs.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
            let container = if is_runs {
                let n = usize::from(self.u16());
                Container::Runs(self.take(4 * n).as_chunks().0)
            } else if n_numbers <= LISTED {
                Container::Numbers(self.take(2 * n_numbers).as_chunks().0)
            } else {
                Container::Words(self.take(8 * CONTAINER_WORDS).as_chunks().0)
            };
            visit(u32::from(upper) << 16, container);
        }
    }
}

/// Sets the bits from `first` to `last`, that one included.
fn set_range(words: &mut [u64], first: usize, last: usize) {
    let (from, to) = (first / 64, last / 64);
    let (head, tail) = (u64::MAX << (first % 64), u64::MAX >> (63 - last % 64));
    if from == to {
        words[from] |= head & tail;
        return;
    }
    words[from] |= head;
    words[from + 1..to].fill(u64::MAX);
    words[to] |= tail;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn the_bits_are_the_numbers_of_the_set() {
        for seed in 0..60u64 {
            let mut set = RoaringBitmap::new();
            for part in 0..6u64 {
                let random = |i| stream(seed * 8 + part, i);
                let start = part as u32 * 65_536;
                match random(0) % 4 {
                    0 => set.extend(
                        (0..random(1) % 3000).map(|i| start + (random(i + 9) % 65_536) as u32),
                    ),
                    1 => set.extend((0..30_000).map(|i| start + (random(i + 9) % 65_536) as u32)),
                    2 => {
                        set.insert_range(start + 5..start + 5 + (random(1) % 60_000) as u32);
                        set.insert_range(start + 61_000..start + 65_536);
                    }
                    _ => {}
                }
            }
            if seed % 2 == 0 {
                set.optimize();
            }
            for bound in [1, 64, 65_535, 65_536, 70_001, 6 * 65_536 + 7] {
                let bits = set_bits(&set, bound);
                let mut plain = Bits::new(bound);
                set.range(0..bound).for_each(|n| plain.insert(n));
                assert_eq!(bits.words(), plain.words(), "seed {seed}, bound {bound}");
                let list: Vec<u32> = set.range(0..bound).collect();
                assert_eq!(set_list(&set, bound), list, "seed {seed}, bound {bound}");
            }
        }
        assert_eq!(set_bits(&RoaringBitmap::new(), 0).words(), [0u64; 0]);
        assert_eq!(set_list(&RoaringBitmap::new(), 0), [0; 0]);
    }
}
