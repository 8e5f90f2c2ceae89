//! Runs a bridge whose last bytes to Kafka come late: a relay holds them while the bridge is killed, and
//! forwards them when its successor has read what the topic holds.

use kit::kafka::Listener;
use kit::kafka_relay::{Held, Relay};
use kit::output::Tally;
use kit::scenario::{PATIENCE, counts, emptied, says, subscribed};
use kit::wait_until;

use super::stage::{KAFKA, Process, Row, Stage, acknowledged, in_topic, only_kafka, under_load};
use super::{Level, events};
use crate::round::{PREFETCH, setups};

/// At level 1 the successor can't know of these bytes. That it doubles them also proves that the campaign sees
/// doubles.
pub async fn late_bytes(mut stage: Stage<'_>, level: Level) -> Vec<Row> {
    let (broker, kafka) = (stage.broker(), stage.servers.real_kafka());
    let relay = Relay::start_at(kafka.proxy_addr(), kafka.addr(Listener::Proxied)).await;
    let mut random = stage.random.fork();
    let sinks = stage.sinks().await;
    let queue = sinks.queue();
    let setups = || setups(&sinks, broker).map(|setup| level.set(only_kafka(setup)));
    let through_the_relay =
        setups().map(|setup| setup.set("SINKS__KAFKA__BROKERS", kafka.proxy_addr().to_string()));
    let mut first = Process::new(through_the_relay, &queue);
    let mut next = Process::new(setups(), &queue);
    first.start();
    subscribed(broker, &queue, 1).await;

    let (published, ()) = under_load(broker, &stage.name, &queue, async {
        acknowledged(broker, &queue, random.u64(1000..4000)).await;
        relay.hold(Held::Records);
        relay.holds(1).await;
        // Kafka acknowledges nothing any more, so the bridge gets no further than its window.
        wait_until("the window is full", PATIENCE, || counts(broker, &queue).in_flight >= PREFETCH).await;
        first.kill(&mut random).await;
        next.start();
        says(next.bridge(), "records of the topic").await;
        relay.release();
        relay.released().await;
        acknowledged(broker, &queue, PREFETCH).await;
    })
    .await;
    emptied(broker, &queue).await;
    next.stop().await;

    let expected = match level {
        Level::One => 1..=PREFETCH,
        Level::Two => 0..=0,
    };
    let tally = in_topic(&sinks, &queue, Tally::new(events(published)));
    vec![Row::new(KAFKA, expected, published, [&next], &tally)]
}
