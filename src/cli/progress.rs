//! How a job goes on, on the standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::complain;
use crate::dedup::Progress;

/// A bar with rate and time left.
pub struct Bar(ProgressBar);

/// Plain lines: one when a stage took long enough to wonder, then every ten seconds.
pub struct Lines(Mutex<Stage>);

struct Stage {
    name: String,
    total: u64,
    done: u64,
    began: Instant,
    shown: Instant,
}

const EVERY: Duration = Duration::from_secs(10);

/// The one that fits where the standard error goes.
pub fn for_stderr() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() {
        return Box::new(Bar(ProgressBar::new(0)));
    }
    let now = Instant::now();
    let stage = Stage { name: String::new(), total: 0, done: 0, began: now, shown: now };
    Box::new(Lines(Mutex::new(stage)))
}

impl Progress for Bar {
    fn stage(&self, name: &str, total_bytes: u64) {
        let template = if total_bytes > 0 {
            "{msg:11} {wide_bar} {bytes:>11} of {total_bytes:11} {bytes_per_sec:>13}, {eta} left"
        } else {
            "{msg:11} {spinner} {elapsed}"
        };
        self.0.reset();
        self.0.set_length(total_bytes);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        self.0.set_message(name.to_owned());
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
        // Compressed inputs give more bytes than the files have.
        if self.0.position() > self.0.length().unwrap_or(0) {
            self.0.set_length(self.0.position());
        }
    }

    fn warn(&self, message: &str) {
        self.0.suspend(|| complain(format_args!("warning: {message}")));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Lines {
    fn stage(&self, name: &str, total_bytes: u64) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *stage =
            Stage { name: name.to_owned(), total: total_bytes, done: 0, began: now, shown: now };
    }

    fn advance(&self, bytes: u64) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stage.done += bytes;
        if stage.shown.elapsed() < EVERY {
            return;
        }
        stage.shown = Instant::now();
        let seconds = stage.began.elapsed().as_secs_f64();
        let rate = stage.done as f64 / seconds;
        let left = stage.total.saturating_sub(stage.done) as f64 / rate.max(1.0);
        complain(format_args!(
            "{}: {} of {} MB, {:.0} MB/s, {left:.0} s left",
            stage.name,
            stage.done / 1_000_000,
            stage.total.max(stage.done) / 1_000_000,
            rate / 1e6
        ));
    }

    fn warn(&self, message: &str) {
        complain(format_args!("warning: {message}"));
    }
}
