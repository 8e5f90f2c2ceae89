//! Names options: the key `source.url`, the variable `BRIDGE__SOURCE__URL`, the tables at the top.

/// What the names of all settings begin with. The double underscore keeps apart what Kubernetes injects
/// for a service called `bridge` (`BRIDGE_PORT_…`).
pub const PREFIX: &str = "BRIDGE__";

/// The variable that names the configuration file where `--config` does not.
pub const FILE_VARIABLE: &str = "BRIDGE_CONFIG";

/// The tables at the top of a configuration.
pub(super) const SECTIONS: &[&str] =
    &["source", "event", "sinks", "dead_letters", "admin", "log", "shutdown"];

/// The full name of the variable for an option such as `source.url`.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// `path` and `name` with a dot between them.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
