//! Reads the configuration again at SIGHUP: applies what can change while the bridge runs, and names what needs a
//! restart.

use std::path::Path;

use crate::config::{GivenOptions, Loaded, SinkRegistry, load};
use crate::telemetry::logging::LogFilter;

/// The only option that changes in place.
const FILTER: &str = "log.filter";

/// The configuration with which the bridge runs, and where it can be read again.
pub(super) struct Reload<'a> {
    pub(super) kinds: &'a SinkRegistry,
    pub(super) file: Option<&'a Path>,
    pub(super) env: Vec<(String, String)>,
    /// What was set at the start.
    pub(super) given: GivenOptions,
    pub(super) filter: String,
    pub(super) log: LogFilter,
}

impl Reload<'_> {
    /// Reads the configuration again, and logs what that changes.
    pub(super) fn reload(&mut self) {
        match load(self.kinds, self.file, self.env.iter().cloned()) {
            Ok(loaded) => self.apply(&loaded),
            Err(errors) => {
                for problem in &errors.0 {
                    tracing::error!("SIGHUP: nothing is changed, because of a mistake: {problem}");
                }
            }
        }
    }

    fn apply(&mut self, loaded: &Loaded) {
        let filter = &loaded.settings.log.filter;
        let is_new = *filter != self.filter;
        if is_new {
            self.filter.clone_from(filter);
            if let Err(error) = self.log.set(filter) {
                tracing::error!("SIGHUP: {FILTER} can't be changed: {error}");
            }
            tracing::warn!("SIGHUP: {FILTER} is now `{filter}`");
        }
        let changed = self.given.changed(&loaded.given);
        let others: Vec<&str> = changed.into_iter().filter(|key| *key != FILTER).collect();
        match others.as_slice() {
            [] if is_new => {}
            [] => tracing::info!("SIGHUP: the configuration has not changed"),
            others => tracing::warn!("SIGHUP: restart to apply what changed: {}", others.join(", ")),
        }
    }
}
