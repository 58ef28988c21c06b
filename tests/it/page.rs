//! The report page as a browser shows it.

use std::path::Path;

use serde_json::Value;

use crate::corpus::{Case, Random, arg, fixture, jsonl, record};
use crate::support::browser;

/// The page after a browser has read it; `None`, said aloud, where there is no browser.
fn shown_page(case: &Case, page: &Path) -> Option<String> {
    let url = format!("file://{}", arg(page));
    Some(browser::shown(&case.path("profile"), &url, 1000)?.dom)
}

#[test]
fn the_page_tells_counts_threshold_and_differences() {
    let case = Case::new();
    let job = case.run_on(&fixture(), &[]);
    let Some(page) = shown_page(&case, &job.out.join("report.html")) else { return };
    for text in [
        "<h1>830 records read: 514 kept, 316 dropped (38.1 %), 0 quarantined</h1>",
        "threshold 0.8</text>",
        "readmes.parquet",
        "238 duplicate clusters",
        "The largest clusters",
    ] {
        assert!(page.contains(text), "{text}");
    }
    let clusters = page.split("id=\"clusters\"").nth(1).unwrap();
    let shown = clusters.split("<details").nth(1).unwrap();
    assert!(shown.contains("cluster"), "a cluster is shown");
    let texts: String = clusters.split("<details").skip(1).collect();
    assert!(texts.contains("<ins>") || texts.contains("<del>"), "a difference is marked");
}

#[test]
fn markup_in_a_record_is_shown_as_text() {
    let case = Case::new();
    let page = Random(31).page(60).join(" ");
    let script = |i: i32| format!("{page} <script>document.title='run{i}'</script>");
    let records: Vec<Value> = (0..4).map(|i| record(format!("<b>{i}</b>"), &script(i))).collect();
    case.file("a.jsonl", jsonl(&records));
    let job = case.run(&[]);
    assert!(!job.dropped().is_empty());
    let Some(page) = shown_page(&case, &job.out.join("report.html")) else { return };
    assert!(page.contains("&lt;script&gt;document.title="), "the text is there");
    assert!(page.contains("&lt;b&gt;0&lt;/b&gt;"), "the id is there");
    assert!(!page.contains("<script"), "and is no script");
    assert!(page.contains("<title>nearkin dedup: "), "nothing ran");
}
