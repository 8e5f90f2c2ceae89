//! Tests that the sink finds its last records also behind many records of other programs, by the offsets that it
//! commits for the queue.

use atdata_bridge::sink::{Sink, SinkContext};
use kit::kafka::{Kafka, Listener, on_kafka, shared};
use kit::kafka_reader::{committed, record_count};
use kit::kafka_writer::{delete_group, write_records};
use kit::{SOON, wait_until};

use super::{config, numbers, sink_in};
use crate::sinks::contract::{Rig, context};

on_kafka!(
    events_behind_the_records_of_others_are_not_written_again,
    what_was_only_found_is_found_again,
    without_the_committed_offsets_events_are_written_again,
    without_the_right_to_the_group_events_are_written_again,
    a_topic_that_is_made_anew_is_read_as_a_new_one,
    a_check_says_what_the_right_to_the_group_is_for,
);

/// More than the sink reads of a partition without a mark: 4 × the prefetch of the test's bridge.
const OTHERS: u64 = 20_000;
const PARTITIONS: u32 = 2;
const EVENTS: u64 = 300;

/// A topic and a queue of the same name.
struct Shared {
    kafka: &'static Kafka,
    name: &'static str,
}

impl Shared {
    fn make(name: &'static str) -> Self {
        let kafka = shared();
        kafka.create_topic(name, PARTITIONS, &[]);
        Self { kafka, name }
    }

    fn sink(&self) -> Box<dyn Sink> {
        let context = SinkContext { queue: self.name.to_owned(), ..context() };
        sink_in(config(self.kafka, Listener::Plain, self.name), context)
    }

    fn committed(&self) -> Vec<i64> {
        tokio::task::block_in_place(|| committed(&self.kafka.bootstrap(), self.name, self.name))
    }

    /// Writes events with a bridge that ends before it acknowledges one. Then other programs write.
    async fn crash(&self) {
        let mut rig = Rig::start(self.sink(), 0).await;
        rig.send_to(EVENTS).await;
        rig.wait_for_ack(EVENTS).await;
        rig.abandon().await;
        self.write_others();
    }

    fn write_others(&self) {
        for partition in 0..PARTITIONS {
            // The number of no event.
            let body = |_| r#"{"n":0}"#.to_owned();
            tokio::task::block_in_place(|| {
                write_records(&self.kafka.bootstrap(), self.name, partition, (0..OTHERS).map(body));
            });
        }
    }

    async fn has_marks(&self) {
        let known = || self.committed().len() == PARTITIONS as usize;
        wait_until("each partition has a committed offset", SOON, known).await;
    }

    /// Delivers all events again, and returns how many were not written since the topic has them.
    async fn deliver_again(&self) -> u64 {
        let mut rig = Rig::start(self.sink(), 0).await;
        rig.send_to(EVENTS + 1).await;
        rig.wait_for_ack(EVENTS + 1).await;
        let suppressed = rig.counters.workers.get("subject").suppressed.get();
        rig.abandon().await;
        suppressed
    }

    fn events(&self) -> Vec<u64> {
        let mut numbers = numbers(self.kafka, self.name);
        numbers.retain(|number| *number > 0);
        numbers
    }
}

async fn events_behind_the_records_of_others_are_not_written_again() {
    let topic = Shared::make("low-water");
    topic.crash().await;
    topic.has_marks().await;
    assert_eq!(topic.deliver_again().await, EVENTS);
    assert_eq!(topic.events(), (1..=EVENTS + 1).collect::<Vec<_>>());
}

/// The second bridge writes only one event, and must not lose sight of those that the first one had written.
async fn what_was_only_found_is_found_again() {
    let topic = Shared::make("low-water-found");
    topic.crash().await;
    topic.has_marks().await;
    for _ in 0..2 {
        assert!(topic.deliver_again().await >= EVENTS);
        topic.write_others();
    }
    assert_eq!(topic.events(), (1..=EVENTS + 1).collect::<Vec<_>>());
}

/// Proves that the tests above can fail.
async fn without_the_committed_offsets_events_are_written_again() {
    let topic = Shared::make("low-water-deleted");
    topic.crash().await;
    topic.has_marks().await;
    // The last commit may still be under way.
    while !topic.committed().is_empty() {
        delete_group(&topic.kafka.bootstrap(), topic.name).await;
    }
    assert_eq!(topic.deliver_again().await, 0);
    assert_eq!(topic.events().len() as u64, 2 * EVENTS + 1);
}

async fn without_the_right_to_the_group_events_are_written_again() {
    let topic = Shared::make("low-water-refused");
    let group = format!("group:{}", topic.name);
    topic.kafka.allow("User:somebody", "READ", &group);
    topic.crash().await;
    assert_eq!(topic.deliver_again().await, 0);
    // To read offsets is less than to store them, which the bridge may still be trying.
    topic.kafka.allow("User:*", "DESCRIBE", &group);
    assert!(topic.committed().is_empty(), "nothing was stored");
    topic.kafka.forget_rules(&group);
    assert_eq!(topic.events().len() as u64, 2 * EVENTS + 1);
}

async fn a_topic_that_is_made_anew_is_read_as_a_new_one() {
    let topic = Shared::make("low-water-anew");
    topic.write_others();
    topic.crash().await;
    topic.has_marks().await;
    let marks = topic.committed();
    assert!(marks.iter().all(|mark| *mark >= i64::try_from(OTHERS).unwrap()), "{marks:?}");
    topic.kafka.delete_topic(topic.name);
    topic.kafka.create_topic(topic.name, PARTITIONS, &[]);
    assert_eq!(topic.deliver_again().await, 0, "nothing is in it");
    assert_eq!(topic.deliver_again().await, EVENTS + 1);
    assert_eq!(record_count(&topic.kafka.bootstrap(), topic.name), EVENTS + 1);
}

async fn a_check_says_what_the_right_to_the_group_is_for() {
    let topic = Shared::make("low-water-checked");
    let noted = async || {
        let lines = topic.sink().probe().await.expect("it may write");
        lines
            .iter()
            .any(|line| line.message.contains("keep its position as the consumer group low-water-checked"))
    };
    assert!(!noted().await, "everybody may do everything");
    topic.kafka.allow("User:somebody", "READ", "group:low-water-checked");
    assert!(noted().await);
    topic.kafka.allow("User:*", "READ", "group:low-water-checked");
    assert!(!noted().await);
}
