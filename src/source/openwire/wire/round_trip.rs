//! Tests that every command, once written, reads back the same, and that any bytes can be read without harm.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::ack::{AckType, MessageAck};
use super::body::body;
use super::command::{Command, Received, decode};
use super::control::{ConsumerControl, Thrown};
use super::framing::{OpenWireDecoder, OpenWireFrame, OpenWireLimits};
use super::headers::decode_headers;
use super::ids::{ConsumerId, Destination, DestinationKind, MessageId, ProducerId};
use super::info::{ConnectionInfo, ConsumerInfo, RemoveInfo, Removed, SessionInfo};
use super::message::{Dispatch, MessageKind, WireMessage};
use super::properties::{self, Value};
use super::wire_format::WireFormatInfo;
use crate::budget::Budget;
use crate::secret::Secret;

/// Text as it may come: any bytes.
fn text() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn string() -> impl Strategy<Value = Option<String>> {
    option::of("\\PC{0,8}|[\u{0}\u{1F600}a]{1,4}")
}

fn destination() -> impl Strategy<Value = Destination> {
    let kind = prop_oneof![
        Just(DestinationKind::Queue),
        Just(DestinationKind::Topic),
        Just(DestinationKind::TempQueue),
        Just(DestinationKind::TempTopic),
    ];
    (kind, text()).prop_map(|(kind, name)| Destination { kind, name })
}

fn consumer() -> impl Strategy<Value = ConsumerId> {
    (text(), any::<i64>(), any::<i64>()).prop_map(|(connection, session, value)| ConsumerId {
        connection,
        session,
        value,
    })
}

fn producer() -> impl Strategy<Value = ProducerId> {
    (text(), any::<i64>(), any::<i64>()).prop_map(|(connection, session, value)| ProducerId {
        connection,
        session,
        value,
    })
}

fn message_id() -> impl Strategy<Value = MessageId> {
    (option::of(text()), producer(), any::<i64>(), any::<i64>()).prop_map(
        |(text_view, producer, producer_sequence, broker_sequence)| MessageId {
            text_view,
            producer,
            producer_sequence,
            broker_sequence,
        },
    )
}

fn session() -> impl Strategy<Value = SessionInfo> {
    (text(), any::<i64>()).prop_map(|(connection, value)| SessionInfo { connection, value })
}

fn message() -> BoxedStrategy<WireMessage> {
    let places = (option::of(destination()), option::of(destination()), option::of(destination()));
    let texts = (option::of(text()), option::of(text()), option::of(text()), option::of(text()));
    let numbers = (any::<i32>(), any::<i64>(), any::<u8>(), any::<i64>(), any::<i32>(), any::<i64>());
    let content = (option::of(text()), option::of(text()), any::<bool>(), any::<bool>());
    (23u8..=29, message_id(), places, texts, numbers, content)
        .prop_map(|(kind, id, places, texts, numbers, content)| WireMessage {
            destination: places.0,
            original_destination: places.1,
            reply_to: places.2,
            group_id: texts.0,
            correlation_id: texts.1,
            message_type: texts.2,
            user_id: texts.3,
            group_sequence: numbers.0,
            expiration: numbers.1,
            priority: numbers.2,
            timestamp: numbers.3,
            redelivery_counter: numbers.4,
            broker_in_time: numbers.5,
            content: content.0,
            properties: content.1,
            persistent: content.2,
            compressed: content.3,
            ..WireMessage::new(MessageKind::of(kind).unwrap(), id)
        })
        .boxed()
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::Byte),
        any::<u16>().prop_map(Value::Char),
        any::<i16>().prop_map(Value::Short),
        any::<i32>().prop_map(Value::Int),
        any::<i64>().prop_map(Value::Long),
        any::<f64>().prop_map(Value::Double),
        any::<f32>().prop_map(Value::Float),
        any::<String>().prop_map(Value::Text),
        text().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            vec((any::<String>(), inner.clone()), 0..4).prop_map(Value::Map),
            vec(inner, 0..4).prop_map(Value::List),
        ]
    })
}

fn thrown() -> impl Strategy<Value = Thrown> {
    ("[a-z.A-Z]{0,20}", "\\PC{0,20}").prop_map(|(class, message)| Thrown { class, message })
}

