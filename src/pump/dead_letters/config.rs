//! `[dead_letters]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::journal::Rotation;
use crate::journal::config::{Problem, RotateConfig};
use crate::units::Size;

/// Where events go that can never be delivered, and how many may.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLettersConfig {
    /// Where the dead letters are kept, one JSON object a line; made, with mode 0700, if it is missing.
    /// Required.
    #[schemars(example = &"/var/lib/atdata-bridge/dead-letters")]
    pub directory: Option<PathBuf>,
    /// Hold when so many events in a row are dead letters: then the fault is in a setting, not in them.
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
    pub directory: PathBuf,
    /// At least 1.
    pub max_run: u32,
    /// Between 0 and 1.
    pub max_share: f64,
    /// Bytes.
    pub max_total: Option<u64>,
    /// When a file is finished.
    pub rotation: Rotation,
}

/// Checks the table `[dead_letters]`.
///
/// # Errors
/// Every mistake, each with its key inside the table and what is allowed.
pub fn check(config: &DeadLettersConfig) -> Result<DeadLetterSettings, Vec<Problem>> {
    let mut problems = Vec::new();
    let directory = config.directory.clone().filter(|path| !path.as_os_str().is_empty());
    if directory.is_none() {
        problems.push(("directory", "is missing: say where dead letters are kept".to_owned()));
    }
    if config.max_run == 0 {
        problems.push(("max_run", "must be at least 1".to_owned()));
    }
    if !(0.0..=1.0).contains(&config.max_share) {
        let message = format!("`{}` is no share: a number between 0 and 1, such as 0.1", config.max_share);
        problems.push(("max_share", message));
    }
    let rotation = config.rotate.check(&mut problems);
    config.rotate.check_total(config.max_total, &mut problems);
    match directory {
        Some(directory) if problems.is_empty() => Ok(DeadLetterSettings {
            directory,
            max_run: config.max_run,
            max_share: config.max_share,
            max_total: config.max_total.map(|size| size.0),
            rotation,
        }),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(config: &DeadLettersConfig) -> Vec<&'static str> {
        check(config).err().unwrap_or_default().into_iter().map(|(key, _)| key).collect()
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
