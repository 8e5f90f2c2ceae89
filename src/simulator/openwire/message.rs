//! Writes messages as ActiveMQ dispatches them over OpenWire.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::source::openwire::wire::command::Command;
use crate::source::openwire::wire::ids::{ConsumerId, Destination, DestinationKind, MessageId, ProducerId};
use crate::source::openwire::wire::message::{Dispatch, MessageKind, WireMessage};

use super::super::form::Form;
use super::super::in_flight::DeliveredMessages;
use super::super::stream::Run;

/// The session of every producer in the simulator.
const SESSION: i64 = 1;

/// Reads and writes message ids. They name the same message in both protocols.
#[derive(Clone, Debug)]
pub(super) struct SimulatedIds {
    connection: Bytes,
}

impl SimulatedIds {
    /// `broker_id`: the part of every id that identifies the broker.
    pub(super) fn new(broker_id: &str) -> Self {
        Self { connection: format!("{broker_id}-1:1").into() }
    }

    fn id(&self, run: &Run, nth: u64) -> MessageId {
        let producer = ProducerId {
            connection: self.connection.clone(),
            session: SESSION,
            value: run.stream.producer.cast_signed(),
        };
        MessageId {
            text_view: None,
            producer,
            producer_sequence: (run.first + nth).cast_signed(),
            broker_sequence: (run.sequence + nth).cast_signed(),
        }
    }

    /// Returns the producer and the number of a message. Returns `None` for an id of another broker.
    pub(super) fn read(&self, raw: &Bytes) -> Option<(u64, u64)> {
        let id = MessageId::from_raw(raw).ok()?;
        let ours = id.producer.connection == self.connection && id.producer.session == SESSION;
        let (producer, number) = (id.producer.value.try_into().ok()?, id.producer_sequence.try_into().ok()?);
        ours.then_some((producer, number))
    }

    /// Returns an id in readable form.
    pub(super) fn text(&self, raw: &Bytes) -> String {
        let mut text = Vec::new();
        if let Ok(id) = MessageId::from_raw(raw) {
            id.write_text(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[derive(Debug)]
pub(super) struct OpenWireMessageWriter {
    ids: SimulatedIds,
    consumer: ConsumerId,
    queue: Destination,
    topic: Destination,
    body: Vec<u8>,
}

impl OpenWireMessageWriter {
    pub(super) fn new(ids: SimulatedIds, queue: &str, consumer: ConsumerId) -> Self {
        let namespace = queue.rsplit('.').next().unwrap_or_default();
        let topic = Destination { kind: DestinationKind::Topic, name: format!("RTO.{namespace}").into() };
        Self { ids, consumer, queue: Destination::queue(queue.to_owned()), topic, body: Vec::new() }
    }

    /// Tells a browser that there are no more messages.
    pub(super) fn write_end(&self, out: &mut Vec<u8>) {
        let dispatch = Dispatch {
            consumer: self.consumer.clone(),
            destination: None,
            message: None,
            redelivery_counter: 0,
        };
        Command::MessageDispatch(dispatch).encode(0, false, out);
    }

    /// Appends one frame for each message in `delivered`.
    pub(super) fn write(&mut self, delivered: &DeliveredMessages, out: &mut Vec<u8>) {
        let run = &delivered.run;
        let redelivery_counter = run.redeliveries.cast_signed();
        for nth in 0..run.count {
            let number = run.first + nth;
            let form = run.stream.form(number);
            self.body.clear();
            run.stream.write_body(number, &mut self.body);
            let timestamp = run.stream.timestamp(number).cast_signed();
            let message = WireMessage {
                destination: Some(self.queue.clone()),
                original_destination: Some(self.topic.clone()),
                persistent: true,
                timestamp,
                content: Some(content(form, &self.body)),
                compressed: form == Form::Compressed,
                redelivery_counter,
                broker_in_time: timestamp,
                ..WireMessage::new(kind(form), self.ids.id(run, nth))
            };
            let dispatch = Dispatch {
                consumer: self.consumer.clone(),
                destination: Some(self.queue.clone()),
                message: Some(message),
                redelivery_counter,
            };
            Command::MessageDispatch(dispatch).encode(0, false, out);
        }
    }
}

fn kind(form: Form) -> MessageKind {
    match form {
        Form::Text | Form::Compressed => MessageKind::Text,
        Form::Bytes => MessageKind::Bytes,
        Form::Map => MessageKind::Map,
    }
}

fn content(form: Form, body: &[u8]) -> Bytes {
    match form {
        Form::Text => counted(body).into(),
        Form::Compressed => {
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
            // Writing to memory can't fail.
            let compressed = zlib.write_all(&counted(body)).and_then(|()| zlib.finish());
            compressed.unwrap_or_default().into()
        }
        Form::Bytes | Form::Map => Bytes::copy_from_slice(body),
    }
}

/// Returns a text in its message encoding, with its bytes unchanged.
fn counted(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body].concat()
}
