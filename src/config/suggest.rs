//! Finds what was probably meant by a name that nobody knows: "did you mean `prefetch`?".

/// How alike two words must be, from 0 (not at all) to 1 (the same), by Jaro and Winkler: `user` is 0.9 like
/// `username`, `hostname` is 0.75 like it.
const ALIKE: f64 = 0.8;

/// That one of `known` which is most like `word`, if one is like it at all. Upper and lower case count as the same.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.trim().to_lowercase();
    let alike = |name: &str| strsim::jaro_winkler(&word, &name.to_lowercase());
    let all = known.into_iter().map(|name| (alike(name), name)).filter(|(alike, _)| *alike >= ALIKE);
    all.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

/// `NAME` of `BRIDGE_SOURCE.url` as the words it is made of, in upper case: `BRIDGE_SOURCE_URL`. Names that differ
/// only in their case and in what separates their words are equal then.
pub(super) fn squeezed(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_and_only_if_it_is_near() {
        const KNOWN: [&str; 7] =
            ["url", "username", "password", "password_file", "namespace", "prefetch", "heart_beat"];
        for (word, meant) in [
            ("pasword", Some("password")),
            ("perfetch", Some("prefetch")),
            ("Prefetch", Some("prefetch")),
            ("user", Some("username")),
            ("heartbeat", Some("heart_beat")),
            ("passwort_file", Some("password_file")),
            ("uri", Some("url")),
            ("hostname", None),
            ("queue", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, KNOWN), meant, "{word}");
        }
    }

    #[test]
    fn a_squeezed_name_has_no_separators_to_be_wrong() {
        for name in ["BRIDGE__SOURCE__URL", "bridge.source.url", "BRIDGE_SOURCE__URL", "Bridge-Source--Url_"]
        {
            assert_eq!(squeezed(name), "BRIDGE_SOURCE_URL", "{name}");
        }
    }
}
