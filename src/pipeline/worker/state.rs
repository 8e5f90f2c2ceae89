//! Decides which events a worker hands over next, in which order, and what each verdict means (I3, I5). Does
//! no I/O.
//!
//! * A sink that keeps order gets all events without delay. After a `Retry` verdict, no more events are
//!   handed over until every event in flight has its verdict. Then the worker continues in broker order.
//! * For a sink that does not keep order, at most one event per key is in flight. The other events of that
//!   key wait in the worker. They use none of the sink's capacity, and events of other keys pass them.
//! * When the session ends, the events that were not handed over are dropped, because the broker sends them
//!   again. The events in flight get their verdict first: only then does the worker know which redelivered
//!   events the sink does not have yet.
//! * Before the first delivery of a session or a connection the sink is asked what it holds already: events
//!   that were stored before a crash are not handed over again. The same before an event that the broker
//!   delivers again and that is unknown here: another bridge of the queue may have stored it and died.

mod claims;

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::fence::Fence;
use super::pending_event::{PendingEvent, Suppressed, UnknownDeliveryError, VerdictEffect};
use crate::event::{Batch, Event, EventRef, SessionId};
use crate::key::Key;
use crate::recent_ids::RecentIds;
use crate::sink::{Delivery, DeliveryId, Rejection, Verdict};

/// The events of one worker, from the batch to the settled position; see the module documentation.
pub struct WorkerState {
    takes: fn(&Event) -> bool,
    keeps_order: bool,
    takes_over: bool,
    session: Option<SessionId>,
    /// Events in broker order, not yet compared with the recent ids.
    backlog: VecDeque<PendingEvent>,
    /// The events to hand over next.
    ready: VecDeque<PendingEvent>,
    /// For sinks that do not keep order: every key that is ready or in flight, with the events that wait for
    /// it.
    busy: HashMap<Key, VecDeque<PendingEvent>>,
    in_flight: VecDeque<Option<PendingEvent>>,
    /// The delivery id of the first slot of `in_flight`.
    first_id: u64,
    in_flight_count: usize,
    /// Events with a `Retry` verdict, or without a verdict when the connection was lost.
    failed: Vec<PendingEvent>,
    /// Events refused while the limits allow no dead letter. Those of the current session are offered again.
    /// Those of an earlier session matter only as long as that session has events in flight.
    refused: Vec<(PendingEvent, Rejection)>,
    /// Refused events whose key has a later event that is durable. To offer them again would break the order
    /// (I3).
    overtaken: Vec<(PendingEvent, Rejection)>,
    /// How many events of each session wait for their dead letter to be written.
    dead_letters_in_work: HashMap<SessionId, usize>,
    recent_ids: RecentIds,
    index_is_stale: bool,
    /// The sink must say what it holds before the next delivery.
    claim_due: bool,
    /// When the sink was asked last. `None` if it can't tell what it holds.
    asked: Option<Instant>,
    settled: Vec<RangeInclusive<u64>>,
    suppressed: Suppressed,
    fence: Fence,
}

impl WorkerState {
    /// Creates the state for the events that `takes` chooses; it remembers the last `capacity` ids. If the sink
    /// `takes_over`, only its claim tells what it has.
    pub fn new(takes: fn(&Event) -> bool, keeps_order: bool, takes_over: bool, capacity: usize) -> Self {
        Self {
            takes,
            keeps_order,
            takes_over,
            session: None,
            backlog: VecDeque::new(),
            ready: VecDeque::new(),
            busy: HashMap::new(),
            in_flight: VecDeque::new(),
            first_id: 0,
            in_flight_count: 0,
            failed: Vec::new(),
            refused: Vec::new(),
            overtaken: Vec::new(),
            dead_letters_in_work: HashMap::new(),
            recent_ids: RecentIds::new(capacity),
            index_is_stale: false,
            claim_due: true,
            asked: None,
            settled: Vec::new(),
            suppressed: Suppressed::default(),
            fence: Fence::default(),
        }
    }

