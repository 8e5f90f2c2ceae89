//! Finds out which options have changed between two readings of a configuration, secrets included, without keeping any
//! value.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use figment::value::Value;

use super::key_path::join;

/// What a file and variables set: a hash of each value, by the full key of its option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenOptions(BTreeMap<String, u64>);

impl GivenOptions {
    pub(super) fn of(root: &Value) -> Self {
        let mut given = Self::default();
        given.note("", root);
        given
    }

    fn note(&mut self, key: &str, value: &Value) {
        match value {
            Value::Dict(_, table) if !table.is_empty() => {
                table.iter().for_each(|(name, value)| self.note(&join(key, name), value));
            }
            value => {
                let mut hasher = DefaultHasher::new();
                // A value of figment always has a form in JSON.
                serde_json::to_string(value).unwrap_or_default().hash(&mut hasher);
                self.0.insert(key.to_owned(), hasher.finish());
            }
        }
    }

    /// Returns the options that are not the same in both, in order: those that have another value, and those that only
    /// one of them sets.
    pub fn changed<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let keys = self.0.keys().chain(other.0.keys().filter(|key| !self.0.contains_key(*key)));
        let mut changed: Vec<&str> =
            keys.filter(|key| self.0.get(*key) != other.0.get(*key)).map(String::as_str).collect();
        changed.sort_unstable();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, PASSWORD, load_text};
    use super::*;

    fn given(options: &str, env: &[(&str, &str)]) -> GivenOptions {
        load_text(&format!("{GOOD}{options}"), env).unwrap().given
    }

    #[test]
    fn what_changed_is_found_wherever_it_is_set() {
        let before = given("[log]\nfilter = \"info\"\n[event]\nkeys = [\"/a\"]", &[]);
        assert_eq!(before.changed(&before), [""; 0]);
        let after = given("[event]\nkeys = [\"/a\", \"/b\"]\npartitions = 3", &[]);
        assert_eq!(before.changed(&after), ["event.keys", "event.partitions", "log.filter"]);
        assert_eq!(after.changed(&before), before.changed(&after));
        let by_variable =
            given("[log]\nfilter = \"info\"\n[event]\nkeys = [\"/a\"]", &[("BRIDGE__SOURCE__PREFETCH", "7")]);
        assert_eq!(before.changed(&by_variable), ["source.prefetch"]);
    }

    #[test]
    fn a_secret_that_changed_is_found_and_not_kept() {
        let (before, after) =
            (given("", &[]), given("", &[("BRIDGE__SOURCE__PASSWORD", "fedcba9876543210fedcba9876543210")]));
        assert_eq!(before.changed(&after), ["source.password"]);
        assert!(!format!("{before:?}").contains(PASSWORD));
    }
}
