//! Defines the session that every protocol provides to its connection: bytes in, bytes out, messages,
//! deadlines. A session does no I/O and has no clock of its own.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::Message;
use crate::source::error::SourceError;

/// The results of processing the bytes just read.
#[derive(Debug, Default)]
pub struct SessionProgress {
    /// The broker has confirmed the subscription.
    pub subscribed: bool,
    /// The messages received, in broker order.
    pub messages: Vec<Message>,
    /// The broker has confirmed the disconnect: everything sent before it is processed.
    pub closed: bool,
    /// The session has stopped before the end of the appended bytes, since the budget is used up. Call it
    /// again once there is room.
    pub unread: bool,
    /// Number of bodies whose CESU-8, from an old broker, was repaired (D6).
    pub repaired: u64,
}

/// How far a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionMode {
    /// Only logs in, and disconnects: a first subscription would create a queue that fills for ever.
    Login,
    /// Reads the messages that wait, as many as the prefetch at most, and disconnects. Acknowledges none, so
    /// the broker keeps all and marks none. Creates the queue as a subscription does (D51).
    Browse,
    /// Subscribes to the queue and consumes.
    Subscribe,
}

/// The protocol state of one connection.
pub trait Session: Send {
    /// Returns the buffer to which bytes from the connection are appended.
    fn input(&mut self) -> &mut Vec<u8>;

    /// Processes the bytes appended to [`Session::input`].
    ///
    /// # Errors
    /// The error that ends the session; `progress` holds what was good before it.
    fn advance(&mut self, now: Instant, progress: &mut SessionProgress) -> Result<(), SourceError>;

    /// Moves everything to be sent to the end of `out`.
    fn take_output(&mut self, out: &mut Vec<u8>);

    /// Acknowledges every message up to and including position `through`, counted from 1.
    fn ack(&mut self, now: Instant, through: u64);

    /// Returns the position up to which the broker knows messages as acknowledged, once it has read all that
    /// was sent. It is lower than the last [`Session::ack`] while the broker may have removed the consumer.
    fn known(&self) -> u64;

    /// Returns how long the broker may be silent before the session gives up; `None` if it may be so for ever, because
    /// the broker sends no heart-beats.
    fn silence(&self) -> Option<Duration>;

    /// Returns the number of messages received and not acknowledged.
    fn outstanding(&self) -> usize;

    /// Disconnects; from now on messages are discarded. The dispatcher has taken the messages up to and
    /// including position `taken`. Later messages were never processed, so they need not come back marked as
    /// delivered.
    fn close(&mut self, now: Instant, taken: u64);

    /// Tells whether the connection reads at present. While it does not, silence proves nothing (I4).
    fn reading(&mut self, now: Instant, reading: bool);

    /// When the connection must call [`Session::tick`] next.
    fn deadline(&self) -> Instant;

    /// Sends heart-beats that are due, and checks whether the broker is silent for too long.
    ///
    /// # Errors
    /// A deadline has passed.
    fn tick(&mut self, now: Instant) -> Result<(), SourceError>;
}
