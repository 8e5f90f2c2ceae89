//! Tests the real program from a real broker into real streams, configured as an operator would.

use std::collections::BTreeMap;

use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared as broker};
use kit::events::{Events, number_in};
use kit::nats::{available, make_stream, read_stream, shared};
use kit::on_each_broker;
use kit::output::Tally;
use kit::scenario::{drain, emptied, place, publish, says, subscribed};

on_each_broker!(over each protocol: mirrors_into_files_and_a_stream, logs_why_it_waits_for_a_stream);

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
