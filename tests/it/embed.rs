//! Embedders give unit rows or zeros, say who they are, and fail with words that help.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nearkin::core::rows::Rows;
use nearkin::embed::given::NpyFile;
use nearkin::embed::hashed::Hashed;
use nearkin::embed::http::Http;
use nearkin::embed::{Choice, Embedder, open};
use serde_json::{Value, json};

fn row(rows: &Rows, row: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows.dim()];
    rows.widen(row, &mut out);
    out
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// Norm 1, or zeros where nothing can be seen; the same alone and in company.
fn behaves(embedder: &dyn Embedder) {
    let texts = ["The cat sat on the mat.", "", "\u{200b} \t", "naïve façade", "x"];
    let together = embedder.embed(&texts).unwrap();
    assert_eq!((together.n_rows(), together.dim()), (texts.len(), embedder.dim()));
    for (i, text) in texts.iter().enumerate() {
        let of_text = row(&together, i);
        let is_seen = text.chars().any(char::is_alphanumeric);
        let norm = dot(&of_text, &of_text).sqrt();
        assert!((norm - f64::from(u8::from(is_seen))).abs() < 1e-6, "{text:?}: {norm}");
        assert_eq!(row(&embedder.embed(&[text]).unwrap(), 0), of_text, "{text:?}");
    }
    assert_eq!(embedder.embed(&[]).unwrap().n_rows(), 0);
}

#[test]
fn hashed_rows_are_unit_and_shared_words_bring_them_near() {
    behaves(&Hashed);
    let rows = Hashed.embed(&["red green blue", "red green blues", "seven eight nine"]).unwrap();
    let near = dot(&row(&rows, 0), &row(&rows, 1));
    let far = dot(&row(&rows, 0), &row(&rows, 2));
    assert!(near > 0.7 && far < 0.3, "{near} {far}");
}

#[cfg(feature = "static-model")]
mod shipped {
    use super::*;
    use nearkin::embed::static_table::StaticTable;
    use std::path::Path;

    #[test]
    fn tokens_are_those_of_the_reference_tokeniser() {
        let table = StaticTable::shipped().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/wordpiece.jsonl");
        let text = fs::read_to_string(path).unwrap();
        let mut n = 0;
        for line in text.lines() {
            let expected: Value = serde_json::from_str(line).unwrap();
            let ids = json!(table.tokens().ids(expected["text"].as_str().unwrap()));
            assert_eq!(ids, expected["ids"], "{}", expected["text"]);
            n += 1;
        }
        assert!(n > 40, "{n} texts");
    }

    #[test]
    fn a_paraphrase_is_nearer_than_another_subject() {
        let table = StaticTable::shipped().unwrap();
        behaves(&table);
        let rows = table
            .embed(&[
                "How do I reset my password?",
                "I forgot my password, how can it be reset?",
                "The recipe needs two eggs and some flour.",
            ])
            .unwrap();
        let near = dot(&row(&rows, 0), &row(&rows, 1));
        let far = dot(&row(&rows, 0), &row(&rows, 2));
        assert!(near > 0.6 && far < 0.3, "{near} {far}");
    }

    #[test]
    fn the_shipped_table_is_small_and_a_damaged_one_is_refused() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/static-256.bin");
        let mut bytes = fs::read(path).unwrap();
        assert!(bytes.len() <= 8 << 20, "{}", bytes.len());
        bytes[1_000_000] ^= 1;
        let bytes: &'static [u8] = bytes.leak();
        assert_eq!(StaticTable::read(bytes).err().unwrap().code(), "corrupt_file");
        assert_eq!(StaticTable::read(&bytes[..9]).err().unwrap().code(), "corrupt_file");
    }
}

/// Compared with rows that `datasets/bert_reference.py` made, where the model is at hand.
#[cfg(feature = "bert")]
#[test]
fn rows_of_a_bert_are_those_of_the_reference() {
    use nearkin::embed::bert::Bert;
    use std::path::Path;
    use std::sync::Arc;
    let Some(folder) = std::env::var_os("NEARKIN_BERT_DIR") else {
        return crate::support::skip("bert", "NEARKIN_BERT_DIR names no folder with a model");
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let bert = Bert::open(Path::new(&folder), Arc::new(pool)).unwrap();
    behaves(&bert);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/bert.jsonl");
    let expected: Vec<Value> = fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let texts: Vec<&str> = expected.iter().map(|e| e["text"].as_str().unwrap()).collect();
    let rows = bert.embed(&texts).unwrap();
    let mut worst = 0.0f64;
    for (i, expected) in expected.iter().enumerate() {
        assert_eq!(json!(bert.token_ids(texts[i])), expected["ids"], "{}", texts[i]);
        assert_eq!(bert.n_cut(&texts[i..=i]) == 1, expected["is_cut"], "{}", texts[i]);
        let vector = expected["vector"].as_array().unwrap();
        let of_text = row(&rows, i);
        assert_eq!(vector.len(), of_text.len());
        for (x, expected) in of_text.iter().zip(vector) {
            worst = worst.max((f64::from(*x) - expected.as_f64().unwrap()).abs());
        }
    }
    println!("{} texts, {worst:.1e} apart at most", expected.len());
    assert!(expected.len() > 8 && worst < 1e-3, "{worst}");
}

/// A `.npy` file of f4.
pub fn npy(rows: &[Vec<f32>]) -> Vec<u8> {
    let dim = rows.first().map_or(1, Vec::len);
    let mut head =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {dim}), }}", rows.len());
    while (10 + head.len() + 1) % 64 != 0 {
        head.push(' ');
    }
    head.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((head.len() as u16).to_le_bytes());
    bytes.extend(head.as_bytes());
    rows.iter().flatten().for_each(|x| bytes.extend(x.to_le_bytes()));
    bytes
}

