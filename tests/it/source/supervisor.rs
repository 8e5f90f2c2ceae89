//! Tests the supervisor with each protocol, from the dispatcher's side: the messages it passes on, the effect
//! of acknowledgements, and the report of a lost session.

use std::collections::VecDeque;
use std::sync::Arc;

use atdata_bridge::budget::Budget;
use atdata_bridge::config::{self, SinkRegistry};
use atdata_bridge::event::{Message, SessionId};
use atdata_bridge::source::config::SourceSettings;
use atdata_bridge::source::network::Tcp;
use atdata_bridge::source::protocol::session::SessionMode;
use atdata_bridge::source::session_factory::new_session;
use atdata_bridge::source::supervisor::Supervisor;
use atdata_bridge::source::{Disconnect, Incoming, Source};
use atdata_bridge::telemetry::status::StatusRegistry;
use atdata_bridge::telemetry::watchdog::Watchdog;
use tokio::time::timeout;

use kit::broker::{Protocol, QueueCounts, Version, shared};
use kit::events::{Events, Spread, number_in};
use kit::ports::{free_port, loopback};
use kit::proxy::Proxy;
use kit::scenario::{counts, place, publish};
use kit::stomp::Login;
use kit::{SOON, on_each_broker, wait_until};

on_each_broker!(
    over each protocol:
    messages_arrive_in_order_and_exactly_those_up_to_the_given_position_are_acknowledged,
    no_more_events_are_in_flight_than_the_prefetch,
    a_lost_session_is_reported_and_its_acknowledgements_have_no_effect,
    unacknowledged_events_are_redelivered_after_a_close,
    sessions_that_are_lost_in_a_row_keep_the_order,
    an_unreachable_address_is_skipped,
);

const PREFETCH: u64 = 50;
const EVENTS: Events = Events { count: 200, keys: 10, spread: Spread::Even, bad_every: None };

async fn messages_arrive_in_order_and_exactly_those_up_to_the_given_position_are_acknowledged(
    version: Version,
    protocol: Protocol,
) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-acks"));
    let mut consumer = TestConsumer::start(&broker.url_of(protocol), namespace);
    let session = consumer.session().await;
    publish(broker, namespace, EVENTS).await;
    for acked in (0..EVENTS.count).step_by(20) {
        assert_eq!(consumer.numbers(10).await, (acked..acked + 10).collect::<Vec<_>>());
        // Events of another session cannot be acknowledged in this one.
        consumer.source.ack(SessionId(session.0 + 1), EVENTS.count);
        assert_eq!(consumer.numbers(10).await, (acked + 10..acked + 20).collect::<Vec<_>>());
        assert_eq!(broker.depth(queue), EVENTS.count - acked);
        consumer.source.ack(session, acked + 20);
        let left = EVENTS.count - acked - 20;
        wait_until("the events are acknowledged", SOON, || broker.depth(queue) == left).await;
        // Acknowledging the same events again has no effect.
        consumer.source.ack(session, acked + 10);
    }
    assert_eq!(consumer.source.close().await, Disconnect::Confirmed);
    let counts = counts(broker, queue);
    assert_eq!((counts.messages, counts.dequeued, counts.consumers), (0, EVENTS.count, 0));
}

async fn no_more_events_are_in_flight_than_the_prefetch(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-window"));
    let mut consumer = TestConsumer::start(&broker.url_of(protocol), namespace);
    let session = consumer.session().await;
    publish(broker, namespace, EVENTS).await;
    let full = |acked: u64| QueueCounts {
        messages: EVENTS.count - acked,
        in_flight: PREFETCH,
        enqueued: EVENTS.count,
        dequeued: acked,
        consumers: 1,
    };
    consumer.numbers(PREFETCH).await;
    for acked in (7..EVENTS.count - PREFETCH).step_by(7) {
        consumer.source.ack(session, acked);
        wait_until("the window is full again", SOON, || counts(broker, queue) == full(acked)).await;
        consumer.numbers(acked + PREFETCH - consumer.taken).await;
        assert!(consumer.waiting.is_empty(), "{} more than the prefetch", consumer.waiting.len());
    }
    assert_eq!(consumer.source.close().await, Disconnect::Confirmed);
}

async fn a_lost_session_is_reported_and_its_acknowledgements_have_no_effect(
    version: Version,
    protocol: Protocol,
) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-lost"));
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let mut consumer = TestConsumer::start(&protocol.url(proxy.addr()), namespace);
    let first = consumer.session().await;
    publish(broker, namespace, EVENTS).await;
    consumer.numbers(PREFETCH).await;
    consumer.source.ack(first, 10);
    wait_until("ten are acknowledged", SOON, || broker.depth(queue) == EVENTS.count - 10).await;

    proxy.cut();
    consumer.lost(first).await;
    let second = consumer.session().await;
    assert!(second > first);
    consumer.source.ack(first, PREFETCH);
    let again = consumer.take(PREFETCH).await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), (10..10 + PREFETCH).collect::<Vec<_>>());
    let marked = again.iter().take_while(|message| message.redelivered).count() as u64;
    assert!(marked >= PREFETCH - 10, "{marked} are marked, fewer than were received before");
    // If the acknowledgement of the old session had counted, fewer events would be left.
    consumer.source.ack(second, 5);
    wait_until("five more are acknowledged", SOON, || broker.depth(queue) == EVENTS.count - 15).await;
    assert_eq!(consumer.source.close().await, Disconnect::Confirmed);
    assert_eq!(broker.depth(queue), EVENTS.count - 15);
}

