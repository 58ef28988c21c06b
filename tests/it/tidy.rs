//! ARCHITECTURE.md as far as a test can check it.

use std::fs;
use std::path::{Path, PathBuf};

/// Rows of modules, lowest first. A module may name only modules of rows above its own, and itself.
const ROWS: [&[&str]; 11] = [
    &["error", "core"],
    &["distance", "record"],
    &["backend"],
    &["embed", "quant", "cluster"],
    &["store"],
    &["index"],
    &["plan"],
    &["engine"],
    &["dedup", "cache"],
    &["server"],
    &["cli"],
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root.join("src")).unwrap().to_owned(), text)
        })
        .collect()
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

#[test]
fn modules_import_only_from_rows_above_their_own() {
    let mut breaches = Vec::new();
    for (path, text) in all_sources() {
        let first = path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let Some(own) = row(first.trim_end_matches(".rs")) else { continue };
        for (number, line) in text.lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let module: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if row(&module).is_some_and(|other| other > own) {
                    breaches.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn dedup_and_cache_never_import_each_other() {
    for (path, text) in all_sources() {
        for (own, other) in [("dedup", "crate::cache"), ("cache", "crate::dedup")] {
            let is_own = path.starts_with(own) || path == Path::new(own).with_extension("rs");
            assert!(!is_own || !text.contains(other), "{}", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_where_the_architecture_says() {
    for (path, text) in all_sources() {
        let allowed = path.starts_with("distance/simd")
            || [
                Path::new("backend/cpu/minhash.rs"),
                Path::new("backend/cuda/device.rs"),
                Path::new("core/slab.rs"),
                Path::new("store/mapped.rs"),
            ]
            .contains(&path.as_path());
        let found =
            text.lines().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        assert!(allowed || !found, "{}", path.display());
    }
}

#[test]
fn macros_are_defined_where_the_architecture_says() {
    for (path, text) in all_sources() {
        let found = text.contains("macro_rules!");
        assert!(path.starts_with("distance/simd") || !found, "{}", path.display());
    }
}

#[test]
fn every_file_is_part_of_a_module_tree() {
    let all = all_sources();
    for (path, _) in &all {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if matches!(stem.as_str(), "lib" | "main") {
            continue;
        }
        let folder = path.parent().unwrap();
        let (name, parent) = if stem == "mod" {
            (folder.file_name().unwrap().to_string_lossy().into_owned(), folder.parent().unwrap())
        } else {
            (stem, folder)
        };
        let declares = |(other, text): &(PathBuf, String)| {
            let of_parent = other.parent() == Some(parent)
                && matches!(other.file_name().unwrap().to_str(), Some("mod.rs" | "lib.rs"))
                || other.with_extension("") == parent;
            of_parent
                && text.lines().any(|line| {
                    let line = line.trim_start_matches("pub ");
                    line == format!("mod {name};") || line == format!("mod {name} {{")
                })
        };
        assert!(all.iter().any(declares), "{} is declared nowhere", path.display());
    }
}
