//! Keeps dead letters in the destination of a sink, such as a topic, because a pod's disk may be lost with
//! the pod. Each letter becomes an event whose body is the letter's line, so every kind of sink can keep
//! them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::contract::DeadLetterStore;
use super::record::DeadLetter;
use crate::event::{Batch, Event, Headers, Message, SessionId};
use crate::sink::{Delivery, DeliveryId, Rejection, Sink, SinkError, Submit, Verdict, Verdicts};

/// The time between two checks of the sink's health while a verdict is missing.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// A store that keeps dead letters through a sink of its own. After an error of the sink a letter may be kept
/// twice, but no letter is lost.
pub struct SinkDeadLetters {
    place: String,
    connection: Mutex<StoreConnection>,
}

struct StoreConnection {
    sink: Box<dyn Sink>,
    producer_and_acks: Option<(Box<dyn Submit>, Box<dyn Verdicts>)>,
    next_id: u64,
}

impl SinkDeadLetters {
    /// Creates the store without opening the sink. `place` names the destination in messages.
    pub fn new(sink: Box<dyn Sink>, place: String) -> Self {
        Self { place, connection: Mutex::new(StoreConnection { sink, producer_and_acks: None, next_id: 0 }) }
    }
}

#[async_trait]
impl DeadLetterStore for SinkDeadLetters {
    fn place(&self) -> &str {
        &self.place
    }

    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        let events = letters.iter().map(event).collect::<Result<Vec<_>, _>>().map_err(|error| {
            SinkError::misconfigured("cannot write a dead letter as JSON").caused_by(error)
        })?;
        let batch = Batch { session: SessionId(0), first: 1, events, received: Instant::now().into_std() };
        self.connection.lock().await.write(&Arc::new(batch)).await
    }

    async fn open(&self) -> Result<(), SinkError> {
        let mut connection = self.connection.lock().await;
        if connection.producer_and_acks.is_none() {
            connection.producer_and_acks = Some(connection.sink.open().await?);
        }
        Ok(())
    }

    async fn probe(&self) -> Result<Vec<String>, SinkError> {
        self.connection.lock().await.sink.probe().await
    }

    async fn close(&self) {
        if let Some((mut submit, _)) = self.connection.lock().await.producer_and_acks.take()
            && let Err(error) = submit.close().await
        {
            tracing::warn!("closing the dead letters: {error}");
        }
    }
}

impl StoreConnection {
    /// Writes all events durably, or closes the connection. A failed or dropped call leaves deliveries in
    /// flight, and their verdicts must not count for the next call.
    async fn write(&mut self, batch: &Arc<Batch>) -> Result<(), SinkError> {
        let (mut submit, mut verdicts) = match self.producer_and_acks.take() {
            Some(producer_and_acks) => producer_and_acks,
            None => self.sink.open().await?,
        };
        let first = self.next_id;
        self.next_id += batch.events.len() as u64;
        let deliveries: Vec<_> =
            (first..).zip(batch.refs()).map(|(id, event)| Delivery { id: DeliveryId(id), event }).collect();
        all_durable(&deliveries, submit.as_mut(), verdicts.as_mut()).await?;
        self.producer_and_acks = Some((submit, verdicts));
        Ok(())
    }
}

async fn all_durable(
    deliveries: &[Delivery],
    submit: &mut dyn Submit,
    verdicts: &mut dyn Verdicts,
) -> Result<(), SinkError> {
    let mut taken = 0;
    // The ids, not a count: a letter counts only by its own verdict, even if the sink gives another one twice
    // (I6).
    let mut owed: BTreeSet<_> = deliveries.iter().map(|delivery| delivery.id).collect();
    while !owed.is_empty() {
        if let Some(rest) = deliveries.get(taken..).filter(|rest| !rest.is_empty()) {
            taken += submit.submit(rest)?;
        }
        tokio::select! {
            given = verdicts.next() => for (id, verdict) in given? {
                match verdict {
                    Verdict::Durable if owed.remove(&id) => {}
                    // No verdict of this connection can be trusted.
                    Verdict::Durable => return Err(SinkError::unavailable(format!(
                        "the place for dead letters confirms number {}, which it does not owe",
                        id.0
                    ))),
                    Verdict::Retry(error) => return Err(error),
                    // There is no other place for the letter, so the worker holds until the sink takes it.
                    Verdict::Reject(Rejection { detail, .. }) => return Err(SinkError::misconfigured(format!(
                        "the place for dead letters refuses one: {detail}"
                    ))),
                }
            },
            // A sink that handles an outage by itself gives no verdict. The worker must learn why it waits.
            () = sleep(HEALTH_EVERY) => verdicts.health()?,
        }
    }
    Ok(())
}

