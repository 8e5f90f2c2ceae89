//! Reads the stream back ([`Sink::read_back`](crate::sink::Sink::read_back)): the messages under the subjects of
//! the sink, up to the last one that the stream has at the start. It acknowledges nothing, and leaves no consumer
//! behind.

use std::fmt::Display;
use std::time::Instant;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Info, RawMessageErrorKind, RetentionPolicy};
use futures_util::StreamExt;
use tokio::time::sleep;

use super::opener::NatsSink;
use super::tail::{
    ATTEMPTS, BATCH_BYTES, INACTIVE, PAUSE, REPLICA_WITHIN, SILENT, is_behind, remove_consumer,
};
use crate::display::one_line;
use crate::sink::{Position, RecordSender, SinkError, StoredRecord};

/// The most messages that the server sends for one request, if the client has room for them.
const BATCH: usize = 512;
/// The most bytes that the server counts for a message besides its payload.
const BEYOND_PAYLOAD: usize = 64 << 10;

impl NatsSink {
    /// Sends the messages of the stream.
    pub(super) async fn read_stream(
        &mut self,
        stream: &str,
        from: Option<Position>,
        records: RecordSender,
    ) -> Result<(), SinkError> {
        let first = match from {
            None => 1,
            Some(Position::Sequence(sequence)) => sequence.max(1),
            Some(other) => return Err(other.wrong_form("sequence")),
        };
        let mut connection = self.connect().await?;
        let info = self.look_up(&mut connection, stream).await?;
        let info = info.ok_or_else(|| self.explainer.no_stream(stream))?;
        // With a transform the stream has the events under other subjects.
        let is_transformed = info.config.subject_transform.is_some();
        let jetstream = self.jetstream(connection.client.clone());
        let mut reading = StreamReading {
            filter: if is_transformed {
                String::new()
            } else {
                self.settings.subject.pattern_of_all(&self.context)
            },
            stream: info,
            // The client drops messages that it has no room for.
            batch: self.settings.subscription_capacity().min(BATCH),
            // The largest message must fit, with its subject and headers.
            batch_bytes: BATCH_BYTES.max(connection.client.server_info().max_payload + BEYOND_PAYLOAD),
            next: first,
            records,
        };
        match reading.stream.config.retention {
            RetentionPolicy::Limits => connection.unless_broken(reading.read(&jetstream)).await,
            RetentionPolicy::Interest | RetentionPolicy::WorkQueue => {
                connection.unless_broken(reading.read_singly(&jetstream)).await
            }
        }
    }
}

/// One reading of the stream.
struct StreamReading {
    /// The stream as it was at the start.
    stream: Info,
    /// The subjects that are read; empty for all.
    filter: String,
    /// How many messages are asked for at once.
    batch: usize,
    /// How many bytes they have together at most.
    batch_bytes: usize,
    /// The sequence number of the next message.
    next: u64,
    records: RecordSender,
}

/// Whether there is more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    None,
    /// As far as the server has said.
    Some,
    /// No message came, though the consumer has not said that it has sent the last one.
    Unknown,
}

impl StreamReading {
    /// Reads with one consumer after the other. While the receiver takes its time, the server removes a consumer
    /// that asks for nothing.
    async fn read(&mut self, jetstream: &Context) -> Result<(), SinkError> {
        loop {
            let before = self.next;
            let name = format!("atdata-bridge-{:016x}", fastrand::u64(..));
            let stream = self.stream.config.name.clone();
            let created = jetstream.create_consumer_on_stream(self.config(&name), &stream).await;
            let consumer = created.map_err(|error| self.unread(error))?;
            let read = self.read_to_end(&consumer).await;
            remove_consumer(jetstream, &name, &stream).await;
            match read {
                Err(_) if self.next > before => {}
                read => return read,
            }
        }
    }

