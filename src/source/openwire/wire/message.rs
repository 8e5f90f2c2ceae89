//! Reads and writes messages and their dispatches (`protocols.md §3.5`).

use bytes::Bytes;

use super::ids::{ConsumerId, Destination, MessageId, ProducerId, skip_brokers, skip_transaction};
use super::primitives::{FieldError, FieldReader, FieldWriter};

/// The type of a message's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageKind {
    /// A message that has no body.
    #[default]
    Bare,
    Bytes,
    Map,
    Object,
    Stream,
    Text,
    Blob,
}

const KINDS: [(MessageKind, u8); 7] = [
    (MessageKind::Bare, 23),
    (MessageKind::Bytes, 24),
    (MessageKind::Map, 25),
    (MessageKind::Object, 26),
    (MessageKind::Stream, 27),
    (MessageKind::Text, 28),
    (MessageKind::Blob, 29),
];

impl MessageKind {
    /// Returns the kind of message that a type stands for.
    pub fn of(id: u8) -> Option<Self> {
        KINDS.iter().find(|(_, known)| *known == id).map(|(kind, _)| *kind)
    }

    /// Returns the type that stands for this kind.
    pub fn id(self) -> u8 {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, id)| *id)
    }
}

/// A message that the broker sends to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    pub consumer: ConsumerId,
    /// The destination that it consumes; `None` with a pull that found nothing.
    pub destination: Option<Destination>,
    /// The message; `None` at the end of browsing, or when a pull found nothing.
    pub message: Option<WireMessage>,
    /// How often the message was dispatched before.
    pub redelivery_counter: i32,
}

impl Dispatch {
    /// Once the id of the message is known, an error in the rest is stored in the message. Such a message can
    /// still be acknowledged and kept as it is.
    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        let (consumer, destination, kind) = Self::read_beginning(reader)?;
        let Some(kind) = kind else {
            let redelivery_counter = reader.int()?;
            reader.end()?;
            return Ok(Self { consumer, destination, message: None, redelivery_counter });
        };
        let mut message = WireMessage::read_id(kind, reader)?;
        let rest = message.read_rest(reader).and_then(|()| {
            let redelivery_counter = reader.int()?;
            reader.end().map(|()| redelivery_counter)
        });
        let redelivery_counter = rest.unwrap_or_else(|fault| {
            message.unreadable = Some(fault);
            message.content = Some(reader.frame());
            message.redelivery_counter
        });
        Ok(Self { consumer, destination, message: Some(message), redelivery_counter })
    }

    fn read_beginning(
        reader: &mut FieldReader<'_>,
    ) -> Result<(ConsumerId, Option<Destination>, Option<MessageKind>), FieldError> {
        let consumer = ConsumerId::read(reader)?.ok_or("it names no consumer")?;
        let destination = Destination::read(reader)?;
        let kind = match reader.object()? {
            None => None,
            Some(id) => Some(MessageKind::of(id).ok_or("its message is of an unknown type")?),
        };
        Ok((consumer, destination, kind))
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        ConsumerId::write(Some(&self.consumer), writer);
        Destination::write(self.destination.as_ref(), writer);
        match &self.message {
            Some(message) => {
                writer.object(message.kind.id());
                // The producer's own command number and flag, which are not used here.
                writer.int(0);
                writer.bool(false);
                message.write(writer);
            }
            None => writer.null(),
        }
        writer.int(self.redelivery_counter);
    }
}

/// A message. Its texts and bytes are slices of the frame, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireMessage {
    pub kind: MessageKind,
    pub id: MessageId,
    /// The id exactly as it was received, sent back in acknowledgements.
    pub raw_id: Bytes,
    pub destination: Option<Destination>,
    /// The topic to which a queue's copy was published.
    pub original_destination: Option<Destination>,
    pub group_id: Option<Bytes>,
    pub group_sequence: i32,
    pub correlation_id: Option<Bytes>,
    pub persistent: bool,
    /// Milliseconds since 1970, UTC; 0 for never.
    pub expiration: i64,
    pub priority: u8,
    pub reply_to: Option<Destination>,
    /// When the producer sent it: milliseconds since 1970, UTC; 0 if it does not say.
    pub timestamp: i64,
    pub message_type: Option<Bytes>,
    /// The body as it is on the wire ([`super::body`]); for an unreadable message the whole frame.
    pub content: Option<Bytes>,
    /// A map of properties, still encoded ([`super::properties::decode`]).
    pub properties: Option<Bytes>,
    pub compressed: bool,
    pub redelivery_counter: i32,
    pub user_id: Option<Bytes>,
    /// When the broker received it: milliseconds since 1970, UTC.
    pub broker_in_time: i64,
    /// The reason why the bytes after the id could not be read, if so.
    pub unreadable: Option<FieldError>,
}

