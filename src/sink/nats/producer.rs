//! The half that publishes.

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
use super::publish_ack;
use super::template::{RenderedId, Subject, header_value};
use crate::sink::{Delivery, DeliveryId, Rejection, SinkContext, SinkError, Submit, Verdict, headers};

/// By this the stream knows an event again.
const MESSAGE_ID: HeaderName = HeaderName::from_static("Nats-Msg-Id");
/// Another stream than the one named refuses the event.
const EXPECTED_STREAM: HeaderName = HeaderName::from_static("Nats-Expected-Stream");

/// For so long what the server has said of its `max_payload` is believed: it says it once for each connection, and
/// may have been given another one since.
const LIMIT_HOLDS: Duration = Duration::from_secs(10);

/// What both halves look at.
#[derive(Debug, Default)]
pub(super) struct ProducerShared {
    state: Mutex<ProducerState>,
    /// Something was refused without being sent.
    pub(super) refused: Notify,
}

/// Guarded by [`Shared`].
#[derive(Debug, Default)]
pub(super) struct ProducerState {
    pub(super) flights: NatsInFlight,
    /// Verdicts that no server had to give.
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
    /// Answers arrive at `<inbox>.<number of the delivery>`.
    pub(super) inbox: String,
    pub(super) subject: Subject,
    pub(super) message_id: RenderedId,
    pub(super) context: SinkContext,
    /// `None`: core NATS.
    pub(super) stream: Option<String>,
    pub(super) window: usize,
    /// Since when the server's limits are known.
    pub(super) connected: Instant,
    pub(super) shared: Arc<ProducerShared>,
}

/// What became of handing one message to the client.
enum Handed {
    Over,
    /// Never to be sent.
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
                Ok(Handed::Refused(publish_ack::too_large(detail)))
            }
            Some(Err(error)) => Err(SinkError::unavailable("the NATS client has ended").caused_by(error)),
        }
    }

    /// Whether the server may take larger events by now than it said: it is asked anew, over a new connection,
    /// before one is called too large.
    fn limit_is_old(&self) -> bool {
        self.connected.elapsed() >= LIMIT_HOLDS
    }

    /// In core NATS nothing answers a publish. But a server reads a connection in order: once this comes back,
    /// it has read everything before it.
    fn hand_over_marker(&self, id: DeliveryId) -> Result<(), SinkError> {
        let marker = now(self.client.publish(self.reply(id), Bytes::new()));
        match marker {
            Some(Ok(())) => Ok(()),
            // There is room for one with each event in flight.
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

/// The result of a hand-over to the client's own task, `None` where that has no room: it is then undone.
/// Outside of the runtime's budget, which would make room look scarce that is not.
fn now<T>(hand_over: impl Future<Output = T>) -> Option<T> {
    unconstrained(hand_over).now_or_never()
}

#[async_trait]
impl Submit for NatsProducer {
    fn submit(&mut self, deliveries: &[Delivery]) -> Result<usize, SinkError> {
        let mut state = self.shared.state();
        let room = self.window.saturating_sub(state.flights.flying());
        let (mut taken, mut last) = (0, None);
        for delivery in deliveries.iter().take(room) {
            match self.hand_over(delivery)? {
                Handed::Over => {
                    state.flights.begin(delivery.id, Instant::now());
                    last = Some(delivery.id);
                }
                // What is in flight could appear twice over a new connection: it is settled first.
                Handed::Refused(_) if self.limit_is_old() && state.flights.flying() > 0 => break,
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
        // Nothing is in flight: whatever was handed over has been answered.
        Ok(())
    }
}
