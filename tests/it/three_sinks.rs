//! Trouble in one of three sinks, under load: the others hold every event once, and so does that one.

use std::time::Duration;

use crate::support::bridge::{Bridge, Setup};
use crate::support::broker::{Version, shared};
use crate::support::events::Events;
use crate::support::kafka::{Kafka, Listener};
use crate::support::nats::NatsServer;
use crate::support::on_each_broker;
use crate::support::output::{assert_dead_letters, bytes};
use crate::support::proxy::{Proxy, Slow};
use crate::support::scenario::{
    Unusable, counts, drain, emptied, grown, in_trouble, publish, says_after, subscribed,
};
use crate::support::three::Sinks;

on_each_broker!(with every sink: sinks_that_are_killed_paused_and_slowed_in_turn_hold_every_event_once);

/// Of output between two troubles: some two thousand events.
const PROGRESS: u64 = 400_000;
const MIB: u64 = 1024 * 1024;
/// How much more memory than in a calm run trouble may cost. The events in flight (1024 of some hundred
/// bytes) take less than one MiB; a client made anew, beside the old one that still closes, takes a few. All
/// events of the run together would take more than twice as much (I4).
const MORE: u64 = 12 * MIB;

async fn sinks_that_are_killed_paused_and_slowed_in_turn_hold_every_event_once(version: Version) {
    let (broker, kafka, nats) = (shared(version), Kafka::start(), NatsServer::start(""));
    let sinks = Sinks::make(version, "trouble", &kafka, &nats).await;
    let queue = sinks.queue();
    let kafka_way = Proxy::start_at(kafka.proxy_addr(), kafka.addr(Listener::Proxied)).await;
    let nats_way = Proxy::start(nats.addr()).await;
    let setup = sinks
        .setup(broker)
        .set("SINKS__KAFKA__BROKERS", kafka_way.addr().to_string())
        .set("SINKS__NATS__URL", format!("nats://{}", nats_way.addr()))
        .set("SINKS__NATS__PUBLISH_TIMEOUT", "2s");
    // Over many keys: of one, the stream takes an event in each round trip (I3).
    let events = Events::good(60_000).with_bad(1000);
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;

    let troubles = async {
        let mut run = Run { bridge, setup: &setup };
        run.goes_on().await;
        let calm = run.bridge.memory();
        run.trouble("kafka", || kafka.kill(), || kafka.restart()).await;
        run.trouble("nats", || nats.kill(), || nats.restart()).await;
        run.trouble("kafka", || kafka.freeze(), || kafka.thaw()).await;
        run.trouble("nats", || nats.freeze(), || nats.thaw()).await;
        run.slowness(&kafka_way).await;
        run.slowness(&nats_way).await;
        let unusable = || Unusable::make(setup.files());
        run.trouble_with("file", unusable, Unusable::restore).await;
        assert!(counts(broker, &queue).dequeued < events.count, "the last trouble came after the load");
        (run.bridge, calm)
    };
    let ((), (bridge, calm)) = tokio::join!(publish(broker, sinks.namespace, events), troubles);
    emptied(broker, &queue).await;
    let peak = bridge.peak_memory();
    eprintln!("memory: {} MiB when calm, {} MiB at the most", calm / MIB, peak / MIB);
    assert!(peak < calm + MORE, "from {} to {} MiB", calm / MIB, peak / MIB);
    drain(bridge).await;

    sinks.assert_complete(events, &setup, [0; 3]).await;
    assert_dead_letters(events, setup.dead_letters());
}

/// A bridge under load.
struct Run<'a> {
    bridge: Bridge,
    setup: &'a Setup,
}

impl Run<'_> {
    /// It has mirrored some more events.
    async fn goes_on(&self) {
        grown(self.setup.files(), bytes(self.setup.files()) + PROGRESS).await;
    }

    /// It goes on, is told of trouble in a sink, and goes on.
    async fn trouble(&mut self, sink: &str, begin: impl FnOnce(), end: impl FnOnce()) {
        self.trouble_with(sink, begin, |()| end()).await;
    }

    async fn trouble_with<T>(&mut self, sink: &str, begin: impl FnOnce() -> T, end: impl FnOnce(T)) {
        self.goes_on().await;
        let said = self.bridge.log().len();
        let begun = tokio::task::block_in_place(begin);
        in_trouble(&mut self.bridge, said, &format!("sink {sink}")).await;
        let said = self.bridge.log().len();
        tokio::task::block_in_place(|| end(begun));
        says_after(&mut self.bridge, said, &format!(r#"ready part="sink {sink}""#)).await;
    }

    /// It goes on, also over a long and narrow way to a sink.
    async fn slowness(&self, way: &Proxy) {
        self.goes_on().await;
        way.slow(Slow { delay: Duration::from_millis(50), bytes_per_second: Some(500_000) });
        self.goes_on().await;
        way.slow(Slow::default());
    }
}
