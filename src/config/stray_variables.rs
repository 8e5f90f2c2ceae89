//! Finds variables that look like settings and are none: `BRIDGE_SOURCE__URL`, `bridge__source__url`. If the
//! bridge ignored them silently, a default that nobody wanted would stay in effect.
//!
//! A variable is refused if it can have no other meaning. For the others there is a warning: names with
//! single underscores may belong to another program, and so may names that match no option (.NET's
//! `BRIDGE_Log__Level`). There is neither an error nor a warning for the variables that Kubernetes injects
//! for a service called `bridge` or `bridge-source` (`BRIDGE_SERVICE_HOST`,
//! `BRIDGE_SOURCE_PORT_61613_TCP_ADDR`).

use super::key_path::{DATA_VARIABLE, FILE_VARIABLE, PREFIX, SECTIONS, variable};
use super::suggest::squeezed;

/// A variable that is not read but seems to be meant for the bridge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stray {
    /// The name to write instead; `None` if no setting has such a name.
    pub(super) meant: Option<String>,
    /// Whether the variable can have no other meaning.
    pub(super) is_certain: bool,
}

/// Returns whether `name` may be such a variable: a quick check before [`look`].
pub(super) fn is_candidate(name: &str) -> bool {
    !name.starts_with(PREFIX) && !OTHERS.contains(&name) && squeezed(name).contains("BRIDGE_")
}

/// The variables of the bridge that are not options.
const OTHERS: [&str; 2] = [FILE_VARIABLE, DATA_VARIABLE];

/// Tables in which users choose names, or names follow from their choice: `BRIDGE_SINKS__EVENTS__TOPIC`.
const FREE_SECTIONS: &[&str] = &["sinks", "dead_letters"];

/// Finds the setting that the variable `name` is meant for; `options` are the full keys of all options.
pub(super) fn look(name: &str, options: &[String]) -> Option<Stray> {
    let words = squeezed(name);
    let words = words.strip_prefix("ATDATA_").unwrap_or(&words);
    let rest = words.strip_prefix("BRIDGE_")?;
    if is_service(rest) || OTHERS.contains(&name) || name.starts_with(PREFIX) {
        return None;
    }
    if let Some(meant) = OTHERS.into_iter().find(|other| *other == words) {
        return Some(Stray { meant: Some(meant.to_owned()), is_certain: false });
    }
    let begins_with =
        |section: &&str| rest.strip_prefix(&squeezed(section)).is_some_and(|rest| rest.starts_with('_'));
    let is_in = |sections: &[&str]| sections.iter().any(begins_with);
    let option = options.iter().find(|option| squeezed(&variable(option)) == words);
    let has_double = name.contains("__");
    match option {
        Some(option) => Some(Stray { meant: Some(variable(option)), is_certain: has_double }),
        None if !has_double => None,
        None if is_in(FREE_SECTIONS) => Some(Stray { meant: Some(with_prefix(name)), is_certain: true }),
        None => is_in(SECTIONS).then_some(Stray { meant: None, is_certain: false }),
    }
}

/// Returns the same name with the right prefix.
fn with_prefix(name: &str) -> String {
    let upper = name.to_uppercase();
    let rest = upper.split_once("BRIDGE").map_or(upper.as_str(), |(_, rest)| rest);
    let rest = rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    format!("{PREFIX}{rest}")
}

/// Returns whether Kubernetes, or a link in Docker, injects such a name for a service.
fn is_service(name: &str) -> bool {
    let words: Vec<_> = name.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_protocol = |word: &str| ["TCP", "UDP", "SCTP"].contains(&word);
    match words.as_slice() {
        [.., "SERVICE", "HOST"] | [.., "PORT"] => true,
        [.., "PORT", number, protocol] if is_number(number) && is_protocol(protocol) => true,
        [.., "PORT", number, protocol, "PROTO" | "ADDR"] => is_number(number) && is_protocol(protocol),
        // Kubernetes also injects `BRIDGE_SERVICE_PORT_<name of the port>`.
        words => words.windows(2).any(|pair| pair == ["SERVICE", "PORT"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(name: &str) -> Option<(Option<String>, bool)> {
        let options = ["source.url", "source.tls.ca_file", "log.filter", "admin.listen"].map(str::to_owned);
        let found = look(name, &options);
        assert!(found.is_none() || is_candidate(name), "{name}");
        found.map(|stray| (stray.meant, stray.is_certain))
    }

    #[test]
    fn what_can_mean_nothing_else_is_told_from_what_can() {
        for (name, should, is_certain) in [
            ("BRIDGE_SOURCE__URL", "BRIDGE__SOURCE__URL", true),
            ("bridge__source__url", "BRIDGE__SOURCE__URL", true),
            ("Bridge__Source__Tls__Ca_File", "BRIDGE__SOURCE__TLS__CA_FILE", true),
            ("BRIDGE_SOURCE__TLS_CA_FILE", "BRIDGE__SOURCE__TLS__CA_FILE", true),
            ("BRIDGE_Log__Filter", "BRIDGE__LOG__FILTER", true),
            ("BRIDGE_SINKS__EVENTS__TOPIC", "BRIDGE__SINKS__EVENTS__TOPIC", true),
            ("bridge__dead_letters__x", "BRIDGE__DEAD_LETTERS__X", true),
            ("ATDATA_BRIDGE__SOURCE__URL", "BRIDGE__SOURCE__URL", true),
            ("BRIDGE_SOURCE_URL", "BRIDGE__SOURCE__URL", false),
            ("BRIDGE_SOURCE_TLS_CA_FILE", "BRIDGE__SOURCE__TLS__CA_FILE", false),
            ("bridge.log.filter", "BRIDGE__LOG__FILTER", false),
            ("bridge_config", "BRIDGE_CONFIG", false),
            ("bridge_data_directory", "BRIDGE_DATA_DIRECTORY", false),
        ] {
            assert_eq!(meant(name), Some((Some(should.to_owned()), is_certain)), "{name}");
        }
    }

    #[test]
    fn what_leads_to_no_option_may_be_another_program_s() {
        for name in
            ["BRIDGE_Log__Level", "BRIDGE_Source__Name", "bridge__source__perfetch", "BRIDGE_EVENT__BUS__URL"]
        {
            assert_eq!(meant(name), Some((None, false)), "{name}");
        }
    }

    #[test]
    fn what_others_set_is_left_alone() {
        for name in [
            "BRIDGE",
            "BRIDGE_CONFIG",
            "BRIDGE_DATA_DIRECTORY",
            "BRIDGE__SOURCE__URL",
            "BRIDGE_SERVICE_HOST",
            "BRIDGE_SERVICE_PORT",
            "BRIDGE_SERVICE_PORT_HTTP_METRICS",
            "BRIDGE_PORT",
            "BRIDGE_PORT_9464_TCP",
            "BRIDGE_PORT_9464_TCP_ADDR",
            "BRIDGE_SOURCE_SERVICE_HOST",
            "BRIDGE_SOURCE_PORT_61613_TCP_PROTO",
            "BRIDGE_SOURCE__URL_SERVICE_HOST",
            "BRIDGE_ADMIN_PORT",
            "ATDATA_BRIDGE_SERVICE_HOST",
            "BRIDGE_SOURCE_CODE",
            "BRIDGE_VERSION",
            "BRIDGE_Database__Url",
            "SEABRIDGE__SOURCE__URL",
            "PATH",
        ] {
            assert_eq!(meant(name), None, "{name}");
        }
    }
}
