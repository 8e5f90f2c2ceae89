//! Tests the output of `check` for programs, and its exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared_if_available};

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
    assert_eq!(summary[2], ["sink file", "error", "sink-misconfigured", "held"]);
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
