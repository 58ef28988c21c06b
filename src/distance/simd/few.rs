//! Which few of many slots have the least values.

use crate::distance::Level;

/// The largest slot; 0 of none.
pub fn largest(level: Level, slots: &[u32]) -> u32 {
    largest_level(level, slots)
}

/// Sets `out` to the slots, in their order, whose values are at most `bound`.
///
/// # Panics
/// If there is not a value for every slot.
pub fn at_most(level: Level, (slots, values): (&[u32], &[f32]), bound: f32, out: &mut Vec<u32>) {
    assert_eq!(slots.len(), values.len(), "a value for every slot");
    out.clear();
    at_most_level(level, (slots, values), bound, out);
}

/// Takes values into the least of each lane, and its slot: value `i` is in lane `i % least.len()`; of equal ones the first.
///
/// # Panics
/// If there is no lane, if there is not a slot for each, or if there is not a value for every slot.
pub fn least_by_lane(
    level: Level,
    (slots, values): (&[u32], &[f32]),
    least: &mut [f32],
    at: &mut [u32],
) {
    assert!(!least.is_empty() && least.len() == at.len(), "a slot for every lane");
    assert_eq!(slots.len(), values.len(), "a value for every slot");
    least_level(level, (slots, values), least, at);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn largest_level(level: Level, slots: &[u32]) -> u32 {
    match level {
        Level::Baseline => largest_with(slots),
        // SAFETY: levels come from `Level::available`, which asked this processor.
        _ => unsafe { x86::largest_avx2(slots) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn largest_level(_: Level, slots: &[u32]) -> u32 {
    largest_with(slots)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn at_most_level(level: Level, of: (&[u32], &[f32]), bound: f32, out: &mut Vec<u32>) {
    match level {
        Level::Baseline | Level::Avx2 => at_most_with(of, bound, out),
        // SAFETY: levels come from `Level::available`, which asked this processor; `at_most` has seen that there are as many
        // values as slots.
        Level::Avx512 | Level::Avx512Vnni => unsafe { x86::at_most_avx512(of, bound, out) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn at_most_level(_: Level, of: (&[u32], &[f32]), bound: f32, out: &mut Vec<u32>) {
    at_most_with(of, bound, out);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn least_level(level: Level, of: (&[u32], &[f32]), least: &mut [f32], at: &mut [u32]) {
    match level {
        Level::Baseline => least_with(of, least, at),
        // SAFETY: levels come from `Level::available`, which asked this processor.
        Level::Avx2 => unsafe { x86::least_avx2(of, least, at) },
        // SAFETY: as above.
        Level::Avx512 | Level::Avx512Vnni => unsafe { x86::least_avx512(of, least, at) },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn least_level(_: Level, of: (&[u32], &[f32]), least: &mut [f32], at: &mut [u32]) {
    least_with(of, least, at);
}

#[inline(always)]
fn largest_with(slots: &[u32]) -> u32 {
    slots.iter().fold(0, |largest, &slot| largest.max(slot))
}

#[inline(always)]
fn at_most_with((slots, values): (&[u32], &[f32]), bound: f32, out: &mut Vec<u32>) {
    let few = slots.iter().zip(values).filter(|(_, value)| **value <= bound);
    out.extend(few.map(|(&slot, _)| slot));
}

#[inline(always)]
fn least_with((slots, values): (&[u32], &[f32]), least: &mut [f32], at: &mut [u32]) {
    let n_lanes = least.len();
    for (slots, values) in slots.chunks(n_lanes).zip(values.chunks(n_lanes)) {
        let lanes = least.iter_mut().zip(&mut *at);
        for ((&slot, &value), (least, at)) in slots.iter().zip(values).zip(lanes) {
            let is_less = value < *least;
            *least = if is_less { value } else { *least };
            *at = if is_less { slot } else { *at };
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::*;

    use super::{largest_with, least_with};

    #[target_feature(enable = "avx2")]
    pub(super) fn largest_avx2(slots: &[u32]) -> u32 {
        largest_with(slots)
    }

    /// # Safety
    /// There are as many values as slots.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
    pub(super) unsafe fn at_most_avx512(
        (slots, values): (&[u32], &[f32]),
        bound: f32,
        out: &mut Vec<u32>,
    ) {
        const N: usize = 16;
        // Sixteen are written each time, of which few stay.
        out.reserve(slots.len() + N);
        let (bound, whole, mut n) = (_mm512_set1_ps(bound), slots.len() / N * N, 0);
        for i in (0..slots.len()).step_by(N) {
            let lanes = if i < whole { u16::MAX } else { (1 << (slots.len() - whole)) - 1 };
            // SAFETY: the lanes that are loaded are within both slices; no more than `i` were kept so far, and there is room for
            // sixteen behind as many as there are slots.
            unsafe {
                let values = _mm512_maskz_loadu_ps(lanes, values.as_ptr().add(i));
                let kept = _mm512_mask_cmp_ps_mask::<_CMP_LE_OQ>(lanes, values, bound);
                if kept == 0 {
                    continue;
                }
                let slots = _mm512_maskz_loadu_epi32(lanes, slots.as_ptr().add(i).cast());
                let few = _mm512_maskz_compress_epi32(kept, slots);
                _mm512_storeu_si512(out.as_mut_ptr().add(n).cast(), few);
                n += kept.count_ones() as usize;
            }
        }
        // SAFETY: so many were written, and there is room for them.
        unsafe { out.set_len(n) };
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn least_avx2(of: (&[u32], &[f32]), least: &mut [f32], at: &mut [u32]) {
        least_with(of, least, at);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn least_avx512(of: (&[u32], &[f32]), least: &mut [f32], at: &mut [u32]) {
        least_with(of, least, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mix::stream;

    #[test]
    fn the_least_are_found_where_they_are_at_every_level() {
        for n in [0, 1, 15, 16, 17, 64, 1000] {
            let values: Vec<f32> = (0..n).map(|i| (stream(4, i) % 40) as f32 - 9.0).collect();
            let slots: Vec<u32> = (0..n).map(|i| (stream(5, i) % 5000) as u32).collect();
            let of = (&slots[..], &values[..]);
            for level in Level::available() {
                let most = slots.iter().copied().max().unwrap_or(0);
                assert_eq!(largest(level, &slots), most, "{level:?}: {n} slots");
                for bound in [-9.5, -9.0, 3.0, 31.0, f32::INFINITY] {
                    let mut got = vec![7];
                    at_most(level, of, bound, &mut got);
                    let few = slots.iter().zip(&values).filter(|one| *one.1 <= bound);
                    let want: Vec<u32> = few.map(|one| *one.0).collect();
                    assert_eq!(got, want, "{level:?}: {n} values, bound {bound}");
                }
                for n_lanes in [1, 16, 40] {
                    let (mut least, mut at) = (vec![f32::INFINITY; n_lanes], vec![9; n_lanes]);
                    for (slots, values) in slots.chunks(2 * n_lanes).zip(values.chunks(2 * n_lanes))
                    {
                        least_by_lane(level, (slots, values), &mut least, &mut at);
                    }
                    for lane in 0..n_lanes {
                        let own = (lane..values.len()).step_by(n_lanes);
                        let first = own.min_by(|&a, &b| values[a].total_cmp(&values[b]));
                        let want = first.map_or((f32::INFINITY, 9), |i| (values[i], slots[i]));
                        assert_eq!(
                            (least[lane], at[lane]),
                            want,
                            "{level:?}: lane {lane} of {n_lanes}"
                        );
                    }
                }
            }
        }
    }
}