#[test]
fn rows_of_a_npy_file_are_read_and_what_is_wrong_with_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.npy");
    let good = npy(&[vec![1.0, 2.0], vec![3.0, f32::NAN]]);
    fs::write(&path, &good).unwrap();
    let file = NpyFile::open(&path).unwrap();
    assert_eq!((file.n_rows(), file.dim()), (2, 2));
    let mut row = [0.0; 2];
    file.row(0, &mut row).unwrap();
    assert_eq!(row, [1.0, 2.0]);
    let error = file.row(1, &mut row).unwrap_err();
    assert_eq!(error.code(), "vector_not_finite");
    assert!(error.to_string().contains("row 1, element 1"), "{error}");
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert_eq!(NpyFile::open(&path).unwrap_err().code(), "npy_invalid");
    fs::write(&path, b"{}").unwrap();
    assert_eq!(NpyFile::open(&path).unwrap_err().code(), "npy_invalid");
}

/// Answers requests one after another by `answer(number, body, headers)`: a status and a body.
pub fn serve(answer: impl Fn(usize, Value, &str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/embeddings", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let (head, body) = read_request(&mut stream);
            let body = serde_json::from_str(&body).unwrap_or(Value::Null);
            let (status, text) = answer(number, body, &head);
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            // A client that has enough may hang up.
            let _ =
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
        }
    });
    url
}

fn read_request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            if body.len() >= length.map_or(0, |n| n.trim().parse().unwrap()) {
                return (head, body.to_owned());
            }
        }
        match stream.read(&mut buffer).unwrap() {
            0 => return (String::new(), String::new()),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

/// Vectors of 64 numbers by the hashed embedder, in the wrong order, as an endpoint may send them.
pub fn vectors(body: &Value) -> String {
    let texts: Vec<&str> =
        body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let rows = Hashed.embed(&texts).unwrap();
    let data: Vec<Value> = (0..texts.len())
        .rev()
        .map(|i| json!({"object": "embedding", "index": i, "embedding": row(&rows, i)}))
        .collect();
    json!({"object": "list", "model": body["model"], "data": data}).to_string()
}

const SOON: Duration = Duration::from_millis(1);

#[test]
fn an_endpoint_is_asked_in_batches_and_again_while_it_is_busy() {
    let url = serve(|number, body, _| match number {
        0 => (503, "loading".into()),
        1 => (429, "slow down".into()),
        _ => {
            assert_eq!(body["model"], "mini");
            assert!(body["input"].as_array().unwrap().len() <= 32);
            (200, vectors(&body))
        }
    });
    let http = Http::open_with(&format!("{url}#mini"), SOON).unwrap();
    assert_eq!((http.dim(), http.identity().as_str()), (256, "http/mini/256"));
    let texts: Vec<String> = (0..70).map(|i| format!("text number {i}")).collect();
    let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    texts[50] = " ";
    let rows = http.embed(&texts).unwrap();
    let expected = Hashed.embed(&texts).unwrap();
    for i in 0..70 {
        let norm = if i == 50 { 0.0 } else { 1.0 };
        assert!((dot(&row(&rows, i), &row(&expected, i)) - norm).abs() < 1e-6, "text {i}");
    }
}

#[test]
fn what_an_endpoint_does_wrong_is_said() {
    let told = |answer: fn() -> (u16, String)| {
        let url = serve(move |_, _, _| answer());
        let error = Http::open_with(&format!("{url}#m"), SOON).err().unwrap();
        assert_eq!(error.code(), "embed_http");
        error.to_string()
    };
    let message = told(|| (401, r#"{"error": "bad key"}"#.into()));
    assert!(
        message.contains("401") && message.contains("bad key") && message.contains("attempt 1")
    );
    assert!(told(|| (500, "boom".into())).contains("attempt 5"));
    assert!(told(|| (200, "hello".into())).contains("not that of /v1/embeddings"));
    let two = || (200, json!({"data": [{"index": 1, "embedding": [1.0]}]}).to_string());
    assert!(told(two).contains("index 1 of 1"));
    let none = || (200, json!({"data": []}).to_string());
    assert!(told(none).contains("0 vectors for 1 texts"));
    let big = || (200, r#"{"data": [{"index": 0, "embedding": [1e39]}]}"#.to_owned());
    told(big);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Http::open_with(&format!("http://{closed}/e#m"), SOON).err().unwrap();
    assert_eq!(error.code(), "embed_http");
}

#[test]
fn an_embedder_that_is_not_there_is_named() {
    let code = |choice: &str| match open(&choice.parse::<Choice>().unwrap(), 1) {
        Ok(_) => panic!("{choice} was opened"),
        Err(error) => error.code(),
    };
    let bert = if cfg!(feature = "bert") { "not_found" } else { "feature_missing" };
    assert_eq!(code("bert:/nowhere"), bert);
    assert_eq!(code("http:ftp://x#m"), "embed");
    if !cfg!(feature = "https") {
        assert_eq!(code("https://localhost/v1/embeddings#m"), "feature_missing");
    }
    assert!(open(&"given:v".parse().unwrap(), 1).unwrap().is_none());
}
