//! Reads and writes destinations and ids (`protocols.md §3.4`). Their texts are slices of the frame, as they
//! came.

use std::io::Write;

use bytes::Bytes;

use super::primitives::{FieldError, FieldReader, FieldWriter};
use super::types;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationKind {
    Queue,
    Topic,
    TempQueue,
    TempTopic,
}

const DESTINATION_KINDS: [(DestinationKind, u8, &str); 4] = [
    (DestinationKind::Queue, 100, "/queue/"),
    (DestinationKind::Topic, 101, "/topic/"),
    (DestinationKind::TempQueue, 102, "/temp-queue/"),
    (DestinationKind::TempTopic, 103, "/temp-topic/"),
];

/// A queue or topic of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub kind: DestinationKind,
    /// Its name alone, without `queue://`.
    pub name: Bytes,
}

impl Destination {
    /// Makes the destination for the queue of this name.
    pub fn queue(name: impl Into<Bytes>) -> Self {
        Self { kind: DestinationKind::Queue, name: name.into() }
    }

    /// Returns STOMP's prefix of the name: `/queue/` and so on.
    pub fn prefix(&self) -> &'static str {
        DESTINATION_KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or("", |(.., prefix)| prefix)
    }

    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Option<Self>, FieldError> {
        let Some(found) = reader.object()? else { return Ok(None) };
        let known = DESTINATION_KINDS.iter().find(|(_, id, _)| *id == found);
        let (kind, ..) = *known.ok_or("a destination is neither queue nor topic")?;
        Ok(Some(Self { kind, name: reader.some_text()? }))
    }

    pub(super) fn write(destination: Option<&Self>, writer: &mut FieldWriter<'_>) {
        let Some(destination) = destination else { return writer.null() };
        let known = DESTINATION_KINDS.iter().find(|(kind, ..)| *kind == destination.kind);
        writer.object(known.map_or(0, |(_, id, _)| *id));
        writer.text(Some(&destination.name));
    }
}

/// Reads the id that a connection has given itself.
pub(super) fn read_connection(reader: &mut FieldReader<'_>) -> Result<Option<Bytes>, FieldError> {
    reader.object_of(types::CONNECTION, FieldReader::some_text)
}

pub(super) fn write_connection(connection: &[u8], writer: &mut FieldWriter<'_>) {
    writer.object(types::CONNECTION);
    writer.text(Some(connection));
}

/// The id of a consumer in a session of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerId {
    pub connection: Bytes,
    /// The session's number in the connection.
    pub session: i64,
    /// The consumer's number in the session.
    pub value: i64,
}

impl ConsumerId {
    pub(super) fn read_fields(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        Ok(Self { connection: reader.some_text()?, session: reader.long()?, value: reader.long()? })
    }

    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Option<Self>, FieldError> {
        reader.object_of(types::CONSUMER, Self::read_fields)
    }

    pub(super) fn skip(reader: &mut FieldReader<'_>) -> Result<(), FieldError> {
        reader.object_of(types::CONSUMER, skip_id_with_two_numbers).map(|_| ())
    }

    pub(super) fn write(consumer: Option<&Self>, writer: &mut FieldWriter<'_>) {
        let Some(Self { connection, session, value }) = consumer else { return writer.null() };
        writer.object(types::CONSUMER);
        writer.text(Some(connection));
        writer.long(*session);
        writer.long(*value);
    }
}

/// The id of a producer in a session of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerId {
    pub connection: Bytes,
    /// The session's number in the connection.
    pub session: i64,
    /// The producer's number in the session.
    pub value: i64,
}

impl ProducerId {
    /// On the wire the value comes before the session, unlike in a consumer's id.
    pub(super) fn read_fields(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        let (connection, value, session) = (reader.some_text()?, reader.long()?, reader.long()?);
        Ok(Self { connection, session, value })
    }

    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Option<Self>, FieldError> {
        reader.object_of(types::PRODUCER, Self::read_fields)
    }

    pub(super) fn skip(reader: &mut FieldReader<'_>) -> Result<(), FieldError> {
        reader.object_of(types::PRODUCER, skip_id_with_two_numbers).map(|_| ())
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        writer.object(types::PRODUCER);
        writer.text(Some(&self.connection));
        writer.long(self.value);
        writer.long(self.session);
    }
}

