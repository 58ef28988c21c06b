//! What the files of a model's folder say, weights apart: sizes, vocabulary, and whether it is a model of a kind that is
//! computed here. A setting that would change the vectors and is not known is refused, not passed over.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::core::limits::{DIM, MODEL_TEXT_BYTES};
use crate::embed::wordpiece::WordPiece;
use crate::error::{Error, ErrorKind, IoContext, Result};

/// A model's configuration and tokens.
pub(super) struct Folder {
    /// What the model is called, as far as its configuration says.
    name: Option<String>,
    /// Elements of a state and of a row.
    pub dim: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub inner_dim: usize,
    pub n_words: usize,
    pub n_positions: usize,
    pub n_types: usize,
    pub epsilon: f64,
    /// Most tokens of a text, the two marks included.
    pub max_tokens: usize,
    /// Ids of `[CLS]` and `[SEP]`.
    pub marks: [u32; 2],
    pub tokens: WordPiece,
    vocabulary_hash: u64,
}

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    #[serde(rename = "_name_or_path")]
    name: Option<String>,
    hidden_act: String,
    hidden_size: usize,
    intermediate_size: usize,
    layer_norm_eps: f64,
    max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
    type_vocab_size: usize,
    vocab_size: usize,
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// `sentence_bert_config.json`.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Folder {
    /// Reads the files of `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let config: Config = json(&path)?.ok_or_else(|| missing(&path))?;
        check_kind(&path, &config)?;
        check_modules(folder)?;
        check_tokenizer(folder)?;
        let vocabulary = vocabulary(folder)?;
        if vocabulary.len() > config.vocab_size {
            let message = format!(
                "{}: {} tokens, expected at most vocab_size, {}",
                folder.display(),
                vocabulary.len(),
                config.vocab_size
            );
            return Err(Error::new(ErrorKind::BadInput, "model_invalid", message));
        }
        let mark = |mark: &str| {
            let id = vocabulary.iter().position(|token| token == mark).map(|id| id as u32);
            id.ok_or_else(|| invalid(folder, format!("no token {mark} in its vocabulary")))
        };
        let marks = [mark("[CLS]")?, mark("[SEP]")?];
        mark("[UNK]")?;
        let path = folder.join("sentence_bert_config.json");
        let asked = json::<SentenceConfig>(&path)?.and_then(|config| config.max_seq_length);
        let max_tokens = asked.unwrap_or(usize::MAX).min(config.max_position_embeddings);
        if max_tokens < 3 {
            let message = format!("texts of {max_tokens} tokens, expected 3 or more");
            return Err(invalid(folder, message));
        }
        let mut hash = Xxh3::new();
        for token in &vocabulary {
            hash.update(token.as_bytes());
            hash.update(b"\n");
        }
        Ok(Self {
            name: config.name.map(|name| base(&name).to_owned()).filter(|name| !name.is_empty()),
            dim: config.hidden_size,
            n_layers: config.num_hidden_layers,
            n_heads: config.num_attention_heads,
            inner_dim: config.intermediate_size,
            n_words: config.vocab_size,
            n_positions: config.max_position_embeddings,
            n_types: config.type_vocab_size,
            epsilon: config.layer_norm_eps,
            max_tokens,
            marks,
            tokens: WordPiece::new(vocabulary.iter().map(String::as_str)),
            vocabulary_hash: hash.digest(),
        })
    }

    /// Name of the model and a hash of all that its rows depend on.
    pub fn identity(&self, weights: u64) -> String {
        let mut hash = Xxh3::new();
        let numbers = [self.vocabulary_hash, weights, self.n_heads as u64, self.epsilon.to_bits()];
        numbers.iter().for_each(|number| hash.update(&number.to_le_bytes()));
        let (name, dim) = (self.name.as_deref().unwrap_or("unnamed"), self.dim);
        format!("bert/{name}/{dim} {:016x}, mean of {} tokens", hash.digest(), self.max_tokens)
    }
}

/// The last name of a path or of `owner/name`.
fn base(name: &str) -> &str {
    name.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn missing(path: &Path) -> Error {
    let message = format!("{} does not exist", path.display());
    Error::new(ErrorKind::NotFound, "not_found", message)
}

fn invalid(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadInput, "model_invalid", format!("{}: {what}", path.display()))
}

fn unsupported(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BadInput, "model_unsupported", format!("{}: {what}", path.display()))
}

/// A text file, if it is there.
fn text(path: &Path) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.at("open", path)?.take(MODEL_TEXT_BYTES + 1).read_to_end(&mut bytes),
    }
    .at("read", path)?;
    if bytes.len() as u64 > MODEL_TEXT_BYTES {
        return Err(invalid(path, format!("over {} MiB", MODEL_TEXT_BYTES >> 20)));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| invalid(path, "not UTF-8"))
}

/// A JSON file, if it is there.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let parse = |text: String| serde_json::from_str(&text).map_err(|error| invalid(path, error));
    text(path)?.map(parse).transpose()
}

