//! Elements that are owned, or lent from memory that something else owns: a mapped file is read where it lies.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use bytemuck::Pod;

use crate::error::{Error, Result};

/// Memory that slabs are lent from, alive as long as any of them.
pub type Memory = Arc<dyn Deref<Target = [u8]> + Send + Sync>;

/// A slice of elements, owned or lent. Reading either costs the same: one branch.
pub struct Slab<T>(Held<T>);

enum Held<T> {
    Owned(Vec<T>),
    Lent(Lent<T>),
}

/// `len` elements from `first` on, which lie in `memory`.
struct Lent<T> {
    first: NonNull<T>,
    len: usize,
    memory: Memory,
}

// SAFETY: elements are only read, through a shared slice (see `Lent::elements`), and the memory may itself be sent.
unsafe impl<T: Sync> Send for Lent<T> {}

// SAFETY: as above; the memory may itself be shared.
unsafe impl<T: Sync> Sync for Lent<T> {}

impl<T> Lent<T> {
    #[inline]
    fn elements(&self) -> &[T] {
        // SAFETY: `first` and `len` are of a slice that `Slab::lent` borrowed from what `memory` owns. This holds a share of
        // it, so it is neither dropped nor moved nor borrowed to be changed as long as `self` is, and a borrow of it may
        // last that long.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T: Pod> Slab<T> {
    /// The elements in these bytes of `memory`.
    ///
    /// # Errors
    /// `slab_range` if they reach past its end, are no whole elements, or start where no element can.
    pub fn lent(memory: &Memory, bytes: Range<usize>) -> Result<Self> {
        let refuse = |what: String| {
            let place = format!("bytes {bytes:?} of {}", memory.len());
            Error::usage("slab_range", format!("{place} as elements of {}: {what}", size_of::<T>()))
        };
        let found = memory.get(bytes.clone()).ok_or_else(|| refuse("past the end".to_owned()))?;
        let elements: &[T] =
            bytemuck::try_cast_slice(found).map_err(|error| refuse(error.to_string()))?;
        let (first, len) = (NonNull::from(elements).cast(), elements.len());
        Ok(Self(Held::Lent(Lent { first, len, memory: Arc::clone(memory) })))
    }
}

impl<T> Slab<T> {
    /// Whether the elements lie in memory of something else.
    pub fn is_lent(&self) -> bool {
        matches!(self.0, Held::Lent(_))
    }
}

impl<T: Clone> Slab<T> {
    /// The elements, to be changed; lent ones are copied first, and what they were lent from stays as it is.
    #[inline]
    pub fn to_mut(&mut self) -> &mut Vec<T> {
        if let Held::Lent(lent) = &self.0 {
            self.0 = Held::Owned(lent.elements().to_vec());
        }
        match &mut self.0 {
            Held::Owned(elements) => elements,
            Held::Lent(_) => unreachable!("lent elements were copied above"),
        }
    }

    /// The elements, copied if they are lent.
    pub fn into_vec(self) -> Vec<T> {
        match self.0 {
            Held::Owned(elements) => elements,
            Held::Lent(lent) => lent.elements().to_vec(),
        }
    }
}

impl<T> Deref for Slab<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.0 {
            Held::Owned(elements) => elements,
            Held::Lent(lent) => lent.elements(),
        }
    }
}

impl<T> From<Vec<T>> for Slab<T> {
    fn from(elements: Vec<T>) -> Self {
        Self(Held::Owned(elements))
    }
}

impl<T> FromIterator<T> for Slab<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Vec::from_iter(elements).into()
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: Clone> Clone for Slab<T> {
    /// A copy of what is owned; another share of what is lent.
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Held::Owned(elements) => Held::Owned(elements.clone()),
            Held::Lent(Lent { first, len, memory }) => {
                Held::Lent(Lent { first: *first, len: *len, memory: Arc::clone(memory) })
            }
        })
    }
}

impl<T: PartialEq> PartialEq for Slab<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq> Eq for Slab<T> {}

impl<T: fmt::Debug> fmt::Debug for Slab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    /// Two lines of memory, and a flag that is set when they go.
    struct Lines([u64; 16], Arc<AtomicBool>);

    impl Deref for Lines {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }

    impl Drop for Lines {
        fn drop(&mut self) {
            self.0.fill(u64::MAX);
            self.1.store(true, Ordering::Relaxed);
        }
    }

    fn lines() -> (Memory, Arc<AtomicBool>) {
        let is_gone = Arc::new(AtomicBool::new(false));
        let memory = Lines(std::array::from_fn(|i| i as u64), Arc::clone(&is_gone));
        (Arc::new(memory), is_gone)
    }

    #[test]
    fn lent_elements_keep_their_memory_until_the_last_share_goes() {
        let (memory, is_gone) = lines();
        let slab = Slab::<u64>::lent(&memory, 16..48).unwrap();
        drop(memory);
        let share = slab.clone();
        assert!(slab.is_lent() && share.is_lent() && slab == share);
        drop(slab);
        let share = thread::spawn(move || share).join().unwrap();
        assert_eq!(
            (share[..].to_vec(), is_gone.load(Ordering::Relaxed)),
            (vec![2, 3, 4, 5], false)
        );
        drop(share);
        assert!(is_gone.load(Ordering::Relaxed));
    }

    #[test]
    fn what_is_changed_is_a_copy_and_what_lent_it_stays() {
        let (memory, _) = lines();
        let mut slab = Slab::<u64>::lent(&memory, 0..16).unwrap();
        let share = slab.clone();
        slab.to_mut().push(7);
        slab.to_mut()[0] = 9;
        assert_eq!((&slab[..], slab.is_lent()), (&[9, 1, 7][..], false));
        assert_eq!((&share[..], memory[0]), (&[0, 1][..], 0));
        assert_eq!(share.into_vec(), [0, 1]);
        let owned: Slab<u64> = vec![9, 1, 7].into();
        assert!(owned == slab && owned.clone() == slab && !owned.is_lent());
    }

    #[test]
    fn bytes_that_are_no_elements_are_not_lent() {
        let (memory, _) = lines();
        let code = |bytes| Slab::<u64>::lent(&memory, bytes).map(|_| ()).unwrap_err().code();
        for bytes in [0..9, 4..12, 120..136, 136..136, Range { start: 8, end: 0 }] {
            assert_eq!(code(bytes), "slab_range");
        }
        assert!(Slab::<u64>::lent(&memory, 128..128).unwrap().is_empty());
        assert_eq!(Slab::<u16>::lent(&memory, 8..10).unwrap()[..], [1]);
        assert!(Slab::<u64>::default().is_empty());
    }
}
