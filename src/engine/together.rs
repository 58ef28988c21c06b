//! Near answers to many queries at once, on one thread: those of one set over all its codes, those of any sets over the lists
//! of the tree.

use crate::core::allow::Allow;
use crate::core::rows::Rows;
use crate::engine::near::{Near, NearFound, Placed, Scratches, n_reranked};
use crate::error::Result;
use crate::index::graph::codes::Codes;
use crate::index::graph::raw::RawRows;
use crate::index::tree::together::{Lists, Member, flat_in_blocks, flat_together, search_together};
use crate::index::tree::{Run, SearchParams, Skeleton, skeleton::MAX_LIST};

/// A query of many.
pub(super) struct One<'a> {
    /// Rows, and which of them is the query.
    pub query: (&'a Rows, usize),
    /// Places that it may find in lists.
    pub allow: Allow<'a>,
    /// Places that it may find one by one, ascending.
    pub run: &'a [u32],
    /// Neighbors, and width of the search.
    pub sizes: (usize, usize),
}

impl<'a> One<'a> {
    fn member(&self, codes: &Codes, raw: &RawRows<'_>) -> Result<Member<'a>> {
        let ((queries, q), (k, ef)) = (self.query, self.sizes);
        let n_rerank = n_reranked(k);
        let params = SearchParams { k, ef, n_rerank: n_rerank.min(ef).max(k) };
        Member::new((codes.query(queries, q)?, raw.query(queries, q)?), self.allow, params)
    }
}

impl Near {
    /// All places of a base in lists, made once.
    ///
    /// # Errors
    /// Those of [`Run::new`] and [`Skeleton::build`].
    pub fn lists(&self, n_base: u32) -> Result<&Lists> {
        if let Some(made) = self.lists.get() {
            return Ok(made);
        }
        let Placed { tree, paths } = &self.placed;
        let run = Run::new((0..n_base).collect(), paths)?;
        let skeleton = Skeleton::build(tree, paths, &run, MAX_LIST)?;
        let lists = Lists::new(run, skeleton)?;
        Ok(self.lists.get_or_init(|| lists))
    }

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

    /// The nearest places for every query, found over lists of all places by codes, the best compared raw.
    ///
    /// # Errors
    /// Those of the queries' preparation.
    pub fn tree_together(
        &self,
        (codes, raw): (&Codes, &RawRows<'_>),
        lists: &Lists,
        all: &[One<'_>],
        scratch: &mut Scratches,
    ) -> Result<Vec<NearFound>> {
        let mut members = members(codes, raw, all)?;
        let widened = |one: &One<'_>| {
            let mut row = vec![0.0; one.query.0.dim()];
            one.query.0.widen(one.query.1, &mut row);
            row
        };
        let rows: Vec<Vec<f32>> = all.iter().map(widened).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let (on, tiles) = ((&self.placed.tree, lists), &mut scratch.tiles);
        let found = search_together(on, &rows, (codes, raw), &mut members, tiles)?;
        Ok(found.into_iter().map(NearFound::of_tree).collect())
    }
}

/// Some queries, ready to be compared.
///
/// # Errors
/// Those of their preparation.
pub(super) fn members<'a>(
    codes: &Codes,
    raw: &RawRows<'_>,
    all: &[One<'a>],
) -> Result<Vec<Member<'a>>> {
    all.iter().map(|one| one.member(codes, raw)).collect()
}
