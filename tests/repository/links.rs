//! Tests that the target of every link in every document exists, including the heading.

use std::collections::BTreeSet;

use crate::files::{below, exists, text};

/// Returns the anchors of a document's headings, as GitHub makes them.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in outside_blocks(&text(document)).lines().filter_map(|line| line.strip_prefix('#')) {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        let anchor: String = kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect();
        let taken = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(taken).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// Removes blocks of code.
fn outside_blocks(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// Removes blocks and spans of code.
fn outside_code(text: &str) -> String {
    outside_blocks(text).split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// Returns the targets of the links of a text.
fn targets(text: &str) -> Vec<String> {
    let text = outside_code(text);
    let links = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    links.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// Returns what is wrong with a link in `document`.
fn fault(document: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if path.is_empty() { document.to_owned() } else { joined(folder, path) };
    if !exists(&path) {
        return Some(format!("{document} links to {target}, which is not there"));
    }
    match anchor {
        Some(anchor) if path.ends_with(".md") && !anchors(&path).contains(anchor) => {
            Some(format!("{document} links to {target}: {path} has no such heading"))
        }
        _ => None,
    }
}

pub fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_link_has_a_target() {
    let mut faults = Vec::new();
    let mut links = 0;
    for document in below("", &[".md"]) {
        for target in targets(&text(&document)) {
            links += 1;
            faults.extend(fault(&document, &target));
        }
    }
    assert!(links > 50, "only {links} links were found");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_broken_link_is_found() {
    assert_eq!(
        targets("[a](b.md#c) `[no](link)` [d](https://e)\n```\n[no](link)\n```\n"),
        ["b.md#c", "https://e"]
    );
    assert_eq!(fault("README.md", "https://example.com/"), None);
    assert_eq!(fault("README.md", "LICENSE"), None);
    assert!(fault("README.md", "NOTHING.md").is_some());
    assert!(fault("README.md", "ARCHITECTURE.md#no-such-heading").is_some());
    assert_eq!(joined("docs/results", "../../README.md"), "README.md");
}
