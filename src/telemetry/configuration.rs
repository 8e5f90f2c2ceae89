//! Keeps the configuration in effect, as people may see it.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// An option with the value that is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownOption {
    /// The full key of the option, such as `source.prefetch`.
    pub key: String,
    /// The value as a configuration file has it, a secret masked; `None` if it is not set.
    pub value: Option<String>,
    /// Where the value came from.
    pub origin: String,
}

/// All options in effect. Empty until they are known.
#[derive(Debug, Default)]
pub struct ShownConfiguration(Mutex<Vec<ShownOption>>);

impl ShownConfiguration {
    /// Replaces all options by those of a new configuration.
    pub fn set(&self, options: Vec<ShownOption>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = options;
    }

    /// Replaces the option with the same key.
    pub fn change(&self, option: ShownOption) {
        let mut options = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        options.iter_mut().filter(|known| known.key == option.key).for_each(|known| *known = option.clone());
    }

    /// Returns all options; none until they are known.
    pub fn all(&self) -> Vec<ShownOption> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
