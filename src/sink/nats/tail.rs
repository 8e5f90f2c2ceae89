//! Reads the newest messages of the stream for the message ids of a queue, so that the bridge does not publish
//! again what was stored before a crash or a long outage.

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::Info;
use async_nats::jetstream::{Context, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use super::template::RenderedId;
use crate::display::one_line;
use crate::sink::{SinkError, headers};

/// The most bytes that the server sends for one request.
pub(super) const BATCH_BYTES: usize = 8 << 20;
/// The memory limit for the ids, in bytes for each. Those of ActiveMQ are several times shorter.
const BYTES_PER_ID: usize = 256;
/// How long the server waits for a message that the consumer's replica may not have yet.
pub(super) const REPLICA_WITHIN: Duration = Duration::from_millis(500);
/// The answer that there is no message takes less time than this.
pub(super) const SILENT: Duration = Duration::from_secs(4);
/// How many times the first batch is asked for again, and the wait before.
pub(super) const ATTEMPTS: u32 = 20;
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// The server removes the consumer after this time without a request.
pub(super) const INACTIVE: Duration = Duration::from_secs(15);
/// How long the answer to the removal of the consumer may take.
const REMOVED_WITHIN: Duration = Duration::from_secs(1);

/// The ids that were found.
#[derive(Debug, Default)]
pub(super) struct StreamTail {
    /// Message ids, the newest of them last.
    pub(super) ids: VecDeque<Bytes>,
    id_bytes: usize,
    /// How many messages were read.
    pub(super) messages: u64,
    /// How many the server still has, as far as it has said.
    pending: u64,
}

/// The part of a stream that is read, and which of its messages count.
pub(super) struct StreamTailRequest<'a> {
    pub(super) stream: &'a Info,
    /// The name of the queue: messages of other queues do not count.
    pub(super) queue: &'a str,
    /// Makes the `Nats-Msg-Id` of the sink: what another sink has put into the stream does not count.
    pub(super) message_id: &'a RenderedId,
    /// How many of the last sequence numbers are read; not all of them need to have a message.
    pub(super) messages: u64,
    /// How many ids are kept at most.
    pub(super) ids: usize,
    /// How many messages are asked for at once.
    pub(super) batch: usize,
    /// The name of the consumer that reads.
    pub(super) consumer: String,
}

