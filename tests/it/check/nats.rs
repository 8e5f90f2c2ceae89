//! Plants mistakes in NATS: in streams, in rights, and in what the server says of itself.

use std::time::{Duration, SystemTime};

use async_nats::ConnectOptions;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy};
use nkeys::KeyPair;

use super::{finds, held, ok, retrying, warning};
use crate::sinks::nats::logins::{credentials_until, operator_mode};
use kit::bridge::Setup;
use kit::nats::{NatsServer, make_stream};
use kit::on_nats;
use kit::ports::{free_port, loopback};
use kit::rewriting::{Rewriting, replace_between};

on_nats!(
    mistakes_of_a_stream,
    mistakes_of_rights,
    mistakes_of_a_login,
    mistakes_of_a_server,
    mistakes_of_an_account
);

/// A bridge that writes into the stream `EVENTS`. Its broker is away, which is another part.
fn writes_to(url: impl Into<String>) -> Setup {
    Setup::at("stomp://127.0.0.1:1", "acme", "main", "check-nats")
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__NATS__URL", url)
        .set("SINKS__NATS__STREAM", "EVENTS")
        .set("SINKS__NATS__SUBJECT", "events.{namespace}.{key}")
        .set("SINKS__NATS__PUBLISH_TIMEOUT", "2s")
}

