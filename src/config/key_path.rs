//! Names options: the key `source.url`, the variable `BRIDGE__SOURCE__URL`, the tables at the top.

/// The prefix of all variables that are settings. The double underscore separates them from the variables
/// that Kubernetes injects for a service called `bridge` (`BRIDGE_PORT_…`).
pub const PREFIX: &str = "BRIDGE__";

/// The variable that names the configuration file if `--config` does not.
pub const FILE_VARIABLE: &str = "BRIDGE_CONFIG";

/// The variable that names the directory below which files have their place if no option names another.
pub const DATA_VARIABLE: &str = "BRIDGE_DATA_DIRECTORY";

/// The tables at the top of a configuration.
pub(super) const SECTIONS: &[&str] =
    &["source", "event", "sinks", "dead_letters", "admin", "log", "shutdown"];

/// Returns the full name of the variable for an option such as `source.url`.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// Joins `path` and `name` with a dot.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
