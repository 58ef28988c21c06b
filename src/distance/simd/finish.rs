//! From sums to distances, and which rows have one below the bounds: the step after `tile.rs`, while the sums are in
//! the first-level cache. Plain loops over arrays, compiled for each instruction set.

/// What makes a distance of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Float sum `s`: the distance is `s`.
    Sum,
    /// Float sum: `-s`.
    Dot,
    /// Float sum: `1 - s (i_r i_q)`, with inverse norms.
    Cosine,
    /// Integer sum `s`, mended by `s + m_r + m_q`: the distance is that.
    IntSum,
    /// Mended integer sum: `-s`.
    IntDot,
    /// Mended integer sum: `1 - s (i_r i_q)`.
    IntCosine,
    /// Mended integer sum: `n_r + n_q - 2 s`, with squared norms.
    IntL2,
}

/// One number per row or per query of each kind that an [`Ending`] may need, and the bounds.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Inverse norms.
    pub inverse: &'a [f32],
    /// Squared norms of bytes.
    pub square: &'a [i32],
    /// Added to integer sums.
    pub mend: &'a [i32],
    /// Only distances below are looked at.
    pub bound: &'a [f32],
}

/// Turns `sums` `[n_rows, W]` into distances in place, as bits of floats; `any[row]` says whether one of a row is below
/// both its row's bound and its query's.
#[inline(always)]
pub(super) fn run<const W: usize>(
    ending: Ending,
    sums: &mut [u32],
    rows: Side<'_>,
    queries: Side<'_>,
    any: &mut [bool],
) {
    let inverse: &[f32; W] = lanes(queries.inverse);
    let square: &[i32; W] = lanes(queries.square);
    let mend: &[i32; W] = lanes(queries.mend);
    let bound: &[f32; W] = lanes(queries.bound);
    for (row, sums) in sums.chunks_exact_mut(W).enumerate() {
        let sums: &mut [u32; W] = sums.try_into().expect("a chunk of W");
        let (own_inverse, own_square, own_mend) =
            (rows.inverse[row], rows.square[row], rows.mend[row]);
        let mut out = [0.0f32; W];
        let float = |l: usize| f32::from_bits(sums[l]);
        let int = |l: usize| (sums[l] as i32).wrapping_add(own_mend).wrapping_add(mend[l]);
        match ending {
            Ending::Sum => (0..W).for_each(|l| out[l] = float(l)),
            Ending::Dot => (0..W).for_each(|l| out[l] = -float(l)),
            Ending::Cosine => {
                (0..W).for_each(|l| out[l] = 1.0 - float(l) * (own_inverse * inverse[l]))
            }
            Ending::IntSum => (0..W).for_each(|l| out[l] = int(l) as f32),
            Ending::IntDot => (0..W).for_each(|l| out[l] = -(int(l) as f32)),
            Ending::IntCosine => {
                (0..W).for_each(|l| out[l] = 1.0 - int(l) as f32 * (own_inverse * inverse[l]))
            }
            Ending::IntL2 => (0..W).for_each(|l| {
                let apart = own_square.wrapping_add(square[l]).wrapping_sub(int(l).wrapping_mul(2));
                out[l] = apart as f32;
            }),
        }
        let mut below = false;
        for l in 0..W {
            below |= out[l] < bound[l].min(rows.bound[row]);
            sums[l] = out[l].to_bits();
        }
        any[row] = below;
    }
}

fn lanes<T, const W: usize>(of: &[T]) -> &[T; W] {
    of[..W].try_into().expect("cut to W")
}
