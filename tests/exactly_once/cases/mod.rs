//! Runs the special cases, each with its expected numbers: what a kill of one bridge does not show.

mod frozen;
mod late_bytes;
mod moved_files;
mod outages;
mod replicas;
mod shared_topic;
mod stage;

use std::any::Any;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::FutureExt;
use futures_util::future::join_all;
use kit::bridge::Setup;
use kit::broker::Version;
use kit::events::Events;
use kit::report;

pub use self::stage::Servers;
use self::stage::{Row, Stage};
use crate::findings::Audit;

/// How the Kafka sink avoids doubles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// By reading the end of the topic.
    One,
    /// With `exactly_once = true`: also by transactions, which fence an earlier process.
    Two,
}

impl Level {
    /// Sets what the level needs.
    fn set(self, setup: Setup) -> Setup {
        match self {
            Self::One => setup,
            Self::Two => setup.set("SINKS__KAFKA__EXACTLY_ONCE", "true").set("SOURCE__ORDERING", "strict"),
        }
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Vec<Row>> + 'a>>;

struct Case {
    /// The value of `--case`.
    name: &'static str,
    /// What happens, for the document.
    what: &'static str,
    run: for<'a> fn(Stage<'a>) -> Running<'a>,
}

const CASES: [Case; 16] = [
    Case {
        name: "late-bytes",
        what: "The network holds the killed bridge's last bytes to Kafka and delivers them when the next bridge \
               has read the topic. This must double: it shows that doubles are found.",
        run: |stage| Box::pin(late_bytes::late_bytes(stage, Level::One)),
    },
    Case {
        name: "late-bytes-2",
        what: "The same with `exactly_once = true`.",
        run: |stage| Box::pin(late_bytes::late_bytes(stage, Level::Two)),
    },
    Case {
        name: "frozen",
        what: "A bridge is frozen, the broker drops it, a second process with the same ids takes over, and the \
               first one goes on. It may write to Kafka what it had in flight, `prefetch` events at most.",
        run: |stage| Box::pin(frozen::replaced(stage, Level::One)),
    },
    Case {
        name: "frozen-2",
        what: "The same with `exactly_once = true`.",
        run: |stage| Box::pin(frozen::replaced(stage, Level::Two)),
    },
    Case {
        name: "frozen-pair",
        what: "A strict pair, whose active bridge is frozen.",
        run: |stage| Box::pin(frozen::pair(stage, Level::One)),
    },
    Case {
        name: "frozen-pair-2",
        what: "The same with `exactly_once = true`.",
        run: |stage| Box::pin(frozen::pair(stage, Level::Two)),
    },
    Case {
        name: "strict-replicas",
        what: "A strict pair, whose active bridge is killed (SIGKILL) and stopped (SIGTERM) in turn.",
        run: |stage| Box::pin(replicas::strict(stage, Level::One)),
    },
    Case {
        name: "strict-replicas-2",
        what: "The same with `exactly_once = true`.",
        run: |stage| Box::pin(replicas::strict(stage, Level::Two)),
    },
    Case {
        name: "shared-replicas",
        what: "Two replicas that share the events are killed in turn.",
        run: |stage| Box::pin(replicas::shared(stage)),
    },
    Case {
        name: "sink-down",
        what: "Kafka is killed, then the bridge, and its successor too before Kafka is back. The same with NATS.",
        run: |stage| Box::pin(outages::a_sink_is_down(stage)),
    },
    Case {
        name: "broker-killed",
        what: "ActiveMQ and the bridge are killed together, again and again. ActiveMQ then has lost its \
               redelivered flags.",
        run: |stage| Box::pin(outages::the_broker_is_killed(stage)),
    },
    Case {
        name: "kafka-outages",
        what: "One of two nodes of Kafka is killed or frozen until its partitions have no leader, again and again. \
               During some outages the bridge is killed, too.",
        run: |stage| Box::pin(outages::a_node_of_kafka_is_away(stage, Level::One)),
    },
    Case {
        name: "kafka-outages-2",
        what: "The same with `exactly_once = true`.",
        run: |stage| Box::pin(outages::a_node_of_kafka_is_away(stage, Level::Two)),
    },
    Case {
        name: "moved-files",
        what: "Finished files are moved away after each kill. They count.",
        run: |stage| Box::pin(moved_files::moved_files(stage)),
    },
    Case {
        name: "two-mirrors",
        what: "The bridges of two destination ids write the same message ids into one topic, and are killed in \
               turn. A row for each destination id.",
        run: |stage| Box::pin(shared_topic::two_mirrors(stage)),
    },
    Case {
        name: "long-hold",
        what: "NATS is down, so Kafka has events that wait for their acknowledgement. Others write more into the \
               topic than a bridge reads of its end, and the bridge is killed.",
        run: |stage| Box::pin(shared_topic::long_hold(stage)),
    },
];

/// The names of all cases.
pub fn names() -> Vec<&'static str> {
    CASES.iter().map(|case| case.name).collect()
}

