//! Decodes everything in a message besides its body as text, for people and dead letters.

use bytes::Bytes;

use super::ids::Destination;
use super::message::{Dispatch, WireMessage};
use super::primitives::FieldReader;
use super::properties;
use crate::source::protocol::java_text::java_text;

/// Returns the headers and properties of a MessageDispatch, given the fields of its frame. Headers have the
/// names that STOMP gives them, and empty ones are left out as in STOMP. Properties keep their own names.
pub fn decode_headers(fields: &[u8]) -> Vec<(String, String)> {
    let fields = Bytes::copy_from_slice(fields);
    let mut reader = FieldReader::new(&fields);
    let numbers = reader.int().and_then(|_| reader.bool());
    match numbers.and_then(|_| Dispatch::read(&mut reader)) {
        Ok(Dispatch { message: Some(message), .. }) => headers_of(&message),
        _ => Vec::new(),
    }
}

fn headers_of(message: &WireMessage) -> Vec<(String, String)> {
    let text = |text: &Option<Bytes>| text.as_ref().map(|text| java_text(text).into_owned());
    let place = |place: &Option<Destination>| {
        place.as_ref().map(|place| format!("{}{}", place.prefix(), java_text(&place.name)))
    };
    let group_sequence = message.group_id.as_ref().map(|_| message.group_sequence.to_string());
    let counter = message.redelivery_counter;
    let redelivered = counter > 0;
    let headers = [
        ("message-id", Some(message.id.text())),
        ("destination", place(&message.destination)),
        ("original-destination", place(&message.original_destination)),
        ("timestamp", Some(message.timestamp.to_string())),
        ("expires", Some(message.expiration.to_string())),
        ("priority", Some(message.priority.to_string())),
        ("persistent", message.persistent.then(|| "true".to_owned())),
        ("redelivered", redelivered.then(|| "true".to_owned())),
        ("correlation-id", text(&message.correlation_id)),
        ("reply-to", place(&message.reply_to)),
        ("type", text(&message.message_type)),
        ("JMSXUserID", text(&message.user_id)),
        ("JMSXGroupID", text(&message.group_id)),
        ("JMSXGroupSeq", group_sequence),
        ("JMSXDeliveryCount", redelivered.then(|| counter.saturating_add(1).to_string())),
    ];
    let properties =
        message.properties.as_ref().and_then(|raw| properties::decode(raw).ok()).unwrap_or_default();
    headers
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .chain(properties.into_iter().map(|(name, value)| (name, value.to_string())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::command::Command;
    use super::super::ids::{ConsumerId, MessageId, ProducerId};
    use super::super::message::MessageKind;
    use super::super::properties::Value;
    use super::*;

    fn headers(message: WireMessage) -> Vec<(String, String)> {
        let dispatch = Dispatch {
            consumer: ConsumerId::default(),
            destination: Some(Destination::queue("q")),
            redelivery_counter: message.redelivery_counter,
            message: Some(message),
        };
        let mut wire = Vec::new();
        Command::MessageDispatch(dispatch).encode(0, false, &mut wire);
        decode_headers(&wire[5..])
    }

    fn id() -> MessageId {
        let producer = ProducerId { connection: "ID:host-1".into(), session: 1, value: 2 };
        MessageId { text_view: None, producer, producer_sequence: 3, broker_sequence: 4 }
    }

    #[test]
    fn headers_have_the_names_of_stomp_and_properties_their_own() {
        let mut message = WireMessage::new(MessageKind::Text, id());
        message.destination = Some(Destination::queue("d1.RTO.acme"));
        message.timestamp = 1_700_000_000_000;
        message.redelivery_counter = 2;
        message.persistent = true;
        message.group_id = Some("g".into());
        message.group_sequence = 5;
        message.properties = Some(properties::encode(&[
            ("timestamp".to_owned(), Value::Long(7)),
            ("caf\u{e9}".to_owned(), Value::Text("\u{1F600}".to_owned())),
        ]));
        let headers = headers(message);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("message-id", "ID:host-1:1:2:3"),
            ("destination", "/queue/d1.RTO.acme"),
            ("timestamp", "1700000000000"),
            ("expires", "0"),
            ("priority", "4"),
            ("persistent", "true"),
            ("redelivered", "true"),
            ("JMSXGroupID", "g"),
            ("JMSXGroupSeq", "5"),
            ("JMSXDeliveryCount", "3"),
            ("timestamp", "7"),
            ("caf\u{e9}", "\u{1F600}"),
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn what_can_not_be_read_is_left_out() {
        let mut message = WireMessage::new(MessageKind::Text, id());
        message.properties = Some("no map".into());
        let headers = headers(message);
        assert_eq!(headers[0], ("message-id".to_owned(), "ID:host-1:1:2:3".to_owned()));
        assert_eq!(decode_headers(b"no dispatch"), vec![]);
    }
}
