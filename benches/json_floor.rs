//! How fast a file's JSON alone can be parsed: the floor under every job that reads JSON Lines.
//!
//! `cargo bench --bench json_floor -- FILE [REPETITIONS]` prints MB/s of finding and decoding the field `text` of every line, on one
//! thread, with the parser that nearkin uses.

use std::hint::black_box;
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(path) = args.next() else {
        println!("usage: cargo bench --bench json_floor -- FILE [REPETITIONS]");
        return;
    };
    let repetitions = args.next().map_or(5, |n| n.parse().expect("a number of repetitions"));
    let bytes = std::fs::read(&path).expect("the file can be read");
    let text = std::str::from_utf8(&bytes).expect("the file is UTF-8");
    for _ in 0..repetitions {
        let began = Instant::now();
        let mut decoded = 0;
        for line in text.lines() {
            let value = sonic_rs::get(line, ["text"]).expect("a JSON object with a text");
            let text: String = sonic_rs::from_str(value.as_raw_str()).expect("a string");
            decoded += black_box(text).len();
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{:.0} MB/s, {decoded} bytes of text", bytes.len() as f64 / 1e6 / seconds);
    }
}
