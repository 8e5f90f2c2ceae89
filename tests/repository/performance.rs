//! Writes the tables of `docs/performance.md` from the results of `make bench-rivals`, and tests that they are
//! up to date. `make performance` writes them.

use std::fs;

use crate::figures::cells;
use crate::files::{root, text};

const PAGE: &str = "docs/performance.md";
const RESULTS: [&str; 4] = ["rivals.md", "rivals-kill.md", "rivals-jetstream.md", "rivals-files.md"];
const BEGIN: &str = "<!-- begin: written by `make performance` -->\n";
const END: &str = "<!-- end -->\n";
/// The programs in the results begin with these words.
const BRIDGES: [&str; 2] = ["bridge, STOMP", "bridge, OpenWire"];
const RIVALS: [(&str, &str); 3] = [("a page of Go", "Go"), ("Java", "Java"), ("Python", "Python")];

const HEADER: &str = "\
| | bridge, STOMP | bridge, OpenWire | best rival | STOMP ÷ rival | OpenWire ÷ rival |
| --- | ---: | ---: | ---: | ---: | ---: |";

/// One table of the results: what was measured, from which broker into which sink.
struct Table<'a> {
    place: &'a str,
    job: &'a str,
    header: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

/// One figure of every program.
#[derive(Debug, PartialEq)]
struct Measure {
    name: String,
    bridges: [f64; 2],
    rivals: Vec<(&'static str, f64)>,
    is_better_if_higher: bool,
}

fn tables(results: &str) -> Vec<Table<'_>> {
    let sections = results.split("\n## ").skip(1);
    let with_table = sections.filter_map(|section| {
        let (title, rest) = section.split_once('\n')?;
        let (place, job) = title.split_once(": ")?;
        let mut rows = rest.lines().filter(|line| line.starts_with('|')).map(cells);
        let header = rows.next()?;
        Some(Table { place, job, header, rows: rows.skip(1).collect() })
    });
    with_table.collect()
}

/// Reads `1.39 (1.28–2.24)`: the median comes first.
fn median(cell: &str) -> Option<f64> {
    cell.split(' ').next()?.parse().ok()
}

/// Makes a measure of each column with figures. A table of latencies has a row for each rate and program, the
/// others one for each program.
fn measures(table: &Table<'_>) -> Vec<Measure> {
    let of_program = table.header.iter().position(|name| name.is_empty()).expect("a column of programs");
    let mut rates: Vec<Option<&str>> =
        table.rows.iter().map(|row| (of_program > 0).then(|| row[0])).collect();
    rates.dedup();
    let mut measures = Vec::new();
    for rate in rates {
        let rows: Vec<_> = table.rows.iter().filter(|row| rate.is_none_or(|rate| row[0] == rate)).collect();
        for (column, name) in table.header.iter().enumerate().skip(of_program + 1) {
            let of = |program: &str| {
                let row = rows.iter().find(|row| row[of_program].starts_with(program))?;
                median(row.get(column)?)
            };
            let bridges = BRIDGES.map(of);
            let [Some(stomp), Some(openwire)] = bridges else { continue };
            let rivals = RIVALS.iter().filter_map(|(program, short)| Some((*short, of(program)?))).collect();
            let name = table.name_of(name, rate);
            let is_better_if_higher =
                matches!(name.as_str(), "events/s" | "second half" | "of the bare consumer");
            measures.push(Measure { name, bridges: [stomp, openwire], rivals, is_better_if_higher });
        }
    }
    measures
}

impl Table<'_> {
    fn name_of(&self, column: &str, rate: Option<&str>) -> String {
        let is_time = self.job.contains("in milliseconds") && !column.starts_with("processor");
        let unit = if is_time { ", ms" } else { "" };
        let when = match rate {
            Some(rate) => format!(", at {rate} events/s"),
            None if self.job.starts_with("killed") => " by a kill".to_owned(),
            None => String::new(),
        };
        format!("{column}{unit}{when}")
    }
}

