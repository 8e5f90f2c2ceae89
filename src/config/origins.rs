//! Tells where the value of each option came from, for texts that name options while the bridge runs.

use std::collections::{BTreeMap, BTreeSet};

use super::Effective;
use crate::diagnostics::Origin;

/// The origin of an option that nobody set and that has no default.
const NOT_SET: &str = "not set";

/// Where the value of each option came from, by its full key, such as `source.tls.ca_file`. It holds no
/// values, so it can't hold a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, String>);

impl Origins {
    /// Collects the origins of every option, and of every table of the file.
    pub(super) fn new(options: &[Effective], origins: &BTreeMap<String, Origin>) -> Self {
        let is_line = |origin: &&Origin| matches!(origin, Origin::File(_));
        let lines = origins.iter().filter(|(_, origin)| is_line(origin));
        let mut places: BTreeMap<_, _> =
            lines.map(|(key, origin)| (key.clone(), origin.to_string())).collect();
        for option in options {
            let place = match option.value.is_null() {
                true => NOT_SET.to_owned(),
                false => option.origin.to_string(),
            };
            places.insert(option.key.clone(), place);
        }
        Self(places)
    }

    /// Returns `text` with the origins of the options that it names, each once:
    /// `check source.url (source.url: bridge.toml:3)`. An origin that the text already contains is not
    /// repeated.
    pub fn annotate(&self, text: &str) -> String {
        appended(text, self.named_in(text))
    }

    /// Does the same for a message about the option `own`, which already gives the origin of `own`. Options
    /// that are not set get no origin, since it would not help.
    pub(super) fn annotate_about(&self, own: &str, text: &str) -> String {
        let others = self.named_in(text).into_iter().filter(|(key, place)| *key != own && *place != NOT_SET);
        appended(text, others.collect())
    }

    /// Returns the options that the text names, in its order, and their origins.
    fn named_in(&self, text: &str) -> Vec<(&str, &str)> {
        let mut seen = BTreeSet::new();
        text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
            .map(|word| word.trim_matches(['.', '-']))
            // A table at the top, such as `source`, is also an ordinary word.
            .filter(|word| word.contains('.'))
            .filter_map(|word| self.place(word))
            .filter(|(key, place)| seen.insert(*key) && !tells(text, key, place))
            .collect()
    }

    /// Returns the option and its origin. If another option gave the value, returns that one: `password_file`
    /// for `password`, `urls` for `url`.
    fn place(&self, key: &str) -> Option<(&str, &str)> {
        let (key, place) = self.0.get_key_value(key)?;
        let instead = [format!("{key}_file"), format!("{key}s")];
        let short = ["_file", "s"].into_iter().filter_map(|end| key.strip_suffix(end).map(str::to_owned));
        let is_set = |place: &str| place != NOT_SET && place != Origin::Default.to_string();
        let other = instead.into_iter().chain(short).filter_map(|other| self.0.get_key_value(&other));
        let mut other = other.filter(|(_, place)| is_set(place));
        let (key, place) = if is_set(place) { (key, place) } else { other.next().unwrap_or((key, place)) };
        Some((key, place))
    }
}

/// Returns whether the text already contains the origin of this option.
fn tells(text: &str, key: &str, place: &str) -> bool {
    let told = format!("{key}: {place}");
    let is_common = place == NOT_SET || place == Origin::Default.to_string();
    let wanted = if is_common { told.as_str() } else { place };
    // `bridge.toml:31` does not contain the origin `bridge.toml:3`. The same holds for a variable and a
    // longer name.
    text.match_indices(wanted).any(|(at, found)| {
        let next = text.get(at + found.len()..).and_then(|rest| rest.chars().next());
        next.is_none_or(|next| !next.is_ascii_alphanumeric() && next != '_')
    })
}

fn appended(text: &str, places: Vec<(&str, &str)>) -> String {
    if places.is_empty() {
        return text.to_owned();
    }
    let places: Vec<_> = places.into_iter().map(|(key, place)| format!("{key}: {place}")).collect();
    format!("{text} ({})", places.join("; "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn origins() -> Origins {
        let file = |line: usize| Origin::File(format!("bridge.toml:{line}"));
        let variable = |name: &str| Origin::Variable(name.to_owned());
        let options = [
            ("source.url", Value::Null, Origin::Default),
            ("source.urls", json!(["stomp://a:1"]), file(3)),
            ("source.password", Value::Null, Origin::Default),
            ("source.password_file", json!("/x"), variable("BRIDGE__SOURCE__PASSWORD_FILE")),
            ("source.prefetch", json!(1024), Origin::Default),
            ("source.tls.ca_file", Value::Null, Origin::Default),
            ("sinks.events-2.topic", json!("events"), file(31)),
            (
                "sinks.events-2.sasl.password",
                json!("***"),
                variable("BRIDGE__SINKS__EVENTS-2__SASL__PASSWORD"),
            ),
        ];
        let options: Vec<_> = options
            .into_iter()
            .map(|(key, value, origin)| Effective { key: key.to_owned(), value, origin })
            .collect();
        let tables = [("source", file(1)), ("sinks.events-2", file(30)), ("sinks", file(30))];
        Origins::new(&options, &tables.map(|(key, origin)| (key.to_owned(), origin)).into())
    }

    #[test]
    fn a_text_is_told_where_the_options_that_it_names_came_from() {
        for (text, places) in [
            ("no broker answers", ""),
            ("the source is away, as are all sinks", ""),
            ("check source.urls.", " (source.urls: bridge.toml:3)"),
            ("check source.url and the network", " (source.urls: bridge.toml:3)"),
            ("source.prefetch is too much", " (source.prefetch: default)"),
            ("set source.tls.ca_file", " (source.tls.ca_file: not set)"),
            ("`source.password`: wrong", " (source.password_file: BRIDGE__SOURCE__PASSWORD_FILE)"),
            (
                "sinks.events-2.sasl.password, sinks.events-2.topic: denied",
                " (sinks.events-2.sasl.password: BRIDGE__SINKS__EVENTS-2__SASL__PASSWORD; \
                 sinks.events-2.topic: bridge.toml:31)",
            ),
            ("source.prefetch above source.prefetch", " (source.prefetch: default)"),
            ("that of sinks.events-2 too", " (sinks.events-2: bridge.toml:30)"),
            ("sinks.other.topic and source.prefetchers", ""),
            ("bridge.toml:3: source.urls: wrong", ""),
            ("bridge.toml:31: source.urls: wrong", " (source.urls: bridge.toml:3)"),
        ] {
            assert_eq!(origins().annotate(text), format!("{text}{places}"));
        }
    }

    #[test]
    fn a_message_about_an_option_tells_of_the_others_that_are_set() {
        let about = |text: &str| origins().annotate_about("source.urls", text);
        assert_eq!(about("source.urls: is empty"), "source.urls: is empty");
        assert_eq!(about("set source.tls.ca_file"), "set source.tls.ca_file");
        assert_eq!(
            about("less than source.prefetch, 7"),
            "less than source.prefetch, 7 (source.prefetch: default)"
        );
    }

    proptest! {
        #[test]
        fn what_was_told_is_not_told_again(text in "(source\\.(urls?|prefetch|password)|sinks\\.events-2|[a-z. ]){0,8}") {
            let once = origins().annotate(&text);
            prop_assert!(once.starts_with(&text));
            prop_assert_eq!(origins().annotate(&once), once);
        }
    }
}
