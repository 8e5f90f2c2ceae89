//! Tests that the servers of the test harness do what the other tests rely on.

mod activemq;
mod kafka;
