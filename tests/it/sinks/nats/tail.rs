//! Tests that the sink does not publish again what the stream holds from before a crash or a long outage, even
//! when the duplicate window has passed.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use async_nats::jetstream::{self, stream};
use atdata_bridge::finding::Finding;
use atdata_bridge::secret::Secret;
use atdata_bridge::sink::nats::config::{DeliveryMode, NatsConfig};
use atdata_bridge::sink::{Held, Sink, SinkContext, StoredRecord};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{context, deliver, event, sink};
use crate::sinks::contract::Rig;
use kit::SOON;
use kit::nats::{NatsServer, on_nats, read_stream, shared};
use kit::proxy::{Direction, Proxy};

on_nats!(
    events_from_before_a_crash_are_not_published_again,
    events_whose_answers_are_lost_are_not_published_again_after_an_outage,
    events_of_another_queue_are_published,
    the_order_is_kept_when_only_some_events_were_published,
    the_newest_ids_of_the_queue_come_last,
    no_more_than_the_last_messages_are_read,
    large_headers_are_read_in_several_batches,
    deleted_messages_do_not_count_and_nobody_waits_for_them,
    a_stream_that_deletes_what_was_consumed_says_nothing,
    core_nats_says_nothing,
    without_the_permission_events_are_published_as_before,
    the_stream_of_another_domain_is_read,
    a_stream_that_cannot_be_read_stops_nothing_for_ever,
    a_stream_with_replicas_is_read_to_its_end,
);

/// The shortest that a server takes.
const WINDOW: Duration = Duration::from_millis(100);

fn config(stream: &str) -> NatsConfig {
    let subject = format!("{stream}.{{key}}");
    NatsConfig { stream: Some(stream.to_owned()), subject, ..NatsConfig::default() }
}

fn shared_sink(stream: &str) -> Box<dyn Sink> {
    sink(&shared().url(), config(stream), context(None))
}

/// Makes a stream that soon forgets which events it has.
async fn make(jetstream: &jetstream::Context, name: &str, retention: RetentionPolicy) -> stream::Stream {
    let config = Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        retention,
        duplicate_window: WINDOW,
        ..Config::default()
    };
    jetstream.create_stream(config).await.expect("make a stream")
}

async fn make_shared(name: &str) -> stream::Stream {
    make(&shared().jetstream().await, name, RetentionPolicy::Limits).await
}

async fn numbers(stream: &str) -> Vec<u64> {
    let messages = read_stream(&shared().jetstream().await, stream).await;
    let number = |message: &jetstream::Message| {
        let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        body["n"].as_u64().unwrap()
    };
    let mut numbers: Vec<_> = messages.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Publishes events up to `to` with a bridge that ends before it acknowledges one, and waits until the
/// duplicate window has passed.
async fn crash_after(stream: &str, to: u64) {
    let mut rig = Rig::start(shared_sink(stream), 0).await;
    rig.send_to(to).await;
    rig.wait_for_ack(to).await;
    rig.abandon().await;
    sleep(5 * WINDOW).await;
}

/// Delivers all events up to `to` again, and returns how many were not published since the stream has them.
async fn deliver_again(rig: &mut Rig, to: u64) -> u64 {
    rig.send_to(to).await;
    rig.wait_for_ack(to).await;
    rig.counters.workers.get("subject").suppressed.get()
}

/// Publishes an event without a bridge.
async fn publish(jetstream: &jetstream::Context, subject: &str, id: &str, queue: &str) {
    publish_with(jetstream, subject, id, &[("atdata-destination", queue)]).await;
}

async fn publish_with(jetstream: &jetstream::Context, subject: &str, id: &str, others: &[(&str, &str)]) {
    publish_as(jetstream, subject, (id, id), others).await;
}

/// Publishes with a message id and a `Nats-Msg-Id`.
async fn publish_as(
    jetstream: &jetstream::Context,
    subject: &str,
    (id, sent): (&str, &str),
    others: &[(&str, &str)],
) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", sent);
    headers.insert("atdata-message-id", id);
    others.iter().for_each(|&(name, value)| headers.insert(name, value));
    let sent = jetstream.publish_with_headers(subject.to_owned(), headers, "{}".into()).await;
    sent.expect("publish").await.expect("stored");
}

