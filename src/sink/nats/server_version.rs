//! Warns of the versions of nats-server that are known to lose acknowledged messages of a stream.

use crate::finding::{Finding, codes};

/// Versions from the first on and below the second have the fault.
const FAULTY: [[[u64; 3]; 2]; 2] = [[[0, 0, 0], [2, 10, 23]], [[2, 12, 0], [2, 12, 3]]];

/// Returns a warning if the server with this version can lose what it has acknowledged.
pub(super) fn warning(version: &str) -> Option<Finding> {
    let parsed = parse(version)?;
    let [_, fixed] = FAULTY.into_iter().find(|[first, fixed]| (*first..*fixed).contains(&parsed))?;
    let fixed = fixed.map(|number| number.to_string()).join(".");
    let message = format!(
        "nats-server {version} is known to lose messages that it has acknowledged: update it to {fixed} or a later \
         version, but not to one of 2.12.0 to 2.12.2"
    );
    Some(Finding::warning(codes::NATS_FAULTY_VERSION, message))
}

/// Returns the numbers of a version such as `2.12.1` or `2.12.1-RC.2`.
fn parse(version: &str) -> Option<[u64; 3]> {
    let release = version.trim_start_matches('v').split(['-', '+']).next()?;
    let numbers: Option<Vec<u64>> = release.split('.').map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_lose_messages_are_told() {
        for (version, fixed) in [
            ("2.9.25", "2.10.23"),
            ("2.10.22", "2.10.23"),
            ("v2.10.9", "2.10.23"),
            ("2.12.0-RC.1", "2.12.3"),
            ("2.12.2", "2.12.3"),
        ] {
            let found = warning(version).unwrap_or_else(|| panic!("{version}"));
            assert!(found.is_warning && found.message.contains(&format!("update it to {fixed}")), "{found}");
        }
    }

    #[test]
    fn other_versions_are_good() {
        for version in
            ["2.10.23", "2.10.100", "2.11.0", "2.12.3", "2.12.10", "2.15.2", "3.0.0", "", "dev", "2.12"]
        {
            assert_eq!(warning(version), None, "{version}");
        }
    }
}
