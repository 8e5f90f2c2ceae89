//! Tests the broker by steps, and against a model with random steps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::form::Form;
use super::super::queue::AckMode;
use super::super::stream::{Content, EventStream};
use super::*;

const QUEUE: &str = "dest1.RTO.acme";

fn stream(producer: u64) -> Arc<EventStream> {
    let content = Content::Body(Form::Text, Bytes::from_static(b"{}"));
    Arc::new(EventStream { producer, namespace: "acme".into(), started_ms: 0, rate: None, content })
}

fn peer() -> SocketAddr {
    ([127, 0, 0, 1], 40_000).into()
}

fn wish(mode: AckMode, prefetch: u64) -> Wish {
    Wish { mode, prefetch, exclusive: false, priority: 0 }
}

fn broker() -> (SimulatedBroker, ClientSessionId, Instant) {
    let now = Instant::now();
    let mut broker = SimulatedBroker::new(Duration::ZERO);
    let session = broker.connect(None, peer(), now).unwrap();
    (broker, session, now)
}

/// Returns delivery number, message number and flag of everything that waits to be written to `consumer`.
fn take_all(broker: &mut SimulatedBroker, consumer: ConsumerNumber) -> Vec<(u64, u64, bool)> {
    let mut taken = Vec::new();
    while let Some(DeliveredMessages { number, run }) = broker.take(consumer, 3) {
        taken.extend((0..run.count).map(|n| (number + n, run.first + n, run.redeliveries > 0)));
    }
    taken
}

fn numbers(taken: &[(u64, u64, bool)]) -> Vec<u64> {
    taken.iter().map(|(_, message, _)| *message).collect()
}

#[test]
fn every_queue_gets_a_copy_from_its_first_subscribe_on() {
    let (mut broker, session, _) = broker();
    let stream = stream(1);
    broker.publish(&Run::new(Arc::clone(&stream), 1, 5));
    let one = broker.subscribe(session, QUEUE, wish(AckMode::Client, 100));
    broker.publish(&Run::new(Arc::clone(&stream), 6, 5));
    let two = broker.subscribe(session, "dest2.RTO.acme", wish(AckMode::Client, 100));
    let other = broker.subscribe(session, "dest1.RTO.other", wish(AckMode::Client, 100));
    broker.publish(&Run::new(stream, 11, 5));

    assert_eq!(numbers(&take_all(&mut broker, one)), (6..=15).collect::<Vec<_>>());
    assert_eq!(numbers(&take_all(&mut broker, two)), (11..=15).collect::<Vec<_>>());
    assert_eq!(take_all(&mut broker, other), []);
    assert_eq!(broker.stats().published, 15);
}

#[test]
fn consumers_of_one_queue_share_it() {
    let (mut broker, session, _) = broker();
    let one = broker.subscribe(session, QUEUE, wish(AckMode::Client, 100));
    let two = broker.subscribe(session, QUEUE, wish(AckMode::Client, 100));
    broker.publish(&Run::new(stream(1), 1, 10));
    let (first, second) = (take_all(&mut broker, one), take_all(&mut broker, two));
    assert_eq!((first.len(), second.len()), (5, 5));
    let mut all = [numbers(&first), numbers(&second)].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=10).collect::<Vec<_>>());
}

#[test]
fn higher_priority_is_filled_first() {
    let (mut broker, session, _) = broker();
    let low = broker.subscribe(session, QUEUE, wish(AckMode::Client, 10));
    let high = broker.subscribe(session, QUEUE, Wish { priority: 5, ..wish(AckMode::Client, 4) });
    broker.publish(&Run::new(stream(1), 1, 6));
    assert_eq!(numbers(&take_all(&mut broker, high)), [1, 2, 3, 4]);
    assert_eq!(numbers(&take_all(&mut broker, low)), [5, 6]);
}

