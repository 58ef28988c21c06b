//! How far rows are apart, as a walk asks for it.

/// What a graph knows of rows: their distances, by slot. One call answers for all links of a slot.
pub trait Distances: Sync {
    /// A query, or a row in the place of one.
    type Query: Send;

    /// Slots; every slot below has a row, or is not asked for.
    fn n_slots(&self) -> usize;

    /// The row of `slot` as a query.
    fn query_of(&self, slot: u32) -> Self::Query;

    /// Sets `out` to the distances between the query and the rows `slots`.
    fn measure(&self, query: &Self::Query, slots: &[u32], out: &mut [f32]);

    /// Asks memory for the row of `slot`.
    fn prefetch(&self, slot: u32);
}
