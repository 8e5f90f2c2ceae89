//! Mistakes that people make, planted one by one into the settings or the surroundings of a real bridge. What it
//! must show is read from the page that operators read, `docs/troubleshooting.md`: the state, the words that name
//! the cause, and the words that name the remedy. `check`, the log, `/readyz` and the exit code must agree.

mod config;
mod files;
mod kafka;
mod nats;
mod pipeline;
mod source;
mod source_tls;

use std::collections::BTreeSet;
use std::path::Path;

use kit::SOON;
use kit::admin::{Admin, Metrics};
use kit::bridge::{Bridge, Setup};
use kit::broker::Broker;
use kit::wait_until;

/// How a mistake shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Every verb ends with 64 before anything is opened.
    Refused,
    /// Somebody must act.
    Held,
    /// Passes by itself.
    Retrying,
    /// Told by `check` and the log; events move all the same.
    Warning,
}

/// One row of the page.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub shown: Shown,
    /// What the line must contain: all that is in backticks in the columns "it says" and "what to do".
    pub words: Vec<String>,
}

/// Every row of every table of the page whose first cell is an id in backticks.
pub fn rows() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    let page = std::fs::read_to_string(page).expect("read docs/troubleshooting.md");
    page.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<Row> {
    let line = line.strip_prefix("| `")?.strip_suffix(" |")?;
    // A bar inside a cell is written as `\|`, as Markdown wants it.
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
        other => panic!("{other} is not a way to show a mistake: {line}"),
    };
    let words: Vec<_> = quoted(says).chain(quoted(remedy)).collect();
    assert!(quoted(says).count() > 0, "no words name the cause: {line}");
    Some(Row { id: id.trim_end_matches('`').to_owned(), shown, words })
}

