//! `[dead_letters]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sink::file::config::{Problem, RotateConfig};
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
    /// Above 0, at most 1.
    pub max_share: f64,
    /// Bytes; `None` is no limit.
    pub max_total: Option<u64>,
    /// Both more than zero.
    pub rotate: RotateConfig,
}

/// Checks the table `[dead_letters]`.
///
/// # Errors
/// Every mistake, each with its key inside the table and what is allowed.
pub fn check(config: &DeadLettersConfig) -> Result<DeadLetterSettings, Vec<Problem>> {
    let mut problems = Vec::new();
    if config.max_run == 0 {
        problems.push(("max_run", "must be at least 1".to_owned()));
    }
    if !(config.max_share > 0.0 && config.max_share <= 1.0) {
        problems.push(("max_share", format!("{} is not above 0 and at most 1", config.max_share)));
    }
    config.rotate.check(config.max_total, &mut problems);
    match &config.directory {
        Some(directory) if problems.is_empty() => Ok(DeadLetterSettings {
            directory: directory.clone(),
            max_run: config.max_run,
            max_share: config.max_share,
            max_total: config.max_total.map(|size| size.0),
            rotate: config.rotate,
        }),
        Some(_) => Err(problems),
        None => {
            problems.push(("directory", "is missing".to_owned()));
            Err(problems)
        }
    }
}