async fn held(sink: &mut dyn Sink, at_least: usize) -> Vec<Bytes> {
    let began = Instant::now();
    let Held { ids } = sink.claim(at_least).await.expect("the stream is read").expect("the sink can tell");
    assert!(began.elapsed() < Duration::from_secs(3), "read in {:?}", began.elapsed());
    ids
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<Bytes> {
    numbers.into_iter().map(|number| Bytes::from(format!("ID:{number}"))).collect()
}

async fn has_consumers(jetstream: &jetstream::Context, stream: &str) -> usize {
    let stream = jetstream.get_stream(stream).await.expect("look up the stream");
    stream.cached_info().state.consumer_count
}

async fn events_from_before_a_crash_are_not_published_again() {
    make_shared("TAIL").await;
    crash_after("TAIL", 300).await;
    let mut rig = Rig::start(shared_sink("TAIL"), 0).await;
    assert_eq!(deliver_again(&mut rig, 500).await, 300);
    assert_eq!(numbers("TAIL").await, (1..=500).collect::<Vec<_>>());
    rig.drain().await;
}

/// The answers are on their way when the connection is cut. A new one takes longer than the duplicate window.
async fn events_whose_answers_are_lost_are_not_published_again_after_an_outage() {
    let server = NatsServer::start("");
    let jetstream = server.jetstream().await;
    let mut stream = make(&jetstream, "TAIL-CUT", RetentionPolicy::Limits).await;
    let proxy = Proxy::start(server.addr()).await;
    let url = format!("nats://{}", proxy.addr());
    let mut rig = Rig::start(sink(&url, config("TAIL-CUT"), context(None)), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    proxy.silence_one_way(Direction::ToClient);
    rig.send_to(200).await;
    while stream.info().await.unwrap().state.messages == 100 {
        sleep(Duration::from_millis(1)).await;
    }
    proxy.cut();
    assert_eq!(rig.acked(), 100);
    sleep(5 * WINDOW).await;
    proxy.resume();
    rig.wait_for_ack(200).await;
    assert_eq!(stream.info().await.unwrap().state.messages, 200);
    rig.drain().await;
}

/// Copies of an event for other destination ids have the same message id, and may share a stream.
async fn events_of_another_queue_are_published() {
    make_shared("TAIL-OF-TWO").await;
    crash_after("TAIL-OF-TWO", 100).await;
    let other = SinkContext { queue: "other.RTO.acme".to_owned(), ..context(None) };
    let mut rig = Rig::start(sink(&shared().url(), config("TAIL-OF-TWO"), other), 0).await;
    assert_eq!(deliver_again(&mut rig, 100).await, 0);
    assert_eq!(numbers("TAIL-OF-TWO").await.len(), 200);
    rig.drain().await;
}

/// The bridge goes on behind what is stored, in the order of the broker.
async fn the_order_is_kept_when_only_some_events_were_published() {
    make_shared("TAIL-IN-PART").await;
    crash_after("TAIL-IN-PART", 150).await;
    let mut rig = Rig::start(shared_sink("TAIL-IN-PART"), 50).await;
    assert_eq!(deliver_again(&mut rig, 400).await, 100);
    assert_eq!(numbers("TAIL-IN-PART").await, (1..=400).collect::<Vec<_>>());
    rig.drain().await;
}

async fn the_newest_ids_of_the_queue_come_last() {
    let jetstream = shared().jetstream().await;
    make_shared("TAIL-IDS").await;
    for number in 0..20 {
        let queue = if number % 3 == 0 { "d.RTO.acme" } else { "other.RTO.acme" };
        publish(&jetstream, "TAIL-IDS.a", &format!("ID:{number}"), queue).await;
    }
    // Without headers, and with those of another program.
    jetstream.publish("TAIL-IDS.b", "{}".into()).await.unwrap().await.unwrap();
    publish_with(&jetstream, "TAIL-IDS.c", "ID:foreign", &[]).await;
    publish_as(
        &jetstream,
        "TAIL-IDS.d",
        ("ID:21", "another-sink/ID:21"),
        &[("atdata-destination", "d.RTO.acme")],
    )
    .await;
    let mut sink = shared_sink("TAIL-IDS");
    drop(sink.open().await.unwrap());
    assert_eq!(held(sink.as_mut(), 10).await, ids([0, 3, 6, 9, 12, 15, 18]));
    assert_eq!(has_consumers(&jetstream, "TAIL-IDS").await, 0, "the consumer is removed");
}

async fn no_more_than_the_last_messages_are_read() {
    make_shared("TAIL-LONG").await;
    let mut sink = shared_sink("TAIL-LONG");
    // A window of events at a time.
    for first in (0..5000).step_by(1000) {
        let of = |n: u64| event(&format!("ID:{n}"), format!(r#"{{"md5":"{n:032x}","n":{n}}}"#));
        deliver(sink.as_mut(), (first..first + 1000).map(of).collect()).await.unwrap();
    }
    let found = held(sink.as_mut(), 10).await;
    let stored = read_stream(&shared().jetstream().await, "TAIL-LONG").await;
    let stored =
        stored.iter().map(|message| message.headers.as_ref().unwrap().get("atdata-message-id").unwrap());
    let stored: Vec<_> = stored.map(|id| Bytes::from(id.as_str().to_owned())).collect();
    assert_eq!(stored.len(), 5000);
    assert_eq!(found, stored[5000 - 4096..]);
    assert_eq!(held(sink.as_mut(), 5000).await.len(), 5000);
}

/// The server sends only a part of each batch.
async fn large_headers_are_read_in_several_batches() {
    let jetstream = shared().jetstream().await;
    make_shared("TAIL-LARGE").await;
    // The server takes no more than 64 KiB.
    let large = "x".repeat(60_000);
    for number in 0..200 {
        let headers = [("atdata-destination", "d.RTO.acme"), ("large", &large)];
        publish_with(&jetstream, "TAIL-LARGE.a", &format!("ID:{number}"), &headers).await;
    }
    assert_eq!(held(shared_sink("TAIL-LARGE").as_mut(), 10).await, ids(0..200));
}

async fn deleted_messages_do_not_count_and_nobody_waits_for_them() {
    let jetstream = shared().jetstream().await;
    let stream = make_shared("TAIL-GAPS").await;
    let mut sink = shared_sink("TAIL-GAPS");
    assert_eq!(held(sink.as_mut(), 10).await, [] as [Bytes; 0], "new");
    for number in 1..=10 {
        publish(&jetstream, "TAIL-GAPS.a", &format!("ID:{number}"), "d.RTO.acme").await;
    }
    for sequence in [1, 4, 5, 9, 10] {
        stream.delete_message(sequence).await.unwrap();
    }
    assert_eq!(held(sink.as_mut(), 10).await, ids([2, 3, 6, 7, 8]));
    stream.purge().await.unwrap();
    assert_eq!(held(sink.as_mut(), 10).await, [] as [Bytes; 0], "empty, but not new");
    // All of the last messages are deleted, and older ones are not.
    publish(&jetstream, "TAIL-GAPS.kept", "ID:11", "d.RTO.acme").await;
    for _ in 0..9 {
        let batch = (0..500).map(|_| jetstream.publish("TAIL-GAPS.purged", "".into()));
        for sent in futures_util::future::join_all(batch).await {
            sent.unwrap().await.unwrap();
        }
    }
    stream.purge().filter("TAIL-GAPS.purged").await.unwrap();
    assert_eq!(held(sink.as_mut(), 10).await, [] as [Bytes; 0], "the old one is out of reach");
    assert_eq!(held(sink.as_mut(), 5000).await, ids([11]));
}

async fn a_stream_that_deletes_what_was_consumed_says_nothing() {
    let jetstream = shared().jetstream().await;
    for (name, retention, stored) in
        [("TAIL-WORK", RetentionPolicy::WorkQueue, 1), ("TAIL-INTEREST", RetentionPolicy::Interest, 0)]
    {
        let mut stream = make(&jetstream, name, retention).await;
        let mut sink = shared_sink(name);
        deliver(sink.as_mut(), vec![event("ID:1", r#"{"md5":"00000000000000000000000000000001"}"#)])
            .await
            .unwrap();
        assert_eq!(sink.claim(10).await.unwrap(), None);
        let state = &stream.info().await.unwrap().state;
        assert_eq!((state.messages, state.consumer_count), (stored, 0));
        let lines = sink.probe().await.unwrap();
        let says = |line: &Finding| line.message.contains("only the duplicate window (100ms)");
        assert!(lines.iter().any(says), "{lines:?}");
    }
}

async fn core_nats_says_nothing() {
    let core = NatsConfig {
        delivery: DeliveryMode::Core,
        subject: "tail-of-core".to_owned(),
        ..NatsConfig::default()
    };
    assert_eq!(sink(&shared().url(), core, context(None)).claim(10).await.unwrap(), None);
}

fn user(permissions: &str) -> String {
    format!(
        "authorization {{ users: [ {{ user: admin, password: admin }},\n \
         {{ user: bridge, password: s3cret, permissions: {{ {permissions}, subscribe: [\"_INBOX.>\"] }} }} ] }}\n"
    )
}

async fn without_the_permission_events_are_published_as_before() {
    const PUBLISH: &str = r#""TAIL-MAY.>", "$JS.API.STREAM.INFO.TAIL-MAY""#;
    const CREATE: &str = r#""$JS.API.CONSUMER.CREATE.TAIL-MAY.>""#;
    const NEXT: &str = r#""$JS.API.CONSUMER.MSG.NEXT.TAIL-MAY.>""#;
    let may = |others: &[&str]| user(&format!("publish: [{}]", [&[PUBLISH], others].concat().join(", ")));
    let server = NatsServer::start(&may(&[]));
    let admin = async_nats::ConnectOptions::new().user_and_password("admin".to_owned(), "admin".to_owned());
    let jetstream = server.jetstream_as(admin).await;
    make(&jetstream, "TAIL-MAY", RetentionPolicy::Limits).await;
    let as_bridge = NatsConfig {
        username: Some("bridge".to_owned()),
        password: Some(Secret::new("s3cret")),
        ..config("TAIL-MAY")
    };
    let sink = || sink(&server.url(), as_bridge.clone(), context(None));
    for (others, suppressed, stored) in [
        (&[][..], 0, 100),
        (&[CREATE], 0, 200),
        // Only the removal of the consumer is missing.
        (&[CREATE, NEXT], 100, 200),
    ] {
        server.reload_with(&may(others));
        sleep(5 * WINDOW).await;
        let mut rig = Rig::start(sink(), 0).await;
        assert_eq!(deliver_again(&mut rig, 100).await, suppressed, "{others:?}");
        rig.drain().await;
        let mut stream = jetstream.get_stream("TAIL-MAY").await.unwrap();
        assert_eq!(stream.info().await.unwrap().state.messages, stored, "{others:?}");
    }
}

async fn the_stream_of_another_domain_is_read() {
    let server = NatsServer::start("jetstream { store_dir: \"STORE\", domain: hub }\n");
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = jetstream::with_domain(client, "hub");
    make(&jetstream, "TAIL-HUB", RetentionPolicy::Limits).await;
    publish(&jetstream, "TAIL-HUB.a", "ID:1", "d.RTO.acme").await;
    let config = NatsConfig { domain: Some("hub".to_owned()), ..config("TAIL-HUB") };
    assert_eq!(held(sink(&server.url(), config, context(None)).as_mut(), 10).await, ids([1]));
}

/// The sequence numbers of the messages that are read back.
async fn sequences(sink: &mut dyn Sink) -> Vec<u64> {
    let (sender, mut records) = mpsc::channel::<StoredRecord>(1);
    let mut found = Vec::new();
    let collect = async {
        while let Some(record) = records.recv().await {
            found.push(record.position.to_string().parse().expect("a number"));
        }
    };
    let (read, ()) = tokio::join!(sink.read_back(None, sender), collect);
    read.expect("the whole stream");
    found
}

/// The consumer may read from another replica than the stream's leader.
async fn a_stream_with_replicas_is_read_to_its_end() {
    let servers = NatsServer::start_three();
    let jetstream = servers[0].jetstream().await;
    let replicated = Config {
        name: "TAIL-THREE".to_owned(),
        subjects: vec!["TAIL-THREE.>".to_owned()],
        num_replicas: 3,
        ..Config::default()
    };
    let began = Instant::now();
    // The servers elect a leader first.
    let stream = loop {
        match jetstream.create_stream(replicated.clone()).await {
            Ok(stream) => break stream,
            Err(error) => assert!(began.elapsed() < SOON, "{error}"),
        }
        sleep(WINDOW).await;
    };
    for round in 0..5 {
        for number in 0..20 {
            let id = format!("ID:{}", 20 * round + number);
            publish(&jetstream, "TAIL-THREE.a", &id, "d.RTO.acme").await;
        }
        let mut sink = sink(&servers[round as usize % 3].url(), config("TAIL-THREE"), context(None));
        assert_eq!(held(sink.as_mut(), 100).await, ids(0..20 * (round + 1)));
        assert_eq!(sequences(sink.as_mut()).await, (1..=20 * (round + 1)).collect::<Vec<_>>());
    }
    stream.delete_message(100).await.unwrap();
    let mut sink = sink(&servers[0].url(), config("TAIL-THREE"), context(None));
    assert_eq!(held(sink.as_mut(), 100).await, ids(0..99));
    assert_eq!(sequences(sink.as_mut()).await, (1..100).collect::<Vec<_>>());
}

async fn a_stream_that_cannot_be_read_stops_nothing_for_ever() {
    let jetstream = shared().jetstream().await;
    let limited = |consumers| Config {
        name: "TAIL-CLOSED".to_owned(),
        subjects: vec!["TAIL-CLOSED.>".to_owned()],
        max_consumers: consumers,
        ..Config::default()
    };
    let stream = jetstream.create_stream(limited(1)).await.unwrap();
    publish(&jetstream, "TAIL-CLOSED.a", "ID:1", "d.RTO.acme").await;
    let other =
        jetstream::consumer::pull::Config { durable_name: Some("x".to_owned()), ..Default::default() };
    stream.create_consumer(other).await.unwrap();
    let mut sink = shared_sink("TAIL-CLOSED");
    let began = Instant::now();
    while let Err(error) = sink.claim(10).await {
        assert!(error.to_string().contains("can't read the last messages of stream TAIL-CLOSED"), "{error}");
        assert!(began.elapsed() < 2 * SOON, "it stops the events");
        sleep(WINDOW).await;
    }
    for _ in 0..2 {
        assert_eq!(held(sink.as_mut(), 10).await, [] as [Bytes; 0]);
    }
    stream.delete_consumer("x").await.unwrap();
    assert_eq!(held(sink.as_mut(), 10).await, ids([1]));
}
