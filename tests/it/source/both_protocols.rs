//! Tests STOMP and OpenWire side by side and one after the other: the broker and the sinks get the same with
//! both.

use std::time::Duration;

use kit::bridge::Setup;
use kit::broker::Protocol::{OpenWire, Stomp};
use kit::broker::{Protocol, Version, shared};
use kit::events::{Events, Spread};
use kit::output::{Tally, bytes, each_line};
use kit::proxy::Proxy;
use kit::publisher::Publisher;
use kit::scenario::{counts, drain, emptied, grown, publish, ready_after, seeded, subscribed};
use kit::{SOON, on_each_broker, wait_until};

on_each_broker!(
    both_deliver_every_event_identically,
    bridges_with_different_protocols_share_one_queue,
    drains_and_starts_with_the_other_protocol_lose_and_duplicate_nothing,
    kills_and_starts_with_the_other_protocol_lose_nothing,
    a_bridge_continues_at_an_address_of_the_other_protocol_and_duplicates_nothing,
);

/// Each protocol gets a full copy of the stream. Ids, keys, times and bodies must be equal byte by byte,
/// because sinks recognise an event by its id.
async fn both_deliver_every_event_identically(version: Version) {
    let broker = shared(version);
    let setup = |protocol: Protocol| {
        let id = protocol.named("alike");
        Setup::new(broker, protocol, "alike", &id, &id).set("SINKS__FILE__FORMAT", "envelope")
    };
    let setups = Protocol::ALL.map(setup);
    let bridges = setups.each_ref().map(Setup::start);
    let queues = Protocol::ALL.map(|protocol| format!("{}.RTO.alike", protocol.named("alike")));
    for queue in &queues {
        subscribed(broker, queue, 1).await;
    }

    let events = Events::good(2000);
    let unusual = ["😀", "\u{7ff}\u{800}\u{ffff}", r"a\tb", "\\u0000"];
    let unusual = unusual.map(|name| format!(r#"{{"md5":"{}","name":"{name}"}}"#, events.key(0)));
    let mut publisher = Publisher::connect(broker, "alike").await;
    publisher.publish(events.bodies().chain(unusual)).await.expect("publish");
    // Larger than any buffer between publisher and bridge.
    let large = format!(r#"{{"md5":"{}","padding":"{}"}}"#, events.key(0), "x".repeat(1 << 20));
    publisher.publish([large]).await.expect("publish");
    for queue in &queues {
        emptied(broker, queue).await;
    }
    for bridge in bridges {
        drain(bridge).await;
    }

    let [stomp, openwire] = setups.map(|setup| {
        let mut lines = Vec::new();
        each_line(setup.files(), |line| lines.push(line.to_owned()));
        lines
    });
    assert_eq!(stomp.len(), 2005);
    let differs = stomp.iter().zip(&openwire).find(|(stomp, openwire)| stomp != openwire);
    assert!(differs.is_none() && stomp.len() == openwire.len(), "{differs:?}, {}", openwire.len());
}

async fn bridges_with_different_protocols_share_one_queue(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.both");
    let events = Events::good(10_000);
    // A small window, so that one bridge cannot take all events before the other gets its turn.
    let setup = |protocol: Protocol| {
        Setup::new(broker, protocol, "both", "main", &protocol.named("both")).set("SOURCE__PREFETCH", "50")
    };
    let setups = Protocol::ALL.map(setup);
    let bridges = setups.each_ref().map(Setup::start);
    subscribed(broker, queue, 2).await;

    publish(broker, "both", events).await;
    emptied(broker, queue).await;
    for bridge in bridges {
        drain(bridge).await;
    }
    let mut all = Tally::new(events);
    for setup in &setups {
        let one = Tally::of(events, setup.files());
        assert!(one.distinct() > 0, "a bridge received nothing");
        assert!(one.disordered().is_empty(), "out of order in one process: {:?}", one.disordered());
        each_line(setup.files(), |line| all.add(line));
    }
    all.assert_nothing_lost_in_any_order();
    assert_eq!(all.doubled(), 0, "events that both bridges have");
}

async fn drains_and_starts_with_the_other_protocol_lose_and_duplicate_nothing(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.switched");
    let events = Events { spread: Spread::Hot, ..Events::good(40_000) };
    let mut setup = Setup::new(broker, Stomp, "switched", "main", "switched");
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;

    let switches = async {
        for protocol in [OpenWire, Stomp, OpenWire, Stomp, OpenWire] {
            grown(setup.files(), bytes(setup.files()) + 400_000).await;
            drain(bridge).await;
            setup = setup.set("SOURCE__URL", broker.url_of(protocol));
            bridge = setup.start();
        }
        assert!(counts(broker, queue).dequeued < events.count, "the last switch came after the last event");
        (setup, bridge)
    };
    let ((), (setup, bridge)) = tokio::join!(publish(broker, "switched", events), switches);
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

/// The successor has the connection id of the killed process, and receives the events that it held.
async fn kills_and_starts_with_the_other_protocol_lose_nothing(version: Version) {
    const KILLS: [Protocol; 4] = [OpenWire, Stomp, OpenWire, Stomp];
    const PREFETCH: u64 = 1024;
    let (broker, queue) = (shared(version), "main.RTO.succeeded");
    let mut random = seeded();
    let events = Events { spread: Spread::Hot, ..Events::good(40_000) };
    let mut setup = Setup::new(broker, Stomp, "succeeded", "main", "succeeded")
        .set("SOURCE__PREFETCH", PREFETCH.to_string())
        .set("SINKS__FILE__FORMAT", "envelope");
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;

    let kills = async {
        for protocol in KILLS {
            grown(setup.files(), bytes(setup.files()) + random.u64(1..800_000)).await;
            tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
            bridge.kill();
            setup = setup.set("SOURCE__URL", broker.url_of(protocol));
            bridge = setup.start();
        }
        assert!(counts(broker, queue).dequeued < events.count, "the last kill came after the last event");
        (setup, bridge)
    };
    let ((), (setup, bridge)) = tokio::join!(publish(broker, "succeeded", events), kills);
    emptied(broker, queue).await;
    drain(bridge).await;

    let found = Tally::of_envelopes(events, [setup.files()]);
    eprintln!("{} kills: {} duplicates", KILLS.len(), found.repeated_ids());
    // A redelivered event has the same id, whichever protocol delivered it first.
    assert_eq!(found.repeated_ids(), found.doubled());
    found.assert_complete(KILLS.len() as u64 * PREFETCH);
}

/// One process: it recognises the events that its sinks already have (I5).
async fn a_bridge_continues_at_an_address_of_the_other_protocol_and_duplicates_nothing(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.crossed");
    let events = Events { spread: Spread::Hot, ..Events::good(30_000) };
    let mut proxies = Vec::new();
    for protocol in Protocol::ALL {
        proxies.push(Proxy::start(broker.addr_of(protocol)).await);
    }
    let urls: Vec<String> =
        Protocol::ALL.into_iter().zip(&proxies).map(|(protocol, proxy)| protocol.url(proxy.addr())).collect();
    let setup = Setup::new(broker, Stomp, "crossed", "main", "crossed")
        .unset("SOURCE__URL")
        .set("SOURCE__URLS", urls.join(", "))
        .set("SOURCE__BACKOFF__MAX", "1s");
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;

    let taken = || proxies.iter().map(Proxy::connections).sum::<u64>();
    let cuts = async {
        // After each cut the supervisor tries the next address, which has the other protocol. The bridge is
        // ready only after a session has lasted, and by then all events may have come: so the next cut waits
        // for events only.
        let mut said = 0;
        for time in 1..=4 {
            grown(setup.files(), 400_000 * time).await;
            let before = taken();
            said = bridge.log().len();
            proxies.iter().for_each(Proxy::cut);
            wait_until("it has connected again", SOON, || taken() > before).await;
        }
        assert!(counts(broker, queue).dequeued < events.count, "the last cut came after the last event");
        ready_after(&mut bridge, said, "source").await;
    };
    tokio::join!(publish(broker, "crossed", events), cuts);
    emptied(broker, queue).await;
    drain(bridge).await;
    let connections: Vec<u64> = proxies.iter().map(Proxy::connections).collect();
    assert!(connections.iter().all(|&taken| taken >= 2), "{connections:?}");
    Tally::of(events, setup.files()).assert_complete(0);
}
