use super::code::Codes;
use super::look::nearer;
use super::*;
use crate::cache::entry::{Facts, Labels, Owner};
use crate::cache::identity::{EntryId, Identity, PartitionKey, Scope};
use crate::core::mix::stream;
use crate::distance::simd::popcount::BLOCK;
use crate::distance::simd::popcount::compact::Marks;

const DIM: usize = 48;

pub(super) fn hot(id: u64) -> Arc<Hot> {
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

pub(super) fn query(seed: u64) -> Query {
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
        self.nearest_from(query, -1.0)
    }

    fn nearest_from(&self, query: &Query, need: f32) -> Option<(EntryId, f32)> {
        found(self.cells.nearest(&self.loops, &Want::new(query, need), &|_| true))
    }

    fn plain(&self, query: &Query) -> Option<(EntryId, f32)> {
        found(nearer(self.all.iter().map(|(hot, row)| (hot, query.cosine(row)))))
    }

    /// Every entry is where it says.
    fn check(&self) {
        assert_eq!(self.cells.n_rows, self.all.len());
        let in_cells: usize = self.cells.cells.iter().map(|cell| cell.hots.len()).sum();
        assert_eq!(in_cells, self.all.len());
        self.cells.cells.iter().for_each(|cell| self.check_codes(cell));
        for (hot, row) in &self.all {
            let (cell, at) = hot.place();
            assert_eq!(self.cells.cells[cell].hots[at].id(), hot.id());
            assert_eq!(self.cells.cells[cell].row(at, DIM), &row[..]);
        }
    }
}

impl Rows {
    /// A cell has codes of all its rows, as they are made of them, or of none.
    fn check_codes(&self, cell: &Cell) {
        let n = cell.hots.len();
        let is_some = n >= CODED_ROWS || n >= CODED_ROWS / 2 && !cell.codes.is_empty();
        assert_eq!(cell.codes.len(), if is_some { n } else { 0 });
        let (coder, asking) = (&self.loops.coder, self.loops.coder.asking(&query(1)));
        let mut made = Codes::default();
        cell.rows.chunks_exact(DIM).take(cell.codes.len()).for_each(|row| made.push(coder, row));
        assert_eq!(made.n_blocks(), cell.codes.n_blocks());
        let [of, again] = [&cell.codes, &made].map(|codes| {
            let mut marks = vec![Marks::NONE; codes.n_blocks()];
            codes.marks(coder, 0, [&asking], [0.0], [&mut marks]);
            let lanes = marks.iter().enumerate().flat_map(|(block, marks)| {
                let is_row = move |lane: &usize| codes.lanes(block) >> lane & 1 == 1;
                (0..BLOCK).filter(is_row).map(|lane| marks.similarities[lane])
            });
            lanes.collect::<Vec<f32>>()
        });
        assert_eq!(of, again);
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
    let near = rows.cells.nearest(&rows.loops, &Want::new(&query(1), 0.9), &passes);
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
        rows.cells.remove(&rows.loops, &hot);
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
    rows.cells.settle(&rows.loops);
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
            let wants: Vec<Want<'_>> = queries.iter().map(|query| Want::new(query, 0.9)).collect();
            let together = rows
                .cells
                .nearest_of(&rows.loops, &wants, &|q, hot| hot.id().0 % 2 == q as u64 % 2);
            for (q, (want, near)) in wants.iter().zip(together).enumerate() {
                let passes = |hot: &Hot| hot.id().0 % 2 == q as u64 % 2;
                let alone = rows.cells.nearest(&rows.loops, want, &passes);
                assert_eq!(found(near), found(alone), "{n} rows, query {q} of {n_queries}");
            }
        }
    }
}

/// Whatever is as near as it must be is what a plain scan finds; of what is not, one that is not much farther is told.
#[test]
fn what_is_near_enough_is_what_a_plain_scan_finds() {
    let rows = Rows::new(3000);
    let (mut n_near, mut n_far) = (0, 0);
    for q in 0..400 {
        let mut near = row(7 * q);
        near.iter_mut().enumerate().for_each(|(at, x)| {
            *x += 0.004
                * q as f32
                * ((stream(q, at as u64) >> 40) as f32 / (1u64 << 23) as f32 - 1.0);
        });
        let query = Query::new(&near, DIM).unwrap();
        let (id, plain) = rows.plain(&query).unwrap();
        let (found, cosine) = rows.nearest_from(&query, 0.9).unwrap();
        if plain >= 0.9 {
            n_near += 1;
            assert_eq!((found, cosine), (id, plain), "query {q}");
        } else {
            n_far += 1;
            assert!(cosine <= plain && cosine > plain - 0.2, "{cosine} told, {plain} is nearest");
        }
    }
    assert!(n_near > 50 && n_far > 50, "{n_near} near, {n_far} far");
}
