//! Trouble in one of three sinks, under load: the others hold every event once, and so does that one.

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
    sinks_that_are_killed_paused_and_slowed_in_turn_hold_every_event_once,
);

/// How many events there are in each trouble, and in a calm time before them.
const STEP: u64 = 8000;
/// How many bad ones: one in so many.
const BAD_EVERY: u64 = 1000;
/// Of output before a trouble, and in a slow time: some two thousand events.
const PROGRESS: u64 = 400_000;
const MIB: u64 = 1024 * 1024;
/// How much more memory than in a calm run trouble may cost. The events in flight (1024 of some hundred
/// bytes) take less than one MiB; a client made anew, beside the old one that still closes, takes a few. All
/// events of the run together would take more than twice as much (I4).
const MORE: u64 = 12 * MIB;

async fn sinks_that_are_killed_paused_and_slowed_in_turn_hold_every_event_once(
    version: Version,
    protocol: Protocol,
) {
    let (broker, kafka, nats) = (shared(version), AnyKafka::start(), NatsServer::start(""));
    let namespace = protocol.named("trouble");
    let sinks = Sinks::make(version, &namespace, &kafka, &nats).await;
    let queue = sinks.queue();
    let nats_way = Proxy::start(nats.addr()).await;
    let mut setup = sinks
        .setup(broker, protocol)
        .set("SINKS__NATS__URL", format!("nats://{}", nats_way.addr()))
        .set("SINKS__NATS__PUBLISH_TIMEOUT", "2s");
    let real = match &kafka {
        AnyKafka::Real(kafka) => Some((kafka, way_to(kafka).await)),
        AnyKafka::Mock(_) => {
            did_not_run("three_sinks, in its troubles of Kafka,", "a mock cluster has none");
            None
        }
    };
    if let Some((_, way)) = &real {
        setup = setup.set("SINKS__KAFKA__BROKERS", way.addr().to_string());
    }
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;

    let mut run = Run { bridge, setup: &setup, broker, sinks: &sinks, published: 0 };
    run.under_load(async |_| {}).await;
    let calm = run.bridge.memory();
    if let Some((kafka, way)) = &real {
        run.trouble("kafka", || kafka.kill(), |()| kafka.restart()).await;
        run.trouble("kafka", || kafka.freeze(), |()| kafka.thaw()).await;
        run.slowness(way).await;
    }
    run.trouble("nats", || nats.kill(), |()| nats.restart()).await;
    run.trouble("nats", || nats.freeze(), |()| nats.thaw()).await;
    run.slowness(&nats_way).await;
    run.trouble("file", || Unusable::make(setup.files()), Unusable::restore).await;
    let (bridge, events) = (run.bridge, events(run.published));
    emptied(broker, &queue).await;
    let peak = bridge.peak_memory();
    eprintln!("memory: {} MiB when calm, {} MiB at the most", calm / MIB, peak / MIB);
    assert!(peak < calm + MORE, "from {} to {} MiB", calm / MIB, peak / MIB);
    drain(bridge).await;

    sinks.assert_complete(events, &setup, [0; 3]).await;
    assert_dead_letters(events, setup.dead_letters());
}

/// Over many keys: of one, the stream takes an event in each round trip (I3).
fn events(count: u64) -> Events {
    Events::good(count).with_bad(BAD_EVERY)
}

/// A way to it that can be made slow.
async fn way_to(kafka: &Kafka) -> Proxy {
    Proxy::start_at(kafka.proxy_addr(), kafka.addr(Listener::Proxied)).await
}

/// A bridge under load.
struct Run<'a> {
    bridge: Bridge,
    setup: &'a Setup,
    broker: &'a Broker,
    sinks: &'a Sinks<'a>,
    published: u64,
}

impl Run<'_> {
    /// While the next events are published and mirrored, `something` happens; it comes before the last of them.
    async fn under_load(&mut self, something: impl AsyncFnOnce(&mut Bridge)) {
        let (first, written) = (self.published, bytes(self.setup.files()));
        self.published += STEP;
        let events = events(self.published);
        let happening = async {
            grown(self.setup.files(), written + PROGRESS).await;
            let dequeued = counts(self.broker, &self.sinks.queue()).dequeued;
            assert!(dequeued < self.published, "it would come after the load");
            something(&mut self.bridge).await;
        };
        tokio::join!(publish_from(self.broker, self.sinks.namespace, events, first), happening);
    }

    /// A sink is in trouble, until this is told, the bridge alive but not ready, and the trouble ended.
    async fn trouble<T>(&mut self, sink: &str, begin: impl FnOnce() -> T, end: impl FnOnce(T)) {
        self.under_load(async |bridge| {
            let said = bridge.log().len();
            let begun = tokio::task::block_in_place(begin);
            in_trouble(bridge, said, &format!("sink {sink}")).await;
            let admin = Admin::of(bridge).await;
            admin.not_ready(&[&format!("sink {sink}: ")]).await;
            let said = bridge.log().len();
            tokio::task::block_in_place(|| end(begun));
            ready_after(bridge, said, &format!("sink {sink}")).await;
            admin.ready().await;
        })
        .await;
    }

    /// The way to a sink is long and narrow for a while.
    async fn slowness(&mut self, way: &Proxy) {
        let files = self.setup.files();
        self.under_load(async |_| {
            way.slow(Slow { delay: Duration::from_millis(50), bytes_per_second: Some(500_000) });
            grown(files, bytes(files) + PROGRESS).await;
            way.slow(Slow::default());
        })
        .await;
    }
}
