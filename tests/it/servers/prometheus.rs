//! Tests the recipe for KEDA in `docs/kubernetes.md` with a real Prometheus that scrapes running bridges.

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator, SimulatorConfig};
use kit::admin::Admin;
use kit::bridge::Setup;
use kit::prometheus::{self, Prometheus};
use kit::scenario::drain;
use kit::{SOON, did_not_run};

/// KEDA takes one value, and none as "unknown" (`ignoreNullValues`).
async fn asked_until(server: &Prometheus, query: &str, what: &str, wanted: impl Fn(Option<f64>) -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let values = server.values(query).await;
        assert!(values.len() < 2, "KEDA takes one value, not {values:?}");
        if wanted(values.first().copied()) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "still waiting until {what}: {values:?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keda_gets_the_age_of_the_pod_that_is_furthest_behind() {
    if let Err(reason) = prometheus::directory() {
        return did_not_run("keda_gets_the_age_of_the_pod_that_is_furthest_behind", &reason);
    }
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kubernetes.md")).unwrap();
    let query =
        page.lines().find_map(|line| line.trim().strip_prefix("query: ")).expect("the query of the recipe");

    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let well = Setup::at(&simulator.url(), "acme", "main", "acme-main-0");
    // Its sink is away, so what it has received grows old.
    let behind = Setup::at(&simulator.url(), "acme", "other", "acme-other-1")
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__NATS__URL", "nats://127.0.0.1:1")
        .set("SINKS__NATS__STREAM", "EVENTS")
        .set("SINKS__NATS__SUBJECT", "events");
    let first = well.start();
    let second = behind.start();
    let (admin, other) = (Admin::of(&first).await, Admin::of(&second).await);
    admin.ready().await;
    other
        .metrics_until("it is subscribed", |metrics| metrics.sum("atdata_bridge_sessions_total") == 1.0)
        .await;
    let server = Prometheus::of(&[("atdata-bridge-0", admin.0), ("atdata-bridge-1", other.0)]);
    asked_until(&server, query, "nobody is behind", |value| value == Some(0.0)).await;

    let generation =
        Generation { events: Some(100), rate: Rate::default(), generator: GeneratorConfig::default() };
    simulator.generate("acme", generation);
    asked_until(&server, query, "a pod is behind", |value| value.is_some_and(|value| value > 3.0)).await;
    let of_first = query.replace("atdata-bridge-[0-9]+", "atdata-bridge-0");
    assert_eq!(server.values(&of_first).await, [0.0], "the other pod is well");

    second.kill();
    asked_until(&server, query, "the pod is gone", |value| value == Some(0.0)).await;
    drain(first).await;
    asked_until(&server, query, "nobody knows", |value| value.is_none()).await;
}
