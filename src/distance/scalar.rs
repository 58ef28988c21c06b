//! One pair of rows in the plainest form: what every loop of `simd/` is compared with.
//!
//! Sums of floats are taken in 64 bits. Sums of bytes are exact: the largest, 16,384 times 255², fits 31 bits.

/// `Σ a_i b_i`, summed in 64 bits.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// `Σ (a_i - b_i)²`, summed in 64 bits.
pub fn l2(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

/// `Σ |a_i - b_i|`, summed in 64 bits.
pub fn l1(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).abs()).sum()
}

/// `Σ a_i b_i` of bytes, exact.
pub fn dot_bytes<T: Copy + Into<i32>>(a: &[T], b: &[T]) -> i32 {
    a.iter().zip(b).map(|(&x, &y)| x.into() * y.into()).sum()
}

/// `Σ (a_i - b_i)²` of bytes, exact.
pub fn l2_bytes<T: Copy + Into<i32>>(a: &[T], b: &[T]) -> i32 {
    a.iter().zip(b).map(|(&x, &y)| (x.into() - y.into()).pow(2)).sum()
}

/// `Σ |a_i - b_i|` of bytes, exact.
pub fn l1_bytes<T: Copy + Into<i32>>(a: &[T], b: &[T]) -> i32 {
    a.iter().zip(b).map(|(&x, &y)| (x.into() - y.into()).abs()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_two_short_rows() {
        let (a, b) = ([1.0, -2.0, 3.0], [0.5, 4.0, -1.0]);
        assert_eq!((dot(&a, &b), l2(&a, &b), l1(&a, &b)), (-10.5, 52.25, 10.5));
        let (a, b) = ([1u8, 255], [0u8, 255]);
        assert_eq!((dot_bytes(&a, &b), l2_bytes(&a, &b), l1_bytes(&a, &b)), (65_025, 1, 1));
        let (a, b) = ([-127i8, 3], [127i8, -3]);
        assert_eq!((dot_bytes(&a, &b), l2_bytes(&a, &b)), (-16_138, 64_552));
        assert_eq!(l1_bytes(&a, &b), 260);
    }
}
