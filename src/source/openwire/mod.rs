//! Consumes over OpenWire as ActiveMQ implements it. This is our own code (D12): [`wire`] reads and writes
//! the commands, [`session`] holds the state of one connection. Neither does I/O.

mod batch_builder;
mod handshake;
#[cfg(test)]
mod handshake_tests;
mod prefetch_credit;
pub mod session;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod testing;
pub mod wire;
