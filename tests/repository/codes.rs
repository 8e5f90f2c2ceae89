//! Tests that the documents have every code that `check` can give.

use crate::files::text;

/// Returns the codes that `src/finding/codes.rs` defines.
fn defined() -> Vec<String> {
    let source = text("src/finding/codes.rs");
    let parts = source.split("Code = Code::new(\"").skip(1);
    parts.map(|rest| rest.split_once('"').unwrap().0.to_owned()).collect()
}

#[test]
fn every_code_of_a_finding_is_documented_once() {
    let (check, troubleshooting) = (text("docs/check.md"), text("docs/troubleshooting.md"));
    let defined = defined();
    assert!(defined.contains(&"passed".to_owned()), "{defined:?}");
    for (at, code) in defined.iter().enumerate() {
        assert!(!defined[..at].contains(code), "{code} is defined twice");
        let kebab = |letter: char| letter.is_ascii_lowercase() || letter == '-';
        assert!(code.chars().all(kebab), "{code} is not kebab-case");
        let is_row = troubleshooting.contains(&format!("\n| `{code}` |"));
        let is_listed = check.contains(&format!("`{code}`"));
        assert!(is_row || is_listed, "neither docs/troubleshooting.md nor docs/check.md has {code}");
    }
}
