//! A small model of random weights, beside the same model in loops, and folders that are damaged.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::plain::{Weights, row};
use super::*;
use crate::core::mix::stream;

const DIM: usize = 24;
const N_HEADS: usize = 3;
const INNER_DIM: usize = 40;
const MAX_TOKENS: usize = 16;
const WORDS: [&str; 12] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "a", "##b", ".", "run", "##ning"];

/// Names and shapes of the tensors of two layers.
fn shapes() -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![WORDS.len() + 1, DIM]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![MAX_TOKENS + 4, DIM]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, DIM]),
    ];
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..2 {
        let at = format!("encoder.layer.{layer}");
        for (name, from, to) in [
            ("attention.self.query", DIM, DIM),
            ("attention.self.key", DIM, DIM),
            ("attention.self.value", DIM, DIM),
            ("attention.output.dense", DIM, DIM),
            ("intermediate.dense", DIM, INNER_DIM),
            ("output.dense", INNER_DIM, DIM),
        ] {
            shapes.push((format!("{at}.{name}.weight"), vec![to, from]));
            shapes.push((format!("{at}.{name}.bias"), vec![to]));
        }
        norms.push(format!("{at}.attention.output.LayerNorm"));
        norms.push(format!("{at}.output.LayerNorm"));
    }
    for norm in norms {
        shapes.push((format!("{norm}.weight"), vec![DIM]));
        shapes.push((format!("{norm}.bias"), vec![DIM]));
    }
    shapes
}

fn random_weights(seed: u64) -> Weights {
    let mut number = 0;
    let mut next = || {
        number += 1;
        (stream(seed, number) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let random = |(name, shape): (String, Vec<usize>)| {
        let n = shape.iter().product();
        (name, (0..n).map(|_| next()).collect())
    };
    shapes().into_iter().map(random).collect()
}

/// A safetensors file: the length of its head, the head, the numbers.
fn safetensors(weights: &Weights, prefix: &str, as_halves: bool) -> Vec<u8> {
    let (mut head, mut body) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in shapes().into_iter().filter(|(name, _)| weights.contains_key(name)) {
        let start = body.len();
        for &x in &weights[&name] {
            match as_halves {
                true => body.extend(half::f16::from_f32(x).to_le_bytes()),
                false => body.extend(x.to_le_bytes()),
            }
        }
        let dtype = if as_halves { "F16" } else { "F32" };
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, body.len()]});
        head.insert(format!("{prefix}{name}"), entry);
    }
    let head = serde_json::to_vec(&head).unwrap();
    [&(head.len() as u64).to_le_bytes()[..], &head, &body].concat()
}

fn config() -> Value {
    json!({
        "_name_or_path": "someone/tiny", "model_type": "bert", "hidden_act": "gelu", "hidden_size": DIM,
        "intermediate_size": INNER_DIM, "layer_norm_eps": 1e-12, "max_position_embeddings": MAX_TOKENS + 4,
        "num_attention_heads": N_HEADS, "num_hidden_layers": 2, "type_vocab_size": 2,
        "vocab_size": WORDS.len() + 1,
    })
}

/// A folder as sentence-transformers writes it.
fn model(weights: &Weights) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    write("config.json", config().to_string().as_bytes());
    write("vocab.txt", WORDS.join("\n").as_bytes());
    write("model.safetensors", &safetensors(weights, "", false));
    let limit = json!({"max_seq_length": MAX_TOKENS, "do_lower_case": false});
    write("sentence_bert_config.json", limit.to_string().as_bytes());
    let pooling = json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false});
    write("1_Pooling/config.json", pooling.to_string().as_bytes());
    let module = |kind: &str, path: &str| json!({"idx": 0, "path": path, "type": format!("sentence_transformers.models.{kind}")});
    let modules =
        [module("Transformer", ""), module("Pooling", "1_Pooling"), module("Normalize", "2")];
    write("modules.json", json!(modules).to_string().as_bytes());
    write("tokenizer_config.json", json!({"do_lower_case": true}).to_string().as_bytes());
    dir
}

fn pool(n: usize) -> Arc<ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap())
}

fn open(folder: &Path) -> Result<Bert> {
    Bert::open(folder, pool(2))
}

const TEXTS: [&str; 6] = [
    "Red green blue.",
    "running red",
    "a",
    "ab ab ab. blue unknown",
    "red green blue a . run red green blue a . run red green blue a . run",
    "run run",
];

fn rows(bert: &Bert, texts: &[&str]) -> Vec<Vec<f32>> {
    let rows = bert.embed(texts).unwrap();
    (0..texts.len()).map(|i| (0..DIM).map(|at| rows.values().get(i * DIM + at)).collect()).collect()
}

