//! What was sealed answers as before, from the file, and what was damaged is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use rayon::{ThreadPool, ThreadPoolBuilder};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::backend::cpu::Cpu;
use crate::backend::fallback::WithFallback;
use crate::backend::plain::Plain;
use crate::backend::resident::Resident;
use crate::backend::{Backend, Stream};
use crate::core::allow::Allow;
use crate::core::metric::Metric;
use crate::core::mix::stream;
use crate::core::neighbors::Neighbor;
use crate::core::rows::{Dtype, Rows, Values};
use crate::distance::simd::coded::Bits;
use crate::error::Result;
use crate::index::graph::codes::Codes;
use crate::index::graph::distances::Distances;
use crate::index::graph::{BuildParams, Graph, Parts, Scratch, SearchParams};
use crate::index::sealed::PlacedRows;
use crate::quant::search::{ExactIndex, Keep};
use crate::store::Identity;
use crate::store::disk::FileDisk;
use crate::store::sealed::{Sealed, SealedWriter};

const IDENTITY: Identity<'_> = Identity { kind: "index", owner: 7, version: 3 };

fn pool() -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(2).build().unwrap())
}

fn cpu() -> Cpu {
    Cpu::new(pool(), 1 << 30)
}

/// Rows around ten centres, none of norm 0.
fn rows(dtype: Dtype, n_rows: u64, dim: u64, seed: u64) -> Arc<Rows> {
    let unit = |seed, i| (stream(seed, i) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let element = |i: u64| {
        let centre = stream(seed, i / dim) % 10;
        60.0 * unit(1, centre * dim + i % dim) + 20.0 * unit(seed ^ 2, i)
    };
    let all = (0..n_rows * dim).map(element);
    let values = match dtype {
        Dtype::F32 => Values::F32(all.collect()),
        Dtype::F16 => Values::F16(all.map(f16::from_f32).collect()),
        Dtype::U8 => Values::U8(all.map(|x| (x + 128.0) as u8).collect()),
        Dtype::I8 => Values::I8(all.map(|x| x as i8).collect()),
    };
    Arc::new(Rows::new(values, dim as usize).unwrap())
}

struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(n_sections: usize, write: impl Fn(&mut SealedWriter<'_>) -> Result<()>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.sealed");
        let mut writer = SealedWriter::create(&FileDisk, &path, IDENTITY, n_sections).unwrap();
        write(&mut writer).unwrap();
        writer.finish().unwrap();
        Self { _folder: folder, path }
    }

    fn open(&self) -> Sealed {
        Sealed::open(&FileDisk, &self.path, IDENTITY).unwrap()
    }

    /// Flips the bit at the start of the middle element of a section.
    fn damage(&self, name: &str) {
        let section = self.open().sections().iter().find(|one| one.name == name).unwrap().clone();
        let mut bytes = fs::read(&self.path).unwrap();
        bytes[(section.offset + section.n_bytes / 8 * 4) as usize] ^= 1;
        replace(&self.path, &bytes);
    }
}

/// A new file under the name, as a rename makes one: what is mapped stays.
fn replace(path: &Path, bytes: &[u8]) {
    let part = path.with_extension("part");
    fs::write(&part, bytes).unwrap();
    fs::rename(part, path).unwrap();
}

fn scanned(backend: &dyn Backend, queries: &Rows, rows: &Resident) -> Vec<Vec<Neighbor>> {
    backend.flat_scan(Stream(0), queries, rows, Allow::All, 10).unwrap()
}

fn measured<D: Distances>(distances: &D, query: &D::Query) -> Vec<u32> {
    let slots: Vec<u32> = (0..distances.n_slots() as u32).collect();
    let mut out = vec![0.0; slots.len()];
    distances.measure(query, &slots, &mut out);
    out.iter().map(|x: &f32| x.to_bits()).collect()
}

#[test]
fn sealed_rows_have_the_same_distances_bit_for_bit() {
    let cpu = cpu();
    for dtype in Dtype::ALL {
        for metric in Metric::ALL {
            let (all, queries) = (rows(dtype, 300, 21, 3), rows(dtype, 5, 21, 4));
            let before = PlacedRows::new(Arc::clone(&all), metric).unwrap();
            let file = File::new(PlacedRows::N_SECTIONS, |writer| before.seal(writer, "rows"));
            let after = PlacedRows::open(&file.open(), "rows").unwrap();
            assert_eq!((after.rows(), after.metric()), (&all, metric));
            let plain = cpu.upload(Arc::clone(&all), metric).unwrap();
            let opened = after.upload(&cpu).unwrap();
            assert_eq!(plain.n_bytes(), opened.n_bytes(), "{dtype:?} {metric}");
            let want = scanned(&cpu, &queries, &plain);
            assert_eq!(want, scanned(&cpu, &queries, &opened), "{dtype:?} {metric}");
            let (a, b) = (before.raw().unwrap(), after.raw().unwrap());
            let (p, q) = (a.query(&queries, 1).unwrap(), b.query(&queries, 1).unwrap());
            assert_eq!(measured(&a, &p), measured(&b, &q), "{dtype:?} {metric}");
            assert_eq!(measured(&a, &a.query_of(7)), measured(&b, &b.query_of(7)));
        }
    }
}

#[test]
fn rows_of_any_norm_are_sealed_with_their_scaled_copy() {
    let values: Vec<f32> = (0..40).map(|i| ((i * 7 % 11) as f32 - 4.5) * 1e-30).collect();
    let all = Arc::new(Rows::new(Values::F32(values.into()), 10).unwrap());
    let before = PlacedRows::new(Arc::clone(&all), Metric::Cosine).unwrap();
    let file = File::new(PlacedRows::N_SECTIONS, |writer| before.seal(writer, "rows"));
    let after = PlacedRows::open(&file.open(), "rows").unwrap();
    let (a, b) = (before.raw().unwrap(), after.raw().unwrap());
    assert_eq!(measured(&a, &a.query_of(2)), measured(&b, &b.query_of(2)));
    let cpu = cpu();
    let want = scanned(&cpu, &all, &cpu.upload(Arc::clone(&all), Metric::Cosine).unwrap());
    assert_eq!(want, scanned(&cpu, &all, &after.upload(&cpu).unwrap()));
}

#[test]
fn rows_whose_norms_are_of_others_are_refused() {
    let few = PlacedRows::new(rows(Dtype::F32, 40, 8, 3), Metric::Cosine).unwrap();
    let file = File::new(PlacedRows::N_SECTIONS, |writer| {
        writer.section::<u64>("rows.about", &[5])?;
        writer.append(&[1u64, 1, 40, 8, 0])?;
        writer.section::<f32>("rows.values", &[40, 8])?;
        writer.append(&[1.0f32; 320])?;
        writer.section::<f32>("rows.inverse", &[39])?;
        writer.append(&[1.0f32; 39])?;
        writer.section::<u32>("rows.square", &[0])?;
        writer.section::<f32>("rows.scaled", &[0])
    });
    let error = PlacedRows::open(&file.open(), "rows").unwrap_err();
    assert!(error.code() == "corrupt_file" && error.to_string().contains("39 inverse"), "{error}");
    let file = File::new(PlacedRows::N_SECTIONS, |writer| few.seal(writer, "rows"));
    assert_eq!(PlacedRows::open(&file.open(), "bytes").unwrap_err().code(), "corrupt_file");
    file.damage("rows.about");
    assert_eq!(PlacedRows::open(&file.open(), "rows").unwrap_err().code(), "corrupt_file");
}

#[test]
fn sealed_codes_give_the_same_estimates_bit_for_bit() {
    let (all, queries) = (rows(Dtype::F32, 300, 70, 3), rows(Dtype::F32, 2, 70, 4));
    for bits in [Bits::Four, Bits::Eight] {
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            let before = Codes::of(&pool(), metric, bits, &all, 9).unwrap();
            let file = File::new(Codes::N_SECTIONS, |writer| before.seal(writer, "codes"));
            let mut after = Codes::open(&file.open(), "codes").unwrap();
            let query = (before.query(&queries, 1).unwrap(), after.query(&queries, 1).unwrap());
            assert_eq!(measured(&before, &query.0), measured(&after, &query.1), "{metric}");
            let (p, q) = (before.query_of(7), after.query_of(7));
            assert_eq!(measured(&before, &p), measured(&after, &q));
            // More rows are encoded in the same way, in a copy.
            let mut more = before.clone();
            more.put(&pool(), 290, &queries.slice(0..2)).unwrap();
            after.put(&pool(), 290, &queries.slice(0..2)).unwrap();
            assert_eq!(measured(&more, &query.0), measured(&after, &query.1));
            assert!(file.open().verify().unwrap().is_empty());
        }
    }
}

