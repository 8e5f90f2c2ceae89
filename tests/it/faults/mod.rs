//! Tests that nothing is lost, duplicated or reordered while brokers, sinks, disks and the bridge itself
//! fail.

mod drain;
mod holds;
mod hundred_thousand;
mod jetstream_stream;
mod kafka_topic;
mod kills;
mod one_of_three_sinks;
mod outages;
mod shared_topic;
mod simulated;
mod strict_pair;
