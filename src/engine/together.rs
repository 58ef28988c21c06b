//! Near answers to many queries at once, on one thread: those of one set over all its codes, those of any sets over one block of
//! codes after another.

use crate::core::rows::Rows;
use crate::engine::near::{Near, NearFound, Scratches, n_reranked};
use crate::error::Result;
use crate::index::graph::codes::Codes;
use crate::index::graph::raw::RawRows;
use crate::index::tree::together::{Member, flat_in_blocks, flat_together};

/// A query of many.
pub(super) struct One<'a> {
    /// Rows, and which of them is the query.
    pub query: (&'a Rows, usize),
    /// Places that it may find one by one, ascending.
    pub run: &'a [u32],
    /// Neighbors.
    pub k: usize,
}

impl One<'_> {
    fn member(&self, codes: &Codes, raw: &RawRows<'_>) -> Result<Member> {
        let (queries, q) = self.query;
        let ready = (codes.query(queries, q)?, raw.query(queries, q)?);
        Ok(Member::new(ready, self.k, n_reranked(self.k)))
    }
}

impl Near {
    /// The nearest of listed rows for every query: all by their codes, the best raw. Each finds what [`Self::coded`] finds.
    ///
    /// # Errors
    /// Those of the queries' preparation.
    pub fn coded_together(
        codes: &Codes,
        raw: &RawRows<'_>,
        run: &[u32],
        all: &[One<'_>],
        scratch: &mut Scratches,
    ) -> Result<Vec<NearFound>> {
        let mut members = members(codes, raw, all)?;
        let found = flat_together(run, codes, raw, &mut members, &mut scratch.tiles)?;
        Ok(found.into_iter().map(NearFound::of_tree).collect())
    }

    /// The nearest of its own run for every query: all by their codes, the best raw. Each finds what [`Self::coded`] finds.
    ///
    /// # Errors
    /// Those of the queries' preparation.
    pub fn coded_in_blocks(
        codes: &Codes,
        raw: &RawRows<'_>,
        all: &[One<'_>],
        scratch: &mut Scratches,
    ) -> Result<Vec<NearFound>> {
        let mut members = members(codes, raw, all)?;
        let runs: Vec<&[u32]> = all.iter().map(|one| one.run).collect();
        let found = flat_in_blocks(&runs, codes, raw, &mut members, &mut scratch.tiles)?;
        Ok(found.into_iter().map(NearFound::of_tree).collect())
    }
}

/// Some queries, ready to be compared.
///
/// # Errors
/// Those of their preparation.
pub(super) fn members(codes: &Codes, raw: &RawRows<'_>, all: &[One<'_>]) -> Result<Vec<Member>> {
    all.iter().map(|one| one.member(codes, raw)).collect()
}
