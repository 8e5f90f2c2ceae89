//! Keeps dead letters in the destination of a sink, such as a topic, because a pod's disk may be lost with
//! the pod. Each letter becomes an event whose body is the letter's line, so every kind of sink can keep
//! them. What the destination holds already ([`Sink::claim`]) is not written again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::contract::{DeadLetterStore, ReplayMarks};
use super::held_letters::HeldLetters;
use super::record::DeadLetter;
use super::replay_mark::ReplayMark;
use crate::event::{Batch, Event, Headers, Message, SessionId};
use crate::finding::Finding;
use crate::key::Key;
use crate::sink::{
    Delivery, DeliveryId, Position, RecordSender, Rejection, Sink, SinkError, Submit, Verdict, Verdicts,
};

/// The time between two checks of the sink's health while a verdict is missing.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two questions what the sink holds. One answer then serves all letters that come
/// in the meantime.
const CLAIM_EVERY: Duration = Duration::from_secs(1);

/// A store that keeps dead letters through a sink of its own. If the sink can't tell what it holds, a letter
/// may be kept twice after an error or a crash, but no letter is lost.
pub struct SinkDeadLetters {
    place: String,
    connection: Mutex<StoreConnection>,
}

struct StoreConnection {
    sink: Box<dyn Sink>,
    producer_and_acks: Option<(Box<dyn Submit>, Box<dyn Verdicts>)>,
    next_id: u64,
    held: HeldLetters,
    /// How many of the newest letters the sink must know.
    capacity: usize,
    /// When the sink last said what it holds.
    claimed: Option<Instant>,
}

impl SinkDeadLetters {
    /// Creates the store without opening the sink. `place` names the destination in messages. `capacity` is
    /// how many letters at most can come again.
    pub fn new(sink: Box<dyn Sink>, place: String, capacity: usize) -> Self {
        let connection = StoreConnection {
            sink,
            producer_and_acks: None,
            next_id: 0,
            held: HeldLetters::new(capacity),
            capacity,
            claimed: None,
        };
        Self { place, connection: Mutex::new(connection) }
    }
}

#[async_trait]
impl DeadLetterStore for SinkDeadLetters {
    fn place(&self) -> &str {
        &self.place
    }

    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        self.connection.lock().await.write(letters).await
    }

    async fn open(&self) -> Result<(), SinkError> {
        let mut connection = self.connection.lock().await;
        connection.producer_and_acks = Some(connection.opened().await?);
        Ok(())
    }

    async fn probe(&self) -> Result<Vec<Finding>, SinkError> {
        self.connection.lock().await.sink.probe().await
    }

    async fn read_back(&self, from: Option<Position>, records: RecordSender) -> Result<(), SinkError> {
        self.connection.lock().await.sink.read_back(from, records).await
    }

    async fn close(&self) {
        if let Some((mut submit, _)) = self.connection.lock().await.producer_and_acks.take()
            && let Err(error) = submit.close().await
        {
            tracing::warn!("closing the dead letters: {error}");
        }
    }
}

#[async_trait]
impl ReplayMarks for SinkDeadLetters {
    async fn add(&self, marks: &[ReplayMark]) -> Result<(), SinkError> {
        let mut connection = self.connection.lock().await;
        let producer_and_acks = connection.opened().await?;
        let events = marks.iter().map(mark_event).collect::<Result<_, _>>().map_err(json)?;
        connection.put(producer_and_acks, events).await
    }
}

impl StoreConnection {
    /// Takes the producer and the acks; opens the sink if there are none.
    async fn opened(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        if let Some(producer_and_acks) = self.producer_and_acks.take() {
            return Ok(producer_and_acks);
        }
        let producer_and_acks = self.sink.open().await?;
        self.held.connected();
        Ok(producer_and_acks)
    }

    /// Makes all letters durable that the sink does not hold, or closes the connection. A failed or dropped
    /// call leaves deliveries in flight, and their verdicts must not count for the next call.
    async fn write(&mut self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        let producer_and_acks = self.opened().await?;
        if self.held.owes_claim(letters) {
            self.claim(letters).await?;
        }
        let missing = self.held.missing(letters);
        let events = missing.into_iter().map(letter_event).collect::<Result<_, _>>().map_err(json)?;
        self.put(producer_and_acks, events).await
    }

    /// Makes all events durable, or drops the connection.
    async fn put(
        &mut self,
        (mut submit, mut verdicts): (Box<dyn Submit>, Box<dyn Verdicts>),
        events: Vec<Event>,
    ) -> Result<(), SinkError> {
        let deliveries = self.deliveries(events);
        self.next_id += deliveries.len() as u64;
        let mut owed = deliveries.iter().map(|delivery| delivery.id).collect();
        let written = all_durable(&deliveries, &mut owed, submit.as_mut(), verdicts.as_mut()).await;
        if let Err(error) = written {
            let durable = deliveries.iter().filter(|delivery| !owed.contains(&delivery.id));
            self.held.remember(durable.map(|delivery| &delivery.event.message.id));
            return Err(error);
        }
        self.producer_and_acks = Some((submit, verdicts));
        Ok(())
    }

