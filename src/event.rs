//! What travels through the bridge: a [`Message`] as a source read it, the [`Event`] made of it, and
//! the [`Batch`] of events that every lane shares.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::key::{Key, KeyDefect, Keying};

/// Numbers the sessions of one source, from 1; a later session voids the acks of an earlier one (I2).
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
    /// The broker's message id, unescaped; the same across redeliveries and mirrored copies.
    pub id: Bytes,
    /// The body, byte for byte as the broker sent it.
    pub body: Bytes,
    /// When the producer sent it: milliseconds since 1970, UTC.
    pub timestamp: Option<i64>,
    /// Whether the broker marked it as delivered before (neither necessary nor sufficient, D7).
    pub redelivered: bool,
    /// All headers as the protocol wrote them, decoded only for dead letters.
    pub headers: Headers,
}

/// The headers of a message in the form its protocol wrote them; decoding is left to who needs them.
#[derive(Clone)]
pub struct Headers {
    raw: Bytes,
    decode: fn(&[u8]) -> Vec<(String, String)>,
}

impl Headers {
    /// Keeps `raw` as it is; `decode` turns it into names and values when somebody asks.
    pub fn new(raw: Bytes, decode: fn(&[u8]) -> Vec<(String, String)>) -> Self {
        Self { raw, decode }
    }

    /// No headers at all.
    pub fn empty() -> Self {
        Self { raw: Bytes::new(), decode: |_| Vec::new() }
    }

    /// Names and values in the order of the wire. Allocates: not for the per-event path.
    pub fn decode(&self) -> Vec<(String, String)> {
        (self.decode)(&self.raw)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.decode()).finish()
    }
}

/// A message with its key. An event whose key is unusable carries the defect, goes to no sink, and
/// ends in the dead letters.
#[derive(Clone, Debug)]
pub struct Event {
    /// The message it was made of.
    pub message: Message,
    /// The MD5 in the body; for an event with a defect the MD5 *of* the body.
    pub key: Key,
    /// Why the key is unusable, if it is.
    pub defect: Option<KeyDefect>,
}

impl Event {
    /// Looks for the key as `keying` says.
    pub fn new(message: Message, keying: &Keying) -> Self {
        match keying.key_of(&message.body) {
            Ok(key) => Self { message, key, defect: None },
            Err(defect) => Self { key: Key::digest(&message.body), message, defect: Some(defect) },
        }
    }

    /// The body as the broker sent it.
    pub fn body(&self) -> &Bytes {
        &self.message.body
    }

    /// The broker's message id as text. Ids are ASCII; anything else is shown lossily.
    pub fn message_id(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.message.id)
    }
}

/// Consecutive events of one session, in broker order, shared by all lanes.
#[derive(Debug)]
pub struct Batch {
    /// The session they came from.
    pub session: SessionId,
    /// The position of the first event in its session, from 1, counting every event (I2).
    pub first: u64,
    /// The events; the n-th stands at position `first + n`.
    pub events: Vec<Event>,
    /// When the bridge read them from the socket.
    pub received: Instant,
}

impl Batch {
    /// A handle on every event, in broker order.
    pub fn refs(self: &Arc<Self>) -> impl Iterator<Item = EventRef> + '_ {
        (0..self.events.len()).map(|index| EventRef { batch: Arc::clone(self), index })
    }
}

/// A cheap handle on one event of a shared batch; keeps the batch alive.
#[derive(Clone)]
pub struct EventRef {
    batch: Arc<Batch>,
    index: usize,
}

impl EventRef {
    /// The session the event came from.
    pub fn session(&self) -> SessionId {
        self.batch.session
    }

    /// Its position in that session, from 1.
    pub fn position(&self) -> u64 {
        self.batch.first + self.index as u64
    }

    /// When the bridge read it from the socket.
    pub fn received(&self) -> Instant {
        self.batch.received
    }
}

impl Deref for EventRef {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.batch.events[self.index]
    }
}

impl fmt::Debug for EventRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{} {}", self.session(), self.position(), self.message_id())
    }
}
