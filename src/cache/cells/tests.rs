use super::*;
use crate::cache::entry::{Facts, Labels, Owner};
use crate::cache::identity::{EntryId, Identity, PartitionKey, Scope};
use crate::core::mix::stream;

const DIM: usize = 48;

fn hot(id: u64) -> Arc<Hot> {
    let identity = Identity {
        tenant: String::new(),
        user: None,
        category: String::new(),
        model: String::new(),
        compat: [0; 32],
    };
    Arc::new(Hot::new(Facts {
        id: EntryId(id),
        key: Arc::new(PartitionKey::of(&identity, Scope::Tenant).unwrap()),
        owner: Arc::new(Owner { tenant: String::new(), user: None, writer: None }),
        labels: Labels::default(),
        exact: id.into(),
        answer_hash: 0,
        created_ms: 0,
        ttl_ms: 1,
        n_bytes: 1,
        saved_ms: 1,
        has_row: true,
    }))
}

/// A row around one of some centres, as texts lie around subjects.
fn row(seed: u64) -> Vec<f32> {
    let value = |n: u64| (stream(n, 3) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    let centre = stream(seed, 1) % 40;
    let of = |at: u64| value(centre * 1000 + at) + 0.7 * value(seed * 1000 + at + 1_000_000_000);
    (0..DIM as u64).map(of).collect()
}

fn query(seed: u64) -> Query {
    Query::new(&row(seed), DIM).unwrap()
}

struct Rows {
    loops: Loops,
    cells: Cells,
    all: Vec<(Arc<Hot>, Vec<f16>)>,
}

impl Rows {
    fn new(n: u64) -> Self {
        let mut rows = Self { loops: Loops::new(DIM), cells: Cells::new(DIM), all: Vec::new() };
        (0..n).for_each(|id| rows.insert(id, query(id).kept()));
        rows
    }

    fn insert(&mut self, id: u64, row: Vec<f16>) {
        let hot = hot(id);
        self.cells.insert(&self.loops, Arc::clone(&hot), &row);
        self.all.push((hot, row));
    }

    fn nearest(&self, query: &Query) -> Option<(EntryId, f32)> {
        found(self.cells.nearest(&self.loops, query, &|_| true))
    }

    fn plain(&self, query: &Query) -> Option<(EntryId, f32)> {
        found(nearer(self.all.iter().map(|(hot, row)| (hot, query.cosine(row)))))
    }

    /// Every entry is where it says.
    fn check(&self) {
        assert_eq!(self.cells.n_rows, self.all.len());
        let in_cells: usize = self.cells.cells.iter().map(|cell| cell.hots.len()).sum();
        assert_eq!(in_cells, self.all.len());
        for (hot, row) in &self.all {
            let (cell, at) = hot.place();
            assert_eq!(self.cells.cells[cell].hots[at].id(), hot.id());
            assert_eq!(self.cells.cells[cell].row(at, DIM), &row[..]);
        }
    }
}

fn found(near: Option<(Arc<Hot>, f32)>) -> Option<(EntryId, f32)> {
    near.map(|(hot, cosine)| (hot.id(), cosine))
}

#[test]
fn in_a_small_partition_the_nearest_is_what_a_plain_scan_finds() {
    let mut rows = Rows::new(0);
    assert_eq!(rows.nearest(&query(7)), None);
    for n in 0..700 {
        rows.insert(n, query(n).kept());
        if n % 50 == 0 {
            for q in 0..40 {
                let query = query(10_000 + q);
                assert_eq!(rows.nearest(&query), rows.plain(&query), "{n} rows, query {q}");
            }
        }
    }
}

#[test]
fn of_equal_rows_the_least_number_is_nearest_however_many_there_are() {
    let mut rows = Rows::new(0);
    (0..600).rev().for_each(|id| rows.insert(id, query(id % 3).kept()));
    for q in 0..3 {
        assert_eq!(rows.nearest(&query(q)).unwrap().0, EntryId(q));
    }
    let passes = |hot: &Hot| hot.id().0 >= 500;
    let near = rows.cells.nearest(&rows.loops, &query(1), &passes);
    assert_eq!(found(near).unwrap().0, EntryId(502), "the first of those that pass");
}

#[test]
fn a_large_partition_is_divided_and_finds_rows_that_are_near() {
    let mut rows = Rows::new(3 * FLAT_ROWS as u64);
    rows.check();
    assert!(rows.cells.cells.len() > FLAT_ROWS / CELL_ROWS);
    assert!(rows.cells.cells.iter().all(|cell| (1..=CELL_ROWS).contains(&cell.hots.len())));
    let mut n_found = 0;
    for id in (0..rows.all.len() as u64).step_by(17) {
        let mut near = row(id);
        near.iter_mut().enumerate().for_each(|(at, x)| *x += 0.1 * ((at % 3) as f32 - 1.0));
        let near = Query::new(&near, DIM).unwrap();
        n_found += usize::from(rows.nearest(&near) == rows.plain(&near));
    }
    let n_asked = rows.all.len().div_ceil(17);
    assert!(n_found * 1000 >= n_asked * 995, "{n_found} of {n_asked} were found");
    // Removed again, in no order, until nothing is left.
    let mut order: Vec<u64> = (0..rows.all.len() as u64).collect();
    order.sort_by_key(|&id| stream(id, 9));
    for (n, id) in order.into_iter().enumerate() {
        let at = rows.all.iter().position(|(hot, _)| hot.id().0 == id).unwrap();
        let (hot, _) = rows.all.swap_remove(at);
        rows.cells.remove(&hot);
        if n % 2000 == 0 || rows.all.len() < 3 {
            rows.check();
        }
    }
    assert_eq!((rows.cells.cells.len(), rows.nearest(&query(1))), (1, None));
}

#[test]
fn rows_that_are_brought_at_once_are_divided_and_found_as_well() {
    let n = 2 * FLAT_ROWS as u64;
    let mut rows = Rows::new(0);
    for id in 0..n {
        let (hot, row) = (hot(id), query(id).kept());
        rows.cells.append(Arc::clone(&hot), &row);
        rows.all.push((hot, row));
    }
    rows.cells.divide_all(&rows.loops);
    rows.check();
    assert!(rows.cells.cells.iter().all(|cell| (1..=CELL_ROWS).contains(&cell.hots.len())));
    let is_found = |id: u64| rows.nearest(&query(id)) == rows.plain(&query(id));
    assert!((0..n).step_by(13).filter(|&id| !is_found(id)).count() < 4);
}

#[test]
fn equal_rows_without_end_are_divided_too() {
    let mut rows = Rows::new(0);
    (0..FLAT_ROWS as u64 + 600).for_each(|id| rows.insert(id, query(5).kept()));
    rows.check();
    assert!(rows.nearest(&query(5)).unwrap().1 > 0.999);
}

#[test]
fn several_queries_find_what_each_finds_alone() {
    for n in [1, 300, 2 * FLAT_ROWS as u64] {
        let rows = Rows::new(n);
        for n_queries in [2, 3, 5, 70] {
            let queries: Vec<Query> = (0..n_queries).map(|q| query(3 * q + 1)).collect();
            let queries: Vec<&Query> = queries.iter().collect();
            let together = rows
                .cells
                .nearest_of(&rows.loops, &queries, &|q, hot| hot.id().0 % 2 == q as u64 % 2);
            for (q, (query, near)) in queries.iter().zip(together).enumerate() {
                let passes = |hot: &Hot| hot.id().0 % 2 == q as u64 % 2;
                let alone = rows.cells.nearest(&rows.loops, query, &passes);
                assert_eq!(found(near), found(alone), "{n} rows, query {q} of {n_queries}");
            }
        }
    }
}
