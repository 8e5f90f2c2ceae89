//! Describes an option as it is in effect.

use crate::diagnostics::Origin;

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
