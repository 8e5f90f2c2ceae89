//! Writes the tables of the document.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use kit::report;

use crate::audit::{Cause, Sink};
use crate::round::Outcome;

const SINKS: [Sink; 3] = [Sink::Kafka, Sink::JetStream, Sink::Files];

/// A row for each round, and one for all. `tests/repository` adds up the last rows of all documents.
pub fn rounds(outcomes: &[Outcome]) -> String {
    let mut table = "| round | broker | protocol | sinks | replicas | level | prefetch | heart-beat | small store | took | events | faults | \
                     lost | out of order | doubled in Kafka | in JetStream | in files | not allowed | dead letters | \
                     order not promised | longest recovery | longest untrue ready | verdict |\n\
                     |---:|---|---|---|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n"
        .to_owned();
    for outcome in outcomes {
        let plan = &outcome.plan;
        writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} | {} s | {} | {} |",
            plan.number,
            report::name_of(plan.version),
            plan.protocol(),
            plan.sinks(),
            plan.together(),
            plan.level(),
            plan.prefetch,
            plan.heart_beat,
            if plan.small_store { "yes" } else { "" },
            figures(&[outcome])
        )
        .expect("write to a string");
    }
    let all: Vec<&Outcome> = outcomes.iter().collect();
    writeln!(table, "| all | | | | | | | | | {} |", figures(&all)).expect("write to a string");
    table
}

fn figures(outcomes: &[&Outcome]) -> String {
    let sum = |figure: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(|outcome| figure(outcome)).sum::<u64>();
    let longest = |figure: &dyn Fn(&Outcome) -> Duration| {
        outcomes.iter().map(|outcome| figure(outcome)).max().unwrap_or_default().as_secs_f64()
    };
    let of_sinks = |figure: &dyn Fn(&crate::audit::Finding) -> u64| {
        sum(&|outcome: &Outcome| outcome.findings.values().map(figure).sum())
    };
    let took: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    let doubled = SINKS.map(|sink| {
        let has_sink = outcomes.iter().any(|outcome| outcome.findings.contains_key(&sink));
        let doubled = sum(&|outcome| outcome.findings.get(&sink).map_or(0, crate::audit::Finding::doubled));
        if has_sink { doubled.to_string() } else { "-".to_owned() }
    });
    let failed = outcomes.iter().filter(|outcome| !outcome.broken.is_empty()).count();
    let verdict = match (failed, outcomes.len()) {
        (0, _) => "as promised".to_owned(),
        (_, 1) => "FAILED".to_owned(),
        (failed, _) => format!("{failed} FAILED"),
    };
    format!(
        "{:.0} s | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} s | {:.1} s | {verdict}",
        took.as_secs_f64(),
        sum(&|outcome| outcome.events),
        sum(&|outcome| outcome.plan.storms.iter().map(|storm| storm.faults.len() as u64).sum()),
        of_sinks(&|finding| finding.lost),
        of_sinks(&|finding| finding.disordered),
        doubled.join(" | "),
        of_sinks(&|finding| finding.doubled.get(&Cause::NotAllowed).copied().unwrap_or_default()),
        sum(&|outcome| outcome.letters),
        of_sinks(&|finding| finding.unordered),
        longest(&|outcome| outcome.recovery),
        longest(&|outcome| outcome.untrue),
    )
}

/// A row for each kind of fault.
pub fn faults(outcomes: &[Outcome]) -> String {
    let mut kinds: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    let storms = outcomes.iter().flat_map(|outcome| &outcome.plan.storms);
    for fault in storms.flat_map(|storm| &storm.faults) {
        let (count, longest) = kinds.entry((fault.target.class(), fault.kind.name())).or_default();
        *count += 1;
        *longest = fault.hold.max(*longest);
    }
    let mut table = "| what | fault | times | longest |\n|---|---|---:|---:|\n".to_owned();
    for ((target, kind), (count, longest)) in kinds {
        let longest = longest as f64 / 1000.0;
        writeln!(table, "| {target} | {kind} | {count} | {longest:.1} s |").expect("write to a string");
    }
    table
}

/// A row for each sink and cause.
pub fn doubles(outcomes: &[Outcome]) -> String {
    let mut causes: BTreeMap<(Sink, Cause), (u64, u64)> = BTreeMap::new();
    for (&sink, finding) in outcomes.iter().flat_map(|outcome| &outcome.findings) {
        for (&cause, &doubled) in &finding.doubled {
            let (rounds, sum) = causes.entry((sink, cause)).or_default();
            *rounds += 1;
            *sum += doubled;
        }
    }
    let mut table = "| sink | cause | rounds | doubled |\n|---|---|---:|---:|\n".to_owned();
    for ((sink, cause), (rounds, sum)) in causes {
        writeln!(table, "| {} | {cause} | {rounds} | {sum} |", sink.name()).expect("write to a string");
    }
    table
}
