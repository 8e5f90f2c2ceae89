//! Tests that any file and any environment give settings or messages, and that accepted settings can run.

use std::time::Duration;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::SinkRegistry;
use super::tests::{GOOD, load_text};
use crate::bridge::Bridge;
use crate::secret::Secret;
use crate::simulator::{Simulator, SimulatorConfig, SimulatorLogin};

/// Values at the limits of every type, and values of no type.
const VALUES: [&str; 26] = [
    "",
    "0",
    "-1",
    "1",
    "1000",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999",
    "1e308",
    "nan",
    "0s",
    "1ns",
    "100years",
    "584942417355years",
    "18446744073709551615s",
    "1048576TiB",
    "18446744073709551615B",
    "true",
    "strict",
    "stomp://a:1",
    "failover:(failover:(",
    "main.RTO.acme",
    "{connection_id}{partition}",
    "\u{0}\u{feff}\u{202e}",
    "/x,/~2,,",
];

fn key() -> impl Strategy<Value = String> {
    let known = SinkRegistry::built_in().all_options();
    prop_oneof![
        6 => proptest::sample::select(known),
        1 => "[a-z_.]{0,12}",
        1 => "(source|sinks|sinks\\.file|dead_letters\\.nats)(\\.[a-z_]{1,8})?",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![4 => proptest::sample::select(VALUES.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,12}"]
}

/// Writes a value as TOML: as a string, or bare if it is a bare value.
fn written(value: &str, is_bare: bool) -> String {
    let bare = format!("x = {value}\n");
    match is_bare && bare.parse::<toml_edit::DocumentMut>().is_ok() && !value.contains('\n') {
        true => value.to_owned(),
        false => toml_edit::Value::from(value).to_string(),
    }
}

fn variable_name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => key().prop_map(|key| super::variable(&key)),
        1 => "(BRIDGE|bridge|ATDATA_BRIDGE)_{0,3}(SOURCE|SINKS|sinks)?_{0,3}[A-Z_]{0,8}",
        1 => "\\PC{0,10}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_file_and_any_environment_give_settings_or_messages(
        options in proptest::collection::vec((key(), value(), any::<bool>()), 0..6),
        variables in proptest::collection::vec((variable_name(), value()), 0..6),
        is_whole in any::<bool>(),
    ) {
        let mut text = if is_whole { GOOD.to_owned() } else { String::new() };
        for (key, value, is_bare) in &options {
            let (table, name) = key.rsplit_once('.').unwrap_or(("source", key));
            text += &format!("[{table}]\n{name} = {}\n", written(value, *is_bare));
        }
        let environment: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        match load_text(&text, &environment) {
            Ok(loaded) => drop(Bridge::new(loaded.settings)),
            Err(errors) => {
                prop_assert!(!errors.0.is_empty());
                for problem in &errors.0 {
                    prop_assert!(!problem.to_string().contains(['\n', '\r']), "{problem}");
                }
            }
        }
    }

    #[test]
    fn any_text_is_a_file_or_a_message(text in "([\\[\\]={}.\"'#, \n]|[a-z]{1,6}|[0-9]|\\PC){0,40}") {
        drop(load_text(&text, &[]));
    }
}

/// Runs a bridge with the longest times and the largest sizes that can be written. It must neither panic nor
/// refuse to end. Each limit is added to a time or a size somewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_times_and_the_largest_sizes_can_be_run() {
    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let login = SimulatorLogin::default();
    simulator.declare_queue(&login.namespace, "extremes");
    for url in [simulator.url(), simulator.openwire_url()] {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let settings = extremes(&url, &login.password, &path("events"), &path("letters"));
        let bridge = Bridge::new(settings);
        let telemetry = bridge.telemetry();
        let drain = CancellationToken::new();
        let running = tokio::spawn(bridge.run(drain.clone()));
        let acked = simulator.stats().total().acked;
        simulator.publish(&login.namespace, r#"{"md5_email":"0123456789abcdef0123456789abcdef"}"#);
        let moved = simulator.wait_until(|stats| stats.total().acked > acked);
        let moved = tokio::time::timeout(Duration::from_secs(60), moved).await;
        assert!(moved.is_ok(), "{url}: {:?}", telemetry.statuses.all());
        drain.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(60), running).await.unwrap();
        assert!(ended.unwrap().is_ok());
    }
}

fn extremes(url: &str, password: &Secret, events: &str, letters: &str) -> super::Settings {
    const TIMES: [&str; 7] = [
        "SOURCE__CONNECT_TIMEOUT",
        "SOURCE__IDLE_RECONNECT",
        "SOURCE__BACKOFF__MAX",
        "ADMIN__MAX_AGE",
        "SHUTDOWN__DRAIN_TIMEOUT",
        "SINKS__FILE__MAX_AGE",
        "SINKS__FILE__ROTATE__AGE",
    ];
    const SIZES: [&str; 4] =
        ["SOURCE__MAX_BODY", "SOURCE__MAX_IN_FLIGHT", "SINKS__FILE__ROTATE__SIZE", "SINKS__FILE__MAX_TOTAL"];
    let mut variables = vec![
        ("SOURCE__URL", url),
        ("SOURCE__USERNAME", "12345"),
        ("SOURCE__PASSWORD", password.reveal()),
        ("SOURCE__PREFETCH", "20000"),
        ("SOURCE__HEART_BEAT", "1h"),
        ("EVENT__PARTITIONS", "4294967295"),
        ("SINKS__FILE__DIRECTORY", events),
        ("SINKS__FILE__NAME", "{connection_id}-{partition}"),
        ("SINKS__FILE__MAX_OPEN", "4294967295"),
        ("DEAD_LETTERS__DIRECTORY", letters),
        ("DEAD_LETTERS__MAX_RUN", "4294967295"),
        ("ADMIN__LISTEN", "127.0.0.1:0"),
    ];
    variables.extend(TIMES.map(|name| (name, "100years")));
    variables.extend(SIZES.map(|name| (name, "1048576TiB")));
    let names: Vec<_> = variables.iter().map(|(name, value)| (format!("BRIDGE__{name}"), *value)).collect();
    let variables: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let text = format!(
        "[source]\nnamespace = {:?}\ndestination_id = \"extremes\"\n",
        SimulatorLogin::default().namespace
    );
    let loaded = load_text(&text, &variables).unwrap_or_else(|errors| panic!("{errors}"));
    loaded.settings
}
