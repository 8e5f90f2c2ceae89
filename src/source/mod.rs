//! Defines the contract of a source: it delivers sessions and their messages in broker order, and it takes
//! the acknowledgement of a prefix of a session.

mod addresses;
pub mod check;
pub mod config;
pub mod connection;
#[cfg(test)]
mod connection_tests;
pub mod error;
mod login_errors;
pub mod network;
pub mod openwire;
pub mod protocol;
pub mod session_factory;
pub mod stomp;
pub mod supervisor;
mod suspicion;
#[cfg(test)]
mod testing;
mod wrong_port;

use async_trait::async_trait;

use crate::event::{Message, SessionId};

/// What a source sends to the dispatcher.
#[derive(Debug)]
pub enum Incoming {
    /// A new session is subscribed.
    Session(SessionId),
    /// The next messages of the current session, in broker order: all that were ready, at least one.
    Messages(Vec<Message>),
    /// The session is over. Its acknowledgements have no effect any more: the broker delivers every
    /// unacknowledged message again, here or to another consumer.
    Lost(SessionId),
}

/// What is known of the acknowledgements after a source has ended. The order matters: the worse result is the
/// greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub enum Disconnect {
    /// The broker has processed all acknowledgements, or no session has brought a message.
    Confirmed,
    /// The broker did not answer the disconnect, or the last session that brought messages was lost before: the
    /// messages that were settled last may come again.
    Unconfirmed,
    /// The last session was lost before everything received in it was settled: that comes again.
    Unsettled,
}

/// Delivers events. It reconnects by itself for ever; it reports errors in its status and does not return
/// them.
#[async_trait]
pub trait Source: Send {
    /// Returns the next session or messages, or `None` once the source is closed. Cancel-safe.
    async fn next(&mut self) -> Option<Incoming>;

    /// Acknowledges every message of `session` up to and including position `through` (from 1, in the order
    /// delivered). Never waits. An acknowledgement for a session that is over does nothing (I2).
    fn ack(&mut self, session: SessionId, through: u64);

    /// Ends `session` and connects again, because another bridge has taken the queue over, or may have: the broker
    /// decides anew who gets its messages. Never waits. Does nothing for a session that is over.
    fn give_up(&mut self, session: SessionId);

    /// Ends cleanly: sends the last acknowledgement, disconnects, and waits until the broker has processed
    /// both. Meanwhile it reads and discards incoming messages. Dropping the source instead abandons the
    /// connection.
    async fn close(&mut self) -> Disconnect;
}
