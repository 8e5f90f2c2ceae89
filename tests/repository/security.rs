//! Tests that each place and each test that SECURITY.md names exists.

use crate::figures::cells;
use crate::files::{below, exists, text};

/// Returns the words in backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the rows of the table whose header ends in `shown by`.
fn promises(document: &str) -> Vec<Vec<&str>> {
    let rows = document.lines().skip_while(|line| !line.ends_with("| shown by |")).skip(2);
    rows.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// Returns what is wrong with a row: `place` and `shown` are its last cells.
fn faults(place: &str, shown: &str, sources: &[(String, String)]) -> Vec<String> {
    let is_place =
        |name: &str| ["", "src/", "src/source/"].iter().any(|folder| exists(&format!("{folder}{name}")));
    let is_test = |name: &str| {
        let function = format!("fn {name}(");
        match name.strip_prefix("make ") {
            Some(_) => text("Makefile").contains(&format!("#   {name} ")),
            None => sources.iter().any(|(_, source)| source.contains(&function)),
        }
    };
    let places = spans(place).filter(|name| !is_place(name)).map(|name| format!("{name} does not exist"));
    let tests = spans(shown).filter(|name| !is_test(name)).map(|name| format!("there is no test {name}"));
    let unshown = (spans(shown).next().is_none()).then(|| format!("nothing shows {place}"));
    places.chain(tests).chain(unshown).collect()
}

fn sources() -> Vec<(String, String)> {
    let all = below("src", &[".rs"]).into_iter().chain(below("tests", &[".rs"]));
    all.map(|path| (path.clone(), text(&path))).collect()
}

#[test]
fn every_promise_names_a_place_and_a_test_that_exist() {
    let (document, sources) = (text("SECURITY.md"), sources());
    let promises = promises(&document);
    assert!(promises.len() > 10, "only {} promises were found", promises.len());
    let faults: Vec<String> =
        promises.iter().flat_map(|row| faults(row[row.len() - 2], row[row.len() - 1], &sources)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_place_or_a_test_that_is_missing_is_found() {
    let sources = [("a.rs".to_owned(), "fn holds() {}".to_owned())];
    let of = |place, shown| faults(place, shown, &sources);
    assert!(of("`tls/mod.rs`, `Dockerfile`", "`holds`, `make policy`").is_empty());
    assert_eq!(of("`tls/none.rs`", "`holds`"), ["tls/none.rs does not exist"]);
    assert_eq!(of("`Dockerfile`", "`hold`"), ["there is no test hold"]);
    assert_eq!(of("`Dockerfile`", "`make hold`"), ["there is no test make hold"]);
    assert_eq!(of("`Dockerfile`", ""), ["nothing shows `Dockerfile`"]);
}