fn skip_id_with_two_numbers(reader: &mut FieldReader<'_>) -> Result<(), FieldError> {
    reader.skip_text()?;
    reader.take(2 * size_of::<i64>()).map(|_| ())
}

/// The unique id of a message. Brokers treat two ids as equal if producer and producer sequence are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageId {
    /// The id that a client of another protocol (AMQP) gave the message.
    pub text_view: Option<Bytes>,
    pub producer: ProducerId,
    /// The message's number among those of its producer.
    pub producer_sequence: i64,
    /// The broker's number of the message, which `lastDeliveredSequenceId` refers to.
    pub broker_sequence: i64,
}

impl MessageId {
    /// Reads an id as [`MessageId::to_raw`] or a broker writes it.
    ///
    /// # Errors
    /// The bytes are no id, or null.
    pub fn from_raw(raw: &Bytes) -> Result<Self, FieldError> {
        let mut reader = FieldReader::new(raw);
        let id = Self::read(&mut reader)?.ok_or("a message id is missing")?;
        reader.end().map(|()| id)
    }

    /// Encodes the id as it stands in acknowledgements.
    pub fn to_raw(&self) -> Bytes {
        let mut raw = Vec::with_capacity(self.producer.connection.len() + 48);
        self.write(&mut FieldWriter(&mut raw));
        raw.into()
    }

    /// Appends the id as people and other protocols write it,
    /// `ID:host-port-time-n:session:producer:sequence`.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        if let Some(text) = &self.text_view {
            if !text.starts_with(b"ID:") {
                out.extend_from_slice(b"ID:");
            }
            return out.extend_from_slice(text);
        }
        let ProducerId { connection, session, value } = &self.producer;
        out.extend_from_slice(connection);
        // Writing to memory can't fail.
        write!(out, ":{session}:{value}:{}", self.producer_sequence).ok();
    }

    pub(in crate::source::openwire) fn text(&self) -> String {
        let mut text = Vec::new();
        self.write_text(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Option<Self>, FieldError> {
        reader.object_of(types::MESSAGE_ID, |reader| {
            Ok(Self {
                text_view: reader.text()?,
                producer: ProducerId::read(reader)?.ok_or("a message id has no producer")?,
                producer_sequence: reader.long()?,
                broker_sequence: reader.long()?,
            })
        })
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        writer.object(types::MESSAGE_ID);
        writer.text(self.text_view.as_deref());
        self.producer.write(writer);
        writer.long(self.producer_sequence);
        writer.long(self.broker_sequence);
    }
}

/// Skips a transaction's id, or null.
pub(super) fn skip_transaction(reader: &mut FieldReader<'_>) -> Result<(), FieldError> {
    match reader.object()? {
        None => Ok(()),
        Some(types::LOCAL_TRANSACTION) => {
            reader.long()?;
            read_connection(reader).map(|_| ())
        }
        Some(types::XA_TRANSACTION) => {
            reader.int()?;
            reader.bytes()?;
            reader.bytes().map(|_| ())
        }
        Some(_) => Err("a transaction id is of an unknown type"),
    }
}

pub(super) fn skip_brokers(reader: &mut FieldReader<'_>) -> Result<(), FieldError> {
    for _ in 0..reader.count()? {
        reader.object_of(types::BROKER, FieldReader::skip_text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_reads_as_other_protocols_show_it() {
        let producer = ProducerId { connection: "ID:host-1-2-3:4".into(), session: -1, value: 1 };
        let id = |text_view: Option<&str>| MessageId {
            text_view: text_view.map(|text| Bytes::copy_from_slice(text.as_bytes())),
            producer: producer.clone(),
            producer_sequence: i64::MIN,
            broker_sequence: 9,
        };
        assert_eq!(id(None).text(), "ID:host-1-2-3:4:-1:1:-9223372036854775808");
        assert_eq!(id(Some("amqp-7")).text(), "ID:amqp-7");
        assert_eq!(id(Some("ID:7")).text(), "ID:7");
        assert_eq!(MessageId::from_raw(&id(None).to_raw()), Ok(id(None)));
    }

    #[test]
    fn a_null_id_is_none() {
        assert!(MessageId::from_raw(&Bytes::from_static(&[0])).is_err());
        let more = [&MessageId::default().to_raw()[..], &[0]].concat();
        assert!(MessageId::from_raw(&more.into()).is_err());
    }
}
