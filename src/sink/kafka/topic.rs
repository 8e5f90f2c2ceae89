//! Describes a topic as the brokers do.

use std::num::NonZeroU32;
use std::time::Duration;

/// The description of a topic that a lookup returns.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) partitions: NonZeroU32,
    /// The smallest number of replicas of any partition.
    pub(super) replicas: usize,
    /// The smallest number of replicas in sync of any partition, and such a partition.
    pub(super) in_sync: (usize, i32),
    /// The number of brokers in the cluster.
    pub(super) brokers: usize,
    /// How long the answer took.
    pub(super) round_trip: Duration,
    /// The brokers that lead partitions, each once.
    pub(super) leaders: Vec<Leader>,
    /// The brokers that hold replicas of the topic and lead no partition now, with the addresses that they advertise.
    pub(super) followers: Vec<(i32, String)>,
    /// The addresses that all brokers of the cluster advertise.
    pub(super) advertised: Vec<String>,
    /// A partition without a leader, if there is one.
    pub(super) leaderless: Option<i32>,
    /// Whether the bridge may read it, if the brokers say so.
    pub(super) may_read: Option<bool>,
}

/// A broker that leads partitions of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) id: i32,
    /// The address that the broker advertises.
    pub(super) address: String,
    /// One of the partitions that the broker leads.
    pub(super) partition: i32,
}