    /// Changes to another session, or to none.
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
        self.index_is_stale = true;
        self.claim_due = true;
        self.fence = Fence::default();
    }

    /// Returns the current session, or `None` between two sessions.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Takes the worker's events of a batch. Drops the batch if it is of an earlier session.
    pub fn take(&mut self, batch: &Arc<Batch>) {
        if self.session == Some(batch.session) {
            let chosen = batch.refs().filter(|event| (self.takes)(event));
            self.backlog.extend(chosen.map(|event| PendingEvent { event, attempts: 0, since: None }));
        }
    }

    /// Writes the next deliveries, at most `most`, into `deliveries`. The caller then reports with
    /// [`Self::handed_over`] how many of them the sink took.
    pub fn stage(&mut self, most: usize, deliveries: &mut Vec<Delivery>) {
        deliveries.clear();
        let must_wait = self.claim_due || self.must_requeue() || self.waits_for_an_earlier_session();
        if must_wait || self.fence.is_up() {
            return;
        }
        if std::mem::take(&mut self.index_is_stale) {
            self.recent_ids.refresh();
        }
        while self.ready.len() < most
            && let Some(pending) = self.backlog.pop_front()
        {
            if self.may_be_stored_by_another(&pending.event) {
                self.backlog.push_front(pending);
                self.claim_due = true;
                return;
            }
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
        if self.recent_ids.holds(&pending.event.message.id) {
            self.suppressed.all += 1;
            self.suppressed.found += u64::from(self.recent_ids.is_found(&pending.event.message.id));
            self.recent_ids.record(&pending.event.message.id);
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
        let oldest = self.in_flight.front().and_then(Option::as_ref);
        oldest.is_some_and(|pending| Some(pending.event.session()) != self.session)
            || self.dead_letters_in_work.keys().any(|session| Some(*session) != self.session)
    }

    /// Notes that the sink has taken the first `count` of the staged deliveries.
    pub fn handed_over(&mut self, count: usize) {
        let now = (count > 0).then(SystemTime::now);
        for mut pending in self.ready.drain(..count) {
            pending.attempts += 1;
            pending.since = pending.since.or(now);
            self.in_flight.push_back(Some(pending));
        }
        self.in_flight_count += count;
    }

    /// Returns how many deliveries have no verdict yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight_count
    }

    /// Applies one verdict of the sink.
    ///
    /// # Errors
    /// The delivery is not in flight, so the sink can't be trusted any more.
    pub fn verdict(
        &mut self,
        id: DeliveryId,
        verdict: Verdict,
    ) -> Result<VerdictEffect, UnknownDeliveryError> {
        let pending = self.take_in_flight(id)?;
        Ok(match verdict {
            Verdict::Durable => {
                self.give_up_overtaken(&pending.event);
                // The session may be over without our knowledge, and another bridge may have discarded the event. In
                // the next session the claim tells.
                if !self.takes_over {
                    self.recent_ids.record(&pending.event.message.id);
                }
                self.settle(&pending.event);
                self.release(&pending.event);
                VerdictEffect::Durable(pending.event.times())
            }
            Verdict::Retry(error) => {
                self.fail(pending);
                VerdictEffect::Retry(error)
            }
            Verdict::Reject(rejection) => {
                *self.dead_letters_in_work.entry(pending.event.session()).or_default() += 1;
                self.release(&pending.event);
                VerdictEffect::WriteDeadLetter(pending, rejection)
            }
        })
    }

    /// Notes that the sink refuses a delivery and the limits allow no dead letter: the event is offered
    /// again, in order.
    ///
    /// # Errors
    /// The same as for [`Self::verdict`].
    pub fn refuse(&mut self, id: DeliveryId, rejection: Rejection) -> Result<(), UnknownDeliveryError> {
        let pending = self.take_in_flight(id)?;
        self.refused.push((pending, rejection));
        Ok(())
    }

    /// Removes a delivery from those in flight, and returns its event.
    fn take_in_flight(&mut self, id: DeliveryId) -> Result<PendingEvent, UnknownDeliveryError> {
        let slot = id.0.checked_sub(self.first_id).and_then(|index| usize::try_from(index).ok());
        let pending = slot.and_then(|index| self.in_flight.get_mut(index)).and_then(Option::take);
        let pending = pending.ok_or(UnknownDeliveryError(id.0))?;
        self.in_flight_count -= 1;
        while let Some(None) = self.in_flight.front() {
            self.in_flight.pop_front();
            self.first_id += 1;
        }
        Ok(pending)
    }

    /// Moves the refused events of the same key before `event` to the overtaken ones. `event` is durable or
    /// may be, so they can't be offered again, not even when the broker sends them in the next session.
    fn give_up_overtaken(&mut self, event: &EventRef) {
        let is_overtaken = |(pending, _): &mut (PendingEvent, Rejection)| {
            let earlier = &pending.event;
            earlier.key == event.key
                && earlier.session() == event.session()
                && earlier.position() < event.position()
        };
        for (pending, rejection) in self.refused.extract_if(.., is_overtaken) {
            *self.dead_letters_in_work.entry(pending.event.session()).or_default() += 1;
            self.overtaken.push((pending, rejection));
        }
    }

    /// Returns whether an event must be offered again. No later event may be handed over before it.
    fn must_requeue(&self) -> bool {
        let is_current =
            |(pending, _): &(PendingEvent, Rejection)| Some(pending.event.session()) == self.session;
        !self.failed.is_empty() || self.refused.iter().any(is_current)
    }

    /// Returns the overtaken events. They must become dead letters, whatever the limits say;
    /// [`Self::dead_letters_written`] then settles them.
    pub fn take_overtaken(&mut self) -> Vec<(PendingEvent, Rejection)> {
        std::mem::take(&mut self.overtaken)
    }

    /// Notes that the dead letters of these events are durable: this settles the events.
    pub fn dead_letters_written<'a>(&mut self, events: impl Iterator<Item = &'a EventRef>) {
        for event in events {
            if let Some(count) = self.dead_letters_in_work.get_mut(&event.session()) {
                *count -= 1;
                if *count == 0 {
                    self.dead_letters_in_work.remove(&event.session());
                }
            }
            self.recent_ids.record(&event.message.id);
            self.settle(event);
        }
    }

    /// Notes that the connection is lost: the deliveries without a verdict count as not durable.
    pub fn connection_lost(&mut self) {
        self.claim_due = true;
        self.first_id += self.in_flight.len() as u64;
        self.in_flight_count = 0;
        let lost: Vec<PendingEvent> = self.in_flight.drain(..).flatten().collect();
        for pending in lost {
            // The event may be durable: the sink could not say so any more.
            self.give_up_overtaken(&pending.event);
            self.fail(pending);
        }
    }

    fn fail(&mut self, pending: PendingEvent) {
        if Some(pending.event.session()) == self.session {
            self.failed.push(pending);
        }
    }

    /// Puts the failed events back into the backlog, in broker order, once nothing is in flight. Returns how
    /// many events these are.
    pub fn requeue_failed(&mut self) -> usize {
        if self.in_flight_count > 0 || (self.failed.is_empty() && self.refused.is_empty()) {
            return 0;
        }
        for (pending, _) in std::mem::take(&mut self.refused) {
            self.fail(pending);
        }
        let failed = std::mem::take(&mut self.failed);
        let count = failed.len();
        self.put_back(failed);
        count
    }

    /// Puts these events, and those that are ready, back into the backlog, in broker order. Nothing may be in flight.
    fn put_back(&mut self, mut events: Vec<PendingEvent>) {
        debug_assert_eq!(self.in_flight_count, 0, "events in flight would lose their place");
        events.extend(self.ready.drain(..));
        events.extend(self.busy.drain().flat_map(|(_, behind)| behind));
        events.sort_by_key(|pending| pending.event.position());
        events.extend(self.backlog.drain(..));
        self.backlog = events.into();
    }

    /// Returns the positions settled since the last call, in the current session.
    pub fn take_settled(&mut self) -> Vec<RangeInclusive<u64>> {
        std::mem::take(&mut self.settled)
    }

    /// Returns whether the dispatcher must learn something.
    pub fn has_news(&self) -> bool {
        self.has_settled() || self.fence.is_news()
    }

    /// Returns whether [`Self::take_settled`] would return any positions.
    pub fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Returns how many events the sink did not need since the last call.
    pub fn take_suppressed(&mut self) -> Suppressed {
        std::mem::take(&mut self.suppressed)
    }

    /// Returns whether there is nothing to do and nothing to wait for.
    pub fn is_idle(&self) -> bool {
        self.in_flight_count == 0
            && self.backlog.is_empty()
            && self.ready.is_empty()
            && !self.must_requeue()
            && self.dead_letters_in_work.is_empty()
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

    /// Makes the next event of the same key ready, because the key is no longer in flight.
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
