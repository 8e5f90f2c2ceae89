//! Bytes into frames, whatever the protocol: split anywhere, nothing copied, everything limited. Where frames
//! begin and end is what a [`Scan`] knows.
//!
//! The reader fills [`Decoder::buffer`] and calls [`Decoder::decode`]. Complete frames become slices of the read
//! buffer.

use std::fmt::Display;

use bytes::Bytes;

use super::read_buffer::ReadBuffer;
use crate::budget::Budget;
use crate::source::error::{SourceError, Suspect};

/// Finds frames in the bytes of one protocol. It remembers how far it has come by offsets into the bytes.
pub trait Scan {
    /// One frame as it was read; its slices share the read buffer.
    type Frame;
    /// Where its parts are.
    type Layout;
    /// What is wrong with bytes that are no frame.
    type Fault: FrameError;

    /// Goes on through `bytes`, at the end of which more may have come, and appends every frame that is complete
    /// to `complete`, in order.
    ///
    /// # Errors
    /// The bytes are no frame. `complete` then holds the good ones before it.
    fn scan(
        &mut self,
        bytes: &[u8],
        complete: &mut Vec<Self::Layout>,
    ) -> Result<(), DecodeError<Self::Fault>>;

    /// How many bytes from the front it is done with: complete frames, and what may be between them.
    fn done(&self) -> usize;

    /// The bytes that it was done with are gone: every offset is smaller by their number.
    fn rebase(&mut self);

    /// The frame with this layout in `bytes`.
    fn frame(layout: Self::Layout, bytes: &Bytes) -> Self::Frame;
}

/// What is wrong with bytes that are no frame.
pub trait FrameError: Display {
    /// Whether they may well be one, and only too large.
    fn is_too_large(&self) -> bool;

    /// What its reader can do about it, if anything.
    fn remedy(&self) -> Option<&'static str>;
}

/// What to do about a body that is too large.
pub const RAISE_MAX_BODY: &str = "raise source.max_body (and source.max_in_flight)";

/// Why bytes are no frame. Nothing after it on this connection can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}", message_id.as_ref().map(|id| format!(" (message {id})")).unwrap_or_default())]
pub struct DecodeError<F: Display> {
    /// What is wrong.
    pub kind: F,
    /// The message in which it was found, if its head could be read.
    pub message_id: Option<String>,
}

impl<F: FrameError> DecodeError<F> {
    /// What it means for the session. `expected`: the name of the protocol, if nothing of it has come yet.
    pub fn into_source_error(self, expected: Option<&str>) -> SourceError {
        let detail = self.kind.to_string();
        let remedy = self.kind.remedy();
        match (self.message_id, expected) {
            (Some(message_id), _) if self.kind.is_too_large() => {
                SourceError::BodyTooLarge { detail, message_id, remedy: remedy.unwrap_or(RAISE_MAX_BODY) }
            }
            (None, Some(expected)) => {
                let asked = format!("is it {expected} that listens there, as source.url says?");
                SourceError::protocol(format!("{detail}; {asked}"), None)
            }
            (message_id, _) => {
                SourceError::Protocol { detail, suspect: message_id.map(Suspect::Itself), remedy }
            }
        }
    }
}

/// Splits a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameDecoder<S: Scan> {
    scan: S,
    buffer: ReadBuffer,
    complete: Vec<S::Layout>,
}

impl<S: Scan> FrameDecoder<S> {
    /// Finds what `scan` finds, and charges it to `budget`.
    pub fn scanning(scan: S, budget: Budget) -> Self {
        Self { scan, buffer: ReadBuffer::new(budget), complete: Vec::new() }
    }

    /// Where the next bytes from the connection are to be appended; always has room for some.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.buffer.room()
    }

    /// Appends every frame that is complete to `frames`, in order.
    ///
    /// # Errors
    /// The bytes are no frame. `frames` then holds the good ones before it; the decoder is of no more use.
    pub fn decode(&mut self, frames: &mut Vec<S::Frame>) -> Result<(), DecodeError<S::Fault>> {
        let outcome = self.scan.scan(&self.buffer, &mut self.complete);
        self.cut(frames);
        outcome
    }

    /// Turns what is complete into slices of a frozen buffer and keeps the rest for the next read.
    fn cut(&mut self, frames: &mut Vec<S::Frame>) {
        let done = self.scan.done();
        if !self.complete.is_empty() {
            let chunk = self.buffer.take_front(done);
            self.scan.rebase();
            frames.extend(self.complete.drain(..).map(|layout| S::frame(layout, &chunk)));
        } else if done == self.buffer.len() {
            self.buffer.clear();
            self.scan.rebase();
        }
    }
}
