//! hnsw_rs as a side of `collection.py`.
//!
//!     hnsw-rs-peer ROWS.npy QUERIES.npy METRIC M EF_CONSTRUCTION K
//!
//! Builds over all rows, says `{"ready_s": .., "built": true}`, and then for each line `EF OUT` of its input searches all queries one by
//! one, writes `[n_queries, K]` little-endian i64 row numbers to OUT (-1 where there are fewer) and says `{"seconds": ..}`.
//! The matrices are f32 in C order; of `cosine` they have norm 1. Inserts run on RAYON_NUM_THREADS threads, searches on one.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use hnsw_rs::prelude::{DistDot, DistL2, Distance, Hnsw};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Matrix {
    dim: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn read(path: &str) -> Result<Matrix> {
        let bytes = std::fs::read(path)?;
        let is_npy = bytes.len() > 10 && bytes.starts_with(b"\x93NUMPY\x01");
        if !is_npy {
            return Err(format!("{path}: expected an .npy file of version 1").into());
        }
        let data = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = std::str::from_utf8(&bytes[10..data])?;
        if !header.contains("'<f4'") || !header.contains("'fortran_order': False") {
            return Err(format!("{path}: expected f32 in C order, received {header}").into());
        }
        let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')'));
        let (shape, _) = shape.ok_or("no shape in the header")?;
        let sizes: Vec<usize> = shape
            .split(',')
            .map(|size| size.trim().parse())
            .collect::<std::result::Result<_, _>>()?;
        let [n_rows, dim] = sizes[..] else {
            return Err(format!("{path}: expected two dimensions, received ({shape})").into());
        };
        let values: Vec<f32> = bytes[data..]
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        if values.len() != n_rows * dim {
            return Err(
                format!("{path}: expected {n_rows} x {dim}, received {}", values.len()).into()
            );
        }
        Ok(Matrix { dim, values })
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim)
    }
}

fn serve<D: Distance<f32> + Send + Sync>(args: &[String], distance: D) -> Result<()> {
    let (rows, queries) = (Matrix::read(&args[0])?, Matrix::read(&args[1])?);
    let (m, ef_construction, k) = (args[3].parse()?, args[4].parse()?, args[5].parse()?);
    let began = Instant::now();
    let numbered: Vec<(&[f32], usize)> = rows.rows().enumerate().map(|(i, row)| (row, i)).collect();
    let index = Hnsw::<f32, D>::new(m, numbered.len(), 16, ef_construction, distance);
    index.parallel_insert_slice(&numbered);
    println!("{{\"ready_s\": {}, \"built\": true}}", began.elapsed().as_secs_f64());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (ef, out) = line.split_once(' ').ok_or("expected EF OUT")?;
        let ef = ef.parse()?;
        let began = Instant::now();
        let found: Vec<_> = queries.rows().map(|query| index.search(query, k, ef)).collect();
        let seconds = began.elapsed().as_secs_f64();
        let mut file = std::io::BufWriter::new(std::fs::File::create(out)?);
        for neighbors in &found {
            let ids = neighbors.iter().map(|neighbor| neighbor.d_id as i64);
            for id in ids.chain(std::iter::repeat(-1)).take(k) {
                file.write_all(&id.to_le_bytes())?;
            }
        }
        file.flush()?;
        println!("{{\"seconds\": {seconds}}}");
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.len() != 6 {
        return Err("expected ROWS.npy QUERIES.npy METRIC M EF_CONSTRUCTION K".into());
    }
    match args[2].as_str() {
        "cosine" => serve(&args, DistDot),
        "l2" => serve(&args, DistL2),
        other => Err(format!("expected cosine or l2, received {other:?}").into()),
    }
}
