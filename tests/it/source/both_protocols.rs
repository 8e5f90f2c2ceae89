//! STOMP and OpenWire beside each other and one after the other: to the broker and to the sinks it makes no
//! difference what a bridge speaks.

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
    both_tell_the_same_of_every_event,
    bridges_of_both_share_one_queue,
    drained_and_started_with_the_other_again_and_again_nothing_is_lost_or_doubled,
    killed_and_started_with_the_other_again_and_again_nothing_is_lost,
    a_bridge_goes_on_at_an_address_of_the_other_protocol_and_doubles_nothing,
);

/// Each has a full copy of the stream: ids, keys, times and bodies must be the same to the byte, since sinks
/// know an event again by its id.
async fn both_tell_the_same_of_every_event(version: Version) {
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
    let odd = ["😀", "\u{7ff}\u{800}\u{ffff}", r"a\tb", "\\u0000"];
    let odd = odd.map(|name| format!(r#"{{"md5":"{}","name":"{name}"}}"#, events.key(0)));
    let mut publisher = Publisher::connect(broker, "alike").await;
    publisher.publish(events.bodies().chain(odd)).await.expect("publish");
    // Larger than any buffer on the way.
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

async fn bridges_of_both_share_one_queue(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.both");
    let events = Events::good(10_000);
    // A small window, so that neither can hold everything before the other has had its turn.
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
        assert!(one.distinct() > 0, "one of them got nothing");
        assert!(one.disordered().is_empty(), "out of order in one process: {:?}", one.disordered());
        each_line(setup.files(), |line| all.add(line));
    }
    all.assert_nothing_lost_in_any_order();
    assert_eq!(all.doubled(), 0, "events that both have");
}

async fn drained_and_started_with_the_other_again_and_again_nothing_is_lost_or_doubled(version: Version) {
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
        assert!(counts(broker, queue).dequeued < events.count, "the last switch came after the load");
        (setup, bridge)
    };
    let ((), (setup, bridge)) = tokio::join!(publish(broker, "switched", events), switches);
    emptied(broker, queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

/// The successor has the connection id of the one that was killed, and gets what that one held.
async fn killed_and_started_with_the_other_again_and_again_nothing_is_lost(version: Version) {
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
        assert!(counts(broker, queue).dequeued < events.count, "the last kill hit nothing");
        (setup, bridge)
    };
    let ((), (setup, bridge)) = tokio::join!(publish(broker, "succeeded", events), kills);
    emptied(broker, queue).await;
    drain(bridge).await;

    let found = Tally::of_envelopes(events, [setup.files()]);
    eprintln!("{} kills: {} doubled", KILLS.len(), found.repeated_ids());
    // What comes again has the same id, whatever it came over the first time.
    assert_eq!(found.repeated_ids(), found.doubled());
    found.assert_complete(KILLS.len() as u64 * PREFETCH);
}

/// The same process: it knows again what it holds already (I5).
async fn a_bridge_goes_on_at_an_address_of_the_other_protocol_and_doubles_nothing(version: Version) {
    let (broker, queue) = (shared(version), "main.RTO.crossed");
    let events = Events { spread: Spread::Hot, ..Events::good(30_000) };
    let mut ways = Vec::new();
    for protocol in Protocol::ALL {
        ways.push(Proxy::start(broker.addr_of(protocol)).await);
    }
    let urls: Vec<String> =
        Protocol::ALL.into_iter().zip(&ways).map(|(protocol, way)| protocol.url(way.addr())).collect();
    let setup = Setup::new(broker, Stomp, "crossed", "main", "crossed")
        .unset("SOURCE__URL")
        .set("SOURCE__URLS", urls.join(", "))
        .set("SOURCE__BACKOFF__MAX", "1s");
    let mut bridge = setup.start();
    subscribed(broker, queue, 1).await;

    let taken = || ways.iter().map(Proxy::connections).sum::<u64>();
    let cuts = async {
        // After each cut the link tries the next address, which is one of the other protocol. It is ready only once
        // a session has lasted, by when all may have come: the next cut waits for events alone.
        let mut said = 0;
        for time in 1..=4 {
            grown(setup.files(), 400_000 * time).await;
            let before = taken();
            said = bridge.log().len();
            ways.iter().for_each(Proxy::cut);
            wait_until("it has connected again", SOON, || taken() > before).await;
        }
        assert!(counts(broker, queue).dequeued < events.count, "the last cut came after the load");
        ready_after(&mut bridge, said, "source").await;
    };
    tokio::join!(publish(broker, "crossed", events), cuts);
    emptied(broker, queue).await;
    drain(bridge).await;
    let connections: Vec<u64> = ways.iter().map(Proxy::connections).collect();
    assert!(connections.iter().all(|&taken| taken >= 2), "{connections:?}");
    Tally::of(events, setup.files()).assert_complete(0);
}
