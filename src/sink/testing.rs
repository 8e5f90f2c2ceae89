//! Makes messages, events and deliveries for unit tests.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Delivery, DeliveryId};
use crate::event::{Batch, Event, Headers, Message, SessionId};
use crate::key::Keying;

/// Makes a message with the id `ID:<number>`, without headers and timestamp.
pub(crate) fn message(number: u64, body: impl Into<Bytes>) -> Message {
    Message {
        id: Bytes::from(format!("ID:{number}")),
        body: body.into(),
        timestamp: None,
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    }
}

/// Makes an event of a message whose key is the body itself, or is at `/md5` in it.
pub(crate) fn event(number: u64, body: impl Into<Bytes>) -> Event {
    Event::new(message(number, body), &Keying::new(vec!["/md5".to_owned()], false))
}

/// Makes deliveries of the events of one batch; their ids begin at 0.
pub(crate) fn deliveries(events: impl IntoIterator<Item = Event>) -> Vec<Delivery> {
    let events = events.into_iter().collect();
    let batch = Arc::new(Batch { session: SessionId(1), first: 1, events, received: Instant::now() });
    (0..).zip(batch.refs()).map(|(id, event)| Delivery { id: DeliveryId(id), event }).collect()
}