    /// Asks the sink what it holds. Nothing is in flight.
    async fn claim(&mut self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        if let Some(claimed) = self.claimed {
            sleep_until(claimed + CLAIM_EVERY).await;
        }
        let asked = std::time::Instant::now();
        let held = self.sink.claim(self.capacity).await?;
        self.claimed = Some(Instant::now());
        self.held.claimed(asked, letters, held.map(|held| held.ids));
        Ok(())
    }

    fn deliveries(&self, events: Vec<Event>) -> Vec<Delivery> {
        let received = Instant::now().into_std();
        let batch = Arc::new(Batch { session: SessionId(0), first: 1, events, received });
        let numbered = (self.next_id..).zip(batch.refs());
        numbered.map(|(id, event)| Delivery { id: DeliveryId(id), event }).collect()
    }
}

/// Hands the deliveries over and waits until all are durable. `owed` has the ids of those that are not, also
/// after an error. The ids, not a count: a letter counts only by its own verdict, even if the sink gives
/// another one twice (I6).
async fn all_durable(
    deliveries: &[Delivery],
    owed: &mut BTreeSet<DeliveryId>,
    submit: &mut dyn Submit,
    verdicts: &mut dyn Verdicts,
) -> Result<(), SinkError> {
    let mut taken = 0;
    while !owed.is_empty() {
        if let Some(rest) = deliveries.get(taken..).filter(|rest| !rest.is_empty()) {
            taken += submit.submit(rest)?;
        }
        tokio::select! {
            given = verdicts.next() => settle(given?, deliveries, owed)?,
            // A sink that handles an outage by itself gives no verdict. The worker must learn why it waits.
            () = sleep(HEALTH_EVERY) => verdicts.health()?,
        }
    }
    Ok(())
}

/// Removes the durable deliveries from the owed ones.
fn settle(
    verdicts: Vec<(DeliveryId, Verdict)>,
    deliveries: &[Delivery],
    owed: &mut BTreeSet<DeliveryId>,
) -> Result<(), SinkError> {
    let mut failed = None;
    for (id, verdict) in verdicts {
        let error = match verdict {
            Verdict::Durable if owed.remove(&id) => continue,
            Verdict::Durable => {
                // No verdict of this connection can be trusted.
                owed.extend(deliveries.iter().map(|delivery| delivery.id));
                return Err(SinkError::unavailable(format!(
                    "the place for dead letters confirms number {}, which it does not owe",
                    id.0
                )));
            }
            Verdict::Retry(error) => error,
            // There is no other place for the letter, so the worker holds until the sink takes it.
            Verdict::Reject(Rejection { detail, .. }) => {
                SinkError::misconfigured(format!("the place for dead letters refuses one: {detail}"))
            }
        };
        failed.get_or_insert(error);
    }
    failed.map_or(Ok(()), Err)
}

fn json(error: serde_json::Error) -> SinkError {
    SinkError::misconfigured("cannot write a dead letter as JSON").caused_by(error)
}

/// Makes an event of a mark.
fn mark_event(mark: &ReplayMark) -> Result<Event, serde_json::Error> {
    let mut line = Vec::new();
    mark.append(&mut line)?;
    line.pop();
    let id = mark.id();
    let key = Key::digest(&id);
    let message = Message {
        id,
        body: Bytes::from(line),
        timestamp: Some(mark.time.as_millisecond()),
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    };
    Ok(Event { message, key, defect: None, is_json: true })
}

/// Makes an event of a letter.
fn letter_event(letter: &DeadLetter) -> Result<Event, serde_json::Error> {
    let mut line = Vec::new();
    letter.append(&mut line)?;
    line.pop();
    let message = &letter.event.message;
    let message = Message {
        id: letter.id(),
        body: Bytes::from(line),
        timestamp: message.timestamp,
        redelivered: message.redelivered,
        headers: Headers::empty(),
        unreadable: None,
    };
    Ok(Event { message, key: letter.event.key, defect: None, is_json: true })
}

// `tests/it/sinks/dead_letters_in_a_sink.rs` has the tests with a sink.
#[cfg(test)]
mod tests {
    use super::super::file_store::tests::event;
    use super::*;

    /// Repeats for one delivery that it is durable.
    struct Repeater;

    #[async_trait]
    impl Submit for Repeater {
        fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
            Ok(deliveries.len())
        }

        async fn close(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
    }

    #[async_trait]
    impl Verdicts for Repeater {
        async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
            Ok(vec![(DeliveryId(7), Verdict::Durable)])
        }
    }

    #[tokio::test]
    async fn one_verdict_given_twice_does_not_keep_two_letters() {
        let deliveries = [7, 8].map(|id| Delivery { id: DeliveryId(id), event: event(id, b"a body") });
        let all = BTreeSet::from([DeliveryId(7), DeliveryId(8)]);
        let mut owed = all.clone();
        let error = all_durable(&deliveries, &mut owed, &mut Repeater, &mut Repeater).await.unwrap_err();
        assert!(error.to_string().contains("confirms number 7"), "{error}");
        assert_eq!(owed, all, "not even the first verdict counts");
    }
}
