//! Defines the data that passes through the bridge: a [`Message`] as a source read it, the [`Event`] made
//! from it, and the [`Batch`] of events that all sink workers share.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::display::one_line;
use crate::key::{Key, KeyError, KeyReading, Keying};

/// Numbers the sessions of one source, from 1. A later session voids the acks of an earlier one (I2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One broker message as its source read it. The byte slices share the read buffer.
#[derive(Clone, Debug)]
pub struct Message {
    /// The broker's message id, unescaped. It is the same across redeliveries and mirrored copies.
    pub id: Bytes,
    /// The body, byte for byte as the broker sent it.
    pub body: Bytes,
    /// When the producer sent it: milliseconds since 1970, UTC.
    pub timestamp: Option<i64>,
    /// Whether the broker marked it as delivered before. This mark is neither necessary nor sufficient (D7).
    pub redelivered: bool,
    /// All headers as the protocol wrote them; they are decoded only for dead letters.
    pub headers: Headers,
    /// Why the body is neither text nor bytes, if so; then `body` holds the bytes that came instead.
    pub unreadable: Option<UnreadableBodyError>,
}

impl Message {
    /// Returns when the producer sent it, in milliseconds since 1970, UTC. A producer that sets no timestamp sends 0
    /// (Jakarta Messaging 3.1, 3.4.4), and a clock that nobody has set begins in 1970. So a time before 2000 is unknown.
    pub fn sent(&self) -> Option<i64> {
        const FIRST: i64 = 946_684_800_000;
        self.timestamp.filter(|sent| *sent >= FIRST)
    }
}

/// Why a source could not read a body: its kind is never interpreted, or it is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body can't be read: {0}")]
pub struct UnreadableBodyError(pub Box<str>);

/// Why an event goes to no sink and becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// There is no readable body to find a key in.
    #[error(transparent)]
    Body(#[from] UnreadableBodyError),
    /// The body has no usable key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl EventError {
    /// A short fixed word for metrics and dead letters.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Body(_) => "unreadable_body",
            Self::Key(defect) => defect.reason(),
        }
    }
}

/// The headers of a message in the form in which its protocol wrote them. They are decoded only on demand.
#[derive(Clone)]
pub struct Headers {
    raw: Bytes,
    decode: fn(&[u8]) -> Vec<(String, String)>,
}

impl Headers {
    /// Keeps `raw` as it is; `decode` turns it into names and values on demand.
    pub fn new(raw: Bytes, decode: fn(&[u8]) -> Vec<(String, String)>) -> Self {
        Self { raw, decode }
    }

    /// Headers without any name or value.
    pub fn empty() -> Self {
        Self { raw: Bytes::new(), decode: |_| Vec::new() }
    }

    /// Returns names and values in the order of the wire. Allocates: do not call it for every event.
    pub fn decode(&self) -> Vec<(String, String)> {
        (self.decode)(&self.raw)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.decode()).finish()
    }
}

/// A message with its key. An event without a usable key carries the defect, goes to no sink, and becomes a
/// dead letter.
#[derive(Clone, Debug)]
pub struct Event {
    /// The message that the event was made from.
    pub message: Message,
    /// The MD5 in the body. For an event with a defect it is the MD5 *of* the body.
    pub key: Key,
    /// Why the event has no usable key, if it has none.
    pub defect: Option<EventError>,
    /// True if the whole body was read as one JSON value in UTF-8. `false` proves nothing.
    pub is_json: bool,
}

impl Event {
    /// Finds the key as `keying` says. It does not search a body that can't be read.
    pub fn new(message: Message, keying: &Keying) -> Self {
        let (key, is_json) = match &message.unreadable {
            Some(unreadable) => (Err(EventError::Body(unreadable.clone())), false),
            None => {
                let KeyReading { key, is_json } = keying.read(&message.body);
                (key.map_err(EventError::Key), is_json)
            }
        };
        match key {
            Ok(key) => Self { message, key, defect: None, is_json },
            Err(defect) => Self { key: Key::digest(&message.body), message, defect: Some(defect), is_json },
        }
    }

    /// The body, byte for byte as the broker sent it.
    pub fn body(&self) -> &Bytes {
        &self.message.body
    }

    /// The broker's message id as text. Ids are ASCII; any other byte is replaced.
    pub fn message_id(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.message.id)
    }

    /// The broker's message id for a log: one line, escaped and cut.
    pub fn shown_id(&self) -> String {
        one_line(&self.message_id()).into_owned()
    }
}

/// Consecutive events of one session, in broker order, shared by all sink workers.
#[derive(Debug)]
pub struct Batch {
    /// The session that all events of the batch came from.
    pub session: SessionId,
    /// The position of the first event in its session, from 1, counting every event (I2).
    pub first: u64,
    /// The events. The n-th one, from 0, has the position `first + n`.
    pub events: Vec<Event>,
    /// When the bridge read the events from the socket.
    pub received: Instant,
}

impl Batch {
    /// Returns a handle on every event, in broker order.
    pub fn refs(self: &Arc<Self>) -> impl Iterator<Item = EventRef> + '_ {
        (0..self.events.len()).map(|index| EventRef { batch: Arc::clone(self), index })
    }
}

/// A cheap handle on one event of a shared batch. It keeps the whole batch alive.
#[derive(Clone)]
pub struct EventRef {
    batch: Arc<Batch>,
    index: usize,
}

impl EventRef {
    /// The session that the event came from.
    pub fn session(&self) -> SessionId {
        self.batch.session
    }

    /// The event's position in its session, from 1.
    pub fn position(&self) -> u64 {
        self.batch.first + self.index as u64
    }

    /// When the bridge read the event from the socket.
    pub fn received(&self) -> Instant {
        self.batch.received
    }

    /// When the event was sent and received.
    pub fn times(&self) -> EventTimes {
        EventTimes { received: self.received(), sent: self.message.sent() }
    }
}

/// When an event was sent and received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTimes {
    /// When the bridge received it.
    pub received: Instant,
    /// When the producer sent it ([`Message::sent`]).
    pub sent: Option<i64>,
}

impl Deref for EventRef {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.batch.events[self.index]
    }
}

impl fmt::Debug for EventRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{} {}", self.session(), self.position(), self.shown_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &'static str, body: &'static str) -> Message {
        Message {
            id: id.into(),
            body: body.into(),
            timestamp: None,
            redelivered: false,
            headers: Headers::empty(),
            unreadable: None,
        }
    }

    #[test]
    fn an_id_with_a_line_feed_begins_no_line_of_the_log() {
        let message = message("ID:1\n2026 ERROR forged", "");
        let event = Event::new(message, &Keying::new(Vec::new(), true));
        assert_eq!(event.shown_id(), "ID:1\\n2026 ERROR forged");
        assert_eq!(event.message_id(), "ID:1\n2026 ERROR forged", "dead letters and sinks have it as it is");
    }

    /// Not even if any body may be keyed by its own MD5: a sink can't use a body that can't be read.
    #[test]
    fn no_key_is_looked_for_in_a_body_that_cannot_be_read() {
        let mut message = message("ID:1", "0123456789abcdef0123456789abcdef");
        let keying = Keying::new(Vec::new(), true);
        assert_eq!(Event::new(message.clone(), &keying).defect, None);
        message.unreadable = Some(UnreadableBodyError("it is a map".into()));
        let defect = Event::new(message, &keying).defect.unwrap();
        let told = (defect.reason(), defect.to_string());
        assert_eq!(told, ("unreadable_body", "the body can't be read: it is a map".to_owned()));
    }
}