impl Measure {
    fn best_rival(&self) -> Option<(&'static str, f64)> {
        let order = |a: &(_, f64), b: &(_, f64)| a.1.total_cmp(&b.1);
        let rivals = self.rivals.iter().copied();
        if self.is_better_if_higher { rivals.max_by(order) } else { rivals.min_by(order) }
    }

    /// A bridge that is behind has its ratio in bold.
    fn row(&self) -> String {
        let Some((rival, best)) = self.best_rival() else { return String::new() };
        let ratios = self.bridges.map(|bridge| match (bridge, best) {
            (0.0, 0.0) => "level".to_owned(),
            (_, 0.0) => "**behind**".to_owned(),
            _ => {
                let ratio = bridge / best;
                let is_behind = if self.is_better_if_higher { ratio < 0.995 } else { ratio >= 1.005 };
                if is_behind { format!("**{ratio:.2}**") } else { format!("{ratio:.2}") }
            }
        });
        let [stomp, openwire] = self.bridges;
        format!("| {} | {stomp} | {openwire} | {best}, {rival} | {} | {} |", self.name, ratios[0], ratios[1])
    }
}

/// Renders a table for each broker and sink.
fn summary(results: &str) -> String {
    let mut page = String::new();
    let mut place = "";
    for table in tables(results) {
        if table.place != place {
            place = table.place;
            page += &format!("\n### {place}\n\n{HEADER}\n");
        }
        for measure in measures(&table) {
            page += &format!("{}\n", measure.row());
        }
    }
    page
}

/// Returns the page with new tables.
fn renewed(page: &str, results: &str) -> String {
    let (before, rest) = page.split_once(BEGIN).expect("the page marks where its tables begin");
    let (_, after) = rest.split_once(END).expect("the page marks where its tables end");
    format!("{before}{BEGIN}{}\n{END}{after}", summary(results))
}

#[test]
fn the_page_has_the_latest_results() {
    let page = text(PAGE);
    let results: String = RESULTS.iter().map(|name| text(&format!("docs/results/{name}"))).collect();
    let renewed = renewed(&page, &results);
    if std::env::var_os("WRITE_PERFORMANCE").is_some() {
        fs::write(root().join(PAGE), &renewed).unwrap();
        return;
    }
    assert!(page == renewed, "{PAGE} has other figures than {RESULTS:?}: run `make performance`");
}

#[test]
fn a_summary_compares_with_the_best_rival_and_shows_where_the_bridge_is_behind() {
    let results = "# Rivals\n\n## A into B: latency in milliseconds\n\n\
        | events/s | | p50 | processor, % of a core |\n|---:|---|---:|---:|\n\
        | 100 | bridge, STOMP | 1.0 (0.9–2) | 6 (6–6) |\n| 100 | bridge, OpenWire | 3.0 (3–3) | 4 (4–4) |\n\
        | 100 | a page of Go (x) | 2.0 (2–2) | 5 (5–5) |\n| 100 | Java (y) | 4.0 (4–4) | 9 (9–9) |\n\n\
        ## A into B: a backlog of 9 events\n\n| | events/s | peak memory, MB |\n|---|---:|---:|\n\
        | bridge, STOMP | 90 (9–99) | 1 (1–1) |\n| bridge, OpenWire | 110 (9–99) | 0 (0–0) |\n\
        | a page of Go (x) | 50 (9–99) | 0 (0–0) |\n| Java (y) | 100 (9–99) | 2 (2–2) |\n\
        | bare consumer | 100 (9–99) | |\n";
    let rows: Vec<_> = summary(results).lines().skip(5).map(str::to_owned).collect();
    assert_eq!(
        rows,
        [
            "| p50, ms, at 100 events/s | 1 | 3 | 2, Go | 0.50 | **1.50** |",
            "| processor, % of a core, at 100 events/s | 6 | 4 | 5, Go | **1.20** | 0.80 |",
            "| events/s | 90 | 110 | 100, Java | **0.90** | 1.10 |",
            "| peak memory, MB | 1 | 0 | 0, Go | **behind** | level |",
        ]
    );
}
