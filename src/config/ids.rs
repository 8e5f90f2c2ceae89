//! Checks AtData's names: namespace, destination id, connection id and the names of sinks.

/// Characters that would give an id another meaning. ActiveMQ uses `.` to separate the parts of a queue's
/// name, `*` and `>` to match several names, and `,` to list several. `/` separates directories in a file
/// name.
const FORBIDDEN: [char; 5] = ['.', '*', '>', ',', '/'];

pub(super) fn check(id: &str) -> Result<(), String> {
    let bad = |c: &char| FORBIDDEN.contains(c) || c.is_whitespace() || c.is_control();
    match id.chars().find(bad) {
        _ if id.is_empty() => Err("is empty".to_owned()),
        Some(c) => Err(format!("{c:?} is not allowed; not allowed are . * > , / and white space")),
        None => Ok(()),
    }
}

/// Splits the name of a queue, such as `main.RTO.acme`, into destination id and namespace. AtData's own
/// examples use the whole name.
pub(super) fn parts_of_queue(name: &str) -> Option<(&str, &str)> {
    let name = ["/queue/", "queue://"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let mut parts = name.split('.');
    let (destination_id, middle, namespace) = (parts.next()?, parts.next()?, parts.next()?);
    let is_queue = middle.eq_ignore_ascii_case("RTO") && parts.next().is_none();
    (is_queue && check(destination_id).is_ok() && check(namespace).is_ok())
        .then_some((destination_id, namespace))
}

/// Turns a host name into a valid id.
pub(super) fn from_host_name(host: &str) -> String {
    host.trim().chars().map(|c| if check(c.encode_utf8(&mut [0; 4])).is_ok() { c } else { '-' }).collect()
}

/// What [`check_sink_name`] accepts, for schemas.
pub(super) const SINK_NAME_PATTERN: &str = "^[a-z0-9](_?[a-z0-9-])*_?$";

/// Checks the name of a sink, which becomes part of ids and of variable names.
pub(super) fn check_sink_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
        && !name.contains("__")
    {
        Ok(())
    } else {
        Err(
            "not the name of a sink: write lower-case letters, digits, `-` and single `_`, a letter or digit first",
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_hold_nothing_with_a_meaning_of_its_own() {
        for id in ["acme", "main-1", "a_b", "7", "straße"] {
            assert_eq!(check(id), Ok(()), "{id}");
        }
        for id in ["", "a.b", "*", "a>", "a,b", "a/b", "a b", "a\t", "a\n", "a\u{a0}b", "\0"] {
            assert!(check(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn the_name_of_a_queue_has_two_ids_in_it() {
        for name in ["main.RTO.acme", "main.rto.acme", "/queue/main.RTO.acme", "queue://main.RTO.acme"] {
            assert_eq!(parts_of_queue(name), Some(("main", "acme")), "{name}");
        }
        for name in ["main", "main.RTO", "main.RTO.acme.x", ".RTO.acme", "main.X.acme", "main.RTO.a>"] {
            assert_eq!(parts_of_queue(name), None, "{name}");
        }
    }

    #[test]
    fn sinks_have_names_that_a_variable_can_have() {
        for name in ["file", "file-2", "a_b", "0"] {
            assert_eq!(check_sink_name(name), Ok(()), "{name}");
        }
        for name in ["", "File", "a.b", "a b", "-a", "_a", "a__b", "ä"] {
            assert!(check_sink_name(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_host_name_becomes_an_id(host in "\\PC{0,20}[a-z]") {
            prop_assert_eq!(check(&from_host_name(&host)), Ok(()));
        }
    }
}
