//! Publishes events to the server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::client::PublishErrorKind;
use async_nats::{Client, HeaderMap, HeaderName};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::unconstrained;

use super::in_flight::NatsInFlight;
use super::template::{RenderedId, Subject, header_value};
use super::verdict;
use crate::sink::{Delivery, DeliveryId, Rejection, SinkContext, SinkError, Submit, Verdict, headers};

/// The header by which the stream recognises a duplicate.
const MESSAGE_ID: HeaderName = HeaderName::from_static("Nats-Msg-Id");
/// The header that names the stream: any other stream refuses the event.
const EXPECTED_STREAM: HeaderName = HeaderName::from_static("Nats-Expected-Stream");

/// How long the server's `max_payload` counts as current. The server names it once for each connection, and
/// it may have been changed since.
const LIMIT_HOLDS: Duration = Duration::from_secs(10);

/// The data that the producer and the acks share.
#[derive(Debug, Default)]
pub(super) struct ProducerShared {
    state: Mutex<ProducerState>,
    /// Notifies the acks that a delivery was refused without being sent.
    pub(super) refused: Notify,
}

#[derive(Debug, Default)]
pub(super) struct ProducerState {
    pub(super) in_flight: NatsInFlight,
    /// Verdicts on deliveries that were refused without being sent.
    pub(super) refused: Vec<(DeliveryId, Verdict)>,
}

impl ProducerShared {
    pub(super) fn state(&self) -> MutexGuard<'_, ProducerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes events, each with a reply subject that names its delivery.
pub(super) struct NatsProducer {
    pub(super) client: Client,
    /// Answers arrive at `<inbox>.<delivery id>`.
    pub(super) inbox: String,
    pub(super) subject: Subject,
    pub(super) message_id: RenderedId,
    pub(super) context: SinkContext,
    /// `None` means core NATS, which has no streams.
    pub(super) stream: Option<String>,
    pub(super) window: usize,
    /// When the server named its limits.
    pub(super) connected: Instant,
    pub(super) shared: Arc<ProducerShared>,
}

enum Handed {
    Over,
    /// The message can never be sent.
    Refused(Rejection),
    NoRoom,
}

impl NatsProducer {
    fn hand_over(&self, delivery: &Delivery) -> Result<Handed, SinkError> {
        let subject = self.subject.of(&delivery.event);
        let (headers, body) = (self.headers(delivery), delivery.event.body().clone());
        let reply = self.reply(delivery.id);
        let sent = match self.stream {
            Some(_) => now(self.client.publish_with_reply_and_headers(subject, reply, headers, body)),
            None => now(self.client.publish_with_headers(subject, headers, body)),
        };
        match sent {
            None => Ok(Handed::NoRoom),
            Some(Ok(())) => Ok(Handed::Over),
            Some(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                let detail = format!(
                    "the NATS server takes no such message: {error}; raise its max_payload if such events are wanted"
                );
                Ok(Handed::Refused(verdict::too_large(detail)))
            }
            Some(Err(error)) => Err(SinkError::unavailable("the NATS client has ended").caused_by(error)),
        }
    }

    /// Returns whether the known `max_payload` is too old. In that case a new connection asks the server
    /// again before an event is rejected as too large.
    fn limit_is_old(&self) -> bool {
        self.connected.elapsed() >= LIMIT_HOLDS
    }

    /// Publishes a marker to the own inbox, because in core NATS nothing answers a publish. A server reads a
    /// connection in order: when the marker comes back, the server has read all events before it.
    fn hand_over_marker(&self, id: DeliveryId) -> Result<(), SinkError> {
        let marker = now(self.client.publish(self.reply(id), Bytes::new()));
        match marker {
            Some(Ok(())) => Ok(()),
            // The client has room for one marker per event in flight, so this does not happen.
            None => Err(SinkError::unavailable("the NATS client takes nothing more")),
            Some(Err(error)) => Err(SinkError::unavailable("the NATS client has ended").caused_by(error)),
        }
    }

    fn reply(&self, id: DeliveryId) -> String {
        format!("{}.{}", self.inbox, id.0)
    }

    fn headers(&self, delivery: &Delivery) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(id) = self.message_id.of(&delivery.event.message.id) {
            headers.insert(MESSAGE_ID, id);
        }
        if let Some(stream) = &self.stream {
            headers.insert(EXPECTED_STREAM, stream.as_str());
        }
        headers.insert(HeaderName::from_static(headers::KEY), header_value(&delivery.event.key.hex()));
        headers::each(&delivery.event, &self.context, |name, value| {
            headers.insert(HeaderName::from_static(name), header_value(value));
        });
        headers
    }
}

/// Returns the result of a hand-over to the client's task, or `None` if the task has no room; the hand-over
/// is then undone. `unconstrained`, because the runtime's budget could make a channel with room look full.
fn now<T>(hand_over: impl Future<Output = T>) -> Option<T> {
    unconstrained(hand_over).now_or_never()
}

#[async_trait]
impl Submit for NatsProducer {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        let mut state = self.shared.state();
        let room = self.window.saturating_sub(state.in_flight.count());
        let (mut taken, mut last) = (0, None);
        for delivery in deliveries.iter().take(room) {
            match self.hand_over(delivery)? {
                Handed::Over => {
                    state.in_flight.begin(delivery.id, Instant::now());
                    last = Some(delivery.id);
                }
                // A new connection could publish the events in flight twice, so they are settled first.
                Handed::Refused(_) if self.limit_is_old() && state.in_flight.count() > 0 => break,
                Handed::Refused(_) if self.limit_is_old() => {
                    return Err(SinkError::unavailable(
                        "an event is larger than the max_payload that the NATS server named when it was reached: \
                         asking it anew",
                    ));
                }
                Handed::Refused(rejection) => {
                    state.refused.push((delivery.id, Verdict::Reject(rejection)));
                    self.shared.refused.notify_one();
                }
                Handed::NoRoom => break,
            }
            taken += 1;
        }
        match last {
            Some(last) if self.stream.is_none() => self.hand_over_marker(last)?,
            _ => {}
        }
        Ok(taken)
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        // Nothing is in flight: all events handed over are answered.
        Ok(())
    }
}
