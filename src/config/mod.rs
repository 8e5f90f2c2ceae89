//! Turns file and environment into checked settings: `defaults < file < environment` (D9).
//!
//! `file` and `environment` make the layers, and figment merges them. `reader` reads each table into the type
//! beside its component, and `value` converts the values. `validate_source`, `validate_sinks` and this file
//! check them and build [`Settings`]. No code here opens a socket or writes a file.

#[cfg(test)]
mod any_tests;
mod data_directory;
mod endpoint;
mod environment;
pub mod explain;
mod file;
mod given_options;
mod ids;
mod key_path;
mod known_options;
mod layers;
mod login;
#[cfg(test)]
mod mistakes_tests;
mod origins;
mod reader;
pub mod reference;
#[cfg(test)]
mod reference_tests;
pub mod schema;
mod sections;
mod settings;
mod sink_registry;
pub mod starter;
mod stray_variables;
mod suggest;
#[cfg(test)]
mod tests;
mod validate_sinks;
mod validate_source;
mod value;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use given_options::GivenOptions;
pub use key_path::{DATA_VARIABLE, FILE_VARIABLE, PREFIX, variable};
pub use origins::Origins;
pub use sections::{EventConfig, LogConfig, LogFormat, ShutdownConfig, UnusableKey};
pub use settings::{Settings, SubscriptionSettings};
pub use sink_registry::SinkRegistry;

use crate::dead_letter;
use crate::dead_letter::config::{DeadLetterPlace, DeadLetterSettings, DeadLettersConfig};
use crate::diagnostics::Diagnostics;
pub use crate::diagnostics::{ConfigError, Diagnostic, Origin};
use crate::key::Keying;
use crate::sink::factory::{BuildContext, SinkDestination, SinkSettings};
use crate::source::config::Ordering;
use crate::source::config::{Isolation, SourceConfig, SourceSettings};
use crate::telemetry::http;
use crate::telemetry::http::config::{AdminConfig, AdminSettings};
use crate::telemetry::logging::{self, FilterError};
use crate::units::Size;
use environment::Environment;
use key_path::{SECTIONS, join};
use reader::ConfigReader;

/// A configuration without mistakes, ready for use.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The checked settings for the bridge.
    pub settings: Settings,
    /// Settings that are allowed but probably not intended, one line each.
    pub warnings: Vec<String>,
    /// Every option as it is in effect, with its origin; secrets are masked.
    pub effective: Vec<Effective>,
    /// What the file and the variables set.
    pub given: GivenOptions,
}

/// An option with the value that is in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The full key of the option, such as `source.prefetch`.
    pub key: String,
    /// The value; `Null` if it is not set. A secret is masked.
    pub value: serde_json::Value,
    /// Where the value came from.
    pub origin: Origin,
}

/// Returns the variables of this process. Replaces what is not UTF-8 in them.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Loads the file `path`, or the one that `BRIDGE_CONFIG` names, or none. The variables `env` override the
/// file. Sinks may be of any of the kinds `kinds`. Files without a directory go below `BRIDGE_DATA_DIRECTORY`.
///
/// # Errors
/// Every mistake that was found, not only the first.
pub fn load(
    kinds: &SinkRegistry,
    path: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let env: Vec<_> = env.collect();
    let named = |wanted: &str| env.iter().find(|(name, value)| name == wanted && !value.is_empty());
    let path = path.map(Path::to_owned).or_else(|| named(FILE_VARIABLE).map(|(_, path)| PathBuf::from(path)));
    let host = named("HOSTNAME").map(|(_, host)| host.clone()).or_else(host_name);
    let data = named(DATA_VARIABLE).map(|(_, path)| PathBuf::from(path));
    let file = path.as_deref().map(file::read).transpose().map_err(|problem| ConfigError(vec![problem]))?;
    let environment = Environment::new(env.into_iter());
    let mut reader = ConfigReader::new(file.unwrap_or_default(), path.as_deref(), environment);
    if let Some(data) = data {
        data_directory::fill(&mut reader, kinds, &data);
    }
    check(reader, kinds, host.as_deref())
}

