//! Writes MESSAGE frames as ActiveMQ does, into one buffer and without an allocation for each frame.

use crate::source::stomp::frame::{Encoder, Escapes, StompCommand, escape_into};

use super::super::form::{Form, push_number};
use super::super::in_flight::DeliveredMessages;
use super::super::stream::{EventStream, Run};

/// The parts that all messages of one subscription share.
#[derive(Debug)]
pub(crate) struct StompMessageWriter {
    /// The head up to the number in the `ack` header, or up to the message id if there is no such header.
    head: Vec<u8>,
    acked: bool,
    escapes: Escapes,
    /// The message id up to the producer's number, escaped, with its header name.
    id: Vec<u8>,
}

impl StompMessageWriter {
    /// `broker_id`: the part of every id that identifies the broker, such as
    /// `ID:simulator-40001-1700000000000`. `subscription`: the id of the subscription, if it has one.
    /// `ack_scope`: the prefix that makes the ack ids of this subscription unique; `None` for `ack:auto`, and
    /// before version 1.2.
    pub(crate) fn new(
        broker_id: &str,
        queue: &str,
        subscription: Option<&str>,
        ack_scope: Option<&str>,
        escapes: Escapes,
    ) -> Self {
        let namespace = queue.rsplit('.').next().unwrap_or_default();
        let escaped = |value: &str| {
            let mut text = Vec::new();
            escape_into(value.as_bytes(), escapes, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        let mut head = format!("MESSAGE\nexpires:0\ndestination:/queue/{}", escaped(queue));
        if let Some(subscription) = subscription {
            head.push_str(&format!("\nsubscription:{}", escaped(subscription)));
        }
        let topic = format!("/topic/RTO.{}", escaped(namespace));
        head.push_str(&format!("\npriority:4\noriginal-destination:{topic}\npersistent:true"));
        if let Some(scope) = ack_scope {
            head.push_str(&format!("\nack:{}", escaped(&format!("{scope}:"))));
        }
        let id = format!("\nmessage-id:{}", escaped(&format!("{broker_id}-1:1:1:")));
        Self { head: head.into_bytes(), acked: ack_scope.is_some(), escapes, id: id.into_bytes() }
    }

    /// Tells a browser that there are no more messages.
    pub(crate) fn write_end(&self, queue: &str, subscription: Option<&str>, out: &mut Vec<u8>) {
        let mut end = Encoder::begin(out, StompCommand::Message, self.escapes)
            .header("browser", "end")
            .header("destination", format!("/queue/{queue}"))
            .header("message-id", "0");
        if let Some(subscription) = subscription {
            end = end.header("subscription", subscription);
        }
        end.end(b"");
    }

    /// Appends one frame for each message in `delivered`.
    pub(crate) fn write(&self, delivered: &DeliveredMessages, out: &mut Vec<u8>) {
        let run = &delivered.run;
        for n in 0..run.count {
            out.extend_from_slice(&self.head);
            if self.acked {
                push_number(delivered.number + n, out);
            }
            self.write_id(&run.stream, run.first + n, out);
            if run.redeliveries > 0 {
                out.extend_from_slice(b"\nredelivered:true");
            }
            write_body(run, run.first + n, out);
            out.extend_from_slice(b"\0\n");
        }
    }

    fn write_id(&self, stream: &EventStream, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        push_number(stream.producer, out);
        escape_into(b":", self.escapes, out);
        push_number(number, out);
        out.extend_from_slice(b"\ntimestamp:");
        push_number(stream.timestamp(number), out);
    }
}

/// Ends the head and appends the body. Texts have no content-length.
fn write_body(run: &Run, number: u64, out: &mut Vec<u8>) {
    match run.stream.form(number) {
        Form::Text | Form::Compressed => {
            out.extend_from_slice(b"\n\n");
            run.stream.write_body(number, out);
        }
        Form::Bytes => {
            let mut body = Vec::new();
            run.stream.write_body(number, &mut body);
            out.extend_from_slice(b"\ncontent-length:");
            push_number(body.len() as u64, out);
            out.extend_from_slice(b"\n\n");
            out.extend_from_slice(&body);
        }
        Form::Map => out.extend_from_slice(b"\n\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::super::stream::Content;
    use super::*;

    #[test]
    fn a_message_looks_like_activemqs() {
        let content = Content::Body(Form::Text, Bytes::from_static(b"{\"md5\":1}"));
        let stream = EventStream {
            producer: 7,
            namespace: "acme".into(),
            started_ms: 1000,
            rate: Some(100.0),
            content,
        };
        let mut run = Run::new(Arc::new(stream), 42, 1);
        run.redeliveries = 1;
        let scope = Some("ID:simulator-40001-17-3");
        let id = "ID:simulator-40001-17";
        let writer = StompMessageWriter::new(id, "d1.RTO.acme", Some("0"), scope, Escapes::V1_2);
        let mut out = Vec::new();
        writer.write(&DeliveredMessages { number: 5, run }, &mut out);
        let expected = "MESSAGE\nexpires:0\ndestination:/queue/d1.RTO.acme\nsubscription:0\npriority:4\n\
            original-destination:/topic/RTO.acme\npersistent:true\nack:ID\\csimulator-40001-17-3\\c5\n\
            message-id:ID\\csimulator-40001-17-1\\c1\\c1\\c7\\c42\ntimestamp:1410\nredelivered:true\n\n\
            {\"md5\":1}\0\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
