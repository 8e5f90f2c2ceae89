//! Tests what `check` tells about a real server and its streams: each warning where it is due, and not elsewhere.

use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use atdata_bridge::finding::Finding;
use atdata_bridge::sink::nats::config::NatsConfig;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::{context, sink};
use kit::nats::{NatsServer, make_stream, on_nats, shared};
use kit::ports::{free_port, loopback};

on_nats!(
    a_version_that_loses_messages_is_a_warning,
    a_stream_that_is_nearly_full_is_a_warning,
    the_monitoring_port_tells_how_often_the_server_syncs,
    a_monitoring_port_that_tells_nothing_is_a_warning,
);

async fn check(url: &str, stream: &str, monitor_url: Option<String>) -> Vec<Finding> {
    let subject = format!("{stream}.{{key}}");
    let config =
        NatsConfig { stream: Some(stream.to_owned()), subject, monitor_url, ..NatsConfig::default() };
    sink(url, config, context(None)).probe().await.expect("the sink can be opened")
}

/// Returns the message of the finding with this code, and whether it is a warning.
fn find<'a>(found: &'a [Finding], code: &str) -> Option<(&'a str, bool)> {
    let finding = found.iter().find(|finding| finding.code.to_string() == code)?;
    Some((&finding.message, finding.is_warning))
}

/// Forwards connections to the shared server, which then seems to have another version.
async fn with_version(version: &'static str) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let serve = async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, version));
        }
    };
    (url, AbortOnDropHandle::new(tokio::spawn(serve)))
}

async fn forward(mut client: TcpStream, version: &str) {
    let mut server = BufReader::new(TcpStream::connect(shared().addr()).await.unwrap());
    let mut info = String::new();
    server.read_line(&mut info).await.unwrap();
    let (before, rest) = info.split_once(r#""version":""#).expect("a version");
    let (_, after) = rest.split_once('"').unwrap();
    let info = format!(r#"{before}"version":"{version}"{after}"#);
    client.write_all(info.as_bytes()).await.unwrap();
    // The client ends the connection in its own way.
    drop(copy_bidirectional(&mut client, &mut server).await);
}

async fn a_version_that_loses_messages_is_a_warning() {
    make_stream(&shared().jetstream().await, "CHECK-VERSION", &["CHECK-VERSION.>"]).await;
    for (version, fixed) in
        [("2.12.1", Some("update it to 2.12.3")), ("2.10.9", Some("2.10.23")), ("2.12.3", None)]
    {
        let (url, _relay) = with_version(version).await;
        let found = check(&url, "CHECK-VERSION", None).await;
        assert!(find(&found, "nats-server").unwrap().0.contains(version), "{found:?}");
        match (find(&found, "nats-faulty-version"), fixed) {
            (Some((message, true)), Some(fixed)) => assert!(message.contains(fixed), "{message}"),
            (told, _) => assert_eq!(told, None, "{version}"),
        }
        assert_eq!(find(&found, "nats-faulty-version").is_some(), fixed.is_some(), "{version}");
    }
}

async fn a_stream_that_is_nearly_full_is_a_warning() {
    let jetstream = shared().jetstream().await;
    for (name, discard, stored, is_warned) in [
        ("CHECK-FULL", DiscardPolicy::New, 9, true),
        ("CHECK-HALF", DiscardPolicy::New, 5, false),
        ("CHECK-OLD", DiscardPolicy::Old, 9, false),
    ] {
        let subjects = vec![format!("{name}.>")];
        let config =
            Config { name: name.to_owned(), subjects, discard, max_messages: 10, ..Config::default() };
        jetstream.create_stream(config).await.unwrap();
        for _ in 0..stored {
            jetstream.publish(format!("{name}.a"), "x".into()).await.unwrap().await.unwrap();
        }
        let found = check(&shared().url(), name, None).await;
        let (limits, _) = find(&found, "nats-stream-limits").expect("limits");
        assert!(limits.contains(&format!("{stored} of 10 events (max_msgs, {stored}0 %)")), "{limits}");
        let told = find(&found, "nats-stream-nearly-full");
        assert_eq!(told.is_some(), is_warned, "{found:?}");
        assert!(
            told.is_none_or(|(message, is_warning)| is_warning && message.contains("raise max_msgs")),
            "{told:?}"
        );
    }
    make_stream(&jetstream, "CHECK-ENDLESS", &["CHECK-ENDLESS.>"]).await;
    let found = check(&shared().url(), "CHECK-ENDLESS", None).await;
    assert!(find(&found, "nats-stream-limits").unwrap().0.contains("no limits of its own"), "{found:?}");
}

async fn the_monitoring_port_tells_how_often_the_server_syncs() {
    for (interval, code, is_warning, words) in [
        ("", "nats-sync-late", true, "every 2m (sync_interval)"),
        ("sync_interval: \"20s\"", "nats-sync-late", true, "every 20s (sync_interval)"),
        ("sync_interval: always", "nats-sync", false, "before it acknowledges it"),
    ] {
        let monitor = loopback(free_port());
        let server = NatsServer::start(&format!(
            "http: \"{monitor}\"\njetstream {{ store_dir: \"STORE\", {interval} }}\n"
        ));
        make_stream(&server.jetstream().await, "SYNC", &["SYNC.>"]).await;
        let found = check(&server.url(), "SYNC", Some(format!("http://{monitor}"))).await;
        let told = find(&found, code);
        assert!(
            told.is_some_and(|(message, level)| level == is_warning && message.contains(words)),
            "{found:?}"
        );
        assert!(find(&found, "nats-one-replica").unwrap().1, "{found:?}");
    }
}

async fn a_monitoring_port_that_tells_nothing_is_a_warning() {
    let jetstream = shared().jetstream().await;
    make_stream(&jetstream, "CHECK-MONITOR", &["CHECK-MONITOR.>"]).await;
    // Nothing listens at the first; the second is the port for clients.
    for monitor in [loopback(free_port()), shared().addr()] {
        let found = check(&shared().url(), "CHECK-MONITOR", Some(format!("http://{monitor}"))).await;
        let (message, is_warning) = find(&found, "nats-monitor-unreadable").expect("a warning");
        assert!(is_warning && message.contains("check sinks.nats.monitor_url"), "{message}");
    }
    let found = check(&shared().url(), "CHECK-MONITOR", None).await;
    assert!(matches!(find(&found, "nats-sync-not-known"), Some((_, false))), "{found:?}");
    // A stream in memory has nothing to sync.
    let (name, subjects) = ("CHECK-MEMORY".to_owned(), vec!["CHECK-MEMORY.>".to_owned()]);
    let config = Config { name, subjects, storage: StorageType::Memory, ..Config::default() };
    jetstream.create_stream(config).await.unwrap();
    let found = check(&shared().url(), "CHECK-MEMORY", None).await;
    assert_eq!(find(&found, "nats-sync-not-known"), None);
}
