//! Applies acknowledgements to the queue (`protocols.md §3.8`).

use bytes::Bytes;

use crate::source::openwire::wire::ack::{AckType, MessageAck};

use super::super::exception::JavaException;
use super::super::queue::{ConsumerNumber, SimulatedQueue};
use super::JMS;
use super::message::SimulatedIds;

/// Applies `ack` to the deliveries of its consumer.
pub(super) fn acknowledge(
    queue: &mut SimulatedQueue,
    consumer: ConsumerNumber,
    ack: &MessageAck,
    ids: &SimulatedIds,
) -> Result<(), JavaException> {
    let find = |raw: &Bytes| {
        let (producer, number) = ids.read(raw)?;
        queue.find(consumer, producer, number)
    };
    let last = find(&ack.last);
    let first = match &ack.first {
        Some(raw) => find(raw),
        None => queue.oldest(consumer),
    };
    let range = first.zip(last).filter(|(first, last)| first <= last).map(|(first, last)| first..=last);
    match ack.kind {
        AckType::Standard => {
            let Some(range) = range else {
                let start = ack.first.as_ref().filter(|_| first.is_none() || last.is_some());
                let (raw, end) = start.map_or((&ack.last, "end"), |raw| (raw, "start"));
                return Err(not_dispatched(ack, &ids.text(raw), end));
            };
            let found = queue.unacked_in(consumer, range.clone());
            if u64::try_from(ack.count) != Ok(found) {
                return Err(miscounted(ack, found));
            }
            queue.ack_range(consumer, range);
        }
        AckType::Individual => {
            if let Some(number) = last {
                queue.ack_range(consumer, number..=number);
            }
        }
        AckType::Delivered => {
            last.ok_or_else(|| uncorrelated(ack))?;
            queue.extend(consumer, u64::try_from(ack.count).unwrap_or(0));
        }
        AckType::Redelivered => {
            last.ok_or_else(|| uncorrelated(ack))?;
        }
        AckType::Poison => queue.kill_range(consumer, range.ok_or_else(|| uncorrelated(ack))?),
        AckType::Expired => queue.ack_range(consumer, range.ok_or_else(|| uncorrelated(ack))?),
        AckType::Unmatched => {}
    }
    Ok(())
}

/// The consumer does not have the message at this end of the range.
fn not_dispatched(ack: &MessageAck, id: &str, end: &str) -> JavaException {
    unmatched(ack, &format!("Could not find Message-ID {id} in dispatched-list ({end} of ack)"))
}

/// The range holds another number of messages than the acknowledgement says.
fn miscounted(ack: &MessageAck, found: u64) -> JavaException {
    let expected = ack.count;
    unmatched(
        ack,
        &format!("Expected message count ({expected}) differs from count in dispatched-list ({found})"),
    )
}

fn unmatched(ack: &MessageAck, why: &str) -> JavaException {
    JavaException::new(JMS, format!("Unmatched acknowledge: {}; {why}", text_of(ack)))
}

fn uncorrelated(ack: &MessageAck) -> JavaException {
    let message = format!("Could not correlate acknowledgment with dispatched message: {}", text_of(ack));
    JavaException::new(JMS, message)
}

fn text_of(ack: &MessageAck) -> String {
    format!("MessageAck {{ackType = {}, messageCount = {}}}", ack.kind as u8, ack.count)
}
