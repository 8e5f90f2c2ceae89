//! What every protocol's session looks like to the connection that carries it: bytes in, bytes out,
//! messages, deadlines. No I/O and no clock of its own.

use tokio::time::Instant;

use crate::event::Message;
use crate::source::error::SourceError;

/// What the bytes just read have brought.
#[derive(Debug, Default)]
pub struct Progress {
    /// The subscription was confirmed.
    pub subscribed: bool,
    /// Messages, in broker order.
    pub messages: Vec<Message>,
    /// The broker has confirmed our goodbye: everything sent before it is processed.
    pub closed: bool,
    /// The session has stopped before the end of what was appended, since the budget is used up: it is to be
    /// called again once there is room.
    pub unread: bool,
    /// Bodies of which old brokers' CESU-8 was repaired (D6).
    pub repaired: u64,
}

/// How far a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionMode {
    /// Logs in only, and leaves again: a first subscription would create a queue that fills for ever.
    Login,
    /// Looks at the messages that wait, as many as the prefetch at most, and leaves again. Consumes none and marks
    /// none, but creates the queue as a subscription does.
    Browse,
    /// Subscribes and consumes.
    Subscribe,
}

/// One connection's protocol state.
pub trait Session: Send {
    /// Where bytes from the connection are to be appended.
    fn input(&mut self) -> &mut Vec<u8>;

    /// Reads what was appended to [`Session::input`].
    ///
    /// # Errors
    /// What ends the session; `progress` holds what was good before it.
    fn advance(&mut self, now: Instant, progress: &mut Progress) -> Result<(), SourceError>;

    /// Moves everything to be sent to the end of `out`.
    fn take_output(&mut self, out: &mut Vec<u8>);

    /// Acknowledges every message up to and including position `through`, counted from 1.
    fn ack(&mut self, now: Instant, through: u64);

    /// Up to which position the broker knows what is acknowledged, once it has read all that was said: fewer than
    /// [`Session::ack`] was told of while it may have taken the consumer away.
    fn known(&self) -> u64;

    /// Messages received and not acknowledged.
    fn outstanding(&self) -> usize;

    /// Says goodbye; from now on messages are discarded. Those up to and including position `taken` are in
    /// somebody's hands; later ones nobody has seen, so that they need not come back marked as delivered.
    fn close(&mut self, now: Instant, taken: u64);

    /// Tells whether the connection reads at present. While it does not, silence proves nothing (I4).
    fn reading(&mut self, now: Instant, reading: bool);

    /// When [`Session::tick`] wants to be called next.
    fn deadline(&self) -> Instant;

    /// Sends heart-beats that are due, and judges the broker's silence.
    ///
    /// # Errors
    /// A deadline has passed.
    fn tick(&mut self, now: Instant) -> Result<(), SourceError>;
}
