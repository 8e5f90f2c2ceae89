//! Tests that `make test` runs every test that `cargo test` runs.

use toml_edit::{ArrayOfTables, DocumentMut};

use crate::files::text;

/// Returns what selects each target of this kind that `cargo test` runs, where `is_tested` is Cargo's default.
fn selected(manifest: &DocumentMut, kind: &str, is_tested: bool) -> Vec<String> {
    let targets = manifest[kind].as_array_of_tables().map(ArrayOfTables::iter).into_iter().flatten();
    let tested =
        targets.filter(|target| target.get("test").map_or(is_tested, |test| test.as_bool().unwrap()));
    tested.map(|target| format!("--{kind} {}", target["name"].as_str().unwrap())).collect()
}

#[test]
fn make_test_leaves_no_target_out() {
    let manifest: DocumentMut = text("Cargo.toml").parse().unwrap();
    let targets = [selected(&manifest, "test", true), selected(&manifest, "bench", false)].concat();
    assert!(targets.contains(&"--test it".to_owned()) && targets.contains(&"--bench cost".to_owned()));
    let makefile = text("Makefile");
    let is_run = |target: &&String| {
        let mut lines = makefile
            .lines()
            .filter(|line| line.starts_with("COMPUTING") || line.starts_with("\tMAKEFLAGS= cargo test"));
        lines.any(|line| format!("{line} ").contains(&format!("{target} ")))
    };
    let left_out: Vec<_> = targets.iter().filter(|target| !is_run(target)).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
}