#[test]
fn the_prefetch_bounds_what_is_out_and_an_ack_is_cumulative() {
    let (mut broker, session, _) = broker();
    let consumer = broker.subscribe(session, QUEUE, wish(AckMode::Client, 4));
    broker.publish(&Run::new(stream(1), 1, 10));
    assert_eq!(numbers(&take_all(&mut broker, consumer)), [1, 2, 3, 4]);
    assert!(broker.ack(consumer, 3));
    assert_eq!(numbers(&take_all(&mut broker, consumer)), [5, 6, 7]);
    assert!(!broker.ack(consumer, 2), "acked already");
    assert!(!broker.ack(consumer, 8), "not given yet");
    let stats = broker.stats().queues[QUEUE];
    assert_eq!((stats.acked, stats.in_flight, stats.pending), (3, 4, 3));
}

#[test]
fn what_is_not_written_yet_cannot_be_acked() {
    let (mut broker, session, _) = broker();
    let consumer = broker.subscribe(session, QUEUE, wish(AckMode::Client, 10));
    broker.publish(&Run::new(stream(1), 1, 10));
    assert!(!broker.ack(consumer, 1));
    assert_eq!(broker.take(consumer, 2).unwrap().run.count, 2);
    assert!(!broker.ack(consumer, 3));
    assert!(broker.ack(consumer, 2));
}

#[test]
fn individual_acks_leave_holes_that_return_in_order() {
    let (mut broker, session, now) = broker();
    let consumer = broker.subscribe(session, QUEUE, wish(AckMode::ClientIndividual, 10));
    broker.publish(&Run::new(stream(1), 1, 6));
    take_all(&mut broker, consumer);
    assert!(broker.ack(consumer, 4));
    assert!(broker.ack(consumer, 2));
    assert!(!broker.ack(consumer, 2));
    assert!(broker.nack(consumer, 6));
    broker.leave(session, true, now);
    let again = broker.connect(None, peer(), now).unwrap();
    let consumer = broker.subscribe(again, QUEUE, wish(AckMode::Client, 10));
    broker.publish(&Run::new(stream(2), 7, 1));
    let expected = [(1, 1, true), (2, 3, true), (3, 5, true), (4, 7, false)];
    assert_eq!(take_all(&mut broker, consumer), expected);
    let stats = broker.stats().queues[QUEUE];
    assert_eq!((stats.acked, stats.dead, stats.redelivered), (2, 1, 3));
}

#[test]
fn auto_is_acked_when_it_is_written() {
    let (mut broker, session, now) = broker();
    let consumer = broker.subscribe(session, QUEUE, wish(AckMode::Auto, 4));
    broker.publish(&Run::new(stream(1), 1, 10));
    assert_eq!(take_all(&mut broker, consumer).len(), 10);
    broker.leave(session, false, now);
    let stats = broker.stats().queues[QUEUE];
    assert_eq!((stats.acked, stats.pending), (10, 0));
}

#[test]
fn only_the_first_exclusive_consumer_is_given_messages_until_it_is_lost() {
    let (mut broker, session, now) = broker();
    let plain = broker.subscribe(session, QUEUE, wish(AckMode::Client, 100));
    let exclusive = Wish { exclusive: true, ..wish(AckMode::Client, 100) };
    let one = broker.connect(Some("one"), peer(), now).unwrap();
    let active = broker.subscribe(one, QUEUE, exclusive);
    let standby = broker.subscribe(session, QUEUE, exclusive);
    broker.publish(&Run::new(stream(1), 1, 5));
    assert_eq!(numbers(&take_all(&mut broker, active)), [1, 2, 3, 4, 5]);
    assert_eq!(take_all(&mut broker, plain), []);
    assert!(broker.ack(active, 2));
    broker.leave(one, false, now);
    assert_eq!(take_all(&mut broker, plain), []);
    assert_eq!(take_all(&mut broker, standby), [(1, 3, true), (2, 4, true), (3, 5, true)]);
}

