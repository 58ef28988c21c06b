//! Pages as a browser shows them.

use std::path::Path;
use std::process::{Command, Stdio};

/// A page after a browser has read it.
pub struct Shown {
    /// What it became, as HTML.
    pub dom: String,
    /// What it complained of, line by line.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub console: Vec<String>,
}

/// The page at a URL as it is after so many of its own milliseconds; `None`, said aloud, where there is no browser.
pub fn shown(profile: &Path, url: &str, own_ms: u32) -> Option<Shown> {
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg("--enable-logging=stderr")
        .arg(format!("--user-data-dir={}", profile.to_str().unwrap()))
        .arg(format!("--virtual-time-budget={own_ms}"))
        .arg("--dump-dom")
        .arg(url)
        .stdin(Stdio::null())
        .output();
    match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: no chromium on PATH");
            None
        }
        Err(error) => panic!("chromium: {error}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            let console = said.lines().filter(|line| line.contains("CONSOLE"));
            let console = console.map(str::to_owned).collect();
            Some(Shown { dom: String::from_utf8(output.stdout).unwrap(), console })
        }
    }
}
