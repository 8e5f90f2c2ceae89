//! Describes an option as it is in effect.

use super::diagnostic::Origin;

/// An option as it is in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// Such as `source.prefetch`.
    pub key: String,
    /// What it is; `Null` if it is not set. A secret is masked.
    pub value: serde_json::Value,
    /// Where it came from.
    pub origin: Origin,
}
