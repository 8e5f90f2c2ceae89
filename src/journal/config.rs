//! The options that everything built on a journal shares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rotation::Rotation;
use crate::diagnostics::Diagnostics;
use crate::units::{Period, Size};

/// How a finished file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileCompression {
    /// Not at all: `.jsonl`.
    #[default]
    None,
    /// `.jsonl.zst`, one frame.
    Zstd,
    /// `.jsonl.gz`, one member.
    Gzip,
}

/// When a file is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateConfig {
    /// At this size, before compression.
    pub size: Size,
    /// At this age, also when nothing more is written.
    pub age: Period,
}

impl Default for RotateConfig {
    fn default() -> Self {
        Self { size: Size::mib(128), age: Period::secs(3600) }
    }
}

impl RotateConfig {
    /// The checked rotation; what is wrong is added to `findings`.
    pub(crate) fn check(&self, findings: &mut Diagnostics) -> Rotation {
        if self.size.0 == 0 {
            findings.refuse("rotate.size", "must be at least 1 byte, such as `128MiB`");
        }
        if self.age < Period::secs(1) {
            findings.refuse("rotate.age", format!("`{}` is too short: at least `1s`", self.age));
        }
        Rotation { size: self.size.0, age: self.age.0 }
    }

    /// A limit on all files together must leave room for one whole file, or it would hold for ever.
    pub(crate) fn check_total(&self, max_total: Option<Size>, findings: &mut Diagnostics) {
        if let Some(total) = max_total.filter(|total| *total < self.size) {
            let message = format!(
                "`{total}` is less than one file (rotate.size is `{}`): raise it or unset it",
                self.size
            );
            findings.refuse("max_total", message);
        }
    }
}
