//! Finds out whether a refusal is about one event (I6).
//!
//! A broker refuses a batch, not an event. librdkafka reports `InvalidRecord` for each record of the batch
//! that the broker names, whatever the cause is: a wrong clock, a rule of the topic. So this code alone
//! rejects no event. The refused events are submitted again, at first one at a time. A record that is refused
//! alone comes back too, and is kept back until the topic has accepted another record. If it is then refused
//! once more, the refusal is about this event. If the next event is refused too, an operator must remove the
//! cause, and the sink holds.

use std::num::NonZeroU32;

use bytes::Bytes;

use crate::key::Key;
use crate::sink::{Delivery, DeliveryId};

/// At this size of the window the refusals are over, and records go in full batches again.
const CERTAIN: usize = 256;

/// What is known since a batch was refused. It exists until enough records are accepted again.
#[derive(Debug)]
pub(super) struct BatchRefusals {
    /// The most records that may be in flight at once.
    window: usize,
    /// How many records were accepted with this window.
    accepted: usize,
    /// The record that is in flight alone, if there is one.
    alone: Option<SentRecord>,
    suspect: Option<SuspectRecord>,
    /// Deliveries that are kept back until another one has its verdict: id and size in bytes.
    held: Vec<(DeliveryId, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SentRecord {
    message_id: Bytes,
    key: Key,
}

/// A record that was refused while it was in flight alone.
#[derive(Debug)]
struct SuspectRecord {
    sent: SentRecord,
    /// Whether another event was accepted since that refusal.
    is_confirmed: bool,
}

/// What to do with the offered deliveries while nothing is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Send this many from the front.
    Send(usize),
    /// Keep this many back, and send only the one behind them.
    KeepBack(usize),
}

/// Which records a refusal may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalScope {
    /// The record was in flight with others.
    OneOfSeveral,
    /// The record was in flight alone. It is not known yet whether the next one would be refused too.
    Alone,
    /// A second record was refused too.
    NotOnlyOne,
    /// Only this record is refused, for the second time, and others are accepted.
    ThisOne,
}

impl BatchRefusals {
    /// Starts after the refusal of a batch, with one record at a time.
    pub(super) fn new() -> Self {
        Self { window: 1, accepted: 0, alone: None, suspect: None, held: Vec::new() }
    }

    /// Starts with a new client. An acceptance before it no longer counts as proof, because the cause may
    /// have changed since.
    pub(super) fn opened(&mut self) {
        if let Some(suspect) = &mut self.suspect {
            suspect.is_confirmed = false;
        }
    }

    /// Decides which of `deliveries` go next to a topic with `partitions` partitions. Call it only while
    /// nothing is in flight.
    pub(super) fn plan(&mut self, deliveries: &[Delivery], partitions: NonZeroU32) -> Plan {
        self.held.clear();
        let first = deliveries.first().map(SentRecord::from);
        // While this sink owes the suspect, it is offered first. If another event is first, the suspect went
        // elsewhere.
        if first.is_some() && self.suspect.as_ref().map(|suspect| &suspect.sent) != first.as_ref() {
            self.suspect = None;
        }
        let plan = self.next(deliveries, partitions);
        let (sent, count) = match plan {
            Plan::Send(count) => (deliveries.first(), count.min(deliveries.len())),
            Plan::KeepBack(back) => (deliveries.get(back), 1),
        };
        self.alone = sent.filter(|_| count == 1).map(SentRecord::from);
        plan
    }

    fn next(&self, deliveries: &[Delivery], partitions: NonZeroU32) -> Plan {
        match &self.suspect {
            Some(suspect) => {
                // The other record must have another key, because it must not overtake a record of its own
                // key (I3). It must have the same partition, because another broker may accept what this one
                // refuses.
                let key = suspect.sent.key;
                let is_other = |other: &Delivery| {
                    let other = other.event.key;
                    other != key && other.partition(partitions) == key.partition(partitions)
                };
                let other = deliveries.iter().position(is_other);
                match other {
                    Some(back) if !suspect.is_confirmed => Plan::KeepBack(back),
                    _ => Plan::Send(1),
                }
            }
            None => Plan::Send(self.window),
        }
    }

    /// Records which deliveries are kept back: id and size in bytes.
    pub(super) fn keep_back(&mut self, deliveries: impl Iterator<Item = (DeliveryId, usize)>) {
        self.held.extend(deliveries);
    }

    /// Releases the deliveries that were kept back, because the one behind them has its verdict. They go back
    /// to the sink worker.
    pub(super) fn let_go(&mut self) -> Vec<(DeliveryId, usize)> {
        std::mem::take(&mut self.held)
    }

    /// Counts an accepted record. Returns true once so many are accepted that full batches may go again.
    pub(super) fn accepted(&mut self) -> bool {
        if let Some(suspect) = &mut self.suspect {
            if self.alone.as_ref() == Some(&suspect.sent) {
                self.suspect = None;
            } else {
                suspect.is_confirmed = true;
            }
        }
        self.accepted += 1;
        if self.suspect.is_none() && self.accepted >= self.window {
            self.window *= 2;
            self.accepted = 0;
        }
        self.window >= CERTAIN
    }

    /// Counts a refused record, and returns what its refusal may be about.
    pub(super) fn refused(&mut self) -> RefusalScope {
        self.window = 1;
        self.accepted = 0;
        let Some(sent) = self.alone.take() else { return RefusalScope::OneOfSeveral };
        match &mut self.suspect {
            Some(suspect) if suspect.sent == sent && suspect.is_confirmed => {
                self.suspect = None;
                RefusalScope::ThisOne
            }
            Some(suspect) if suspect.sent != sent => {
                suspect.is_confirmed = false;
                RefusalScope::NotOnlyOne
            }
            _ => {
                self.suspect = Some(SuspectRecord { sent, is_confirmed: false });
                RefusalScope::Alone
            }
        }
    }
}