/// Streams that keep what they get, except for one mistake each.
async fn mistakes_of_a_stream() {
    let server = NatsServer::start("");
    let jetstream = server.jetstream().await;
    let setup = writes_to(server.url());
    let good = || Config {
        name: "EVENTS".to_owned(),
        subjects: vec!["events.>".to_owned()],
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let interest = Config { retention: RetentionPolicy::Interest, ..good() };
    let per_subject = Config { discard_new_per_subject: true, max_messages_per_subject: 1, ..good() };
    for (config, consumers, events, code) in [
        (Config { max_age: days(7), ..good() }, 0, 0, "nats-max-age"),
        (Config { persist_mode: Some(PersistenceMode::Async), ..good() }, 0, 0, "nats-persist-async"),
        (Config { max_messages: 10, ..good() }, 0, 9, "nats-stream-nearly-full"),
        (Config { max_consumers: 1, ..good() }, 1, 0, "nats-no-consumer-left"),
        (per_subject, 0, 0, "nats-full-per-subject"),
        (interest.clone(), 1, 0, "nats-interest"),
        (interest, 1, 0, "nats-duplicate-window-only"),
    ] {
        let stream = jetstream.create_stream(config).await.expect("make a stream");
        for _ in 0..consumers {
            // By default the server removes it after 5 s.
            let config = pull::Config { inactive_threshold: Duration::from_mins(5), ..Default::default() };
            stream.create_consumer(config).await.expect("make a consumer");
        }
        for number in 0..events {
            store(&jetstream, number).await;
        }
        finds(code, &setup, &[], warning(code));
        jetstream.delete_stream("EVENTS").await.expect("delete the stream");
    }
    finds("no stream", &setup, &[], held("nats-stream-missing"));
    make_stream(&jetstream, "EVENTS", &["other.>"]).await;
    finds("other subjects", &setup, &[], held("nats-stream-unfit"));
}

async fn store(jetstream: &Context, number: u32) {
    let sent = jetstream.publish(format!("events.acme.{number}"), "{}".into()).await.expect("publish");
    sent.await.expect("an acknowledgement");
}

/// What the bridge asks of JetStream, besides its events.
const API: &str = r#""$JS.API.STREAM.INFO.EVENTS", "$SYS.REQ.USER.INFO""#;
const TAIL: &str = r#""$JS.API.CONSUMER.>""#;

/// Starts a server on which the bridge may publish to `publish`, and not to `deny`.
async fn allowing(publish: &str, deny: &str) -> (NatsServer, Setup) {
    let server = NatsServer::start(&format!(
        "authorization {{ users: [ {{ user: admin, password: admin }}, {{ user: bridge, password: s3cret, \
         permissions: {{ publish: {{ allow: [{publish}], deny: [{deny}] }}, subscribe: [\"_INBOX.>\"] }} }} ] }}\n"
    ));
    let admin = ConnectOptions::new().user_and_password("admin".to_owned(), "admin".to_owned());
    make_stream(&server.jetstream_as(admin).await, "EVENTS", &["events.>"]).await;
    let setup =
        writes_to(server.url()).set("SINKS__NATS__USERNAME", "bridge").set("SINKS__NATS__PASSWORD", "s3cret");
    (server, setup)
}

async fn mistakes_of_rights() {
    let own = r#""events.acme.*""#;
    for (what, publish, deny, found) in [
        ("no subject", format!("{API}, {TAIL}"), "", held("nats-publish-denied")),
        ("another subject", format!(r#"{API}, {TAIL}, "events.other.>""#), "", held("nats-publish-denied")),
        ("one key", format!(r#"{API}, {TAIL}, "events.acme.0""#), "", held("nats-publish-denied")),
        ("a denial", r#"">""#.to_owned(), r#""events.acme.>""#, held("nats-publish-denied")),
        ("no consumers", format!("{API}, {own}"), "", warning("nats-tail-denied")),
        (
            "no next message",
            format!("{API}, {TAIL}, {own}"),
            r#""$JS.API.CONSUMER.MSG.NEXT.>""#,
            warning("nats-tail-denied"),
        ),
        ("no question", format!(r#""$JS.API.>", {own}"#), "", ok("nats-rights-not-known")),
    ] {
        let (_server, setup) = allowing(&publish, deny).await;
        finds(what, &setup, &[], found);
    }
    let (server, setup) = allowing(&format!("{API}, {TAIL}, {own}"), "").await;
    let results = super::check(&setup, &[]);
    let codes: Vec<_> = results.iter().filter_map(|result| result["code"].as_str()).collect();
    assert!(!codes.contains(&"nats-tail-denied") && !codes.contains(&"nats-rights-not-known"), "{codes:?}");
    let wrong = setup.set("SINKS__NATS__PASSWORD", "wrong");
    finds("a wrong password", &wrong, &[], held("nats-login"));
    drop(server);
}

/// Credentials that end.
async fn mistakes_of_a_login() {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let server = NatsServer::start(&operator_mode(&operator, &account, &KeyPair::new_account()));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let until =
        |days: u64| credentials_until(&account, &KeyPair::new_user(), -1, Some(now + days * 24 * 3600));
    let options = ConnectOptions::with_credentials(&until(1)).expect("credentials");
    make_stream(&server.jetstream_as(options).await, "EVENTS", &["events.>"]).await;
    let directory = tempfile::tempdir().expect("a directory");
    for (days, found) in [(10, warning("nats-login-expires-soon")), (30, ok("nats-login-expires"))] {
        let file = directory.path().join(format!("{days}.creds"));
        std::fs::write(&file, until(days)).expect("write credentials");
        let setup = writes_to(server.url()).set("SINKS__NATS__CREDENTIALS_FILE", file.display().to_string());
        let said = finds("the end of the login", &setup, &[], found);
        assert!(said.contains(&format!("{} days and 23 hours", days - 1)), "{said}");
    }
}

/// As a server of a faulty version.
fn faulty_version(bytes: &mut Vec<u8>) {
    replace_between(bytes, "\"version\":\"", "\"", "2.10.22");
}

/// As a server whose clock is ten years ahead, or behind.
fn ahead(bytes: &mut Vec<u8>) {
    replace_between(bytes, "\"ts\":\"20", "-", "36");
}

fn behind(bytes: &mut Vec<u8>) {
    replace_between(bytes, "\"ts\":\"20", "-", "16");
}

async fn mistakes_of_a_server() {
    let (monitor, other) = (free_port(), free_port());
    let server = NatsServer::start(&format!("http: \"127.0.0.1:{monitor}\"\n"));
    let another = NatsServer::start(&format!("http: \"127.0.0.1:{other}\"\n"));
    make_stream(&server.jetstream().await, "EVENTS", &["events.>"]).await;
    let setup = || writes_to(server.url());
    let monitored = |port: u16| setup().set("SINKS__NATS__MONITOR_URL", format!("http://{}", loopback(port)));
    finds("the clock", &setup(), &[], ok("clock"));
    finds("no monitoring", &setup(), &[], ok("nats-sync-not-known"));
    finds("late syncs", &monitored(monitor), &[], warning("nats-sync-late"));
    finds("monitoring of another server", &monitored(other), &[], warning("nats-monitor-of-another"));
    let client_port = server.addr().port();
    finds("no port of monitoring", &monitored(client_port), &[], warning("nats-monitor-unreadable"));
    drop(another);
    for (what, change, code) in [
        ("a faulty version", faulty_version as fn(&mut Vec<u8>), "nats-faulty-version"),
        ("a clock that is ahead", ahead, "clock-skew"),
        ("a clock that is behind", behind, "clock-skew"),
    ] {
        let relay = Rewriting::start(server.addr(), change).await;
        finds(what, &writes_to(format!("nats://{}", relay.addr())), &[], warning(code));
    }
    finds("nothing listens", &writes_to("nats://127.0.0.1:1"), &[], retrying("nats-unreachable"));
    let off = NatsServer::start("jetstream: disabled\n");
    finds("no JetStream", &writes_to(off.url()), &[], held("nats-no-jetstream"));
    let web = writes_to(format!("nats://{}", loopback(monitor)));
    finds("a web page", &web, &[], held("nats-wrong-port"));
}

/// An account whose storage is nearly full.
async fn mistakes_of_an_account() {
    let server = NatsServer::start(
        "jetstream { store_dir: \"STORE\" }\n\
         accounts { A: { jetstream: { max_file: 1000000 }, users: [ { user: bridge, password: s3cret } ] } }\n",
    );
    let options = ConnectOptions::new().user_and_password("bridge".to_owned(), "s3cret".to_owned());
    let jetstream = server.jetstream_as(options).await;
    make_stream(&jetstream, "EVENTS", &["events.>"]).await;
    let sent = jetstream.publish("events.acme.0", vec![b'x'; 900_000].into()).await.expect("publish");
    sent.await.expect("an acknowledgement");
    let setup =
        writes_to(server.url()).set("SINKS__NATS__USERNAME", "bridge").set("SINKS__NATS__PASSWORD", "s3cret");
    finds("a nearly full account", &setup, &[], warning("nats-account-nearly-full"));
}
