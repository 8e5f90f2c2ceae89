//! `[dead_letters]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostics;
use crate::journal::Rotation;
use crate::journal::config::RotateConfig;
use crate::sink::factory::{SinkDestination, SinkSettings};
use crate::units::Size;

/// Where events go that can never be delivered, and how many may.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLettersConfig {
    /// Where the dead letters are kept, one JSON object a line; made, with mode 0700, if it is missing.
    /// Required, or a table `[dead_letters.<sink>]`: they go where that sink writes instead, such as a topic
    /// of their own. It takes what it does not say itself from `[sinks.<sink>]`.
    #[schemars(example = &"/var/lib/atdata-bridge/dead-letters")]
    pub directory: Option<PathBuf>,
    /// Hold when so many events in a row are dead letters: then the fault is in a setting, not in them.
    #[schemars(range(min = 1))]
    pub max_run: u32,
    /// Hold when more than this share of the last 10,000 events are dead letters: between 0 and 1.
    pub max_share: f64,
    /// Hold when all dead letters together reach this size. Nothing is ever deleted.
    pub max_total: Option<Size>,
    /// When a file is finished and the next one begun.
    pub rotate: RotateConfig,
}

impl Default for DeadLettersConfig {
    fn default() -> Self {
        Self {
            directory: None,
            max_run: 100,
            max_share: 0.1,
            max_total: Some(Size::mib(1024)),
            rotate: RotateConfig::default(),
        }
    }
}

/// The checked settings of the dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetterSettings {
    /// Where they are kept.
    pub place: DeadLetterPlace,
    /// At least 1.
    pub max_run: u32,
    /// Between 0 and 1.
    pub max_share: f64,
}

/// Where dead letters are kept.
#[derive(Clone, Debug)]
pub enum DeadLetterPlace {
    /// In a directory.
    Files(FilesSettings),
    /// Where a sink of any kind writes.
    Sink(SinkSettings),
}

/// The checked settings of dead letters in files.
#[derive(Clone, Debug)]
pub struct FilesSettings {
    /// Where the files go.
    pub directory: PathBuf,
    /// Bytes.
    pub max_total: Option<u64>,
    /// When a file is finished.
    pub rotation: Rotation,
}

impl DeadLetterSettings {
    /// What nobody else may write to.
    pub fn destination(&self) -> Option<SinkDestination> {
        match &self.place {
            DeadLetterPlace::Files(files) => Some(SinkDestination::directory(&files.directory)),
            DeadLetterPlace::Sink(sink) => sink.factory.destination(),
        }
    }
}

/// Checks the table `[dead_letters]`; `sink` is the sink that a table in it describes. The answer counts only
/// if nothing was found wrong.
pub fn check(
    config: &DeadLettersConfig,
    sink: Option<SinkSettings>,
    findings: &mut Diagnostics,
) -> Option<DeadLetterSettings> {
    if config.max_run == 0 {
        findings.refuse("max_run", "must be at least 1");
    }
    if !(0.0..=1.0).contains(&config.max_share) {
        let message = format!("`{}` is no share: a number between 0 and 1, such as 0.1", config.max_share);
        findings.refuse("max_share", message);
    }
    let place = match sink {
        Some(sink) if config.directory.is_some() => {
            findings.refuse("directory", format!("dead_letters.{} is set too: keep one of them", sink.name));
            return None;
        }
        Some(sink) => DeadLetterPlace::Sink(sink),
        None => DeadLetterPlace::Files(files(config, findings)?),
    };
    Some(DeadLetterSettings { place, max_run: config.max_run, max_share: config.max_share })
}

fn files(config: &DeadLettersConfig, findings: &mut Diagnostics) -> Option<FilesSettings> {
    let directory = findings.required_path("directory", config.directory.as_deref(), "where they are kept");
    let rotation = config.rotate.check(findings);
    config.rotate.check_total(config.max_total, findings);
    Some(FilesSettings { directory: directory?, max_total: config.max_total.map(|size| size.0), rotation })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(config: &DeadLettersConfig) -> Vec<String> {
        let mut findings = Diagnostics::default();
        check(config, None, &mut findings);
        findings.keys().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn the_defaults_need_a_directory_only_and_every_mistake_is_told() {
        assert_eq!(keys(&DeadLettersConfig::default()), ["directory"]);
        let good = DeadLettersConfig { directory: Some("/data".into()), ..DeadLettersConfig::default() };
        assert_eq!(keys(&good), [""; 0]);
        let bad = DeadLettersConfig { max_run: 0, max_share: f64::NAN, max_total: Some(Size(1)), ..good };
        assert_eq!(keys(&bad), ["max_run", "max_share", "max_total"]);
    }
}
