//! Reads the configuration again at SIGHUP: applies what can change while the bridge runs, and names what needs a
//! restart.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::config::shown;
use crate::config::{GivenOptions, Loaded, SinkRegistry, load};
use crate::telemetry::Telemetry;
use crate::telemetry::logging::LogFilter;

/// The only option that changes in place.
const FILTER: &str = "log.filter";

/// The configuration with which the bridge runs, and where it can be read again.
pub(super) struct Reload {
    pub(super) kinds: SinkRegistry,
    pub(super) file: Option<PathBuf>,
    pub(super) env: Vec<(String, String)>,
    /// What was set at the start.
    pub(super) given: GivenOptions,
    pub(super) filter: String,
    pub(super) log: LogFilter,
    /// Where the configuration in effect is shown.
    pub(super) telemetry: Arc<Telemetry>,
}

impl Reload {
    /// Reads the configuration again, and logs what that changes. Reads in another thread, because a file may block: a
    /// pipe, or one of a network file system that hangs.
    pub(super) async fn reload(&mut self) {
        let (kinds, file, env) = (self.kinds.clone(), self.file.clone(), self.env.clone());
        let read = spawn_blocking(move || load(&kinds, file.as_deref(), env.into_iter()));
        match read.await {
            Err(error) => tracing::error!("SIGHUP: nothing is changed, because reading has failed: {error}"),
            Ok(Ok(loaded)) => self.apply(&loaded),
            Ok(Err(errors)) => {
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
            match self.log.set(filter) {
                Ok(()) => {
                    let changed = loaded.effective.iter().filter(|option| option.key == FILTER);
                    changed.map(shown).for_each(|option| self.telemetry.configuration.change(option));
                    tracing::warn!("SIGHUP: {FILTER} is now `{filter}`");
                }
                Err(error) => tracing::error!("SIGHUP: {FILTER} can't be changed: {error}"),
            }
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
