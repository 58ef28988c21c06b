//! Portable lanes: fixed arrays that the compiler turns into SSE2 on x86-64 and NEON on aarch64.

use super::lanes::Lanes;

/// Eight lanes in plain arrays.
pub(super) struct Portable;

const N: usize = 8;

#[inline(always)]
fn each<T: Copy>(f: impl Fn(usize) -> T) -> [T; N] {
    [f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)]
}

/// A finite 16-bit float, widened without branches: the exponent is moved and its bias multiplied away.
#[inline(always)]
pub(super) fn half(bits: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// 16-bit pairs of a lane.
#[inline(always)]
fn pair(x: i32) -> [i16; 2] {
    [x as i16, (x >> 16) as i16]
}

#[inline(always)]
fn join(low: i16, high: i16) -> i32 {
    i32::from(low as u16) | i32::from(high) << 16
}

// SAFETY: no instruction beyond the target's own is used; pointers are the caller's promise.
unsafe impl Lanes for Portable {
    type F = [f32; N];
    type I = [i32; N];
    const N: usize = N;

    #[inline(always)]
    unsafe fn f_zero() -> Self::F {
        [0.0; N]
    }
    #[inline(always)]
    unsafe fn f_load(at: *const f32) -> Self::F {
        at.cast::<[f32; N]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn f_splat(at: *const f32) -> Self::F {
        [*at; N]
    }
    #[inline(always)]
    unsafe fn f_half(at: *const u16) -> Self::F {
        let bits = at.cast::<[u16; N]>().read_unaligned();
        each(|i| half(bits[i]))
    }
    #[inline(always)]
    unsafe fn f_store(at: *mut f32, v: Self::F) {
        at.cast::<[f32; N]>().write_unaligned(v);
    }
    #[inline(always)]
    unsafe fn f_add(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn f_sub(a: Self::F, b: Self::F) -> Self::F {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn f_fma(sum: Self::F, a: Self::F, b: Self::F) -> Self::F {
        each(|i| sum[i] + a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn f_add_abs(sum: Self::F, a: Self::F) -> Self::F {
        each(|i| sum[i] + a[i].abs())
    }
    #[inline(always)]
    unsafe fn f_sum(v: Self::F) -> f32 {
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }

    #[inline(always)]
    unsafe fn i_zero() -> Self::I {
        [0; N]
    }
    #[inline(always)]
    unsafe fn i_load(at: *const i32) -> Self::I {
        at.cast::<[i32; N]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn i_splat(at: *const i32) -> Self::I {
        [*at; N]
    }
    #[inline(always)]
    unsafe fn i_store(at: *mut i32, v: Self::I) {
        at.cast::<[i32; N]>().write_unaligned(v);
    }
    #[inline(always)]
    unsafe fn i_add(a: Self::I, b: Self::I) -> Self::I {
        each(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    unsafe fn i_sum(v: Self::I) -> i32 {
        v.into_iter().fold(0, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn i_bytes_u8(at: *const u8) -> Self::I {
        let bytes = at.cast::<[u8; 2 * N]>().read_unaligned();
        each(|i| join(i16::from(bytes[2 * i]), i16::from(bytes[2 * i + 1])))
    }
    #[inline(always)]
    unsafe fn i_bytes_i8(at: *const i8) -> Self::I {
        let bytes = at.cast::<[i8; 2 * N]>().read_unaligned();
        each(|i| join(i16::from(bytes[2 * i]), i16::from(bytes[2 * i + 1])))
    }
    #[inline(always)]
    unsafe fn i_sub16(a: Self::I, b: Self::I) -> Self::I {
        each(|i| {
            let ([a, c], [b, d]) = (pair(a[i]), pair(b[i]));
            join(a.wrapping_sub(b), c.wrapping_sub(d))
        })
    }
    #[inline(always)]
    unsafe fn i_abs16(a: Self::I) -> Self::I {
        each(|i| {
            let [low, high] = pair(a[i]);
            join(low.wrapping_abs(), high.wrapping_abs())
        })
    }
    #[inline(always)]
    unsafe fn i_ones16() -> Self::I {
        [0x0001_0001; N]
    }
    #[inline(always)]
    unsafe fn i_madd16(sum: Self::I, a: Self::I, b: Self::I) -> Self::I {
        each(|i| {
            let ([a, c], [b, d]) = (pair(a[i]), pair(b[i]));
            let products = (i32::from(a) * i32::from(b), i32::from(c) * i32::from(d));
            sum[i].wrapping_add(products.0).wrapping_add(products.1)
        })
    }
}

table!(baseline_table, Portable, 4 x 1, 2 x 2, lacks);
