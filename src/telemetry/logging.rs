//! Sets up the log: one line per event on standard error, for people or machines.

use std::ffi::OsStr;
use std::io::IsTerminal;

use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

/// The sinks log the same errors with better words. The NATS client would also log subjects, which may hold a
/// key (D14). A filter that names this client wins.
const QUIET: &str = "async_nats=off";

/// The words that set how much is logged.
pub const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Replaces the filter of the log while the process runs.
pub struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogFilter {
    /// Replaces the filter with one that has no mistake ([`check`]).
    ///
    /// # Errors
    /// The log has ended.
    pub fn set(&self, filter: &str) -> Result<(), reload::Error> {
        self.0(with_quiet(filter))
    }
}

fn with_quiet(filter: &str) -> EnvFilter {
    EnvFilter::new(format!("{QUIET},{filter}"))
}

/// Starts logging, once per process; a second call changes nothing. `filter` has the syntax of
/// `tracing_subscriber::EnvFilter`. With `json`, each line is one JSON object.
pub fn start(filter: &str, json: bool) -> LogFilter {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(with_quiet(filter))
        .with_writer(std::io::stderr)
        // Internal errors would also go to standard error, and would panic when that is closed.
        .log_internal_errors(false)
        .with_ansi(is_coloured(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref()))
        .with_target(false);
    // Starting fails only if a logger is installed already, for example by a test.
    if json {
        let lines = lines.json().flatten_event(true).with_filter_reloading();
        let handle = lines.reload_handle();
        let _already_started = lines.finish().try_init();
        LogFilter(Box::new(move |filter| handle.reload(filter)))
    } else {
        let lines = lines.with_filter_reloading();
        let handle = lines.reload_handle();
        let _already_started = lines.finish().try_init();
        LogFilter(Box::new(move |filter| handle.reload(filter)))
    }
}

/// Whether to write colours: to a terminal, unless the user wants none (no-color.org).
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// What is wrong with a log filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterError {
    Empty,
    /// A word that is no level. `EnvFilter` would take it for a module name and log only that module.
    NoLevel(String),
    /// `EnvFilter` can't read the filter; holds its error text.
    Unreadable(String),
}

/// Checks a filter, because `EnvFilter` alone accepts filters that nobody can mean.
///
/// # Errors
/// The mistake in the filter.
pub fn check(filter: &str) -> Result<(), FilterError> {
    if filter.split(',').all(|part| part.trim().is_empty()) {
        return Err(FilterError::Empty);
    }
    let parts = filter.split(',').map(str::trim);
    let is_level = |word: &str| {
        LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
            || matches!(word.as_bytes(), [b'0'..=b'5'])
    };
    let mut words = parts.filter(|part| !part.is_empty() && !part.contains(['=', '[']));
    if let Some(word) = words.find(|word| !is_level(word)) {
        return Err(FilterError::NoLevel(word.to_owned()));
    }
    EnvFilter::try_new(filter).map(drop).map_err(|error| FilterError::Unreadable(error.to_string()))
}

/// Returns whether a valid filter logs nothing of the bridge, although it does not say `off`.
pub fn is_silent(filter: &str) -> bool {
    let is_ours =
        |part: &str| !part.contains('=') || part.trim().starts_with("atdata_bridge") || part.contains('[');
    !filter.split(',').any(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_user_wants_them() {
        let with = |no_color: &str| is_coloured(true, Some(OsStr::new(no_color)));
        assert!(is_coloured(true, None) && with(""));
        assert!(!with("1") && !with("0") && !is_coloured(false, None));
    }

    #[test]
    fn levels_and_directives_are_understood() {
        for filter in [
            "info",
            "WARN",
            "off",
            "3",
            "info,atdata_bridge::source=debug",
            "atdata_bridge=debug",
            "info,async_nats=warn",
            "info,[lane{sink=file}]=debug",
        ] {
            assert_eq!(check(filter), Ok(()), "{filter}");
            assert!(!is_silent(filter), "{filter}");
        }
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for word in ["warning", "verbose", "all", "6", "atdata_bridge", "true"] {
            assert_eq!(check(word), Err(FilterError::NoLevel(word.to_owned())));
            assert_eq!(check(&format!("info,{word}")), Err(FilterError::NoLevel(word.to_owned())));
        }
        for empty in ["", " ", ",", " , "] {
            assert_eq!(check(empty), Err(FilterError::Empty), "{empty:?}");
        }
        for unreadable in ["x=loud", "info, x=warn ", "[=info"] {
            assert!(matches!(check(unreadable), Err(FilterError::Unreadable(_))), "{unreadable}");
        }
    }

    #[test]
    fn a_filter_for_others_alone_is_silent() {
        assert!(is_silent("rdkafka=debug"));
        assert!(!is_silent("rdkafka=debug,info"));
    }
}