/// Largest difference of any element.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn rows_are_those_of_the_same_model_in_loops() {
    let weights = random_weights(7);
    let dir = model(&weights);
    let bert = open(dir.path()).unwrap();
    for (text, found) in TEXTS.iter().zip(rows(&bert, &TEXTS)) {
        let ids = [vec![2], bert.token_ids(text), vec![3]].concat();
        let mut expected = row(&weights, DIM, N_HEADS, 1e-12, &ids);
        normalise(&mut expected);
        let apart = apart(&expected, &found);
        assert!(apart < 1e-4, "{text:?}: {apart}");
    }
    let rows = rows(&bert, &TEXTS);
    assert!(apart(&rows[0], &rows[1]) > 1e-2, "other texts have other rows");
}

#[test]
fn a_row_does_not_depend_on_other_texts_or_on_threads() {
    let dir = model(&random_weights(8));
    let bert = open(dir.path()).unwrap();
    // Several batches, the same texts in other company.
    let many: Vec<&str> = TEXTS.iter().copied().cycle().take(400).collect();
    let together = rows(&bert, &many);
    for (i, text) in TEXTS.iter().enumerate() {
        let alone = &rows(&bert, &[text])[0];
        assert!(together.iter().skip(i).step_by(TEXTS.len()).all(|row| row == alone), "{text:?}");
    }
    for n in [1, 5] {
        assert_eq!(rows(&Bert::open(dir.path(), pool(n)).unwrap(), &many), together, "{n} threads");
    }
}

#[test]
fn texts_past_the_length_of_the_model_are_counted_and_their_beginnings_are_read() {
    let dir = model(&random_weights(9));
    let bert = open(dir.path()).unwrap();
    let fits = ["red"; MAX_TOKENS - 2].join(" ");
    let longer = format!("{fits} blue");
    assert_eq!(bert.n_cut(&[&fits, &longer, "", "a"]), 1);
    assert_eq!(bert.token_ids(&longer).len(), MAX_TOKENS - 2);
    let both = rows(&bert, &[&fits, &longer]);
    assert_eq!(both[0], both[1]);
    let empty = &rows(&bert, &[" \u{200b}"])[0];
    assert!(empty.iter().all(|&x| x == 0.0));
    // Without the file, positions are the limit.
    fs::remove_file(dir.path().join("sentence_bert_config.json")).unwrap();
    assert_eq!(open(dir.path()).unwrap().n_cut(&[&longer]), 0);
}

#[test]
fn the_identity_is_that_of_the_content() {
    let weights = random_weights(10);
    let dir = model(&weights);
    let identity = open(dir.path()).unwrap().identity();
    assert!(identity.starts_with("bert/tiny/24 "), "{identity}");
    assert_eq!(open(model(&weights).path()).unwrap().identity(), identity);
    assert_ne!(open(model(&random_weights(11)).path()).unwrap().identity(), identity);
    // The same tokens in the other file that can hold them.
    let ids: serde_json::Map<String, Value> =
        WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let tokenizer = json!({"normalizer": {"lowercase": true, "strip_accents": null},
                           "model": {"type": "WordPiece", "vocab": ids}});
    fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::remove_file(dir.path().join("vocab.txt")).unwrap();
    assert_eq!(open(dir.path()).unwrap().identity(), identity);
    fs::write(dir.path().join("vocab.txt"), WORDS.join("\n").replace("green", "grey")).unwrap();
    assert_ne!(open(dir.path()).unwrap().identity(), identity);
}

#[test]
fn weights_of_half_the_size_and_with_a_head_are_read() {
    let weights = random_weights(12);
    let dir = model(&weights);
    let full = rows(&open(dir.path()).unwrap(), &TEXTS);
    fs::write(dir.path().join("model.safetensors"), safetensors(&weights, "bert.", true)).unwrap();
    let halves = rows(&open(dir.path()).unwrap(), &TEXTS);
    assert!(full.iter().zip(&halves).all(|(a, b)| apart(a, b) < 0.02));
    assert_ne!(full, halves);
}

/// Code and message of a folder in which `name` was replaced, or removed.
fn told(name: &str, bytes: Option<&[u8]>) -> (&'static str, String) {
    let dir = model(&random_weights(13));
    let path = dir.path().join(name);
    match bytes {
        Some(bytes) => fs::write(&path, bytes).unwrap(),
        None => fs::remove_file(&path).unwrap(),
    }
    let error = open(dir.path()).err().unwrap_or_else(|| panic!("{name} was accepted"));
    (error.code(), error.to_string())
}