/// The name of this host; in Kubernetes the name of the pod.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn check(mut reader: ConfigReader, kinds: &SinkRegistry, host: Option<&str>) -> Result<Loaded, ConfigError> {
    check_names(&mut reader, kinds);
    let raw: SourceConfig = reader.read("source");
    let (isolation, max_in_flight) = (raw.isolation, validate_source::bytes(raw.max_in_flight));
    let (prefetch, is_strict) = (raw.prefetch as usize, raw.ordering == Ordering::Strict);
    let source = reader.accept("source", |diagnostics| validate_source::check(diagnostics, raw, host));
    if let Some(source) = &source {
        reader.set_default("source.connection_id", &source.connection_id);
    }
    let event = event(&mut reader);
    let context =
        BuildContext { partitions: event.partitions, prefetch, is_strict, is_for_dead_letters: false };
    let letters_sink = validate_sinks::for_dead_letters(&mut reader, kinds, &context);
    let sinks = validate_sinks::check(&mut reader, kinds, &context);
    check_shares(&mut reader.diagnostics, source.as_ref(), sinks.len(), isolation, max_in_flight);
    let dead_letters = dead_letters(&mut reader, letters_sink);
    check_destinations(&mut reader.diagnostics, &sinks, dead_letters.as_ref());
    let admin = admin(&mut reader);
    let log = log(&mut reader);
    let drain_timeout = drain_timeout(&mut reader);

    let given = reader.given();
    let (found, effective, origins) = reader.finish();
    let (Some(source), Some(dead_letters), Some(admin), true) =
        (source, dead_letters, admin, found.is_good())
    else {
        return Err(ConfigError(found.problems));
    };
    let settings = Settings {
        subscriptions: subscriptions(source, sinks, isolation),
        keying: Keying::new(event.keys, event.unusable_key == UnusableKey::Digest),
        partitions: event.partitions,
        max_in_flight,
        dead_letters,
        admin,
        log,
        drain_timeout,
        origins: Arc::new(origins),
    };
    let warnings = found.warnings.iter().map(Diagnostic::to_string).collect();
    Ok(Loaded { settings, warnings, effective, given })
}

fn event(reader: &mut ConfigReader) -> EventConfig {
    let event: EventConfig = reader.read("event");
    check_pointers(&mut reader.diagnostics, &event.keys);
    event
}

/// Returns `None` if the table has a mistake.
fn admin(reader: &mut ConfigReader) -> Option<AdminSettings> {
    let admin: AdminConfig = reader.read("admin");
    reader.accept("admin", |diagnostics| http::config::check(&admin, diagnostics))
}

fn log(reader: &mut ConfigReader) -> LogConfig {
    let log: LogConfig = reader.read("log");
    check_filter(&mut reader.diagnostics, &log.filter);
    log
}

fn drain_timeout(reader: &mut ConfigReader) -> Duration {
    let shutdown: ShutdownConfig = reader.read("shutdown");
    if shutdown.drain_timeout.0.is_zero() {
        let message =
            "`0s` leaves no time to settle anything: what is on the way comes again after each stop";
        reader.diagnostics.warn("shutdown.drain_timeout", message);
    }
    shutdown.drain_timeout.0
}

/// Checks that one event fits into the share of each mirrored sink. All shares of the memory are equal.
fn check_shares(
    diagnostics: &mut Diagnostics,
    source: Option<&SourceSettings>,
    sinks: usize,
    isolation: Isolation,
    max_in_flight: usize,
) {
    let Some(source) = source.filter(|_| isolation == Isolation::Mirror && sinks > 0) else { return };
    let (share, needed) = (max_in_flight / sinks, source.max_body);
    if share < needed && needed <= max_in_flight {
        let (share, least) = (Size(share as u64), Size(needed.saturating_mul(sinks) as u64));
        let message = format!(
            "each of {sinks} mirrored sinks has an equal share of it, {share}, which is less than \
             source.max_body: set at least {least}"
        );
        diagnostics.refuse("source.max_in_flight", message);
    }
}

/// Checks for tables that do not exist, and for variables that look like settings and are none.
fn check_names(reader: &mut ConfigReader, kinds: &SinkRegistry) {
    let unknown: Vec<_> =
        reader.names("").into_iter().filter(|name| !SECTIONS.contains(&name.as_str())).collect();
    if unknown.is_empty() && reader.strays.is_empty() {
        return;
    }
    let options = kinds.all_options();
    for key in unknown {
        reader.unknown(&key, SECTIONS, &options);
    }
    for name in std::mem::take(&mut reader.strays) {
        let Some(stray) = stray_variables::look(&name, &options) else { continue };
        let message = match stray.meant {
            Some(meant) => format!("is not read: write {meant}"),
            None => format!("is not read: settings begin with {PREFIX}, and none has such a name"),
        };
        let problem = Diagnostic::new(Origin::Variable(name), "", message);
        match stray.is_certain {
            true => reader.diagnostics.problems.push(problem),
            false => reader.diagnostics.warnings.push(problem),
        }
    }
}

