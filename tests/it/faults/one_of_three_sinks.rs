//! Tests failures of one sink of three, under load: every sink has every event exactly once.

use std::time::Duration;

use kit::admin::Admin;
use kit::any_kafka::AnyKafka;
use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Protocol, Version, shared};
use kit::events::Events;
use kit::kafka::{Kafka, Listener};
use kit::nats::NatsServer;
use kit::output::{assert_dead_letters, bytes};
use kit::proxy::{Proxy, Slow};
use kit::scenario::{
    Unusable, counts, drain, emptied, grown, in_trouble, publish_from, ready_after, subscribed,
};
use kit::three::Sinks;
use kit::{did_not_run, on_each_broker};

on_each_broker!(
    over each protocol, with every sink:
    sinks_that_are_killed_paused_and_slowed_in_turn_have_every_event_once,
);

/// How many events each failure gets, and the first phase without a failure.
const STEP: u64 = 8000;
/// One event in so many is bad.
const BAD_EVERY: u64 = 1000;
/// How many bytes the files grow before a failure starts, and while a sink is slow: about two thousand
/// events.
const PROGRESS: u64 = 400_000;
const MIB: u64 = 1024 * 1024;
/// How much more memory failures may take than a run without one. The 1024 events in flight, of a few hundred
/// bytes each, take less than one MiB. A new client beside the old one, which is still closing, takes a few
/// MiB. All events of the run together would take more than twice the limit (I4).
const MORE: u64 = 12 * MIB;

async fn sinks_that_are_killed_paused_and_slowed_in_turn_have_every_event_once(
    version: Version,
    protocol: Protocol,
) {
    let (broker, kafka, nats) = (shared(version), AnyKafka::start(), NatsServer::start(""));
    let namespace = protocol.named("trouble");
    let sinks = Sinks::make(version, &namespace, &kafka, &nats).await;
    let queue = sinks.queue();
    let nats_proxy = Proxy::start(nats.addr()).await;
    let mut setup = sinks
        .setup(broker, protocol)
        .set("SINKS__NATS__URL", format!("nats://{}", nats_proxy.addr()))
        .set("SINKS__NATS__PUBLISH_TIMEOUT", "2s");
    let real = match &kafka {
        AnyKafka::Real(kafka) => Some((kafka, proxy_to(kafka).await)),
        AnyKafka::Mock(_) => {
            did_not_run("one_of_three_sinks, in its failures of Kafka,", "a mock cluster has none");
            None
        }
    };
    if let Some((_, proxy)) = &real {
        setup = setup
            .set("SINKS__KAFKA__BROKERS", proxy.addr().to_string())
            // After a restart librdkafka waits up to 10 s by default.
            .set("SINKS__KAFKA__PROPERTIES__RECONNECT_BACKOFF_MAX_MS", "1000");
    }
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;

    let mut run = Run { bridge, setup: &setup, broker, sinks: &sinks, published: 0 };
    run.under_load(async |_| {}).await;
    emptied(broker, &queue).await;
    let calm = run.bridge.memory();
    if let Some((kafka, proxy)) = &real {
        run.fail("kafka", || kafka.kill(), |()| kafka.restart()).await;
        run.fail("kafka", || kafka.freeze(), |()| kafka.thaw()).await;
        run.slow_down(proxy).await;
    }
    run.fail("nats", || nats.kill(), |()| nats.restart()).await;
    run.fail("nats", || nats.freeze(), |()| nats.thaw()).await;
    run.slow_down(&nats_proxy).await;
    run.fail("file", || Unusable::make(setup.files()), Unusable::restore).await;
    let (bridge, events) = (run.bridge, events(run.published));
    emptied(broker, &queue).await;
    let peak = bridge.peak_memory();
    eprintln!("memory: {} MiB when calm, {} MiB at the most", calm / MIB, peak / MIB);
    assert!(peak < calm + MORE, "from {} to {} MiB", calm / MIB, peak / MIB);
    drain(bridge).await;

    sinks.assert_complete(events, &setup, [0; 3]).await;
    assert_dead_letters(events, setup.dead_letters());
}

/// Many keys, because the stream takes only one event of a key in each round trip (I3).
fn events(count: u64) -> Events {
    Events::good(count).with_bad(BAD_EVERY)
}

/// Starts a proxy to Kafka that can be made slow.
async fn proxy_to(kafka: &Kafka) -> Proxy {
    Proxy::start_at(kafka.proxy_addr(), kafka.addr(Listener::Proxied)).await
}

struct Run<'a> {
    bridge: Bridge,
    setup: &'a Setup,
    broker: &'a Broker,
    sinks: &'a Sinks<'a>,
    published: u64,
}

impl Run<'_> {
    /// Publishes the next events, and runs `action` before the last of them is mirrored.
    async fn under_load(&mut self, action: impl AsyncFnOnce(&mut Bridge)) {
        let (first, written) = (self.published, bytes(self.setup.files()));
        self.published += STEP;
        let events = events(self.published);
        let acting = async {
            grown(self.setup.files(), written + PROGRESS).await;
            let dequeued = counts(self.broker, &self.sinks.queue()).dequeued;
            assert!(dequeued < self.published, "the action came after the last event");
            action(&mut self.bridge).await;
        };
        tokio::join!(publish_from(self.broker, self.sinks.namespace, events, first), acting);
    }

    /// Makes a sink fail until the bridge reports it and is alive but not ready, then ends the failure.
    async fn fail<T>(&mut self, sink: &str, begin: impl FnOnce() -> T, end: impl FnOnce(T)) {
        self.under_load(async |bridge| {
            let said = bridge.log().len();
            let started = tokio::task::block_in_place(begin);
            in_trouble(bridge, said, &format!("sink {sink}")).await;
            let admin = Admin::of(bridge).await;
            admin.not_ready(&[&format!("sink {sink}: ")]).await;
            let said = bridge.log().len();
            tokio::task::block_in_place(|| end(started));
            ready_after(bridge, said, &format!("sink {sink}")).await;
            admin.ready().await;
        })
        .await;
    }

    /// Makes the connection to a sink slow for a while: long delay, low bandwidth.
    async fn slow_down(&mut self, proxy: &Proxy) {
        let files = self.setup.files();
        self.under_load(async |_| {
            proxy.slow(Slow { delay: Duration::from_millis(50), bytes_per_second: Some(500_000) });
            grown(files, bytes(files) + PROGRESS).await;
            proxy.slow(Slow::default());
        })
        .await;
    }
}
