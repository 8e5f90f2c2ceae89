//! The whole promise at once: a hundred thousand events, some of them bad, from a real broker into files.

use crate::support::bridge::Setup;
use crate::support::broker::{Version, shared};
use crate::support::events::Events;
use crate::support::on_each_broker;
use crate::support::output::{Tally, assert_dead_letters};
use crate::support::scenario::{counts, drain, emptied, publish, subscribed};

on_each_broker!(every_event_arrives_once_and_every_bad_one_is_kept_with_its_reason);

async fn every_event_arrives_once_and_every_bad_one_is_kept_with_its_reason(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.hundred");
    let events = Events::good(100_000).with_bad(1000);
    let setup = Setup::new(broker, "hundred", "main", "hundred-1").set("SINKS__FILE__FORMAT", "envelope");
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;

    publish(broker, "hundred", events).await;
    emptied(broker, queue).await;
    let counts = counts(broker, queue);
    assert_eq!((counts.messages, counts.enqueued, counts.dequeued), (0, events.count, events.count));
    drain(bridge).await;

    // The key that stands in each envelope is compared with the event's.
    let found = Tally::of_envelopes(events, [setup.files()]);
    found.assert_complete(0);
    assert_eq!((found.distinct(), found.repeated_ids()), (99_900, 0));
    assert_dead_letters(events, setup.dead_letters());
}
