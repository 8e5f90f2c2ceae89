//! Tests the sinks: the contract that all of them keep, and what is special to each.

mod consumer_samples;
pub mod contract;
mod dead_letters;
pub mod kafka;
pub mod nats;
mod stdout;
pub mod webhook;
