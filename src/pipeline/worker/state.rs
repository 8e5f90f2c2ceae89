//! What one lane does with its events, without I/O: which to hand over next, in which order, and what each
//! verdict means (I3, I5).
//!
//! * A sink that keeps order gets everything at once; after a verdict of retry nothing more is handed over
//!   until all that is in flight has its verdict, then it goes on in broker order.
//! * For a sink that does not, at most one event per key is in flight; the others of that key are parked
//!   without holding any of the sink's capacity, and other keys pass them.
//! * When the session ends, what was not handed over is dropped, since the broker sends it again. What is
//!   in flight gets its verdict first: only then is it known which redelivered events the sink still lacks.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::event::{Batch, Event, EventRef, SessionId};
use crate::key::Key;
use crate::pipeline::recent_ids::RecentIds;
use crate::sink::{Delivery, DeliveryId, Rejection, SinkError, Verdict};

/// An event on its way through the lane.
#[derive(Clone, Debug)]
pub struct PendingEvent {
    /// The event.
    pub event: EventRef,
    /// How often it has been handed over.
    pub attempts: u32,
    /// When it was handed over first.
    pub since: Option<SystemTime>,
}

/// The sink named a delivery that is not in flight, or the same twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sink gave a verdict on delivery {0}, which is not in flight")]
pub struct UnknownDeliveryError(pub u64);

/// What a verdict asks of the lane.
#[derive(Debug)]
pub enum VerdictEffect {
    /// Settled, or nobody's business any more; when it was received.
    Durable(Instant),
    /// To be handed over again after a wait.
    Retry(SinkError),
    /// The same, since the limits allow no dead letter.
    Refused,
    /// To be written to the dead letters; [`Core::buried`] settles it.
    Bury(PendingEvent, Rejection),
}

/// See the module text.
pub struct WorkerState {
    takes: fn(&Event) -> bool,
    keeps_order: bool,
    session: Option<SessionId>,
    /// In broker order, not looked at yet.
    backlog: VecDeque<PendingEvent>,
    /// To be handed over next.
    ready: VecDeque<PendingEvent>,
    /// For sinks that do not keep order: every key that is ready or in flight, with the events behind it.
    busy: HashMap<Key, VecDeque<PendingEvent>>,
    in_flight: VecDeque<Option<PendingEvent>>,
    /// The delivery id of the first slot of `in_flight`.
    first_id: u64,
    flying: usize,
    /// Answered with retry, or lost with an opening.
    failed: Vec<PendingEvent>,
    /// Refused while the limits allow no dead letter. Those of the current session are offered again; those of an
    /// earlier one matter as long as it has events in flight.
    refused: Vec<(PendingEvent, Rejection)>,
    /// Refused, while a later event of the same key became durable: to offer them again would be disorder (I3).
    overtaken: Vec<(PendingEvent, Rejection)>,
    /// How many dead letters are being written, by session.
    burying: HashMap<SessionId, usize>,
    memory: RecentIds,
    memory_is_stale: bool,
    settled: Vec<RangeInclusive<u64>>,
    suppressed: u64,
}

impl WorkerState {
    /// A lane for the events that `takes` chooses, remembering the last `memory` of them.
    pub fn new(takes: fn(&Event) -> bool, keeps_order: bool, memory: usize) -> Self {
        Self {
            takes,
            keeps_order,
            session: None,
            backlog: VecDeque::new(),
            ready: VecDeque::new(),
            busy: HashMap::new(),
            in_flight: VecDeque::new(),
            first_id: 0,
            flying: 0,
            failed: Vec::new(),
            refused: Vec::new(),
            overtaken: Vec::new(),
            burying: HashMap::new(),
            memory: RecentIds::new(memory),
            memory_is_stale: false,
            settled: Vec::new(),
            suppressed: 0,
        }
    }

    /// Another session is current, or none.
    pub fn switch(&mut self, session: Option<SessionId>) {
        if self.session == session {
            return;
        }
        self.session = session;
        self.backlog.clear();
        self.ready.clear();
        self.busy.clear();
        self.failed.clear();
        self.settled.clear();
        self.memory_is_stale = true;
    }