fn quoted(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// A bridge with one mistake in its settings or surroundings.
pub struct Planted {
    setup: Setup,
    seen_by_check: bool,
    check_arguments: Vec<&'static str>,
    exit: i32,
    kept: Option<(&'static Broker, String, u64)>,
}

impl Planted {
    /// A mistake that `check` finds and that leaves nothing to settle.
    pub fn new(setup: Setup) -> Self {
        Self { setup, seen_by_check: true, check_arguments: vec!["check"], exit: 0, kept: None }
    }

    /// It shows only once events move.
    pub fn unseen_by_check(mut self) -> Self {
        self.seen_by_check = false;
        self
    }

    /// Only `check --subscribe` finds it.
    pub fn seen_by_subscribing(mut self) -> Self {
        self.check_arguments.push("--subscribe");
        self
    }

    /// The code with which the bridge ends when it is asked to stop.
    pub fn exits(mut self, code: i32) -> Self {
        self.exit = code;
        self
    }

    /// So many events are in `queue` before and after: none is acknowledged meanwhile.
    pub fn keeps(mut self, broker: &'static Broker, queue: &str, depth: u64) -> Self {
        self.kept = Some((broker, queue.to_owned(), depth));
        self
    }

    /// Holds what it shows against the row `id` of the page, and hands back the settings, to mend them.
    pub async fn shows(self, id: &str) -> Setup {
        let row = rows().into_iter().find(|row| row.id == id);
        let row = row.unwrap_or_else(|| panic!("docs/troubleshooting.md has no row `{id}`"));
        match row.shown {
            Shown::Refused => self.is_refused(&row).await,
            Shown::Held => self.is_in_trouble(&row, "held").await,
            Shown::Retrying => self.is_in_trouble(&row, "retrying").await,
            Shown::Warning => self.is_warned_of(&row).await,
        }
        if let Some((broker, queue, depth)) = &self.kept {
            assert_eq!(broker.depth(queue), *depth, "{id}: events are gone from {queue}");
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

    async fn is_in_trouble(&self, row: &Row, state: &str) {
        let (code, said) = ended(self.setup.start_with(&self.check_arguments), &self.setup).await;
        if self.seen_by_check {
            assert_eq!(code, Some(1), "{}: check: {said}", row.id);
            assert_says(row, "FAILED  ", &said);
        } else {
            assert_eq!(code, Some(0), "{}: check: {said}", row.id);
        }
        let before = self.setup.log().len();
        let mut bridge = self.setup.start();
        let line = said_line(&mut bridge, row, before, &format!("{state}: ")).await;
        let admin = Admin::of(&bridge).await;
        let mut words: Vec<&str> = row.words.iter().map(String::as_str).collect();
        let state = format!(": {state}");
        words.push(&state);
        admin.not_ready(&words).await;
        if let (75, Some((_, queue, depth))) = (self.exit, &self.kept) {
            let received = format!("atdata_bridge_events_received_total{{queue=\"{queue}\"}}");
            let all = |metrics: &Metrics| metrics.find(&received).is_some_and(|count| count >= *depth as f64);
            admin.metrics_until("what waits in the queue was taken", all).await;
        }
        bridge.terminate();
        let status = bridge.ended(SOON).await;
        assert_eq!(status.code(), Some(self.exit), "{}: after {line}: {}", row.id, bridge.log());
    }

    async fn is_warned_of(&self, row: &Row) {
        let (code, said) = ended(self.setup.start_with(&self.check_arguments), &self.setup).await;
        assert_eq!(code, Some(0), "{}: check: {said}", row.id);
        if self.seen_by_check {
            assert_says(row, "warning: ", &said);
        }
        let before = self.setup.log().len();
        let mut bridge = self.setup.start();
        said_line(&mut bridge, row, before, "").await;
        Admin::of(&bridge).await.ready().await;
        bridge.terminate();
        let status = bridge.ended(SOON).await;
        assert_eq!(status.code(), Some(self.exit), "{}: {}", row.id, bridge.log());
    }
}

/// Its exit code and what it has said since it was started.
async fn ended(mut bridge: Bridge, setup: &Setup) -> (Option<i32>, String) {
    let status = bridge.ended(SOON).await;
    let log = setup.log();
    (status.code(), log.get(bridge.began()..).unwrap_or_default().to_owned())
}

fn assert_says(row: &Row, begins: &str, said: &str) {
    let found = said.lines().any(|line| line.contains(begins) && has_all(row, line));
    assert!(found, "{}: no line with {begins:?} has all of {:?}: {said}", row.id, row.words);
}

fn has_all(row: &Row, line: &str) -> bool {
    row.words.iter().all(|words| line.contains(words.as_str()))
}

async fn said_line(bridge: &mut Bridge, row: &Row, before: usize, begins: &str) -> String {
    let what = format!("{}: a line with {begins:?} has all of {:?}", row.id, row.words);
    let mut found = None;
    wait_until(&what, SOON, || {
        let log = bridge.log();
        let news = log.get(before..).unwrap_or_default();
        found = news.lines().find(|line| line.contains(begins) && has_all(row, line)).map(str::to_owned);
        assert!(found.is_some() || bridge.status().is_none(), "{}: it has ended: {log}", row.id);
        found.is_some()
    })
    .await;
    found.expect("a line")
}

/// Makes of each `async fn name()` a test, and a list of the rows that they plant: the name with hyphens is the
/// row's id, behind the area's name.
macro_rules! planted {
    ($area:literal: $($name:ident),* $(,)?) => {
        pub(super) const PLANTED: &[&str] = &[$(concat!($area, ":", stringify!($name))),*];
        $(
            mod $name {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn is_told() {
                    let id = $crate::mistakes::id(concat!($area, ":", stringify!($name)));
                    super::$name(&id).await;
                }
            }
        )*
    };
}
pub(crate) use planted;

/// `kafka:wrong_port` as the page writes it: `kafka-wrong-port`.
pub fn id(planted: &str) -> String {
    planted.replace([':', '_'], "-")
}

#[test]
fn every_row_of_the_page_is_planted_and_every_mistake_has_a_row() {
    let rows: BTreeSet<String> = rows().into_iter().map(|row| row.id).collect();
    let planted: BTreeSet<String> = [
        config::PLANTED,
        files::PLANTED,
        kafka::PLANTED,
        nats::PLANTED,
        pipeline::PLANTED,
        source::PLANTED,
        source_tls::PLANTED,
    ]
    .concat()
    .iter()
    .map(|planted| id(planted))
    .collect();
    let missing: Vec<_> = rows.symmetric_difference(&planted).collect();
    assert!(missing.is_empty(), "on one side only: {missing:?}");
}