struct Built {
    graph: Graph,
    rows: PlacedRows,
    codes: Codes,
}

fn build(n_rows: u64) -> Built {
    let all = rows(Dtype::F32, n_rows, 16, 3);
    let codes = Codes::of(&pool(), Metric::Cosine, Bits::Four, &all, 9).unwrap();
    let rows = PlacedRows::new(all, Metric::Cosine).unwrap();
    let params = BuildParams { m: 4, ef_construction: 32, seed: 5 };
    let slots: Vec<u32> = (0..n_rows as u32).collect();
    let mut graph = Graph::build(params, &pool(), &codes, &slots).unwrap();
    // Some slots without a row, to which links may still lead.
    let gone: Vec<u32> = (0..n_rows as u32 / 20).map(|i| 20 * i).collect();
    graph.remove(&codes, &gone, &mut Scratch::default()).unwrap();
    Built { graph, rows, codes }
}

fn seal(built: &Built) -> File {
    let n_sections = Graph::N_SECTIONS + PlacedRows::N_SECTIONS + Codes::N_SECTIONS;
    File::new(n_sections, |writer| {
        built.rows.seal(writer, "rows")?;
        built.codes.seal(writer, "codes")?;
        built.graph.seal(writer)
    })
}

fn open(sealed: &Sealed) -> Built {
    Built {
        graph: Graph::open(&pool(), sealed).unwrap(),
        rows: PlacedRows::open(sealed, "rows").unwrap(),
        codes: Codes::open(sealed, "codes").unwrap(),
    }
}