    /// The current session.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Takes the lane's events of a batch; those of an earlier session are dropped.
    pub fn take(&mut self, batch: &Arc<Batch>) {
        if self.session == Some(batch.session) {
            let mine = batch.refs().filter(|event| (self.takes)(event));
            self.backlog.extend(mine.map(|event| PendingEvent { event, attempts: 0, since: None }));
        }
    }

    /// Prepares the next deliveries, at most `most`, into `deliveries`; [`Core::handed_over`] says how many
    /// of them the sink took.
    pub fn stage(&mut self, most: usize, deliveries: &mut Vec<Delivery>) {
        deliveries.clear();
        if self.must_regroup() || self.waits_for_an_earlier_session() {
            return;
        }
        if std::mem::take(&mut self.memory_is_stale) {
            self.memory.refresh();
        }
        while self.ready.len() < most
            && let Some(pending) = self.backlog.pop_front()
        {
            self.prepare(pending);
        }
        let next = self.first_id + self.in_flight.len() as u64;
        deliveries.extend(
            (next..)
                .zip(self.ready.iter().take(most))
                .map(|(id, pending)| Delivery { id: DeliveryId(id), event: pending.event.clone() }),
        );
    }

    fn prepare(&mut self, pending: PendingEvent) {
        if self.memory.holds(&pending.event.message.id) {
            self.suppressed += 1;
            self.memory.record(&pending.event.message.id);
            self.settle(&pending.event);
        } else if self.keeps_order {
            self.ready.push_back(pending);
        } else if let Some(behind) = self.busy.get_mut(&pending.event.key) {
            behind.push_back(pending);
        } else {
            self.busy.insert(pending.event.key, VecDeque::new());
            self.ready.push_back(pending);
        }
    }

    fn waits_for_an_earlier_session(&self) -> bool {
        let flies = self.in_flight.front().and_then(Option::as_ref);
        flies.is_some_and(|pending| Some(pending.event.session()) != self.session)
            || self.burying.keys().any(|session| Some(*session) != self.session)
    }

    /// The sink has taken the first `count` of the staged deliveries.
    pub fn handed_over(&mut self, count: usize) {
        let now = (count > 0).then(SystemTime::now);
        for mut pending in self.ready.drain(..count) {
            pending.attempts += 1;
            pending.since = pending.since.or(now);
            self.in_flight.push_back(Some(pending));
        }
        self.flying += count;
    }

    /// How many deliveries have no verdict yet.
    pub fn in_flight(&self) -> usize {
        self.flying
    }

    /// One verdict.
    ///
    /// # Errors
    /// It names no delivery in flight; the sink can't be trusted any more.
    pub fn verdict(
        &mut self,
        id: DeliveryId,
        verdict: Verdict,
    ) -> Result<VerdictEffect, UnknownDeliveryError> {
        let pending = self.take_from_flight(id)?;
        Ok(match verdict {
            Verdict::Durable => {
                self.give_up_overtaken(&pending.event);
                self.memory.record(&pending.event.message.id);
                self.settle(&pending.event);
                self.release(&pending.event);
                VerdictEffect::Durable(pending.event.received())
            }
            Verdict::Retry(error) => {
                self.fail(pending);
                VerdictEffect::Retry(error)
            }
            Verdict::Reject(rejection) => {
                *self.burying.entry(pending.event.session()).or_default() += 1;
                self.release(&pending.event);
                VerdictEffect::Bury(pending, rejection)
            }
        })
    }

    /// The sink refuses a delivery, and the limits allow no dead letter: the event is offered again, in order.
    ///
    /// # Errors
    /// As [`Core::verdict`].
    pub fn refuse(&mut self, id: DeliveryId, rejection: Rejection) -> Result<(), UnknownDeliveryError> {
        let pending = self.take_from_flight(id)?;
        self.refused.push((pending, rejection));
        Ok(())
    }

    /// Takes a delivery out of flight.
    fn take_from_flight(&mut self, id: DeliveryId) -> Result<PendingEvent, UnknownDeliveryError> {
        let slot = id.0.checked_sub(self.first_id).and_then(|index| usize::try_from(index).ok());
        let pending = slot.and_then(|index| self.in_flight.get_mut(index)).and_then(Option::take);
        let pending = pending.ok_or(UnknownDeliveryError(id.0))?;
        self.flying -= 1;
        while let Some(None) = self.in_flight.front() {
            self.in_flight.pop_front();
            self.first_id += 1;
        }
        Ok(pending)
    }

