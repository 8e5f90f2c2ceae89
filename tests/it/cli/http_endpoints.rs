//! Tests `/livez`, `/readyz` and `/metrics` of the real program while it starts, works, fails and ends.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use atdata_bridge::backoff::BackoffConfig;
use atdata_bridge::dead_letter::DeadLetterLimits;
use atdata_bridge::event::SessionId;
use atdata_bridge::finding::Finding;
use atdata_bridge::key::Keying;
use atdata_bridge::pipeline::{self, PipelineParts};
use atdata_bridge::simulator::{
    Audit, AuditResult, AuditedPlace, Faults, Generation, Generator, GeneratorConfig, Malformation, Rate,
    Simulator, SimulatorConfig, Stats,
};
use atdata_bridge::sink::{Sink, SinkError, Submit, Verdicts};
use atdata_bridge::source::{Disconnect, Incoming, Source};
use atdata_bridge::telemetry::metrics::{self, Read};
use atdata_bridge::telemetry::status::StatusRegistry;
use atdata_bridge::telemetry::watchdog::{TURN_EVERY, Watchdog};
use atdata_bridge::units::Period;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::sinks::contract::Letters;
use kit::admin::{Admin, Metrics};
use kit::bridge::{Bridge, Setup};
use kit::output::{each_line, json_lines};
use kit::ports::{free_port, loopback};
use kit::proxy::Proxy;
use kit::scenario::{Unusable, drain, says};
use kit::{SOON, wait_until};

const QUEUE: &str = "main.RTO.acme";

fn setup(url: &str) -> Setup {
    Setup::at(url, "acme", "main", "acme-main-1")
        .set("SOURCE__PREFETCH", "50")
        .set("SOURCE__HEART_BEAT", "1s")
        .set("SOURCE__CONNECT_TIMEOUT", "1s")
        .set("SOURCE__BACKOFF__INITIAL", "10ms")
        .set("SOURCE__BACKOFF__MAX", "100ms")
}

fn population() -> GeneratorConfig {
    GeneratorConfig {
        keys: 20,
        odd_every: 50,
        malformations: Malformation::UNUSABLE.to_vec(),
        ..Default::default()
    }
}

async fn simulator(faults: Faults) -> Simulator {
    Simulator::start(SimulatorConfig { faults, ..Default::default() }).await.unwrap()
}

fn generate(simulator: &Simulator, events: u64) {
    let pace = Rate::FlatOut { ahead: 100_000 };
    simulator.generate("acme", Generation { events: Some(events), rate: pace, generator: population() });
}

async fn acked(simulator: &Simulator, events: u64) -> Stats {
    let all = simulator.wait_until(|stats| stats.total().acked >= events);
    timeout(SOON, all).await.expect("all events are acknowledged")
}

