//! Holds what the sessions of all protocols share: the contract with the connection, framing, timers, and the
//! list of unacknowledged messages.

pub mod framing;
pub mod heart_beat;
pub mod java_text;
pub mod late_acks;
pub mod message_batch;
pub(in crate::source) mod read_buffer;
pub mod session;
pub mod timers;
pub mod unacked;
