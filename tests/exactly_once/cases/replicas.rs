//! Ends two bridges of one queue in turn under load and starts each of them again.

use kit::output::Tally;
use kit::scenario::{emptied, says_after, subscribed};

use super::stage::{
    JETSTREAM, KAFKA, Process, Row, Stage, acknowledged, in_stream, in_topic, under_load, without_files,
};
use super::{Level, events};
use crate::round::setups;

/// How many times a bridge is ended.
const ENDS: usize = 8;

/// One bridge is active, the other one stands by. The active one is killed, and in turn stopped cleanly.
pub async fn strict(stage: Stage<'_>, level: Level) -> Vec<Row> {
    roll(stage, level, true).await
}

/// Both bridges share the events. Each kill leaves events that the other bridge gets, which has never had them.
pub async fn shared(stage: Stage<'_>) -> Vec<Row> {
    roll(stage, Level::One, false).await
}

async fn roll(mut stage: Stage<'_>, level: Level, is_strict: bool) -> Vec<Row> {
    let (broker, mut random) = (stage.broker(), stage.random.fork());
    let sinks = stage.sinks().await;
    let queue = sinks.queue();
    let mut processes = ["1", "2"].map(|id| {
        let setups = setups(&sinks, broker).map(|setup| {
            let setup = setup.set("SOURCE__CONNECTION_ID", format!("{}-{id}", sinks.name));
            let setup = if is_strict { setup.set("SOURCE__ORDERING", "strict") } else { setup };
            level.set(without_files(setup))
        });
        Process::new(setups, &queue)
    });
    for (process, running) in processes.iter_mut().zip(1..) {
        process.start();
        subscribed(broker, &queue, running).await;
    }

    let (published, ()) = under_load(broker, &stage.name, &queue, async {
        for end in 0..ENDS {
            let process = &mut processes[end % 2];
            // It has got events, so with strict ordering it is the active one.
            let began = process.bridge().began();
            says_after(process.bridge(), began, "records of the topic").await;
            acknowledged(broker, &queue, random.u64(1..4000)).await;
            if is_strict && end % 4 >= 2 {
                process.stop().await;
            } else {
                process.kill(&mut random).await;
            }
            subscribed(broker, &queue, 1).await;
            process.start();
            subscribed(broker, &queue, 2).await;
        }
    })
    .await;
    emptied(broker, &queue).await;
    for process in &mut processes {
        process.stop().await;
    }

    let tally =
        || if is_strict { Tally::new(events(published)) } else { Tally::in_any_order(events(published)) };
    let (topic, stream) = (in_topic(&sinks, &queue, tally()), in_stream(&sinks, &queue, tally()).await);
    vec![
        Row::new(KAFKA, 0..=0, published, &processes, &topic),
        Row::new(JETSTREAM, 0..=0, published, &processes, &stream),
    ]
}
