//! OpenWire as ActiveMQ speaks it: wire format 12, loose encoding, no cache, with size prefix. Our own code
//! (D12): bytes to frames in [`codec`], frames to commands in [`frame`], message bodies in [`body`],
//! one connection's conversation in [`session`]; none of it does I/O.

pub mod ack;
mod batch_builder;
pub mod body;
pub mod codec;
pub mod control;
pub mod frame;
mod handshake;
pub mod headers;
pub mod ids;
mod inflate;
pub mod info;
pub mod message;
mod prefetch_credit;
pub mod properties;
#[cfg(test)]
mod round_trip;
pub mod session;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod testing;
pub(crate) mod types;

pub mod primitives;
pub mod wire_format;
