//! Writes the tables of a replay: a line for each sink.

use std::collections::BTreeMap;

use super::letters::SendDecision;
use super::refusals::Refused;
use crate::display::one_line;
use crate::event::EventError;

/// What a replay has done with the letters of one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplayOutcome {
    pub(super) sink: String,
    pub(super) letters: u64,
    pub(super) replayed_before: u64,
    pub(super) sent: u64,
    /// Letters about an event that the sink held already, or that another letter is about.
    pub(super) held: u64,
    pub(super) refused: BTreeMap<&'static str, Refused>,
}

/// What a replay would do with the letters of one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) sink: String,
    pub(super) replayed_before: u64,
    /// Letters about an event that another letter is about.
    pub(super) repeated: u64,
    pub(super) to_send: u64,
    /// Letters that would be refused again, by reason.
    pub(super) keyless: BTreeMap<&'static str, u64>,
}

impl Planned {
    pub(super) fn new(sink: &str) -> Self {
        Self { sink: sink.to_owned(), replayed_before: 0, repeated: 0, to_send: 0, keyless: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, turn: SendDecision, defect: Option<&EventError>) {
        match (turn, defect) {
            (SendDecision::ReplayedBefore, _) => self.replayed_before += 1,
            (SendDecision::Repeated, _) => self.repeated += 1,
            (SendDecision::First, Some(defect)) => *self.keyless.entry(defect.reason()).or_default() += 1,
            (SendDecision::First, None) => self.to_send += 1,
        }
    }
}

/// Returns the table of what was done.
pub(super) fn sent_table(outcomes: &[ReplayOutcome]) -> String {
    let row = |outcome: &ReplayOutcome| {
        let ReplayOutcome { sink, letters, replayed_before, sent, held, refused } = outcome;
        let refused: u64 = refused.values().map(|refused| refused.letters).sum();
        let left = letters.saturating_sub(replayed_before + sent + held + refused);
        let [letters, before, sent, held, refused, left] =
            [*letters, *replayed_before, *sent, *held, refused, left].map(|number| number.to_string());
        [one_line(sink).into_owned(), letters, before, sent, held, refused, left]
    };
    let rows: Vec<_> = outcomes.iter().map(row).collect();
    table(["SINK", "LETTERS", "REPLAYED BEFORE", "SENT", "HELD ALREADY", "REFUSED AGAIN", "LEFT"], &rows)
}

/// Returns the table of what would be done.
pub(super) fn planned_table(planned: &[Planned]) -> String {
    let row = |planned: &Planned| {
        let Planned { sink, replayed_before, repeated, to_send, keyless } = planned;
        let reasons: Vec<_> = keyless.iter().map(|(reason, letters)| format!("{reason} {letters}")).collect();
        let reasons = if reasons.is_empty() { "0".to_owned() } else { reasons.join(", ") };
        let [before, repeated, to_send] =
            [*replayed_before, *repeated, *to_send].map(|number| number.to_string());
        [one_line(sink).into_owned(), before, repeated, to_send, reasons]
    };
    let rows: Vec<_> = planned.iter().map(row).collect();
    table(["SINK", "REPLAYED BEFORE", "SAME EVENT", "TO SEND", "NO USABLE KEY"], &rows)
}

/// Returns a table with the names on the left and the numbers on the right.
fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|name| name.len())).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded =
            cells.into_iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:width$}"),
                _ => format!("  {cell:>width$}"),
            });
        padded.collect::<String>() + "\n"
    };
    let rows = rows.iter().map(|row| row.iter().map(String::as_str).collect());
    [header.to_vec()].into_iter().chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_have_a_line_for_each_sink() {
        let refused = BTreeMap::from([("too_large", Refused { letters: 2, last: "ID:1: 3 MiB".to_owned() })]);
        let outcome = ReplayOutcome {
            sink: "kafka".to_owned(),
            letters: 12,
            replayed_before: 3,
            sent: 4,
            held: 1,
            refused,
        };
        let expected = "\
SINK   LETTERS  REPLAYED BEFORE  SENT  HELD ALREADY  REFUSED AGAIN  LEFT
kafka       12                3     4             1              2     2
";
        assert_eq!(sent_table(&[outcome]), expected);
        let mut planned = Planned::new("kafka");
        planned.add(SendDecision::ReplayedBefore, None);
        planned.add(SendDecision::First, None);
        planned.add(SendDecision::Repeated, None);
        let unreadable = EventError::Body(crate::event::UnreadableBodyError("it is a map".into()));
        planned.add(SendDecision::First, Some(&unreadable));
        let expected = "\
SINK   REPLAYED BEFORE  SAME EVENT  TO SEND      NO USABLE KEY
kafka                1           1        1  unreadable_body 1
";
        assert_eq!(planned_table(&[planned]), expected);
    }
}