#[test]
fn a_sealed_graph_finds_the_same_and_outlives_its_file() {
    let before = build(3000);
    let file = seal(&before);
    let after = open(&file.open());
    drop(file);
    assert_eq!(before.graph.parts(), after.graph.parts());
    assert!(after.graph.parts().links.is_lent());
    let (raw, raw_after) = (before.rows.raw().unwrap(), after.rows.raw().unwrap());
    let queries = rows(Dtype::F32, 30, 16, 4);
    let (params, mut scratch) = (SearchParams::default(), Scratch::default());
    for i in 0..queries.n_rows() {
        let answers = [(&before, &raw), (&after, &raw_after)].map(|(built, raw)| {
            let query = built.codes.query(&queries, i).unwrap();
            let raw_query = raw.query(&queries, i).unwrap();
            let (on, by) = ((&built.codes, &query), (raw, &raw_query));
            built.graph.search_reranked(on, by, Allow::All, &params, &mut scratch).unwrap()
        });
        assert_eq!(answers[0].neighbors.len(), 10);
        assert_eq!(answers[0], answers[1]);
    }
}

#[test]
fn a_change_of_a_lent_graph_is_the_same_as_of_an_owned_one_and_leaves_the_file() {
    let mut before = build(1000);
    let file = seal(&before);
    let mut after = open(&file.open());
    let (sealed, mut scratch) = (before.graph.parts(), Scratch::default());
    for built in [&mut before, &mut after] {
        // A slot to which links lead is used again, and others lose their row.
        built.graph.remove(&built.codes, &[7, 8, 9], &mut scratch).unwrap();
        built.graph.insert(&pool(), &built.codes, &[40, 60, 7]).unwrap();
    }
    assert_eq!(before.graph.parts(), after.graph.parts());
    assert!(!after.graph.parts().links.is_lent() && after.graph.parts() != sealed);
    assert!(file.open().verify().unwrap().is_empty());
    assert_eq!(Graph::open(&pool(), &file.open()).unwrap().parts(), sealed);
}

#[test]
fn an_empty_graph_is_sealed() {
    let graph = Graph::new(BuildParams::default()).unwrap();
    let file = File::new(Graph::N_SECTIONS, |writer| graph.seal(writer));
    assert_eq!(Graph::open(&pool(), &file.open()).unwrap().parts(), graph.parts());
}

#[test]
fn a_flipped_bit_of_a_graph_is_refused_when_it_is_opened() {
    let built = build(600);
    for part in ["about", "sums", "live", "stale", "levels", "upper_slots", "upper_links"] {
        let file = seal(&built);
        file.damage(&format!("graph.{part}"));
        let error = Graph::open(&pool(), &file.open()).unwrap_err();
        assert_eq!(error.code(), "corrupt_file", "{part}: {error}");
        assert!(error.to_string().contains(&format!("graph.{part}")), "{error}");
    }
}

