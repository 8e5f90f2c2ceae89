//! Tests a full or unusable output directory and a cut connection, under load: nothing is lost or duplicated.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use kit::admin::{Admin, Metrics};
use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::disk::{Ballast, small_disks};
use kit::events::{Events, Spread};
use kit::output::{self, Tally, assert_dead_letters, bytes, each_line_of};
use kit::proxy::Proxy;
use kit::scenario::{
    PATIENCE, Unusable, counts, drain, emptied, grown, place, publish, publish_from, says_after, subscribed,
};
use kit::{SOON, did_not_run, on_each_broker, wait_until};

on_each_broker!(
    over each protocol:
    a_full_disk_holds_all_events_and_duplicates_nothing,
    an_unusable_directory_holds_all_events_and_duplicates_nothing,
    dead_letters_that_cannot_be_written_hold_their_events,
    an_unusable_dead_letter_directory_is_reported_before_there_are_dead_letters,
    a_cut_connection_duplicates_nothing,
    heart_beats_continue_while_a_sink_accepts_nothing,
);
on_each_broker!(removing_finished_files_ends_every_full_disk);

const TIMES: u64 = 3;

fn events() -> Events {
    Events { spread: Spread::Hot, ..Events::good(30_000) }
}

async fn a_full_disk_holds_all_events_and_duplicates_nothing(version: Version, protocol: Protocol) {
    if let Err(reason) = small_disks() {
        return did_not_run("outages::a_full_disk_holds_all_events_and_duplicates_nothing", &reason);
    }
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "full"));
    let setup = Setup::new(broker, protocol, namespace, "main", namespace).small_disk(16);
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;
    let files = bridge.inside(setup.files());

    let outages = async {
        for time in 1..=TIMES {
            grown(&files, 400_000 * time).await;
            let said = bridge.log().len();
            let ballast = Ballast::fill(&files);
            says_after(&mut bridge, said, "make room on its file system").await;
            ballast.remove();
        }
        assert!(counts(broker, queue).dequeued < events().count, "the last outage came after the last event");
    };
    tokio::join!(publish(broker, namespace, events()), outages);
    emptied(broker, queue).await;
    // The mount ends with the process.
    Tally::of(events(), &files).assert_complete(0);
    drain(bridge).await;
}

/// With compression, which needs disk space itself. No file is due for rotation when the disk is full.
async fn removing_finished_files_ends_every_full_disk(version: Version) {
    if let Err(reason) = small_disks() {
        return did_not_run("outages::a_disk_that_is_full_again_and_again_is_emptied", &reason);
    }
    let compression = if version == Version::V5 { "gzip" } else { "zstd" };
    let events = Events::good(60_000);
    let (broker, (namespace, queue)) = (shared(version), &place(Protocol::Stomp, "again"));
    let setup = Setup::new(broker, Protocol::Stomp, namespace, "main", namespace)
        .small_disk(2)
        .set("EVENT__PARTITIONS", "12")
        .set("SINKS__FILE__NAME", "{connection_id}-{partition}")
        .set("SINKS__FILE__COMPRESSION", compression);
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    // An open handle outlives the process and its mount.
    let disk = File::open(bridge.inside(setup.files())).expect("open a disk");
    let files = PathBuf::from(format!("/proc/self/fd/{}", disk.as_raw_fd()));

    let mut tally = Tally::new(events);
    let mut most = 0;
    let taking = async {
        while broker.depth(queue) > 0 || counts(broker, queue).enqueued < events.count {
            most = most.max(bytes(&files));
            take_finished(&files, &mut tally);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let both = async { tokio::join!(publish(broker, namespace, events), taking) };
    timeout(2 * PATIENCE, both).await.expect("the bridge continues when finished files are removed");
    drain(bridge).await;
    assert!(most > 1_000_000, "the disk was never full: {most}");
    take_finished(&files, &mut tally);
    tally.assert_complete(0);
    let left: Vec<_> = std::fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let is_lock_or_log = |name: &OsString| {
        [".lock", ".ids", ".ids.old"].iter().any(|end| name.to_string_lossy().ends_with(end))
    };
    assert!(left.iter().all(is_lock_or_log), "{left:?}");
}

fn take_finished(directory: &Path, tally: &mut Tally) {
    let endings = [".jsonl", ".jsonl.gz", ".jsonl.zst"];
    for path in output::files(directory) {
        if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
            each_line_of(&path, |line| tally.add(line));
            std::fs::remove_file(path).expect("remove what was read");
        }
    }
}

async fn an_unusable_directory_holds_all_events_and_duplicates_nothing(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "unusable"));
    let setup = Setup::new(broker, protocol, namespace, "main", namespace);
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;

    let outages = async {
        for time in 1..=TIMES {
            grown(setup.files(), 400_000 * time).await;
            let said = bridge.log().len();
            let unusable = Unusable::make(setup.files());
            says_after(&mut bridge, said, r#"part="sink file""#).await;
            unusable.restore();
        }
        assert!(counts(broker, queue).dequeued < events().count, "the last outage came after the last event");
    };
    tokio::join!(publish(broker, namespace, events()), outages);
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events(), setup.files()).assert_complete(0);
}

