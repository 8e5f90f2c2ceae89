//! Tests mistakes in the configuration. Most are refused before anything is opened, so they need no broker.

use std::path::PathBuf;

use super::{Scenario, scenarios};
use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared_if_available};
use kit::events::Events;
use kit::scenario::{emptied, place, publish};

scenarios!("config":
    nothing_set, no_sink, no_destination_id, unknown_section, unknown_key, key_of_another_table, unknown_kind,
    sink_without_name, unknown_word, one_underscore, lower_case, underscore_inside, single_underscores,
    another_program, quotes_in_variable, filter_no_level, filter_empty, url_stomps, url_failover, url_amqp, url_http, url_no_scheme,
    url_no_port, url_path, url_options, url_password, url_list, queue_as_destination_id, queue_as_namespace,
    id_with_dot, no_number, prefetch_1000, time_without_unit, time_too_long, size_unknown, body_above_memory,
    password_file_missing, password_file_directory, password_file_empty, password_file_binary, password_twice,
    password_quoted, password_blank, password_placeholder, password_base64, swapped, ca_file_missing,
    ca_file_unused, key_no_pointer, name_without_connection, name_without_partitions, same_directory,
    share_above_one, listen_port_alone, no_time_to_drain, file_missing, file_directory, file_yaml, file_broken,
);

/// Builds a correct bridge, which the tests change.
fn valid(id: &str) -> Setup {
    Setup::at("stomp://127.0.0.1:1", id, "main", id)
}

/// Tests the bridge with one variable added or changed.
async fn set(id: &str, name: &str, value: &str) {
    Scenario::new(valid(id).set(name, value)).shows(id).await;
}

async fn variable(id: &str, name: &str, value: &str) {
    Scenario::new(valid(id).variable(name, value)).shows(id).await;
}

/// Tests the bridge without one variable.
async fn unset(id: &str, name: &str) {
    Scenario::new(valid(id).unset(name)).shows(id).await;
}

/// Writes a file for the bridge into the test's directory.
fn file(id: &str, content: &[u8]) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{id}.txt"));
    std::fs::write(&path, content).expect("write a file");
    path.display().to_string()
}

async fn password_file(id: &str, path: &str) {
    let setup = valid(id).unset("SOURCE__PASSWORD").set("SOURCE__PASSWORD_FILE", path);
    Scenario::new(setup).shows(id).await;
}

async fn config_file(id: &str, path: &str) {
    Scenario::new(valid(id).argument("--config").argument(path)).shows(id).await;
}

/// Checks that a warning is reported, events are delivered, and the bridge ends with `exit`.
async fn warned(id: &str, exit: i32, change: impl FnOnce(Setup) -> Setup) {
    let Some(broker) = shared_if_available(Version::V6, id) else { return };
    let (namespace, queue) = place(Protocol::Stomp, id);
    let setup = Setup::new(broker, Protocol::Stomp, &namespace, "main", &namespace);
    let setup = Scenario::new(change(setup)).exits(exit).shows(id).await;
    // The queue exists since the scenario has run.
    publish(broker, &namespace, Events::good(5)).await;
    let bridge = setup.start();
    emptied(broker, &queue).await;
    drop(bridge);
}

async fn nothing_set(id: &str) {
    unset(id, "SOURCE__URL").await;
}

async fn no_sink(id: &str) {
    unset(id, "SINKS__FILE__DIRECTORY").await;
}

async fn no_destination_id(id: &str) {
    unset(id, "SOURCE__DESTINATION_ID").await;
}

async fn unknown_section(id: &str) {
    set(id, "SORCE__PREFETCH", "7").await;
}

async fn unknown_key(id: &str) {
    set(id, "SOURCE__PERFETCH", "7").await;
}

async fn key_of_another_table(id: &str) {
    set(id, "SOURCE__CA_FILE", "/etc/ca.pem").await;
}

async fn unknown_kind(id: &str) {
    set(id, "SINKS__EVENTS__KIND", "kafca").await;
}

async fn sink_without_name(id: &str) {
    set(id, "SINKS__KIND", "file").await;
}

async fn unknown_word(id: &str) {
    set(id, "SOURCE__ORDERING", "strickt").await;
}

async fn one_underscore(id: &str) {
    variable(id, "BRIDGE_SOURCE__PREFETCH", "7").await;
}

async fn lower_case(id: &str) {
    variable(id, "bridge__source__prefetch", "7").await;
}

async fn underscore_inside(id: &str) {
    set(id, "SOURCE_PREFETCH", "7").await;
}

async fn single_underscores(id: &str) {
    // Kubernetes sets such variables for a service with the name `bridge`: they cause no warning.
    let service = |setup: Setup| {
        setup.variable("BRIDGE_PORT", "tcp://10.0.0.1:9464").variable("BRIDGE_SERVICE_HOST", "10.0.0.1")
    };
    warned(id, 0, |setup| service(setup).variable("BRIDGE_SOURCE_PREFETCH", "7")).await;
}

async fn another_program(id: &str) {
    // From a ConfigMap that both programs use as a whole.
    warned(id, 0, |setup| setup.variable("BRIDGE_Log__Level", "Debug").variable("BRIDGE_Source__Name", "x"))
        .await;
}

async fn quotes_in_variable(id: &str) {
    set(id, "SOURCE__NAMESPACE", "\"acme\"").await;
}

async fn filter_no_level(id: &str) {
    set(id, "LOG__FILTER", "warning").await;
}

async fn filter_empty(id: &str) {
    set(id, "LOG__FILTER", "").await;
}

async fn url_stomps(id: &str) {
    set(id, "SOURCE__URL", "stomps://broker.example.com:61614").await;
}

