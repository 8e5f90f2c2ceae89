//! Writes the headers that every sink with headers adds to a body, and defines their names (D6). Consumers
//! rely on the names, so they never change.

use std::io::{Cursor, Write as _};

use super::SinkContext;
use crate::event::Event;

/// The broker's message id: the same in every redelivery and in every mirrored copy of an event (D7).
pub const MESSAGE_ID: &str = "atdata-message-id";
/// The name of the queue that the event came from.
pub const DESTINATION: &str = "atdata-destination";
/// When AtData published the event, by the clock of its broker: milliseconds since 1970, UTC. Missing if the
/// broker gave no time.
pub const TIMESTAMP: &str = "atdata-timestamp";
/// `true` or `false`: whether the broker has delivered the event before.
pub const REDELIVERED: &str = "atdata-redelivered";
/// The connection id of the bridge that mirrored the event.
pub const CONNECTION_ID: &str = "atdata-connection-id";

/// The MD5 as 32 lower-case hex digits. It is for sinks without another fixed place for the key: in NATS the
/// subject contains the key only if its template says so.
pub const KEY: &str = "atdata-key";

/// Calls `header` with each name and value in the order above, except for [`KEY`].
pub fn each<'a>(event: &'a Event, context: &'a SinkContext, mut header: impl FnMut(&'static str, &[u8])) {
    header(MESSAGE_ID, &event.message.id);
    header(DESTINATION, context.queue.as_bytes());
    if let Some(timestamp) = event.message.timestamp {
        // On the stack, because this runs for every event. The longest number, i64::MIN, has 20 characters.
        let mut digits = Cursor::new([0; 20]);
        let _fits = write!(digits, "{timestamp}");
        header(TIMESTAMP, &digits.get_ref()[..digits.position() as usize]);
    }
    header(REDELIVERED, if event.message.redelivered { b"true" } else { b"false" });
    header(CONNECTION_ID, context.connection_id.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing;

    fn headers(timestamp: Option<i64>, redelivered: bool) -> Vec<(&'static str, String)> {
        let mut event = testing::event(7, "0123456789abcdef0123456789abcdef");
        (event.message.timestamp, event.message.redelivered) = (timestamp, redelivered);
        let context = SinkContext {
            connection_id: "b-0".to_owned(),
            queue: "d.RTO.acme".to_owned(),
            ..SinkContext::default()
        };
        let mut headers = Vec::new();
        each(&event, &context, |name, value| {
            headers.push((name, String::from_utf8(value.to_vec()).unwrap()))
        });
        headers
    }

    #[test]
    fn all_that_is_known_travels_along() {
        let all = [
            ("atdata-message-id", "ID:7"),
            ("atdata-destination", "d.RTO.acme"),
            ("atdata-timestamp", "1700000000001"),
            ("atdata-redelivered", "true"),
            ("atdata-connection-id", "b-0"),
        ];
        assert_eq!(headers(Some(1_700_000_000_001), true), all.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(headers(Some(i64::MIN), false)[2].1, i64::MIN.to_string());
        assert!(headers(None, false).iter().all(|(name, _)| *name != TIMESTAMP));
    }
}
