//! Tests the messages that the sink stores in a stream.

use std::num::NonZeroU32;

use atdata_bridge::key::Key;
use atdata_bridge::sink::nats::config::{DeliveryMode, NatsConfig, StreamConfig};
use atdata_bridge::sink::{Rejection, Verdict};
use atdata_bridge::units::{Period, Size};
use futures_util::StreamExt;

use super::{context, deliver, event, sink};
use kit::nats::{NatsServer, make_stream, on_nats, read_stream, shared};

on_nats!(
    an_event_arrives_complete,
    the_partition_is_the_same_as_in_every_sink,
    the_same_event_is_stored_once,
    only_events_that_are_too_large_are_rejected,
    a_missing_stream_is_made_as_configured,
    an_existing_stream_is_not_changed,
    core_nats_reaches_a_subscriber,
);

fn config(stream: &str, subject: &str) -> NatsConfig {
    NatsConfig { stream: Some(stream.to_owned()), subject: subject.to_owned(), ..NatsConfig::default() }
}

fn bodies(count: usize) -> Vec<String> {
    (0..count).map(|n| format!(r#"{{"md5":"{}","n":{n}}}"#, Key::digest(&n.to_be_bytes()))).collect()
}

fn is_durable(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(|verdict| matches!(verdict, Verdict::Durable))
}

async fn an_event_arrives_complete() {
    let stream = shared().jetstream().await;
    make_stream(&stream, "WHOLE", &["whole.>"]).await;
    let mut sink =
        sink(&shared().url(), config("WHOLE", "whole.{namespace}.{destination_id}.{key}"), context(None));
    let body = &bodies(1)[0];
    let verdicts = deliver(sink.as_mut(), vec![event("ID:a-1:1:1:1:7", body.clone())]).await.unwrap();
    assert!(is_durable(&verdicts), "{verdicts:?}");

    let messages = read_stream(&stream, "WHOLE").await;
    assert_eq!(messages.len(), 1);
    assert_eq!(*messages[0].subject, format!("whole.acme.d.{}", Key::digest(&0usize.to_be_bytes())));
    assert_eq!(messages[0].payload, body);
    let headers = messages[0].headers.as_ref().unwrap();
    for (name, value) in [
        ("Nats-Msg-Id", "ID:a-1:1:1:1:7"),
        ("atdata-message-id", "ID:a-1:1:1:1:7"),
        ("atdata-destination", "d.RTO.acme"),
        ("atdata-timestamp", "1700000000000"),
        ("atdata-redelivered", "false"),
        ("atdata-connection-id", "b1"),
    ] {
        assert_eq!(headers.get(name).map(|value| value.as_str()), Some(value), "{name}");
    }
}

async fn the_partition_is_the_same_as_in_every_sink() {
    let stream = shared().jetstream().await;
    let partitions: Vec<String> = (0..12).map(|partition| format!("parts.p{partition}")).collect();
    let subjects: Vec<&str> = partitions.iter().map(String::as_str).collect();
    make_stream(&stream, "PARTS", &subjects).await;
    let mut sink = sink(&shared().url(), config("PARTS", "parts.p{partition}"), context(Some(12)));
    let events = bodies(50).into_iter().enumerate().map(|(n, body)| event(&format!("ID:{n}"), body));
    assert!(is_durable(&deliver(sink.as_mut(), events.collect()).await.unwrap()));

    let messages = read_stream(&stream, "PARTS").await;
    assert_eq!(messages.len(), 50);
    for message in messages {
        let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let key = Key::from_hex(body["md5"].as_str().unwrap().as_bytes()).unwrap();
        let partition = key.partition(NonZeroU32::new(12).unwrap());
        assert_eq!(*message.subject, format!("parts.p{partition}"));
    }
}

async fn the_same_event_is_stored_once() {
    let stream = shared().jetstream().await;
    make_stream(&stream, "ONCE", &["once"]).await;
    for _ in 0..2 {
        // Like a new process: only the stream knows which events are stored.
        let mut sink = sink(&shared().url(), config("ONCE", "once"), context(None));
        let events = bodies(20).into_iter().enumerate().map(|(n, body)| event(&format!("ID:{n}"), body));
        assert!(is_durable(&deliver(sink.as_mut(), events.collect()).await.unwrap()));
        assert_eq!(read_stream(&stream, "ONCE").await.len(), 20);
    }
    // With the destination id in the message id, the copy of another subscription is another event.
    let template =
        NatsConfig { message_id: "{destination_id}/{message_id}".to_owned(), ..config("ONCE", "once") };
    let mut sink = sink(&shared().url(), template, context(None));
    assert!(is_durable(&deliver(sink.as_mut(), vec![event("ID:1", bodies(1)[0].clone())]).await.unwrap()));
    assert_eq!(read_stream(&stream, "ONCE").await.len(), 21);
}

async fn only_events_that_are_too_large_are_rejected() {
    let server = NatsServer::start("max_payload: 20000\n");
    let stream = server.jetstream().await;
    let mut made = make_stream(&stream, "SMALL", &["small"]).await;
    let mut limits = made.info().await.unwrap().config.clone();
    limits.max_message_size = 5000;
    stream.update_stream(limits).await.unwrap();
    let padded = |n: usize, size: usize| {
        event(&format!("ID:{n}"), format!(r#"{{"md5":"{}","x":"{}"}}"#, Key::digest(b"x"), "x".repeat(size)))
    };
    let events = vec![padded(1, 10), padded(2, 7000), padded(3, 10), padded(4, 30_000), padded(5, 10)];
    let mut sink = sink(&server.url(), config("SMALL", "small"), context(None));
    let verdicts = deliver(sink.as_mut(), events).await.unwrap();
    let outcomes: Vec<&str> = verdicts
        .iter()
        .map(|verdict| match verdict {
            Verdict::Durable => "durable",
            Verdict::Reject(Rejection { reason, .. }) => reason,
            Verdict::Retry(_) => "retry",
        })
        .collect();
    assert_eq!(outcomes, ["durable", "too_large", "durable", "too_large", "durable"]);
    assert_eq!(read_stream(&stream, "SMALL").await.len(), 3);
}

async fn a_missing_stream_is_made_as_configured() {
    let create_stream = StreamConfig {
        enabled: true,
        max_bytes: Some(Size::mib(10)),
        max_age: Some(Period::secs(86_400)),
        duplicate_window: Period::secs(300),
        ..StreamConfig::default()
    };
    let config = NatsConfig { create_stream, ..config("MADE", "made.{namespace}.{key}") };
    let mut sink = sink(&shared().url(), config, context(None));
    let lines = sink.probe().await.unwrap();
    assert!(lines.iter().any(|line| line.message.contains("will be made")), "{lines:?}");
    let stream = shared().jetstream().await;
    assert!(stream.get_stream("MADE").await.is_err(), "a probe makes nothing");

    assert!(is_durable(&deliver(sink.as_mut(), vec![event("ID:1", bodies(1)[0].clone())]).await.unwrap()));
    let made = stream.get_stream("MADE").await.unwrap().cached_info().config.clone();
    assert_eq!(made.subjects, ["made.acme.*"]);
    assert_eq!(
        (made.max_bytes, made.max_age.as_secs(), made.duplicate_window.as_secs()),
        (10 << 20, 86_400, 300)
    );
}

async fn an_existing_stream_is_not_changed() {
    let stream = shared().jetstream().await;
    make_stream(&stream, "THERE", &["there"]).await;
    let create_stream = StreamConfig { enabled: true, max_messages: Some(1), ..StreamConfig::default() };
    let config = NatsConfig { create_stream, ..config("THERE", "there") };
    let mut sink = sink(&shared().url(), config, context(None));
    let events = bodies(5).into_iter().enumerate().map(|(n, body)| event(&format!("ID:{n}"), body));
    assert!(is_durable(&deliver(sink.as_mut(), events.collect()).await.unwrap()));
    assert_eq!(read_stream(&stream, "THERE").await.len(), 5);
}

async fn core_nats_reaches_a_subscriber() {
    let client = async_nats::connect(shared().url()).await.unwrap();
    let mut subscriber = client.subscribe("core.>").await.unwrap();
    client.flush().await.unwrap();
    // The server has the subscription once it answers a request.
    client.request("$JS.API.INFO", "".into()).await.unwrap();
    let config = NatsConfig {
        delivery: DeliveryMode::Core,
        subject: "core.{namespace}".to_owned(),
        ..NatsConfig::default()
    };
    let mut sink = sink(&shared().url(), config, context(None));
    assert!(sink.keeps_order());
    let events = bodies(30).into_iter().enumerate().map(|(n, body)| event(&format!("ID:{n}"), body));
    assert!(is_durable(&deliver(sink.as_mut(), events.collect()).await.unwrap()));
    for n in 0..30 {
        let message = subscriber.next().await.unwrap();
        assert_eq!(*message.subject, *"core.acme");
        assert_eq!(message.headers.unwrap().get("atdata-message-id").unwrap().as_str(), format!("ID:{n}"));
    }
}
