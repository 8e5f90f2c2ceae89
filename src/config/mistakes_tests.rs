//! Tests that the messages about common mistakes name what to write instead.

use std::path::Path;

use super::SinkRegistry;
use super::tests::{GOOD, PASSWORD, good, load_text, load_with, mistakes};

const PASSWORD_LINE: &str = "password = \"0123456789abcdef0123456789abcdef\"";

/// Replaces one text in `GOOD`. The single line about this mistake must contain all of `parts`.
fn one_line_with(from: &str, to: &str, env: &[(&str, &str)], parts: &[&str]) {
    assert!(GOOD.contains(from), "{from}");
    let errors = match load_text(&GOOD.replacen(from, to, 1), env) {
        Ok(_) => panic!("{to} {env:?} is accepted"),
        Err(errors) => errors.to_string(),
    };
    assert_eq!(errors.lines().count(), 1, "{to} {env:?}: {errors}");
    for part in parts {
        assert!(errors.contains(part), "{to} {env:?}: {part:?} is not in {errors}");
    }
}

#[test]
fn a_kind_that_this_build_lacks_is_named_as_such() {
    let kinds = SinkRegistry::without("kafka");
    for (table, key) in [
        ("[sinks.kafka]\nbrokers = [\"a:9092\"]\ntopic = \"a\"\n", "sinks.kafka"),
        ("[sinks.topic]\nkind = \"kafka\"\ntopic = \"a\"\n", "sinks.topic"),
        ("[dead_letters.kafka]\ntopic = \"a\"\n", "dead_letters.kafka"),
    ] {
        let letters =
            if key == "dead_letters.kafka" { "[dead_letters]\ndirectory = \"/letters\"\n" } else { "" };
        let text = format!("{}{table}", GOOD.replacen(letters, "", 1));
        let errors = load_with(&kinds, &text, &[]).unwrap_err().to_string();
        assert!(errors.contains(&format!("{key}: this build has no Kafka sink: ")), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_name_that_is_nearly_right_is_answered_with_the_right_one() {
    for (line, parts) in [
        ("perfetch = 1", &["bridge.toml:3: source.perfetch: ", "did you mean `prefetch`?"][..]),
        ("ca_file = \"/x\"", &["source.ca_file: ", "did you mean `ca_file` in [source.tls]?"]),
        ("tls_ca_file = \"/x\"", &["did you mean `ca_file` in [source.tls]?"]),
        ("backoff = { intial = \"1s\" }", &["source.backoff.intial: ", "did you mean `initial`?"]),
        ("tls = { username = \"x\" }", &["source.tls.username: ", "did you mean `username` in [source]?"]),
        ("queue = \"x\"", &["known here: url, urls, username"]),
        ("ordering = \"stricct\"", &["one of: shared, strict; did you mean `strict`?"]),
    ] {
        one_line_with("[source]\n", &format!("[source]\n{line}\n"), &[], parts);
    }
    one_line_with("[source]\n", "prefetch = 1\n[source]\n", &[], &["did you mean `prefetch` in [source]?"]);
    one_line_with(
        "[sinks.file]",
        "[sinks.flie]",
        &[],
        &["`flie` is not a kind of sink", "did you mean `file`?"],
    );
    one_line_with(
        "[sinks.file]",
        "[sinks]\nkind = \"file\"\n[sinks.file]",
        &[],
        &["write [sinks.file], [sinks.kafka]"],
    );
    for (variable, parts) in [
        ("BRIDGE__SOURCE_PREFETCH", &["did you mean BRIDGE__SOURCE__PREFETCH?"][..]),
        ("BRIDGE__SOURCE__PREFETHC", &["did you mean BRIDGE__SOURCE__PREFETCH?"]),
        ("BRIDGE__SOURCE__TLS_CA_FILE", &["did you mean BRIDGE__SOURCE__TLS__CA_FILE?"]),
        // The variable could mean the URL of the source or of NATS.
        ("BRIDGE__URL", &["url: unknown key; known here: source, event"]),
        ("BRIDGE__CONFIG", &["the variable for the file is BRIDGE_CONFIG"]),
        ("BRIDGE__SINKS__FILE__ROTATE__SIZ", &["did you mean BRIDGE__SINKS__FILE__ROTATE__SIZE?"]),
    ] {
        one_line_with("", "", &[(variable, "x")], parts);
    }
}

#[test]
fn single_options_are_checked() {
    for (variable, value, part) in [
        ("BRIDGE__SOURCE__URL", "amqp://broker:5672", "tcp://host:port or ssl://host:port"),
        ("BRIDGE__SOURCE__URL", "", "not a url"),
        ("BRIDGE__SOURCE__URLS", "stomp://a:1", "source.url is set too"),
        ("BRIDGE__SOURCE__USERNAME", " ", "is empty"),
        ("BRIDGE__SOURCE__USERNAME", "123\n45", "control characters"),
        ("BRIDGE__SOURCE__PASSWORD", "a\nb", "control characters"),
        ("BRIDGE__SOURCE__PASSWORD", "", "is empty"),
        ("BRIDGE__SOURCE__PASSWORD_FILE", "/x", "source.password is set too"),
        ("BRIDGE__SOURCE__NAMESPACE", "a.b", "'.' is not allowed"),
        ("BRIDGE__SOURCE__DESTINATION_ID", "a>", "'>' is not allowed"),
        ("BRIDGE__SOURCE__CONNECTION_ID", "a/b", "'/' is not allowed"),
        ("BRIDGE__SOURCE__CONNECTION_ID", "", "is empty"),
        ("BRIDGE__SOURCE__PREFETCH", "0", "1 to 20000"),
        ("BRIDGE__SOURCE__PREFETCH", "20001", "1 to 20000"),
        ("BRIDGE__SOURCE__PREFETCH", "-1", "not a whole number"),
        ("BRIDGE__SOURCE__PREFETCH", "5000000000", "from 1 to 20000"),
        ("BRIDGE__SOURCE__HEART_BEAT", "999ms", "from 1s to 1h"),
        ("BRIDGE__SOURCE__ORDERING", "Strict", "one of: shared, strict"),
        ("BRIDGE__SOURCE__MAX_BODY", "0", "more than 0"),
        ("BRIDGE__SOURCE__MAX_BODY", "65MiB", "more than source.max_in_flight, 64MiB"),
        ("BRIDGE__SOURCE__MAX_IN_FLIGHT", "1MiB", "less than source.max_body, 4MiB"),
        ("BRIDGE__SOURCE__BACKOFF__MAX", "1ms", "less than source.backoff.initial"),
        ("BRIDGE__SOURCE__BACKOFF", "1s", "expected a table"),
        ("BRIDGE__SOURCE__TLS__CA_FILE", "/no/such/file", "can't be read"),
        ("BRIDGE__EVENT__KEYS", "", "is empty"),
        ("BRIDGE__EVENT__KEYS", "/a,b", "`b` is not a JSON pointer"),
        ("BRIDGE__EVENT__KEYS", "/a~2", "not a JSON pointer"),
        ("BRIDGE__SINKS__FILE__NAME", "events", "must hold {connection_id}"),
        ("BRIDGE__SINKS__FILE__NAME", "{connection_id}-{partition}", "event.partitions"),
        ("BRIDGE__SINKS__FILE__NAME", "{connection_id}-{day}", "{day}"),
        ("BRIDGE__SINKS__FILE__NAME", "{connection_id}{", "without its"),
        ("BRIDGE__SINKS__FILE__NAME", "../{connection_id}", "begin with a dot"),
        ("BRIDGE__SINKS__FILE__ROTATE__AGE", "0s", "sinks.file.rotate.age: "),
        ("BRIDGE__SINKS__FILE__MAX_TOTAL", "1MiB", "sinks.file.max_total: "),
        ("BRIDGE__SINKS__FILE__KIND", "pigeon", "`pigeon` is not a kind of sink: file, kafka, nats, stdout"),
        ("BRIDGE__SINKS__LOOK__X", "1", "set `kind` to one of file, kafka, nats, stdout"),
        ("BRIDGE__SINKS__STDOUT__X", "1", "unknown key"),
        ("BRIDGE__SINKS__A__B__C__D", "1", "`a` is not a kind"),
        ("BRIDGE__SINKS__STDOUT", "1", "expected a table"),
        ("BRIDGE__SINKS", "1", "add a table such as [sinks.file]"),
        ("BRIDGE__SOURCE", "1", "expected a table"),
        ("BRIDGE__DEAD_LETTERS__DIRECTORY", "/events/", "is that of sinks.file too"),
        ("BRIDGE__DEAD_LETTERS__MAX_SHARE", "nan", "dead_letters.max_share: "),
        ("BRIDGE__ADMIN__LISTEN", "9464", "admin.listen: `9464` is not understood"),
        ("BRIDGE__ADMIN__MAX_AGE", "1", "write `1s` for seconds"),
        ("BRIDGE__SHUTDOWN__DRAIN_TIMEOUT", "soon", "length of time"),
        ("BRIDGE__source__url", "stomp://b:1", "set twice"),
        ("BRIDGE__SOURCE__URL__X", "1", "can't be a value and a table"),
        ("BRIDGE__", "1", "not the name of a setting"),
        ("BRIDGE__SOURCE____URL", "1", "not the name of a setting"),
    ] {
        let url = ("BRIDGE__SOURCE__URL", "stomp://b:1");
        let both = variable.contains("URL_") || variable.contains("source");
        let env = [(variable, value), url];
        let found = mistakes("", if both { &env } else { &env[..1] });
        assert_eq!(found.len(), 1, "{variable}={value}: {found:?}");
        assert!(found[0].contains(part) && found[0].starts_with(variable), "{variable}={value}: {found:?}");
    }
}

/// One option may set another: only if nothing is wrong with the one, the other is missing.
#[test]
fn an_option_is_missing_only_if_nothing_is_wrong_with_the_other_way_to_set_it() {
    for (from, variable, part) in [
        ("url = \"stomp://broker:61613\"", ("BRIDGE__SOURCE__URLS", ""), "source.url: missing: set `url`"),
        ("url = \"stomp://broker:61613\"", ("BRIDGE__SOURCE__URLS__X", ""), "expected a list"),
        (PASSWORD_LINE, ("BRIDGE__SOURCE__PASSWORD_FILE__X", ""), "found a table"),
    ] {
        one_line_with(from, "", &[variable], &[part]);
    }
}

#[test]
fn variables_that_only_look_like_ours_are_told() {
    one_line_with(
        "",
        "",
        &[("BRIDGE_SOURCE__URL", "x")],
        &["BRIDGE_SOURCE__URL: is not read: write BRIDGE__SOURCE__URL"],
    );
    one_line_with("", "", &[("bridge__sinks__x__kind", "x")], &["is not read: write BRIDGE__SINKS__X__KIND"]);
    let loaded =
        good(&[("BRIDGE_SOURCE_PREFETCH", "7"), ("BRIDGE_PORT", "tcp://x"), ("BRIDGE_SERVICE_HOST", "x")]);
    assert_eq!(loaded.warnings, ["BRIDGE_SOURCE_PREFETCH: is not read: write BRIDGE__SOURCE__PREFETCH"]);
    // These belong to another program, in a ConfigMap that both programs load as a whole.
    let loaded = good(&[("BRIDGE_Log__Level", "Debug"), ("BRIDGE_Source__Name", "x")]);
    assert_eq!(
        loaded.warnings,
        ["BRIDGE_Log__Level", "BRIDGE_Source__Name"].map(|name| format!(
            "{name}: is not read: settings begin with BRIDGE__, and none has such a name"
        ))
    );
}

#[test]
fn quotes_and_broken_text_in_variables_are_told() {
    for (variable, value) in [
        ("BRIDGE__SOURCE__URL", "\"stomp://b:1\""),
        ("BRIDGE__SOURCE__NAMESPACE", "'acme'"),
        ("BRIDGE__SINKS__FILE__DIRECTORY", "\"/x\""),
        ("BRIDGE__EVENT__KEYS", "\"/a,/b\""),
        ("BRIDGE__SOURCE__PREFETCH", "\"7\""),
        ("BRIDGE__SOURCE__PASSWORD", &format!("\"{PASSWORD}\"")),
    ] {
        let found = mistakes("", &[(variable, value)]);
        assert!(found.len() == 1 && found[0].starts_with(variable), "{variable}: {found:?}");
        assert!(found[0].contains("quotes") && !found[0].contains(PASSWORD), "{found:?}");
    }
    let found = mistakes("", &[("BRIDGE__SOURCE__PASSWORD", "a\u{fffd}b")]);
    assert_eq!(found, ["BRIDGE__SOURCE__PASSWORD: the value is not UTF-8 text"]);
}

#[test]
fn the_name_of_a_queue_is_taken_apart() {
    let parts = &["source.destination_id to `main` and source.namespace to `acme`"];
    one_line_with("destination_id = \"main\"", "destination_id = \"main.RTO.acme\"", &[], parts);
    one_line_with("namespace = \"acme\"", "namespace = \"main.RTO.acme\"", &[], parts);
}

#[test]
fn credentials_in_the_wrong_place_or_form_are_refused_and_never_shown() {
    const BASE64: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    for (username, password, part) in [
        (PASSWORD, "12345", "are swapped"),
        (PASSWORD, PASSWORD, "32 hex digits are a password"),
        ("12345 ", PASSWORD, "white space"),
        ("12345", &format!(" {PASSWORD}"), "white space"),
        ("12345", &format!("'{PASSWORD}'"), "in quotes"),
        ("12345", BASE64, "base64"),
        ("12345", "$(PASSWORD)", "placeholder"),
        ("12345", "***", "mask"),
    ] {
        let text = GOOD
            .replace("username = \"12345\"", &format!("username = {username:?}"))
            .replace(&format!("password = {PASSWORD:?}"), &format!("password = {password:?}"));
        let errors = load_text(&text, &[]).unwrap_err().to_string();
        assert!(errors.contains(part) && errors.lines().count() == 1, "{part}: {errors}");
        assert!(!errors.contains(PASSWORD) && !errors.contains(BASE64), "{errors}");
    }
}

#[test]
fn what_a_file_with_a_secret_lacks_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    let text = GOOD.replace("password", "#");
    let told = |path: &Path| {
        load_text(&text, &[("BRIDGE__SOURCE__PASSWORD_FILE", path.to_str().unwrap())])
            .map_err(|errors| errors.to_string())
    };
    for (content, part) in [
        (&b""[..], "the password is empty"),
        (b"\n", "the password is empty"),
        (b"\xef\xbb\xbf0123456789abcdef0123456789abcdef", "byte order mark"),
        (b"\xff\xfe0\x001\x00", "not UTF-8 text"),
        (b"0123456789abcdef0123456789abcdef\n\n", "control characters"),
        (b"0123456789abcdef0123456789abcdef \n", "white space"),
        (b"\"0123456789abcdef0123456789abcdef\"\n", "in quotes"),
        (b"${PASSWORD}\n", "placeholder"),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = told(&file).unwrap_err();
        assert!(error.contains(part) && error.lines().count() == 1, "{content:?}: {error}");
    }
    assert!(told(directory.path()).unwrap_err().contains("it is a directory: name the file in it"));
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\r\n").unwrap();
    assert_eq!(told(&file).unwrap().settings.subscriptions[0].source.password.reveal(), PASSWORD);
}

#[test]
fn filters_pointers_and_times_say_what_to_write() {
    for (variable, value, part) in [
        (
            "BRIDGE__LOG__FILTER",
            "warning",
            "`warning` is not a level: write error, warn, info, debug, trace, off; did you mean `warn`?",
        ),
        ("BRIDGE__LOG__FILTER", "verbose", "`verbose` is not a level"),
        ("BRIDGE__LOG__FILTER", "", "is empty: write error, warn"),
        ("BRIDGE__EVENT__KEYS", "$.email.md5", "write `/email/md5`"),
        ("BRIDGE__EVENT__KEYS", ".md5", "write `/md5`"),
        ("BRIDGE__SOURCE__CONNECT_TIMEOUT", "1000years", "too long: at most 100years"),
        ("BRIDGE__SOURCE__MAX_IN_FLIGHT", "16777216TiB", "too large: at most 1048576TiB"),
        ("BRIDGE__SOURCE__PREFETCH", "lots", "`lots` is not a whole number from 1 to 20000"),
        ("BRIDGE__SINKS__FILE__MAX_OPEN", "x", "`x` is not a whole number from 1 to 4294967295"),
    ] {
        one_line_with("", "", &[(variable, value)], &[variable, part]);
    }
    let silent = good(&[("BRIDGE__LOG__FILTER", "rdkafka=debug")]);
    assert!(silent.warnings[0].contains("logs nothing of the bridge"), "{:?}", silent.warnings);
}

#[test]
fn a_file_of_another_format_is_named() {
    for (text, part) in [
        ("source:\n  url: x\n", "looks like YAML"),
        ("---\nsource: {}\n", "looks like YAML"),
        ("{\"source\": {}}", "looks like JSON"),
        ("[source\n", "not TOML"),
    ] {
        let error = load_text(text, &[]).unwrap_err().to_string();
        assert!(error.contains(part) && error.lines().count() == 1, "{text}: {error}");
    }
}
