//! Whether a refusal is about one event (I6).
//!
//! A broker refuses a batch, not an event, and librdkafka reports `InvalidRecord` for each record of it that the
//! broker names, whatever the cause: a clock that is wrong, a rule of the topic. So nothing is rejected for that
//! alone. What came back is offered again, at first one by one. A record that is refused alone comes back as well,
//! and is kept back until the topic has accepted another one; only when it is refused once more after that the
//! refusal is about this event. A cause that hits the next event, too, is somebody's to cure, and holds.

use std::num::NonZeroU32;

use bytes::Bytes;

use crate::key::Key;
use crate::sink::{Delivery, DeliveryId};

/// From here on records go in batches again.
const CERTAIN: usize = 256;

/// What is known since a batch was refused.
#[derive(Debug)]
pub(super) struct BatchRefusals {
    /// How many may be on their way at once.
    window: usize,
    /// How many were accepted with this window.
    accepted: usize,
    /// The one that is on its way alone.
    alone: Option<Sent>,
    suspect: Option<SuspectRecord>,
    /// Kept back until another one has its verdict: number and size.
    held: Vec<(DeliveryId, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    message_id: Bytes,
    key: Key,
}

/// Was refused alone.
#[derive(Debug)]
struct SuspectRecord {
    sent: Sent,
    /// Whether another event was accepted since.
    is_confirmed: bool,
}

/// What to do with the deliveries that are offered, while nothing is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Send so many.
    Send(usize),
    /// Keep so many back, and send the one behind them.
    KeepBack(usize),
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalScope {
    /// It was one of several.
    OneOfSeveral,
    /// It was alone; whether the next one would be refused as well is not known yet.
    Alone,
    /// Another one was refused as well.
    NotOnlyOne,
    /// It alone is refused, again, and others are accepted.
    ThisOne,
}

impl BatchRefusals {
    /// A batch was refused.
    pub(super) fn new() -> Self {
        Self { window: 1, accepted: 0, alone: None, suspect: None, held: Vec::new() }
    }

    /// A new client begins. What was confirmed before it was so in another time.
    pub(super) fn opened(&mut self) {
        if let Some(suspect) = &mut self.suspect {
            suspect.is_confirmed = false;
        }
    }

    /// Nothing is on its way: what goes next of `deliveries`, into a topic of so many partitions.
    pub(super) fn plan(&mut self, deliveries: &[Delivery], partitions: NonZeroU32) -> Plan {
        self.held.clear();
        let first = deliveries.first().map(Sent::from);
        // The suspect is offered first for as long as it is here: otherwise it has gone another way.
        if first.is_some() && self.suspect.as_ref().map(|suspect| &suspect.sent) != first.as_ref() {
            self.suspect = None;
        }
        let plan = self.next(deliveries, partitions);
        let (sent, count) = match plan {
            Plan::Send(count) => (deliveries.first(), count.min(deliveries.len())),
            Plan::KeepBack(back) => (deliveries.get(back), 1),
        };
        self.alone = sent.filter(|_| count == 1).map(Sent::from);
        plan
    }

