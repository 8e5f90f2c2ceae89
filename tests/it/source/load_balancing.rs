//! Tests several subscriptions to one stream: two full copies, one shared copy, and one active consumer with
//! standbys.

use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::disk::{Ballast, small_disks};
use kit::events::{Events, Spread};
use kit::output::{Tally, bytes, each_line};
use kit::scenario::{counts, drain, emptied, grown, place, publish, says, subscribed};
use kit::{did_not_run, on_each_broker};

on_each_broker!(
    over each protocol:
    two_destination_ids_get_two_full_copies,
    two_processes_share_one_copy_without_overlap,
    with_strict_ordering_the_next_process_takes_over_and_keeps_the_order,
    a_held_sink_delays_no_other_when_each_has_its_own_subscription,
);

async fn two_destination_ids_get_two_full_copies(version: Version, protocol: Protocol) {
    const IDS: [&str; 2] = ["left", "right"];
    let (broker, namespace) = (shared(version), &protocol.named("copies"));
    let events = Events::good(5000);
    let queues = IDS.map(|id| format!("{id}.RTO.{namespace}"));
    let setups = IDS.map(|id| Setup::new(broker, protocol, namespace, id, &format!("{namespace}-{id}")));
    let bridges = setups.each_ref().map(Setup::start);
    for queue in &queues {
        subscribed(broker, queue, 1).await;
    }

    publish(broker, namespace, events).await;
    for queue in &queues {
        emptied(broker, queue).await;
    }
    for bridge in bridges {
        drain(bridge).await;
    }
    for setup in &setups {
        Tally::of(events, setup.files()).assert_complete(0);
    }
}

async fn two_processes_share_one_copy_without_overlap(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "halves"));
    let events = Events::good(10_000);
    // A small window, so that one process cannot take all events before the other gets its turn.
    let setup = |id: &str| {
        Setup::new(broker, protocol, namespace, "main", &format!("{namespace}-{id}"))
            .set("SOURCE__PREFETCH", "50")
    };
    let setups = [setup("1"), setup("2")];
    let bridges = setups.each_ref().map(Setup::start);
    subscribed(broker, queue, 2).await;

    publish(broker, namespace, events).await;
    emptied(broker, queue).await;
    for bridge in bridges {
        drain(bridge).await;
    }
    let mut both = Tally::new(events);
    for setup in &setups {
        let one = Tally::of(events, setup.files());
        assert!(one.distinct() > 0, "a process received nothing");
        assert!(one.disordered().is_empty(), "out of order in one process: {:?}", one.disordered());
        each_line(setup.files(), |line| both.add(line));
    }
    both.assert_nothing_lost_in_any_order();
    assert_eq!(both.doubled(), 0, "events that both processes have");
}

/// A is killed under load, B takes over and is terminated under load, then C takes over.
async fn with_strict_ordering_the_next_process_takes_over_and_keeps_the_order(
    version: Version,
    protocol: Protocol,
) {
    const PREFETCH: u64 = 200;
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "strict"));
    let events = Events { keys: 50, spread: Spread::Hot, ..Events::good(30_000) };
    let setup = |id: &str| {
        Setup::new(broker, protocol, namespace, "main", &format!("{namespace}-{id}"))
            .set("SOURCE__ORDERING", "strict")
            .set("SOURCE__PREFETCH", PREFETCH.to_string())
    };
    let (a, b, c) = (setup("a"), setup("b"), setup("c"));
    let first = a.start();
    subscribed(broker, queue, 1).await;
    let second = b.start();
    subscribed(broker, queue, 2).await;

    // The file sizes at which the next process takes over: about 90 bytes for each event.
    let scenario = async {
        grown(a.files(), 500_000).await;
        assert_eq!(bytes(b.files()), 0, "the standby received events");
        first.kill();
        grown(b.files(), 1).await;
        let third = c.start();
        subscribed(broker, queue, 2).await;
        grown(b.files(), 500_000).await;
        assert_eq!(bytes(c.files()), 0, "the standby received events");
        drain(second).await;
        assert!(counts(broker, queue).dequeued < events.count, "the last change came after the last event");
        third
    };
    let ((), third) = tokio::join!(publish(broker, namespace, events), scenario);
    emptied(broker, queue).await;
    drain(third).await;

    let mut found = Tally::new(events);
    for setup in [&a, &b, &c] {
        let before = found.distinct();
        each_line(setup.files(), |line| found.add(line));
        assert!(found.distinct() > before, "a process received nothing");
    }
    found.assert_complete(PREFETCH);
}

async fn a_held_sink_delays_no_other_when_each_has_its_own_subscription(
    version: Version,
    protocol: Protocol,
) {
    if let Err(reason) = small_disks() {
        let test = "sharing::a_held_sink_delays_no_other_when_each_has_its_own_subscription";
        return did_not_run(test, &reason);
    }
    let (broker, namespace) = (shared(version), &protocol.named("isolated"));
    let events = Events::good(5000);
    let home = tempfile::tempdir().expect("make a directory");
    let other = home.path().join("other");
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .small_disk(8)
        .set("SOURCE__ISOLATION", "mirror")
        .set("SINKS__OTHER__KIND", "file")
        .set("SINKS__OTHER__DIRECTORY", other.display().to_string());
    let mut bridge = setup.start();
    let queues = ["main-file", "main-other"].map(|id| format!("{id}.RTO.{namespace}"));
    for queue in &queues {
        subscribed(broker, queue, 1).await;
    }
    let ballast = Ballast::fill(&bridge.inside(setup.files()));

    publish(broker, namespace, events).await;
    says(&mut bridge, "make room on its file system").await;
    emptied(broker, &queues[1]).await;
    assert_eq!(counts(broker, &queues[0]).dequeued, 0, "acknowledged, but not on disk");

    ballast.remove();
    emptied(broker, &queues[0]).await;
    Tally::of(events, &bridge.inside(setup.files())).assert_complete(0);
    drain(bridge).await;
    Tally::of(events, &other).assert_complete(0);
}
