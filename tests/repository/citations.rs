//! Tests that every citation in code and documents has a target: an invariant (`I2`), a decision (`D4`), a
//! section of docs/protocols.md (`protocols.md §3.5`).

use std::collections::BTreeSet;

use crate::files::{below, text};

/// Returns the words of a text that are `I` or `D` and a number.
fn numbered(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_alphanumeric() || "_-.".contains(letter)));
    let is_citation = |word: &&str| {
        let number = word.strip_prefix(['I', 'D']);
        number.is_some_and(|number| {
            (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    words.map(|word| word.trim_end_matches('.')).filter(is_citation).map(str::to_owned).collect()
}

/// Returns the sections of protocols.md that a text cites.
fn sections(text: &str) -> BTreeSet<String> {
    let cited = text.match_indices("protocols.md §").map(|(at, found)| &text[at + found.len()..]);
    let number = |rest: &str| {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        rest[..end].trim_end_matches('.').to_owned()
    };
    cited.map(number).collect()
}

/// Returns what a text may cite: the invariants of ARCHITECTURE.md and the pages of docs/decisions.
fn known() -> BTreeSet<String> {
    let architecture = text("ARCHITECTURE.md");
    let invariants = architecture.match_indices("**I").map(|(at, _)| &architecture[at + 2..]);
    let invariants = invariants.filter_map(|rest| rest.split_once("** ")).map(|(name, _)| name.to_owned());
    let decisions = below("docs/decisions", &[".md"]).into_iter().filter_map(|page| {
        let text = text(&page);
        Some(text.lines().next()?.strip_prefix("# ")?.split_once(':')?.0.to_owned())
    });
    invariants.chain(decisions).collect()
}

/// Returns the sections of docs/protocols.md.
fn known_sections() -> BTreeSet<String> {
    let text = text("docs/protocols.md");
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .filter_map(|line| Some(line.trim_start_matches('#').split_whitespace().next()?.to_owned()))
        .collect()
}

#[test]
fn every_citation_has_a_target() {
    let (known, known_sections) = (known(), known_sections());
    let mut faults = Vec::new();
    for file in below("", &[".rs", ".md", ".sh", ".toml"]) {
        // The examples in these tests do not exist.
        if file.starts_with("tests/repository/") {
            continue;
        }
        let text = text(&file);
        faults.extend(numbered(&text).difference(&known).map(|name| format!("{file} cites {name}")));
        faults.extend(
            sections(&text)
                .difference(&known_sections)
                .map(|name| format!("{file} cites protocols.md §{name}")),
        );
        if text.contains(concat!("active", "mq.md")) {
            faults.push(format!("{file} cites a page that is not in the repository"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Returns the source files that a text names in backticks.
fn named_files(text: &str) -> BTreeSet<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let is_file = |span: &&str| {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_/.".contains(letter);
        span.ends_with(".rs") && span.chars().all(allowed)
    };
    spans.filter(is_file).map(str::to_owned).collect()
}

#[test]
fn every_file_named_in_a_document_or_comment_exists() {
    let sources = below("", &[".rs"]);
    let exists = |name: &String| {
        sources.iter().any(|source| {
            source.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        })
    };
    let mut faults = Vec::new();
    for document in below("", &[".md"]) {
        // The history names files that no longer exist.
        if document != "CHANGELOG.md" {
            let missing = named_files(&text(&document)).into_iter().filter(|name| !exists(name));
            faults.extend(missing.map(|name| format!("{document} names {name}")));
        }
    }
    for source in &sources {
        let comments: Vec<String> = text(source)
            .lines()
            .filter_map(|line| Some(line.trim_start().strip_prefix("//")?.to_owned()))
            .collect();
        let missing = named_files(&comments.join("\n")).into_iter().filter(|name| !exists(name));
        faults.extend(missing.map(|name| format!("{source} names {name}")));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn citations_are_recognised() {
    let found = |text: &str| numbered(text).into_iter().collect::<Vec<_>>();
    assert_eq!(found("as in I2, (D14) and `D4`. Not ID5, I, D123 or X1"), ["D14", "D4", "I2"]);
    assert_eq!(sections("see `protocols.md §3.5`.").into_iter().collect::<Vec<_>>(), ["3.5"]);
    assert!(known().contains("I1") && known().contains("D1"), "{:?}", known());
}

/// Returns the names such as `Type::function` and `function` in backticks, as type and function.
fn named_functions(text: &str) -> Vec<(Option<&str>, &str)> {
    let is_word = |word: &str| {
        word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && word.starts_with(|letter: char| letter.is_ascii_alphabetic())
    };
    let spans = text.split('`').skip(1).step_by(2);
    let split = spans.map(|span| span.split_once("::").map_or((None, span), |(of, name)| (Some(of), name)));
    split.filter(|(of, name)| is_word(name) && of.is_none_or(is_word)).collect()
}

/// Whether the code defines a type, and a function, a variant or the like with this name.
fn is_in_the_code(of: Option<&str>, name: &str, code: &str) -> bool {
    let defines = |kinds: &[&str], name: &str| {
        kinds.iter().any(|kind| {
            code.match_indices(&format!("{kind} {name}")).any(|(at, found)| {
                !code[at + found.len()..]
                    .starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_')
            })
        })
    };
    let is_variant = || code.contains(&format!("    {name}(")) || code.contains(&format!("    {name},"));
    match of {
        None => code.contains(name),
        Some(of) => {
            defines(&["struct", "enum", "trait", "mod"], of) && (defines(&["fn"], name) || is_variant())
        }
    }
}

#[test]
fn every_function_that_the_architecture_names_exists() {
    let code: String = below("src", &[".rs"]).iter().map(|file| text(file)).collect();
    let architecture = text("ARCHITECTURE.md");
    let named = named_functions(&architecture);
    assert!(named.iter().filter(|(of, _)| of.is_some()).count() > 15, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|(of, name)| !is_in_the_code(*of, name, &code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!is_in_the_code(Some("Dispatcher"), "take_it_back", &code));
    assert!(!is_in_the_code(Some("Dispatchers"), "take", &code));
}
