//! Tests the workflows of GitHub Actions as far as this machine can: what they run is in the tree and tested,
//! what they use is pinned, and no job has more rights than it needs.

use std::os::unix::fs::PermissionsExt;

use kit::helm::objects::yaml;
use serde_json::Value;

use crate::files::{root, text};

const WORKFLOWS: [&str; 2] = [".github/workflows/ci.yml", ".github/workflows/release.yml"];

/// Before the checkout, there is nothing in a container that could get the tree.
const BEFORE_CHECKOUT: &str = "apt-get -q update && apt-get -q -y install --no-install-recommends ";

/// `make publish-test` and `make release-test` run these, and so does each other script of `release/` that they call.
const TESTED_BY: [&str; 2] = ["tests/release/run.sh", "tests/reproduce/run.sh"];

/// Returns the steps of a workflow with the names of their jobs.
fn steps(workflow: &Value) -> Vec<(&str, &Value)> {
    let jobs = workflow["jobs"].as_object().unwrap().iter();
    jobs.flat_map(|(name, job)| {
        job["steps"].as_array().into_iter().flatten().map(|step| (name.as_str(), step))
    })
    .collect()
}

/// Returns what is wrong with a step of release.yml that runs `command`.
fn fault(command: &str) -> Option<String> {
    if command.starts_with(BEFORE_CHECKOUT) && !command.contains(['\n', ';', '|', '$']) {
        return None;
    }
    let script = command.split_whitespace().next().unwrap_or_default();
    let is_plain = !command.contains(['\n', ';', '|', '&', '`']) && !command.contains("$(");
    if !is_plain {
        return Some(format!("{command:?} is more than a script with arguments"));
    }
    let is_script = script.contains('/')
        && root().join(script).metadata().is_ok_and(|file| file.permissions().mode() & 0o100 != 0);
    if !is_script {
        return Some(format!("{script} is no script of the tree"));
    }
    let is_tested = TESTED_BY.iter().any(|test| script == *test || text(test).contains(script));
    (!is_tested).then(|| format!("none of {TESTED_BY:?} runs {script}"))
}

#[test]
fn the_release_runs_scripts_that_are_tested() {
    let workflow = yaml(&text(WORKFLOWS[1]));
    let steps = steps(&workflow);
    let commands: Vec<&str> = steps.iter().filter_map(|(_, step)| step["run"].as_str()).collect();
    assert!(commands.len() >= 7, "{commands:?}");
    let faults: Vec<String> = commands.iter().filter_map(|command| fault(command)).collect();
    assert!(faults.is_empty(), "{faults:#?}");

    assert!(fault("release/no-such-script.sh").is_some());
    assert!(fault("docs/verify.md").is_some(), "it is no program");
    assert!(fault("helm/generate.py").is_some(), "no test of a release runs it");
    assert!(fault("release/publish.sh dist; curl example.com").is_some());
    assert!(fault("apt-get -q update && apt-get -q -y install --no-install-recommends git; make").is_some());
}

/// A tag of an action can be moved; a commit can't. The comment is for people, and for Renovate.
#[test]
fn actions_are_pinned_by_commit() {
    let is_pinned = |line: &str| {
        let Some((action, comment)) = line.split_once(" # v") else { return false };
        let commit = action.split_once('@').map_or("", |(_, commit)| commit);
        commit.len() == 40
            && commit.chars().all(|digit| digit.is_ascii_hexdigit())
            && comment.split('.').count() == 3
    };
    for path in WORKFLOWS {
        let text = text(path);
        let uses =
            text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "));
        for action in uses.filter(|action| !action.starts_with("./")) {
            assert!(is_pinned(action), "{path}: {action}");
        }
    }
    assert!(!is_pinned("actions/checkout@v7"));
    assert!(!is_pinned("actions/checkout@v7 # v7.0.1"));
}

#[test]
fn rights_are_few() {
    let release = yaml(&text(WORKFLOWS[1]));
    assert_eq!(release["permissions"], serde_json::json!({}));
    let mut writers: Vec<String> = Vec::new();
    for path in WORKFLOWS {
        let workflow = yaml(&text(path));
        let jobs = workflow["jobs"].as_object().unwrap();
        let scopes = jobs.iter().map(|(name, job)| (name.as_str(), &job["permissions"]));
        for (name, scope) in scopes.chain([("all", &workflow["permissions"])]) {
            let writes = scope.as_object().into_iter().flatten().filter(|(_, level)| *level != "read");
            writers
                .extend(writes.map(|(right, level)| format!("{name}: {right} {}", level.as_str().unwrap())));
        }
        for (job, step) in steps(&workflow) {
            if step["uses"].as_str().is_some_and(|action| action.starts_with("actions/checkout@")) {
                assert_eq!(
                    step["with"]["persist-credentials"], false,
                    "{path}: {job} keeps the token on disk"
                );
            }
        }
        let triggers: Vec<&str> = workflow["on"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(!triggers.contains(&"pull_request_target"), "{path} runs code of strangers with rights");
        assert!(
            jobs.values().all(|job| job["uses"].is_string() || job["timeout-minutes"].is_u64()),
            "{path}"
        );
    }
    writers.sort_unstable();
    assert_eq!(writers, ["announce: contents write", "publish: id-token write", "publish: packages write"]);
}

/// The program of a release is built by the compiler of the image that the Dockerfile names.
#[test]
fn the_pipeline_builds_where_the_dockerfile_does() {
    let dockerfile = text("Dockerfile");
    let image = dockerfile.lines().find_map(|line| line.strip_prefix("FROM --platform=$BUILDPLATFORM "));
    let image = image.and_then(|line| line.strip_suffix(" AS build")).expect("a build stage");
    for (path, job) in [(WORKFLOWS[0], "check"), (WORKFLOWS[1], "build")] {
        let workflow = yaml(&text(path));
        assert_eq!(workflow["jobs"][job]["container"]["image"], image, "{path}");
    }
}
