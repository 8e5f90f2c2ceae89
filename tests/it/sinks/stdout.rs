//! Tests that the sink `stdout` ends the program, without an error, when its reader closes the pipe.

use std::path::PathBuf;
use std::process::Command;

use kit::admin::{Admin, Metrics};
use kit::bridge::Setup;
use kit::broker::{Broker, Protocol, Version, shared};
use kit::events::Events;
use kit::ports::free_port;
use kit::scenario::{place, publish, subscribed};
use kit::{SOON, on_each_broker};
use tokio::task::{JoinHandle, spawn_blocking};

on_each_broker!(over each protocol: ends_when_its_reader_leaves);
on_each_broker!(over each protocol: another_sink_that_is_away_does_not_keep_it);

/// Like any filter, the program ends with code 0 at the first write after the reader has left, and logs no
/// failure.
async fn ends_when_its_reader_leaves(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "left"));
    let (setup, pipe) = piped(broker, protocol, namespace);
    let mut bridge = setup.start();
    let line = read_a_line(pipe);
    subscribed(broker, queue, 1).await;
    let events = Events::good(1);
    publish(broker, namespace, events).await;
    assert_eq!(line.await.expect("a line").trim_end(), events.body(0));

    // The pipe is closed; the next write notices it.
    publish(broker, namespace, events).await;
    let status = bridge.ended(SOON).await;
    let log = bridge.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("whoever read standard output has left: ended"), "{log}");
    for failure in ["retrying: ", "held: ", "fault"] {
        assert!(!log.contains(failure), "{failure}: {log}");
    }
    // The event that was read is acknowledged; the event that nobody read is not (I1).
    subscribed(broker, queue, 0).await;
    assert_eq!(broker.depth(queue), 1, "{log}");
    assert!(log.contains("acked=1"), "{log}");
}

/// What another sink holds is waited for as long as after SIGTERM.
async fn another_sink_that_is_away_does_not_keep_it(version: Version, protocol: Protocol) {
    let (broker, namespace) = (shared(version), &protocol.named("kept"));
    let (setup, pipe) = piped(broker, protocol, namespace);
    let setup = setup
        .set("SOURCE__ISOLATION", "mirror")
        .set("SINKS__NATS__URL", format!("nats://127.0.0.1:{}", free_port()))
        .set("SINKS__NATS__STREAM", "away")
        .set("SINKS__NATS__SUBJECT", "away.{key}")
        .set("SHUTDOWN__DRAIN_TIMEOUT", "2s");
    let mut bridge = setup.start();
    let line = read_a_line(pipe);
    for sink in ["look", "nats"] {
        subscribed(broker, &format!("main-{sink}.RTO.{namespace}"), 1).await;
    }
    publish(broker, namespace, Events::good(1)).await;
    line.await.expect("a line");
    let received = format!("atdata_bridge_events_received_total{{queue=\"main-nats.RTO.{namespace}\"}}");
    let is_received = |metrics: &Metrics| metrics.find(&received) == Some(1.0);
    Admin::of(&bridge).await.metrics_until("the other sink has an event", is_received).await;

    publish(broker, namespace, Events::good(1)).await;
    let status = bridge.ended(SOON).await;
    let log = bridge.log();
    assert_eq!(status.code(), Some(75), "{log}");
    assert!(log.contains("a sink has ended: draining, for 2 s at most"), "{log}");
}

/// Returns a bridge whose standard output is a named pipe, and the path of the pipe.
fn piped(broker: &Broker, protocol: Protocol, namespace: &str) -> (Setup, PathBuf) {
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__LOOK__KIND", "stdout")
        .program(PathBuf::from("sh"));
    let pipe = setup.files().with_file_name("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("make a pipe").success());
    let command = format!("exec {} >{}", env!("CARGO_BIN_EXE_atdata-bridge"), pipe.display());
    (setup.argument("-c").argument(command), pipe)
}

/// Reads one line and leaves. A process of its own does it: what other tests start at this moment would inherit
/// an open pipe of this process.
fn read_a_line(pipe: PathBuf) -> JoinHandle<String> {
    spawn_blocking(move || {
        let line = Command::new("sh").args(["-c", "exec head -n 1 <\"$0\""]).arg(pipe).output();
        String::from_utf8(line.expect("read a line").stdout).expect("text")
    })
}
