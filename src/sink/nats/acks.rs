//! The half that hears what became of them.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::connection::NatsConnection;
use super::open_backoff::OpenBackoff;
use super::producer::{ProducerShared, ProducerState};
use super::publish_ack::{self, PublishReply};
use crate::sink::{DeliveryId, SinkError, Verdict, Verdicts};

/// A server that leaves an event without an answer for so long is in trouble, which should be seen.
const SLOW: Duration = Duration::from_secs(3);

/// Collects the answers that arrive at the inbox.
pub(super) struct NatsAcks {
    connection: NatsConnection,
    inbox: String,
    subscriber: Subscriber,
    /// `None`: core NATS.
    stream: Option<String>,
    timeout: Duration,
    shared: Arc<ProducerShared>,
    holding: Arc<OpenBackoff>,
    /// When the oldest publish is looked at.
    looks: Interval,
    /// Told after the verdicts that came before it.
    broken: Option<SinkError>,
}

impl NatsAcks {
    /// Answers arrive at `inbox`, which `subscriber` hears.
    pub(super) fn new(
        connection: NatsConnection,
        (inbox, subscriber): (String, Subscriber),
        (stream, timeout): (Option<String>, Duration),
        shared: Arc<ProducerShared>,
        holding: Arc<OpenBackoff>,
    ) -> Self {
        let mut looks = interval(timeout.min(SLOW) / 4);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { connection, inbox, subscriber, stream, timeout, shared, holding, looks, broken: None }
    }

    /// Reads this answer and all others that are there already.
    fn read(&mut self, first: Message) -> Vec<(DeliveryId, Verdict)> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let mut verdicts = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            if let Err(error) = self.read_one(&message, &mut state, &mut verdicts) {
                self.broken = Some(error);
                break;
            }
            next = self.subscriber.next().now_or_never().flatten();
        }
        verdicts
    }

    fn read_one(
        &self,
        message: &Message,
        state: &mut ProducerState,
        verdicts: &mut Vec<(DeliveryId, Verdict)>,
    ) -> Result<(), SinkError> {
        // Nobody else knows the inbox: what names no delivery is no answer.
        let Some(id) = publish_ack::delivery_id(&message.subject, &self.inbox) else { return Ok(()) };
        let Some(stream) = &self.stream else {
            let landed = state.flights.land_through(id);
            verdicts.extend(landed.into_iter().map(|id| (id, Verdict::Durable)));
            return Ok(());
        };
        match publish_ack::read(message.status, &message.payload, stream) {
            PublishReply::Verdict(verdict) if state.flights.land(id) => verdicts.push((id, verdict)),
            // A second answer to one publish.
            PublishReply::Verdict(_) => {}
            PublishReply::Broken(error) => return Err(error),
        }
        Ok(())
    }

    /// Since when the oldest publish has been without an answer.
    fn waiting(&self) -> Option<Duration> {
        self.shared.state().flights.oldest().map(|since| since.elapsed())
    }

    fn overdue(&self) -> Option<SinkError> {
        self.waiting().filter(|waiting| *waiting >= self.timeout).map(silent)
    }

    /// Waits for what comes next. Cancel-safe: each arm only waits, and what it brings is kept at once.
    async fn step(&mut self) -> Vec<(DeliveryId, Verdict)> {
        tokio::select! {
            // What was acknowledged before the connection ended counts.
            biased;
            answer = self.subscriber.next() => match answer {
                Some(message) => return self.read(message),
                None => self.broken = Some(SinkError::unavailable("the NATS client has ended")),
            },
            () = self.shared.refused.notified() => return std::mem::take(&mut self.shared.state().refused),
            trouble = self.connection.next_error() => self.broken = Some(trouble),
            _ = self.looks.tick() => self.broken = self.overdue(),
        }
        Vec::new()
    }
}

fn silent(waiting: Duration) -> SinkError {
    SinkError::unavailable(format!("the NATS server has not answered a publish for {} s", waiting.as_secs()))
}

#[async_trait]
impl Verdicts for NatsAcks {
    async fn next(&mut self) -> Result<Vec<(DeliveryId, Verdict)>, SinkError> {
        loop {
            if let Some(error) = self.broken.take() {
                self.holding.after(&error);
                return Err(error);
            }
            let verdicts = self.step().await;
            if !verdicts.is_empty() {
                if verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Durable)) {
                    self.holding.good();
                }
                return Ok(verdicts);
            }
        }
    }

    fn health(&self) -> Result<(), SinkError> {
        self.waiting().filter(|waiting| *waiting >= SLOW).map_or(Ok(()), |waiting| Err(silent(waiting)))
    }
}
