//! Describes a topic as the brokers do.

use std::num::NonZeroU32;
use std::time::Duration;

/// What a look found.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    /// How many partitions it has.
    pub(super) partitions: NonZeroU32,
    /// The smallest number of replicas of a partition.
    pub(super) replicas: usize,
    /// How many brokers the cluster has.
    pub(super) brokers: usize,
    /// How long the answer took.
    pub(super) round_trip: Duration,
    /// Who leads partitions, each once.
    pub(super) leaders: Vec<Leader>,
    /// A partition without a leader, if there is one.
    pub(super) leaderless: Option<i32>,
}

/// A broker that leads partitions of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    /// Its number.
    pub(super) id: i32,
    /// The address that it advertises.
    pub(super) address: String,
    /// One of its partitions.
    pub(super) partition: i32,
}
