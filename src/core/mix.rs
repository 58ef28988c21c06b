//! Integer mixers: the few lines on which every hash of ours rests. Their values are part of the file
//! formats, so they never change without a new family id.

/// High and low half of the 128-bit product, folded (the step of the wyhash family).
#[inline(always)]
pub fn fold_mul(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Bijective 64-bit finaliser (Stafford's variant 13, as in SplitMix64).
#[inline(always)]
pub fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The `n`-th value of the SplitMix64 stream of `seed`.
#[inline]
pub fn stream(seed: u64, n: u64) -> u64 {
    mix64(seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n.wrapping_add(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // Reference values of SplitMix64 with seed 1234567.
        let first: Vec<u64> = (0..3).map(|n| stream(1_234_567, n)).collect();
        assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }
}
