//! Tests that every sink has the same files and type names, so that a reader of one sink can find everything
//! in the others.

use crate::files::{below, exists, text};

/// The files of each sink with a folder of its own.
const FILES: [&str; 8] = [
    "mod.rs",
    "config.rs",
    "validate.rs",
    "settings.rs",
    "producer.rs",
    "acks.rs",
    "in_flight.rs",
    "check.rs",
];

/// A sink whose types are all in one file, and the prefix of their names.
const IN_ONE_FILE: [(&str, &str); 2] =
    [("src/sink/stdout.rs", "Stdout"), ("examples/webhook/sink.rs", "Webhook")];

fn folders() -> Vec<String> {
    let mut folders: Vec<String> = below("src/sink", &["mod.rs"])
        .into_iter()
        .filter_map(|file| file.strip_prefix("src/sink/")?.strip_suffix("/mod.rs").map(str::to_owned))
        .collect();
    folders.dedup();
    folders
}

#[test]
fn every_sink_has_the_same_files() {
    let folders = folders();
    assert_eq!(folders, ["file", "kafka", "nats"]);
    for folder in folders {
        for file in FILES {
            let path = format!("src/sink/{folder}/{file}");
            assert!(exists(&path), "there is no {path}");
        }
    }
}

#[test]
fn the_types_of_every_sink_have_the_same_names() {
    let defines = |path: &str, name: &str| {
        assert!(text(path).contains(&format!("struct {name}")), "{path} does not define {name}");
    };
    for (folder, kind) in [("file", "File"), ("kafka", "Kafka"), ("nats", "Nats")] {
        for (file, name) in [
            ("mod.rs", "Kind"),
            ("config.rs", "Config"),
            ("settings.rs", "Settings"),
            ("producer.rs", "Producer"),
            ("acks.rs", "Acks"),
            ("in_flight.rs", "InFlight"),
        ] {
            defines(&format!("src/sink/{folder}/{file}"), &format!("{kind}{name}"));
        }
    }
    for (path, kind) in IN_ONE_FILE {
        for name in ["Sink", "Config", "Producer", "Acks"] {
            defines(path, &format!("{kind}{name}"));
        }
    }
}