#[test]
fn a_client_id_is_unique_and_held_after_a_crash() {
    let now = Instant::now();
    let mut broker = SimulatedBroker::new(Duration::from_secs(60));
    let dead = broker.connect(Some("bridge-0"), peer(), now).unwrap();
    let refusal = Err(AlreadyConnectedError { peer: peer() });
    assert_eq!(broker.connect(Some("bridge-0"), peer(), now), refusal);
    broker.leave(dead, false, now);
    assert_eq!(broker.connect(Some("bridge-0"), peer(), now + Duration::from_secs(59)), refusal);
    let clean = broker.connect(Some("bridge-0"), peer(), now + Duration::from_secs(60)).unwrap();
    broker.leave(clean, true, now);
    assert!(broker.connect(Some("bridge-0"), peer(), now).is_ok());
    assert!(broker.connect(None, peer(), now).is_ok());
    assert_eq!(broker.stats().refused, 2);
}

#[test]
fn a_billion_messages_wait_in_one_run() {
    let (mut broker, session, now) = broker();
    broker.declare(QUEUE);
    let stream = stream(1);
    for n in 0..1000 {
        broker.publish(&Run::new(Arc::clone(&stream), n * 1_000_000 + 1, 1_000_000));
    }
    let consumer = broker.subscribe(session, QUEUE, wish(AckMode::Client, 10));
    take_all(&mut broker, consumer);
    broker.leave(session, false, now);
    assert_eq!(broker.stats().queues[QUEUE].pending, 1_000_000_000);
    assert_eq!(Arc::strong_count(&stream), 3, "the re-delivered run, the pending one, and ours");
}

/// A step that can happen to one queue with up to three consumers.
#[derive(Clone, Debug)]
enum ModelStep {
    Publish(u64),
    Subscribe { prefetch: u64, individual: bool, exclusive: bool },
    Take { consumer: usize, limit: u64 },
    Ack { consumer: usize, nth: usize },
    Nack { consumer: usize, nth: usize },
    Lose { consumer: usize },
}

fn steps() -> impl Strategy<Value = Vec<ModelStep>> {
    let step = prop_oneof![
        (1u64..20).prop_map(ModelStep::Publish),
        (1u64..15, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(prefetch, individual, exclusive)| {
            ModelStep::Subscribe { prefetch, individual, exclusive }
        }),
        (0usize..3, 1u64..8).prop_map(|(consumer, limit)| ModelStep::Take { consumer, limit }),
        (0usize..3, 0usize..10).prop_map(|(consumer, nth)| ModelStep::Ack { consumer, nth }),
        (0usize..3, 0usize..10).prop_map(|(consumer, nth)| ModelStep::Nack { consumer, nth }),
        (0usize..3).prop_map(|consumer| ModelStep::Lose { consumer }),
    ];
    prop::collection::vec(step, 1..80)
}

/// The un-acked deliveries of a consumer (delivery number, message number), whether it acks one by one, and
/// its prefetch.
type Held = (VecDeque<(u64, u64)>, bool, u64);

/// The model: the messages that each consumer holds, in the order in which they were written.
struct Model {
    broker: SimulatedBroker,
    session: ClientSessionId,
    stream: Arc<EventStream>,
    published: u64,
    held: BTreeMap<ConsumerNumber, Held>,
    done: BTreeMap<u64, u64>,
    seen: BTreeMap<u64, bool>,
}

impl Model {
    fn new() -> Self {
        let (mut broker, session, _) = broker();
        broker.declare(QUEUE);
        let (held, done, seen) = Default::default();
        Self { broker, session, stream: stream(1), published: 0, held, done, seen }
    }

    fn consumer(&self, nth: usize) -> Option<ConsumerNumber> {
        self.held.keys().nth(nth).copied()
    }

    fn take(&mut self, consumer: ConsumerNumber, limit: u64) -> Result<bool, TestCaseError> {
        let Some(DeliveredMessages { number, run }) = self.broker.take(consumer, limit) else {
            return Ok(false);
        };
        prop_assert!(run.count <= limit);
        let (held, _, prefetch) = self.held.get_mut(&consumer).unwrap();
        for n in 0..run.count {
            let message = run.first + n;
            prop_assert!(!self.done.contains_key(&message), "{message} came after its ack");
            if let Some((last, _)) = held.back() {
                prop_assert!(*last < number + n);
            }
            held.push_back((number + n, message));
            self.seen.insert(message, true);
        }
        prop_assert!(held.len() as u64 <= *prefetch);
        Ok(true)
    }