fn check_kind(path: &Path, config: &Config) -> Result<()> {
    for (name, found, expected) in [
        ("model_type", &config.model_type, "bert"),
        ("hidden_act", &config.hidden_act, "gelu"),
        ("position_embedding_type", &config.position_embedding_type, "absolute"),
    ] {
        if found != expected {
            return Err(unsupported(path, format!("{name} {found:?}, expected {expected:?}")));
        }
    }
    if config.is_decoder {
        return Err(unsupported(path, "is_decoder true, expected false"));
    }
    let (dim, heads) = (config.hidden_size, config.num_attention_heads);
    if !(1..=DIM).contains(&dim) || heads == 0 || !dim.is_multiple_of(heads) {
        let message =
            format!("hidden_size {dim} in {heads} heads, expected a multiple of them up to {DIM}");
        return Err(invalid(path, message));
    }
    if !(config.layer_norm_eps > 0.0 && config.layer_norm_eps < 1.0) {
        let message = format!("layer_norm_eps {}, expected 0 to 1", config.layer_norm_eps);
        return Err(invalid(path, message));
    }
    Ok(())
}

/// The stages after the layers may be the mean and a scaling to norm 1. Without the list there are just these.
fn check_modules(folder: &Path) -> Result<()> {
    let path = folder.join("modules.json");
    let Some(modules) = json::<Vec<Module>>(&path)? else {
        return check_pooling(&folder.join("1_Pooling").join("config.json"));
    };
    for Module { path: below, kind } in &modules {
        match kind.rsplit('.').next() {
            Some("Transformer") if below.is_empty() => {}
            Some("Normalize") => {}
            Some("Pooling") => check_pooling(&folder.join(below).join("config.json"))?,
            _ => {
                let expected = "expected a Transformer in the folder itself, Pooling and Normalize";
                return Err(unsupported(&path, format!("{kind} in {below:?}, {expected}")));
            }
        }
    }
    Ok(())
}

fn check_pooling(path: &Path) -> Result<()> {
    let config = json::<serde_json::Map<String, Value>>(path)?.unwrap_or_default();
    let modes = config.iter().filter(|(name, value)| {
        name.starts_with("pooling_mode") && !matches!(value, Value::Bool(false) | Value::Null)
    });
    for (name, value) in modes {
        let is_mean = name == "pooling_mode_mean_tokens" && *value == Value::Bool(true)
            || name == "pooling_mode" && value == "mean";
        if !is_mean {
            return Err(unsupported(path, format!("{name} {value}, expected the mean of tokens")));
        }
    }
    Ok(())
}

/// Texts are split as the uncased models split them.
fn check_tokenizer(folder: &Path) -> Result<()> {
    let wrong = |path: &Path, settings: &Value, names: [&str; 3]| {
        // Not stripping accents is the default of models that keep upper case.
        let name = names.into_iter().find(|&name| settings[name] == Value::Bool(false));
        name.map_or(Ok(()), |name| {
            Err(unsupported(path, format!("{name} false, expected an uncased model")))
        })
    };
    let path = folder.join("tokenizer_config.json");
    if let Some(settings) = json::<Value>(&path)? {
        let names = ["do_lower_case", "strip_accents", "tokenize_chinese_chars"];
        wrong(&path, &settings, names)?;
    }
    let path = folder.join("tokenizer.json");
    if let Some(tokenizer) = json::<Value>(&path)? {
        let kind = &tokenizer["model"]["type"];
        if kind != "WordPiece" {
            return Err(unsupported(&path, format!("model.type {kind}, expected \"WordPiece\"")));
        }
        let names = ["lowercase", "strip_accents", "handle_chinese_chars"];
        wrong(&path, &tokenizer["normalizer"], names)?;
    }
    Ok(())
}

/// Tokens by id: of `vocab.txt`, or of `tokenizer.json` if there is none.
fn vocabulary(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join("vocab.txt");
    if let Some(text) = text(&path)? {
        return Ok(text.lines().map(str::to_owned).collect());
    }
    let json_path = folder.join("tokenizer.json");
    let tokenizer: Value = json(&json_path)?.ok_or_else(|| missing(&path))?;
    let ids = tokenizer["model"]["vocab"].as_object();
    let ids = ids.ok_or_else(|| invalid(&json_path, "no model.vocab"))?;
    let mut tokens = vec![None; ids.len()];
    for (token, id) in ids {
        let place = id.as_u64().and_then(|id| tokens.get_mut(id as usize));
        let place = place.ok_or_else(|| {
            let n = ids.len();
            invalid(&json_path, format!("{token:?} has id {id}, expected 0 to {}", n - 1))
        })?;
        *place = Some(token.clone());
    }
    let without = |id: usize| invalid(&json_path, format!("no token has id {id}"));
    (0..).zip(tokens).map(|(id, token)| token.ok_or_else(|| without(id))).collect()
}
