//! Tests that mistakes in the settings or the environment of a real bridge are reported as
//! `docs/troubleshooting.md` says. The tests read from each row of this page the state, and the texts that
//! must name the cause and the remedy. `check`, the log, `/readyz` and the exit code must agree with the row.

mod config;
mod files;
mod kafka;
mod nats;
mod pipeline;
mod source;
mod source_tls;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use kit::SOON;
use kit::admin::{Admin, Metrics};
use kit::bridge::{Bridge, Setup};
use kit::broker::Broker;
use kit::scenario::closed_without_reason;
use kit::wait_until;

/// How the program reports a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Every command ends with 64 before it opens anything.
    Refused,
    /// An operator must act.
    Held,
    /// The problem may pass without an operator.
    Retrying,
    /// `check` and the log report it, but events are delivered.
    Warning,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub shown: Shown,
    /// What the reported line must contain: every text in backticks in the columns "it says" and "what to
    /// do".
    pub texts: Vec<String>,
}

/// Reads every table row of the page whose first cell is an id in backticks.
pub fn rows() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    let page = std::fs::read_to_string(page).expect("read docs/troubleshooting.md");
    page.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<Row> {
    let line = line.strip_prefix("| `")?.strip_suffix(" |")?;
    // Markdown needs a bar inside a cell written as `\|`.
    let line = line.replace("\\|", "\u{1}");
    let cells: Vec<String> = line.split(" | ").map(|cell| cell.replace('\u{1}', "|")).collect();
    let [id, _mistake, shown, says, remedy] = cells.as_slice() else {
        panic!("a row has five cells: {line}");
    };
    let shown = match shown.as_str() {
        "refused" => Shown::Refused,
        "held" => Shown::Held,
        "retrying" => Shown::Retrying,
        "warning" => Shown::Warning,
        other => panic!("{other} is no known state: {line}"),
    };
    let texts: Vec<_> = quoted(says).chain(quoted(remedy)).collect();
    assert!(quoted(says).count() > 0, "no text in backticks names the cause: {line}");
    Some(Row { id: id.trim_end_matches('`').to_owned(), shown, texts })
}

fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// A bridge with one mistake in its settings or environment.
pub struct Scenario {
    setup: Setup,
    seen_by_check: bool,
    check_arguments: Vec<&'static str>,
    exit: i32,
    expected_depth: Option<(&'static Broker, String, u64)>,
}

impl Scenario {
    /// A mistake that `check` finds, and after which no event is left to settle.
    pub fn new(setup: Setup) -> Self {
        Self { setup, seen_by_check: true, check_arguments: vec!["check"], exit: 0, expected_depth: None }
    }

    /// The mistake appears only when events are delivered.
    pub fn unseen_by_check(mut self) -> Self {
        self.seen_by_check = false;
        self
    }

    /// Only `check --subscribe` finds the mistake.
    pub fn seen_by_subscribing(mut self) -> Self {
        self.check_arguments.push("--subscribe");
        self
    }

    /// The exit code of the bridge after SIGTERM.
    pub fn exits(mut self, code: i32) -> Self {
        self.exit = code;
        self
    }

    /// `queue` has this many events before and after: none is acknowledged.
    pub fn keeps(mut self, broker: &'static Broker, queue: &str, depth: u64) -> Self {
        self.expected_depth = Some((broker, queue.to_owned(), depth));
        self
    }

    /// Compares what the program reports with the row `id` of the page. Returns the setup, so that a test can
    /// repair it.
    pub async fn shows(self, id: &str) -> Setup {
        let row = rows().into_iter().find(|row| row.id == id);
        let row = row.unwrap_or_else(|| panic!("docs/troubleshooting.md has no row `{id}`"));
        match row.shown {
            Shown::Refused => self.is_refused(&row).await,
            Shown::Held => self.is_in_trouble(&row, "held").await,
            Shown::Retrying => self.is_in_trouble(&row, "retrying").await,
            Shown::Warning => self.is_warned_of(&row).await,
        }
        if let Some((broker, queue, depth)) = &self.expected_depth {
            assert_eq!(broker.depth(queue), *depth, "{id}: {queue} has lost events");
        }
        let letters = self.setup.dead_letters();
        let letters = if letters.is_dir() { kit::output::bytes(letters) } else { 0 };
        assert_eq!(letters, 0, "{id}: a good event became a dead letter");
        self.setup
    }

    async fn is_refused(&self, row: &Row) {
        for arguments in [&["check", "--offline"][..], &["run"]] {
            let (code, said) = ended(self.setup.start_with(arguments), &self.setup).await;
            assert_eq!(code, Some(64), "{}: {said}", row.id);
            assert_says(row, "error: ", &said);
        }
    }

    /// Returns the exit code and the output of `check`.
    async fn checked(&self, state: &str) -> (Option<i32>, String) {
        let deadline = Instant::now() + SOON;
        loop {
            let (code, said) = ended(self.setup.start_with(&self.check_arguments), &self.setup).await;
            // What only an operator can change does not end with a closed connection.
            if state != "held" || !closed_without_reason(&said) || Instant::now() > deadline {
                return (code, said);
            }
        }
    }

