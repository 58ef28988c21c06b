//! The base of one vector: its rows in tree order, what makes exact answers fast, and what makes near ones faster.

use std::sync::Arc;

use rayon::ThreadPool;

use crate::backend::cpu::Cpu;
use crate::backend::resident::Resident;
use crate::core::metric::Metric;
use crate::core::rows::Rows;
use crate::engine::near::Near;
use crate::error::Result;
use crate::index::graph::raw::RawRows;
use crate::index::sealed::PlacedRows;
use crate::plan::cost::Way;
use crate::quant::search::{ExactIndex, Keep};

/// Seed of the codes' rotation, of the tree and of the graph: one collection has one.
pub(super) const SEED: u64 = 1;

/// Rows by place, none of which changes.
pub(super) struct Base {
    /// `[n_base, dim]`.
    pub rows: PlacedRows,
    /// What exact passes are made by.
    pub exact: Exact,
    /// The rows as verdicts of near ways compare them.
    pub raw: RawRows<'static>,
    /// The codes and the graph, where they were built.
    pub near: Option<Near>,
}

/// What exact passes are made by.
pub(super) enum Exact {
    /// Codes that rule out.
    Codes(Box<ExactIndex>),
    /// All rows: L1 has no codes.
    Raw(Resident),
}

impl Exact {
    /// The rows.
    pub fn rows(&self) -> &Resident {
        match self {
            Self::Codes(index) => index.rows(),
            Self::Raw(rows) => rows,
        }
    }

    /// What a pass is.
    pub fn way(&self) -> Way {
        match self {
            Self::Codes(_) => Way::Bounds,
            Self::Raw(_) => Way::Scan,
        }
    }
}

impl Base {
    /// A base of at least one row, for exact answers. Cost: the codes of all rows.
    ///
    /// # Errors
    /// Those of [`Rows::check`] and [`Backend::upload`](crate::backend::Backend::upload).
    pub fn of((backend, pool): (&Cpu, &ThreadPool), rows: Rows, metric: Metric) -> Result<Self> {
        let rows = PlacedRows::new(Arc::new(rows), metric)?;
        let exact = match metric {
            Metric::L1 => Exact::Raw(rows.upload(backend)?),
            _ => {
                let shared = Arc::clone(rows.rows());
                let index = ExactIndex::build(backend, pool, shared, metric, Keep::Bits, SEED)?;
                Exact::Codes(Box::new(index))
            }
        };
        Self::of_parts(rows, exact, None)
    }

    /// A base of parts that were made of the same rows.
    ///
    /// # Errors
    /// Those of [`PlacedRows::raw`].
    pub fn of_parts(rows: PlacedRows, exact: Exact, near: Option<Near>) -> Result<Self> {
        let raw = rows.raw()?;
        Ok(Self { rows, exact, raw, near })
    }

    /// The rows.
    pub fn rows(&self) -> &Rows {
        self.rows.rows()
    }
}