    /// Reads with a request for each message. It is slow, but a consumer would change what such a stream keeps.
    async fn read_singly(&mut self, jetstream: &Context) -> Result<(), SinkError> {
        let (name, last) = (&self.stream.config.name, self.stream.state.last_sequence);
        let stream = jetstream.get_stream_no_info(name).await.map_err(|error| self.unread(error))?;
        let subject = if self.filter.is_empty() { ">" } else { &self.filter };
        while self.next <= last {
            let found = stream.get_first_raw_message_by_subject(subject, self.next).await;
            let message = match found {
                Ok(message) if message.sequence <= last => message,
                Ok(_) => break,
                Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => break,
                Err(error) => return Err(self.unread(error)),
            };
            let position = Position::Sequence(message.sequence);
            if self.records.send(StoredRecord { position, content: message.payload }).await.is_err() {
                break;
            }
            self.next = message.sequence + 1;
        }
        Ok(())
    }

    fn config(&self, name: &str) -> pull::Config {
        pull::Config {
            name: Some(name.to_owned()),
            description: Some("reads the stream back, once".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ack_policy: AckPolicy::None,
            filter_subject: self.filter.clone(),
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: INACTIVE,
            ..pull::Config::default()
        }
    }

    async fn read_to_end(&mut self, consumer: &PullConsumer) -> Result<(), SinkError> {
        // One replica has all that the leader has named.
        let is_alone = self.stream.config.num_replicas < 2;
        if self.stream.state.last_sequence < self.next
            || (is_alone && consumer.cached_info().num_pending == 0)
        {
            return Ok(());
        }
        let mut sent = 0;
        let began = Instant::now();
        loop {
            match self.read_batch(consumer, is_alone, &mut sent).await {
                Ok(Rest::None) => return Ok(()),
                Ok(Rest::Some) => {}
                Ok(Rest::Unknown) if is_behind(consumer, &self.stream) => {
                    return Err(self.unread("a replica is behind"));
                }
                Ok(Rest::Unknown) => return Ok(()),
                // For a moment a server of a cluster does not know where the new consumer is, and answers 503.
                Err(_) if sent == 0 && began.elapsed() < ATTEMPTS * PAUSE => sleep(PAUSE).await,
                Err(error) => return Err(self.unread(error)),
            }
        }
    }

    /// Sends one batch. `sent` counts the messages of this consumer.
    async fn read_batch(
        &mut self,
        consumer: &PullConsumer,
        is_alone: bool,
        sent: &mut u64,
    ) -> Result<Rest, async_nats::Error> {
        let (before, last) = (*sent, self.stream.state.last_sequence);
        let request = consumer.fetch().max_messages(self.batch).max_bytes(self.batch_bytes);
        let mut batch = request.expires(REPLICA_WITHIN).messages().await?;
        let mut asked = Instant::now();
        while let Some(message) = batch.next().await {
            let message = message?;
            let info = message.info()?;
            let (sequence, pending) = (info.stream_sequence, info.pending);
            if info.consumer_sequence != *sent + 1 {
                return Err("a message was lost on its way".into());
            }
            if sequence > last {
                return Ok(Rest::None);
            }
            *sent += 1;
            let content = message.message.payload;
            let record = StoredRecord { position: Position::Sequence(sequence), content };
            if self.records.send(record).await.is_err() {
                return Ok(Rest::None);
            }
            self.next = sequence + 1;
            if sequence == last || (is_alone && pending == 0) {
                return Ok(Rest::None);
            }
            asked = Instant::now();
        }
        // Without an answer the batch ends too, 5 s after its time.
        match asked.elapsed() < REPLICA_WITHIN + SILENT {
            true if *sent > before => Ok(Rest::Some),
            true => Ok(Rest::Unknown),
            false => Err("the server does not answer".into()),
        }
    }

    fn unread(&self, why: impl Display) -> SinkError {
        let (why, stream) = (why.to_string(), &self.stream.config.name);
        SinkError::unavailable(format!("can't read stream {stream}: {}", one_line(&why)))
    }
}
