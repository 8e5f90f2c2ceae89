//! Compares what a sink holds with what was published, and says which cause a double has.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use kit::events::{Events, number_in};
use kit::stored::Stored;

use crate::plan::{Fault, Kind, Level, Plan, Target};

/// The disordered and foreign events that are shown.
const SHOWN: usize = 5;

/// Which first appearances of one key's events are compared with the order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All, whoever wrote them.
    OfAll,
    /// Those of each writer.
    OfEachWriter,
}

/// A sink. Each has its own rules for doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sink {
    Kafka,
    JetStream,
    Files,
}

impl Sink {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::JetStream => "JetStream",
            Self::Files => "files",
        }
    }
}

/// Why an event is in a sink twice, by the table of the README and the exceptions in `docs/operating.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Kafka: the bridge may not read the topic.
    NotAllowedToRead,
    /// Kafka: a bridge was frozen, another one took its events, and it went on.
    Frozen,
    /// Kafka: bytes of a process that has died or lost its session came late.
    LateBytes,
    /// Files: another process got the events in flight.
    OtherProcess,
    /// The documents allow no double here.
    NotAllowed,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAllowedToRead => "the bridge may not read the topic (level 0)",
            Self::Frozen => "a frozen bridge goes on, and another one has its events",
            Self::LateBytes => "late bytes of a bridge that has died or lost its session",
            Self::OtherProcess => "another process got the events in flight",
            Self::NotAllowed => "not allowed",
        })
    }
}

/// The content of one sink.
pub struct Sheet {
    events: Events,
    keys: Vec<String>,
    order: Order,
    /// `ordering = "shared"` promises no order between replicas, and a replica may get events late that another one
    /// has had. Disorder is counted then, and is no fault.
    is_promised: bool,
    /// For each event the writer of its first copy.
    first: Vec<Option<usize>>,
    /// The writers of the first copy and of a later one, for each later one.
    doubled: Vec<(usize, usize)>,
    /// By key, and by writer if the order is that of each writer.
    last: HashMap<(u64, usize), u64>,
    /// The number, and the later one before it.
    disordered: Vec<(u64, u64)>,
    foreign: Vec<String>,
}

impl Sheet {
    /// An empty sink, for the first `published` events.
    pub fn new(events: Events, published: usize, order: Order, is_promised: bool) -> Self {
        Self {
            events,
            keys: (0..events.keys).map(|number| events.key(number)).collect(),
            order,
            is_promised,
            first: vec![None; published],
            doubled: Vec::new(),
            last: HashMap::new(),
            disordered: Vec::new(),
            foreign: Vec::new(),
        }
    }

    /// Counts a copy that this replica has written.
    pub fn add(&mut self, writer: usize, stored: Stored<'_>) {
        let known = number_in(stored.body).filter(|&number| {
            number < self.first.len() as u64
                && self.events.body(number) == stored.body
                && self.keys[self.key(number)] == stored.key
        });
        let Some(number) = known else {
            self.foreign.push(format!("{} {}", stored.key, stored.body));
            return;
        };
        let first = &mut self.first[usize::try_from(number).expect("a number of an event")];
        if let Some(first) = *first {
            self.doubled.push((first, writer));
            return;
        }
        *first = Some(writer);
        let scope = if self.order == Order::OfEachWriter { writer } else { 0 };
        let last = self.last.entry((number % self.events.keys, scope)).or_insert(number);
        if number < *last {
            self.disordered.push((number, *last));
        } else {
            *last = number;
        }
    }

    fn key(&self, number: u64) -> usize {
        usize::try_from(number % self.events.keys).expect("few keys")
    }

    /// What is wrong.
    pub fn close(&self, sink: Sink, causes: &Causes, confirmed: &[bool]) -> Finding {
        let lost =
            self.first.iter().zip(confirmed).filter(|(first, confirmed)| **confirmed && first.is_none());
        let lost = lost.count() as u64;
        let mut doubled = BTreeMap::new();
        for &(first, later) in &self.doubled {
            *doubled.entry(causes.of(sink, first, later)).or_default() += 1;
        }
        let disordered = self.disordered.len() as u64;
        let (disordered, unordered) = if self.is_promised { (disordered, 0) } else { (0, disordered) };
        let foreign = self.foreign.len() as u64;
        Finding { lost, doubled, disordered, unordered, foreign }
    }

    /// The first mistakes, for people.
    pub fn examples(&self, confirmed: &[bool]) -> String {
        let missing: Vec<_> = (0..self.first.len())
            .filter(|&number| confirmed[number] && self.first[number].is_none())
            .take(SHOWN)
            .collect();
        let some = |count: usize| count.min(SHOWN);
        format!(
            "lost {missing:?}, disordered (number, later number before it) {:?}, foreign {:?}",
            &self.disordered[..some(self.disordered.len())],
            &self.foreign[..some(self.foreign.len())]
        )
    }
}

/// What is wrong with one sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    pub lost: u64,
    pub doubled: BTreeMap<Cause, u64>,
    /// Against the contract.
    pub disordered: u64,
    /// Where no order is promised.
    pub unordered: u64,
    pub foreign: u64,
}

impl Finding {
    pub fn doubled(&self) -> u64 {
        self.doubled.values().sum()
    }

    /// What the contract does not allow.
    pub fn broken(&self) -> Vec<String> {
        let not_allowed = self.doubled.get(&Cause::NotAllowed).copied().unwrap_or_default();
        let all = [
            (self.lost, "lost"),
            (not_allowed, "doubled against the contract"),
            (self.disordered, "out of order"),
            (self.foreign, "foreign"),
        ];
        all.into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }
}

