//! Splits received bytes into frames, whatever the protocol. Frames may arrive in any pieces, bytes are not
//! copied, and every size has a limit. A [`Scan`] knows where a frame of its protocol ends.
//!
//! The reader fills [`FrameDecoder::buffer`] and calls [`FrameDecoder::decode`]. Complete frames become
//! slices of the read buffer.

use std::fmt::Display;
use std::ops::Range;

use bytes::Bytes;

use super::read_buffer::ReadBuffer;
use crate::budget::Budget;
use crate::source::error::{SourceError, SuspectMessage};

/// Finds the frames of one protocol, one after the other.
pub trait Scan {
    /// One frame as it was read; its slices share the read buffer.
    type Frame;
    /// The offsets of the parts of a frame from its first byte.
    type Layout;
    /// The reason why bytes are no frame.
    type Error: FrameError;

    /// Looks at the beginning of `bytes`. After [`Scanned::Incomplete`] it is called again with the same
    /// bytes and more behind them, otherwise with what comes after the frame or the bytes between.
    ///
    /// # Errors
    /// The bytes are no frame.
    fn scan(&mut self, bytes: &[u8]) -> Result<Scanned<Self::Layout>, DecodeError<Self::Error>>;

    /// Makes the frame that fills `bytes`.
    fn frame(layout: Self::Layout, bytes: &Bytes) -> Self::Frame;
}

/// What stands at the beginning of some bytes.
#[derive(Debug)]
pub enum Scanned<L> {
    /// A frame of this layout and size.
    Frame(L, usize),
    /// So many bytes that belong to no frame.
    Between(usize),
    Incomplete,
}

/// The reason why bytes are no frame.
pub trait FrameError: Display {
    /// Whether the bytes may be a valid frame that is only too large.
    fn is_too_large(&self) -> bool;

    /// Returns what the operator can do about it, if anything.
    fn remedy(&self) -> Option<&'static str>;
}

/// The advice for a body that is too large.
pub const RAISE_MAX_BODY: &str = "raise source.max_body (and source.max_in_flight)";

/// The reason why bytes are no frame. Later bytes on this connection can't be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}", message_id.as_ref().map(|id| format!(" (message {id})")).unwrap_or_default())]
pub struct DecodeError<F: Display> {
    /// The rule of the protocol that the bytes break.
    pub kind: F,
    /// The message in which it was found, if its head could be read.
    pub message_id: Option<String>,
}

impl<F: FrameError> DecodeError<F> {
    /// Converts it into the error that ends the session. `expected`: the name of the protocol, if nothing of
    /// it has come yet.
    pub fn into_source_error(self, expected: Option<&str>) -> SourceError {
        let detail = self.kind.to_string();
        let remedy = self.kind.remedy();
        match (self.message_id, expected) {
            (Some(message_id), _) if self.kind.is_too_large() => {
                SourceError::BodyTooLarge { detail, message_id, remedy: remedy.unwrap_or(RAISE_MAX_BODY) }
            }
            (None, Some(expected)) => {
                let asked = format!("is it {expected} that listens there, as source.url says?");
                SourceError::protocol(format!("{detail}; {asked}"))
            }
            (message_id, _) => {
                SourceError::Protocol { detail, suspect: message_id.map(SuspectMessage::Itself), remedy }
            }
        }
    }
}

/// Splits a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameDecoder<S: Scan> {
    scan: S,
    buffer: ReadBuffer,
    /// Where in the buffer the first frame that is not complete begins.
    start: usize,
    complete: Vec<(S::Layout, Range<usize>)>,
}

impl<S: Scan> FrameDecoder<S> {
    /// Makes a decoder for the frames that `scan` finds. It charges them to `budget`.
    pub fn scanning(scan: S, budget: Budget) -> Self {
        Self { scan, buffer: ReadBuffer::new(budget), start: 0, complete: Vec::new() }
    }

    /// Returns the buffer to which the next received bytes are appended; it always has room for some.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.buffer.room()
    }

    /// Appends every frame that is complete to `frames`, in order.
    ///
    /// # Errors
    /// The bytes are no frame. `frames` then holds the good ones before it. The decoder can't be used any
    /// more.
    pub fn decode(&mut self, frames: &mut Vec<S::Frame>) -> Result<(), DecodeError<S::Error>> {
        let outcome = self.scan();
        self.cut(frames);
        outcome
    }

    fn scan(&mut self) -> Result<(), DecodeError<S::Error>> {
        loop {
            let size = match self.scan.scan(&self.buffer[self.start..])? {
                Scanned::Frame(layout, size) => {
                    self.complete.push((layout, self.start..self.start + size));
                    size
                }
                Scanned::Between(size) => size,
                Scanned::Incomplete => return Ok(()),
            };
            self.start += size;
        }
    }

    /// Turns the complete frames into slices of a frozen buffer and keeps the rest for the next read.
    fn cut(&mut self, frames: &mut Vec<S::Frame>) {
        if !self.complete.is_empty() {
            let chunk = self.buffer.take_front(std::mem::take(&mut self.start));
            let complete = self.complete.drain(..);
            frames.extend(complete.map(|(layout, bytes)| S::frame(layout, &chunk.slice(bytes))));
        } else if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }
}
