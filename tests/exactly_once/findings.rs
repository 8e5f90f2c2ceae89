//! Counts what the audits find, and compares it with what each sink promises.

use std::fmt::Write;

use kit::output::Tally;

/// The names of the sinks, in the order of [`kit::three::Sinks::contents`], and which of them promise that no
/// event is doubled by a crash of the bridge.
pub const SINKS: [(&str, bool); 3] = [("Kafka", true), ("JetStream", true), ("files", true)];

/// What one sink has that it should not have.
#[derive(Clone, Copy, Default)]
pub struct Audit {
    pub lost: u64,
    pub doubled: u64,
    pub disordered: u64,
    pub foreign: u64,
}

impl Audit {
    pub fn of(tally: &Tally) -> Self {
        Self {
            lost: tally.lost().len() as u64,
            doubled: tally.doubled(),
            disordered: tally.disordered().len() as u64,
            foreign: tally.foreign().len() as u64,
        }
    }
}

/// The result of one round, or of all.
#[derive(Clone, Default)]
pub struct Finding {
    /// The broker of the round.
    pub broker: String,
    pub kills: u64,
    pub events: u64,
    /// How many events Kafka and the stream had at the kills that the broker did not know to be stored. Each
    /// comes again.
    pub exposed: [u64; 2],
    pub audits: [Audit; 3],
}

impl Finding {
    pub fn sum(rounds: &[Self]) -> Self {
        let mut total = Self::default();
        for round in rounds {
            total.kills += round.kills;
            total.events += round.events;
            total.exposed = [0, 1].map(|sink| total.exposed[sink] + round.exposed[sink]);
            for (sum, audit) in total.audits.iter_mut().zip(round.audits) {
                sum.lost += audit.lost;
                sum.doubled += audit.doubled;
                sum.disordered += audit.disordered;
                sum.foreign += audit.foreign;
            }
        }
        total
    }

    /// Returns a table with a row for each sink.
    pub fn by_sink(&self) -> String {
        let mut table =
            "| sink | exactly once | kills | events | came again though stored, at least | lost | \
                         doubled | out of order | foreign |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n"
                .to_owned();
        for (number, ((name, promised), audit)) in SINKS.into_iter().zip(self.audits).enumerate() {
            let promised = if promised { "promised" } else { "not promised" };
            let exposed = self.exposed.get(number).map_or_else(|| "not counted".to_owned(), u64::to_string);
            let Audit { lost, doubled, disordered, foreign } = audit;
            let (kills, events) = (self.kills, self.events);
            writeln!(
                table,
                "| {name} | {promised} | {kills} | {events} | {exposed} | {lost} | {doubled} | {disordered} | \
                 {foreign} |"
            )
            .expect("write to a string");
        }
        table
    }

    /// Returns a table with a row for each round.
    pub fn by_round(rounds: &[Self]) -> String {
        let doubled = SINKS.map(|(name, _)| format!("doubled in {name}")).join(" | ");
        let mut table = format!(
            "| round | broker | kills | events | lost | out of order | {doubled} |\n\
             |---:|---|---:|---:|---:|---:|---:|---:|---:|\n"
        );
        for (number, round) in (1..).zip(rounds) {
            let sum = |figure: fn(&Audit) -> u64| round.audits.iter().map(figure).sum::<u64>();
            let (lost, disordered) = (sum(|audit| audit.lost), sum(|audit| audit.disordered));
            let doubled = round.audits.map(|audit| audit.doubled.to_string()).join(" | ");
            let Self { broker, kills, events, .. } = round;
            writeln!(
                table,
                "| {number} | {broker} | {kills} | {events} | {lost} | {disordered} | {doubled} |"
            )
            .expect("write to a string");
        }
        table
    }

    /// Returns a text for each promise that a sink has broken.
    pub fn broken_promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for ((name, promised), audit) in SINKS.into_iter().zip(self.audits) {
            let Audit { lost, doubled, disordered, foreign } = audit;
            let doubled = if promised { doubled } else { 0 };
            let found =
                [(lost, "lost"), (doubled, "doubled"), (disordered, "out of order"), (foreign, "foreign")];
            let wrong = found.into_iter().filter(|(count, _)| *count > 0);
            broken.extend(wrong.map(|(count, what)| format!("{name}: {count} {what}")));
        }
        broken
    }
}