/// What may double events in a round.
#[derive(Debug, Default)]
pub struct Causes {
    not_allowed_to_read: bool,
    late_bytes: bool,
    other_process: bool,
    paused: Vec<usize>,
}

impl Causes {
    /// The causes in a plan. A clean stop (exit code 0) doubles nothing, so `has_unclean_stop` says whether a stop was
    /// something else.
    pub fn of_plan(plan: &Plan, has_unclean_stop: bool) -> Self {
        let mut causes = Self::default();
        let ends_session = |fault: &Fault| match fault.target {
            Target::Broker | Target::ToBroker(_) => true,
            Target::Replica(_) => fault.kind != Kind::Stop || has_unclean_stop,
            Target::AllReplicas => has_unclean_stop,
            // The sink gives its connection up, and so its session (D50).
            Target::Kafka(_) | Target::ToKafka(_) | Target::AllKafka => plan.kafka == Some(Level::Two),
            _ => false,
        };
        let slows_kafka = |fault: &Fault| {
            matches!(fault.target, Target::Kafka(_) | Target::AllKafka)
                || (matches!(fault.target, Target::ToKafka(_)) && fault.kind != Kind::Cut)
        };
        for storm in &plan.storms {
            let any_ends = storm.faults.iter().any(ends_session);
            causes.other_process |= any_ends;
            causes.late_bytes |= any_ends && storm.faults.iter().any(slows_kafka);
            for fault in &storm.faults {
                if let (Target::Replica(replica), Kind::Pause) = (fault.target, fault.kind) {
                    causes.paused.push(replica);
                }
            }
        }
        causes.not_allowed_to_read = plan.kafka == Some(Level::Zero) && causes.other_process;
        if plan.kafka == Some(Level::Two) {
            causes.late_bytes = false;
            causes.paused.clear();
        }
        causes
    }

    /// Why this event is in the sink twice: with the writer of the first copy, and of a later one.
    fn of(&self, sink: Sink, first: usize, later: usize) -> Cause {
        match sink {
            Sink::Files if first != later && self.other_process => Cause::OtherProcess,
            Sink::Kafka if self.not_allowed_to_read => Cause::NotAllowedToRead,
            Sink::Kafka if [first, later].iter().any(|writer| self.paused.contains(writer)) => Cause::Frozen,
            Sink::Kafka if self.late_bytes => Cause::LateBytes,
            // JetStream drops all that comes twice inside its duplicate window, and no fault lasts longer.
            _ => Cause::NotAllowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Events {
        Events { keys: 2, ..Events::good(u64::MAX) }
    }

    fn sheet(order: Order, is_promised: bool, copies: &[(usize, u64)]) -> Sheet {
        let mut sheet = Sheet::new(events(), 6, order, is_promised);
        for &(writer, number) in copies {
            let (key, body) = (events().key(number), events().body(number));
            sheet.add(writer, Stored { message_id: "", queue: "", writer: "", key: &key, body: &body });
        }
        sheet
    }

    fn finding(order: Order, sink: Sink, copies: &[(usize, u64)]) -> Finding {
        // Nobody knows whether the broker has got number 5.
        let confirmed = [true, true, true, true, true, false];
        sheet(order, true, copies).close(sink, &Causes::default(), &confirmed)
    }

    #[test]
    fn a_complete_sink_has_no_fault() {
        let all = [(0, 0), (1, 1), (0, 3), (0, 2), (1, 4)];
        assert_eq!(finding(Order::OfAll, Sink::Kafka, &all), Finding::default());
    }

    #[test]
    fn what_is_lost_doubled_disordered_or_foreign_is_counted() {
        let found = finding(Order::OfAll, Sink::Kafka, &[(0, 0), (1, 4), (1, 2), (1, 2), (0, 3), (0, 7)]);
        let doubled = BTreeMap::from([(Cause::NotAllowed, 1)]);
        assert_eq!(found, Finding { lost: 1, doubled, disordered: 1, unordered: 0, foreign: 1 });
        assert_eq!(found.broken().len(), 4);
    }

    #[test]
    fn the_order_of_each_writer_is_its_own() {
        let copies = [(0, 2), (1, 0), (0, 1), (0, 3), (0, 4)];
        assert_eq!(finding(Order::OfEachWriter, Sink::Files, &copies).disordered, 0);
        assert_eq!(finding(Order::OfAll, Sink::Files, &copies).disordered, 1);
        let found = sheet(Order::OfAll, false, &copies).close(Sink::Files, &Causes::default(), &[true; 5]);
        assert_eq!((found.disordered, found.unordered, found.broken().len()), (0, 1, 0));
    }

    #[test]
    fn a_double_is_allowed_only_by_its_cause() {
        let none = Causes::default();
        let paused = Causes { paused: vec![1], ..Causes::default() };
        let late = Causes { late_bytes: true, other_process: true, ..Causes::default() };
        for (causes, sink, writers, cause) in [
            (&none, Sink::Files, (0, 1), Cause::NotAllowed),
            (&late, Sink::Files, (0, 1), Cause::OtherProcess),
            (&late, Sink::Files, (1, 1), Cause::NotAllowed),
            (&paused, Sink::Kafka, (0, 1), Cause::Frozen),
            (&paused, Sink::Kafka, (0, 2), Cause::NotAllowed),
            (&late, Sink::Kafka, (0, 0), Cause::LateBytes),
            (&late, Sink::JetStream, (0, 1), Cause::NotAllowed),
        ] {
            assert_eq!(causes.of(sink, writers.0, writers.1), cause, "{causes:?} {sink:?} {writers:?}");
        }
    }
}
