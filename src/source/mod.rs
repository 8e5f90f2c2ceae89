//! The contract of a source: a stream of sessions and their messages in broker order, and a way to
//! acknowledge a prefix of a session.

mod addresses;
pub mod check;
pub mod config;
pub mod connection;
#[cfg(test)]
mod connection_tests;
pub mod error;
mod late_acks;
pub mod openwire;
pub mod protocol;
pub mod session_factory;
pub mod stomp;
pub mod supervisor;
#[cfg(test)]
mod testing;
mod wrong_port;

use async_trait::async_trait;

use crate::event::{Message, SessionId};

/// What a source hands to the pump.
#[derive(Debug)]
pub enum Incoming {
    /// A new session is subscribed.
    Session(SessionId),
    /// The next messages of the current session, in broker order; whatever was ready, never empty.
    Messages(Vec<Message>),
    /// The session is over: everything un-acked comes again (or goes to another consumer), and its acks
    /// are void.
    Lost(SessionId),
}

/// What is known of the acknowledgements when a source has ended: the worse is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub enum Disconnect {
    /// The broker has processed them all, or there was no session to say goodbye to.
    Confirmed,
    /// The broker has not answered: what was settled last may come again.
    Unconfirmed,
    /// The last session was lost before everything taken in it was settled: that comes again.
    Unsettled,
}

/// Where events come from. Reconnects by itself, for ever; trouble is shown in the states, not returned.
#[async_trait]
pub trait Source: Send {
    /// The next session or messages. Cancel-safe. `None` once the source is closed.
    async fn next(&mut self) -> Option<Incoming>;

    /// Acknowledges every message of `session` up to and including position `through` (from 1, in the
    /// order handed over). Never waits; an ack for a session that is over does nothing (I2).
    fn ack(&mut self, session: SessionId, through: u64);

    /// Ends cleanly: sends the last acknowledgement, says goodbye and waits until the broker has
    /// processed both, reading and discarding what still comes. Dropping the source instead abandons.
    async fn close(&mut self) -> Disconnect;
}
