//! Tests the sinks: the contract that every sink meets, and what is special to each sink.

mod consumer_samples;
pub mod contract;
mod dead_letters;
mod dead_letters_in_a_sink;
pub mod kafka;
mod memory;
pub mod nats;
mod stdout;
pub mod webhook;
