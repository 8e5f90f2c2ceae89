//! Tests the metric that tells how far the bridge is behind while it takes no events.

use atdata_bridge::simulator::{Generation, GeneratorConfig, Malformation, Rate, Simulator, SimulatorConfig};
use kit::admin::{Admin, Metrics};
use kit::bridge::Setup;
use kit::scenario::drain;

/// While too many events have no key the bridge takes no more of them, and they grow old.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_held_falls_behind() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::at(&simulator.url(), "acme", "main", "acme-main-1").set("DEAD_LETTERS__MAX_RUN", "20");
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.ready().await;
    let malformations = Malformation::UNUSABLE.to_vec();
    let generator = GeneratorConfig { odd_every: 1, malformations, ..GeneratorConfig::default() };
    let rate = Rate::FlatOut { ahead: 100_000 };
    simulator.generate("acme", Generation { events: Some(100), rate, generator });
    admin.not_ready(&["events: held: "]).await;
    let value = |metrics: &Metrics, name: &str| {
        metrics.find(&format!("atdata_bridge_{name}{{queue=\"main.RTO.acme\"}}"))
    };
    let falls = |metrics: &Metrics| {
        value(metrics, "in_flight_events") == Some(0.0)
            && value(metrics, "behind_seconds").is_some_and(|age| age > 0.0)
    };
    admin.metrics_until("it falls behind", falls).await;
    drain(bridge).await;
}
