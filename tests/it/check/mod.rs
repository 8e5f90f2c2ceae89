//! Tests that `check` names the cause of planted mistakes: with the code, the level and the words of
//! `docs/check.md`. Mistakes that the running bridge reports too are in `mistakes/`.

mod files;
mod kafka;
mod nats;
mod source;

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use kit::SOON;
use kit::bridge::Setup;

/// What `check` must find.
#[derive(Clone, Copy, Debug)]
struct Found {
    code: &'static str,
    /// `ok`, `warning`, or the state of an error: `held` or `retrying`.
    level: &'static str,
}

const fn ok(code: &'static str) -> Found {
    Found { code, level: "ok" }
}

const fn warning(code: &'static str) -> Found {
    Found { code, level: "warning" }
}

const fn held(code: &'static str) -> Found {
    Found { code, level: "held" }
}

const fn retrying(code: &'static str) -> Found {
    Found { code, level: "retrying" }
}

impl Found {
    /// Whether `result` has this code and this level.
    fn is(self, result: &Value) -> bool {
        let level = result["state"].as_str().or(result["level"].as_str());
        result["code"] == self.code && level == Some(self.level)
    }
}

/// The level of a code on the page, and what its messages must contain: every text in backticks in the columns "it
/// says" and "what to do".
fn row(code: &str) -> (String, Vec<String>) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check.md");
    let page = std::fs::read_to_string(page).expect("read docs/check.md");
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("| `{code}` | ")));
    let line = line.unwrap_or_else(|| panic!("docs/check.md has no row `{code}`"));
    let (level, texts) = line.split_once(" | ").expect("a level");
    // This is an argument of `check`.
    let texts = texts.replace("`--subscribe`", "");
    (level.to_owned(), texts.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Runs `check --json` with these arguments. Returns a value for each line.
fn check(setup: &Setup, arguments: &[&str]) -> Vec<Value> {
    let (code, out, err) =
        tokio::task::block_in_place(|| setup.run(&[&["check", "--json"], arguments].concat()));
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let results: Vec<Value> = out.lines().map(line).collect();
    let fails = results.iter().any(|result| result["level"] == "error");
    assert_eq!(code, Some(i32::from(fails)), "{err}{results:#?}");
    results
}

/// Checks that the mistake `what` is found as the page says.
fn finds(what: &str, setup: &Setup, arguments: &[&str], found: Found) -> String {
    let deadline = Instant::now() + SOON;
    let mut results = check(setup, arguments);
    // ActiveMQ closes a refused connection after 2 s, also if it is so busy that it has not said why until then.
    let is_closed = |results: &[Value]| results.iter().any(|result| result["code"] == "source-closed");
    while is_closed(&results) && found.code != "source-closed" && Instant::now() < deadline {
        results = check(setup, arguments);
    }
    let result = results.iter().find(|result| found.is(result));
    let result = result.unwrap_or_else(|| panic!("{what}: {found:?} is not among {results:#?}"));
    let message = result["message"].as_str().expect("a message").to_owned();
    let (level, texts) = row(found.code);
    assert!(level.contains(found.level), "{what}: docs/check.md calls {} {level}", found.code);
    for text in texts {
        assert!(message.contains(&text), "{what}: {text:?} is not in: {message}");
    }
    message
}

/// Checks that `part` has no warning and no error.
fn is_good(setup: &Setup, arguments: &[&str], part: &str) {
    let results = check(setup, arguments);
    let of_part: Vec<&Value> = results
        .iter()
        .filter(|result| result["part"].as_str().is_some_and(|it| it.starts_with(part)))
        .collect();
    assert!(!of_part.is_empty() && of_part.iter().all(|result| result["level"] == "ok"), "{results:#?}");
}