async fn unacknowledged_events_are_redelivered_after_a_close(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-end"));
    let mut consumer = TestConsumer::start(&broker.url_of(protocol), namespace);
    let session = consumer.session().await;
    publish(broker, namespace, EVENTS).await;
    consumer.numbers(PREFETCH).await;
    consumer.source.ack(session, 20);
    assert_eq!(consumer.source.close().await, Disconnect::Confirmed);
    let left = counts(broker, queue);
    assert_eq!((left.messages, left.consumers), (EVENTS.count - 20, 0));
    drop(consumer);

    let mut consumer = TestConsumer::start(&broker.url_of(protocol), namespace);
    let session = consumer.session().await;
    assert_eq!(consumer.numbers(PREFETCH).await, (20..20 + PREFETCH).collect::<Vec<_>>());
    consumer.source.ack(session, PREFETCH);
    assert_eq!(consumer.source.close().await, Disconnect::Confirmed);
    assert_eq!(broker.depth(queue), EVENTS.count - 20 - PREFETCH);
}

/// A broker that loses a session while it redelivers puts the events that it has redelivered behind the
/// others, unless it dispatches in strict order. So a session must be given all of them at once.
async fn sessions_that_are_lost_in_a_row_keep_the_order(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-deaths"));
    for death in 0..20 {
        let mut consumer = TestConsumer::start(&broker.url_of(protocol), namespace);
        consumer.session().await;
        if death == 0 {
            publish(broker, namespace, EVENTS).await;
        }
        let taken = if death == 0 { PREFETCH } else { 1 };
        assert_eq!(consumer.numbers(taken).await, (0..taken).collect::<Vec<_>>());
        // Dropped without a close, as a kill would do.
        drop(consumer);
        wait_until("the broker has noticed it", SOON, || counts(broker, queue).consumers == 0).await;
    }
    let mut consumer = TestConsumer::start(&broker.url_of(protocol), namespace);
    consumer.session().await;
    assert_eq!(consumer.numbers(PREFETCH).await, (0..PREFETCH).collect::<Vec<_>>());
    assert_eq!(consumer.source.close().await, Disconnect::Confirmed);
}

async fn an_unreachable_address_is_skipped(version: Version, protocol: Protocol) {
    let (broker, (namespace, _)) = (shared(version), &place(protocol, "link-failover"));
    let dead = protocol.url(loopback(free_port()));
    let mut consumer = TestConsumer::start(&format!("{dead}, {}", broker.url_of(protocol)), namespace);
    consumer.session().await;
    publish(broker, namespace, EVENTS).await;
    assert_eq!(consumer.numbers(1).await, [0]);
    assert_eq!(consumer.source.close().await, Disconnect::Confirmed);
}

/// A supervisor, and the events received from it.
struct TestConsumer {
    source: Supervisor,
    waiting: VecDeque<Message>,
    taken: u64,
}

impl TestConsumer {
    /// Consumes the queue of destination id `main` of a namespace, at one of these addresses.
    fn start(urls: &str, namespace: &str) -> Self {
        let settings = Arc::new(settings(urls, namespace));
        let (states, watchdog) = (StatusRegistry::default(), Watchdog::default());
        let source = Supervisor::start(
            settings,
            Arc::new(Tcp),
            new_session(SessionMode::Subscribe),
            Budget::new(1 << 20),
            Arc::default(),
            states.reporter("source"),
            watchdog.loop_mark("source"),
        );
        Self { source, waiting: VecDeque::new(), taken: 0 }
    }

    async fn next(&mut self) -> Incoming {
        timeout(SOON, self.source.next()).await.expect("something in time").expect("not the end")
    }

    async fn session(&mut self) -> SessionId {
        match self.next().await {
            Incoming::Session(session) => session,
            other => panic!("no session, but {other:?}"),
        }
    }

    /// Waits for the end of `session`, and drops the messages received before it.
    async fn lost(&mut self, session: SessionId) {
        loop {
            match self.next().await {
                Incoming::Messages(_) => {}
                Incoming::Lost(lost) if lost == session => return self.waiting.clear(),
                other => panic!("{session} is not lost, but {other:?}"),
            }
        }
    }

    async fn take(&mut self, count: u64) -> Vec<Message> {
        while (self.waiting.len() as u64) < count {
            match self.next().await {
                Incoming::Messages(messages) => self.waiting.extend(messages),
                other => panic!("no messages, but {other:?}"),
            }
        }
        self.taken += count;
        self.waiting.drain(..usize::try_from(count).expect("a few")).collect()
    }

    async fn numbers(&mut self, count: u64) -> Vec<u64> {
        self.take(count).await.iter().map(number).collect()
    }
}

fn number(message: &Message) -> u64 {
    std::str::from_utf8(&message.body).ok().and_then(number_in).expect("the number of an event")
}

/// Loads the settings from variables, as an operator would set them.
fn settings(urls: &str, namespace: &str) -> SourceSettings {
    let login = Login::customer();
    let variables = [
        ("source.urls", urls),
        ("source.username", login.username),
        ("source.password", login.password),
        ("source.namespace", namespace),
        ("source.destination_id", "main"),
        ("source.connection_id", namespace),
        ("source.prefetch", &PREFETCH.to_string()),
        ("sinks.stdout.kind", "stdout"),
        ("dead_letters.directory", env!("CARGO_TARGET_TMPDIR")),
    ];
    let variables = variables.map(|(name, value)| (config::variable(name), value.to_owned()));
    let loaded =
        config::load(&SinkRegistry::built_in(), None, variables.into_iter()).expect("a configuration");
    loaded.settings.subscriptions.into_iter().next().expect("one subscription").source
}
