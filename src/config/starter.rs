//! Writes a configuration file to begin with: the tables for the sinks that the user names, with every option and its
//! meaning. What must be set is set to an example, and all else is commented out with its default.

use super::key_path::join;
use super::reference::{Section, append_table, sections};
use super::sink_registry::SinkRegistry;
use super::suggest::did_you_mean;

const HEAD: &str = "\
# A configuration of atdata-bridge to begin with. Replace the examples, and keep the password out of this file: set
# BRIDGE__SOURCE__PASSWORD, or `password_file`. Then run `atdata-bridge --config FILE check`.
";

/// The options that must be set, besides secrets.
const NEEDED: &[&str] = &[
    "source.url",
    "source.username",
    "source.namespace",
    "source.destination_id",
    "sinks.file.directory",
    "sinks.kafka.brokers",
    "sinks.kafka.topic",
    "sinks.nats.url",
    "sinks.nats.stream",
    "dead_letters.directory",
];

/// No kind of sink has this name, in any build or in this one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownKindError {
    #[error("there is no kind of sink `{asked}`{hint}; the kinds are {kinds}")]
    Unknown { asked: String, hint: String, kinds: String },
    #[error("{0}")]
    LeftOut(&'static str),
}

/// Returns a configuration file with these kinds of sinks, without names that occur twice.
///
/// # Errors
/// There is no such kind.
pub fn starter(kinds: &SinkRegistry, sinks: &[String]) -> Result<String, UnknownKindError> {
    if let Some(asked) = sinks.iter().find(|sink| kinds.find(sink).is_none()) {
        if let Some(message) = kinds.left_out(asked) {
            return Err(UnknownKindError::LeftOut(message));
        }
        let hint = did_you_mean(asked, kinds.iter().map(|kind| kind.name));
        return Err(UnknownKindError::Unknown { asked: asked.clone(), hint, kinds: kinds.names() });
    }
    let is_named = |section: &Section| match section.key.strip_prefix("sinks.") {
        Some(rest) => sinks.iter().any(|sink| Some(sink.as_str()) == rest.split('.').next()),
        None => true,
    };
    let mut text = HEAD.to_owned();
    for section in sections(kinds).iter().filter(|section| is_named(section)) {
        append_table(&mut text, section, |option| NEEDED.contains(&&*join(&section.key, &option.name)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{PASSWORD, load_text};
    use super::*;

    /// The file loads as it is, once the password is set, and has only the sinks that were named.
    #[test]
    fn the_file_loads_with_any_sinks() {
        let kinds = SinkRegistry::built_in();
        for sinks in
            [&["file"][..], &["kafka"], &["nats"], &["stdout"], &["nats", "kafka", "file"], &["file", "file"]]
        {
            let sinks: Vec<_> = sinks.iter().map(|sink| (*sink).to_owned()).collect();
            let text = starter(&kinds, &sinks).unwrap();
            let loaded = load_text(&text, &[("BRIDGE__SOURCE__PASSWORD", PASSWORD)]);
            let loaded = loaded.unwrap_or_else(|errors| panic!("{sinks:?}: {errors}\n{text}"));
            assert!(loaded.warnings.is_empty(), "{sinks:?}: {:?}", loaded.warnings);
            let found = loaded.settings.subscriptions[0].sinks.iter().map(|sink| sink.name.clone());
            let mut expected = sinks;
            expected.sort();
            expected.dedup();
            assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn an_unknown_kind_is_told_with_what_was_probably_meant() {
        let error = starter(&SinkRegistry::built_in(), &["kafak".to_owned()]).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no kind of sink `kafak`; did you mean `kafka`?; the kinds are file, kafka, nats, stdout"
        );
        let error = starter(&SinkRegistry::without("kafka"), &["kafka".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("this build has no Kafka sink: "), "{error}");
    }
}
