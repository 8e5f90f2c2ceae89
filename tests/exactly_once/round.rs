//! Runs one round: kills at random moments under load, and then the audit of each sink.

use std::cell::Cell;
use std::time::Duration;

use fastrand::Rng;
use kit::any_kafka::AnyKafka;
use kit::bridge::{Bridge, Setup};
use kit::broker::{Broker, Protocol, Version, shared};
use kit::events::{Events, Spread};
use kit::nats::NatsServer;
use kit::report;
use kit::scenario::{counts, drain, emptied, publish_while, subscribed};
use kit::three::Sinks;

use super::findings::{Audit, Finding};

/// `source.prefetch`: a kill leaves at most so many events unacknowledged.
pub const PREFETCH: u64 = 1024;

/// The load keeps at least so many events in the queue, so that the bridge is busy at every kill.
pub const WAITING: u64 = 4 * PREFETCH;

pub struct Round {
    pub number: usize,
    pub version: Version,
    pub kills: u64,
    /// The longest time from a start to the kill.
    pub longest: Duration,
}

impl Round {
    pub async fn run(&self, kafka: &AnyKafka, nats: &NatsServer, random: &mut Rng) -> Finding {
        let broker = shared(self.version);
        let namespace = format!("round{}", self.number);
        let sinks = Sinks::make(self.version, &namespace, kafka, nats).await;
        let setups = setups(&sinks, broker);
        let bridge = setups[0].start();
        subscribed(broker, &sinks.queue(), 1).await;

        let over = Cell::new(false);
        let kills = async {
            let survivor = self.kill(broker, &sinks, &setups, bridge, random).await;
            over.set(true);
            survivor
        };
        let queue = sinks.queue();
        let load = publish_while(broker, &namespace, &queue, endless(), WAITING, &over);
        let (published, (exposed, bridge)) = tokio::join!(load, kills);
        emptied(broker, &sinks.queue()).await;
        drain(bridge).await;

        let events = Events { count: published, ..endless() };
        let contents = sinks.contents(events, &setups[0]).await;
        let finding = Finding {
            broker: report::name_of(self.version),
            kills: self.kills,
            events: published,
            exposed,
            audits: contents.each_ref().map(|held| Audit::of(&held.tally)),
        };
        let doubled = contents.map(|held| held.tally.doubled());
        eprintln!("round {}: {} kills, {published} events, doubled: {doubled:?}", self.number, self.kills);
        finding
    }

    /// Kills each process at a random moment, and starts the next one over the other protocol. Returns the
    /// last process, and how many unacknowledged events Kafka and the stream had.
    async fn kill(
        &self,
        broker: &Broker,
        sinks: &Sinks<'_>,
        setups: &[Setup; 2],
        mut bridge: Bridge,
        random: &mut Rng,
    ) -> ([u64; 2], Bridge) {
        let mut exposed = [0; 2];
        let longest = u64::try_from(self.longest.as_micros()).expect("a short time");
        for next in setups.iter().cycle().skip(1).take(usize::try_from(self.kills).expect("a count")) {
            tokio::time::sleep(Duration::from_micros(random.u64(0..=longest))).await;
            assert_eq!(bridge.status(), None, "it has ended by itself: {}", bridge.log());
            bridge.kill();
            bridge = next.start();
            // The new process needs a while until its first acknowledgement.
            let stored = [sinks.topic_len(), sinks.stream_len().await];
            let acknowledged = counts(broker, &sinks.queue()).dequeued;
            for (sum, stored) in exposed.iter_mut().zip(stored) {
                *sum += stored.saturating_sub(acknowledged);
            }
        }
        (exposed, bridge)
    }
}

/// The same bridge over each protocol. The stream takes the events of the first key one by one.
pub fn setups(sinks: &Sinks<'_>, broker: &Broker) -> [Setup; 2] {
    let [stomp, openwire] = Protocol::ALL
        .map(|protocol| sinks.setup(broker, protocol).set("SOURCE__PREFETCH", PREFETCH.to_string()));
    let path = |path: &std::path::Path| path.display().to_string();
    let openwire = openwire
        .set("SINKS__FILE__DIRECTORY", path(stomp.files()))
        .set("DEAD_LETTERS__DIRECTORY", path(stomp.dead_letters()));
    [stomp, openwire]
}

fn endless() -> Events {
    Events { spread: Spread::Hot, ..Events::good(u64::MAX) }
}
