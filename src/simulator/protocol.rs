//! Defines the interface between a connection and its protocol: bytes in, bytes out. No I/O.

use std::time::Instant;

use super::heart_beat::ServerHeartBeat;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// The connection ends once everything is written.
    Close,
}

/// The broker's side of one connection. Dropping it means that the client was lost.
pub(crate) trait ServerProtocol: Send {
    /// The buffer to which received bytes are appended.
    fn input(&mut self) -> &mut Vec<u8>;

    /// Answers the bytes in [`ServerProtocol::input`]. Not called again after it has returned
    /// [`Flow::Close`].
    fn answer(&mut self, now: Instant, out: &mut Vec<u8>) -> Flow;

    /// Appends waiting messages, at most `limit` and until the buffer has `size` bytes. Returns their number.
    fn fill(&mut self, limit: u64, size: usize, out: &mut Vec<u8>) -> u64;

    /// Tells the client of an error that it did not cause.
    fn complain(&mut self, message: &str, out: &mut Vec<u8>);

    /// Removes all consumers, and tells the client if its protocol allows it.
    fn close_consumers(&mut self, out: &mut Vec<u8>);

    /// The heart-beats agreed with the client.
    fn heart_beat(&mut self) -> &mut ServerHeartBeat;

    fn beat(&self, out: &mut Vec<u8>);
}
