//! Acknowledgements (`protocols.md §3.8`).

use bytes::Bytes;

use super::control::Thrown;
use super::ids::{ConsumerId, Destination, MessageId, skip_transaction};
use super::primitives::{FieldError, FieldReader, FieldWriter};

/// What an acknowledgement says of the messages it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckType {
    /// Received, not done with: the window is wider by their number until they are done with.
    Delivered = 0,
    /// Can't be processed: to the broker's dead letters.
    Poison = 1,
    /// Done with, all from the first to the last.
    Standard = 2,
    /// The client delivers them to itself again.
    Redelivered = 3,
    /// Done with, the last alone.
    Individual = 4,
    /// Not for this durable subscriber.
    Unmatched = 5,
    /// Expired at the client.
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

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageAck {
    /// The destination consumed.
    pub destination: Destination,
    /// The consumer.
    pub consumer: ConsumerId,
    /// What it says.
    pub kind: AckType,
    /// The raw id of the first message; `None` for the oldest that is not done with.
    pub first: Option<Bytes>,
    /// The raw id of the last message: [`super::message::WireMessage::raw_id`].
    pub last: Bytes,
    /// How many messages of the consumer there are from the first to the last.
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
