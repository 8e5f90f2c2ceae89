//! Tests the status page: its files and headers, and its live events.

mod browser;
mod pictures;

use std::fs;
use std::time::{Duration, Instant};

use atdata_bridge::simulator::{Generation, GeneratorConfig, Malformation, Rate, Simulator, SimulatorConfig};
use atdata_bridge::telemetry::bridge_status::BridgeStatus;
use kit::admin::{Admin, ServerEvents};
use kit::bridge::Setup;
use kit::scenario::drain;
use kit::{SOON, wait_until};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// As in `http/connection_limits.rs`.
const MOST_STREAMS: usize = 16;
const DEADLINE: Duration = Duration::from_secs(10);

async fn simulator() -> Simulator {
    Simulator::start(SimulatorConfig::default()).await.unwrap()
}

fn setup(simulator: &Simulator) -> Setup {
    Setup::at(&simulator.url(), "acme", "main", "acme-main-1")
        .set("SOURCE__BACKOFF__INITIAL", "10ms")
        .set("SOURCE__BACKOFF__MAX", "100ms")
}

/// Sends 100 events a second; of 50, one has no usable key.
fn generate(simulator: &Simulator) {
    let malformations = vec![Malformation::NoKey];
    let generator = GeneratorConfig { odd_every: 50, malformations, ..GeneratorConfig::default() };
    let rate = Rate::PerSecond(100.try_into().unwrap());
    simulator.generate("acme", Generation { events: None, rate, generator });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_a_page_and_every_other_client_the_list_of_paths() {
    let simulator = simulator().await;
    let setup = setup(&simulator);
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    for accept in ["", "accept: */*\r\n", "accept: text/plain\r\n"] {
        let index = admin.get_with("/", accept).await;
        assert!(
            index.head.contains("content-type: text/plain") && index.body.contains("/readyz"),
            "{index:?}"
        );
    }
    let page = admin.get_with("/", "accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n").await;
    assert!(page.status == 200 && page.body.starts_with("<!doctype html>"), "{page:?}");
    let kinds = [
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
        ("/config", "application/json"),
    ];
    for (path, kind) in kinds {
        let answer = admin.get(path).await;
        let is_kind = answer.head.contains(&format!("content-type: {kind}"));
        assert!(answer.status == 200 && is_kind, "{path}: {}", answer.head);
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{}", answer.head);
    }
    let policy = "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; ";
    for header in
        [policy, "require-trusted-types-for 'script'", "referrer-policy: no-referrer", "vary: accept"]
    {
        assert!(page.head.contains(header), "{}", page.head);
    }
    // The policy lets nothing inline in, so there must be nothing.
    for inline in ["<style", "style=", "onclick", "<script>", "javascript:", "//"] {
        assert!(!page.body.contains(inline), "{inline}");
    }
    drain(bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_in_effect_is_shown_without_secrets_and_follows_a_reload() {
    let simulator = simulator().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "[log]\nfilter = \"info\"\n").unwrap();
    let setup = setup(&simulator).variable("BRIDGE_CONFIG", file.path().to_str().unwrap());
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    let option = async |key: &str| {
        let options: Vec<serde_json::Value> = serde_json::from_str(&admin.get("/config").await.body).unwrap();
        options.into_iter().find(|option| option["key"] == key).unwrap()
    };
    let password = option("source.password").await;
    assert_eq!(
        (&password["value"], &password["origin"]),
        (&"\"***\"".into(), &"BRIDGE__SOURCE__PASSWORD".into())
    );
    assert_eq!(option("source.tls.ca_file").await["value"], serde_json::Value::Null);
    assert_eq!(option("log.filter").await["value"], "\"info\"");
    admin.ready().await;
    fs::write(&file, "[log]\nfilter = \"debug\"\n").unwrap();
    bridge.signal(Signal::HUP);
    wait_until("the filter is changed", SOON, || bridge.log().contains("log.filter is now")).await;
    assert_eq!(option("log.filter").await["value"], "\"debug\"");
    drain(bridge).await;
}

/// Returns the names of the series, each with its number of values, and the number of times.
fn sizes(history: &serde_json::Value) -> (Vec<String>, Vec<usize>, usize) {
    let series = history["series"].as_array().unwrap();
    let name = |series: &serde_json::Value| format!("{} {}", series["sink"], series["measure"]);
    let values = series.iter().map(|series| series["values"].as_array().unwrap().len());
    (series.iter().map(name).collect(), values.collect(), history["times"].as_array().unwrap().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_the_status_each_second_and_the_history_also_to_a_page_that_comes_later() {
    let simulator = simulator().await;
    let setup = setup(&simulator);
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.ready().await;
    generate(&simulator);
    let mut events = admin.events().await.unwrap();
    let (name, first) = events.next().await.unwrap();
    let first: BridgeStatus = serde_json::from_str(&first).unwrap();
    assert_eq!((name.as_str(), first.queues[0].connection_id.as_str()), ("status", "acme-main-1"));
    assert_eq!(events.next().await.unwrap().0, "history", "what there is, at once");
    let history = events.document("history").await;
    let grown = events.document("history").await;
    assert!(sizes(&grown).2 > sizes(&history).2);
    let rate = events.document("status").await["queues"][0]["received_per_second"].as_f64().unwrap();
    assert!(rate > 0.0, "{rate}");

    drop(events);
    let mut events = admin.events().await.unwrap();
    let again = events.document("history").await;
    let (names, values, times) = sizes(&again);
    assert!(times >= sizes(&grown).2 && values.iter().all(|values| *values == times), "{again}");
    for name in ["null \"behind\"", "null \"received\"", "\"file\" \"settled\"", "\"file\" \"age\""] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    drop(events);
    drain(bridge).await;
}

/// Pages that stay open neither starve the probes, nor are they closed for them, nor do they delay the stop.
#[tokio::test(flavor = "multi_thread")]
async fn open_pages_cost_no_probe_and_no_time_at_the_stop() {
    let simulator = simulator().await;
    let setup = setup(&simulator);
    let mut bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.ready().await;
    let mut pages: Vec<ServerEvents> = Vec::new();
    for _ in 0..MOST_STREAMS {
        pages.push(admin.events().await.unwrap());
    }
    let began = Instant::now();
    assert_eq!(admin.events().await.err(), Some(503), "one more");

    // More clients than the server admits: each takes the place of an earlier one, and of no page.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(admin.0).await.unwrap();
        // The server may already have closed this connection.
        drop(stream.write_all(b"GET /li").await);
        slow.push(stream);
    }
    for path in ["/readyz", "/livez", "/metrics", "/status"] {
        assert_eq!(admin.get(path).await.status, 200, "{path}");
    }
    drop(slow);
    // Other connections would have ended meanwhile.
    while began.elapsed() < DEADLINE + Duration::from_secs(2) {
        for page in &mut pages {
            page.document("status").await;
        }
    }

    pages.pop();
    let deadline = Instant::now() + SOON;
    while admin.events().await.is_err() {
        assert!(Instant::now() < deadline, "a page that was closed leaves its place");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    bridge.terminate();
    let began = Instant::now();
    assert_eq!(bridge.ended(SOON).await.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for page in &mut pages {
        while page.next().await.is_some() {}
    }
}
