//! Tests the output of `check` for programs, and its exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared_if_available};
use kit::certificates::{Certificates, Kind};
use kit::did_not_run;
use kit::disk::small_disks;
use kit::nats::{NatsServer, available};

/// Runs `check --json` with more arguments. Returns the exit code, a value for each line of standard output, and
/// standard error.
fn check(setup: &Setup, arguments: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let (code, out, err) = setup.run(&[&["check", "--json"], arguments].concat());
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    (code, out.lines().map(line).collect(), err)
}

/// The part, level, code and state of each result.
fn summary(results: &[Value]) -> Vec<[&str; 4]> {
    let word = |result: &'_ Value, key: &str| result[key].as_str().unwrap_or_default().to_owned();
    assert!(results.iter().all(|result| !word(result, "message").is_empty()), "{results:?}");
    let keys = ["part", "level", "code", "state"];
    results.iter().map(|result| keys.map(|key| result[key].as_str().unwrap_or_default())).collect()
}

const CONFIGURATION: [&str; 4] = ["configuration", "ok", "passed", ""];

#[test]
fn a_wrong_configuration_is_json_too() {
    let setup = Setup::at("stomp://127.0.0.1:1", "refused", "main", "refused")
        .set("SOURCE__PREFETCH", "1000")
        .set("SOURCE__ORDERING", "any");
    let (code, results, err) = check(&setup, &[]);
    assert_eq!((code, err.as_str()), (Some(64), ""));
    let refused = ["configuration", "error", "configuration-refused", "refused"];
    assert_eq!(summary(&results), [refused, refused]);
    let message = results.iter().find_map(|result| result["message"].as_str().filter(|m| m.contains("1000")));
    assert!(message.is_some_and(|message| message.starts_with("BRIDGE__SOURCE__PREFETCH: ")), "{results:?}");
}

#[test]
fn warnings_fail_a_strict_check_only() {
    let setup = Setup::at("stomp://127.0.0.1:1", "warned", "main", "warned");
    let (code, results, err) = check(&setup, &["--offline", "--strict"]);
    assert_eq!((code, summary(&results), err.as_str()), (Some(0), vec![CONFIGURATION], ""));
    let setup = setup.set("SHUTDOWN__DRAIN_TIMEOUT", "0s");
    let warning = ["configuration", "warning", "configuration-warning", ""];
    let (code, results, err) = check(&setup, &["--offline"]);
    assert_eq!((code, summary(&results), err.as_str()), (Some(0), vec![CONFIGURATION, warning], ""));
    let (code, results, err) = check(&setup, &["--offline", "--strict"]);
    assert_eq!((code, summary(&results)), (Some(1), vec![CONFIGURATION, warning]));
    assert!(err.contains("--strict is set") && err.lines().count() == 1, "{err}");
    // For people the warning is on standard error, as for every verb.
    let (code, out, err) = setup.run(&["check", "--offline", "--strict"]);
    assert_eq!((code, out.as_str()), (Some(1), "ok      configuration\n"));
    assert!(err.starts_with("warning: BRIDGE__SHUTDOWN__DRAIN_TIMEOUT: "), "{err}");
}

