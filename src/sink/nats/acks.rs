//! Receives the server's answers to publishes, and gives the verdicts.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::connection::NatsConnection;
use super::open_backoff::OpenBackoff;
use super::producer::{ProducerShared, ProducerState};
use super::verdict;
use crate::sink::{DeliveryId, SinkError, Verdict, Verdicts};

/// If the server leaves an event without an answer for this long, the sink reports an error.
const SLOW: Duration = Duration::from_secs(3);

/// Reads the answers that arrive at the inbox.
pub(super) struct NatsAcks {
    pub(super) connection: NatsConnection,
    /// Answers arrive at `<inbox>.<delivery id>`.
    pub(super) inbox: String,
    pub(super) subscriber: Subscriber,
    /// `None` means core NATS, which has no streams.
    pub(super) stream: Option<String>,
    pub(super) timeout: Duration,
    pub(super) shared: Arc<ProducerShared>,
    pub(super) open_backoff: Arc<OpenBackoff>,
    pub(super) age_ticks: Interval,
    /// An error that is returned after the verdicts that came before it.
    pub(super) broken: Option<SinkError>,
}

/// Returns the times at which the age of the oldest publish is checked.
pub(super) fn age_ticks(timeout: Duration) -> Interval {
    let mut ticks = interval(timeout.min(SLOW) / 4);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl NatsAcks {
    /// Reads this answer and all others that have already arrived.
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
        // A message whose subject names no delivery is not an answer. Only the sink and the server know the
        // inbox.
        let Some(id) = verdict::delivery_id(&message.subject, &self.inbox) else { return Ok(()) };
        let Some(stream) = &self.stream else {
            let answered = state.in_flight.answer_through(id);
            verdicts.extend(answered.into_iter().map(|id| (id, Verdict::Durable)));
            return Ok(());
        };
        let verdict = verdict::of_answer(message.status, &message.payload, stream)?;
        // Only the first answer to a publish counts.
        if state.in_flight.answer(id) {
            verdicts.push((id, verdict));
        }
        Ok(())
    }

    /// How long the oldest publish has waited for its answer.
    fn waiting(&self) -> Option<Duration> {
        self.shared.state().in_flight.oldest().map(|since| since.elapsed())
    }

    fn overdue(&self) -> Option<SinkError> {
        self.waiting().filter(|waiting| *waiting >= self.timeout).map(silent)
    }

    /// Waits for the next answer or error. Cancel-safe: each arm only waits, and its result is stored without
    /// another wait.
    async fn step(&mut self) -> Vec<(DeliveryId, Verdict)> {
        tokio::select! {
            // Acknowledgements that arrived before the connection ended must count, so they are read first.
            biased;
            answer = self.subscriber.next() => match answer {
                Some(message) => return self.read(message),
                None => self.broken = Some(SinkError::unavailable("the NATS client has ended")),
            },
            () = self.shared.refused.notified() => return std::mem::take(&mut self.shared.state().refused),
            error = self.connection.next_error() => self.broken = Some(error),
            _ = self.age_ticks.tick() => self.broken = self.overdue(),
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
                self.open_backoff.after(&error);
                return Err(error);
            }
            let verdicts = self.step().await;
            if !verdicts.is_empty() {
                if verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Durable)) {
                    self.open_backoff.good();
                }
                return Ok(verdicts);
            }
        }
    }

    fn health(&self) -> Result<(), SinkError> {
        self.waiting().filter(|waiting| *waiting >= SLOW).map_or(Ok(()), |waiting| Err(silent(waiting)))
    }
}
