//! STOMP 1.2 as ActiveMQ speaks it. Our own code (D12): bytes to frames in [`codec`], frames in
//! [`frame`]; none of it does I/O.

pub mod codec;
pub mod frame;
pub mod session;
#[cfg(test)]
mod tests;
