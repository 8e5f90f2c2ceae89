//! The integration tests: one binary against real brokers.
fn main() {}
