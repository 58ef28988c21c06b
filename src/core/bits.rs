//! A set of small numbers, one bit each.

/// Numbers below a fixed bound.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// The empty set of numbers below `bound`.
    pub fn new(bound: u32) -> Self {
        Self { words: vec![0; (bound as usize).div_ceil(64)] }
    }

    /// The set of these words' bits that are below the bound, the least in the lowest bit of the first.
    ///
    /// # Panics
    /// If the words are not as many as the bound needs.
    pub fn of_words(mut words: Vec<u64>, bound: u32) -> Self {
        assert_eq!(words.len(), (bound as usize).div_ceil(64), "words of the bound");
        if let (Some(last), n @ 1..) = (words.last_mut(), bound % 64) {
            *last &= (1 << n) - 1;
        }
        Self { words }
    }

    /// Adds `n`. Panics if it is not below the bound.
    pub fn insert(&mut self, n: u32) {
        self.words[n as usize / 64] |= 1 << (n % 64);
    }

    /// Whether `n` is in the set.
    pub fn contains(&self, n: u32) -> bool {
        self.words[n as usize / 64] >> (n % 64) & 1 == 1
    }

    /// The set, 64 numbers to a word, the least in the lowest bit.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether some number of `range` is in the set.
    pub fn any_in(&self, range: std::ops::Range<u32>) -> bool {
        range.into_iter().any(|n| self.contains(n))
    }
}
