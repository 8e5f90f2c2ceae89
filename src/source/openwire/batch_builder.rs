//! Turns MessageDispatch commands into messages for the pipeline.

use bytes::Bytes;

use super::wire::body::{self, MessageBody};
use super::wire::headers::decode_headers;
use super::wire::message::{MessageKind, WireMessage};
use crate::budget::Budget;
use crate::event::{Headers, Message, UnreadableBodyError};
use crate::source::error::SourceError;
use crate::source::protocol::framing::RAISE_MAX_BODY;
use crate::source::protocol::message_batch::MessageBatch;
use crate::source::protocol::session::SessionProgress;

/// Builds the messages that came together.
pub(super) struct BatchBuilder<'a> {
    limit: usize,
    budget: Budget,
    batch: MessageBatch<'a>,
    has_inflated: bool,
}

impl<'a> BatchBuilder<'a> {
    /// Starts a batch of `most` messages at most, with bodies of `limit` bytes at most.
    pub(super) fn new(limit: usize, budget: &Budget, most: usize, progress: &'a mut SessionProgress) -> Self {
        let batch = MessageBatch::new(most, progress);
        Self { limit, budget: budget.clone(), batch, has_inflated: false }
    }

    /// Adds a message; `fields` are those of its frame. A body that can't be read is passed on unchanged,
    /// with the reason. It must become a dead letter and must not end the session (`protocols.md §3.9`).
    ///
    /// # Errors
    /// The body is too large.
    pub(super) fn add(
        &mut self,
        message: &WireMessage,
        redelivered: bool,
        fields: &Bytes,
    ) -> Result<(), SourceError> {
        self.has_inflated |= message.compressed;
        let (body, unreadable) = match body::body(message, self.limit, &self.budget) {
            Ok(MessageBody { bytes, repaired }) => {
                self.batch.progress.repaired += u64::from(repaired);
                (bytes, None)
            }
            Err(too_large @ body::BodyError::TooLarge { .. }) => {
                return Err(SourceError::BodyTooLarge {
                    detail: too_large.to_string(),
                    message_id: message.id.text(),
                    remedy: RAISE_MAX_BODY,
                });
            }
            Err(reason) => {
                let raw = match message.kind {
                    // A blob message only tells where its content is, in fields that other messages do not
                    // have.
                    MessageKind::Blob => fields.clone(),
                    _ => message.content.clone().unwrap_or_default(),
                };
                (raw, Some(UnreadableBodyError(reason.to_string().into())))
            }
        };
        let built = Message {
            id: Bytes::new(),
            body,
            timestamp: Some(message.timestamp),
            redelivered,
            headers: Headers::new(fields.clone(), decode_headers),
            unreadable,
        };
        self.batch.push(built, |ids| message.id.write_text(ids));
        Ok(())
    }

    /// Whether a body was compressed, and so takes more memory than its frame.
    pub(super) fn has_inflated(&self) -> bool {
        self.has_inflated
    }

    /// Returns what the messages are added to.
    pub(super) fn progress(&mut self) -> &mut SessionProgress {
        self.batch.progress
    }

    pub(super) fn finish(self) {
        self.batch.finish(&self.budget);
    }
}
