//! Tests the sinks: the contract that every sink meets, and what is special to each sink.

mod consumer_samples;
pub mod contract;
mod dead_letters;
pub mod kafka;
pub mod nats;
mod stdout;
pub mod webhook;