#[test]
fn a_flipped_bit_of_a_link_is_met_by_the_walk_that_comes_there_and_by_nobody_before() {
    let built = build(600);
    let (raw, queries) = (built.rows.raw().unwrap(), rows(Dtype::F32, 40, 16, 4));
    let (mut n_met, mut n_whole) = (0, 0);
    for seed in 0..24 {
        let file = seal(&built);
        let sealed = file.open();
        let place = sealed.place("graph.links").1 as usize;
        let mut bytes = fs::read(&file.path).unwrap();
        let at = place + stream(seed, 0) as usize % (600 * 8 * 4);
        bytes[at] ^= 1 << (seed % 8);
        replace(&file.path, &bytes);
        let mut opened = open(&file.open());
        let params = SearchParams { ef: 10, ..SearchParams::default() };
        let mut scratch = Scratch::default();
        let mut is_met = false;
        for i in 0..queries.n_rows() {
            let query = raw.query(&queries, i).unwrap();
            let expected = built.graph.search(&raw, &query, Allow::All, &params, &mut scratch);
            match opened.graph.search(&raw, &query, Allow::All, &params, &mut scratch) {
                Ok(found) => {
                    assert!(!is_met, "what was met is not forgotten");
                    assert_eq!(Ok(found), expected, "a walk that came elsewhere");
                    n_whole += 1;
                }
                Err(error) => {
                    is_met = true;
                    let text = error.to_string();
                    assert_eq!(error.code(), "corrupt_file", "{text}");
                    let slots = at.saturating_sub(place) / (8 * 4) / 16 * 16;
                    assert!(
                        text.contains("graph.links") && text.contains(&format!("slots {slots}.."))
                    );
                    assert_eq!(opened.graph.damage(), Some(&error));
                }
            }
        }
        n_met += usize::from(is_met);
        assert_eq!(opened.graph.verify().unwrap_err().code(), "corrupt_file");
        let mut again = open(&file.open());
        for graph in [&mut opened.graph, &mut again.graph] {
            let changes = [
                graph.remove(&built.codes, &[7], &mut scratch).err(),
                graph.insert(&pool(), &built.codes, &[0]).err(),
                graph.repair(&built.codes).err(),
                graph.sweep(&pool()).err(),
            ];
            assert!(changes.iter().all(Option::is_some));
            let path = file.path.with_extension("again");
            let on = (&FileDisk, &path, IDENTITY);
            let mut writer = SealedWriter::create(on.0, on.1, on.2, Graph::N_SECTIONS).unwrap();
            assert_eq!(graph.seal(&mut writer).unwrap_err().code(), "corrupt_file");
        }
    }
    assert!(n_met >= 12 && n_whole >= 12, "{n_met} {n_whole}");
}

/// A file of a graph of 600 slots with other links, all checksums of which are right; without those of blocks, as builds before
/// 2026-11-30 wrote it.
fn written(parts: &Parts, links: &[u32], has_sums: bool) -> File {
    File::new(Graph::N_SECTIONS - usize::from(!has_sums), |writer| {
        writer.section::<u64>("graph.about", &[4])?;
        writer.append(&[4u64, 32, 5, u64::from(parts.entry.unwrap())])?;
        writer.section::<u32>("graph.links", &[600, 8])?;
        writer.append(links)?;
        if has_sums {
            let blocks = (0..).zip(links.chunks(16 * 8));
            let sum = |(n, links)| xxh3_64_with_seed(bytemuck::cast_slice(links), n);
            let sums: Vec<u64> = blocks.map(sum).collect();
            writer.section::<u64>("graph.sums", &[sums.len() as u64])?;
            writer.append(&sums)?;
        }
        writer.section::<u64>("graph.live", &[parts.live.len() as u64])?;
        writer.append(&parts.live)?;
        writer.section::<u64>("graph.stale", &[parts.live.len() as u64])?;
        writer.append(&vec![0u64; parts.live.len()])?;
        let all: Vec<u32> = parts.upper.iter().flat_map(|(slots, _)| slots.clone()).collect();
        writer.section::<u32>("graph.levels", &[parts.upper.len() as u64])?;
        writer.append(&parts.upper.iter().map(|one| one.0.len() as u32).collect::<Vec<_>>())?;
        writer.section::<u32>("graph.upper_slots", &[all.len() as u64])?;
        writer.append(&all)?;
        writer.section::<u32>("graph.upper_links", &[all.len() as u64, 4])?;
        parts.upper.iter().try_for_each(|(_, links)| writer.append(links))
    })
}

