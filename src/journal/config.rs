//! Defines the options that all users of a journal share: compression and rotation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostics;
use crate::units::{Period, Size};

/// How a finished file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileCompression {
    /// Not at all, in files with the ending `.jsonl`.
    #[default]
    None,
    /// With zstd, one frame in each `.jsonl.zst`.
    Zstd,
    /// With gzip, one member in each `.jsonl.gz`.
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
    /// Checks the table and adds mistakes to `diagnostics`. A limit on all files together that is smaller than
    /// one file is refused: no later write could ever succeed.
    pub(crate) fn check(&self, max_total: Option<Size>, diagnostics: &mut Diagnostics) {
        if self.size.0 == 0 {
            diagnostics.refuse("rotate.size", "must be at least 1 byte, such as `128MiB`");
        }
        if self.age < Period::secs(1) {
            diagnostics.refuse("rotate.age", format!("`{}` is too short: at least `1s`", self.age));
        }
        if let Some(total) = max_total.filter(|total| *total < self.size) {
            let message = format!(
                "`{total}` is less than one file (rotate.size is `{}`): raise it or unset it",
                self.size
            );
            diagnostics.refuse("max_total", message);
        }
    }
}