impl WireMessage {
    /// Makes a message that has only an id.
    pub fn new(kind: MessageKind, id: MessageId) -> Self {
        let raw_id = id.to_raw();
        Self::with_id(kind, id, raw_id)
    }

    fn with_id(kind: MessageKind, id: MessageId, raw_id: Bytes) -> Self {
        Self { kind, id, raw_id, priority: 4, ..Self::default() }
    }

    /// Reads a message inside another command, from its own command id on.
    fn read_id(kind: MessageKind, reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        reader.int()?;
        reader.bool()?;
        Self::read_to_id(kind, reader)
    }

    fn read_to_id(kind: MessageKind, reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        ProducerId::skip(reader)?;
        let destination = Destination::read(reader)?;
        skip_transaction(reader)?;
        let original_destination = Destination::read(reader)?;
        let start = reader.position();
        let id = MessageId::read(reader)?.ok_or("its message has no id")?;
        let raw_id = reader.since(start);
        Ok(Self { destination, original_destination, ..Self::with_id(kind, id, raw_id) })
    }

    /// Reads a message that is a command of its own.
    pub(super) fn read(kind: MessageKind, reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        let mut message = Self::read_to_id(kind, reader)?;
        message.read_rest(reader).map(|()| message)
    }

    fn read_to_content(&mut self, reader: &mut FieldReader<'_>) -> Result<(), FieldError> {
        skip_transaction(reader)?;
        self.group_id = reader.text()?;
        self.group_sequence = reader.int()?;
        self.correlation_id = reader.text()?;
        self.persistent = reader.bool()?;
        self.expiration = reader.long()?;
        self.priority = reader.byte()?;
        self.reply_to = Destination::read(reader)?;
        self.timestamp = reader.long()?;
        self.message_type = reader.text()?;
        Ok(())
    }

    fn read_rest(&mut self, reader: &mut FieldReader<'_>) -> Result<(), FieldError> {
        self.read_to_content(reader)?;
        self.content = reader.bytes()?;
        self.properties = reader.bytes()?;
        if reader.object()?.is_some() {
            return Err("its message has an object attached");
        }
        ConsumerId::skip(reader)?;
        self.compressed = reader.bool()?;
        self.redelivery_counter = reader.int()?;
        skip_brokers(reader)?;
        let _arrival = reader.long()?;
        self.user_id = reader.text()?;
        let _through_network = (reader.bool()?, reader.bool()?);
        skip_brokers(reader)?;
        self.broker_in_time = reader.long()?;
        let _broker_out_time = reader.long()?;
        let _first_of_group = reader.bool()?;
        if self.kind == MessageKind::Blob {
            let _url_and_type = (reader.skip_text()?, reader.skip_text()?);
            let _deleted = reader.bool()?;
        }
        Ok(())
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        self.id.producer.write(writer);
        Destination::write(self.destination.as_ref(), writer);
        writer.null(); // transactionId
        Destination::write(self.original_destination.as_ref(), writer);
        self.id.write(writer);
        writer.null(); // originalTransactionId
        writer.text(self.group_id.as_deref());
        writer.int(self.group_sequence);
        writer.text(self.correlation_id.as_deref());
        writer.bool(self.persistent);
        writer.long(self.expiration);
        writer.byte(self.priority);
        Destination::write(self.reply_to.as_ref(), writer);
        writer.long(self.timestamp);
        writer.text(self.message_type.as_deref());
        writer.bytes(self.content.as_deref());
        writer.bytes(self.properties.as_deref());
        writer.null(); // dataStructure
        writer.null(); // targetConsumerId
        writer.bool(self.compressed);
        writer.int(self.redelivery_counter);
        writer.null(); // brokerPath
        writer.long(0); // arrival
        writer.text(self.user_id.as_deref());
        writer.bool(false); // recievedByDFBridge
        writer.bool(false); // droppable
        writer.null(); // cluster
        writer.long(self.broker_in_time);
        writer.long(0); // brokerOutTime
        writer.bool(false); // JMSXGroupFirstForConsumer
        if self.kind == MessageKind::Blob {
            writer.null(); // remoteBlobUrl
            writer.null(); // mimeType
            writer.bool(false); // deletedByBroker
        }
    }
}

/// Reads the id of the message from the beginning of a dispatch, and the size of its body if the beginning
/// reaches that far.
pub(super) fn beginning(fields: &Bytes) -> Option<(MessageId, Option<usize>)> {
    let mut reader = FieldReader::new(fields);
    let mut read_message = || {
        reader.int()?;
        reader.bool()?;
        let (_, _, kind) = Dispatch::read_beginning(&mut reader)?;
        WireMessage::read_id(kind.ok_or("it has no message")?, &mut reader)
    };
    let mut message = read_message().ok()?;
    let mut read_size = || {
        message.read_to_content(&mut reader)?;
        if reader.bool()? { reader.length() } else { Ok(0) }
    };
    let size = read_size().ok();
    Some((message.id, size))
}
