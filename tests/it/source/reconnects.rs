//! Tests reconnects while the broker still holds the connection id for a dead session, and when the broker
//! has moved to another address.

use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::events::Events;
use kit::on_each_broker;
use kit::output::Tally;
use kit::ports::{free_port, loopback};
use kit::proxy::Proxy;
use kit::scenario::{drain, emptied, place, publish, ready_after, says, subscribed};

on_each_broker!(
    over each protocol:
    a_restart_reconnects_when_the_broker_misses_heart_beats_of_the_old_session,
    a_restart_without_heart_beats_reconnects_when_the_old_connection_ends,
    a_frozen_process_is_replaced_and_does_not_disturb_its_successor,
    a_killed_process_without_heart_beats_reconnects_at_once,
    tries_the_next_address_when_one_is_unreachable,
);

const REFUSED: &str = "the connection id is still in use, from tcp://127.0.0.1:";

/// Kills the process after its network, so that nothing tells the broker.
async fn kill_unnoticed(
    version: Version,
    protocol: Protocol,
    namespace: &str,
    heart_beat: &str,
) -> (Setup, Proxy) {
    let broker = shared(version);
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .set("SOURCE__HEART_BEAT", heart_beat)
        .set("SOURCE__URL", protocol.url(proxy.addr()))
        .set("LOG__FILTER", "debug");
    let bridge = setup.start();
    subscribed(broker, &format!("main.RTO.{namespace}"), 1).await;
    proxy.silence();
    bridge.kill();
    (setup.set("SOURCE__URL", broker.url_of(protocol)), proxy)
}

async fn a_restart_reconnects_when_the_broker_misses_heart_beats_of_the_old_session(
    version: Version,
    protocol: Protocol,
) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "unseen"));
    let (setup, _proxy) = kill_unnoticed(version, protocol, namespace, "2s").await;
    let mut bridge = setup.start();
    says(&mut bridge, REFUSED).await;
    // Two consumers at once are impossible: the new session starts when the old one has ended.
    ready_after(&mut bridge, 0, "source").await;
    arrives(version, namespace, &setup).await;
    assert_eq!(broker.queue(queue).expect("the queue").consumers, 1);
    drain(bridge).await;
}

async fn a_restart_without_heart_beats_reconnects_when_the_old_connection_ends(
    version: Version,
    protocol: Protocol,
) {
    let namespace = &protocol.named("unending");
    let (setup, proxy) = kill_unnoticed(version, protocol, namespace, "0s").await;
    let mut bridge = setup.start();
    // Without heart-beats the broker keeps the old session until its connection ends.
    says(&mut bridge, REFUSED).await;
    proxy.cut();
    arrives(version, namespace, &setup).await;
    drain(bridge).await;
}

async fn a_frozen_process_is_replaced_and_does_not_disturb_its_successor(
    version: Version,
    protocol: Protocol,
) {
    let (broker, namespace) = (shared(version), &protocol.named("frozen"));
    let setup = || {
        Setup::new(broker, protocol, namespace, "main", namespace)
            .set("SOURCE__HEART_BEAT", "1s")
            .set("LOG__FILTER", "debug")
    };
    let (old, new) = (setup(), setup());
    let mut frozen = old.start();
    ready_after(&mut frozen, 0, "source").await;
    frozen.freeze();
    let mut bridge = new.start();
    ready_after(&mut bridge, 0, "source").await;
    assert!(bridge.log().contains(REFUSED), "the broker did not hold the frozen session");

    // The frozen process wakes up, finds its connection id in use, waits and logs that.
    frozen.thaw();
    says(&mut frozen, REFUSED).await;
    arrives(version, namespace, &new).await;
    drain(bridge).await;
    drain(frozen).await;
    assert_eq!(Tally::of(Events::good(100), old.files()).distinct(), 0);
}

async fn a_killed_process_without_heart_beats_reconnects_at_once(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "closed"));
    let setup = Setup::new(broker, protocol, namespace, "main", namespace).set("SOURCE__HEART_BEAT", "0s");
    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    bridge.kill();
    let bridge = setup.start();
    arrives(version, namespace, &setup).await;
    drain(bridge).await;
}

async fn tries_the_next_address_when_one_is_unreachable(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "failover"));
    let dead = protocol.url(loopback(free_port()));
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .unset("SOURCE__URL")
        .set("SOURCE__URLS", format!("{dead}, {}", broker.url_of(protocol)));
    let mut bridge = setup.start();
    says(&mut bridge, &format!("can't reach {dead}")).await;
    subscribed(broker, queue, 1).await;
    arrives(version, namespace, &setup).await;
    drain(bridge).await;
}

/// Checks that a published event arrives.
async fn arrives(version: Version, namespace: &str, setup: &Setup) {
    let (broker, events) = (shared(version), Events::good(100));
    publish(broker, namespace, events).await;
    emptied(broker, &format!("main.RTO.{namespace}")).await;
    Tally::of(events, setup.files()).assert_complete(0);
}
