//! Tests that credentials come from existing Secrets, as files, that they never get into readable objects,
//! and that pods restart when one changes.

use std::fs;

use serde_json::json;

use kit::helm::objects::{at, kind_of, list};
use kit::helm::{Tools, Values, in_tree, value_at, with_tools};

with_tools! {
    a_change_of_configuration_or_secret_restarts_pods,
    every_credential_can_come_from_an_existing_secret,
    no_credential_is_rendered_into_a_config_map,
}

/// A pod reads its configuration and credentials only at its start.
fn a_change_of_configuration_or_secret_restarts_pods(tools: &Tools) {
    let of = |yaml: &str| {
        let inline = "config: {source: {password_file: {existingSecret: null, value: hush}}}";
        let objects = tools.helm().objects(&Values::minimal().and(inline).and(yaml));
        objects.workload().owner["spec"]["template"].clone()
    };
    let before = of("{}");
    assert_ne!(before, of("config: {source: {prefetch: 100}}"), "another configuration");
    assert_ne!(before, of("config: {source: {password_file: {value: another}}}"), "another secret");
    assert_eq!(before, of("serviceAccount: {annotations: {a: b}}"), "a change that does not affect the pods");
    assert_eq!(before, of("metrics: {dashboard: {enabled: true}}"), "a change that does not affect the pods");
    let off = "rollOnConfigChange: false";
    assert_eq!(of(off), of(&format!("{off}\nconfig: {{source: {{prefetch: 100}}}}")), "disabled restarts");
}

/// Every `_file` option in the configuration reference can name a Secret, which is then mounted.
fn every_credential_can_come_from_an_existing_secret(tools: &Tools) {
    let files: Vec<_> = options().into_iter().filter(|option| option.ends_with("_file")).collect();
    assert!(files.len() >= 15, "{files:?}");
    let values = files.iter().fold(Values::minimal(), |values, option| {
        values.and(&nested(option, "{existingSecret: of-the-user, key: of.the.user}"))
    });
    let objects = tools.helm().objects(&values);
    let configuration = objects.configuration().to_owned();
    let pod = objects.workload();
    for option in &files {
        let mounted = list(&pod.spec["volumes"]).flat_map(|volume| list(at(volume, "/projected/sources")));
        let item = json!({"key": "of.the.user", "path": option});
        let found = mounted.clone().any(|source| {
            source["secret"]["name"] == "of-the-user"
                && list(&source["secret"]["items"]).any(|known| *known == item)
        });
        assert!(found, "{option} is not mounted");
        assert!(
            configuration.contains(&format!("/{option}\"")),
            "{option} is not configured: {configuration}"
        );
    }
    assert_eq!(objects.of_kind("Secret").count(), 0, "an unneeded Secret");
}

/// An option with a `_file` counterpart is a secret. The chart refuses it in plain text and says where to put
/// it.
fn no_credential_is_rendered_into_a_config_map(tools: &Tools) {
    let options = options();
    let is_secret = |option: &&String| options.contains(&format!("{option}_file"));
    let secrets: Vec<_> = options.iter().filter(is_secret).collect();
    assert!(secrets.len() >= 6, "{secrets:?}");
    for option in secrets {
        let error = tools.helm().refusal(&Values::minimal().and(&nested(option, "hush-hush")));
        assert!(error.contains(&format!("config.{option}")) && error.contains("existingSecret"), "{error}");
        assert!(!error.contains("hush-hush"), "the refusal shows the secret: {error}");
        let value = nested(&format!("{option}_file"), "{existingSecret: null, value: hush-hush}");
        let objects = tools.helm().objects(&Values::minimal().and(&value));
        for object in objects.0.iter().filter(|object| object.to_string().contains("hush-hush")) {
            assert_eq!(kind_of(object), "Secret", "{option}");
        }
    }
    for url in ["stomp://user:hush@broker:61613", "nats://hush@nats:4222"] {
        let option = if url.starts_with("nats") { "sinks.nats.url" } else { "source.url" };
        let error = tools.helm().refusal(&Values::minimal().and(&nested(option, url)));
        assert!(error.contains(&format!("config.{option}")), "{error}");
    }
}

/// Every option in the configuration reference.
fn options() -> Vec<String> {
    let reference = fs::read_to_string(in_tree("docs/configuration.md")).unwrap();
    let variables = reference.lines().filter_map(|line| line.split('`').nth(3));
    let options = variables.filter_map(|variable| variable.strip_prefix("BRIDGE__"));
    options.map(|variable| variable.to_ascii_lowercase().replace("__", ".")).collect()
}

/// The chart's value that sets an option of the bridge.
fn nested(option: &str, value: &str) -> String {
    value_at(&format!("config.{option}"), value)
}