    async fn is_in_trouble(&self, row: &Row, state: &str) {
        let (code, said) = self.checked(state).await;
        if self.seen_by_check {
            assert_eq!(code, Some(1), "{}: check: {said}", row.id);
            assert_says(row, "FAILED  ", &said);
        } else {
            assert_eq!(code, Some(0), "{}: check: {said}", row.id);
        }
        let before = self.setup.log().len();
        let mut bridge = self.setup.start();
        let line = wait_for_line(&mut bridge, row, before, &format!("{state}: ")).await;
        let admin = Admin::of(&bridge).await;
        let mut texts: Vec<&str> = row.texts.iter().map(String::as_str).collect();
        let state = format!(": {state}");
        texts.push(&state);
        admin.not_ready(&texts).await;
        if let (75, Some((_, queue, depth))) = (self.exit, &self.expected_depth) {
            let received = format!("atdata_bridge_events_received_total{{queue=\"{queue}\"}}");
            let all = |metrics: &Metrics| metrics.find(&received).is_some_and(|count| count >= *depth as f64);
            admin.metrics_until("all events of the queue were received", all).await;
        }
        bridge.terminate();
        let status = bridge.ended(SOON).await;
        assert_eq!(status.code(), Some(self.exit), "{}: after {line}: {}", row.id, bridge.log());
    }

    /// The warnings of the parts have the row's id as their code. Those of the configuration have one code.
    fn has_its_code(&self, row: &Row) {
        let (_, out, _) = self.setup.run(&[&self.check_arguments[..], &["--json"]].concat());
        let results = out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        let of_row = |result: &Value| {
            result["level"] == "warning" && result["message"].as_str().is_some_and(|line| has_all(row, line))
        };
        let codes: Vec<Value> = results.filter(of_row).map(|mut result| result["code"].take()).collect();
        let expected = row.id.replace(OF_LETTERS, "-");
        let is_expected = |code: &Value| *code == expected || code == "configuration-warning";
        assert!(codes.iter().any(is_expected), "{}: {codes:?} in {out}", row.id);
    }

    async fn is_warned_of(&self, row: &Row) {
        let (code, said) = ended(self.setup.start_with(&self.check_arguments), &self.setup).await;
        assert_eq!(code, Some(0), "{}: check: {said}", row.id);
        if self.seen_by_check {
            assert_says(row, "warning: ", &said);
            self.has_its_code(row);
        }
        let before = self.setup.log().len();
        let mut bridge = self.setup.start();
        wait_for_line(&mut bridge, row, before, "").await;
        Admin::of(&bridge).await.ready().await;
        bridge.terminate();
        let status = bridge.ended(SOON).await;
        assert_eq!(status.code(), Some(self.exit), "{}: {}", row.id, bridge.log());
    }
}

/// What the mistakes of the dead letters' directory are called on the page; `check` knows them by the part.
const OF_LETTERS: &str = "-letters-";

/// Waits for the end of the process. Returns its exit code and its output since the start.
async fn ended(mut bridge: Bridge, setup: &Setup) -> (Option<i32>, String) {
    let status = bridge.ended(SOON).await;
    let log = setup.log();
    (status.code(), log.get(bridge.began()..).unwrap_or_default().to_owned())
}

fn assert_says(row: &Row, begins: &str, said: &str) {
    let found = said.lines().any(|line| line.contains(begins) && has_all(row, line));
    assert!(found, "{}: no line with {begins:?} has all of {:?}: {said}", row.id, row.texts);
}

fn has_all(row: &Row, line: &str) -> bool {
    row.texts.iter().all(|text| line.contains(text.as_str()))
}

async fn wait_for_line(bridge: &mut Bridge, row: &Row, before: usize, begins: &str) -> String {
    let what = format!("{}: a line with {begins:?} has all of {:?}", row.id, row.texts);
    let mut found = None;
    wait_until(&what, SOON, || {
        let log = bridge.log();
        let new_lines = log.get(before..).unwrap_or_default();
        found = new_lines.lines().find(|line| line.contains(begins) && has_all(row, line)).map(str::to_owned);
        assert!(found.is_some() || bridge.status().is_none(), "{}: the process ended: {log}", row.id);
        found.is_some()
    })
    .await;
    found.expect("a line")
}

/// Makes a test of each `async fn name()`, and the list `SCENARIOS`. The id of a row is the area's name and
/// the function's name with hyphens.
macro_rules! scenarios {
    ($area:literal: $($name:ident),* $(,)?) => {
        pub(super) const SCENARIOS: &[&str] = &[$(concat!($area, ":", stringify!($name))),*];
        $(
            mod $name {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn is_reported() {
                    let id = $crate::mistakes::id(concat!($area, ":", stringify!($name)));
                    super::$name(&id).await;
                }
            }
        )*
    };
}
pub(crate) use scenarios;

/// Returns the id that the page uses: `kafka-wrong-port` for `kafka:wrong_port`.
pub fn id(scenario: &str) -> String {
    scenario.replace([':', '_'], "-")
}

#[test]
fn every_row_of_the_page_has_a_scenario_and_every_scenario_has_a_row() {
    let rows: BTreeSet<String> = rows().into_iter().map(|row| row.id).collect();
    let scenarios: BTreeSet<String> = [
        config::SCENARIOS,
        files::SCENARIOS,
        kafka::SCENARIOS,
        nats::SCENARIOS,
        pipeline::SCENARIOS,
        source::SCENARIOS,
        source_tls::SCENARIOS,
    ]
    .concat()
    .iter()
    .map(|scenario| id(scenario))
    .collect();
    let missing: Vec<_> = rows.symmetric_difference(&scenarios).collect();
    assert!(missing.is_empty(), "on one side only: {missing:?}");
}