async fn url_failover(id: &str) {
    set(id, "SOURCE__URL", "failover:(tcp://a:61616,tcp://b:61616)?randomize=false").await;
}

async fn url_amqp(id: &str) {
    set(id, "SOURCE__URL", "amqp://broker.example.com:5672").await;
}

async fn url_http(id: &str) {
    set(id, "SOURCE__URL", "http://broker.example.com:8161").await;
}

async fn url_no_scheme(id: &str) {
    set(id, "SOURCE__URL", "broker.example.com:61616").await;
}

async fn url_no_port(id: &str) {
    set(id, "SOURCE__URL", "stomp://broker.example.com").await;
}

async fn url_path(id: &str) {
    set(id, "SOURCE__URL", "stomp://broker.example.com:61613/main.RTO.acme").await;
}

async fn url_options(id: &str) {
    set(id, "SOURCE__URL", "tcp://broker.example.com:61616?wireFormat.maxInactivityDuration=0").await;
}

async fn url_password(id: &str) {
    set(id, "SOURCE__URL", "stomp://12345:secret@broker.example.com:61613").await;
}

async fn url_list(id: &str) {
    set(id, "SOURCE__URL", "stomp://a.example.com:61613,stomp://b.example.com:61613").await;
}

async fn queue_as_destination_id(id: &str) {
    set(id, "SOURCE__DESTINATION_ID", "main.RTO.acme").await;
}

async fn queue_as_namespace(id: &str) {
    set(id, "SOURCE__NAMESPACE", "main.RTO.acme").await;
}

async fn id_with_dot(id: &str) {
    set(id, "SOURCE__DESTINATION_ID", "main.1").await;
}

async fn no_number(id: &str) {
    set(id, "SOURCE__PREFETCH", "lots").await;
}

async fn prefetch_1000(id: &str) {
    set(id, "SOURCE__PREFETCH", "1000").await;
}

async fn time_without_unit(id: &str) {
    set(id, "SHUTDOWN__DRAIN_TIMEOUT", "25").await;
}

async fn time_too_long(id: &str) {
    set(id, "SOURCE__CONNECT_TIMEOUT", "584942417355years").await;
}

async fn size_unknown(id: &str) {
    set(id, "SOURCE__MAX_BODY", "4 megs").await;
}

async fn body_above_memory(id: &str) {
    set(id, "SOURCE__MAX_BODY", "65MiB").await;
}

async fn password_file_missing(id: &str) {
    password_file(id, "/no/such/file").await;
}

async fn password_file_directory(id: &str) {
    password_file(id, env!("CARGO_TARGET_TMPDIR")).await;
}

async fn password_file_empty(id: &str) {
    password_file(id, &file(id, b"\n")).await;
}

async fn password_file_binary(id: &str) {
    password_file(id, &file(id, b"\xff\xfe0\x001\x00")).await;
}

async fn password_twice(id: &str) {
    set(id, "SOURCE__PASSWORD_FILE", "/run/secrets/password").await;
}

async fn password_quoted(id: &str) {
    password_file(id, &file(id, b"\"0123456789abcdef0123456789abcdef\"\n")).await;
}

async fn password_blank(id: &str) {
    password_file(id, &file(id, b"0123456789abcdef0123456789abcdef \n")).await;
}

async fn password_placeholder(id: &str) {
    set(id, "SOURCE__PASSWORD", "$(ATDATA_PASSWORD)").await;
}

async fn password_base64(id: &str) {
    set(id, "SOURCE__PASSWORD", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").await;
}

async fn swapped(id: &str) {
    let setup = valid(id)
        .set("SOURCE__USERNAME", "0123456789abcdef0123456789abcdef")
        .set("SOURCE__PASSWORD", "12345");
    Scenario::new(setup).shows(id).await;
}

async fn ca_file_missing(id: &str) {
    set(id, "SOURCE__TLS__CA_FILE", "/no/such/ca.pem").await;
}

async fn ca_file_unused(id: &str) {
    let Some(broker) = shared_if_available(Version::V6, id) else { return };
    let path = broker.ca_file().display().to_string();
    warned(id, 0, |setup| setup.set("SOURCE__TLS__CA_FILE", path)).await;
}

async fn key_no_pointer(id: &str) {
    set(id, "EVENT__KEYS", "$.email.md5").await;
}

async fn name_without_connection(id: &str) {
    set(id, "SINKS__FILE__NAME", "events").await;
}

async fn name_without_partitions(id: &str) {
    set(id, "SINKS__FILE__NAME", "{connection_id}-{partition}").await;
}

async fn same_directory(id: &str) {
    let setup = valid(id);
    let files = setup.files().display().to_string();
    Scenario::new(setup.set("DEAD_LETTERS__DIRECTORY", files)).shows(id).await;
}

async fn share_above_one(id: &str) {
    set(id, "DEAD_LETTERS__MAX_SHARE", "10").await;
}

async fn listen_port_alone(id: &str) {
    set(id, "ADMIN__LISTEN", "9464").await;
}

async fn no_time_to_drain(id: &str) {
    warned(id, 75, |setup| setup.set("SHUTDOWN__DRAIN_TIMEOUT", "0s")).await;
}

async fn file_missing(id: &str) {
    config_file(id, "/no/such/bridge.toml").await;
}

async fn file_directory(id: &str) {
    config_file(id, env!("CARGO_TARGET_TMPDIR")).await;
}

async fn file_yaml(id: &str) {
    config_file(id, &file(id, b"source:\n  prefetch: 7\n")).await;
}

async fn file_broken(id: &str) {
    config_file(id, &file(id, b"[source]\nprefetch = 7\nprefetch = 8\n")).await;
}