    fn next(&self, deliveries: &[Delivery], partitions: NonZeroU32) -> Plan {
        match &self.suspect {
            Some(suspect) => {
                // Another key, since an accepted record must not overtake one of its own key (I3); of the same
                // partition, since another broker may accept what this one does not.
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

    /// These are kept back.
    pub(super) fn keep_back(&mut self, deliveries: impl Iterator<Item = (DeliveryId, usize)>) {
        self.held.extend(deliveries);
    }

    /// The one behind those that are kept back has its verdict: they go back to the lane.
    pub(super) fn let_go(&mut self) -> Vec<(DeliveryId, usize)> {
        std::mem::take(&mut self.held)
    }

    /// A record was accepted. Whether the doubt is over.
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

    /// A record was refused.
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

impl From<&Delivery> for Sent {
    fn from(delivery: &Delivery) -> Self {
        // A copy: a slice would keep the buffer that it was read into.
        Self { message_id: Bytes::copy_from_slice(&delivery.event.message.id), key: delivery.event.key }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::event::{Batch, Event, Headers, Message, SessionId};
    use crate::key::Keying;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    /// Deliveries of events with these keys; the number of an event is its place.
    fn offered(keys: &[u8]) -> Vec<Delivery> {
        let events = keys.iter().enumerate().map(|(n, key)| {
            let message = Message {
                id: Bytes::from(format!("ID:{n}")),
                body: Bytes::from(format!(r#"{{"md5":"{key:032x}"}}"#)),
                timestamp: None,
                redelivered: false,
                headers: Headers::empty(),
                unreadable: None,
            };
            Event::new(message, &Keying::new(vec!["/md5".to_owned()], false))
        });
        let batch =
            Batch { session: SessionId(1), first: 1, events: events.collect(), received: Instant::now() };
        let refs = Arc::new(batch);
        (0..).zip(refs.refs()).map(|(id, event)| Delivery { id: DeliveryId(id), event }).collect()
    }

    #[test]
    fn after_a_refusal_records_go_alone_at_first_and_then_in_batches_again() {
        let line = offered(&[1, 2, 3, 4]);
        let mut doubt = BatchRefusals::new();
        let mut windows = Vec::new();
        loop {
            let Plan::Send(count) = doubt.plan(&line, ONE) else { panic!("kept back") };
            windows.push(count);
            if (0..count).any(|_| doubt.accepted()) {
                break;
            }
        }
        assert_eq!(windows, [1, 2, 4, 8, 16, 32, 64, 128]);
    }

    #[test]
    fn an_event_is_rejected_only_if_it_is_refused_again_after_another_was_accepted() {
        let line = offered(&[1, 1, 2]);
        let mut doubt = BatchRefusals::new();
        assert_eq!(doubt.plan(&line, ONE), Plan::Send(1));
        assert_eq!(doubt.refused(), RefusalScope::Alone);
        assert_eq!(doubt.plan(&line, ONE), Plan::KeepBack(2), "the next of another key");
        doubt.keep_back(line[..2].iter().map(|delivery| (delivery.id, 1)));
        assert!(!doubt.accepted());
        assert_eq!(doubt.let_go().len(), 2);
        let rest = &line[..2];
        assert_eq!(doubt.plan(rest, ONE), Plan::Send(1));
        assert_eq!(doubt.refused(), RefusalScope::ThisOne);
        assert_eq!(doubt.plan(&line[1..2], ONE), Plan::Send(1));
    }

    #[test]
    fn what_hits_the_next_event_as_well_rejects_nothing() {
        let line = offered(&[1, 2, 3]);
        let mut doubt = BatchRefusals::new();
        doubt.plan(&line, ONE);
        assert_eq!(doubt.refused(), RefusalScope::Alone);
        for _ in 0..10 {
            assert_eq!(doubt.plan(&line, ONE), Plan::KeepBack(1));
            assert_eq!(doubt.refused(), RefusalScope::NotOnlyOne);
        }
        // The cause is gone.
        assert_eq!(doubt.plan(&line, ONE), Plan::KeepBack(1));
        assert!(!doubt.accepted());
        assert_eq!(doubt.plan(&line, ONE), Plan::Send(1));
        assert!(!doubt.accepted(), "it is accepted, too");
        assert_eq!(doubt.plan(&line[2..], ONE), Plan::Send(2));
    }

    #[test]
    fn an_event_without_another_is_offered_again_and_never_rejected() {
        let line = offered(&[1, 1]);
        let mut doubt = BatchRefusals::new();
        for _ in 0..10 {
            assert_eq!(doubt.plan(&line, ONE), Plan::Send(1));
            assert_eq!(doubt.refused(), RefusalScope::Alone);
        }
    }

    #[test]
    fn a_suspect_that_does_not_come_again_is_forgotten() {
        let line = offered(&[1, 2, 3, 4]);
        let mut doubt = BatchRefusals::new();
        doubt.plan(&line, ONE);
        assert_eq!(doubt.refused(), RefusalScope::Alone);
        // Another replica has it now. What is refused next is a suspect of its own.
        assert_eq!(doubt.plan(&line[1..], ONE), Plan::Send(1));
        assert_eq!(doubt.refused(), RefusalScope::Alone);
        assert_eq!(doubt.plan(&line[1..], ONE), Plan::KeepBack(1));
        assert!(!doubt.accepted());
        assert_eq!(doubt.plan(&line[1..], ONE), Plan::Send(1));
        assert_eq!(doubt.refused(), RefusalScope::ThisOne);
    }

    #[test]
    fn only_an_event_of_the_same_partition_tells_of_the_suspect() {
        let line = offered(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let partitions = NonZeroU32::new(4).unwrap();
        let mut doubt = BatchRefusals::new();
        doubt.plan(&line, partitions);
        doubt.refused();
        let partition = |delivery: &Delivery| delivery.event.key.partition(partitions);
        let same = line.iter().skip(1).position(|other| partition(other) == partition(&line[0]));
        let expected = same.map_or(Plan::Send(1), |same| Plan::KeepBack(same + 1));
        assert_eq!(doubt.plan(&line, partitions), expected);
    }

    #[test]
    fn one_of_several_says_nothing_of_itself() {
        let line = offered(&[1, 2]);
        let mut doubt = BatchRefusals::new();
        doubt.plan(&line, ONE);
        doubt.accepted();
        assert_eq!(doubt.plan(&line, ONE), Plan::Send(2));
        assert_eq!(doubt.refused(), RefusalScope::OneOfSeveral);
        assert_eq!(doubt.plan(&line, ONE), Plan::Send(1));
    }
}
