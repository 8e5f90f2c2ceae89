//! Tests one queue: windows, acknowledgements and redelivery marks.

use std::sync::Arc;

use bytes::Bytes;

use super::super::form::Form;
use super::super::stream::{Content, EventStream};
use super::*;

const ONE: ConsumerNumber = ConsumerNumber(1);
const TWO: ConsumerNumber = ConsumerNumber(2);

/// `count` messages of producer 7, with broker-wide sequence numbers from 101.
fn queue(count: u64) -> SimulatedQueue {
    let content = Content::Body(Form::Text, Bytes::from_static(b"{}"));
    let stream = EventStream { producer: 7, namespace: "acme".into(), started_ms: 0, rate: None, content };
    let mut queue = SimulatedQueue::default();
    queue.enqueue(Run { sequence: 101, ..Run::new(Arc::new(stream), 1, count) });
    queue
}

fn add(queue: &mut SimulatedQueue, id: ConsumerNumber, prefetch: u64) {
    queue.add(id, Wish { mode: AckMode::Client, prefetch, exclusive: false, priority: 0 });
}

/// Returns message number and redeliveries of everything that waits to be written to a consumer.
fn take_all(queue: &mut SimulatedQueue, id: ConsumerNumber) -> Vec<(u64, u32)> {
    let mut taken = Vec::new();
    while let Some(DeliveredMessages { run, .. }) = queue.take(id, 3) {
        taken.extend((0..run.count).map(|n| (run.first + n, run.redeliveries)));
    }
    taken
}

fn after_loss(delivered: LastDelivered) -> Vec<u32> {
    let mut queue = queue(10);
    add(&mut queue, ONE, 10);
    take_all(&mut queue, ONE);
    queue.ack_range(ONE, 1..=3);
    queue.remove(ONE, delivered);
    add(&mut queue, TWO, 10);
    let taken = take_all(&mut queue, TWO);
    assert!(taken.iter().map(|(number, _)| *number).eq(4..=10), "the order is kept: {taken:?}");
    taken.into_iter().map(|(_, redeliveries)| redeliveries).collect()
}

/// Measured at ActiveMQ (`protocols.md §3.8`).
#[test]
fn only_what_was_delivered_comes_again_marked() {
    assert_eq!(after_loss(LastDelivered::Sequence(105)), [1, 1, 0, 0, 0, 0, 0]);
    assert_eq!(after_loss(LastDelivered::Sequence(0)), [0; 7]);
    assert_eq!(after_loss(LastDelivered::Sequence(102)), [0; 7], "acknowledged");
    assert_eq!(after_loss(LastDelivered::Unknown), [1; 7]);
}

#[test]
fn every_loss_counts() {
    let mut queue = queue(2);
    for losses in 0..3 {
        add(&mut queue, ONE, 10);
        assert_eq!(take_all(&mut queue, ONE), [(1, losses), (2, losses)]);
        queue.remove(ONE, LastDelivered::Unknown);
    }
    assert_eq!(queue.stats().redelivered, 4);
}

#[test]
fn the_window_is_wider_until_as_many_are_acknowledged() {
    let mut queue = queue(20);
    add(&mut queue, ONE, 4);
    assert_eq!(take_all(&mut queue, ONE).len(), 4);
    queue.extend(ONE, 3);
    assert_eq!(take_all(&mut queue, ONE).len(), 3);
    queue.ack_range(ONE, 1..=3);
    assert!(take_all(&mut queue, ONE).is_empty(), "four are out, and four may be");
    queue.ack_range(ONE, 4..=5);
    assert_eq!(take_all(&mut queue, ONE), [(8, 0), (9, 0)]);
}

#[test]
fn a_prefetch_may_change() {
    let mut queue = queue(9);
    add(&mut queue, ONE, 2);
    queue.resize(ONE, 5);
    assert_eq!(take_all(&mut queue, ONE).len(), 5);
    queue.resize(ONE, 0);
    queue.ack_range(ONE, 1..=5);
    assert!(take_all(&mut queue, ONE).is_empty());
}

#[test]
fn messages_are_found_once_they_are_written() {
    let mut queue = queue(5);
    add(&mut queue, ONE, 5);
    assert_eq!((queue.oldest(ONE), queue.find(ONE, 7, 2)), (Some(1), None));
    queue.take(ONE, 2);
    assert_eq!((queue.find(ONE, 7, 2), queue.find(ONE, 7, 3)), (Some(2), None));
    assert_eq!(queue.find(ONE, 8, 2), None, "another producer's");
    queue.ack_range(ONE, 1..=1);
    assert_eq!((queue.oldest(ONE), queue.find(ONE, 7, 1)), (Some(2), None));
    assert_eq!(queue.unacked_in(ONE, 1..=3), 2);
}
