//! Tests that each figure that a document repeats from `docs/results/` is in the result that the document
//! names.
//!
//! A document names the result by a link. The figures are in the text of this link, in the other cells of its
//! row, or in the table below a paragraph that says `Source: [..](..)`.

use crate::files::{below, text};
use crate::links::joined;

/// Columns that describe the measurement, not its result.
const CONDITIONS: [&str; 4] = ["from", "round trip", "so for 1000 events/s", "source"];

/// A text with figures, and the page of results that must contain them.
#[derive(Debug, PartialEq)]
struct Claim {
    page: String,
    text: String,
}

/// A number as written in the text: `4,712`, `0.46`, `33,000`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figure {
    value: f64,
    /// Half of the unit of the last significant digit.
    rounding: f64,
}

/// Returns the links of `line` to pages of results: the text of each link, and its page.
fn links(line: &str) -> Vec<(&str, &str)> {
    let ends = line.match_indices("](").filter_map(|(middle, _)| {
        let start = line[..middle].rfind('[')?;
        let target = line[middle + 2..].split_once(')')?.0;
        Some((&line[start + 1..middle], target))
    });
    ends.filter(|(_, target)| target.contains("results/") && target.ends_with(".md")).collect()
}

/// Returns the cells of a row of a table.
pub fn cells(row: &str) -> Vec<&str> {
    row.trim().trim_matches('|').split('|').map(str::trim).collect()
}

fn claims(document: &str, text: &str) -> Vec<Claim> {
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut claims = Vec::new();
    let mut claim = |page: &str, text: &str| {
        claims.push(Claim { page: joined(folder, page), text: text.to_owned() });
    };
    let mut source = None;
    for paragraph in text.split("\n\n") {
        let rows: Vec<&str> = paragraph.lines().filter(|line| line.starts_with('|')).collect();
        if rows.is_empty() {
            let line = paragraph.replace('\n', " ");
            for (text, page) in links(&line) {
                claim(page, text);
            }
            let after = line.rsplit_once("Source: ").map(|(_, after)| after.to_owned());
            source = after.and_then(|after| Some(links(&after).first()?.1.to_owned()));
            continue;
        }
        let header = cells(rows[0]);
        for row in &rows[2..] {
            let named = links(row).first().map(|(_, page)| (*page).to_owned()).or_else(|| source.clone());
            let Some(page) = named else { continue };
            for (_, cell) in
                header.iter().zip(cells(row)).skip(1).filter(|(name, _)| !CONDITIONS.contains(name))
            {
                if links(cell).is_empty() {
                    claim(&page, cell);
                }
            }
        }
        source = None;
    }
    claims
}

/// Returns the numbers of a text, except those in code. A version such as 5.17.2 counts as 5.17.
fn figures(text: &str) -> Vec<Figure> {
    let text = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let is_part = |letter: char| letter.is_ascii_digit() || letter == '.' || letter == ',';
    let mut found = Vec::new();
    for word in text.split(|letter: char| !is_part(letter)) {
        let digits = word.trim_matches(['.', ',']).replace(',', "");
        let mut parts = digits.split('.').filter(|part| !part.is_empty());
        let Some(whole) = parts.next() else { continue };
        let decimals = parts.next().unwrap_or("");
        let zeros = whole.len() - whole.trim_end_matches('0').len();
        // 33,000 is a rounded number. 1000, 4096 and 50 are not.
        let unit = match (decimals.len(), zeros) {
            (0, 3..) if word.contains(',') => 10f64.powi(i32::try_from(zeros).unwrap()),
            (decimals, _) => 0.1f64.powi(i32::try_from(decimals).unwrap()),
        };
        found.push(Figure { value: format!("{whole}.{decimals}0").parse().unwrap(), rounding: unit / 2.0 });
    }
    found
}

/// Returns whether one of `results` rounds to `figure`, also as a percentage or in the next larger unit (kB
/// and MB).
fn is_in(figure: Figure, results: &[Figure]) -> bool {
    let equals = |value: f64| (value - figure.value).abs() <= figure.rounding * 1.000_001;
    results.iter().any(|result| [1.0, 100.0, 0.001].iter().any(|factor| equals(result.value * factor)))
}

fn faults(claim: &Claim, results: &str) -> Vec<String> {
    let results = figures(results);
    let missing = figures(&claim.text).into_iter().filter(|figure| !is_in(*figure, &results));
    missing.map(|figure| format!("{} has no {} (\"{}\")", claim.page, figure.value, claim.text)).collect()
}

#[test]
fn every_figure_of_a_document_is_in_its_result() {
    let mut found = Vec::new();
    let mut checked = 0;
    for document in below("", &[".md"]) {
        if document.starts_with("docs/results/") {
            continue;
        }
        for claim in claims(&document, &text(&document)) {
            checked += figures(&claim.text).len();
            let faults = faults(&claim, &text(&claim.page));
            found.extend(faults.into_iter().map(|fault| format!("{document}: {fault}")));
        }
    }
    assert!(checked > 100, "only {checked} figures were found");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_different_figure_is_found() {
    let page = "about [33,000](results/a.md) and [x](b.md)\n\nSource: [a](results/a.md).\n\n\
                | | from | speed |\n|---|---|---:|\n| `x` 7 | 8 | 0.46 to 0.47 |\n\n\
                | | MB | |\n|---|---|---|\n| 9 | 10.1 MB | [a](results/b.md) |\n| 9 | 11 | none |\n";
    let claim = |page: &str, text: &str| Claim { page: page.to_owned(), text: text.to_owned() };
    assert_eq!(
        claims("docs/c.md", page),
        [
            claim("docs/results/a.md", "33,000"),
            claim("docs/results/a.md", "a"),
            claim("docs/results/a.md", "0.46 to 0.47"),
            claim("docs/results/b.md", "10.1 MB"),
        ]
    );
    let results = "| 33021 | 0.462, 0.474 | 10145 kB | ActiveMQ 5.17.2 |";
    for (good, bad) in [
        ("33,000", "34,000"),
        ("0.46 to 0.47", "0.45 to 0.47"),
        ("46 %", "45 %"),
        ("10.1 MB", "10.2 MB"),
        ("33,021", "33,022"),
        ("5.17", "5.18"),
    ] {
        assert_eq!(faults(&claim("a", good), results), Vec::<String>::new(), "{good}");
        assert_eq!(faults(&claim("a", bad), results).len(), 1, "{bad}");
    }
    assert_eq!(
        figures("`1024` and 3, 4.5."),
        [Figure { value: 3.0, rounding: 0.5 }, Figure { value: 4.5, rounding: 0.05 }]
    );
}