// Boxed: the values of all commands together are too large for the stack of an unoptimised test.
fn setting_up() -> BoxedStrategy<Command> {
    let connection =
        (text(), string(), string(), string()).prop_map(|(connection, client_id, password, user_name)| {
            let password = password.map(Secret::new);
            Command::ConnectionInfo(ConnectionInfo { connection, client_id, password, user_name })
        });
    let flags = (any::<bool>(), any::<bool>());
    let subscribing = (consumer(), destination(), any::<i32>(), any::<u8>(), string(), flags).prop_map(
        |(consumer, destination, prefetch, priority, selector, (browser, exclusive))| {
            let consumer = ConsumerInfo::new(consumer, destination, prefetch);
            Command::ConsumerInfo(ConsumerInfo { selector, priority, browser, exclusive, ..consumer })
        },
    );
    let offer = (any::<i32>(), vec(("[A-Za-z]{0,9}", value()), 0..5))
        .prop_map(|(version, properties)| WireFormatInfo { version, properties });
    prop_oneof![
        connection,
        subscribing,
        offer.prop_map(Command::WireFormatInfo),
        session().prop_map(Command::SessionInfo),
    ]
    .boxed()
}

fn steering() -> BoxedStrategy<Command> {
    let consumer_control =
        (any::<bool>(), option::of(consumer()), any::<i32>()).prop_map(|(close, consumer, prefetch)| {
            Command::ConsumerControl(ConsumerControl { close, consumer, prefetch })
        });
    let removed = prop_oneof![
        text().prop_map(Removed::Connection),
        session().prop_map(Removed::Session),
        consumer().prop_map(Removed::Consumer),
        producer().prop_map(Removed::Producer),
    ];
    prop_oneof![
        Just(Command::KeepAliveInfo),
        Just(Command::ShutdownInfo),
        consumer_control,
        (removed, any::<i64>()).prop_map(|(object, last_delivered)| {
            Command::RemoveInfo(RemoveInfo { object, last_delivered })
        }),
        any::<i32>().prop_map(|correlation_id| Command::Response { correlation_id }),
        (any::<i32>(), thrown())
            .prop_map(|(correlation_id, exception)| Command::ExceptionResponse { correlation_id, exception }),
        thrown().prop_map(|exception| Command::ConnectionError { exception }),
        prop_oneof![Just(7), Just(8), Just(9), Just(15), Just(90)].prop_map(Command::Other),
    ]
    .boxed()
}

fn messaging() -> BoxedStrategy<Command> {
    let dispatch = (consumer(), option::of(destination()), option::of(message()), any::<i32>()).prop_map(
        |(consumer, destination, message, redelivery_counter)| {
            Command::MessageDispatch(Dispatch { consumer, destination, message, redelivery_counter })
        },
    );
    let kind = prop_oneof![
        Just(AckType::Delivered),
        Just(AckType::Poison),
        Just(AckType::Standard),
        Just(AckType::Redelivered),
        Just(AckType::Individual),
        Just(AckType::Unmatched),
        Just(AckType::Expired),
    ];
    let ids = (option::of(message_id()), message_id());
    let ack = (destination(), consumer(), kind, ids, any::<i32>()).prop_map(
        |(destination, consumer, kind, (first, last), count)| {
            let first = first.as_ref().map(MessageId::to_raw);
            Command::MessageAck(MessageAck { destination, consumer, kind, first, last: last.to_raw(), count })
        },
    );
    prop_oneof![dispatch, ack, message().prop_map(Command::Message)].boxed()
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![setting_up(), steering(), messaging()]
}

fn frames(wire: &[u8]) -> Vec<OpenWireFrame> {
    let mut decoder = OpenWireDecoder::new(OpenWireLimits::with_body(1 << 20), Budget::new(1 << 30));
    decoder.buffer().extend_from_slice(wire);
    let mut frames = Vec::new();
    decoder.decode(&mut frames).unwrap();
    frames
}

/// NaN is not equal to itself, so values that print the same count as equal.
fn same(one: &Received, other: &Received) -> bool {
    one == other || format!("{one:?}") == format!("{other:?}")
}

