//! Gives files a place below the directory that `BRIDGE_DATA_DIRECTORY` names, wherever no option names one. So
//! what starts the bridge can provide a volume without knowing which options write files.

use std::path::Path;

use super::key_path::{DATA_VARIABLE, join};
use super::reader::ConfigReader;
use super::sink_registry::SinkRegistry;
use super::validate_sinks::tables_for_dead_letters;

const DIRECTORY: &str = "directory";

/// Sets `directory` of each sink of files that names none to `<data>/sinks/<name>`, and that of the dead letters to
/// `<data>/dead-letters` unless a sink keeps them.
pub(super) fn fill(reader: &mut ConfigReader, kinds: &SinkRegistry, data: &Path) {
    for name in reader.names("sinks") {
        let table = join("sinks", &name);
        let kind = reader.text(&join(&table, "kind")).unwrap_or(&name);
        if kinds.has_option(kind, DIRECTORY) {
            provide(reader, &table, &data.join("sinks").join(&name));
        }
    }
    let letters = data.join("dead-letters");
    let Some(name) = tables_for_dead_letters(reader, kinds).into_iter().next() else {
        return provide(reader, "dead_letters", &letters);
    };
    let table = join("dead_letters", &name);
    let given = [&table, &join("sinks", &name)].map(|table| reader.text(&join(table, "kind")));
    if kinds.has_option(given.into_iter().flatten().next().unwrap_or(&name), DIRECTORY) {
        provide(reader, &table, &letters);
    }
}

fn provide(reader: &mut ConfigReader, table: &str, directory: &Path) {
    let key = join(table, DIRECTORY);
    let is_usable = reader.is_table(table) || !reader.has(table);
    if is_usable && !reader.has(&key) {
        reader.provide(&key, &directory.to_string_lossy(), DATA_VARIABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Loaded, load};
    use super::*;

    const BASE: &str = "BRIDGE__SOURCE__URL=stomp://a:1 BRIDGE__SOURCE__USERNAME=12345 BRIDGE__SOURCE__PASSWORD=hush \
        BRIDGE__SOURCE__NAMESPACE=acme BRIDGE__SOURCE__DESTINATION_ID=main BRIDGE_DATA_DIRECTORY=/data";

    fn loaded(variables: &str) -> Loaded {
        let all = BASE.split_whitespace().chain(variables.split_whitespace());
        let pairs = all.map(|pair| pair.split_once('=').unwrap()).map(|(a, b)| (a.to_owned(), b.to_owned()));
        load(&SinkRegistry::built_in(), None, pairs).unwrap_or_else(|errors| panic!("{variables}: {errors}"))
    }

    /// The directories in effect, with their origins.
    fn directories(variables: &str) -> Vec<String> {
        let loaded = loaded(variables);
        let options = loaded.effective.iter().filter(|option| option.key.ends_with(".directory"));
        let set = options.filter(|option| !option.value.is_null());
        set.map(|option| format!("{} = {} from {}", option.key, option.value, option.origin)).collect()
    }

    #[test]
    fn files_without_a_directory_get_one_below_it() {
        for (variables, expected) in [
            (
                "BRIDGE__SINKS__STDOUT__KIND=stdout",
                &["dead_letters.directory = \"/data/dead-letters\" from BRIDGE_DATA_DIRECTORY"][..],
            ),
            (
                "BRIDGE__SINKS__COPY__KIND=file BRIDGE__SINKS__FILE__FORMAT=body",
                &[
                    "sinks.copy.directory = \"/data/sinks/copy\" from BRIDGE_DATA_DIRECTORY",
                    "sinks.file.directory = \"/data/sinks/file\" from BRIDGE_DATA_DIRECTORY",
                    "dead_letters.directory = \"/data/dead-letters\" from BRIDGE_DATA_DIRECTORY",
                ],
            ),
        ] {
            assert_eq!(directories(variables), expected, "{variables}");
        }
    }

    #[test]
    fn other_places_win() {
        let kafka = "BRIDGE__SINKS__KAFKA__BROKERS=a BRIDGE__SINKS__KAFKA__TOPIC=b BRIDGE__DEAD_LETTERS__KAFKA__TOPIC=c";
        assert_eq!(directories(kafka), [""; 0]);
        let own = "BRIDGE__SINKS__FILE__DIRECTORY=/a BRIDGE__DEAD_LETTERS__DIRECTORY=/b";
        let expected = [
            "sinks.file.directory = \"/a\" from BRIDGE__SINKS__FILE__DIRECTORY",
            "dead_letters.directory = \"/b\" from BRIDGE__DEAD_LETTERS__DIRECTORY",
        ];
        assert_eq!(directories(own), expected);
    }

    /// Dead letters never go into the directory of the sink whose options they share.
    #[test]
    fn dead_letters_in_files_have_a_place_of_their_own() {
        let loaded = loaded("BRIDGE__SINKS__FILE__FORMAT=body BRIDGE__DEAD_LETTERS__FILE__FORMAT=envelope");
        let place = loaded.settings.dead_letters.destination().unwrap().place;
        assert_eq!(place, "the directory /data/dead-letters");
    }
}
