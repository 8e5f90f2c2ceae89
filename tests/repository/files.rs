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

/// Returns whether only tests use this file.
pub fn is_test_file(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap();
    name.ends_with("tests.rs") || file.contains("/tests/") || ["testing.rs", "round_trip.rs"].contains(&name)
}

/// Removes each item behind a `#[cfg(test)]` that is not indented.
pub fn without_tests(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        let item = lines.by_ref().find(|line| !line.starts_with("#[")).unwrap();
        if !item.ends_with(';') {
            let _end = lines.by_ref().find(|line| *line == "}");
        }
    }
    kept.join("\n")
}

/// Removes the tests and the comments.
pub fn code_of(text: &str) -> String {
    let without = without_tests(text);
    let code = without.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
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

#[test]
fn what_only_tests_use_is_removed() {
    let text = "mod a;\n#[cfg(test)]\nmod b;\nmod c; // d\n// e\n\n#[cfg(test)]\n#[path = \"f\"]\nmod g {\n    h();\n}\nmod i;";
    assert_eq!(without_tests(text), "mod a;\nmod c; // d\n// e\n\nmod i;");
    assert_eq!(code_of(text), "mod a;\nmod c; // d\n\nmod i;");
    assert!(is_test_file("src/a/tests.rs") && is_test_file("src/a/tests/b.rs") && !is_test_file("src/a.rs"));
}
