//! Finds the name that was probably meant by an unknown one: "did you mean `prefetch`?".

/// How alike two words must be, from 0 (not at all) to 1 (equal), by Jaro-Winkler: `user` and `username` have
/// 0.9, `hostname` and `username` have 0.75.
const ALIKE: f64 = 0.8;

/// Returns the name in `known` that is most like `word`, if any is alike enough. Ignores upper and lower
/// case.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.trim().to_lowercase();
    let alike = |name: &str| strsim::jaro_winkler(&word, &name.to_lowercase());
    let all = known.into_iter().map(|name| (alike(name), name)).filter(|(alike, _)| *alike >= ALIKE);
    all.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

/// Returns "; did you mean `prefetch`?" if a name in `known` is like `word`, otherwise nothing.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}

/// Writes a name such as `BRIDGE_SOURCE.url` as its words in upper case: `BRIDGE_SOURCE_URL`. Names that
/// differ only in case and in the separators between words become equal.
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
