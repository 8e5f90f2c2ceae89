//! Reads and writes acknowledgements (`protocols.md §3.8`).

use bytes::Bytes;

use super::control::Thrown;
use super::ids::{ConsumerId, Destination, MessageId, skip_transaction};
use super::primitives::{FieldError, FieldReader, FieldWriter};

/// What an acknowledgement says of the messages it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckType {
    /// Received, but not yet processed: widens the window by their number until they are.
    Delivered = 0,
    /// Can't be processed: the broker moves them to its dead letter queue.
    Poison = 1,
    /// Processed, all from the first to the last.
    Standard = 2,
    /// The client delivers them to itself again.
    Redelivered = 3,
    /// Processed, the last message alone.
    Individual = 4,
    /// Not meant for this durable subscriber.
    Unmatched = 5,
    /// Expired while the client had them.
    Expired = 6,
}

const ACK_TYPES: [AckType; 7] = [
    AckType::Delivered,
    AckType::Poison,
    AckType::Standard,
    AckType::Redelivered,
    AckType::Individual,
    AckType::Unmatched,
    AckType::Expired,
];

/// An acknowledgement of one or more messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageAck {
    /// The queue or topic that is consumed.
    pub destination: Destination,
    /// The id of the consumer that acknowledges.
    pub consumer: ConsumerId,
    /// What the acknowledgement says of the messages.
    pub kind: AckType,
    /// The raw id of the first message; `None` for the oldest one not yet processed.
    pub first: Option<Bytes>,
    /// The raw id of the last message: [`super::message::WireMessage::raw_id`].
    pub last: Bytes,
    /// The number of the consumer's messages from the first to the last.
    pub count: i32,
}

impl MessageAck {
    pub(super) fn read(reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        let destination = Destination::read(reader)?.ok_or("it names no destination")?;
        skip_transaction(reader)?;
        let consumer = ConsumerId::read(reader)?.ok_or("it names no consumer")?;
        let kind = usize::from(reader.byte()?);
        let kind = *ACK_TYPES.get(kind).ok_or("it is of an unknown type of acknowledgement")?;
        let first = read_raw_id(reader)?;
        let last = read_raw_id(reader)?.ok_or("it names no last message")?;
        let count = reader.int()?;
        Thrown::read(reader)?;
        Ok(Self { destination, consumer, kind, first, last, count })
    }

    pub(super) fn write(&self, writer: &mut FieldWriter<'_>) {
        Destination::write(Some(&self.destination), writer);
        writer.null(); // transactionId
        ConsumerId::write(Some(&self.consumer), writer);
        writer.byte(self.kind as u8);
        match &self.first {
            Some(first) => writer.raw(first),
            None => writer.null(),
        }
        writer.raw(&self.last);
        writer.int(self.count);
        writer.null(); // poisonCause
    }
}

fn read_raw_id(reader: &mut FieldReader<'_>) -> Result<Option<Bytes>, FieldError> {
    let start = reader.position();
    Ok(MessageId::read(reader)?.map(|_| reader.since(start)))
}
