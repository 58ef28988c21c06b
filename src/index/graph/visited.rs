//! Which slots a walk has met.

/// One bit per slot. Slots without a row count as met from the start, so that no walk enters them.
#[derive(Clone, Debug, Default)]
pub struct Visited {
    words: Vec<u64>,
    /// Words that differ from the start, some of them more than once.
    touched: Vec<u32>,
    version: u64,
}

impl Visited {
    /// Forgets what was met. `dead` are the slots without a row; `version` changes whenever they do. Cost: what the last
    /// walk touched, or all words if the version changed.
    pub fn reset(&mut self, dead: &[u64], version: u64) {
        if self.version != version || self.touched.len() > dead.len() {
            self.words.clear();
            self.words.extend_from_slice(dead);
            self.version = version;
        } else {
            for &word in &self.touched {
                self.words[word as usize] = dead[word as usize];
            }
        }
        self.touched.clear();
    }

    /// Whether `slot` is met for the first time.
    #[inline]
    pub fn insert(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        let is_new = self.words[word] & bit == 0;
        if is_new {
            self.words[word] |= bit;
            self.touched.push(word as u32);
        }
        is_new
    }

    /// Whether `slot` was not met yet, and has a row.
    #[inline]
    pub fn is_new(&self, slot: u32) -> bool {
        self.words[slot as usize / 64] >> (slot % 64) & 1 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_met_is_forgotten_and_what_is_dead_is_not() {
        let mut visited = Visited::default();
        for version in [1, 1, 1, 2] {
            let dead = [1 << 3, if version == 2 { 1 } else { 0 }];
            visited.reset(&dead, version);
            assert!(!visited.insert(3) && visited.insert(4) && !visited.insert(4));
            assert_eq!(visited.insert(64), version == 1);
            // More marks than words: the next reset copies all of them.
            (70..90).for_each(|slot| assert!(visited.insert(slot)));
            assert!(!visited.is_new(70) && visited.is_new(100));
        }
    }
}