/// An error says whether it passes, and where its option was set.
#[test]
fn parts_that_fail_are_errors_with_a_state() {
    let setup = Setup::at("stomp://127.0.0.1:1", "failing", "main", "failing");
    fs::write(setup.files(), "in the way").unwrap();
    let (code, results, err) = check(&setup, &[]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let summary = summary(&results);
    assert_eq!(summary[0], CONFIGURATION);
    assert_eq!(summary[1], ["broker stomp://127.0.0.1:1", "error", "source-unreachable", "retrying"]);
    assert_eq!(summary[2], ["sink file", "error", "files-failed", "held"]);
    assert_eq!(summary[3], ["dead letters", "ok", "passed", ""]);
    assert_eq!(summary[4], ["dead letters", "ok", "files-directory-to-be-made", ""]);
    let message = results[1]["message"].as_str().unwrap();
    assert!(message.ends_with("(source.url: BRIDGE__SOURCE__URL)"), "{message}");
}

#[test]
fn parts_that_work_tell_what_was_found() {
    let Some(broker) = shared_if_available(Version::V6, "parts_that_work_tell_what_was_found") else {
        return;
    };
    let setup = Setup::new(broker, Protocol::Stomp, "check-json", "main", "check-json");
    fs::create_dir(setup.files()).unwrap();
    fs::set_permissions(setup.files(), fs::Permissions::from_mode(0o755)).unwrap();
    let (code, results, _) = check(&setup, &[]);
    let found = summary(&results);
    assert_eq!(code, Some(0), "{found:?}");
    assert!(found.iter().any(|line| line[1..] == ["ok", "source-login", ""]), "{found:?}");
    for line in [["sink file", "ok", "passed", ""], ["sink file", "warning", "files-open-to-others", ""]] {
        assert!(found.contains(&line), "{found:?}");
    }
    let (code, strict, _) = check(&setup, &["--strict"]);
    assert_eq!(code, Some(1));
    assert_eq!(summary(&strict).len(), found.len());
}

/// The level of the result with this code in the part `sink file`.
fn level_of(results: &[Value], code: &str) -> Option<String> {
    let is_it = |result: &&Value| result["part"] == "sink file" && result["code"] == code;
    results.iter().find(is_it).and_then(|result| result["level"].as_str().map(str::to_owned))
}

fn is_in_memory(directory: &Path) -> bool {
    let shown = Command::new("stat").args(["--file-system", "--format=%T"]).arg(directory).output().unwrap();
    ["tmpfs\n", "ramfs\n"].contains(&&*String::from_utf8(shown.stdout).unwrap())
}

#[test]
fn a_small_disk_in_memory_is_a_warning() {
    if let Err(reason) = small_disks() {
        return did_not_run("a_small_disk_in_memory_is_a_warning", &reason);
    }
    let warning = Some("warning".to_owned());
    let setup = Setup::at("stomp://127.0.0.1:1", "small", "main", "small").small_disk(8);
    let (_, results, _) = check(&setup, &[]);
    for code in ["files-in-memory", "files-little-room"] {
        assert_eq!(level_of(&results, code), warning, "{code}: {results:?}");
    }
    assert!(
        level_of(&results, "files-sync").or(level_of(&results, "files-slow-sync")).is_some(),
        "{results:?}"
    );

    let setup = setup.set("SINKS__FILE__ROTATE__SIZE", "1MiB");
    let (_, results, _) = check(&setup, &[]);
    assert_eq!(level_of(&results, "files-in-memory"), warning);
    assert_eq!(level_of(&results, "files-little-room"), None, "{results:?}");
    assert_eq!(level_of(&results, "files-room"), Some("ok".to_owned()), "{results:?}");

    let setup = setup.unprepared();
    let (_, results, _) = check(&setup, &[]);
    // The directory is made by the preparation in the test's own directory, and is on the disk below now.
    assert_eq!(level_of(&results, "files-in-memory").is_some(), is_in_memory(setup.files()), "{results:?}");
}

#[test]
fn a_certificate_that_expires_soon_is_a_warning() {
    if !available("a_certificate_that_expires_soon_is_a_warning") {
        return;
    }
    for (kind, level, code) in
        [(Kind::ExpiresSoon, "warning", "certificate-expires-soon"), (Kind::Good, "ok", "certificate")]
    {
        let home = tempfile::tempdir().unwrap();
        let certificates = Certificates::with(home.path(), kind);
        let server = NatsServer::with_tls(&certificates, "");
        let setup = Setup::at("stomp://127.0.0.1:1", "expiry", "main", "expiry")
            .set("SINKS__NATS__URL", server.url())
            .set("SINKS__NATS__STREAM", "EXPIRY")
            .set("SINKS__NATS__CREATE_STREAM__ENABLED", "true")
            .set("SINKS__NATS__TLS__CA_FILE", certificates.authority.display().to_string());
        let (_, results, _) = check(&setup, &[]);
        let found = summary(&results);
        let of_certificates: Vec<_> = found.iter().filter(|line| line[0] == "certificates").collect();
        let expected = [["certificates", "ok", "passed", ""], ["certificates", level, code, ""]];
        assert_eq!(of_certificates, expected.iter().collect::<Vec<_>>(), "{results:?}");
        let message = results.iter().find(|result| result["code"] == code).unwrap()["message"].to_string();
        assert!(message.contains("CN=server of 127.0.0.1 (sinks.nats.tls) expires on"), "{message}");
    }
}

/// The login proves only that one address works. The broker listens at one of the two.
#[test]
fn several_addresses_of_the_broker_are_told() {
    const TEST: &str = "several_addresses_of_the_broker_are_told";
    if let Err(reason) = small_disks() {
        return did_not_run(TEST, &reason);
    }
    let Some(broker) = shared_if_available(Version::V6, TEST) else { return };
    let port = broker.addr_of(Protocol::Stomp).port();
    let told = |addresses: &str| {
        let hosts = format!(r#"printf '{addresses}' > "$1.hosts"; mount --bind "$1.hosts" /etc/hosts"#);
        let url = format!("stomp://broker.example.com:{port}");
        let setup = Setup::at(&url, "check-addresses", "main", "check-addresses").prepared(&hosts);
        let (_, results, _) = check(&setup, &[]);
        assert!(results.iter().any(|result| result["code"] == "source-login"), "{results:?}");
        let told = results.into_iter().find(|result| result["code"] == "source-addresses");
        told.map(|mut told| (told["level"].take(), told["message"].take()))
    };
    let (level, message) =
        told("127.0.0.1 broker.example.com\\n127.0.0.2 broker.example.com\\n").expect("two addresses");
    assert_eq!(level, "ok", "a refusal costs no time");
    let message = message.as_str().unwrap();
    let parts = ["has 2 addresses", "127.0.0.1 takes connections", "127.0.0.2 does not (Connection refused"];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert_eq!(told("127.0.0.1 broker.example.com\\n"), None, "the login has proved it");
}
