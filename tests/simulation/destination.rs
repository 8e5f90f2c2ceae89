//! Simulates a destination like Kafka or JetStream, and the sink that writes to it. The sink keeps the contract,
//! and uses every freedom that it leaves: late verdicts, refused and repeated deliveries, writes that arrive after
//! their connection is lost, fences, and claims that fail or name only the newest events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use atdata_bridge::event::{EventRef, SessionId};
use atdata_bridge::finding::Finding;
use atdata_bridge::key::Key;
use atdata_bridge::sink::{
    Delivery, DeliveryId, Held, Rejection, Sink, SinkError, Submit, Verdict, Verdicts,
};
use bytes::Bytes;
use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::trace::Trace;

/// What a destination promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keeps the order, and can't tell what it holds: a topic that the bridge may not read.
    Unreadable,
    /// Keeps the order, and tells what it holds.
    Readable,
    /// Keeps the order, and a claim ends every earlier writer.
    TakesOver,
    /// Keeps no order, tells what it holds, and drops what it has already.
    DropsDuplicates,
}

/// How many of its events a destination tells a claim of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// The newest, as many as it is asked for.
    Newest,
    /// All. Processes that share the events of a queue need more than is asked for: the others may have written any
    /// number while one had lost its connection.
    All,
}

/// How the destination does at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// Accepts no connection.
    pub is_away: bool,
    /// Takes deliveries and does nothing with them.
    pub is_stalled: bool,
    /// Of how many hundred deliveries it asks to repeat one.
    pub repeats: u8,
    pub longest_delay: Duration,
}

/// An event that is durable.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub number: u64,
    pub key: Key,
    pub landed: Instant,
    pub connection: u64,
    /// When the connection that wrote it had last looked what the destination holds.
    pub looked: Option<Instant>,
    /// Of the first events in the destination that look told nothing: of so many.
    pub untold: usize,
}

/// A destination, which outlives the processes that write to it. Cheap to clone.
#[derive(Clone)]
pub struct Destination(Arc<Shared>);

struct Shared {
    name: String,
    kind: Kind,
    tells: Tells,
    /// The longest delay without a fault.
    delay: Duration,
    state: Mutex<State>,
    changed: Notify,
    trace: Trace,
}

struct State {
    random: Rng,
    trouble: Trouble,
    records: Vec<Record>,
    /// The numbers of the events in `records`.
    numbers: BTreeSet<u64>,
    ids: Vec<Bytes>,
    on_the_way: Vec<Write>,
    connections: BTreeMap<u64, Connection>,
    last_connection: u64,
    epoch: u64,
    /// The processes that have lost a connection, until it has written an event or none is left: the loss may be about
    /// the events.
    losses: BTreeSet<u64>,
}

#[derive(Default)]
struct Connection {
    process: u64,
    epoch: u64,
    is_lost: bool,
    looked: Option<Instant>,
    untold: usize,
    last_due: Option<Instant>,
    answers: VecDeque<(Instant, DeliveryId, Verdict)>,
    /// Keys of which a delivery must be repeated before a later one, with the position of that delivery.
    repeats: BTreeMap<Key, u64>,
    session: Option<SessionId>,
}

struct Write {
    due: Instant,
    id: DeliveryId,
    event: EventRef,
    connection: u64,
    epoch: u64,
}

/// The number of the event in the order of publishing, which its message id ends with.
pub fn number_of(event: &EventRef) -> u64 {
    number_in(&event.message_id())
}

pub fn number_in(id: &str) -> u64 {
    id.rsplit(':').next().and_then(|number| number.parse().ok()).expect("a message id ends with its number")
}

/// Whether every destination refuses the event for ever.
pub fn is_refused(number: u64) -> bool {
    number % 97 == 13
}

