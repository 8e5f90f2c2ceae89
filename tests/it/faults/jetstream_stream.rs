//! Tests a stream that becomes full, is purged, removed and made again, while events come from a real broker
//! into Kafka, JetStream and files. The events are held and reported, and nothing is lost or duplicated.

use kit::admin::Admin;
use kit::broker::{Protocol, Version, shared};
use kit::events::{Events, Spread};
use kit::scenario::{drain, emptied, in_trouble, publish, publish_from, ready_after, says, subscribed};
use kit::three::Sinks;
use kit::{any_kafka, nats, on_each_broker};

on_each_broker!(
    over each protocol, with every sink:
    a_full_stream_holds_all_events_and_duplicates_nothing,
    a_stream_purged_removed_and_made_again_while_workers_are_idle_gets_the_later_events,
);

async fn a_full_stream_holds_all_events_and_duplicates_nothing(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let namespace = protocol.named("brimful");
    let sinks = Sinks::make(version, &namespace, any_kafka::shared(), nats::shared()).await;
    let events = Events { spread: Spread::Hot, ..Events::good(10_000) };
    let setup = sinks.setup(broker, protocol);
    sinks.change_stream(|stream| stream.max_messages = 3000).await;
    let mut bridge = setup.start();
    subscribed(broker, &sinks.queue(), 1).await;

    publish(broker, sinks.namespace, events).await;
    in_trouble(&mut bridge, 0, "sink nats").await;
    says(&mut bridge, "maximum messages exceeded").await;
    assert_eq!(sinks.stream_len().await, 3000);
    assert!(broker.depth(&sinks.queue()) >= events.count - 3000, "acknowledged without the stream");
    let admin = Admin::of(&bridge).await;
    admin.not_ready(&["sink nats: "]).await;
    let said = bridge.log().len();
    sinks.change_stream(|_| {}).await;
    ready_after(&mut bridge, said, "sink nats").await;
    admin.ready().await;
    emptied(broker, &sinks.queue()).await;
    drain(bridge).await;
    sinks.assert_complete(events, &setup, [0; 3]).await;
}

async fn a_stream_purged_removed_and_made_again_while_workers_are_idle_gets_the_later_events(
    version: Version,
    protocol: Protocol,
) {
    const SOME: u64 = 500;
    let broker = shared(version);
    let namespace = protocol.named("vanishing");
    let sinks = Sinks::make(version, &namespace, any_kafka::shared(), nats::shared()).await;
    let setup = sinks.setup(broker, protocol);
    let mut bridge = setup.start();
    subscribed(broker, &sinks.queue(), 1).await;
    publish(broker, sinks.namespace, Events::good(SOME)).await;
    emptied(broker, &sinks.queue()).await;
    sinks.stream(Events::good(SOME)).await.tally.assert_complete_from(0);

    let events = |times: u64| Events::good(times * SOME);
    sinks.jetstream.get_stream(&sinks.name).await.expect("find a stream").purge().await.expect("purge it");
    publish_from(broker, sinks.namespace, events(2), SOME).await;
    emptied(broker, &sinks.queue()).await;
    sinks.stream(events(2)).await.tally.assert_complete_from(SOME);

    sinks.jetstream.delete_stream(&sinks.name).await.expect("remove a stream");
    sinks.make_stream(|_| {}).await;
    publish_from(broker, sinks.namespace, events(3), 2 * SOME).await;
    emptied(broker, &sinks.queue()).await;
    sinks.stream(events(3)).await.tally.assert_complete_from(2 * SOME);

    sinks.jetstream.delete_stream(&sinks.name).await.expect("remove a stream");
    publish_from(broker, sinks.namespace, events(4), 3 * SOME).await;
    says(&mut bridge, &format!("held: there is no stream {}", sinks.name)).await;
    assert_eq!(broker.depth(&sinks.queue()), SOME, "acknowledged without the stream");
    let admin = Admin::of(&bridge).await;
    admin.not_ready(&["sink nats: held: ", "there is no stream"]).await;
    sinks.make_stream(|_| {}).await;
    emptied(broker, &sinks.queue()).await;
    admin.ready().await;
    drain(bridge).await;
    sinks.stream(events(4)).await.tally.assert_complete_from(3 * SOME);
    sinks.topic(events(4)).tally.assert_complete(0);
    sinks.files(events(4), setup.files()).tally.assert_complete(0);
}