    fn settle(&mut self, consumer: ConsumerNumber, nth: usize, nack: bool) -> Result<(), TestCaseError> {
        let (held, individual, _) = self.held.get_mut(&consumer).unwrap();
        let Some((number, _)) = held.get(nth).copied() else { return Ok(()) };
        let gone: Vec<_> = if nack || *individual {
            held.remove(nth).into_iter().collect()
        } else {
            held.drain(..=nth).collect()
        };
        let found = if nack { self.broker.nack(consumer, number) } else { self.broker.ack(consumer, number) };
        prop_assert!(found);
        for (_, message) in gone {
            prop_assert_eq!(self.done.insert(message, number), None);
        }
        Ok(())
    }

    fn step(&mut self, step: ModelStep) -> Result<(), TestCaseError> {
        match step {
            ModelStep::Publish(count) => {
                self.broker.publish(&Run::new(Arc::clone(&self.stream), self.published + 1, count));
                self.published += count;
            }
            ModelStep::Subscribe { prefetch, individual, exclusive } if self.held.len() < 3 => {
                let mode = if individual { AckMode::ClientIndividual } else { AckMode::Client };
                let wish = Wish { exclusive, ..wish(mode, prefetch) };
                let id = self.broker.subscribe(self.session, QUEUE, wish);
                self.held.insert(id, (VecDeque::new(), individual, prefetch));
            }
            ModelStep::Subscribe { .. } => {}
            ModelStep::Take { consumer, limit } => {
                if let Some(consumer) = self.consumer(consumer) {
                    self.take(consumer, limit)?;
                }
            }
            ModelStep::Ack { consumer, nth } | ModelStep::Nack { consumer, nth } => {
                if let Some(consumer) = self.consumer(consumer) {
                    self.settle(consumer, nth, matches!(step, ModelStep::Nack { .. }))?;
                }
            }
            ModelStep::Lose { consumer } => {
                if let Some(consumer) = self.consumer(consumer) {
                    self.broker.unsubscribe(consumer);
                    self.held.remove(&consumer);
                }
            }
        }
        let stats = self.broker.stats().queues[QUEUE];
        prop_assert_eq!(stats.pending + stats.in_flight + self.done.len() as u64, self.published);
        prop_assert_eq!(stats.acked + stats.dead, self.done.len() as u64);
        Ok(())
    }

    /// Lets a last consumer take and ack everything that is left.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        for consumer in self.held.keys().copied().collect::<Vec<_>>() {
            self.broker.unsubscribe(consumer);
        }
        self.held.clear();
        let id = self.broker.subscribe(self.session, QUEUE, wish(AckMode::Client, 7));
        self.held.insert(id, (VecDeque::new(), false, 7));
        while self.take(id, 3)? {
            self.settle(id, self.held[&id].0.len() - 1, false)?;
        }
        let done: Vec<_> = self.done.keys().copied().collect();
        prop_assert_eq!(done, (1..=self.published).collect::<Vec<_>>());
        Ok(())
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_comes_after_its_ack(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step)?;
        }
        model.finish()?;
    }

    #[test]
    fn a_single_consumer_sees_the_order_of_the_queue(
        rounds in prop::collection::vec((1u64..30, 1u64..20, 0u64..20), 1..30)
    ) {
        let (mut broker, session, _) = broker();
        let stream = stream(1);
        broker.declare(QUEUE);
        let (mut published, mut acked) = (0, 0);
        for (count, prefetch, ack) in rounds {
            broker.publish(&Run::new(Arc::clone(&stream), published + 1, count));
            published += count;
            let consumer = broker.subscribe(session, QUEUE, wish(AckMode::Client, prefetch));
            let taken = take_all(&mut broker, consumer);
            let expected: Vec<_> = (acked + 1..=published.min(acked + prefetch)).collect();
            prop_assert_eq!(numbers(&taken), expected);
            let ack = ack.min(taken.len() as u64);
            if ack > 0 {
                prop_assert!(broker.ack(consumer, ack));
            }
            acked += ack;
            broker.unsubscribe(consumer);
        }
    }
}