impl Destination {
    pub fn new(name: &str, (kind, delay): (Kind, Duration), tells: Tells, random: Rng, trace: Trace) -> Self {
        let state = State {
            random,
            trouble: Trouble { longest_delay: delay, ..Trouble::default() },
            records: Vec::new(),
            numbers: BTreeSet::new(),
            ids: Vec::new(),
            on_the_way: Vec::new(),
            connections: BTreeMap::new(),
            last_connection: 0,
            epoch: 0,
            losses: BTreeSet::new(),
        };
        let (name, changed) = (name.to_owned(), Notify::new());
        Self(Arc::new(Shared { name, kind, tells, delay, state: Mutex::new(state), changed, trace }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The longest delay of a delivery, as long as there is no fault.
    pub fn delay(&self) -> Duration {
        self.0.delay
    }

    /// The sink of a new process.
    pub fn sink(&self, process: u64) -> Box<dyn Sink> {
        Box::new(SimulatedSink { destination: self.clone(), process, connection: 0 })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Changes how the destination does.
    pub fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        let mut state = self.state();
        self.settle(&mut state);
        if state.trouble.is_stalled {
            // Nothing has arrived in the meantime.
            let now = Instant::now();
            state.on_the_way.iter_mut().for_each(|write| write.due = write.due.max(now));
        }
        change(&mut state.trouble);
        if state.trouble.is_away {
            self.lose_connections(&mut state, None);
        }
        self.0.changed.notify_waiters();
    }

    /// Breaks every connection.
    pub fn break_connections(&self) {
        let mut state = self.state();
        self.settle(&mut state);
        self.lose_connections(&mut state, None);
        self.0.changed.notify_waiters();
    }

    /// Loses the connections of a process that has ended, or all. Of what they have sent, a part may still arrive.
    fn lose_connections(&self, state: &mut State, process: Option<u64>) {
        let State { random, on_the_way, connections, .. } = state;
        let lost: Vec<u64> = connections
            .iter_mut()
            .filter(|(_, connection)| !connection.is_lost)
            .filter(|(_, connection)| process.is_none_or(|process| connection.process == process))
            .map(|(number, connection)| {
                connection.is_lost = true;
                connection.answers.clear();
                *number
            })
            .collect();
        for connection in lost {
            let sent = on_the_way.iter().filter(|write| write.connection == connection).count();
            let arriving = if random.bool() { random.usize(0..=sent) } else { 0 };
            let late = Duration::from_millis(random.u64(0..3000));
            let mut nth = 0;
            on_the_way.retain_mut(|write| {
                if write.connection != connection {
                    return true;
                }
                nth += 1;
                write.due += late;
                // An ordered connection delivers a prefix; others deliver anything.
                match self.0.kind {
                    Kind::DropsDuplicates => random.bool() && arriving > 0,
                    _ => nth <= arriving,
                }
            });
        }
    }

    /// Notes the end of a process.
    pub fn process_ended(&self, process: u64) {
        let mut state = self.state();
        self.settle(&mut state);
        self.lose_connections(&mut state, Some(process));
    }

    /// The events that are durable, in the order in which they became durable.
    pub fn records(&self) -> Vec<Record> {
        let mut state = self.state();
        self.settle(&mut state);
        state.records.clone()
    }

    /// Whether the event is durable.
    pub fn has(&self, number: u64) -> bool {
        let mut state = self.state();
        self.settle(&mut state);
        state.numbers.contains(&number)
    }

    /// Lets all writes arrive that are due.
    fn settle(&self, state: &mut State) {
        if state.trouble.is_stalled {
            return;
        }
        let now = Instant::now();
        state.on_the_way.sort_by_key(|write| write.due);
        let due = state.on_the_way.partition_point(|write| write.due <= now);
        let landing: Vec<Write> = state.on_the_way.drain(..due).collect();
        for write in landing {
            self.land(state, &write);
        }
    }

    fn land(&self, state: &mut State, write: &Write) {
        let (number, key) = (number_of(&write.event), write.event.key);
        let Some(connection) = state.connections.get_mut(&write.connection) else { return };
        if self.0.kind == Kind::TakesOver && write.epoch < state.epoch {
            return;
        }
        let answer_after = Duration::from_micros(state.random.u64(0..=2000));
        let refused = is_refused(number);
        let must_repeat = match connection.repeats.get(&key) {
            Some(position) if *position == write.event.position() => {
                connection.repeats.remove(&key);
                false
            }
            Some(_) => true,
            None => false,
        };
        let repeats = u32::from(state.trouble.repeats) * 100;
        let verdict = if connection.is_lost && (refused || must_repeat) {
            return;
        } else if must_repeat || (!connection.is_lost && state.random.u32(0..10_000) < repeats) {
            if self.0.kind != Kind::DropsDuplicates {
                connection.repeats.entry(key).or_insert_with(|| write.event.position());
            }
            Verdict::Retry(SinkError::unavailable("not now"))
        } else if refused {
            Verdict::Reject(Rejection { reason: "simulated", detail: "refused for ever".to_owned() })
        } else {
            let id = Bytes::copy_from_slice(write.event.message_id().as_bytes());
            let is_there = self.0.kind == Kind::DropsDuplicates && state.ids.contains(&id);
            if !is_there {
                let (looked, untold) = (connection.looked, connection.untold);
                let (landed, connection) = (write.due, write.connection);
                state.numbers.insert(number);
                state.records.push(Record { number, key, landed, connection, looked, untold });
                state.ids.push(id);
            }
            self.0.trace.note(|| format!("{} has {number} of connection {}", self.0.name, write.connection));
            Verdict::Durable
        };
        if !connection.is_lost {
            let earliest = connection.answers.back().map_or(write.due, |(at, ..)| *at);
            let at = match self.0.kind {
                Kind::DropsDuplicates => write.due + answer_after,
                _ => earliest.max(write.due + answer_after),
            };
            connection.answers.push_back((at, write.id, verdict));
        }
    }
}

struct SimulatedSink {
    destination: Destination,
    process: u64,
    connection: u64,
}

#[async_trait]
impl Sink for SimulatedSink {
    fn keeps_order(&self) -> bool {
        self.destination.kind() != Kind::DropsDuplicates
    }

    fn takes_over(&self) -> bool {
        self.destination.kind() == Kind::TakesOver
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        let destination = &self.destination;
        let (delay, is_away) = {
            let mut state = destination.state();
            (state.random.u64(1..50), state.trouble.is_away)
        };
        sleep(Duration::from_millis(delay)).await;
        let mut state = destination.state();
        destination.settle(&mut state);
        if is_away || state.trouble.is_away {
            return Err(SinkError::unavailable("the destination is away"));
        }
        // Its earlier connection is dropped.
        destination.lose_connections(&mut state, Some(self.process));
        state.last_connection += 1;
        self.connection = state.last_connection;
        let connection = Connection { process: self.process, epoch: state.epoch, ..Connection::default() };
        state.connections.insert(self.connection, connection);
        let part =
            || Open { destination: destination.clone(), process: self.process, connection: self.connection };
        destination.0.trace.note(|| {
            format!("{} opens connection {} of process {}", destination.name(), self.connection, self.process)
        });
        Ok((Box::new(part()), Box::new(part())))
    }

    async fn claim(&mut self, at_least: usize) -> Result<Option<Held>, SinkError> {
        let destination = &self.destination;
        if destination.kind() == Kind::Unreadable {
            return Ok(None);
        }
        let (before, after, fails) = {
            let mut state = destination.state();
            destination.settle(&mut state);
            if destination.kind() == Kind::TakesOver {
                state.epoch += 1;
                let epoch = state.epoch;
                if let Some(connection) = state.connections.get_mut(&self.connection) {
                    connection.epoch = epoch;
                }
                destination.0.changed.notify_waiters();
            }
            (state.random.u64(0..100), state.random.u64(0..100), state.random.u8(0..20) == 0)
        };
        sleep(Duration::from_millis(before)).await;
        let held = {
            let mut state = destination.state();
            destination.settle(&mut state);
            let State { trouble, connections, ids, .. } = &mut *state;
            let Some(connection) = connections.get_mut(&self.connection).filter(|found| !found.is_lost)
            else {
                return Err(SinkError::unavailable("the connection is lost"));
            };
            if fails || trouble.is_away {
                return Err(SinkError::unavailable("not readable now"));
            }
            connection.looked = Some(Instant::now());
            let newest = match destination.0.tells {
                Tells::Newest => ids.len().saturating_sub(at_least),
                Tells::All => 0,
            };
            connection.untold = newest;
            Held { ids: ids[newest..].to_vec() }
        };
        sleep(Duration::from_millis(after)).await;
        destination.0.trace.note(|| {
            format!(
                "{} tells connection {} of {} events",
                destination.name(),
                self.connection,
                held.ids.len()
            )
        });
        Ok(Some(held))
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        Ok(Vec::new())
    }
}

struct Open {
    destination: Destination,
    process: u64,
    connection: u64,
}

impl Open {
    /// Why the connection can't be used any more.
    fn broken(&self, state: &State) -> Option<SinkError> {
        let connection = state.connections.get(&self.connection)?;
        if self.destination.kind() == Kind::TakesOver
            && connection.epoch < state.epoch
            && connection.epoch > 0
        {
            return Some(SinkError::fenced("another bridge has taken the queue over"));
        }
        connection.is_lost.then(|| SinkError::unavailable("the connection is lost"))
    }
}

/// The most deliveries in flight.
const IN_FLIGHT: usize = 100;

#[async_trait]
impl Submit for Open {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        let mut state = self.destination.state();
        self.destination.settle(&mut state);
        if let Some(error) = self.broken(&state) {
            return Err(error);
        }
        let State { random, trouble, on_the_way, connections, .. } = &mut *state;
        let Some(connection) = connections.get_mut(&self.connection) else { return Ok(0) };
        let waiting = on_the_way.iter().filter(|write| write.connection == self.connection).count();
        let room = IN_FLIGHT.saturating_sub(waiting + connection.answers.len());
        let taken = deliveries.len().min(room);
        let now = Instant::now();
        for delivery in &deliveries[..taken] {
            let session = delivery.event.session();
            if connection.session != Some(session) {
                connection.session = Some(session);
                connection.repeats.clear();
            }
            let due = now + Duration::from_micros(random.u64(1..=trouble.longest_delay.as_micros() as u64));
            let due = match self.destination.kind() {
                Kind::DropsDuplicates => due,
                _ => connection.last_due.map_or(due, |last| last.max(due)),
            };
            connection.last_due = Some(due);
            on_the_way.push(Write {
                due,
                id: delivery.id,
                event: delivery.event.clone(),
                connection: self.connection,
                epoch: connection.epoch,
            });
        }
        self.destination.0.changed.notify_waiters();
        Ok(taken)
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

#[async_trait]
impl Verdicts for Open {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        loop {
            let changed = self.destination.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = {
                let mut state = self.destination.state();
                self.destination.settle(&mut state);
                if let Some(error) = self.broken(&state) {
                    state.losses.insert(self.process);
                    return Err(error);
                }
                let (now, is_stalled) = (Instant::now(), state.trouble.is_stalled);
                let State { random, on_the_way, connections, losses, .. } = &mut *state;
                let Some(connection) = connections.get_mut(&self.connection) else {
                    return Err(SinkError::unavailable("there is no such connection"));
                };
                let mut due = Vec::new();
                let most = random.usize(1..=50);
                connection.answers.retain(|(at, id, verdict)| {
                    let is_due = *at <= now && due.len() < most;
                    if is_due {
                        due.push((*id, verdict.clone()));
                    }
                    !is_due
                });
                if due.iter().any(|(_, verdict)| matches!(verdict, Verdict::Durable)) {
                    losses.remove(&self.process);
                }
                if !due.is_empty() {
                    return Ok(due);
                }
                let writes =
                    on_the_way.iter().filter(|write| write.connection == self.connection && !is_stalled);
                let answers = connection.answers.iter().map(|(at, ..)| *at);
                answers.chain(writes.map(|write| write.due)).min()
            };
            tokio::select! {
                biased;
                () = &mut changed => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    fn health(&self) -> Result<(), SinkError> {
        let state = self.destination.state();
        match state.trouble.is_stalled {
            true => Err(SinkError::unavailable("the destination does not answer")),
            false if state.losses.contains(&self.process) => {
                Err(SinkError::unavailable("the last connection was lost"))
            }
            false => Ok(()),
        }
    }

    fn forget_refused(&self) {
        self.destination.state().losses.remove(&self.process);
    }
}
