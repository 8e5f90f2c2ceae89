//! Tests that failures of a server or a stream lose nothing and are reported, with the real dispatcher.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use atdata_bridge::event::{Batch, SessionId};
use atdata_bridge::finding::Finding;
use atdata_bridge::key::Key;
use atdata_bridge::secret::Secret;
use atdata_bridge::sink::nats::config::{DeliveryMode, NatsConfig};
use atdata_bridge::sink::{Delivery, DeliveryId, Sink, SinkErrorKind, Verdict};
use atdata_bridge::telemetry::status::Status;
use atdata_bridge::units::Period;
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use super::{context, deliver, event, sink};
use crate::sinks::contract::{Rig, account};
use kit::nats::{NatsServer, make_stream, on_nats, read_stream, shared};
use kit::proxy::Proxy;
use kit::{SOON, wait_until};

on_nats!(
    a_missing_stream_holds_the_sink_until_it_is_made,
    a_removed_stream_holds_the_sink_until_it_is_back,
    a_quiet_stream_can_be_purged_or_made_again,
    a_full_stream_holds_the_events_that_it_refuses,
    events_in_another_stream_do_not_count,
    an_unsuitable_stream_is_refused,
    a_forbidden_subject_holds_the_sink_until_it_is_allowed,
    the_error_names_a_forbidden_inbox_or_api,
    a_frozen_server_is_reported_and_the_sink_waits_for_it,
    the_sink_gives_up_on_a_missing_answer,
    cut_connections_lose_and_duplicate_nothing,
    an_outage_is_reported_while_no_events_come,
    core_nats_keeps_order_across_cut_connections,
    the_sink_learns_of_a_raised_limit,
    the_sink_learns_of_a_raised_limit_while_events_are_in_flight,
);

fn config(stream: &str, subject: &str) -> NatsConfig {
    NatsConfig { stream: Some(stream.to_owned()), subject: subject.to_owned(), ..NatsConfig::default() }
}

fn shared_sink(stream: &str, subject: &str) -> Box<dyn Sink> {
    sink(&shared().url(), config(stream, subject), context(None))
}

/// Waits until the status of the sink contains `expected`.
async fn says(rig: &Rig, expected: &str) {
    let said = || {
        rig.states.all().iter().any(|(_, state, _)| match state {
            Status::Held(text) | Status::Retrying(text) => text.contains(expected),
            _ => false,
        })
    };
    wait_until(&format!("the sink says {expected:?}"), SOON, said).await;
}

/// Returns whether the sink waits for an operator, not for the end of a failure.
fn is_held(rig: &Rig) -> bool {
    rig.states.all().iter().any(|(_, state, _)| matches!(state, Status::Held(_)))
}

async fn numbers(stream: &jetstream::Context, name: &str) -> Vec<u64> {
    let messages = read_stream(stream, name).await;
    let number = |message: &jetstream::Message| {
        let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        body["n"].as_u64().unwrap()
    };
    messages.iter().map(number).collect()
}

/// Checks that the stream has every event up to `sent`, exactly once and in order.
async fn assert_exactly(stream: &jetstream::Context, name: &str, sent: u64) {
    let account = account(&numbers(stream, name).await, sent);
    assert_eq!(account.lost, [] as [u64; 0], "lost");
    assert_eq!(account.duplicates, 0, "duplicates");
}

async fn a_missing_stream_holds_the_sink_until_it_is_made() {
    let stream = shared().jetstream().await;
    let mut rig = Rig::start(shared_sink("MISSING", "missing"), 0).await;
    rig.send_to(100).await;
    says(&rig, "there is no stream MISSING").await;
    assert!(is_held(&rig) && rig.acked() == 0);
    make_stream(&stream, "MISSING", &["missing"]).await;
    rig.wait_for_ack(100).await;
    assert_exactly(&stream, "MISSING", 100).await;
    rig.drain().await;
}