/// Makes an event of a letter. Its id includes the sink's name: a stream that drops duplicates must keep the
/// letters of several sinks about one event.
fn event(letter: &DeadLetter) -> Result<Event, serde_json::Error> {
    let mut line = Vec::new();
    letter.append(&mut line)?;
    line.pop();
    let message = &letter.event.message;
    let id = format!("{}/{}", letter.event.message_id(), letter.sink.as_deref().unwrap_or("event"));
    let message = Message {
        id: id.into(),
        body: Bytes::from(line),
        timestamp: message.timestamp,
        redelivered: message.redelivered,
        headers: Headers::empty(),
        unreadable: None,
    };
    Ok(Event { message, key: letter.event.key, defect: None, is_json: true })
}

#[cfg(test)]
mod tests {
    use super::super::file_store::tests::{event as event_ref, letter};
    use super::*;
    use crate::sink::memory::{MemorySink, ScriptedVerdict};

    fn letter_of(number: u64, sink: &str) -> DeadLetter {
        DeadLetter { sink: Some(sink.into()), ..letter(number) }
    }

    #[tokio::test]
    async fn a_letter_is_kept_when_the_sink_says_so_however_small_its_window() {
        let sink = MemorySink::new(true, 2);
        let handle = sink.handle();
        let store = SinkDeadLetters::new(Box::new(sink), "letters".to_owned());
        let letters: Vec<_> = (1..=5).map(|number| letter_of(number, "kafka")).collect();
        store.write(&letters).await.unwrap();
        store.write(&[letter_of(5, "file"), letter(5)]).await.unwrap();
        let ids: Vec<_> = handle.log().iter().map(ToString::to_string).collect();
        let expected =
            ["ID:1/kafka", "ID:2/kafka", "ID:3/kafka", "ID:4/kafka", "ID:5/kafka", "ID:5/file", "ID:5/event"];
        assert_eq!(ids, expected);
        store.close().await;
        assert_eq!(handle.closed(), 1);
    }

    #[tokio::test]
    async fn whatever_is_not_durable_is_an_error_and_the_next_call_starts_anew() {
        let sink = MemorySink::new(true, 2);
        let handle = sink.handle();
        let store = SinkDeadLetters::new(Box::new(sink), "letters".to_owned());
        for answer in [ScriptedVerdict::Retry, ScriptedVerdict::Reject, ScriptedVerdict::Break] {
            handle.script(move |_| answer);
            store.write(&[letter(1), letter(2), letter(3)]).await.unwrap_err();
        }
        handle.reachable(false);
        store.write(&[letter(1)]).await.unwrap_err();
        store.probe().await.unwrap_err();
        handle.reachable(true);
        handle.script(|_| ScriptedVerdict::Durable);
        store.write(&[letter(1)]).await.unwrap();
        assert_eq!(handle.log().len(), 1);
    }

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
        let deliveries: Vec<_> =
            [7, 8].map(|id| Delivery { id: DeliveryId(id), event: event_ref(id, b"a body") }).into();
        let error = all_durable(&deliveries, &mut Repeater, &mut Repeater).await.unwrap_err();
        assert!(error.to_string().contains("confirms number 7"), "{error}");
    }

    /// Covers a write that is dropped in the middle, as at an abandoned drain, and a sink that handles an
    /// outage without a verdict.
    #[tokio::test(start_paused = true)]
    async fn a_silent_sink_is_an_error_once_it_says_that_it_ails() {
        let sink = MemorySink::new(true, 2);
        let handle = sink.handle();
        handle.answering(false);
        let store = SinkDeadLetters::new(Box::new(sink), "letters".to_owned());
        let dropped = [letter(1)];
        tokio::time::timeout(Duration::from_secs(60), store.write(&dropped)).await.unwrap_err();
        handle.set_degraded(true);
        let error = store.write(&[letter(2)]).await.unwrap_err();
        assert!(error.to_string().contains("ails"), "{error}");
        handle.set_degraded(false);
        handle.answering(true);
        store.write(&[letter(3)]).await.unwrap();
        assert_eq!(handle.log().iter().map(|id| &**id).collect::<Vec<_>>(), ["ID:3/event"]);
    }
}
