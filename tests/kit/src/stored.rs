//! Reads the events that a topic, a stream or a directory holds, with the names of their queue and their writer.

use std::path::Path;

use async_nats::jetstream;

use super::kafka_reader::each_record;
use super::nats::read_stream;
use super::output::{Tally, each_line, open_envelope};

/// One event in a sink.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    pub message_id: &'a str,
    pub queue: &'a str,
    /// The connection id of the process that wrote it.
    pub writer: &'a str,
    pub key: &'a str,
    pub body: &'a str,
}

impl Stored<'_> {
    /// Counts the event in `tally`.
    pub fn add_to(&self, tally: &mut Tally) {
        tally.add_keyed(self.message_id, self.key, self.body);
    }
}

/// Calls `each` with every event in the topic, in the order of each partition. Records that no bridge wrote do
/// not count. Blocks.
pub fn each_in_topic(bootstrap: &str, topic: &str, mut each: impl FnMut(Stored<'_>)) {
    each_record(bootstrap, topic, |record| {
        let Some(message_id) = record.header("atdata-message-id") else { return };
        each(Stored {
            message_id,
            queue: record.header("atdata-destination").expect("a queue"),
            writer: record.header("atdata-connection-id").expect("a connection id"),
            key: text(record.key.as_deref().expect("a key")),
            body: text(record.value.as_deref().expect("a body")),
        });
    });
}

/// Calls `each` with every event in the stream, in its order. The subjects must end with the key.
pub async fn each_in_stream(jetstream: &jetstream::Context, stream: &str, mut each: impl FnMut(Stored<'_>)) {
    for message in read_stream(jetstream, stream).await {
        let headers = message.headers.as_ref().expect("headers");
        let header = |name: &str| headers.get(name).expect("a header").as_str();
        let (_, key) = message.subject.rsplit_once('.').expect("a key");
        each(Stored {
            message_id: header("atdata-message-id"),
            queue: header("atdata-destination"),
            writer: header("atdata-connection-id"),
            key,
            body: text(&message.payload),
        });
    }
}

/// Calls `each` with every envelope in the directory, in the order of the files' names. Envelopes do not name
/// their queue and their writer.
pub fn each_in_files(directory: &Path, mut each: impl FnMut(Stored<'_>)) {
    each_line(directory, |line| {
        let (message_id, key, _, body) = open_envelope(line).unwrap_or_else(|| panic!("{line}"));
        each(Stored { message_id, queue: "", writer: "", key, body });
    });
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}
