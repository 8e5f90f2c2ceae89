//! Applies ACK and NACK frames of each version to the deliveries of a client.

use crate::source::stomp::frame::{Escapes, StompFrame};

use super::super::exception::CommandError;
use super::super::queue::ConsumerNumber;
use super::{Stomp, Version, protocol_error};

impl Stomp {
    pub(super) fn acknowledge(&mut self, frame: &StompFrame, verb: &str) -> Result<(), CommandError> {
        if frame.header("transaction", Escapes::V1_2).is_some() {
            return Err(protocol_error("Transactions are not simulated"));
        }
        let (delivery, named) = match self.version {
            Version::V1_2 => {
                let id = self.text(frame, "id");
                let id = id.ok_or_else(|| protocol_error(format!("{verb} received without an ack id")))?;
                // ActiveMQ names the message id, which a frame of version 1.2 does not have.
                (self.delivery(&id), "null".to_owned())
            }
            _ => self.delivery_of_old(frame, verb)?,
        };
        let found = delivery.is_some_and(|(consumer, number)| {
            self.session.shared().change(|broker| match verb {
                "NACK" => broker.nack(consumer, number),
                _ => broker.ack(consumer, number),
            })
        });
        if found {
            return Ok(());
        }
        Err(protocol_error(format!("Unexpected {verb} received for message-id [{named}]")))
    }

    /// Before version 1.2, an ACK names the message id; from 1.1 on also the subscription.
    fn delivery_of_old(
        &self,
        frame: &StompFrame,
        verb: &str,
    ) -> Result<(Option<(ConsumerNumber, u64)>, String), CommandError> {
        if self.version == Version::V1_0 && verb == "NACK" {
            return Err(protocol_error("NACK received but connection is in v1.0 mode."));
        }
        let subscription = self.text(frame, "subscription");
        if subscription.is_none() && self.version == Version::V1_1 {
            let message = format!("{verb} received without a subscription id for acknowledge!");
            return Err(protocol_error(message));
        }
        let id = self.text(frame, "message-id");
        let id = id
            .ok_or_else(|| protocol_error(format!("{verb} received without a message-id to acknowledge!")))?;
        let shared = self.session.shared();
        let numbers = id.strip_prefix(shared.id()).and_then(|rest| rest.strip_prefix("-1:1:1:"));
        let numbers = numbers.and_then(|rest| rest.split_once(':'));
        let numbers =
            numbers.and_then(|(producer, number)| Some((producer.parse().ok()?, number.parse().ok()?)));
        let own = self.session.subscriptions.iter();
        let found = own.filter(|own| subscription.is_none() || own.id == subscription).find_map(|own| {
            let (producer, number) = numbers?;
            let mut broker = shared.broker();
            let delivery = broker.queue_of(own.consumer)?.find(own.consumer, producer, number)?;
            Some((own.consumer, delivery))
        });
        Ok((found, id))
    }

    /// Returns the consumer of this session and the delivery number that an ack id names.
    fn delivery(&self, ack_id: &str) -> Option<(ConsumerNumber, u64)> {
        let scoped = ack_id.strip_prefix(self.session.shared().id())?.strip_prefix('-')?;
        let (consumer, number) = scoped.split_once(':')?;
        let consumer = ConsumerNumber(consumer.parse().ok()?);
        let own = self.session.subscriptions.iter().any(|subscription| subscription.consumer == consumer);
        Some((consumer, number.parse().ok()?)).filter(|_| own)
    }
}
