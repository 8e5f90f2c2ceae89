//! Defines the table `[dead_letters]`, as the user writes it, and checks it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostics;
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
    #[schemars(range(min = 0, max = 1))]
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

/// The checked settings of the table `[dead_letters]`.
#[derive(Clone, Debug)]
pub struct DeadLetterSettings {
    /// The directory or the sink in which dead letters are kept.
    pub place: DeadLetterPlace,
    /// The most dead letters in a row before the bridge holds; at least 1.
    pub max_run: u32,
    /// The largest share of dead letters among the last 10,000 events, between 0 and 1.
    pub max_share: f64,
}

/// The place in which dead letters are kept.
#[derive(Clone, Debug)]
pub enum DeadLetterPlace {
    /// In files, as JSON lines in a directory.
    Files(FilesSettings),
    /// In the destination of a sink of any kind.
    Sink(SinkSettings),
}

/// The checked settings of dead letters in files.
#[derive(Clone, Debug)]
pub struct FilesSettings {
    pub directory: PathBuf,
    /// The largest total size of all files, in bytes; `None` for no limit.
    pub max_total: Option<u64>,
    /// The size and the age at which a file is finished.
    pub rotation: RotateConfig,
}

impl DeadLetterSettings {
    /// Returns the place that no sink may write to, or `None` if sharing it does no harm.
    pub fn destination(&self) -> Option<SinkDestination> {
        match &self.place {
            DeadLetterPlace::Files(files) => Some(SinkDestination::directory(&files.directory)),
            DeadLetterPlace::Sink(sink) => sink.factory.destination(),
        }
    }
}

/// Checks the table `[dead_letters]`. `sink` is the sink that a table inside it describes. The result is
/// valid only if `diagnostics` contains no error.
pub fn check(
    config: &DeadLettersConfig,
    sink: Option<SinkSettings>,
    diagnostics: &mut Diagnostics,
) -> Option<DeadLetterSettings> {
    if config.max_run == 0 {
        diagnostics.refuse("max_run", "must be at least 1");
    }
    if !(0.0..=1.0).contains(&config.max_share) {
        let message = format!("`{}` is no share: a number between 0 and 1, such as 0.1", config.max_share);
        diagnostics.refuse("max_share", message);
    }
    let place = match sink {
        Some(sink) if config.directory.is_some() => {
            diagnostics
                .refuse("directory", format!("dead_letters.{} is set too: keep one of them", sink.name));
            return None;
        }
        Some(sink) => DeadLetterPlace::Sink(sink),
        None => DeadLetterPlace::Files(files(config, diagnostics)?),
    };
    Some(DeadLetterSettings { place, max_run: config.max_run, max_share: config.max_share })
}

fn files(config: &DeadLettersConfig, diagnostics: &mut Diagnostics) -> Option<FilesSettings> {
    let directory =
        diagnostics.required_path("directory", config.directory.as_deref(), "where they are kept");
    config.rotate.check(config.max_total, diagnostics);
    let max_total = config.max_total.map(|size| size.0);
    Some(FilesSettings { directory: directory?, max_total, rotation: config.rotate })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(config: &DeadLettersConfig) -> Vec<String> {
        let mut diagnostics = Diagnostics::default();
        check(config, None, &mut diagnostics);
        diagnostics.keys().into_iter().map(str::to_owned).collect()
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