impl StreamTailRequest<'_> {
    /// Reads up to the last message that the stream's leader has named. `tail` gets the ids even if the reading
    /// is not finished. Every message that a consumer gets is durable: a replica stores a message only once a
    /// majority of the replicas has it in its log (docs.nats.io/learn/clustering/replication-and-r3).
    ///
    /// A publish of a killed process may still be on its way and be stored after this. The duplicate window
    /// covers it, because it is only seconds old.
    pub(super) async fn read(&self, jetstream: &Context, tail: &mut StreamTail) -> Result<(), SinkError> {
        // An empty stream has a consumer too, so that a missing permission shows before it matters.
        let name = &self.stream.config.name;
        let created = jetstream.create_consumer_on_stream(self.config(), name).await;
        let consumer = created.map_err(|error| self.unread(error))?;
        self.read_to_end(&consumer, tail).await
    }

    /// The subject is no filter: the stream may store events under other subjects (subject transform).
    fn config(&self) -> pull::Config {
        let last = self.stream.state.last_sequence;
        let start_sequence = last.saturating_sub(self.messages.saturating_sub(1)).max(1);
        pull::Config {
            name: Some(self.consumer.clone()),
            description: Some("reads which events the stream holds, once".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ack_policy: AckPolicy::None,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: INACTIVE,
            ..pull::Config::default()
        }
    }

    async fn read_to_end(&self, consumer: &PullConsumer, tail: &mut StreamTail) -> Result<(), SinkError> {
        // One replica has all that the leader has named.
        let is_alone = self.stream.config.num_replicas < 2;
        if self.stream.state.messages == 0 || (is_alone && consumer.cached_info().num_pending == 0) {
            return Ok(());
        }
        tail.pending = consumer.cached_info().num_pending;
        let mut failures = 0;
        loop {
            let before = tail.messages;
            match self.read_batch(consumer, is_alone, tail).await {
                Ok(true) => return Ok(()),
                // The last messages were deleted, or the consumer's replica does not have them yet.
                Ok(false) if tail.messages == before && tail.pending > 0 => {
                    return Err(self.unread(format!("the server did not send the last {}", tail.pending)));
                }
                Ok(false) if tail.messages == before && is_behind(consumer, self.stream) => {
                    return Err(self.unread("a replica is behind"));
                }
                Ok(false) if tail.messages == before => return Ok(()),
                // An error after some messages: they have as many bytes as a batch may.
                Ok(false) => {}
                Err(_) if tail.messages > before => {}
                // For a moment a server of a cluster does not know where the new consumer is, and answers 503.
                Err(_) if tail.messages == 0 && failures < ATTEMPTS => {
                    failures += 1;
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(self.unread(error)),
            }
        }
    }

    /// Reads one batch, and returns whether the last message was among it.
    async fn read_batch(
        &self,
        consumer: &PullConsumer,
        is_alone: bool,
        tail: &mut StreamTail,
    ) -> Result<bool, async_nats::Error> {
        let asked = Instant::now();
        let request = consumer.fetch().max_messages(self.batch).max_bytes(BATCH_BYTES);
        let mut batch = request.expires(REPLICA_WITHIN).messages().await?;
        while let Some(message) = batch.next().await {
            let left = self.add(&message?, tail)?;
            if left.to_last == 0 || (is_alone && left.pending == 0) {
                return Ok(true);
            }
        }
        // Without an answer the batch ends too, 5 s after its time.
        match asked.elapsed() < REPLICA_WITHIN + SILENT {
            true => Ok(false),
            false => Err("the server does not answer".into()),
        }
    }

    /// Adds a message, and returns how many are left.
    fn add(&self, message: &Message, tail: &mut StreamTail) -> Result<Remaining, async_nats::Error> {
        let info = message.info()?;
        if info.consumer_sequence != tail.messages + 1 {
            return Err("a message was lost on its way".into());
        }
        tail.messages += 1;
        tail.pending = info.pending;
        if let Some(id) = self.id(message) {
            tail.push(id, self.ids);
        }
        let to_last = self.stream.state.last_sequence.saturating_sub(info.stream_sequence);
        Ok(Remaining { to_last, pending: info.pending })
    }

    /// Returns the message id of an event of the queue that this sink has published. Several sinks with their own
    /// subjects and templates of `Nats-Msg-Id` may share a stream.
    fn id(&self, message: &Message) -> Option<Bytes> {
        let found = message.headers.as_ref()?;
        let id = found.get(headers::MESSAGE_ID)?.as_str().as_bytes();
        let sent = found.get(async_nats::header::NATS_MESSAGE_ID).map(|sent| sent.as_str().to_owned());
        let is_ours = found.get(headers::DESTINATION)?.as_str() == self.queue;
        (is_ours && sent == self.message_id.of(id)).then(|| Bytes::copy_from_slice(id))
    }

    fn unread(&self, why: impl Display) -> SinkError {
        let (why, stream) = (why.to_string(), &self.stream.config.name);
        let why = one_line(&why);
        SinkError::unavailable(format!("can't read the last messages of stream {stream}: {why}"))
    }
}

/// Removes a consumer that is no longer needed. Where the server does not allow this, the consumer ends by itself.
pub(super) async fn remove_consumer(jetstream: &Context, consumer: &str, stream: &str) {
    let removing = jetstream.delete_consumer_from_stream(consumer, stream);
    let _removed = timeout(REMOVED_WITHIN, removing).await;
}

/// Whether the consumer reads from a replica that the stream's leader calls out of date.
pub(super) fn is_behind(consumer: &PullConsumer, stream: &Info) -> bool {
    let cluster = consumer.cached_info().cluster.as_ref();
    let server = cluster.and_then(|cluster| cluster.leader.as_deref());
    let replicas = stream.cluster.iter().flat_map(|cluster| &cluster.replicas);
    replicas.into_iter().any(|replica| !replica.current && Some(replica.name.as_str()) == server)
}

/// What is still to read.
struct Remaining {
    /// The sequence numbers up to the last one that the leader has named.
    to_last: u64,
    /// The messages that the consumer has not sent yet.
    pending: u64,
}

impl StreamTail {
    fn push(&mut self, id: Bytes, most: usize) {
        self.id_bytes += id.len();
        self.ids.push_back(id);
        while self.ids.len() > most || self.id_bytes > most.saturating_mul(BYTES_PER_ID) {
            let Some(oldest) = self.ids.pop_front() else { break };
            self.id_bytes -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ids_are_kept_within_number_and_bytes() {
        let mut tail = StreamTail::default();
        (0..10u8).for_each(|number| tail.push(Bytes::from(vec![number; 4]), 3));
        assert_eq!(tail.ids, [7u8, 8, 9].map(|number| Bytes::from(vec![number; 4])));
        tail.push(Bytes::from(vec![0; 3 * BYTES_PER_ID]), 3);
        assert_eq!((tail.ids.len(), tail.id_bytes), (1, 3 * BYTES_PER_ID));
        tail.push(Bytes::from(vec![0; 3 * BYTES_PER_ID + 1]), 3);
        assert_eq!((tail.ids.len(), tail.id_bytes), (0, 0), "one that is too long is not kept");
    }
}
