//! Stops the servers of the bridge, and kills the bridge meanwhile.

use kit::any_kafka::AnyKafka;
use kit::broker::{Broker, Options};
use kit::consumer::{Acks, Consumer};
use kit::nats::NatsServer;
use kit::output::Tally;
use kit::scenario::{PATIENCE, emptied, in_trouble, publish_from, ready_after, subscribed};
use kit::stored::each_in_files;
use kit::three::Sinks;
use kit::wait_until;

use super::stage::{
    FILES, JETSTREAM, KAFKA, Process, Row, Stage, acknowledged, in_stream, in_topic, only_kafka, under_load,
};
use super::{Level, events};
use crate::round::setups;

/// How many events are published before each kill of the broker.
const EVENTS: u64 = 6000;
/// How many times the ActiveMQ broker is killed.
const KILLS: u64 = 4;
/// How many times a node of Kafka is away.
const OUTAGES: u64 = 8;

/// A server that is down for a while.
struct Outage<'a> {
    /// The part of the bridge that is then in trouble.
    part: &'static str,
    begin: &'a dyn Fn(),
    end: &'a dyn Fn(),
}

/// One of three sinks is down when the bridge is killed, and still when its successor is killed.
pub async fn a_sink_is_down(mut stage: Stage<'_>) -> Vec<Row> {
    let (kafka, nats) = (AnyKafka::start(), NatsServer::start(""));
    let AnyKafka::Real(server) = &kafka else { panic!("a mock cluster proves nothing") };
    let (broker, mut random) = (stage.broker(), stage.random.fork());
    let sinks = Sinks::make(stage.version, &stage.name, &kafka, &nats).await;
    let queue = sinks.queue();
    let mut process = Process::new(setups(&sinks, broker), &queue);
    process.start();
    subscribed(broker, &queue, 1).await;

    let outages = [
        Outage { part: "sink kafka", begin: &|| server.kill(), end: &|| server.restart() },
        Outage { part: "sink nats", begin: &|| nats.kill(), end: &|| nats.restart() },
    ];
    let (published, ()) = under_load(broker, &stage.name, &queue, async {
        for Outage { part, begin, end } in outages {
            acknowledged(broker, &queue, random.u64(1..4000)).await;
            let mut said = process.bridge().log().len();
            tokio::task::block_in_place(begin);
            for _ in 0..2 {
                in_trouble(process.bridge(), said, part).await;
                process.kill(&mut random).await;
                process.start();
                said = process.bridge().began();
            }
            tokio::task::block_in_place(end);
            ready_after(process.bridge(), said, part).await;
        }
        acknowledged(broker, &queue, 1).await;
    })
    .await;
    emptied(broker, &queue).await;
    process.stop().await;
    rows(&sinks, &process, published).await
}

/// The ActiveMQ broker and the bridge are killed, in turn the one or the other first. A broker that starts again
/// has forgotten which events it has delivered before.
pub async fn the_broker_is_killed(mut stage: Stage<'_>) -> Vec<Row> {
    let broker = Broker::start(stage.version, Options::default());
    let mut random = stage.random.fork();
    let sinks = stage.sinks().await;
    let queue = sinks.queue();
    let mut process = Process::new(setups(&sinks, &broker), &queue);
    // Makes the queue.
    Consumer::subscribe(&broker, &queue, 1, Acks::Never).await.close().await;

    let mut published = 0;
    for kill in 0..KILLS {
        publish_from(&broker, &stage.name, events(published + EVENTS), published).await;
        published += EVENTS;
        process.start();
        // The process is in the middle of this depth when it is killed.
        let depth = random.u64(500..2000);
        wait_until("events are acknowledged", PATIENCE, || broker.depth(&queue) <= depth).await;
        if kill % 2 == 0 {
            process.kill(&mut random).await;
            broker.kill();
        } else {
            broker.kill();
            process.kill(&mut random).await;
        }
        tokio::task::block_in_place(|| broker.restart());
    }
    process.start();
    emptied(&broker, &queue).await;
    process.stop().await;
    rows(&sinks, &process, published).await
}

/// One of two nodes of Kafka is killed or frozen until its partitions have no leader, again and again. During some
/// outages the bridge is killed, too.
pub async fn a_node_of_kafka_is_away(mut stage: Stage<'_>, level: Level) -> Vec<Row> {
    let kafka = AnyKafka::start();
    let AnyKafka::Real(first) = &kafka else { panic!("a mock cluster proves nothing") };
    let second = tokio::task::block_in_place(|| first.start_second());
    let (broker, mut random) = (stage.broker(), stage.random.fork());
    let sinks = Sinks::make(stage.version, &stage.name, &kafka, &stage.servers.nats).await;
    let (queue, partitions) = (sinks.queue(), first.partitions(&sinks.name));
    let setups = setups(&sinks, broker).map(|setup| level.set(only_kafka(setup)));
    let mut process = Process::new(setups, &queue);
    process.start();
    subscribed(broker, &queue, 1).await;
    let (published, ()) = under_load(broker, &stage.name, &queue, async {
        for outage in 0..OUTAGES {
            let is_frozen = outage % 2 == 1;
            wait_until("all partitions have a leader", PATIENCE, || {
                first.partitions(&sinks.name) == partitions
            })
            .await;
            acknowledged(broker, &queue, random.u64(1..4000)).await;
            tokio::task::block_in_place(|| if is_frozen { second.freeze() } else { second.kill() });
            let has_lost_leaders = || first.partitions(&sinks.name) != partitions;
            wait_until("partitions have no leader", PATIENCE, has_lost_leaders).await;
            // A frozen node has the last bytes of a killed bridge, as in the case `late-bytes`.
            let is_late = is_frozen && level == Level::One;
            if outage % 4 >= 2 && !is_late {
                process.kill(&mut random).await;
                process.start();
            }
            tokio::task::block_in_place(|| if is_frozen { second.thaw() } else { second.restart() });
        }
        acknowledged(broker, &queue, 1).await;
    })
    .await;
    emptied(broker, &queue).await;
    process.stop().await;
    let tally = in_topic(&sinks, &queue, Tally::new(events(published)));
    vec![Row::new(KAFKA, 0..=0, published, [&process], &tally)]
}

async fn rows(sinks: &Sinks<'_>, process: &Process, published: u64) -> Vec<Row> {
    let tally = || Tally::new(events(published));
    let mut in_files = tally();
    each_in_files(process.files(), |stored| stored.add_to(&mut in_files));
    let (topic, stream) =
        (in_topic(sinks, &sinks.queue(), tally()), in_stream(sinks, &sinks.queue(), tally()).await);
    let found = [(KAFKA, topic), (JETSTREAM, stream), (FILES, in_files)];
    found.into_iter().map(|(sink, tally)| Row::new(sink, 0..=0, published, [process], &tally)).collect()
}