async fn a_removed_stream_holds_the_sink_until_it_is_back() {
    let stream = shared().jetstream().await;
    make_stream(&stream, "REMOVED", &["removed.>"]).await;
    let mut rig = Rig::start(shared_sink("REMOVED", "removed.{key}"), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    stream.delete_stream("REMOVED").await.unwrap();
    rig.send_to(200).await;
    says(&rig, "there is no stream REMOVED").await;
    assert_eq!(rig.acked(), 100);
    make_stream(&stream, "REMOVED", &["removed.>"]).await;
    rig.wait_for_ack(200).await;
    assert_eq!(sorted(numbers(&stream, "REMOVED").await), (101..=200).collect::<Vec<_>>());
    rig.drain().await;
}

async fn a_quiet_stream_can_be_purged_or_made_again() {
    let stream = shared().jetstream().await;
    make_stream(&stream, "QUIET", &["quiet"]).await;
    let mut rig = Rig::start(shared_sink("QUIET", "quiet"), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    stream.get_stream("QUIET").await.unwrap().purge().await.unwrap();
    rig.send_to(200).await;
    rig.wait_for_ack(200).await;
    assert_eq!(sorted(numbers(&stream, "QUIET").await), (101..=200).collect::<Vec<_>>());
    stream.delete_stream("QUIET").await.unwrap();
    make_stream(&stream, "QUIET", &["quiet"]).await;
    rig.send_to(300).await;
    rig.wait_for_ack(300).await;
    assert_eq!(sorted(numbers(&stream, "QUIET").await), (201..=300).collect::<Vec<_>>());
    rig.drain().await;
}

fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

async fn a_full_stream_holds_the_events_that_it_refuses() {
    let stream = shared().jetstream().await;
    let mut limits = stream::Config {
        name: "FULL".to_owned(),
        subjects: vec!["full.>".to_owned()],
        max_messages: 150,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    };
    stream.create_stream(limits.clone()).await.unwrap();
    let mut rig = Rig::start(shared_sink("FULL", "full.{key}"), 0).await;
    rig.send_to(300).await;
    says(&rig, "maximum messages exceeded").await;
    assert!(rig.acked() <= 150, "{} acknowledged", rig.acked());
    limits.max_messages = -1;
    stream.update_stream(limits).await.unwrap();
    rig.wait_for_ack(300).await;
    assert_exactly(&stream, "FULL", 300).await;
    assert!(rig.letters.0.lock().unwrap().is_empty(), "a full stream is no reason for a dead letter");
    rig.drain().await;
}

async fn events_in_another_stream_do_not_count() {
    let stream = shared().jetstream().await;
    make_stream(&stream, "MINE", &["mine"]).await;
    let mut rig = Rig::start(shared_sink("MINE", "mine"), 0).await;
    rig.send_to(50).await;
    rig.wait_for_ack(50).await;
    stream.delete_stream("MINE").await.unwrap();
    make_stream(&stream, "YOURS", &["mine"]).await;
    rig.send_to(100).await;
    rig.wait_for_failure().await;
    says(&rig, "MINE").await;
    assert_eq!(numbers(&stream, "YOURS").await, [] as [u64; 0]);
    assert_eq!(rig.acked(), 50);
    stream.delete_stream("YOURS").await.unwrap();
    make_stream(&stream, "MINE", &["mine"]).await;
    rig.wait_for_ack(100).await;
    assert_eq!(sorted(numbers(&stream, "MINE").await), (51..=100).collect::<Vec<_>>());
    rig.drain().await;
}

async fn an_unsuitable_stream_is_refused() {
    let stream = shared().jetstream().await;
    let make = async |name: &str, change: fn(&mut stream::Config)| {
        let mut config = stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.a")],
            ..stream::Config::default()
        };
        change(&mut config);
        stream.create_stream(config).await.unwrap();
    };
    make("SILENT", |config| config.no_ack = true).await;
    make("NARROW", |_| {}).await;
    make("MEMORY", |config| config.storage = stream::StorageType::Memory).await;
    for (name, subject, expected) in
        [("SILENT", "SILENT.a", "no_ack"), ("NARROW", "NARROW.{key}", "not all of NARROW.*")]
    {
        let mut sink = shared_sink(name, subject);
        let from_open = deliver(sink.as_mut(), Vec::new()).await.unwrap_err().to_string();
        let from_probe = sink.probe().await.unwrap_err().to_string();
        assert!(from_open.contains(expected) && from_probe == from_open, "{from_open}; {from_probe}");
    }
    let lines = shared_sink("MEMORY", "MEMORY.a").probe().await.unwrap();
    let warned = |line: &Finding| line.to_string().starts_with("warning: stream MEMORY is kept in memory");
    assert!(lines.iter().any(warned), "{lines:?}");
}

const ADMIN: &str = "{ user: admin, password: admin }";

/// Returns the configuration of a server on which the user `bridge` has these permissions.
fn users(permissions: &str) -> String {
    format!(
        "authorization {{ users: [ {ADMIN}, {{ user: bridge, password: bridge, permissions: {permissions} }} ] }}\n"
    )
}

fn as_bridge(config: NatsConfig) -> NatsConfig {
    let password = Some(Secret::new("bridge"));
    NatsConfig { username: Some("bridge".to_owned()), password, ..config }
}

async fn admin(server: &NatsServer) -> jetstream::Context {
    let options = async_nats::ConnectOptions::new().user_and_password("admin".to_owned(), "admin".to_owned());
    server.jetstream_as(options).await
}

async fn a_forbidden_subject_holds_the_sink_until_it_is_allowed() {
    let server =
        NatsServer::start(&users(r#"{ publish: ["$JS.API.>", "events.other"], subscribe: ["_INBOX.>"] }"#));
    let stream = admin(&server).await;
    make_stream(&stream, "EVENTS", &["events.>"]).await;
    let config = as_bridge(config("EVENTS", "events.{key}"));
    let mut rig = Rig::start(sink(&server.url(), config, context(None)), 0).await;
    rig.send_to(100).await;
    says(&rig, "may not publish to events.{key}").await;
    assert!(is_held(&rig) && rig.acked() == 0);
    server.restart_with(&users(r#"{ publish: ["$JS.API.>", "events.>"], subscribe: ["_INBOX.>"] }"#));
    rig.wait_for_ack(100).await;
    assert_exactly(&stream, "EVENTS", 100).await;
    rig.drain().await;
}

async fn the_error_names_a_forbidden_inbox_or_api() {
    let server =
        NatsServer::start(&users(r#"{ publish: ["$JS.API.>", "events"], subscribe: ["_BRIDGE.>"] }"#));
    let stream = admin(&server).await;
    make_stream(&stream, "EVENTS", &["events"]).await;
    let config = as_bridge(config("EVENTS", "events"));
    let refusal = async |config: NatsConfig| {
        let mut sink = sink(&server.url(), config, context(None));
        deliver(sink.as_mut(), Vec::new()).await.map(|_| ()).map_err(|error| error.to_string())
    };
    let inbox = refusal(config.clone()).await.unwrap_err();
    assert!(inbox.contains("inbox_prefix"), "{inbox}");
    let config = NatsConfig { inbox_prefix: "_BRIDGE".to_owned(), ..config };
    refusal(config.clone()).await.unwrap();
    server.restart_with(&users(r#"{ publish: ["events"], subscribe: ["_BRIDGE.>"] }"#));
    let api = refusal(config).await.unwrap_err();
    assert!(api.contains("$JS.API.STREAM.INFO"), "{api}");
}

async fn a_frozen_server_is_reported_and_the_sink_waits_for_it() {
    let server = NatsServer::start("");
    let stream = server.jetstream().await;
    make_stream(&stream, "EVENTS", &["events.>"]).await;
    let mut rig = Rig::start(sink(&server.url(), config("EVENTS", "events.{key}"), context(None)), 0).await;
    rig.send_to(500).await;
    rig.wait_for_ack(100).await;
    server.freeze();
    rig.send_to(1000).await;
    says(&rig, "has not answered a publish").await;
    server.thaw();
    rig.wait_for_ack(1000).await;
    assert_exactly(&stream, "EVENTS", 1000).await;
    rig.drain().await;
}

async fn the_sink_gives_up_on_a_missing_answer() {
    let server = NatsServer::start("");
    let stream = server.jetstream().await;
    make_stream(&stream, "EVENTS", &["events.>"]).await;
    let proxy = Proxy::start(server.addr()).await;
    let config = NatsConfig { publish_timeout: Period::secs(1), ..config("EVENTS", "events.{key}") };
    let url = format!("nats://{}", proxy.addr());
    let mut rig = Rig::start(sink(&url, config, context(None)), 0).await;
    rig.send_to(100).await;
    rig.wait_for_ack(100).await;
    proxy.silence();
    rig.send_to(200).await;
    // The sink gave up and tried another connection, which does not answer either.
    wait_until("it connects again", SOON, || proxy.connections() > 1).await;
    rig.wait_for_failure().await;
    proxy.resume();
    rig.wait_for_ack(200).await;
    assert_exactly(&stream, "EVENTS", 200).await;
    rig.drain().await;
}

async fn cut_connections_lose_and_duplicate_nothing() {
    let server = NatsServer::start("");
    let stream = server.jetstream().await;
    make_stream(&stream, "EVENTS", &["events.>"]).await;
    let proxy = Proxy::start(server.addr()).await;
    let url = format!("nats://{}", proxy.addr());
    let mut rig = Rig::start(sink(&url, config("EVENTS", "events.{key}"), context(None)), 0).await;
    for round in 1..=10 {
        rig.send_to(round * 400).await;
        rig.wait_for_ack(round * 400 - 350).await;
        proxy.cut();
    }
    rig.wait_for_ack(4000).await;
    assert!(proxy.connections() > 5, "{} connections", proxy.connections());
    assert_exactly(&stream, "EVENTS", 4000).await;
    rig.drain().await;
}

/// A server announces its limit once for each connection. An old limit must not make an event too large.
async fn the_sink_learns_of_a_raised_limit() {
    let server = NatsServer::start("max_payload: 1000\n");
    make_stream(&server.jetstream().await, "EVENTS", &["events"]).await;
    let mut sink = sink(&server.url(), config("EVENTS", "events"), context(None));
    let body = format!(r#"{{"md5":"{}","x":"{}"}}"#, Key::digest(b"x"), "x".repeat(2000));
    let batch = Batch {
        session: SessionId(1),
        first: 1,
        events: vec![event("ID:1", body.clone())],
        received: Instant::now(),
    };
    let large = Arc::new(batch).refs().next().unwrap();
    let (mut submit, mut verdicts) = sink.open().await.unwrap();
    server.reload_with("max_payload: 10000\n");
    let reconnects = async {
        for id in 1.. {
            match submit.submit(&[Delivery { id: DeliveryId(id), event: large.clone() }]) {
                Ok(_) => assert!(matches!(verdicts.next().await.unwrap()[..], [(_, Verdict::Reject(_))])),
                Err(error) => return assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, reconnects).await.expect("the sink connects again");
    drop((submit, verdicts));
    let received = deliver(sink.as_mut(), vec![event("ID:1", body)]).await.unwrap();
    assert!(matches!(received[..], [Verdict::Durable]), "{received:?}");
}

/// The same call submits smaller events with the large one: the sink waits until the smaller ones are
/// settled.
async fn the_sink_learns_of_a_raised_limit_while_events_are_in_flight() {
    let server = NatsServer::start("max_payload: 1000\n");
    let stream = server.jetstream().await;
    make_stream(&stream, "EVENTS", &["events"]).await;
    let mut sink = sink(&server.url(), config("EVENTS", "events"), context(None));
    let body = |filler: usize| format!(r#"{{"md5":"{}","x":"{}"}}"#, Key::digest(b"x"), "x".repeat(filler));
    let (mut submit, mut verdicts) = sink.open().await.unwrap();
    server.reload_with("max_payload: 10000\n");
    let reconnects = async {
        for round in 0.. {
            let events = vec![event(&format!("ID:{round}"), body(1)), event("ID:large", body(2000))];
            let batch = Arc::new(Batch { session: SessionId(1), first: 1, events, received: Instant::now() });
            let both: Vec<Delivery> = (2 * round..)
                .zip(batch.refs())
                .map(|(id, event)| Delivery { id: DeliveryId(id), event })
                .collect();
            let taken = submit.submit(&both).unwrap();
            let mut received = Vec::new();
            while received.len() < taken {
                received.extend(verdicts.next().await.unwrap());
            }
            received.sort_by_key(|(id, _)| *id);
            match received.as_slice() {
                [(_, Verdict::Durable), (_, Verdict::Reject(_))] => {}
                // The limit is old: the large event is offered again, now that nothing is in flight.
                [(_, Verdict::Durable)] => {
                    let error = submit.submit(&both[1..]).unwrap_err();
                    return assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
                }
                other => panic!("{other:?}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, reconnects).await.expect("the sink connects again");
    drop((submit, verdicts));
    let received = deliver(sink.as_mut(), vec![event("ID:large", body(2000))]).await.unwrap();
    assert!(matches!(received[..], [Verdict::Durable]), "{received:?}");
}

async fn an_outage_is_reported_while_no_events_come() {
    let server = NatsServer::start("");
    let stream = server.jetstream().await;
    make_stream(&stream, "EVENTS", &["events"]).await;
    let mut rig = Rig::start(sink(&server.url(), config("EVENTS", "events"), context(None)), 0).await;
    rig.send_to(10).await;
    rig.wait_for_ack(10).await;
    server.kill();
    rig.wait_for_failure().await;
    server.restart();
    let ready = || rig.states.all().iter().all(|(_, state, _)| state.is_ready());
    wait_until("the sink is ready again", Duration::from_secs(60), ready).await;
    rig.send_to(20).await;
    rig.wait_for_ack(20).await;
    assert_exactly(&stream, "EVENTS", 20).await;
    rig.drain().await;
}

/// Messages that the client queued for a lost connection must not come after later ones.
async fn core_nats_keeps_order_across_cut_connections() {
    let server = NatsServer::start("");
    let options = async_nats::ConnectOptions::new().subscription_capacity(100_000);
    let client = options.connect(server.url()).await.unwrap();
    let mut subscriber = client.subscribe("events").await.unwrap();
    client.flush().await.unwrap();
    let proxy = Proxy::start(server.addr()).await;
    let config =
        NatsConfig { delivery: DeliveryMode::Core, subject: "events".to_owned(), ..NatsConfig::default() };
    let mut rig = Rig::start(sink(&format!("nats://{}", proxy.addr()), config, context(None)), 0).await;
    for round in 1..=10 {
        rig.send_to(round * 400).await;
        rig.wait_for_ack(round * 400 - 350).await;
        proxy.cut();
    }
    rig.wait_for_ack(4000).await;
    rig.drain().await;
    client.publish("events", "end".into()).await.unwrap();
    let mut numbers = Vec::new();
    while let Some(headers) = subscriber.next().await.unwrap().headers {
        let id = headers.get("atdata-message-id").unwrap().as_str();
        numbers.push(id.rsplit(':').next().unwrap().parse().unwrap());
    }
    assert_eq!(account(&numbers, 4000).lost, [] as [u64; 0], "lost, although there was a subscriber");
}
