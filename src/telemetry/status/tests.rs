//! Tests which states are logged, how often, and what is shown of them.

use proptest::prelude::*;

use super::*;

fn retrying(text: &str) -> Status {
    Status::Retrying(text.to_owned())
}

fn held(text: &str) -> Status {
    Status::Held(text.to_owned())
}

#[test]
fn a_state_lasts_from_its_first_report() {
    let states = StatusRegistry::default();
    let reporter = states.reporter("source");
    assert!(!states.all()[0].1.is_ready());
    reporter.report(retrying("away"));
    let since = states.all()[0].2;
    reporter.report(retrying("away"));
    assert_eq!((states.all()[0].1.reason(), states.all()[0].2), ("away", since));
    reporter.report(Status::Ready);
    assert!(states.all()[0].1.is_ready() && states.all()[0].1.reason().is_empty());
}

#[test]
fn texts_are_annotated() {
    let states = StatusRegistry::annotated_by(|text| format!("{text} (source.url: bridge.toml:3)"));
    states.reporter("source").report(held("check source.url"));
    assert_eq!(states.all()[0].1, held("check source.url (source.url: bridge.toml:3)"));
}

#[test]
fn what_is_shown_is_one_line_and_tells_the_next_try() {
    let states = StatusRegistry::default();
    let reporter = states.reporter("source");
    reporter.report(held("message ID:1\nERROR forged"));
    let next = Instant::now() + Duration::from_secs(7);
    reporter.next_try(next);
    let shown = states.shown().remove(0);
    assert_eq!(shown.state.reason(), "message ID:1\\nERROR forged");
    assert_eq!((shown.next_try, shown.error_since.is_some()), (Some(next), true));
    reporter.report(Status::Ready);
    let shown = states.shown().remove(0);
    assert_eq!((shown.next_try, shown.error_since), (None, None));
}

/// Reports each state at its second and returns the log lines.
fn lines(reports: impl IntoIterator<Item = (u64, Status)>) -> Vec<String> {
    let start = Instant::now();
    let mut entry = StatusEntry::new(Status::Starting("not started".to_owned()), start);
    let line = |(second, state)| entry.report(state, start + Duration::from_secs(second));
    reports.into_iter().filter_map(line).map(|LogLine(_, text)| text).collect()
}

#[test]
fn one_line_for_a_cause_however_often_it_is_reported() {
    let tries = (0..60)
        .map(|second| (second, held(&format!("{second} messages wait; connection {second} was refused"))));
    let told = lines(tries.chain([(72, Status::Ready)]));
    assert_eq!(told, ["held: 0 messages wait; connection 0 was refused", "ready again after 1m12s"]);
}

#[test]
fn causes_that_take_turns_are_told_once_each() {
    let turns = (0..120).map(|second| (second, retrying(if second % 2 == 0 { "one" } else { "other" })));
    assert_eq!(lines(turns), ["retrying: one", "retrying: other"]);
}

#[test]
fn an_error_that_lasts_is_told_again_every_five_minutes() {
    let told = lines((0..901).map(|second| (second, held("no topic"))));
    assert_eq!(
        told,
        [
            "held: no topic",
            "still held after 5m0s: no topic",
            "still held after 10m0s: no topic",
            "still held after 15m0s: no topic",
        ]
    );
}

#[test]
fn a_reconnect_after_an_error_does_not_end_it() {
    let starting = Status::Starting("connecting".to_owned());
    let told = lines([(0, retrying("away")), (5, starting), (6, retrying("away")), (9, Status::Ready)]);
    assert_eq!(told, ["retrying: away", "connecting", "ready again after 9s"]);
}

#[test]
fn a_part_that_goes_to_and_fro_does_not_flood_the_log_and_its_last_state_is_told() {
    let start = Instant::now();
    let mut entry = StatusEntry::new(Status::Ready, start);
    let mut count = 0;
    for turn in 0..600 {
        let state = if turn % 2 == 0 { retrying("closed") } else { Status::Ready };
        count += usize::from(entry.report(state, start + Duration::from_millis(100 * turn)).is_some());
    }
    assert_eq!(count, BURST as usize + 1, "in a minute");
    let later = start + Duration::from_secs(120);
    entry.report(held("full"), later);
    let is_told = |line: Option<LogLine>| line.is_some_and(|LogLine(_, text)| text == "held: full");
    assert!(is_told(entry.line(later)) || entry.logged.0 == held("full").cause());
}

#[test]
fn lengths_of_time_read_well() {
    for (seconds, text) in [(0, "0s"), (59, "59s"), (72, "1m12s"), (11_100, "3h5m"), (187_200, "2d4h")] {
        assert_eq!(Lasting(Duration::from_secs(seconds)).to_string(), text);
    }
}

proptest! {
    /// After enough time, the state that was reported last is also the state that was logged last.
    #[test]
    fn what_is_so_is_told_in_the_end(
        reports in prop::collection::vec((0u64..20, 0usize..5), 1..100),
    ) {
        let states =
            [Status::Ready, retrying("a"), retrying("b 1"), held("c"), Status::Starting("d".to_owned())];
        let (start, mut second) = (Instant::now(), 0);
        let mut entry = StatusEntry::new(Status::Ready, start);
        let mut last = None;
        for (wait, state) in reports {
            second += wait;
            last = entry.report(states[state].clone(), start + Duration::from_secs(second)).or(last);
        }
        for _ in 0..20 {
            second += 30;
            last = entry.line(start + Duration::from_secs(second)).or(last);
        }
        let told = last.map_or_else(|| Status::Ready.cause(), |LogLine(state, _)| state.cause());
        prop_assert_eq!(told, entry.state.cause());
    }
}
