//! What HTTP costs beside the library call of the same query, how much two cores answer, where the time goes, and whether users
//! are served fairly. The server is a process of its own, asked over loopback with keep-alive.
//!
//! ```text
//! cargo bench --no-default-features --features server --bench http -- make DIR [ROWS DIM]   a collection of made rows, three times
//! ... -- latency DIR       library, JSON and bytes in turns; the overhead; where the time goes
//! ... -- throughput DIR    many connections beside the library on as many threads
//! ... -- fair DIR [LIMITS] a flood beside two clients, each order of the queue; with more limits in the file of --config
//! ```
//!
//! `NEARKIN` names another program to serve, to compare builds. Every part prints one line of JSON. Answers over HTTP are compared with those of the library before anything is timed.

mod load;
mod parts;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nearkin::core::ids::PointId;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Dtype, Rows, Values};
use nearkin::engine::{Collection, NewPoint, Settings, Vectors, Writer, folder};
use rayon::ThreadPoolBuilder;
use serde_json::json;

/// The collection.
pub const NAME: &str = "things";

/// Points of an answer.
pub const K: usize = 10;

/// Copies of the data: for the library, for a server without keys, and for one with keys.
pub const COPIES: [&str; 3] = ["library", "open", "keyed"];

const SEED: u64 = 1;
const CENTERS: u64 = 200;
const BLOCK: usize = 1000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["make", dir] => make(Path::new(dir), 20_000, 768),
        ["make", dir, rows, dim] => {
            let number = |text: &str| text.parse().expect("a number");
            make(Path::new(dir), number(rows), number(dim));
        }
        ["latency", dir] => println!("{}", parts::latency(Path::new(dir))),
        ["throughput", dir] => println!("{}", parts::throughput(Path::new(dir))),
        ["fair", dir] => println!("{}", parts::fair(Path::new(dir), "")),
        ["fair", dir, limits] => println!("{}", parts::fair(Path::new(dir), limits)),
        _ => println!("make DIR [ROWS DIM] | latency DIR | throughput DIR | fair DIR [LIMITS]"),
    }
}

/// A number in [-1, 1).
fn chance(seed: u64, n: u64) -> f32 {
    (stream(seed, n) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// A row near one of the centers, of norm 1.
pub fn row(seed: u64, n: u64, dim: usize) -> Vec<f32> {
    let center = stream(seed, n) % CENTERS;
    let element =
        |i: u64| chance(SEED + center, i) + 0.7 * chance(seed ^ 0x5eed, n * dim as u64 + i);
    let row: Vec<f32> = (0..dim as u64).map(element).collect();
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter().map(|x| x / norm).collect()
}

fn make(dir: &Path, n_rows: usize, dim: usize) {
    let own = folder(&dir.join(COPIES[0]), NAME).expect("a name");
    std::fs::create_dir_all(own.parent().expect("a folder of collections")).expect("a folder");
    let mut settings = Settings::of_vector(dim, Metric::Cosine, Dtype::F32);
    settings.tenant_field = Some("t".parse().expect("a path"));
    let mut writer = Writer::open(&own, &settings).expect("a new collection");
    for start in (0..n_rows).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(n_rows);
        let points: Vec<NewPoint> = block
            .clone()
            .map(|n| NewPoint {
                id: PointId::Num(n as u64),
                payload: json!({"t": ["a", "b"], "n": n}),
            })
            .collect();
        let values: Vec<f32> = block.flat_map(|n| row(SEED, n as u64, dim)).collect();
        let rows = Rows::new(Values::F32(values.into()), dim).expect("whole rows");
        writer.upsert(&points, &Vectors::only(&rows)).expect("stored");
    }
    drop(writer);
    let pool = Arc::new(ThreadPoolBuilder::new().build().expect("threads"));
    drop(Collection::build(&own, &pool, 16 << 30).expect("an index"));
    for copy in &COPIES[1..] {
        copied(&dir.join(COPIES[0]), &dir.join(copy));
    }
    println!("{}", json!({"rows": n_rows, "dim": dim, "folder": dir.display().to_string()}));
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path: PathBuf = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copied(&path, &target),
            false => drop(std::fs::copy(&path, &target).expect("copied")),
        }
    }
}
