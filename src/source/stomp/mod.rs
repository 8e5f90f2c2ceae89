//! Consumes over STOMP 1.2 as ActiveMQ implements it. This is our own code (D12): [`framing`] splits bytes into
//! frames, [`frame`] reads and writes one frame, [`session`] holds the state of one connection. None of it
//! does I/O.

pub mod frame;
pub mod framing;
#[cfg(test)]
mod framing_tests;
pub mod session;
#[cfg(test)]
mod session_tests;