/// Compares the files and dead letters with the events sent.
fn audit(setup: &Setup, stats: &Stats) -> AuditResult {
    let mut audit = Audit::new(Generator::new(population()));
    each_line(setup.files(), |line| audit.see(line.as_bytes(), AuditedPlace::Sink, stats.published));
    for letter in json_lines(setup.dead_letters()) {
        let encoded = letter["body_base64"].as_str().map(|text| STANDARD.decode(text).unwrap());
        let body = encoded.unwrap_or_else(|| letter["body"].as_str().unwrap().into());
        audit.see(&body, AuditedPlace::DeadLetters, stats.published);
    }
    audit.finish(stats.total().acked)
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_what_is_missing_and_liveness_ignores_it() {
    let simulator = simulator(Faults::default()).await;
    let proxy = Proxy::start(simulator.address()).await;
    proxy.silence();
    let setup = setup(&format!("stomp://{}", proxy.addr()));
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.not_ready(&["source: "]).await;
    assert!(admin.get("/").await.body.contains("/readyz"));

    let behind = format!("atdata_bridge_behind_seconds{{queue=\"{QUEUE}\"}}");
    assert_eq!(admin.metrics().await.find(&behind), None);
    proxy.resume();
    proxy.cut();
    admin.ready().await;
    admin.metrics_until("nothing waits", |metrics| metrics.find(&behind) == Some(0.0)).await;
    proxy.silence();
    admin.not_ready(&["source: retrying: "]).await;
    admin.metrics_until("it is unknown what waits", |metrics| metrics.find(&behind).is_none()).await;
    proxy.resume();
    proxy.cut();
    admin.ready().await;

    let unusable = Unusable::make(setup.files());
    generate(&simulator, 300);
    admin.not_ready(&["sink file: ", "files"]).await;
    admin.metrics_until("events wait", |metrics| metrics.find(&behind).is_some_and(|age| age > 0.0)).await;
    let metrics = admin.metrics().await;
    assert_eq!(metrics.value("atdata_bridge_ready"), 0.0);
    assert_eq!(metrics.value(r#"atdata_bridge_part_state{part="sink file",state="ready"}"#), 0.0);
    assert!(metrics.value(&format!("atdata_bridge_in_flight_events{{queue=\"{QUEUE}\"}}")) > 0.0);
    assert!(metrics.value("atdata_bridge_in_flight_bytes") > 0.0);
    assert!(metrics.value(&format!("atdata_bridge_oldest_unacked_age_seconds{{queue=\"{QUEUE}\"}}")) > 0.0);

    bridge.terminate();
    admin.not_ready(&["events: ", "draining"]).await;
    unusable.restore();
    let mut bridge = bridge;
    assert_eq!(bridge.ended(SOON).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_too_long_makes_the_bridge_unready() {
    let simulator = simulator(Faults::default()).await;
    let setup = setup(&simulator.url()).set("ADMIN__MAX_AGE", "1ms");
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.ready().await;
    let unusable = Unusable::make(setup.files());
    generate(&simulator, 10);
    admin.not_ready(&[QUEUE, "has not been acknowledged"]).await;
    unusable.restore();
    acked(&simulator, 10).await;
    admin.ready().await;
    drain(bridge).await;
}

/// The metrics must equal the audited output, with a broker that works and with one that drops connections.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_equal_the_audited_output() {
    const EVENTS: u64 = 2000;
    for drop_every in [None, Some(200)] {
        let simulator = simulator(Faults { drop_every, ..Default::default() }).await;
        let setup = setup(&simulator.url());
        let bridge = setup.start();
        let admin = Admin::of(&bridge).await;
        generate(&simulator, EVENTS);
        acked(&simulator, EVENTS).await;
        // A late acknowledgement counts only when the broker has confirmed it (D19).
        let metrics = admin
            .metrics_until("it is ready and everything is acknowledged", |metrics| {
                let in_flight = format!("atdata_bridge_in_flight_events{{queue=\"{QUEUE}\"}}");
                metrics.find(&in_flight) == Some(0.0)
                    && metrics.sum("atdata_bridge_events_acked_total") >= EVENTS as f64
                    && metrics.value("atdata_bridge_ready") == 1.0
            })
            .await;
        let stats = simulator.stats();
        drain(bridge).await;
        let found = audit(&setup, &stats);
        assert!(found.is_clean(), "{found:?}");
        compare(&metrics, &stats, &found);
        match drop_every {
            None => assert_eq!(metrics.sum("atdata_bridge_events_suppressed_total"), 0.0),
            Some(_) => assert!(stats.sessions >= 5, "{stats:?}"),
        }
    }
}

fn compare(metrics: &Metrics, stats: &Stats, found: &AuditResult) {
    let total = stats.total();
    let count = |name: &str, labels: &str| {
        metrics.value(&format!("atdata_bridge_{name}{{queue=\"{QUEUE}\"{labels}}}")) as u64
    };
    let (file, none) = (",sink=\"file\"", ",sink=\"-\"");
    // When a connection breaks, the last events and acknowledgements may be lost with it.
    let unbroken = stats.sessions == 1;
    let (received, acked) = (count("events_received_total", ""), count("events_acked_total", ""));
    assert!(if unbroken { received == total.dispatched } else { received <= total.dispatched }, "{received}");
    assert!(if unbroken { acked == total.acked } else { acked >= total.acked }, "{acked}");
    assert_eq!(count("sessions_total", ""), stats.sessions);
    assert_eq!(metrics.sum("atdata_bridge_reconnects_total") as u64, stats.sessions - 1);
    let redelivered = count("events_redelivered_total", "");
    assert!(if unbroken { redelivered == 0 } else { redelivered > 0 && redelivered <= total.redelivered });

    // Every event is durable once; every later delivery of it is suppressed.
    let durable = |sink: &str| count("events_settled_total", sink) - count("events_suppressed_total", sink);
    assert_eq!((durable(file), durable(none)), (found.delivered, found.dead));
    assert_eq!(metrics.sum("atdata_bridge_events_dead_lettered_total") as u64, found.dead);
    assert!(found.dead > 0 && found.delivered > 0);
    for (sink, expected) in [(file, found.delivered), (none, found.dead)] {
        assert_eq!(count("receive_to_settled_seconds_count", sink), expected);
        assert_eq!(count("event_age_at_durable_seconds_count", sink), expected);
        assert!(
            metrics
                .value(&format!("atdata_bridge_receive_to_settled_seconds_sum{{queue=\"{QUEUE}\"{sink}}}"))
                > 0.0
        );
    }
    assert_eq!(count("event_age_at_receipt_seconds_count", ""), received);
    let last = |name: &str| {
        metrics.value(&format!("atdata_bridge_last_{name}_timestamp_seconds{{queue=\"{QUEUE}\"}}"))
    };
    let age = last("received") - last("event");
    assert!(age.abs() < 60.0, "{age}");
    let age = format!("atdata_bridge_oldest_unacked_age_seconds{{queue=\"{QUEUE}\"}}");
    assert_eq!((metrics.value(&age), metrics.value("atdata_bridge_ready")), (0.0, 1.0));
}

/// Each subscription has its own metrics. Exactly the documented metrics are exported.
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_have_separate_metrics() {
    let simulator = simulator(Faults::default()).await;
    let setup = setup(&simulator.url()).set("SOURCE__ISOLATION", "mirror").set("SINKS__LOOK__KIND", "stdout");
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.ready().await;
    generate(&simulator, 100);
    acked(&simulator, 200).await;
    // Causes a reconnect, so that every metric has a value.
    simulator.cut();
    let metrics = admin
        .metrics_until("both have reconnected", |metrics| {
            metrics.sum("atdata_bridge_sessions_total") >= 4.0 && metrics.value("atdata_bridge_ready") == 1.0
        })
        .await;
    for sink in ["file", "look"] {
        let labels = format!("queue=\"main-{sink}.RTO.acme\"");
        assert_eq!(metrics.value(&format!("atdata_bridge_events_received_total{{{labels}}}")), 100.0);
        let settled = format!("atdata_bridge_events_settled_total{{{labels},sink=\"{sink}\"}}");
        assert_eq!(metrics.value(&settled), 98.0);
        for part in ["source", "events", "sink", "dead letters"] {
            let state = format!("atdata_bridge_part_state{{part=\"{part} {sink}\",state=\"ready\"}}");
            assert_eq!(metrics.value(&state), 1.0);
        }
    }
    let documented: BTreeSet<String> = metrics::ALL.iter().flat_map(names).collect();
    let mut exported: BTreeSet<String> = metrics.names().into_iter().map(str::to_owned).collect();
    // There is no certificate without TLS; the tests of certificates expect this one.
    exported.insert("atdata_bridge_certificate_expiry_timestamp_seconds".to_owned());
    assert_eq!(exported, documented);
    drain(bridge).await;
}

fn names(metric: &metrics::Metric) -> Vec<String> {
    match metric.read {
        Read::Histogram(_) => ["bucket", "count", "sum"].map(|end| format!("{}_{end}", metric.name)).to_vec(),
        _ => vec![metric.queried()],
    }
}

/// Bad requests do not stop the server from answering the next one.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_misbehave_do_not_stop_the_server() {
    let simulator = simulator(Faults::default()).await;
    let setup = setup(&simulator.url());
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.ready().await;

    for garbage in [&b"\0\xff\r\n\r\n"[..], b"STOMP\naccept-version:1.2\n\n\0", b"GET / HTTP/9\r\n\r\n"] {
        let answer = admin.say(garbage).await.unwrap_or_default();
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let long = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    assert_eq!(admin.say(long.as_bytes()).await.filter(|answer| answer.contains(" 200 ")), None);
    let posted = "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n";
    assert!(admin.say(posted.as_bytes()).await.is_some_and(|answer| answer.starts_with("HTTP/1.1 405 ")));
    assert_eq!(admin.get("/nothing").await.status, 404);

    // More clients than the server admits; each sends half a request and waits.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(admin.0).await.unwrap();
        // The server may already have closed this connection.
        drop(stream.write_all(b"GET /li").await);
        slow.push(stream);
    }
    assert_eq!(admin.get("/livez").await.status, 200);
    // Long before their time limit of 10 s.
    let few = admin.metrics_until("the oldest connections are closed", |metrics| {
        metrics.value("process_open_fds") < 90.0
    });
    timeout(Duration::from_secs(5), few).await.expect("the oldest connections are closed at once");
    drop(slow);
    drain(bridge).await;
}

/// The bridge works without the HTTP server, reports that, and listens as soon as it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_loses_no_event() {
    let simulator = simulator(Faults::default()).await;
    let address = loopback(free_port());
    let taken = TcpListener::bind(address).await.unwrap();
    let setup = setup(&simulator.url()).set("ADMIN__LISTEN", address.to_string());
    let mut bridge: Bridge = setup.start();
    says(&mut bridge, &format!("can't listen on {address}")).await;
    generate(&simulator, 100);
    acked(&simulator, 100).await;
    drop(taken);
    assert_eq!(Admin::of(&bridge).await.0, address);
    Admin(address).ready().await;
    drain(bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_server_can_be_switched_off() {
    let simulator = simulator(Faults::default()).await;
    let setup = setup(&simulator.url()).set("ADMIN__LISTEN", "off");
    let bridge = setup.start();
    generate(&simulator, 100);
    acked(&simulator, 100).await;
    assert!(!bridge.log().contains("admin"), "{}", bridge.log());
    drain(bridge).await;
}

/// A sink whose `open` blocks its thread until the test releases it.
struct Blocking(std::sync::Mutex<Option<mpsc::Receiver<()>>>);

#[async_trait]
impl Sink for Blocking {
    fn keeps_order(&self) -> bool {
        true
    }

    async fn open(&mut self) -> Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError> {
        if let Some(release) = self.0.lock().unwrap().take() {
            release.recv().unwrap();
        }
        Err(SinkError::unavailable("never there"))
    }

    async fn probe(&mut self) -> Result<Vec<Finding>, SinkError> {
        Ok(Vec::new())
    }
}

/// A broker that is never reachable.
struct UnreachableSource;

#[async_trait]
impl Source for UnreachableSource {
    async fn next(&mut self) -> Option<Incoming> {
        std::future::pending().await
    }

    fn ack(&mut self, _: SessionId, _: u64) {}

    fn give_up(&mut self, _: SessionId) {}

    async fn close(&mut self) -> Disconnect {
        Disconnect::Confirmed
    }
}

/// A loop that makes no progress makes `/livez` fail; an unreachable broker or sink does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_blocked_loop_is_stuck_and_a_waiting_loop_is_not() {
    let limit = 3 * TURN_EVERY;
    let (release, blocked) = mpsc::sync_channel(0);
    let (states, watchdog) = (StatusRegistry::default(), Watchdog::default());
    let parts = PipelineParts {
        name: None,
        queue: "main.RTO.acme".to_owned(),
        source: Box::new(UnreachableSource),
        sinks: vec![("slow".to_owned(), Box::new(Blocking(Some(blocked).into())))],
        keying: Keying::new(vec!["/md5".to_owned()], false),
        prefetch: 10,
        dead_letters: Arc::<Letters>::default(),
        limits: DeadLetterLimits::new(1, 1.0),
        backoff: BackoffConfig { initial: Period::millis(5), max: Period::millis(50) },
        counters: Arc::default(),
        statuses: states.clone(),
        watchdog: watchdog.clone(),
    };
    let dispatcher = tokio::spawn(pipeline::run(parts, CancellationToken::new()));
    let stuck =
        || watchdog.stuck(Instant::now(), limit).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    wait_until("the worker is stuck", SOON, || stuck() == ["sink slow"]).await;
    release.send(()).unwrap();
    wait_until("the sink is unreachable", SOON, || {
        states.all().iter().any(|(part, state, _)| part == "sink slow" && state.word() == "retrying")
    })
    .await;
    wait_until("nothing is stuck", SOON, || stuck().is_empty()).await;
    // Longer than the limit; meanwhile every loop waits.
    let until = Instant::now() + limit + TURN_EVERY;
    wait_until("some time has passed", SOON, || {
        assert_eq!(stuck(), [""; 0]);
        Instant::now() > until
    })
    .await;
    dispatcher.abort();
}