/// An event without a key is not acknowledged before its dead letter is durable (I6).
async fn dead_letters_that_cannot_be_written_hold_their_events(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "unkept"));
    let events = Events::good(5000).with_bad(500);
    let setup = Setup::new(broker, protocol, namespace, "main", namespace);
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;
    let first = Events { count: events.count / 2, ..events };
    publish(broker, namespace, first).await;
    emptied(broker, queue).await;

    let said = bridge.log().len();
    let unusable = Unusable::make(setup.dead_letters());
    publish_from(broker, namespace, events, first.count).await;
    says_after(&mut bridge, said, r#"part="dead letters""#).await;
    unusable.restore();
    emptied(broker, queue).await;
    assert_eq!(counts(broker, queue).dequeued, events.count);
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
    assert_dead_letters(events, setup.dead_letters());
}

async fn an_unusable_dead_letter_directory_is_reported_before_there_are_dead_letters(
    version: Version,
    protocol: Protocol,
) {
    let (broker, namespace) = (shared(version), &protocol.named("unwritable"));
    let setup = Setup::new(broker, protocol, namespace, "main", namespace);
    std::fs::create_dir(setup.dead_letters()).expect("make a directory");
    let unusable = Unusable::make(setup.dead_letters());
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.not_ready(&["dead letters: ", "/dead_letters"]).await;
    unusable.restore();
    admin.ready().await;
    drain(bridge).await;
}

/// Heart-beats go in both directions although nothing can be acknowledged (I7).
async fn heart_beats_continue_while_a_sink_accepts_nothing(version: Version, protocol: Protocol) {
    // The bridge sends a heart-beat each second: without them the broker would close the connection.
    const BEATS: (u64, u64) = (9, 3);
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "beats"));
    let events = Events::good(2000);
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .set("SOURCE__URL", protocol.url(proxy.addr()))
        .set("SOURCE__HEART_BEAT", "2s");
    std::fs::create_dir(setup.files()).expect("make a directory");
    let unusable = Unusable::make(setup.files());
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    publish(broker, namespace, events).await;
    wait_until("the window is full", SOON, || counts(broker, queue).in_flight == 1024).await;
    let before = proxy.beats();
    wait_until("both sides have sent enough heart-beats", SOON, || {
        let now = proxy.beats();
        now.0 - before.0 >= BEATS.0 && now.1 - before.1 >= BEATS.1
    })
    .await;
    assert_eq!(proxy.connections(), 1, "{}", bridge.log());
    assert_eq!(counts(broker, queue).dequeued, 0);
    unusable.restore();
    emptied(broker, queue).await;
    drain(bridge).await;
    assert_eq!(proxy.connections(), 1);
    Tally::of(events, setup.files()).assert_complete(0);
}

/// A redelivered event goes only to a sink that lacks it (I5), even if the sink fails while the connection is
/// cut.
async fn a_cut_connection_duplicates_nothing(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "cut"));
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .set("SOURCE__URL", protocol.url(proxy.addr()))
        .set("SOURCE__BACKOFF__MAX", "1s");
    let mut bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    subscribed(broker, queue, 1).await;

    let outages = async {
        for time in 1..=TIMES {
            grown(setup.files(), 400_000 * time).await;
            proxy.cut();
            grown(setup.files(), bytes(setup.files())).await;
            let said = bridge.log().len();
            let unusable = Unusable::make(setup.files());
            says_after(&mut bridge, said, r#"part="sink file""#).await;
            // The log may leave a line out, because a part logs only so many at once.
            let sessions = |metrics: &Metrics| metrics.sum("atdata_bridge_sessions_total");
            let before = sessions(&admin.metrics().await);
            proxy.cut();
            admin.metrics_until("the source has a new session", |metrics| sessions(metrics) > before).await;
            unusable.restore();
        }
        assert!(counts(broker, queue).dequeued < events().count, "the last cut came after the last event");
    };
    tokio::join!(publish(broker, namespace, events()), outages);
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events(), setup.files()).assert_complete(0);
}
