//! Tests the sink of another crate, `examples/webhook`: its program is configured like ours, and mirrors
//! events. `sinks/contract` tests with the [`Receiver`] that this sink meets the contract.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator, SimulatorConfig};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use kit::bridge::Setup;
use kit::output::json_lines;
use kit::{SOON, wait_until};

#[path = "../../../examples/webhook/sink.rs"]
pub mod sink;

/// An HTTP server that stores the events posted to it.
pub struct Receiver {
    stored: Arc<Stored>,
    url: String,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Stored {
    events: Mutex<Vec<Value>>,
    away: Mutex<bool>,
    silent: Mutex<bool>,
}

impl Stored {
    fn take(&self, headers: &HeaderMap, body: &str) -> StatusCode {
        if *self.away.lock().unwrap_or_else(PoisonError::into_inner) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        if headers.get("authorization").is_none_or(|token| token != "Bearer hush") {
            return StatusCode::UNAUTHORIZED;
        }
        let events: Vec<Value> = serde_json::from_str(body).unwrap();
        if events.iter().any(|event| event["body"].as_str().unwrap().contains("unwanted")) {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        self.events.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
        StatusCode::NO_CONTENT
    }
}

impl Receiver {
    pub async fn start() -> Self {
        let stored = Arc::<Stored>::default();
        let take = |State(stored): State<Arc<Stored>>, headers: HeaderMap, body: String| async move {
            let status = stored.take(&headers, &body);
            let is_silent = *stored.silent.lock().unwrap_or_else(PoisonError::into_inner);
            if is_silent { std::future::pending().await } else { status }
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let router = Router::new().route("/events", post(take)).with_state(Arc::clone(&stored));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { stored, url, _serving: AbortOnDropHandle::new(serving) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes the server answer 503 and store nothing, or ends that.
    pub fn away(&self, away: bool) {
        *self.stored.away.lock().unwrap() = away;
    }

    /// Makes the server store what comes and never answer, or ends that.
    pub fn silent(&self, silent: bool) {
        *self.stored.silent.lock().unwrap() = silent;
    }

    /// Returns the stored events, in order.
    pub fn events(&self) -> Vec<Value> {
        self.stored.events.lock().unwrap().clone()
    }
}

/// Returns the path of the example's program: Cargo builds examples beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/webhook");
    assert!(
        program.exists(),
        "the example is not built: run `make test`, or `cargo build --example webhook`"
    );
    program
}

#[test]
fn its_config_is_checked_shown_and_documented_like_that_of_a_built_in_sink() {
    let run = |arguments: &[&str], env: &[(&str, &str)]| {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/webhook/bridge.toml");
        let mut command = Command::new(program());
        command.args(["--config", sample]).args(arguments).env_clear().envs(env.iter().copied());
        let output =
            command.env("BRIDGE__SOURCE__PASSWORD", "0123456789abcdef0123456789abcdef").output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let token = ("BRIDGE__SINKS__WEBHOOK__TOKEN", "hush");
    let (code, shown) = run(&["config"], &[token, ("BRIDGE__SINKS__WEBHOOK__BATCH", "7")]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("sinks.webhook.batch = 7") && shown.contains("BRIDGE__SINKS__WEBHOOK__BATCH"),
        "{shown}"
    );
    assert!(shown.contains(r#"sinks.webhook.token = "***""#) && !shown.contains("hush"), "{shown}");
    let bad = [token, ("BRIDGE__SINKS__WEBHOOK__URL", "ftp://x"), ("BRIDGE__SINKS__WEBHOOK__BATHC", "7")];
    let (code, shown) = run(&["check", "--offline"], &bad);
    assert_eq!(code, Some(64), "{shown}");
    assert!(shown.contains("BRIDGE__SINKS__WEBHOOK__URL: sinks.webhook.url: is not a url"), "{shown}");
    assert!(shown.contains("BRIDGE__SINKS__WEBHOOK__BATHC: sinks.webhook.bathc: unknown key"), "{shown}");
    let (code, shown) = run(&["config", "--reference"], &[]);
    assert!(
        code == Some(0) && shown.contains("[sinks.webhook]") && shown.contains("[sinks.file]"),
        "{shown}"
    );
}

#[test]
fn dead_letters_in_a_webhook_cannot_be_read_back() {
    let setup = Setup::at("stomp://127.0.0.1:1", "acme", "dest1", "acme-dest1-1")
        .program(program())
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__WEBHOOK__URL", "http://127.0.0.1:1")
        .set("DEAD_LETTERS__WEBHOOK__TOKEN", "hush");
    let (code, out, err) = setup.run(&["dead-letters", "list"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.ends_with("error: dead letters: this kind of sink can't be read back\n"), "{err}");
}

/// Mirrors 900 good events and one that the receiver always refuses, with an outage at the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_program_mirrors_events_into_the_webhook_and_files() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let receiver = Receiver::start().await;
    receiver.away(true);
    let setup = Setup::at(&simulator.url(), "acme", "dest1", "acme-dest1-1")
        .program(program())
        .set("SINKS__WEBHOOK__URL", receiver.url())
        .set("SINKS__WEBHOOK__TOKEN", "hush");
    simulator.declare_queue("acme", "dest1");
    let generator = GeneratorConfig { keys: 10, ..Default::default() };
    simulator.generate("acme", Generation { events: Some(900), rate: Rate::default(), generator });
    simulator.publish("acme", r#"{"md5":"0123456789abcdef0123456789abcdef","of":"unwanted kind"}"#);
    let mut bridge = setup.start();
    let logged = |text: &str| bridge.log().contains(text);
    wait_until("the log shows the outage", SOON, || logged("503 Service Unavailable")).await;
    receiver.away(false);
    let acked = simulator.wait_until(|stats| stats.total().acked >= 901);
    tokio::time::timeout(SOON, acked).await.expect("everything is acknowledged");
    bridge.terminate();
    assert_eq!(bridge.ended(SOON).await.code(), Some(0));
    let mut ids: Vec<_> = receiver.events().iter().map(|event| event["id"].to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), receiver.events().len()), (900, 900));
    let dead_letters = json_lines(setup.dead_letters());
    assert_eq!(dead_letters.len(), 1, "{dead_letters:?}");
    assert_eq!(
        (&dead_letters[0]["sink"], &dead_letters[0]["reason"]),
        (&Value::from("webhook"), &Value::from("refused"))
    );
}

/// A sink without `claim` can't say that the receiver has the events: they are posted again, with the same ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_when_it_is_killed_comes_again_with_the_same_ids() {
    const EVENTS: u64 = 50;
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let receiver = Receiver::start().await;
    receiver.silent(true);
    let setup = Setup::at(&simulator.url(), "acme", "dest1", "acme-dest1-1")
        .program(program())
        .set("SINKS__WEBHOOK__URL", receiver.url())
        .set("SINKS__WEBHOOK__TOKEN", "hush");
    simulator.declare_queue("acme", "dest1");
    let generator = GeneratorConfig { keys: 10, ..Default::default() };
    simulator.generate("acme", Generation { events: Some(EVENTS), rate: Rate::default(), generator });
    let bridge = setup.start();
    wait_until("the receiver has events", SOON, || !receiver.events().is_empty()).await;
    bridge.kill();
    let unanswered = receiver.events();

    receiver.silent(false);
    let mut bridge = setup.start();
    let acked = simulator.wait_until(|stats| stats.total().acked >= EVENTS);
    tokio::time::timeout(SOON, acked).await.expect("everything is acknowledged");
    bridge.terminate();
    assert_eq!(bridge.ended(SOON).await.code(), Some(0));
    let events = receiver.events();
    let ids: BTreeSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!((ids.len() as u64, events.len() as u64), (EVENTS, EVENTS + unanswered.len() as u64));
    let again = &events[unanswered.len()..][..unanswered.len()];
    assert_eq!(again, unanswered, "the same events, first and in the same order");
}
