//! `nearkin key`, as typed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::Run;

fn key(args: &[&str], data: &Path) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearkin"));
    command.arg("key").arg(args[0]).arg(data).args(&args[1..]);
    command.output().unwrap().into()
}

fn listed(data: &Path) -> Vec<Value> {
    let run = key(&["list", "--json"], data);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    found["keys"].as_array().unwrap().clone()
}

#[test]
fn a_key_is_shown_once_and_only_its_hash_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let data = &dir.path().join("data");
    let made = key(
        &[
            "create",
            "--name",
            "web",
            "--scope",
            "write,read",
            "--tenant",
            "ann",
            "--collection",
            "notes",
            "--expires-in",
            "90d",
            "--points",
            "1000",
            "--requests-per-second",
            "50",
        ],
        data,
    );
    assert_eq!(made.code, 0, "{}", made.stderr);
    let text = made.stdout.trim_end();
    let parts: Vec<&str> = text.split('_').collect();
    assert_eq!((parts[0], parts.len()), ("nk1", 4), "{text}");
    assert!(made.stderr.contains("shown this once") && !made.stderr.contains(parts[2]));
    let file = data.join("keys.json");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    for found in fs::read_dir(data).unwrap() {
        let bytes = fs::read(found.unwrap().path()).unwrap();
        assert!(!String::from_utf8(bytes).unwrap().contains(parts[2]));
    }
    let keys = listed(data);
    assert_eq!(keys.len(), 1);
    let (one, shown) = (&keys[0], key(&["list"], data).stdout);
    assert_eq!(one["id"], parts[1]);
    assert_eq!(one["scopes"], serde_json::json!(["read", "write"]));
    assert_eq!((&one["tenant"], &one["state"]), (&"ann".into(), &"live".into()));
    assert_eq!(one["quotas"], serde_json::json!({"points": 1000, "requests_per_second": 50}));
    assert!(shown.contains(parts[1]) && shown.contains("tenant \"ann\", notes, until "), "{shown}");
    assert!(!shown.contains(parts[2]) && !one.to_string().contains("sha256"));
}

#[test]
fn a_key_is_revoked_by_its_id_and_stays_listed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    for name in ["one", "two"] {
        assert_eq!(key(&["create", "--name", name, "--scope", "read"], data).code, 0);
    }
    let id = listed(data)[0]["id"].as_str().unwrap().to_owned();
    let revoked = key(&["revoke", &id], data);
    assert_eq!((revoked.code, revoked.stdout.trim_end()), (0, &*format!("key {id} is revoked")));
    let states = |keys: Vec<Value>| keys.iter().map(|k| k["state"].clone()).collect::<Vec<_>>();
    assert_eq!(states(listed(data)), ["revoked", "live"]);
    let since = listed(data)[0]["revoked"].as_str().unwrap().to_owned();
    let again = key(&["revoke", &id], data);
    assert_eq!(again.stdout.trim_end(), format!("key {id} is revoked since {since}"));
    let unknown = key(&["revoke", "0123456789abcdef"], data);
    assert_eq!((unknown.code, unknown.stderr.starts_with("error: key_not_found: ")), (4, true));
}

#[test]
fn what_contradicts_itself_makes_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let cases: [(&[&str], &str); 9] = [
        (&["--scope", "raed"], "key_scopes"),
        (&["--scope", ""], "key_scopes"),
        (&["--scope", "read", "--tenant", "ann"], "--collection"),
        (&["--scope", "admin", "--tenant", "ann", "--collection", "*"], "key_scopes"),
        (&["--scope", "read", "--tenant", "", "--collection", "*"], "key_tenant"),
        (&["--scope", "read", "--collection", "*", "--collection", "x"], "key_collections"),
        (&["--scope", "read", "--expires-in", "90"], "time"),
        (&["--scope", "read", "--expires-in", "18446744073709551615s"], "key_expires"),
        (&["--scope", "read", "--requests-per-second", "0"], "key_quotas"),
    ];
    for (args, said) in cases {
        let all: Vec<&str> = ["create", "--name", "x"].iter().chain(args).copied().collect();
        let run = key(&all, data);
        assert_eq!(run.code, 2, "{args:?}");
        assert!(run.stderr.contains(said) && run.stdout.is_empty(), "{args:?}: {}", run.stderr);
    }
    assert_eq!(fs::read_dir(data).unwrap().count(), 0, "nothing was written");
    assert_eq!(listed(data).len(), 0);
    assert_eq!(key(&["list"], &data.join("absent")).code, 4);
}

#[test]
fn a_file_of_keys_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let create = ["create", "--name", "x", "--scope", "read"];
    assert_eq!(key(&create, dir.path()).code, 0);
    let file = dir.path().join("keys.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    for args in [&create[..], &["list"]] {
        let run = key(args, dir.path());
        assert_eq!(run.code, 2);
        assert!(run.stderr.starts_with("error: key_file_mode: ") && run.stdout.is_empty());
    }
}
