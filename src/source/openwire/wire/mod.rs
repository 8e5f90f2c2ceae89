//! Reads and writes OpenWire's commands, in wire format 12: loose encoding, no cache, with size prefix.

pub mod ack;
pub mod body;
pub mod command;
pub mod control;
pub mod framing;
pub mod headers;
pub mod ids;
mod inflate;
pub mod info;
pub mod message;
pub mod primitives;
pub mod properties;
#[cfg(test)]
mod round_trip;
pub(crate) mod types;
pub mod wire_format;
