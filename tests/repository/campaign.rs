//! Adds up the results of `make campaign` in `docs/results/campaign.md`, and tests that the sums are up to date.
//! `make campaign-totals` writes them.

use std::fs;

use crate::figures::cells;
use crate::files::{below, root, text};

const PAGE: &str = "docs/results/campaign.md";
const HEAD: &str = "\
# Campaigns of faults on real servers: all runs

Each row is a run of `make campaign`, with a seed of its own, and links to its document. `make campaign-totals` writes
this page. [README.md](README.md#campaign) says what is measured.

";

/// What a column of the runs becomes in the sum.
#[derive(Clone, Copy)]
enum Sum {
    Added,
    Longest,
}

/// The columns of a run that are shown, by their names in its document.
const COLUMNS: [(&str, Sum); 14] = [
    ("took", Sum::Added),
    ("events", Sum::Added),
    ("faults", Sum::Added),
    ("lost", Sum::Added),
    ("out of order", Sum::Added),
    ("doubled in Kafka", Sum::Added),
    ("in JetStream", Sum::Added),
    ("in files", Sum::Added),
    ("not allowed", Sum::Added),
    ("dead letters", Sum::Added),
    ("order not promised", Sum::Added),
    ("longest recovery", Sum::Longest),
    ("longest untrue ready", Sum::Longest),
    ("rounds", Sum::Added),
];

/// One document: its name, its seed, its figures, and the verdict.
struct Run {
    name: String,
    seed: String,
    figures: Vec<f64>,
    verdict: String,
}

impl Run {
    fn of(name: &str, text: &str) -> Self {
        let after = |mark: &str| text.lines().find_map(|line| line.strip_prefix(mark)).map(str::to_owned);
        let seed = after("- seed: ").unwrap_or_else(|| panic!("{name} has no seed"));
        let mut rows = text.lines().filter(|line| line.starts_with('|')).map(cells);
        let header = rows.next().unwrap_or_else(|| panic!("{name} has no table"));
        let rows: Vec<_> = rows.skip(1).collect();
        let last = rows.iter().position(|row| row[0] == "all").unwrap_or_else(|| panic!("{name} has no sum"));
        let figure = |column: &str| {
            if column == "rounds" {
                return last as f64;
            }
            let place = header.iter().position(|name| *name == column);
            let place = place.unwrap_or_else(|| panic!("{name} has no column {column}"));
            number(rows[last][place])
        };
        let figures = COLUMNS.iter().map(|(column, _)| figure(column)).collect();
        let verdict = (*rows[last].last().unwrap()).to_owned();
        Self { name: name.to_owned(), seed, figures, verdict }
    }
}

/// Reads `12`, `3.4 s` or `-`.
fn number(cell: &str) -> f64 {
    let digits = cell.trim_end_matches(" s");
    if digits == "-" { 0.0 } else { digits.parse().unwrap_or_else(|_| panic!("{cell} is no number")) }
}

fn page(runs: &[Run]) -> String {
    let row = |first: &[&str], figures: &[f64], last: &str| {
        let figures = COLUMNS.iter().zip(figures).map(|((column, sum), figure)| match sum {
            Sum::Longest => format!("{figure:.1} s"),
            Sum::Added if *column == "took" => format!("{figure:.0} s"),
            Sum::Added => format!("{figure:.0}"),
        });
        let first = first.iter().map(|cell| (*cell).to_owned());
        let cells: Vec<String> = first.chain(figures).chain([last.to_owned()]).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut page = HEAD.to_owned();
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    page += &format!("| run | seed | {} | verdict |\n", names.join(" | "));
    page += &format!("|---|---:|{}---|\n", "---:|".repeat(COLUMNS.len()));
    let mut all = vec![0.0; COLUMNS.len()];
    for run in runs {
        let link = format!("[{0}]({0})", run.name);
        page += &row(&[&link, &run.seed], &run.figures, &run.verdict);
        for ((total, figure), (_, sum)) in all.iter_mut().zip(&run.figures).zip(COLUMNS) {
            *total = match sum {
                Sum::Added => *total + figure,
                Sum::Longest => f64::max(*total, *figure),
            };
        }
    }
    let failed = runs.iter().filter(|run| run.verdict != "as promised").count();
    let verdict = if failed == 0 { "as promised".to_owned() } else { format!("{failed} runs FAILED") };
    page + &row(&["all", ""], &all, &verdict)
}

#[test]
fn the_sums_of_the_campaigns_are_those_of_their_documents() {
    let documents = below("docs/results", &[".md"]).into_iter();
    let documents = documents.filter(|path| path.starts_with("docs/results/campaign-"));
    let runs: Vec<Run> =
        documents.map(|path| Run::of(path.rsplit_once('/').unwrap().1, &text(&path))).collect();
    assert!(!runs.is_empty(), "no campaign has run");
    let page = page(&runs);
    if std::env::var_os("WRITE_CAMPAIGN").is_some() {
        fs::write(root().join(PAGE), page).unwrap();
        return;
    }
    assert_eq!(text(PAGE), page, "`make campaign-totals` writes {PAGE}");
    let mut seeds: Vec<_> = runs.iter().map(|run| &run.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), runs.len(), "two runs have the same seed");
}

#[test]
fn figures_are_added_or_the_longest_counts() {
    let header: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).filter(|name| *name != "rounds").collect();
    let document = |seed: u64, took: u64, recovery: f64, verdict: &str| {
        let row = |name: &str| {
            format!(
                "| {name} | {took} s | 100 | 2 | 0 | 0 | - | 0 | 3 | 0 | 0 | 0 | {recovery} s | 1.5 s | {verdict} |\n"
            )
        };
        let header = format!("| round | {} | verdict |\n|---|\n", header.join(" | "));
        let text = format!("- seed: {seed}\n\n{header}{}{}{}\n| what |\n", row("1"), row("2"), row("all"));
        Run::of(&format!("campaign-{seed}.md"), &text)
    };
    let runs = [document(1, 10, 2.5, "as promised"), document(2, 20, 1.0, "1 FAILED")];
    let page = page(&runs);
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    assert_eq!(rows[2][..4], ["[campaign-1.md](campaign-1.md)", "1", "10 s", "100"]);
    let all = "all |  | 30 s | 200 | 4 | 0 | 0 | 0 | 0 | 6 | 0 | 0 | 0 | 2.5 s | 1.5 s | 4 | 1 runs FAILED";
    assert_eq!(rows.last().unwrap().join(" | "), all);
}
