//! Vectors from any endpoint that answers as OpenAI's `/v1/embeddings` does: a served model of one's own, or a vendor's.
//!
//! `http:URL#MODEL`; the key, if one is needed, is in `NEARKIN_EMBED_API_KEY`, the model may be in
//! `NEARKIN_EMBED_MODEL`. Over TLS, `SSL_CERT_FILE` may name the authorities that are believed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::Agent;
#[cfg(feature = "https")]
use ureq::tls::{Certificate, RootCerts, TlsConfig};

#[cfg(feature = "https")]
use crate::core::authorities;
use crate::core::rows::{Rows, Values};
use crate::embed::{Embedder, normalise};
use crate::error::{Error, ErrorKind, Result};

/// Texts of one request: what the smallest common limit of servers takes.
const BATCH: usize = 32;
/// Times that a request is made before its failure counts.
const ATTEMPTS: u32 = 5;
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Largest answer: 32 vectors of 16,384 numbers with 20 digits each.
const ANSWER_BYTES: u64 = 64 << 20;

/// An endpoint and the model asked of it.
pub struct Http {
    agent: Agent,
    url: String,
    model: String,
    key: Option<String>,
    first_wait: Duration,
    dim: usize,
}

#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    embedding: Vec<f32>,
}

/// A failed request, and whether another may do better.
struct Failure {
    message: String,
    again_after: Option<Duration>,
}

impl Http {
    /// Asks the endpoint for one vector, to learn how long they are. `url` may name the model after `#`.
    ///
    /// # Errors
    /// `embed_model` without a model; `embed_http` if the endpoint cannot be used.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, Duration::from_millis(500))
    }

    /// As [`Self::open`], with another wait before the first repetition.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(url: &str, first_wait: Duration) -> Result<Self> {
        let (url, fragment) =
            url.split_once('#').map_or((url, None), |(url, model)| (url, Some(model)));
        let known =
            url.starts_with("http://") || cfg!(feature = "https") && url.starts_with("https://");
        if url.starts_with("https://") && !known {
            let message = "https:// needs the cargo feature `https`; http:// to a server or proxy of your own needs none";
            return Err(Error::usage("feature_missing", message));
        }
        if !known {
            let message = format!(
                "{url:?}, expected a URL such as http://localhost:8080/v1/embeddings#MODEL"
            );
            return Err(Error::usage("embed", message));
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let model = fragment.map(str::to_owned).or_else(|| variable("NEARKIN_EMBED_MODEL"));
        let model = model.filter(|model| !model.is_empty()).ok_or_else(|| {
            let message =
                format!("no model for {url}: name it as {url}#MODEL or in NEARKIN_EMBED_MODEL");
            Error::usage("embed_model", message)
        })?;
        let agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(300)))
            .http_status_as_error(false);
        #[cfg(feature = "https")]
        let agent = match url.starts_with("https://") {
            true => agent.tls_config(trust()?),
            false => agent,
        };
        let agent = agent.build();
        let key = variable("NEARKIN_EMBED_API_KEY");
        let mut http =
            Self { agent: agent.into(), url: url.into(), model, key, first_wait, dim: 0 };
        let probe = http.request(&["dimension"])?;
        http.dim = probe[0].len();
        Ok(http)
    }

    /// Vectors of some texts; repeated with growing waits while the server is busy or cannot be reached.
    fn request(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut wait = self.first_wait;
        for attempt in 1.. {
            let failure = match self.ask(texts) {
                Ok(vectors) => return Ok(vectors),
                Err(failure) => failure,
            };
            let Some(asked) = failure.again_after.filter(|_| attempt < ATTEMPTS) else {
                let message = format!("{}: {} (attempt {attempt})", self.url, failure.message);
                return Err(Error::new(ErrorKind::Io, "embed_http", message));
            };
            std::thread::sleep(wait.max(asked));
            wait *= 2;
        }
        unreachable!("the last attempt returns")
    }

    fn ask(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let final_failure = |message: String| Failure { message, again_after: None };
        let question = Question { model: &self.model, input: texts, encoding_format: "float" };
        let body = serde_json::to_vec(&question).expect("strings");
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.send(&body[..]).map_err(|error| Failure {
            message: error.to_string(),
            again_after: (!is_refused_certificate(&error)).then_some(Duration::ZERO),
        })?;
        let status = response.status().as_u16();
        let asked = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let read = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec();
        let bytes = read.map_err(|error| Failure {
            message: format!("status {status}, body: {error}"),
            again_after: Some(Duration::ZERO),
        })?;
        if status != 200 {
            let text = String::from_utf8_lossy(&bytes);
            let again = status == 429 || status >= 500;
            let asked = Duration::from_secs(asked.unwrap_or(0)).min(LONGEST_WAIT);
            let message =
                format!("status {status}: {}", text.chars().take(300).collect::<String>());
            return Err(Failure { message, again_after: again.then_some(asked) });
        }
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
            final_failure(format!("answer is not that of /v1/embeddings: {error}"))
        })?;
        self.in_order(answer, texts.len()).map_err(final_failure)
    }

    /// The vectors in the order of the texts, all there and of one length.
    fn in_order(&self, answer: Answer, n_texts: usize) -> Result<Vec<Vec<f32>>, String> {
        let n = answer.data.len();
        let mut vectors = vec![Vec::new(); n_texts];
        for Embedding { index, embedding } in answer.data {
            let dim = if self.dim == 0 { embedding.len() } else { self.dim };
            if embedding.is_empty() || embedding.len() != dim {
                return Err(format!(
                    "vector {index} has {} numbers, expected {dim}",
                    embedding.len()
                ));
            }
            if embedding.iter().any(|x| !x.is_finite()) {
                return Err(format!("vector {index} is not finite"));
            }
            *vectors.get_mut(index).ok_or_else(|| format!("index {index} of {n_texts} texts"))? =
                embedding;
        }
        if n != n_texts || vectors.iter().any(Vec::is_empty) {
            return Err(format!("{n} vectors for {n_texts} texts"));
        }
        Ok(vectors)
    }
}

/// Whom servers must be vouched for by: the authorities of the file that the machine names, or those that browsers know.
#[cfg(feature = "https")]
fn trust() -> Result<TlsConfig> {
    let Some(path) = authorities::named() else { return Ok(TlsConfig::default()) };
    let all = authorities::read(&path)?;
    let all = all.iter().map(|own| Certificate::from_der(own).to_owned());
    Ok(TlsConfig::builder().root_certs(RootCerts::from(all)).build())
}

/// Whether the server is not who it should be, which waiting does not change: such failures reach us as invalid data.
fn is_refused_certificate(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData)
}

impl Embedder for Http {
    fn dim(&self) -> usize {
        self.dim
    }

    fn identity(&self) -> String {
        format!("http/{}/{}", self.model, self.dim)
    }

    fn embed(&self, texts: &[&str]) -> Result<Rows> {
        let mut values = vec![0.0; texts.len() * self.dim];
        // Servers refuse empty texts, and there is nothing to say of them.
        let asked: Vec<usize> = (0..texts.len()).filter(|&i| !texts[i].trim().is_empty()).collect();
        for batch in asked.chunks(BATCH) {
            let of_batch: Vec<&str> = batch.iter().map(|&i| texts[i]).collect();
            for (&i, vector) in batch.iter().zip(self.request(&of_batch)?) {
                let row = &mut values[i * self.dim..(i + 1) * self.dim];
                row.copy_from_slice(&vector);
                normalise(row);
            }
        }
        Rows::new(Values::F32(values.into()), self.dim)
    }
}
