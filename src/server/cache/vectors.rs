//! Vectors of texts, or none: an embedder that fails or is slow holds nobody up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::embed::Embedder;

/// Batches that are embedded at once.
const AT_ONCE: usize = 8;

/// How long an embedder that failed is not asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// The vector of a text; none for one in which the model sees nothing, or of which it reads the beginning only.
pub type Vector = Option<Vec<f32>>;

/// What makes vectors.
pub struct Vectors {
    embedder: Arc<dyn Embedder>,
    running: Arc<Semaphore>,
    paused_until: Mutex<Option<Instant>>,
    longest: Duration,
    n_failures: AtomicU64,
    /// What the last failure said.
    said: Mutex<String>,
}

impl Vectors {
    /// Those of an embedder, which is waited for so long at most.
    pub fn new(embedder: Arc<dyn Embedder>, longest: Duration) -> Self {
        Self {
            embedder,
            running: Arc::new(Semaphore::new(AT_ONCE)),
            paused_until: Mutex::default(),
            longest,
            n_failures: AtomicU64::new(0),
            said: Mutex::default(),
        }
    }

    /// Elements of a vector.
    pub fn dim(&self) -> usize {
        self.embedder.dim()
    }

    /// What makes them.
    pub fn identity(&self) -> String {
        self.embedder.identity()
    }

    /// How often there were none.
    pub fn n_failures(&self) -> u64 {
        self.n_failures.load(Ordering::Relaxed)
    }

    /// What the embedder said when it last failed.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A vector for each text.
    ///
    /// # Errors
    /// A stable word: `embedder_paused`, `embedder_busy`, `embedder_slow`, `embedder_down`.
    pub async fn of(&self, texts: Vec<String>) -> Result<Vec<Vector>, &'static str> {
        let made = self.made(texts).await;
        if let Err(why) = made {
            self.n_failures.fetch_add(1, Ordering::Relaxed);
            if matches!(why, "embedder_down" | "embedder_slow") {
                *self.paused_until() = Some(Instant::now() + PAUSE);
            }
        }
        made
    }

    async fn made(&self, texts: Vec<String>) -> Result<Vec<Vector>, &'static str> {
        if self.paused_until().is_some_and(|until| Instant::now() < until) {
            return Err("embedder_paused");
        }
        // It goes to the thread that embeds: one that is not waited for any longer still counts.
        let permit = Arc::clone(&self.running).try_acquire_owned().map_err(|_| "embedder_busy")?;
        let embedder = Arc::clone(&self.embedder);
        let working = spawn_blocking(move || {
            let made = made(&*embedder, &texts);
            drop(permit);
            made
        });
        match timeout(self.longest, working).await {
            Ok(Ok(Ok(vectors))) => Ok(vectors),
            Ok(Ok(Err(error))) => {
                *self.said.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                Err("embedder_down")
            }
            Ok(Err(_)) => Err("embedder_down"),
            Err(_) => Err("embedder_slow"),
        }
    }

    fn paused_until(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made(embedder: &dyn Embedder, texts: &[String]) -> crate::error::Result<Vec<Vector>> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let rows = embedder.embed(&texts)?;
    let row = |i: usize| {
        let mut row = vec![0.0; rows.dim()];
        rows.widen(i, &mut row);
        row
    };
    let is_whole = |i: usize| embedder.n_cut(&[texts[i]]) == 0;
    let vectors = (0..rows.n_rows()).map(|i| {
        let row = row(i);
        (row.iter().any(|&x| x != 0.0) && is_whole(i)).then_some(row)
    });
    Ok(vectors.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rows::Rows;
    use crate::embed::hashed::Hashed;
    use crate::error::{Error, ErrorKind, Result};

    /// Fails while it is told to, and counts how often it was asked.
    #[derive(Default)]
    struct Shaky {
        n_asked: AtomicU64,
        is_slow: bool,
    }

    impl Embedder for Shaky {
        fn dim(&self) -> usize {
            2
        }

        fn identity(&self) -> String {
            "shaky".into()
        }

        fn embed(&self, _: &[&str]) -> Result<Rows> {
            self.n_asked.fetch_add(1, Ordering::SeqCst);
            if self.is_slow {
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(Error::new(ErrorKind::Io, "embed_http", "no"))
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(test)
    }

    #[test]
    fn a_text_without_words_has_no_vector() {
        let vectors = Vectors::new(Arc::new(Hashed), Duration::from_secs(60));
        let made = run(vectors.of(vec!["two words".into(), "?!".into()])).unwrap();
        assert_eq!(made[0].as_ref().map(Vec::len), Some(vectors.dim()));
        assert_eq!(made[1], None);
        assert_eq!(vectors.n_failures(), 0);
    }

    #[test]
    fn an_embedder_that_fails_is_left_alone_for_a_while() {
        let shaky = Arc::new(Shaky::default());
        let vectors = Vectors::new(shaky.clone(), Duration::from_secs(60));
        run(async {
            assert_eq!(vectors.of(vec!["a".into()]).await, Err("embedder_down"));
            assert_eq!(vectors.of(vec!["a".into()]).await, Err("embedder_paused"));
        });
        assert_eq!(shaky.n_asked.load(Ordering::SeqCst), 1);
        assert_eq!((vectors.n_failures(), vectors.said().as_str()), (2, "embed_http: no"));
    }

    #[test]
    fn an_embedder_that_is_slow_is_not_waited_for() {
        let shaky = Arc::new(Shaky { is_slow: true, ..Shaky::default() });
        let vectors = Vectors::new(shaky, Duration::from_millis(1));
        assert_eq!(run(vectors.of(vec!["a".into()])), Err("embedder_slow"));
    }
}
