//! Tests that the sink `stdout` ends the program, without an error, when its reader closes the pipe.

use std::path::PathBuf;
use std::process::Command;

use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::events::Events;
use kit::scenario::{place, publish, subscribed};
use kit::{SOON, on_each_broker};

on_each_broker!(over each protocol: ends_when_its_reader_leaves);

/// Like any filter, the program ends with code 0 at the first write after the reader has left, and logs no
/// failure.
async fn ends_when_its_reader_leaves(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "left"));
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("make a pipe").success());
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__LOOK__KIND", "stdout")
        .program(PathBuf::from("sh"))
        .argument("-c")
        .argument(format!("exec {} >{}", env!("CARGO_BIN_EXE_atdata-bridge"), pipe.display()));
    let mut bridge = setup.start();
    // A process of its own: what other tests start at this moment would inherit an open pipe of this process.
    let reader = tokio::task::spawn_blocking(move || {
        let line = Command::new("sh").args(["-c", "exec head -n 1 <\"$0\""]).arg(pipe).output();
        String::from_utf8(line.expect("read a line").stdout).expect("text")
    });
    subscribed(broker, queue, 1).await;
    let events = Events::good(1);
    publish(broker, namespace, events).await;
    assert_eq!(reader.await.expect("a line").trim_end(), events.body(0));

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
