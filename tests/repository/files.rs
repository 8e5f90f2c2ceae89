//! Reads the files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the paths, from the root and sorted, of the files below `folder` whose names end in one of
/// `endings`. Build output and hidden files are left out.
pub fn below(folder: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    collect(&root().join(folder), endings, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no file in {folder} ends in {endings:?}");
    found
}

fn collect(folder: &Path, endings: &[&str], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
        }
    }
}

pub fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// CONTRIBUTING.md, "Style".
#[test]
fn no_source_file_has_more_than_400_lines() {
    let lines = |path: &String| text(path).lines().count();
    let long: Vec<String> = below("src", &[".rs"])
        .iter()
        .filter(|path| lines(path) > 400)
        .map(|path| format!("{path}: {} lines", lines(path)))
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}
