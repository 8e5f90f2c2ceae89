//! One link, whatever its sessions speak, seen from the pump's place: what comes, what an acknowledgement does,
//! what is told of a session that is lost.

use std::collections::VecDeque;
use std::sync::Arc;

use atdata_bridge::budget::Budget;
use atdata_bridge::config::{self, SinkRegistry};
use atdata_bridge::event::{Message, SessionId};
use atdata_bridge::source::config::SourceSettings;
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
    messages_come_in_order_and_exactly_those_up_to_the_named_one_are_acknowledged,
    no_more_are_on_the_way_than_the_prefetch,
    a_lost_session_is_told_and_its_acknowledgements_are_void,
    what_is_not_acknowledged_at_the_end_comes_again,
    sessions_that_die_in_a_row_leave_the_order_as_it_was,
    an_address_that_is_dead_is_passed_over,
);

const PREFETCH: u64 = 50;
const EVENTS: Events = Events { count: 200, keys: 10, spread: Spread::Even, bad_every: None };

async fn messages_come_in_order_and_exactly_those_up_to_the_named_one_are_acknowledged(
    version: Version,
    protocol: Protocol,
) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-acks"));
    let mut link = Consumed::start(&broker.url_of(protocol), namespace);
    let session = link.session().await;
    publish(broker, namespace, EVENTS).await;
    for acked in (0..EVENTS.count).step_by(20) {
        assert_eq!(link.numbers(10).await, (acked..acked + 10).collect::<Vec<_>>());
        // What another session has brought is not ours to acknowledge.
        link.source.ack(SessionId(session.0 + 1), EVENTS.count);
        assert_eq!(link.numbers(10).await, (acked + 10..acked + 20).collect::<Vec<_>>());
        assert_eq!(broker.depth(queue), EVENTS.count - acked);
        link.source.ack(session, acked + 20);
        let left = EVENTS.count - acked - 20;
        wait_until("they are acknowledged", SOON, || broker.depth(queue) == left).await;
        // Nor is there anything to do for what is acknowledged already.
        link.source.ack(session, acked + 10);
    }
    assert_eq!(link.source.close().await, Disconnect::Confirmed);
    let counts = counts(broker, queue);
    assert_eq!((counts.messages, counts.dequeued, counts.consumers), (0, EVENTS.count, 0));
}

async fn no_more_are_on_the_way_than_the_prefetch(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-window"));
    let mut link = Consumed::start(&broker.url_of(protocol), namespace);
    let session = link.session().await;
    publish(broker, namespace, EVENTS).await;
    let full = |acked: u64| QueueCounts {
        messages: EVENTS.count - acked,
        in_flight: PREFETCH,
        enqueued: EVENTS.count,
        dequeued: acked,
        consumers: 1,
    };
    link.numbers(PREFETCH).await;
    for acked in (7..EVENTS.count - PREFETCH).step_by(7) {
        link.source.ack(session, acked);
        wait_until("the window is full again", SOON, || counts(broker, queue) == full(acked)).await;
        link.numbers(acked + PREFETCH - link.taken).await;
        assert!(link.waiting.is_empty(), "{} more than the prefetch", link.waiting.len());
    }
    assert_eq!(link.source.close().await, Disconnect::Confirmed);
}

async fn a_lost_session_is_told_and_its_acknowledgements_are_void(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-lost"));
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let mut link = Consumed::start(&protocol.url(proxy.addr()), namespace);
    let first = link.session().await;
    publish(broker, namespace, EVENTS).await;
    link.numbers(PREFETCH).await;
    link.source.ack(first, 10);
    wait_until("ten are acknowledged", SOON, || broker.depth(queue) == EVENTS.count - 10).await;

    proxy.cut();
    link.lost(first).await;
    let second = link.session().await;
    assert!(second > first);
    link.source.ack(first, PREFETCH);
    let again = link.take(PREFETCH).await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), (10..10 + PREFETCH).collect::<Vec<_>>());
    let marked = again.iter().take_while(|message| message.redelivered).count() as u64;
    assert!(marked >= PREFETCH - 10, "{marked} are marked: at least those that had been handed over");
    // Had the old one counted, there would be fewer.
    link.source.ack(second, 5);
    wait_until("five more are acknowledged", SOON, || broker.depth(queue) == EVENTS.count - 15).await;
    assert_eq!(link.source.close().await, Disconnect::Confirmed);
    assert_eq!(broker.depth(queue), EVENTS.count - 15);
}

async fn what_is_not_acknowledged_at_the_end_comes_again(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-end"));
    let mut link = Consumed::start(&broker.url_of(protocol), namespace);
    let session = link.session().await;
    publish(broker, namespace, EVENTS).await;
    link.numbers(PREFETCH).await;
    link.source.ack(session, 20);
    assert_eq!(link.source.close().await, Disconnect::Confirmed);
    let left = counts(broker, queue);
    assert_eq!((left.messages, left.consumers), (EVENTS.count - 20, 0));
    drop(link);

    let mut link = Consumed::start(&broker.url_of(protocol), namespace);
    let session = link.session().await;
    assert_eq!(link.numbers(PREFETCH).await, (20..20 + PREFETCH).collect::<Vec<_>>());
    link.source.ack(session, PREFETCH);
    assert_eq!(link.source.close().await, Disconnect::Confirmed);
    assert_eq!(broker.depth(queue), EVENTS.count - 20 - PREFETCH);
}

/// A broker that has given a session a part of what comes again, and loses that session too, puts this part
/// behind the rest (unless it is told to dispatch in strict order): a session must be given all of it at once.
async fn sessions_that_die_in_a_row_leave_the_order_as_it_was(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "link-deaths"));
    for death in 0..20 {
        let mut link = Consumed::start(&broker.url_of(protocol), namespace);
        link.session().await;
        if death == 0 {
            publish(broker, namespace, EVENTS).await;
        }
        let taken = if death == 0 { PREFETCH } else { 1 };
        assert_eq!(link.numbers(taken).await, (0..taken).collect::<Vec<_>>());
        // Abandoned, as by a kill.
        drop(link);
        wait_until("the broker knows of it", SOON, || counts(broker, queue).consumers == 0).await;
    }
    let mut link = Consumed::start(&broker.url_of(protocol), namespace);
    link.session().await;
    assert_eq!(link.numbers(PREFETCH).await, (0..PREFETCH).collect::<Vec<_>>());
    assert_eq!(link.source.close().await, Disconnect::Confirmed);
}

async fn an_address_that_is_dead_is_passed_over(version: Version, protocol: Protocol) {
    let (broker, (namespace, _)) = (shared(version), &place(protocol, "link-failover"));
    let dead = protocol.url(loopback(free_port()));
    let mut link = Consumed::start(&format!("{dead}, {}", broker.url_of(protocol)), namespace);
    link.session().await;
    publish(broker, namespace, EVENTS).await;
    assert_eq!(link.numbers(1).await, [0]);
    assert_eq!(link.source.close().await, Disconnect::Confirmed);
}

/// A link, and who takes what it hands over.
struct Consumed {
    source: Supervisor,
    waiting: VecDeque<Message>,
    taken: u64,
}

impl Consumed {
    /// `main` of a namespace at one of these addresses.
    fn start(urls: &str, namespace: &str) -> Self {
        let settings = Arc::new(settings(urls, namespace));
        let (states, watchdog) = (StatusRegistry::default(), Watchdog::default());
        let source = Supervisor::start(
            settings,
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

    /// The end of `session`, and no other; what came before it is forgotten.
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

/// As an operator's variables give them.
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
