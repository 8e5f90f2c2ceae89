//! Tests the real program from a real broker into real streams, configured as an operator would.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use tokio::time::sleep;

use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared as broker};
use kit::consumer::{Acks, Consumer};
use kit::events::{Events, number_in};
use kit::nats::{available, make_stream, read_stream, shared};
use kit::on_each_broker;
use kit::output::Tally;
use kit::scenario::{drain, emptied, place, publish, says, subscribed};

on_each_broker!(
    over each protocol: mirrors_into_files_and_a_stream, logs_why_it_waits_for_a_stream,
    a_bridge_that_is_killed_publishes_nothing_twice_when_the_window_has_passed,
);

fn setup(version: Version, protocol: Protocol, namespace: &str, stream: &str) -> Setup {
    Setup::new(broker(version), protocol, namespace, "main", stream)
        .set("EVENT__PARTITIONS", "12")
        .set("SINKS__NATS__URL", shared().url())
        .set("SINKS__NATS__STREAM", stream)
        .set("SINKS__NATS__SUBJECT", format!("{stream}.{{partition}}"))
}

async fn mirrors_into_files_and_a_stream(version: Version, protocol: Protocol) {
    if !available(module_path!()) {
        return;
    }
    let name = protocol.named(&format!("WHOLE-{version:?}"));
    let stream = shared().jetstream().await;
    make_stream(&stream, &name, &[&format!("{name}.*")]).await;
    let (broker, (namespace, queue)) = (broker(version), &place(protocol, "whole"));
    let events = Events::good(5000);
    let setup = setup(version, protocol, namespace, &name);
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    publish(broker, namespace, events).await;
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);

    let mut last_of_key: BTreeMap<String, u64> = BTreeMap::new();
    let messages = read_stream(&stream, &name).await;
    assert_eq!(messages.len(), 5000, "each event exactly once");
    for message in messages {
        let body = std::str::from_utf8(&message.payload).expect("a body that is text");
        let number = number_in(body).expect("the number of an event");
        assert_eq!(body, events.body(number));
        let last = last_of_key.insert(events.key(number), number);
        assert!(last.is_none_or(|last| last < number), "{number} is stored after {last:?}");
    }
}

/// What the killed bridge had on its way has arrived before the next one starts.
async fn a_bridge_that_is_killed_publishes_nothing_twice_when_the_window_has_passed(
    version: Version,
    protocol: Protocol,
) {
    const WINDOW: Duration = Duration::from_millis(100);
    const KILLS: u64 = 3;
    if !available(module_path!()) {
        return;
    }
    let name = protocol.named(&format!("SLAIN-{version:?}"));
    let stream = shared().jetstream().await;
    let subjects = vec![format!("{name}.*")];
    let config = Config { name: name.clone(), subjects, duplicate_window: WINDOW, ..Config::default() };
    let mut stored = stream.create_stream(config).await.expect("make a stream");
    let (broker, (namespace, queue)) = (broker(version), &place(protocol, "slain-window"));
    let events = Events::good(20_000);
    let setup = setup(version, protocol, namespace, &name).unset("SINKS__FILE__DIRECTORY");
    // A queue exists from its first subscription.
    drop(Consumer::subscribe(broker, queue, 1, Acks::Never).await);
    publish(broker, namespace, events).await;
    for kill in 1..=KILLS {
        let bridge = setup.start();
        while stored.info().await.expect("read the state of the stream").state.messages < 2000 * kill {
            sleep(Duration::from_millis(1)).await;
        }
        bridge.kill();
        sleep(5 * WINDOW).await;
    }
    assert!(broker.depth(queue) > 0, "the last kill came after the last event");
    let bridge = setup.start();
    emptied(broker, queue).await;
    drain(bridge).await;

    let messages = read_stream(&stream, &name).await;
    let mut found = Tally::in_any_order(events);
    messages.iter().for_each(|message| found.add(std::str::from_utf8(&message.payload).expect("text")));
    found.assert_nothing_lost_in_any_order();
    assert_eq!(found.doubled(), 0);
}

async fn logs_why_it_waits_for_a_stream(version: Version, protocol: Protocol) {
    if !available(module_path!()) {
        return;
    }
    let name = protocol.named(&format!("LATER-{version:?}"));
    let (broker, (namespace, queue)) = (broker(version), &place(protocol, "later"));
    let setup = setup(version, protocol, namespace, &name);
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;
    publish(broker, namespace, Events::good(100)).await;
    says(&mut bridge, &format!("there is no stream {name}")).await;
    assert_eq!(broker.depth(queue), 100, "nothing is acknowledged");
    let stream = shared().jetstream().await;
    make_stream(&stream, &name, &[&format!("{name}.*")]).await;
    emptied(broker, queue).await;
    assert_eq!(read_stream(&stream, &name).await.len(), 100);
    drain(bridge).await;
}
