//! MESSAGE frames as ActiveMQ writes them, appended to one buffer without an allocation of their own.

use super::super::flights::Flight;
use super::super::generator::push_number;
use super::super::stream::{Form, Run, Stream};

/// What all messages of one subscription have in common.
#[derive(Debug)]
pub(crate) struct MessageWriter {
    /// The head up to the number in the `ack` header, or to the message id where there is none.
    head: Vec<u8>,
    acked: bool,
    /// The message id up to the producer's number, escaped, with its header name.
    id: Vec<u8>,
}

impl MessageWriter {
    /// `broker_id`: the broker's part of every id, such as `ID:simulator-40001-1700000000000`.
    /// `ack_scope`: what makes the ack ids of this subscription its own; `None` for `ack:auto`.
    pub(crate) fn new(broker_id: &str, queue: &str, subscription: &str, ack_scope: Option<&str>) -> Self {
        let namespace = queue.rsplit('.').next().unwrap_or_default();
        let subscription = escaped(subscription);
        let mut head = format!(
            "MESSAGE\nexpires:0\ndestination:/queue/{}\nsubscription:{subscription}\npriority:4\n\
             original-destination:/topic/RTO.{}\npersistent:true",
            escaped(queue),
            escaped(namespace)
        );
        if let Some(scope) = ack_scope {
            head.push_str(&format!("\nack:{}\\c", escaped(scope)));
        }
        let id = format!("\nmessage-id:{}-1\\c1\\c1\\c", escaped(broker_id));
        Self { head: head.into_bytes(), acked: ack_scope.is_some(), id: id.into_bytes() }
    }

    /// Appends the frames of one flight.
    pub(crate) fn write(&self, flight: &Flight, out: &mut Vec<u8>) {
        let run = &flight.run;
        for n in 0..run.count {
            out.extend_from_slice(&self.head);
            if self.acked {
                push_number(flight.number + n, out);
            }
            self.write_id(&run.stream, run.first + n, out);
            if run.redeliveries > 0 {
                out.extend_from_slice(b"\nredelivered:true");
            }
            write_body(run, run.first + n, out);
            out.extend_from_slice(b"\0\n");
        }
    }

    fn write_id(&self, stream: &Stream, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        push_number(stream.producer, out);
        out.extend_from_slice(b"\\c");
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

/// A header value with the escapes of STOMP 1.2.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            ':' => escaped.push_str("\\c"),
            other => escaped.push(other),
        }
    }
    escaped
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
        let stream =
            Stream { producer: 7, namespace: "acme".into(), started_ms: 1000, rate: Some(100.0), content };
        let mut run = Run::new(Arc::new(stream), 42, 1);
        run.redeliveries = 1;
        let writer =
            MessageWriter::new("ID:simulator-40001-17", "d1.RTO.acme", "0", Some("ID:simulator-40001-17-3"));
        let mut out = Vec::new();
        writer.write(&Flight { number: 5, run }, &mut out);
        let expected = "MESSAGE\nexpires:0\ndestination:/queue/d1.RTO.acme\nsubscription:0\npriority:4\n\
            original-destination:/topic/RTO.acme\npersistent:true\nack:ID\\csimulator-40001-17-3\\c5\n\
            message-id:ID\\csimulator-40001-17-1\\c1\\c1\\c7\\c42\ntimestamp:1410\nredelivered:true\n\n\
            {\"md5\":1}\0\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
