//! Tests the names of types in `src`: each is unique, so that a search finds one definition, and each error
//! ends in `Error`. Tests that each doc comment says more than the name below it.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{below, code_of, is_test_file, text};

/// What functions return as the error of a `Result` and is not called an error.
const NO_ERRORS: [(&str, &str); 5] = [
    ("ConnectionEnd", "a connection to the simulated broker also ends when its client leaves"),
    (
        "Diagnostic",
        "a mistake in the configuration; they are collected, and together they are a `ConfigError`",
    ),
    ("JavaException", "what the simulated broker sends, as Java calls it"),
    ("Rejection", "the part of a verdict that says why a sink never takes an event"),
    ("StopReason", "a replay also stops when somebody asks for it"),
];

fn sources() -> Vec<(String, String)> {
    let files = below("src", &[".rs"]).into_iter().filter(|file| !is_test_file(file));
    files.map(|file| (code_of(&text(&file)), file)).map(|(code, file)| (file, code)).collect()
}

/// Returns the word at the start of a text.
fn first_word(text: &str) -> &str {
    text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).next().unwrap()
}

/// Returns the name that a line defines as a type. A `type` that is indented belongs to a trait, which several
/// types implement with the same word.
fn defined(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let code = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => code,
    };
    let (keyword, rest) = code.split_once(' ')?;
    let is_type = match keyword {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => !line.starts_with(' '),
        _ => false,
    };
    is_type.then(|| first_word(rest))
}

/// Returns the types with an implementation of `std::error::Error`, which most of them derive.
fn errors(code: &str) -> BTreeSet<&str> {
    let derives = code.match_indices("#[derive(").filter_map(|(at, _)| {
        let (list, rest) = code[at..].split_once(")]")?;
        let is_error = list.split(['(', ',']).any(|name| name.trim().rsplit("::").next() == Some("Error"));
        rest.lines().find_map(defined).filter(|_| is_error)
    });
    let implemented = code.lines().filter_map(|line| {
        let (name, of) = line.strip_prefix("impl")?.split_once(" for ")?;
        let of_trait = name.split_whitespace().next_back()?;
        let is_error = ["Error", "error::Error", "std::error::Error"].contains(&of_trait);
        is_error.then(|| first_word(of))
    });
    derives.chain(implemented).collect()
}

/// Returns the last word of the second parameter of each `Result`.
fn of_results(code: &str) -> BTreeSet<&str> {
    code.match_indices("Result<")
        .filter_map(|(at, found)| second_parameter(&code[at + found.len()..]))
        .collect()
}

fn second_parameter(list: &str) -> Option<&str> {
    let (mut depth, mut start) = (0, None);
    for (at, letter) in list.char_indices() {
        match letter {
            ',' if depth == 0 => start = start.or(Some(at + 1)),
            '>' if list[..at].ends_with('-') => {}
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' if depth > 0 => depth -= 1,
            '>' => {
                let path = list[start?..at].split('<').next()?;
                return path.trim().trim_start_matches('&').rsplit("::").next();
            }
            ')' | ']' | ';' => return None,
            _ => {}
        }
    }
    None
}

/// Returns each doc comment with the number of its first line.
fn doc_comments(text: &str) -> Vec<(usize, String)> {
    let mut comments: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (at, line) in text.lines().enumerate() {
        let doc = line.trim_start().strip_prefix("///");
        match (doc, comments.last_mut()) {
            (Some(doc), Some((_, comment))) if is_open => comment.push_str(doc),
            (Some(doc), _) => comments.push((at + 1, doc.to_owned())),
            (None, _) => {}
        }
        is_open = doc.is_some();
    }
    comments
}

#[test]
fn no_two_types_have_the_same_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, code) in sources() {
        for name in code.lines().filter_map(defined) {
            places.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    assert!(places.len() > 500, "{} types were found", places.len());
    let repeated: Vec<String> = places
        .iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| format!("{name}: {}", files.join(", ")))
        .collect();
    assert!(repeated.is_empty(), "\n{}", repeated.join("\n"));
}

#[test]
fn every_error_is_called_an_error() {
    let sources = sources();
    let types: BTreeSet<&str> =
        sources.iter().flat_map(|(_, code)| code.lines().filter_map(defined)).collect();
    let mut found = 0;
    let mut wrong = BTreeSet::new();
    for (file, code) in &sources {
        let returned = of_results(code).into_iter().filter(|name| types.contains(name));
        let returned = returned.filter(|name| NO_ERRORS.iter().all(|(other, _)| other != name));
        for name in errors(code).into_iter().chain(returned) {
            found += 1;
            if !name.ends_with("Error") {
                wrong.insert(format!("{name} in {file}"));
            }
        }
    }
    assert!(found > 50, "{found} errors were found");
    assert!(wrong.is_empty(), "\n{}", Vec::from_iter(wrong).join("\n"));
    for (name, reason) in NO_ERRORS {
        let is_used = sources.iter().any(|(_, code)| of_results(code).contains(name));
        assert!(is_used, "no function fails with a {name} ({reason})");
    }
}

#[test]
fn every_doc_comment_has_more_than_four_words() {
    let mut short = Vec::new();
    for file in below("src", &[".rs"]) {
        for (line, comment) in doc_comments(&text(&file)) {
            if comment.split_whitespace().count() <= 4 {
                short.push(format!("{file}:{line}: {}", comment.trim()));
            }
        }
    }
    assert!(short.is_empty(), "{}\n{}", short.len(), short.join("\n"));
}

#[test]
fn definitions_errors_and_comments_are_found() {
    let names =
        ["pub(super) struct A<T> {", "enum B {", "    pub trait C: D {", "pub type E = F;", "struct G(u8);"];
    assert_eq!(names.map(defined), [Some("A"), Some("B"), Some("C"), Some("E"), Some("G")]);
    assert_eq!(["    type A = B;", "use struct_a;", "let a = b;", "pub fn a() {"].map(defined), [None; 4]);

    let code = "#[derive(Debug, thiserror::Error)]\n#[error(\"x\")]\npub enum A {\n#[derive(Debug)]\nstruct B;\n\
                impl std::error::Error for C {}\nimpl<T> Error for D<T> {}\nimpl FrameError for E {";
    assert_eq!(errors(code), BTreeSet::from(["A", "C", "D"]));
    let code = "a: Result<Vec<(A, B)>, c::D>, fn() -> Result<impl Fn(A) -> B, E<F>> io::Result<()>; Result<(), &str>";
    assert_eq!(of_results(code), BTreeSet::from(["D", "E", "str"]));

    let comments = doc_comments("/// A b\n/// c.\nd\n    /// E.\n    f // g\n    /// H.");
    assert_eq!(comments, [(1, " A b c.".to_owned()), (4, " E.".to_owned()), (6, " H.".to_owned())]);
}
