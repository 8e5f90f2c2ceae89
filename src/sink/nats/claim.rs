//! Finds out which events the stream holds already ([`Sink::claim`](crate::sink::Sink::claim)).

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::RetentionPolicy;
use tokio::time::timeout;

use super::opener::NatsSink;
use super::tail::{StreamTail, StreamTailRequest, remove_consumer};
use crate::sink::{Held, SinkError, SinkErrorKind};

/// How many messages of the stream are read at least.
const MESSAGES: usize = 4096;
/// The most messages that the server sends for one request, if the client has room for them.
const BATCH: usize = 4096;
/// How long connecting and reading may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why the stream was not read.
enum UnreadTailError {
    /// Consumed events are deleted, so the stream can't tell.
    Deletes,
    /// The server does not allow it. Only an operator can change this.
    Refused(SinkError),
    /// The stream is away, so nothing can be published either.
    Away(SinkError),
    Failed(SinkError),
}

impl NatsSink {
    /// Reads the newest messages of the stream over a connection of its own, because a missing permission ends
    /// the connection.
    pub(super) async fn held(&mut self, stream: &str, at_least: usize) -> Result<Option<Held>, SinkError> {
        let mut tail = StreamTail::default();
        let began = Instant::now();
        let read = timeout(ANSWER_WITHIN, self.read_tail(stream, at_least, &mut tail)).await;
        let late = |_| {
            Err(UnreadTailError::Failed(SinkError::unavailable("the NATS servers did not answer in time")))
        };
        let held = |tail: StreamTail| Some(Held { ids: tail.ids.into() });
        match read.unwrap_or_else(late) {
            Ok(()) => {
                self.claim_failures.end();
                tracing::info!(
                    sink = self.context.sink,
                    "the last {} messages of stream {stream} hold {} events of this queue, which are not published \
                     again (read in {} ms)",
                    tail.messages,
                    tail.ids.len(),
                    began.elapsed().as_millis()
                );
                Ok(held(tail))
            }
            Err(UnreadTailError::Deletes) => Ok(None),
            Err(UnreadTailError::Refused(error)) => {
                self.warn_of_doubles(stream, &error.to_string());
                Ok(None)
            }
            Err(UnreadTailError::Away(error)) => {
                self.claim_failures.end();
                Err(error)
            }
            Err(UnreadTailError::Failed(error)) => {
                if !self.claim_failures.are_too_many(Instant::now()) {
                    return Err(error);
                }
                self.warn_of_doubles(stream, &error.to_string());
                Ok(held(tail))
            }
        }
    }

    async fn read_tail(
        &mut self,
        stream: &str,
        at_least: usize,
        tail: &mut StreamTail,
    ) -> Result<(), UnreadTailError> {
        let mut connection = self.connect_beside().await.map_err(UnreadTailError::Failed)?;
        let info = self.look_up(&mut connection, stream).await.map_err(UnreadTailError::Away)?;
        let info = info.ok_or_else(|| UnreadTailError::Away(self.explainer.no_stream(stream)))?;
        // A consumer of such a stream would also change what it keeps, or be in the way of the others.
        if info.config.retention != RetentionPolicy::Limits {
            return Err(UnreadTailError::Deletes);
        }
        let messages = at_least.max(MESSAGES);
        let message_id = self.settings.message_id.bind(&self.context);
        let request = StreamTailRequest {
            stream: &info,
            queue: &self.context.queue,
            message_id: &message_id,
            messages: messages as u64,
            ids: messages,
            // The client drops messages that it has no room for.
            batch: self.settings.subscription_capacity().min(BATCH),
            consumer: format!("atdata-bridge-{:016x}", fastrand::u64(..)),
        };
        let jetstream = self.jetstream(connection.client.clone());
        tokio::select! {
            biased;
            error = connection.next_error() => return Err(match error.kind {
                SinkErrorKind::Misconfigured => UnreadTailError::Refused(error),
                SinkErrorKind::Unavailable => UnreadTailError::Failed(error),
            }),
            read = request.read(&jetstream, tail) => read.map_err(UnreadTailError::Failed)?,
        }
        tokio::select! {
            _may_not = connection.next_error() => {}
            () = remove_consumer(&jetstream, &request.consumer, stream) => {}
        }
        Ok(())
    }

    fn warn_of_doubles(&mut self, stream: &str, why: &str) {
        self.claim_failures.warn(&self.context.sink, doubles(stream, why));
    }
}

/// The warning that only the duplicate window of the stream prevents doubles.
pub(super) fn doubles(stream: &str, why: &str) -> String {
    format!(
        "events can come twice into stream {stream} after a crash or an outage that outlasts its duplicate window: {why}"
    )
}