proptest! {
    #[test]
    fn what_is_written_is_read(command in command(), command_id in any::<i32>(), response_required: bool) {
        let mut wire = Vec::new();
        command.encode(command_id, response_required, &mut wire);
        let frames = frames(&wire);
        prop_assert_eq!(frames.len(), 1);
        let received = decode(&frames[0]).unwrap();
        let numbered = !matches!(command, Command::WireFormatInfo(_));
        let expected = Received {
            command_id: if numbered { command_id } else { 0 },
            response_required: numbered && response_required,
            command,
        };
        prop_assert!(same(&received, &expected), "{received:?}\n{expected:?}");
    }

    #[test]
    fn a_frame_is_read_to_its_last_byte(command in command(), more in any::<u8>(), less: prop::sample::Index) {
        let mut wire = Vec::new();
        command.encode(1, false, &mut wire);
        let frame = frames(&wire).remove(0);
        let tell = |fields: Bytes| decode(&OpenWireFrame { kind: frame.kind, fields });
        let mut longer = frame.fields.to_vec();
        longer.push(more);
        let shorter = frame.fields.slice(..less.index(frame.fields.len()));
        for fields in [longer.into(), shorter] {
            match tell(fields) {
                Err(_) => {}
                Ok(Received { command: Command::MessageDispatch(dispatch), .. }) => {
                    prop_assert!(dispatch.message.unwrap().unreadable.is_some());
                }
                Ok(Received { command: Command::Other(_), .. }) => {}
                Ok(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn an_unreadable_message_can_still_be_acknowledged(
        message in message(), cut in any::<prop::sample::Index>(), consumer in consumer(),
    ) {
        let (raw_id, id) = (message.raw_id.clone(), message.id.clone());
        let command = Command::MessageDispatch(Dispatch {
            consumer, destination: None, message: Some(message), redelivery_counter: 0,
        });
        let mut wire = Vec::new();
        command.encode(1, false, &mut wire);
        let fields = frames(&wire).remove(0).fields;
        let id_ends = fields.windows(raw_id.len()).position(|window| window == raw_id).unwrap() + raw_id.len();
        let cut = id_ends + cut.index(fields.len() - id_ends);
        let fields = fields.slice(..cut);
        let received = decode(&OpenWireFrame { kind: 21, fields: fields.clone() }).unwrap();
        let Command::MessageDispatch(Dispatch { message: Some(message), .. }) = received.command else {
            return Err(TestCaseError::fail("a dispatch"));
        };
        prop_assert_eq!((&message.raw_id, &message.id), (&raw_id, &id));
        prop_assert!(message.unreadable.is_some());
        prop_assert_eq!(message.content.as_ref(), Some(&fields));
        prop_assert!(body(&message, 100, &Budget::new(1)).is_err());
        prop_assert!(!decode_headers(&fields).is_empty());
    }

    #[test]
    fn properties_of_any_type_come_back(properties in vec((any::<String>(), value()), 0..6)) {
        let read = properties::decode(&properties::encode(&properties)).unwrap();
        prop_assert_eq!(format!("{read:?}"), format!("{properties:?}"));
    }

    #[test]
    fn any_bytes_do_no_harm(kind in any::<u8>(), fields in vec(any::<u8>(), 0..300)) {
        let fields = Bytes::from(fields);
        decode_headers(&fields);
        if let Ok(Received { command: Command::MessageDispatch(dispatch), .. }) =
            decode(&OpenWireFrame { kind, fields })
            && let Some(message) = dispatch.message
        {
            let limit = 1000;
            let size = body(&message, limit, &Budget::new(1)).map_or(0, |body| body.bytes.len());
            prop_assert!(size <= limit);
        }
    }

    #[test]
    fn a_byte_changed_anywhere_does_no_harm(
        command in command(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut wire = Vec::new();
        command.encode(1, false, &mut wire);
        let frame = frames(&wire).remove(0);
        let mut fields = frame.fields.to_vec();
        if !fields.is_empty() {
            let at = at.index(fields.len());
            fields[at] = byte;
        }
        let fields = Bytes::from(fields);
        decode_headers(&fields);
        if let Ok(received) = decode(&OpenWireFrame { kind: frame.kind, fields }) {
            let mut again = Vec::new();
            received.command.encode(received.command_id, received.response_required, &mut again);
            prop_assert_eq!(frames(&again).len(), 1);
        }
    }
}