#[test]
fn each_file_that_is_missing_or_damaged_is_named() {
    for name in ["config.json", "vocab.txt", "model.safetensors"] {
        let (code, message) = told(name, None);
        assert!(code == "not_found" && message.contains(name), "{message}");
    }
    for name in [
        "config.json",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "tokenizer_config.json",
        "model.safetensors",
    ] {
        for bytes in [&b""[..], b"{", b"\xff\xfe", b"[1"] {
            let (code, message) = told(name, Some(bytes));
            assert!(code == "model_invalid" && message.contains(name), "{message}");
        }
    }
    let (code, message) = told("vocab.txt", Some(b"[UNK]\n[CLS]"));
    assert!(code == "model_invalid" && message.contains("[SEP]"), "{message}");
    let more = [&WORDS[..], &["b", "c"]].concat().join("\n");
    assert_eq!(told("vocab.txt", Some(more.as_bytes())).0, "model_invalid");
    assert_eq!(told("vocab.txt", Some(b"\xff")).0, "model_invalid");
}

#[test]
fn a_model_of_another_kind_is_refused_by_what_makes_it_one() {
    for (key, value) in [
        ("model_type", json!("roberta")),
        ("hidden_act", json!("relu")),
        ("position_embedding_type", json!("relative_key")),
        ("is_decoder", json!(true)),
    ] {
        let mut config = config();
        config[key] = value;
        let (code, message) = told("config.json", Some(config.to_string().as_bytes()));
        assert!(code == "model_unsupported" && message.contains(key), "{message}");
    }
    for (key, value) in [
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(5)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1_000_000)),
        ("hidden_size", json!(-1)),
        ("layer_norm_eps", json!(0.0)),
        ("max_position_embeddings", json!(2)),
    ] {
        let mut config = config();
        config[key] = value;
        let (code, message) = told("config.json", Some(config.to_string().as_bytes()));
        assert_eq!(code, "model_invalid", "{message}");
    }
    for (name, content) in [
        ("1_Pooling/config.json", json!({"pooling_mode_cls_token": true})),
        ("1_Pooling/config.json", json!({"pooling_mode": "max"})),
        ("modules.json", json!([{"path": "2", "type": "sentence_transformers.models.Dense"}])),
        ("tokenizer_config.json", json!({"do_lower_case": false})),
        ("tokenizer.json", json!({"model": {"type": "BPE"}})),
    ] {
        let (code, message) = told(name, Some(content.to_string().as_bytes()));
        assert!(code == "model_unsupported" && message.contains(name), "{message}");
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let mut weights = random_weights(14);
    let gone = "encoder.layer.1.output.dense.bias";
    weights.remove(gone);
    let (code, message) = told("model.safetensors", Some(&safetensors(&weights, "", false)));
    assert!(code == "model_tensor" && message.contains(gone), "{message}");
    for (key, name) in [
        ("vocab_size", "word_embeddings"),
        ("intermediate_size", "intermediate.dense"),
        ("num_hidden_layers", "encoder.layer.2"),
        ("max_position_embeddings", "position_embeddings"),
        ("type_vocab_size", "token_type_embeddings"),
    ] {
        let mut config = config();
        config[key] = json!(config[key].as_u64().unwrap() + 1);
        let (code, message) = told("config.json", Some(config.to_string().as_bytes()));
        assert!(code == "model_tensor" && message.contains(name), "{message}");
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut weights = random_weights(14);
        weights.get_mut("embeddings.LayerNorm.weight").unwrap()[3] = bad;
        let (code, message) = told("model.safetensors", Some(&safetensors(&weights, "", false)));
        assert!(code == "model_tensor" && message.contains("not finite"), "{message}");
    }
}

#[test]
fn a_file_of_weights_cut_or_changed_anywhere_is_no_panic() {
    let dir = model(&random_weights(15));
    let path = dir.path().join("model.safetensors");
    let good = fs::read(&path).unwrap();
    for n in (0..200).chain((200..good.len()).step_by(997)) {
        fs::write(&path, &good[..n]).unwrap();
        assert_eq!(open(dir.path()).err().unwrap().code(), "model_invalid", "{n} bytes");
    }
    for i in 0..600 {
        let mut bytes = good.clone();
        bytes[i * 5 % 3000] ^= 1 << (stream(1, i as u64) % 8);
        fs::write(&path, bytes).unwrap();
        if let Err(error) = open(dir.path()) {
            assert!(["model_invalid", "model_tensor"].contains(&error.code()), "{error}");
        }
    }
}