/// Builds one subscription for all sinks, or one for each sink with its own ids (D8).
fn subscriptions(
    source: SourceSettings,
    sinks: Vec<SinkSettings>,
    isolation: Isolation,
) -> Vec<SubscriptionSettings> {
    let own = |sink: SinkSettings| {
        let mut source = source.clone();
        source.destination_id = format!("{}-{}", source.destination_id, sink.name);
        source.connection_id = format!("{}-{}", source.connection_id, sink.name);
        SubscriptionSettings { source, sinks: vec![sink] }
    };
    match isolation {
        Isolation::Mirror => sinks.into_iter().map(own).collect(),
        Isolation::Shared => vec![SubscriptionSettings { source, sinks }],
    }
}

fn check_filter(diagnostics: &mut Diagnostics, filter: &str) {
    const KEY: &str = "log.filter";
    let levels = format!("write {}", logging::LEVELS.join(", "));
    match logging::check(filter) {
        Err(FilterError::Empty) => diagnostics.refuse(KEY, format!("is empty: {levels}")),
        Err(FilterError::NoLevel(word)) => {
            let meant = suggest::did_you_mean(&word, logging::LEVELS);
            diagnostics.refuse(KEY, format!("`{word}` is not a level: {levels}{meant}"));
        }
        Err(FilterError::Unreadable(why)) => {
            diagnostics.refuse(KEY, format!("`{filter}` is not understood: {why}"))
        }
        Ok(()) if logging::is_silent(filter) => {
            let message =
                format!("`{filter}` logs nothing of the bridge: begin with a level, `info,{filter}`");
            diagnostics.warn(KEY, message);
        }
        Ok(()) => {}
    }
}

fn check_pointers(diagnostics: &mut Diagnostics, pointers: &[String]) {
    if pointers.is_empty() {
        diagnostics.refuse("event.keys", "is empty: name at least one JSON pointer, such as `/md5_email`");
    }
    for pointer in pointers {
        let escapes = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if !pointer.starts_with('/') || !escapes {
            // JSONPath, jq and most programs write it like this.
            let path = pointer.trim_start_matches(['$', '.', '/']);
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            let form = match !path.is_empty() && path.chars().all(is_plain) {
                true => format!("`/{}`", path.replace('.', "/")),
                false => "`/member` or `/member/member`, with `~1` for / and `~0` for ~".to_owned(),
            };
            diagnostics.refuse("event.keys", format!("`{pointer}` is not a JSON pointer: write {form}"));
        }
    }
}

/// Returns `None` if the table, or that of its sink, has a mistake.
fn dead_letters(reader: &mut ConfigReader, sink: Option<Option<SinkSettings>>) -> Option<DeadLetterSettings> {
    let raw: DeadLettersConfig = reader.read("dead_letters");
    let sink = match sink {
        Some(None) => return None,
        sink => sink.flatten(),
    };
    reader.accept("dead_letters", |diagnostics| dead_letter::config::check(&raw, sink, diagnostics))
}

/// Refuses two users of one place. A directory is locked by the sink that writes into it. Nobody can want a
/// topic that gets every event twice, or dead letters among events.
fn check_destinations(
    diagnostics: &mut Diagnostics,
    sinks: &[SinkSettings],
    dead_letters: Option<&DeadLetterSettings>,
) {
    let letters = dead_letters.map(|letters| {
        let table = match &letters.place {
            DeadLetterPlace::Files(_) => "dead_letters".to_owned(),
            DeadLetterPlace::Sink(sink) => join("dead_letters", &sink.name),
        };
        (table, letters.destination())
    });
    let places = sinks.iter().map(|sink| (join("sinks", &sink.name), sink.factory.destination()));
    let ids = sinks.iter().map(|sink| (join("sinks", &sink.name), sink.factory.deduplication()));
    refuse_shared(diagnostics, &places.chain(letters).collect::<Vec<_>>());
    refuse_shared(diagnostics, &ids.collect::<Vec<_>>());
}

fn refuse_shared(diagnostics: &mut Diagnostics, all: &[(String, Option<SinkDestination>)]) {
    for (n, (key, destination)) in all.iter().enumerate() {
        let Some(destination) = destination else { continue };
        let same = |(_, earlier): &&(String, Option<SinkDestination>)| earlier.as_ref() == Some(destination);
        if let Some((other, _)) = all.iter().take(n).find(same) {
            diagnostics.refuse(
                join(key, destination.option),
                format!("{} is that of {other} too: give each its own", destination.place),
            );
        }
    }
}
