//! What every protocol looks like to the connection that carries it: bytes in, bytes out. No I/O.

use std::time::Instant;

use super::heart_beat::ServerHeartBeat;

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It does.
    Continue,
    /// It ends once everything has been written.
    Close,
}

/// The broker's side of one connection. Dropping it is the loss of a client.
pub(crate) trait ServerProtocol: Send {
    /// Where bytes from the client are to be appended.
    fn input(&mut self) -> &mut Vec<u8>;

    /// Answers what was appended to [`Conversation::input`]; not called again once it wants the end.
    fn answer(&mut self, now: Instant, out: &mut Vec<u8>) -> Flow;

    /// Appends waiting messages, at most `limit` and until the buffer has `size` bytes; how many.
    fn fill(&mut self, limit: u64, size: usize, out: &mut Vec<u8>) -> u64;

    /// Tells the client of an error that it has no part in.
    fn complain(&mut self, message: &str, out: &mut Vec<u8>);

    /// Takes all consumers away, and tells the client where its protocol can.
    fn close_consumers(&mut self, out: &mut Vec<u8>);

    /// The heart-beats that were agreed on.
    fn heart_beat(&mut self) -> &mut ServerHeartBeat;

    /// Appends one.
    fn beat(&self, out: &mut Vec<u8>);
}