#[test]
fn a_link_that_leads_nowhere_is_refused_though_its_checksums_are_right() {
    let built = build(600);
    let parts = built.graph.parts();
    let mut links = parts.links.to_vec();
    for has_sums in [false, true] {
        let graph = Graph::open(&pool(), &written(&parts, &links, has_sums).open()).unwrap();
        graph.verify().unwrap();
        assert_eq!(graph.parts().links, parts.links);
    }
    links[301 * 8] = 600;
    let at_once = Graph::open(&pool(), &written(&parts, &links, false).open()).unwrap_err();
    let graph = Graph::open(&pool(), &written(&parts, &links, true).open()).unwrap();
    let when_met = graph.verify().unwrap_err();
    for error in [at_once, when_met] {
        assert!(error.to_string().contains("slot 301 links to 600 of 600"), "{error}");
    }
    assert!(graph.links(301).is_empty(), "nobody follows them");
}

#[test]
fn a_sealed_exact_index_finds_the_same() {
    let (all, queries) = (rows(Dtype::F32, 500, 70, 3), rows(Dtype::F32, 20, 70, 4));
    let (pool, cpu) = (pool(), cpu());
    let behind =
        WithFallback::new(Box::new(Plain::new(1 << 30)), Cpu::new(pool.clone(), 1 << 30), None);
    let backends: [&dyn Backend; 2] = [&cpu, &behind];
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        for keep in [Keep::Bits, Keep::BitsAndBytes] {
            let before = ExactIndex::build(&cpu, &pool, Arc::clone(&all), metric, keep, 9).unwrap();
            let rows = PlacedRows::new(Arc::clone(&all), metric).unwrap();
            let file = File::new(PlacedRows::N_SECTIONS + before.n_sections(), |writer| {
                rows.seal(writer, "rows")?;
                before.seal(&pool, writer)
            });
            let want = before.search((&cpu, Stream(0)), &queries, Allow::All, 10).unwrap();
            let bytes = before.search_bytes((&cpu, Stream(0)), &queries, Allow::All, 10).unwrap();
            for backend in backends {
                let sealed = file.open();
                let rows = PlacedRows::open(&sealed, "rows").unwrap();
                let after = ExactIndex::open(&sealed, backend, &rows).unwrap();
                drop(sealed);
                let on = (backend, Stream(0));
                let found = after.search(on, &queries, Allow::All, 10).unwrap();
                let nearest = |found: &crate::quant::search::Found| -> Vec<Vec<u32>> {
                    let slots = |list: &Vec<Neighbor>| list.iter().map(|one| one.slot).collect();
                    found.neighbors.iter().map(slots).collect()
                };
                assert_eq!(nearest(&found), nearest(&want), "{metric} {keep:?}");
                let again = after.search_bytes(on, &queries, Allow::All, 10).unwrap();
                assert_eq!(again.as_ref().map(nearest), bytes.as_ref().map(nearest));
                if backend.facts().name == cpu.facts().name {
                    assert_eq!((found, again), (want.clone(), bytes.clone()));
                }
            }
        }
    }
}

#[test]
fn an_exact_index_of_other_rows_is_refused() {
    let (pool, cpu) = (pool(), cpu());
    let all = rows(Dtype::F32, 100, 16, 3);
    let index =
        ExactIndex::build(&cpu, &pool, Arc::clone(&all), Metric::L2, Keep::Bits, 9).unwrap();
    let file = File::new(index.n_sections(), |writer| index.seal(&pool, writer));
    let code = |rows: &PlacedRows| {
        ExactIndex::open(&file.open(), &cpu, rows).map(|_| ()).unwrap_err().code()
    };
    assert_eq!(
        code(&PlacedRows::new(Arc::new(all.slice(0..99)), Metric::L2).unwrap()),
        "codes_shape"
    );
    assert_eq!(code(&PlacedRows::new(Arc::clone(&all), Metric::Dot).unwrap()), "codes_shape");
    let rows = PlacedRows::new(all, Metric::L2).unwrap();
    ExactIndex::open(&file.open(), &cpu, &rows).unwrap();
    file.damage("exact.centroid");
    assert_eq!(code(&rows), "corrupt_file");
}