impl From<&Delivery> for SentRecord {
    fn from(delivery: &Delivery) -> Self {
        // A copy, because a slice would keep the whole read buffer allocated.
        Self { message_id: Bytes::copy_from_slice(&delivery.event.message.id), key: delivery.event.key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::{deliveries, event};

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    /// Makes deliveries of events with these keys. The number of an event is its index.
    fn offered(keys: &[u8]) -> Vec<Delivery> {
        let body = |key: &u8| format!(r#"{{"md5":"{key:032x}"}}"#);
        deliveries((0..).zip(keys).map(|(number, key)| event(number, body(key))))
    }

    #[test]
    fn after_a_refusal_records_go_alone_at_first_and_then_in_batches_again() {
        let line = offered(&[1, 2, 3, 4]);
        let mut refusals = BatchRefusals::new();
        let mut windows = Vec::new();
        loop {
            let Plan::Send(count) = refusals.plan(&line, ONE) else { panic!("kept back") };
            windows.push(count);
            if (0..count).any(|_| refusals.accepted()) {
                break;
            }
        }
        assert_eq!(windows, [1, 2, 4, 8, 16, 32, 64, 128]);
    }

    #[test]
    fn an_event_is_rejected_only_if_it_is_refused_again_after_another_was_accepted() {
        let line = offered(&[1, 1, 2]);
        let mut refusals = BatchRefusals::new();
        assert_eq!(refusals.plan(&line, ONE), Plan::Send(1));
        assert_eq!(refusals.refused(), RefusalScope::Alone);
        assert_eq!(refusals.plan(&line, ONE), Plan::KeepBack(2), "the next of another key");
        refusals.keep_back(line[..2].iter().map(|delivery| (delivery.id, 1)));
        assert!(!refusals.accepted());
        assert_eq!(refusals.let_go().len(), 2);
        let rest = &line[..2];
        assert_eq!(refusals.plan(rest, ONE), Plan::Send(1));
        assert_eq!(refusals.refused(), RefusalScope::ThisOne);
        assert_eq!(refusals.plan(&line[1..2], ONE), Plan::Send(1));
    }

    #[test]
    fn what_hits_the_next_event_as_well_rejects_nothing() {
        let line = offered(&[1, 2, 3]);
        let mut refusals = BatchRefusals::new();
        refusals.plan(&line, ONE);
        assert_eq!(refusals.refused(), RefusalScope::Alone);
        for _ in 0..10 {
            assert_eq!(refusals.plan(&line, ONE), Plan::KeepBack(1));
            assert_eq!(refusals.refused(), RefusalScope::NotOnlyOne);
        }
        // The operator has removed the cause.
        assert_eq!(refusals.plan(&line, ONE), Plan::KeepBack(1));
        assert!(!refusals.accepted());
        assert_eq!(refusals.plan(&line, ONE), Plan::Send(1));
        assert!(!refusals.accepted(), "it is accepted, too");
        assert_eq!(refusals.plan(&line[2..], ONE), Plan::Send(2));
    }

    #[test]
    fn an_event_without_another_is_offered_again_and_never_rejected() {
        let line = offered(&[1, 1]);
        let mut refusals = BatchRefusals::new();
        for _ in 0..10 {
            assert_eq!(refusals.plan(&line, ONE), Plan::Send(1));
            assert_eq!(refusals.refused(), RefusalScope::Alone);
        }
    }

    #[test]
    fn a_suspect_that_does_not_come_again_is_forgotten() {
        let line = offered(&[1, 2, 3, 4]);
        let mut refusals = BatchRefusals::new();
        refusals.plan(&line, ONE);
        assert_eq!(refusals.refused(), RefusalScope::Alone);
        // Another replica of the bridge has got it. The next refused record is a new suspect.
        assert_eq!(refusals.plan(&line[1..], ONE), Plan::Send(1));
        assert_eq!(refusals.refused(), RefusalScope::Alone);
        assert_eq!(refusals.plan(&line[1..], ONE), Plan::KeepBack(1));
        assert!(!refusals.accepted());
        assert_eq!(refusals.plan(&line[1..], ONE), Plan::Send(1));
        assert_eq!(refusals.refused(), RefusalScope::ThisOne);
    }

    #[test]
    fn only_an_event_of_the_same_partition_tells_of_the_suspect() {
        let line = offered(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let partitions = NonZeroU32::new(4).unwrap();
        let mut refusals = BatchRefusals::new();
        refusals.plan(&line, partitions);
        refusals.refused();
        let partition = |delivery: &Delivery| delivery.event.key.partition(partitions);
        let same = line.iter().skip(1).position(|other| partition(other) == partition(&line[0]));
        let expected = same.map_or(Plan::Send(1), |same| Plan::KeepBack(same + 1));
        assert_eq!(refusals.plan(&line, partitions), expected);
    }

    #[test]
    fn one_of_several_says_nothing_of_itself() {
        let line = offered(&[1, 2]);
        let mut refusals = BatchRefusals::new();
        refusals.plan(&line, ONE);
        refusals.accepted();
        assert_eq!(refusals.plan(&line, ONE), Plan::Send(2));
        assert_eq!(refusals.refused(), RefusalScope::OneOfSeveral);
        assert_eq!(refusals.plan(&line, ONE), Plan::Send(1));
    }
}
