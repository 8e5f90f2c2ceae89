//! Tests that the samples and the generated reference load, and that the reference is not stale.

use std::path::Path;

use super::tests::{PASSWORD, load_text};
use super::{SinkRegistry, reference};

fn sample(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_sample_loads() {
    let password = ("BRIDGE__SOURCE__PASSWORD", PASSWORD);
    for name in ["minimal", "file", "kafka", "nats", "stdout"] {
        let sink = ("BRIDGE__SINKS__KAFKA__SASL__PASSWORD", PASSWORD);
        let secrets: &[_] = if name == "kafka" { &[password, sink] } else { &[password] };
        let loaded = load_text(&sample(&format!("config/{name}.toml")), secrets);
        let loaded = loaded.unwrap_or_else(|errors| panic!("{name}: {errors}"));
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
    }
    let known: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let kinds = SinkRegistry::built_in();
    for kind in kinds.iter() {
        assert!(known.contains(&format!("{}.toml", kind.name)), "config/ has no sample for {}", kind.name);
    }
    assert_eq!(known.len(), kinds.iter().count() + 2, "a file in config/ is not loaded here: {known:?}");
}

/// Loads the reference twice: as it is, with its required options set by variables; and with all its
/// examples, except those that exclude each other or name files.
#[test]
fn the_reference_loads() {
    let reference = reference::toml(&SinkRegistry::built_in());
    let required = [
        ("BRIDGE__SOURCE__URL", "stomp://broker:1"),
        ("BRIDGE__SOURCE__USERNAME", "12345"),
        ("BRIDGE__SOURCE__PASSWORD", PASSWORD),
        ("BRIDGE__SOURCE__NAMESPACE", "acme"),
        ("BRIDGE__SOURCE__DESTINATION_ID", "main"),
        ("BRIDGE__SINKS__KAFKA__BROKERS", "kafka:9092"),
        ("BRIDGE__SINKS__KAFKA__TOPIC", "events"),
        ("BRIDGE__SINKS__FILE__DIRECTORY", "/events"),
        ("BRIDGE__SINKS__NATS__URL", "nats://nats:4222"),
        ("BRIDGE__SINKS__NATS__STREAM", "EVENTS"),
        ("BRIDGE__DEAD_LETTERS__DIRECTORY", "/letters"),
    ];
    let excluded = |key: &str| key.ends_with("_file") || ["token", "nkey"].contains(&key);
    load_text(&reference, &required).unwrap_or_else(|errors| panic!("{errors}"));
    // Mechanisms exclude each other, and certificates are read from files.
    let is_exclusive = |key: &str| key.starts_with("sinks.kafka.sasl") || key.starts_with("sinks.kafka.tls");
    let mut section = "";
    let examples: String = reference
        .lines()
        .filter(|line| {
            section = line.strip_prefix('[').map_or(section, |name| name.trim_end_matches(']'));
            !line.starts_with('#') || !is_exclusive(section)
        })
        .filter(|line| !line.strip_prefix('#').and_then(|line| line.split(' ').next()).is_some_and(excluded))
        .map(|line| match line.strip_prefix('#') {
            Some(example) if !example.is_empty() && !example.starts_with(' ') => format!("{example}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let loaded = load_text(&examples, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let unset: Vec<_> = loaded.effective.iter().filter(|option| option.value.is_null()).collect();
    let keys = unset.iter().map(|option| option.key.as_str()).filter(|key| !is_exclusive(key));
    let name = |key: &str| key.rsplit('.').next().map(str::to_owned);
    let bare: Vec<_> = keys.filter(|key| !name(key).is_some_and(|name| excluded(&name))).collect();
    assert_eq!(bare, [""; 0], "an option without default or example");
}

#[test]
fn the_reference_is_not_stale() {
    assert!(
        sample("config/reference.toml") == reference::toml(&SinkRegistry::built_in()),
        "config/reference.toml is stale: run `atdata-bridge config --reference > config/reference.toml`"
    );
    assert!(
        sample("docs/configuration.md") == reference::markdown(&SinkRegistry::built_in()),
        "docs/configuration.md is stale: run `atdata-bridge config --reference=markdown > docs/configuration.md`"
    );
}
