//! Holds what the sessions of all protocols share: the contract with the connection, framing, timers, what is not
//! acknowledged yet.

pub mod framing;
pub mod heart_beat;
pub mod java_text;
pub mod message_ids;
pub(in crate::source) mod read_buffer;
pub mod session;
pub mod timers;
pub mod unacked;