/// Runs the cases with these names, or all if there are none, with the brokers in turn.
pub async fn run(
    names: &[String],
    servers: &Servers,
    brokers: &[Version],
    frozen: Duration,
    seed: u64,
) -> Vec<Finished> {
    let is_chosen = |case: &&Case| names.is_empty() || names.iter().any(|name| name == case.name);
    let with_versions = CASES.iter().filter(is_chosen).zip(brokers.iter().cycle());
    let run = |(case, version): (&'static Case, &Version)| case.run(servers, *version, frozen, seed);
    // While a process is frozen, there is little to do.
    let (waiting, busy): (Vec<_>, Vec<_>) =
        with_versions.partition(|(case, _)| case.name.starts_with("frozen"));
    let mut finished = join_all(waiting.into_iter().map(run)).await;
    for case in busy {
        finished.push(run(case).await);
    }
    finished
}

/// A case that has run.
pub struct Finished {
    case: &'static Case,
    version: Version,
    took: Duration,
    /// The reason if it did not come to its end.
    rows: Result<Vec<Row>, String>,
}

impl Case {
    /// Runs the case with a broker of this version.
    async fn run(
        &'static self,
        servers: &Servers,
        version: Version,
        frozen: Duration,
        seed: u64,
    ) -> Finished {
        let began = Instant::now();
        let stage =
            Stage { servers, version, name: self.name.to_owned(), frozen, random: Rng::with_seed(seed) };
        let rows = AssertUnwindSafe((self.run)(stage)).catch_unwind().await.map_err(|panic| reason(&*panic));
        let finished = Finished { case: self, version, took: began.elapsed(), rows };
        eprint!("{}", finished.rows());
        finished
    }
}

fn reason(panic: &dyn Any) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    text.lines().next().unwrap_or_default().replace('|', "/")
}

impl Row {
    fn is_as_expected(&self) -> bool {
        let Audit { lost, doubled, disordered, foreign } = self.audit;
        self.expected.contains(&doubled) && (lost, disordered, foreign) == (0, 0, 0)
    }
}

impl Finished {
    pub fn name(&self) -> &'static str {
        self.case.name
    }

    /// Whether all numbers are as expected.
    pub fn passed(&self) -> bool {
        self.rows.as_ref().is_ok_and(|rows| rows.iter().all(Row::is_as_expected))
    }

    fn rows(&self) -> String {
        let (name, broker, took) = (self.case.name, report::name_of(self.version), self.took.as_secs_f64());
        let mut text = String::new();
        match &self.rows {
            Err(why) => {
                writeln!(text, "| {name} | | {broker} | {took:.0} s | | | | | | | | did not end: {why} |")
                    .expect("write to a string");
            }
            Ok(rows) => {
                for row in rows {
                    let Row { sink, events, came_again, audit, .. } = row;
                    let Audit { lost, doubled, disordered, foreign } = audit;
                    let (expected, verdict) = (
                        in_words(&row.expected),
                        if row.is_as_expected() { "as expected" } else { "FAILED" },
                    );
                    writeln!(
                        text,
                        "| {name} | {sink} | {broker} | {took:.0} s | {events} | {came_again} | {lost} | {expected} | \
                         {doubled} | {disordered} | {foreign} | {verdict} |"
                    )
                    .expect("write to a string");
                }
            }
        }
        text
    }
}

fn in_words(expected: &RangeInclusive<u64>) -> String {
    match (expected.start(), expected.end()) {
        (0, 0) => "0".to_owned(),
        (0, most) => format!("at most {most}"),
        (least, most) => format!("{least} to {most}"),
    }
}

/// A table with a row for each sink of each case, and what each case is.
pub fn table(finished: &[Finished]) -> String {
    let mut text = "| case | sink | broker | took | events | came again though stored, at least | lost | doubled: expected | \
                    doubled | out of order | foreign | verdict |\n\
                    |---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n"
        .to_owned();
    text.extend(finished.iter().map(Finished::rows));
    text.push('\n');
    for Finished { case, .. } in finished {
        writeln!(text, "- `{}`: {}", case.name, case.what).expect("write to a string");
    }
    text
}

/// The first `count` events of a case.
fn events(count: u64) -> Events {
    Events::good(count)
}
