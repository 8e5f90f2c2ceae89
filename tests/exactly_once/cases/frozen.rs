//! Freezes the active bridge (SIGSTOP) until long after the broker has dropped it and another bridge has taken
//! its events, and lets it go on.

use std::time::{Duration, Instant};

use fastrand::Rng;
use kit::broker::Broker;
use kit::output::Tally;
use kit::scenario::{counts, emptied, in_trouble, publish_from, subscribed};
use kit::three::Sinks;

use super::stage::{
    JETSTREAM, KAFKA, Process, Row, Stage, acknowledged, in_stream, in_topic, under_load, without_files,
};
use super::{Level, events};
use crate::round::{PREFETCH, setups};

/// How many events are published after the frozen process goes on.
const AFTER: u64 = 5000;

/// A second process with the same ids takes the place of the frozen one.
pub async fn replaced(stage: Stage<'_>, level: Level) -> Vec<Row> {
    frozen(stage, level, false).await
}

/// The stand-by bridge of a strict pair takes over.
pub async fn pair(stage: Stage<'_>, level: Level) -> Vec<Row> {
    frozen(stage, level, true).await
}

async fn frozen(mut stage: Stage<'_>, level: Level, is_pair: bool) -> Vec<Row> {
    let (broker, mut random) = (stage.broker(), stage.random.fork());
    let sinks = stage.sinks().await;
    let queue = sinks.queue();
    let process = |id: &str| {
        let setups = setups(&sinks, broker).map(|setup| {
            let setup = setup.set("SOURCE__CONNECTION_ID", format!("{}-{id}", sinks.name));
            // The broker drops a silent process after one and a half times as long.
            let setup = setup.set("SOURCE__HEART_BEAT", format!("{}s", (stage.frozen.as_secs() / 4).max(1)));
            let setup = if is_pair { setup.set("SOURCE__ORDERING", "strict") } else { setup };
            level.set(without_files(setup))
        });
        Process::new(setups, &queue)
    };
    let (mut active, mut other) = (process("1"), process(if is_pair { "2" } else { "1" }));
    active.start();
    subscribed(broker, &queue, 1).await;
    if is_pair {
        other.start();
        subscribed(broker, &queue, 2).await;
    }

    let (before, began) = under_load(broker, &stage.name, &queue, async {
        freeze_in_between(&mut active, &sinks, broker, &mut random).await;
        Instant::now()
    })
    .await;
    if !is_pair {
        other.start();
    }
    // What the frozen process had, too.
    emptied(broker, &queue).await;
    tokio::time::sleep(stage.frozen.saturating_sub(began.elapsed())).await;
    let said = active.bridge().log().len();
    active.bridge().thaw();
    in_trouble(active.bridge(), said, "source").await;
    let published = before + AFTER;
    publish_from(broker, &stage.name, events(published), before).await;
    emptied(broker, &queue).await;
    active.bridge().terminate();
    active.bridge().ended(Duration::from_secs(60)).await;
    other.stop().await;

    let in_flight = match level {
        Level::One => PREFETCH,
        Level::Two => 0,
    };
    let topic = in_topic(&sinks, &queue, Tally::new(events(published)));
    let stream = in_stream(&sinks, &queue, Tally::new(events(published))).await;
    vec![
        Row::new(KAFKA, 0..=in_flight, published, [&other], &topic),
        Row::new(JETSTREAM, 0..=0, published, [&other], &stream),
    ]
}

/// Freezes the process at a moment at which Kafka has events that it has not acknowledged to the broker.
async fn freeze_in_between(process: &mut Process, sinks: &Sinks<'_>, broker: &Broker, random: &mut Rng) {
    let queue = sinks.queue();
    loop {
        acknowledged(broker, &queue, random.u64(1000..4000)).await;
        tokio::time::sleep(Duration::from_micros(random.u64(..50_000))).await;
        process.bridge().freeze();
        if sinks.topic_len() > counts(broker, &queue).dequeued {
            return;
        }
        process.bridge().thaw();
    }
}
