//! Tests the way from text and variables to settings, and to the messages that people see.

use std::path::Path;
use std::time::Duration;

use super::*;

pub(super) const PASSWORD: &str = "0123456789abcdef0123456789abcdef";

pub(super) const GOOD: &str = r#"
[source]
url = "stomp://broker:61613"
username = "12345"
password = "0123456789abcdef0123456789abcdef"
namespace = "acme"
destination_id = "main"
[sinks.file]
directory = "/events"
[dead_letters]
directory = "/letters"
"#;

pub(super) fn load_text(toml: &str, env: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load_with(&SinkRegistry::built_in(), toml, env)
}

pub(super) fn load_with(
    kinds: &SinkRegistry,
    toml: &str,
    env: &[(&str, &str)],
) -> Result<Loaded, ConfigError> {
    let path = Path::new("bridge.toml");
    let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let file = file::parse(path, toml).map_err(|problem| ConfigError(vec![problem]))?;
    let reader = ConfigReader::new(file, Some(path), Environment::new(env));
    check(reader, kinds, Some("pod-0.example.com"))
}

/// Returns the messages about `GOOD` with `more` appended and the variables `env`.
pub(super) fn mistakes(more: &str, env: &[(&str, &str)]) -> Vec<String> {
    match load_text(&format!("{GOOD}{more}"), env) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

pub(super) fn good(env: &[(&str, &str)]) -> Loaded {
    load_text(GOOD, env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn source(loaded: &Loaded) -> &SourceSettings {
    &loaded.settings.subscriptions[0].source
}

/// Returns the value of an option, and where it came from.
fn in_effect(loaded: &Loaded, key: &str) -> (String, String) {
    let option = loaded.effective.iter().find(|option| option.key == key).unwrap();
    (option.value.to_string(), option.origin.to_string())
}

#[test]
fn defaults_file_and_environment_lie_over_each_other() {
    let loaded = load_text(
        &GOOD.replace("username", "prefetch = 64\nheart_beat = \"5s\"\nusername"),
        &[("BRIDGE__SOURCE__PREFETCH", "128"), ("PATH", "x"), ("BRIDGE_PORT_1", "tcp://x"), ("BRIDGE", "y")],
    )
    .unwrap();
    let source = source(&loaded);
    assert_eq!((source.prefetch, source.heart_beat), (128, Some(Duration::from_secs(5))));
    assert_eq!(source.connect_timeout, Duration::from_secs(10));
    let origin = |key: &str| in_effect(&loaded, key);
    let expected = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(origin("source.prefetch"), expected("128", "BRIDGE__SOURCE__PREFETCH"));
    assert_eq!(origin("source.heart_beat"), expected("\"5s\"", "bridge.toml:5"));
    assert_eq!(origin("source.connect_timeout"), expected("\"10s\"", "default"));
    assert_eq!(origin("source.password"), expected("\"***\"", "bridge.toml:7"));
    assert_eq!(origin("source.connection_id"), expected("\"acme-main-pod-0-example-com\"", "default"));
    assert_eq!(origin("sinks.file.kind"), expected("\"file\"", "default"));
    assert!(!format!("{loaded:?}").contains(PASSWORD));
}

/// Every option can be set by a variable. The type of the option converts its text.
#[test]
fn variables_alone_are_enough_and_stay_text() {
    let loaded = load_text(
        "",
        &[
            ("BRIDGE__SOURCE__URLS", "stomp://a:1, stomp+tls://b:2"),
            ("BRIDGE__SOURCE__USERNAME", "01234"),
            ("BRIDGE__SOURCE__PASSWORD", "[x"),
            ("BRIDGE__SOURCE__NAMESPACE", "true"),
            ("BRIDGE__SOURCE__DESTINATION_ID", "007"),
            ("BRIDGE__SOURCE__CONNECTION_ID", "1e3"),
            ("BRIDGE__SOURCE__ORDERING", "strict"),
            ("BRIDGE__SOURCE__MAX_BODY", "1048576"),
            ("BRIDGE__SOURCE__IDLE_RECONNECT", "0s"),
            ("BRIDGE__SOURCE__BACKOFF__MAX", "1min"),
            ("BRIDGE__EVENT__PARTITIONS", "7"),
            ("BRIDGE__EVENT__KEYS", "/a,/b/c"),
            ("BRIDGE__EVENT__UNUSABLE_KEY", "digest"),
            ("BRIDGE__SINKS__FILE__DIRECTORY", "1"),
            ("BRIDGE__SINKS__FILE__NAME", "{connection_id}-{partition}"),
            ("BRIDGE__SINKS__LOOK__KIND", "stdout"),
            ("BRIDGE__DEAD_LETTERS__DIRECTORY", "{}"),
            ("BRIDGE__DEAD_LETTERS__MAX_SHARE", "1"),
        ],
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let source = source(&loaded);
    assert_eq!(source.endpoints.len(), 2);
    assert_eq!((source.username.as_str(), source.password.reveal()), ("01234", "[x"));
    assert_eq!((source.queue().as_str(), source.connection_id.as_str()), ("007.RTO.true", "1e3"));
    assert_eq!((source.max_body, source.idle_reconnect), (1 << 20, None));
    assert_eq!(source.backoff.max.0, Duration::from_secs(60));
    let body = format!(r#"{{"b":{{"c":"{PASSWORD}"}}}}"#);
    assert_eq!(loaded.settings.keying.key_of(body.as_bytes()).unwrap().to_string(), PASSWORD);
    assert!(loaded.settings.keying.key_of(b"no key").is_ok());
    let sinks: Vec<_> =
        loaded.settings.subscriptions[0].sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(sinks, ["file", "look"]);
    let DeadLetterPlace::Files(letters) = &loaded.settings.dead_letters.place else {
        panic!("files are wanted")
    };
    assert_eq!(letters.directory, Path::new("{}"));
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(
        loaded.warnings[0].starts_with("BRIDGE__SOURCE__PASSWORD: ") && !loaded.warnings[0].contains("[x")
    );
}

#[test]
fn what_is_missing_is_asked_for_all_at_once() {
    let errors = load_text("", &[]).unwrap_err().to_string();
    let expected = "\
source.url: missing: set `url` in [source] of bridge.toml, or BRIDGE__SOURCE__URL
source.username: missing: set `username` in [source] of bridge.toml, or BRIDGE__SOURCE__USERNAME
source.password: missing: set `password` in [source] of bridge.toml, or BRIDGE__SOURCE__PASSWORD
source.namespace: missing: set `namespace` in [source] of bridge.toml, or BRIDGE__SOURCE__NAMESPACE
source.destination_id: missing: set `destination_id` in [source] of bridge.toml, or BRIDGE__SOURCE__DESTINATION_ID
sinks: no sink: add a table such as [sinks.file], or set BRIDGE__SINKS__FILE__DIRECTORY
dead_letters.directory: missing: set `directory` in [dead_letters] of bridge.toml, or BRIDGE__DEAD_LETTERS__DIRECTORY";
    assert_eq!(errors, expected);
}

/// Each mistake gives one line with its place: in the syntax of a value, its type, its range or its key.
#[test]
fn every_mistake_is_one_line_with_its_place() {
    let more = r#"
max_rum = 3
max_run = "3"
[event]
keys = ["md5"]
partitions = 0
[log]
format = "xml"
filter = "loud=very"
[sorce]
url = "x"
[shutdown]
drain_timeout = 25
"#;
    let found = mistakes(
        more,
        &[
            ("BRIDGE__SOURCE__PREFETCH", "1000"),
            ("BRIDGE__SOURCE__HEART_BEAT", "5"),
            ("BRIDGE__SOURCE__MAX_BODY", "1PB"),
            ("BRIDGE__SOURCE__PASWORD", "hush"),
            ("BRIDGE__SINK__FILE__DIRECTORY", "x"),
            ("BRIDGE__DEAD_LETTERS__MAX_SHARE", "half"),
        ],
    );
    let expected = [
        "BRIDGE__SINK__FILE__DIRECTORY: sink: unknown key; did you mean `sinks`?",
        "bridge.toml:21: sorce: unknown key; did you mean `source`?",
        "BRIDGE__SOURCE__HEART_BEAT: source.heart_beat: `5` has no unit: write `5s` for seconds, or ms, min, h",
        "BRIDGE__SOURCE__MAX_BODY: source.max_body: `1PB` is not allowed, expected a size: a whole number and a unit, such as \"512KiB\", \"64MiB\", \"1GB\"",
        "BRIDGE__SOURCE__PASWORD: source.pasword: unknown key; did you mean BRIDGE__SOURCE__PASSWORD?",
        "BRIDGE__SOURCE__PREFETCH: source.prefetch: 1000 means \"the broker's default\" to ActiveMQ: write 999 or 1001",
        "bridge.toml:17: event.partitions: 0 is not allowed, expected a whole number from 1 to 4294967295",
        "bridge.toml:16: event.keys: `md5` is not a JSON pointer: write `/md5`",
        "bridge.toml:13: dead_letters.max_rum: unknown key; did you mean `max_run`?",
        "bridge.toml:14: dead_letters.max_run: found a text, expected a whole number from 1 to 4294967295; write it without quotes",
        "BRIDGE__DEAD_LETTERS__MAX_SHARE: dead_letters.max_share: `half` is not a number",
        "bridge.toml:19: log.format: `xml` is not allowed, expected one of: text, json",
        "bridge.toml:20: log.filter: `loud=very` is not understood: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
        "bridge.toml:24: shutdown.drain_timeout: `25` has no unit: write `25s` for seconds, or ms, min, h",
    ];
    assert_eq!(found, expected);
}

/// The wrong value may be the secret itself.
#[test]
fn no_message_repeats_a_secret() {
    for (from, to) in [
        ("password = \"0123456789abcdef0123456789abcdef\"", "password = 424242"),
        ("password = \"0123456789abcdef0123456789abcdef\"", "password = [\"424242\"]"),
        ("password = \"0123456789abcdef0123456789abcdef\"", "password = \"424242"),
        ("password = \"0123456789abcdef0123456789abcdef\"", "password = 424242x"),
        ("password = \"0123456789abcdef0123456789abcdef\"", "password = 1\npassword = \"424242\""),
        ("stomp://broker", "stomp://12345:424242@broker"),
        ("stomp://broker:61613", "stomp://broker:61613?password=424242"),
    ] {
        let errors = load_text(&GOOD.replace(from, to), &[]).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert!(!format!("{errors} {errors:?}").contains("424242"), "{errors}");
        assert!(errors.to_string().starts_with("bridge.toml:"), "{errors}");
    }
}

#[test]
fn a_number_where_a_text_is_wanted_says_how_to_write_it() {
    let errors = load_text(&GOOD.replace("\"12345\"", "12345"), &[]).unwrap_err().to_string();
    assert_eq!(errors, "bridge.toml:4: source.username: found a number, expected a text; write it in quotes");
}

#[test]
fn mirrored_sinks_have_subscriptions_and_ids_of_their_own() {
    let env = [
        ("BRIDGE__SOURCE__ISOLATION", "mirror"),
        ("BRIDGE__SOURCE__CONNECTION_ID", "pod-0"),
        ("BRIDGE__SINKS__COPY__KIND", "file"),
        ("BRIDGE__SINKS__COPY__DIRECTORY", "/copy"),
    ];
    let loaded = good(&env);
    let ids = |subscription: &SubscriptionSettings| {
        let sinks: Vec<_> = subscription.sinks.iter().map(|sink| sink.name.clone()).collect();
        (subscription.source.queue(), subscription.source.connection_id.clone(), sinks.join(","))
    };
    let found: Vec<_> = loaded.settings.subscriptions.iter().map(ids).collect();
    let expected = [("main-copy", "pod-0-copy", "copy"), ("main-file", "pod-0-file", "file")]
        .map(|(id, connection, sink)| (format!("{id}.RTO.acme"), connection.to_owned(), sink.to_owned()));
    assert_eq!(found, expected);
    let shared = good(env.split_first().unwrap().1);
    let found: Vec<_> = shared.settings.subscriptions.iter().map(ids).collect();
    assert_eq!(found, [("main.RTO.acme".to_owned(), "pod-0".to_owned(), "copy,file".to_owned())]);
}

/// Options that the table does not set come from the sink of the same name, with their origins, except the
/// destination.
#[test]
fn dead_letters_may_go_where_a_sink_writes() {
    let text =
        GOOD.replace("[dead_letters]\ndirectory = \"/letters\"", "compression = \"zstd\"\n[dead_letters]");
    let place = ("BRIDGE__DEAD_LETTERS__FILE__DIRECTORY", "/letters");
    let loaded = load_text(&text, &[place]).unwrap_or_else(|errors| panic!("{errors}"));
    let DeadLetterPlace::Sink(sink) = &loaded.settings.dead_letters.place else { panic!("a sink is wanted") };
    assert_eq!(sink.name, "file");
    assert_eq!(
        loaded.settings.dead_letters.destination(),
        Some(SinkDestination::directory(Path::new("/letters")))
    );
    let origin = |key: &str| in_effect(&loaded, key);
    let expected = ("\"zstd\"".to_owned(), "bridge.toml:10".to_owned());
    assert_eq!(origin("sinks.file.compression"), expected);
    assert_eq!(origin("dead_letters.file.compression"), expected);
    for (env, message) in [
        (
            vec![("BRIDGE__DEAD_LETTERS__FILE__ROTATE__AGE", "1h")],
            "dead_letters.file.directory: the directory /events is that of sinks.file too",
        ),
        (vec![place, ("BRIDGE__DEAD_LETTERS__DIRECTORY", "/x")], "dead_letters.file is set too"),
        (vec![place, ("BRIDGE__DEAD_LETTERS__STDOUT__KIND", "stdout")], "dead_letters.file is set too"),
        (vec![place, ("BRIDGE__DEAD_LETTERS__FILE__X", "1")], "dead_letters.file.x: unknown key"),
        (vec![("BRIDGE__DEAD_LETTERS__LOOK__KIND", "glass")], "`glass` is not a kind of sink"),
        (vec![("BRIDGE__DEAD_LETTERS__LOOK__KIND", "stdout")], "nobody keeps what goes to standard output"),
        (
            vec![
                ("BRIDGE__DEAD_LETTERS__NATS__URL", "nats://nats:4222"),
                ("BRIDGE__DEAD_LETTERS__NATS__SUBJECT", "dead"),
                ("BRIDGE__DEAD_LETTERS__NATS__DELIVERY", "core"),
            ],
            "dead_letters.nats: core NATS keeps nothing",
        ),
    ] {
        let errors = load_text(&text, &env).unwrap_err().to_string();
        assert!(errors.contains(message) && errors.lines().count() == 1, "{message}: {errors}");
    }
}

#[test]
fn unusual_credentials_are_warned_of() {
    let loaded = good(&[("BRIDGE__SOURCE__USERNAME", "jane"), ("BRIDGE__SOURCE__PASSWORD", "hush")]);
    let expected = [
        "BRIDGE__SOURCE__USERNAME: source.username: `jane` is not 4 or 5 digits, as AtData's are",
        "BRIDGE__SOURCE__PASSWORD: source.password: the password is not 32 hex digits, as AtData's are",
    ];
    assert_eq!(loaded.warnings, expected);
}

#[test]
fn a_password_file_loses_one_line_feed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    let text = GOOD.replace("password", "#");
    let load = |content: &str| {
        std::fs::write(&path, content).unwrap();
        load_text(&text, &[("BRIDGE__SOURCE__PASSWORD_FILE", path.to_str().unwrap())])
    };
    for (content, secret) in
        [("hush", "hush"), ("hush\n", "hush"), ("hush\r\n", "hush"), (" hush\n", " hush")]
    {
        assert_eq!(source(&load(content).unwrap()).password.reveal(), secret);
    }
    let error = load("\n").unwrap_err().to_string();
    assert_eq!(error, "BRIDGE__SOURCE__PASSWORD_FILE: source.password_file: the password is empty");
    let error = load("hush\n\n").unwrap_err().to_string();
    assert!(error.contains("control characters"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = load_text(&text, &[("BRIDGE__SOURCE__PASSWORD_FILE", path.to_str().unwrap())]).unwrap_err();
    assert!(error.to_string().contains("can't be read: No such file"), "{error}");
}

#[test]
fn the_file_is_named_by_argument_or_variable() {
    let kinds = SinkRegistry::built_in();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.toml");
    std::fs::write(&path, GOOD).unwrap();
    let variable = |path: &Path| [(FILE_VARIABLE.to_owned(), path.to_str().unwrap().to_owned())].into_iter();
    let host = [("HOSTNAME".to_owned(), "pod-7".to_owned())].into_iter();
    assert!(load(&kinds, None, variable(&path)).is_ok());
    let loaded = load(&kinds, Some(&path), variable(Path::new("/no/such/file")).chain(host)).unwrap();
    assert_eq!(source(&loaded).connection_id, "acme-main-pod-7");
    let error = load(&kinds, None, variable(directory.path())).unwrap_err().to_string();
    assert!(
        error.starts_with(directory.path().to_str().unwrap()) && error.contains("can't be read"),
        "{error}"
    );
    assert!(
        load(&kinds, None, std::iter::empty())
            .unwrap_err()
            .to_string()
            .contains("set `url` in [source], or BRIDGE__")
    );
}

/// A message about one option that names another also gives the origin of the other one.
#[test]
fn what_contradicts_each_other_is_told_with_both_places() {
    let found = mistakes("", &[("BRIDGE__SOURCE__PASSWORD_FILE", "/x")]);
    assert_eq!(
        found,
        [
            "BRIDGE__SOURCE__PASSWORD_FILE: source.password_file: source.password is set too: keep one of them \
          (source.password: bridge.toml:5)"
        ]
    );
    let found = mistakes("", &[("BRIDGE__SOURCE__MAX_BODY", "65MiB")]);
    assert_eq!(
        found,
        ["BRIDGE__SOURCE__MAX_BODY: source.max_body: 65MiB is more than source.max_in_flight, 64MiB \
          (source.max_in_flight: default)"]
    );
}

#[test]
fn the_settings_know_where_every_option_came_from() {
    let origins = good(&[("BRIDGE__SOURCE__URL", "tcp://b:1")]).settings.origins;
    let text =
        "check source.url, source.tls.ca_file, source.prefetch, sinks.file.directory and source.password";
    let places = "(source.url: BRIDGE__SOURCE__URL; source.tls.ca_file: not set; source.prefetch: default; \
                  sinks.file.directory: bridge.toml:9; source.password: bridge.toml:5)";
    assert_eq!(origins.annotate(text), format!("{text} {places}"));
}
