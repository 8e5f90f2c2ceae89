//! Tests that the servers and rivals of the test harness do what tests and benchmarks rely on.

mod activemq;
mod kafka;
mod prometheus;
mod provision;
mod rivals;
