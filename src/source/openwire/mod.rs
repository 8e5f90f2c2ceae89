//! Consumes over OpenWire as ActiveMQ talks it. The commands are in [`wire`], one connection's state in [`session`];
//! neither does I/O. Our own code (D12).

mod batch_builder;
mod handshake;
mod prefetch_credit;
pub mod session;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod testing;
pub mod wire;
