//! Short elements to longer ones, for blocks of rows that many queries will look at.

use half::f16;

use super::lanes::Lanes;

/// Bytes, signed or not.
pub(super) trait Bytes: Copy {
    /// The same number in 16 bits.
    fn wide(self) -> i16;
}

impl Bytes for u8 {
    #[inline(always)]
    fn wide(self) -> i16 {
        i16::from(self)
    }
}

impl Bytes for i8 {
    #[inline(always)]
    fn wide(self) -> i16 {
        i16::from(self)
    }
}

#[inline(always)]
pub(super) fn bytes<T: Bytes>(from: &[T], to: &mut [i16]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from.wide();
    }
}

/// # Safety
/// The slices are of one length, and the processor has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn floats<L: Lanes>(from: &[f16], to: &mut [f32]) {
    let n = from.len() / L::N * L::N;
    for k in (0..n).step_by(L::N) {
        L::f_store(to.as_mut_ptr().add(k), L::f_half(from.as_ptr().add(k).cast()));
    }
    for k in n..from.len() {
        to[k] = super::baseline::half(from[k].to_bits());
    }
}
