//! Queries packed for `simd/tile.rs`: panels of as many queries as one or two vectors have lanes.

use crate::backend::cpu::line::{Source, sum_of};
use crate::core::rows::{Rows, Values};
use crate::distance::simd::{Ending, Kernels, Side, Sum, Unit};

/// Some queries, side by side.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// The first query, counted from the first packed.
    pub first: usize,
    /// Queries side by side, the last of them perhaps padding.
    pub width: usize,
}

/// Packed elements `[len, width]` of every panel, one after another.
enum Packed {
    Floats(Vec<f32>),
    Units(Vec<i32>),
}

/// Packed queries.
pub struct Panels {
    /// The panels, in order of queries.
    pub panels: Vec<Panel>,
    /// Queries that are no padding.
    pub n_queries: usize,
    /// Elements, or units of bytes, of one query.
    pub len: usize,
    packed: Packed,
    inverse: Vec<f32>,
    square: Vec<i32>,
    mend: Vec<i32>,
}

/// The panels of `n` queries: wide ones, and a narrow one at the end if that holds the rest.
fn cut(n: usize, widths: [usize; 2]) -> Vec<Panel> {
    let [narrow, wide] = widths;
    let mut panels = Vec::with_capacity(n.div_ceil(wide));
    let mut first = 0;
    while first < n {
        let width = if n - first <= narrow { narrow } else { wide };
        panels.push(Panel { first, width });
        first += width;
    }
    panels
}

/// Sets `out` `[len, width]` to the elements of rows `from`, `element(row, i)` each.
fn transpose<T: Copy>(
    out: &mut [T],
    panel: Panel,
    n_queries: usize,
    element: impl Fn(usize, usize) -> T,
) {
    for lane in 0..panel.width.min(n_queries - panel.first) {
        let places = out[lane..].iter_mut().step_by(panel.width);
        places.enumerate().for_each(|(i, place)| *place = element(panel.first + lane, i));
    }
}

impl Panels {
    /// The queries `range` of `queries`.
    pub fn new(kernels: &Kernels, queries: &Source<'_>, range: std::ops::Range<usize>) -> Self {
        let (host, dim, n) = (queries.host, queries.host.dim(), range.len());
        let panels = cut(n, kernels.widths());
        let padded: usize = panels.iter().map(|panel| panel.width).sum();
        let unit = kernels.unit(sum_of(queries.metric));
        let len = match (host.dtype().is_integer(), unit) {
            (false, _) => dim,
            (true, Unit::Pair) => dim.div_ceil(2),
            (true, Unit::Quad) => dim.div_ceil(4),
        };
        let packed = if host.dtype().is_integer() {
            let mut units = vec![0; padded * len];
            for &panel in &panels {
                let out = &mut units[panel.first * len..(panel.first + panel.width) * len];
                transpose(out, panel, n, |q, i| query_unit(host, unit, range.start + q, i));
            }
            Packed::Units(units)
        } else {
            let mut floats = vec![0.0; padded * len];
            let all = queries.floats();
            for &panel in &panels {
                let out = &mut floats[panel.first * len..(panel.first + panel.width) * len];
                transpose(out, panel, n, |q, i| {
                    let at = (range.start + q) * dim + i;
                    all.map_or_else(|| host.values().get(at), |all| all[at])
                });
            }
            Packed::Floats(floats)
        };
        let take = |of: &[f32]| padded_copy(of, &range, padded);
        let mend = query_mend(host, unit, &range, padded);
        let square = padded_copy(&queries.placed.square, &range, padded);
        let inverse = take(&queries.placed.inverse);
        Self { panels, n_queries: n, len, packed, inverse, square, mend }
    }

    /// Queries and padding.
    pub fn n_padded(&self) -> usize {
        self.inverse.len()
    }

    /// What `finish` needs of a panel, under `bound` `[n_padded]`.
    pub fn side<'a>(&'a self, panel: Panel, bound: &'a [f32]) -> Side<'a> {
        let range = panel.first..panel.first + panel.width;
        Side {
            inverse: &self.inverse[range.clone()],
            square: &self.square[range.clone()],
            mend: &self.mend[range.clone()],
            bound: &bound[range],
        }
    }

    /// The elements `from..to` of a panel of floats.
    pub fn floats(&self, panel: Panel, from: usize, to: usize) -> Option<&[f32]> {
        let Packed::Floats(floats) = &self.packed else { return None };
        let start = panel.first * self.len;
        Some(&floats[start + from * panel.width..start + to * panel.width])
    }

    /// The units `from..to` of a panel of bytes.
    pub fn units(&self, panel: Panel, from: usize, to: usize) -> Option<&[i32]> {
        let Packed::Units(units) = &self.packed else { return None };
        let start = panel.first * self.len;
        Some(&units[start + from * panel.width..start + to * panel.width])
    }
}

fn padded_copy<T: Copy + Default>(of: &[T], range: &std::ops::Range<usize>, n: usize) -> Vec<T> {
    let mut out = vec![T::default(); n];
    if !of.is_empty() {
        out[..range.len()].copy_from_slice(&of[range.clone()]);
    }
    out
}

/// Unit `i` of query `q`; bytes past the last are 0.
fn query_unit(host: &Rows, unit: Unit, q: usize, i: usize) -> i32 {
    let dim = host.dim();
    let byte = |at: usize| -> i16 {
        if at >= dim {
            return 0;
        }
        match (host.values(), unit) {
            (Values::I8(values), _) => i16::from(values[q * dim + at]),
            (Values::U8(values), Unit::Pair) => i16::from(values[q * dim + at]),
            // Signed, for the multiplication of unsigned with signed bytes; mended by 128 Σ row.
            (Values::U8(values), Unit::Quad) => i16::from(values[q * dim + at]) - 128,
            _ => unreachable!("only bytes are packed in units"),
        }
    };
    match unit {
        Unit::Pair => i32::from(byte(2 * i) as u16) | i32::from(byte(2 * i + 1) as u16) << 16,
        Unit::Quad => i32::from_le_bytes([0, 1, 2, 3].map(|j| byte(4 * i + j) as i8 as u8)),
    }
}

/// What mends the sums of a query of signed bytes whose rows were made unsigned by adding 128: `-128 Σ query`.
fn query_mend(host: &Rows, unit: Unit, range: &std::ops::Range<usize>, n: usize) -> Vec<i32> {
    let mut mend = vec![0; n];
    if let (Values::I8(values), Unit::Quad) = (host.values(), unit) {
        let queries =
            values[range.start * host.dim()..range.end * host.dim()].chunks_exact(host.dim());
        for (mend, query) in mend.iter_mut().zip(queries) {
            *mend = -128 * query.iter().map(|&x| i32::from(x)).sum::<i32>();
        }
    }
    mend
}

/// How sums become distances, for rows compared as `rows` are.
pub fn ending(rows: &Source<'_>) -> Ending {
    let sum = sum_of(rows.metric);
    match (rows.host.dtype().is_integer(), sum, rows.metric) {
        (false, Sum::Dot, crate::core::metric::Metric::Cosine) => Ending::Cosine,
        (false, Sum::Dot, _) => Ending::Dot,
        (false, _, _) => Ending::Sum,
        (true, Sum::Dot, crate::core::metric::Metric::Cosine) => Ending::IntCosine,
        (true, Sum::Dot, _) => Ending::IntDot,
        (true, Sum::L2, _) => Ending::IntL2,
        (true, Sum::L1, _) => Ending::IntSum,
    }
}