    /// `event` is durable, or may be: what was refused of its key before it can't be offered again, not even when
    /// the broker sends it in the next session.
    fn give_up_overtaken(&mut self, event: &EventRef) {
        let is_overtaken = |(pending, _): &mut (PendingEvent, Rejection)| {
            let earlier = &pending.event;
            earlier.key == event.key
                && earlier.session() == event.session()
                && earlier.position() < event.position()
        };
        for (pending, rejection) in self.refused.extract_if(.., is_overtaken) {
            *self.burying.entry(pending.event.session()).or_default() += 1;
            self.overtaken.push((pending, rejection));
        }
    }

    /// Whether something is to be offered again, so that nothing behind it may be handed over.
    fn must_regroup(&self) -> bool {
        let is_current =
            |(pending, _): &(PendingEvent, Rejection)| Some(pending.event.session()) == self.session;
        !self.failed.is_empty() || self.refused.iter().any(is_current)
    }

    /// What can only become dead letters now, whatever the limits say; [`Core::buried`] settles it.
    pub fn take_overtaken(&mut self) -> Vec<(PendingEvent, Rejection)> {
        std::mem::take(&mut self.overtaken)
    }

    /// The dead letters of these events are durable.
    pub fn dead_letters_written<'a>(&mut self, events: impl Iterator<Item = &'a EventRef>) {
        for event in events {
            if let Some(count) = self.burying.get_mut(&event.session()) {
                *count -= 1;
                if *count == 0 {
                    self.burying.remove(&event.session());
                }
            }
            self.memory.record(&event.message.id);
            self.settle(event);
        }
    }

    /// The opening is broken: whatever had no verdict is not durable as far as anybody knows. Answers how
    /// many will be handed over again.
    pub fn connection_lost(&mut self) -> usize {
        self.first_id += self.in_flight.len() as u64;
        self.flying = 0;
        let lost: Vec<PendingEvent> = self.in_flight.drain(..).flatten().collect();
        for pending in lost {
            // It may be durable for all that anybody knows.
            self.give_up_overtaken(&pending.event);
            self.fail(pending);
        }
        self.failed.len()
    }

    fn fail(&mut self, pending: PendingEvent) {
        if Some(pending.event.session()) == self.session {
            self.failed.push(pending);
        }
    }

    /// Puts what failed back into the line, in broker order, once nothing is in flight any more. Answers
    /// how many events that were.
    pub fn requeue_failed(&mut self) -> usize {
        if self.flying > 0 || (self.failed.is_empty() && self.refused.is_empty()) {
            return 0;
        }
        for (pending, _) in std::mem::take(&mut self.refused) {
            self.fail(pending);
        }
        let failed = self.failed.len();
        let mut line = std::mem::take(&mut self.failed);
        line.extend(self.ready.drain(..));
        line.extend(self.busy.drain().flat_map(|(_, behind)| behind));
        line.sort_by_key(|pending| pending.event.position());
        line.extend(self.backlog.drain(..));
        self.backlog = line.into();
        failed
    }

    /// The positions settled since the last call, in the current session.
    pub fn take_settled(&mut self) -> Vec<RangeInclusive<u64>> {
        std::mem::take(&mut self.settled)
    }

    /// Whether [`Core::take_settled`] would have something.
    pub fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// How many events were settled without being handed over, since the last call.
    pub fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }

    /// Nothing to do and nothing to wait for.
    pub fn is_idle(&self) -> bool {
        self.flying == 0
            && self.backlog.is_empty()
            && self.ready.is_empty()
            && !self.must_regroup()
            && self.burying.is_empty()
            && self.settled.is_empty()
    }

    fn settle(&mut self, event: &EventRef) {
        if Some(event.session()) != self.session {
            return;
        }
        let position = event.position();
        match self.settled.last_mut() {
            Some(range) if *range.end() + 1 == position => *range = *range.start()..=position,
            _ => self.settled.push(position..=position),
        }
    }

    /// The key is no longer in flight: the next event behind it may go.
    fn release(&mut self, event: &EventRef) {
        if self.keeps_order || Some(event.session()) != self.session {
            return;
        }
        let Some(behind) = self.busy.get_mut(&event.key) else {
            return;
        };
        match behind.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => {
                self.busy.remove(&event.key);
            }
        }
    }
}
