//! Tests that every option can be set by its variable, whether the chart sees the variable or not.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use toml_edit::de::from_str;

use crate::pod::Process;
use kit::helm::objects::{fields, text};
use kit::helm::{Tools, Values, in_tree, with_tools};

with_tools! {
    every_option_can_be_set_by_its_variable,
    everything_can_come_from_a_secret_that_the_chart_does_not_see,
    files_of_variables_are_on_the_volume,
}

/// Variables by name.
type Variables = BTreeMap<String, String>;

fn every_option_can_be_set_by_its_variable(tools: &Tools) {
    let options = options();
    assert!(options.len() > 90, "{options:?}");
    let unseen = files().and("extraEnvFrom: [{secretRef: {name: mine}}]");
    let unseen = tools.helm().objects(&unseen);
    for (option, value) in &options {
        let variables = with_companions(option, value);
        let name = variable(option);
        for process in [seen(tools, &variables), Process::of_workload(&unseen).given(&variables)] {
            let output = process.run(&["config"]).unwrap_or_else(|error| panic!("{option}: {error}"));
            let mut lines = output.lines().filter(|line| line.starts_with(&format!("{option} = ")));
            let line = lines.next().unwrap_or_else(|| panic!("{option} is not in effect:\n{output}"));
            assert!(line.ends_with(&format!("# {name}")), "{line}");
        }
    }
}

/// The chart must write nothing that conflicts with what it does not see, such as a second place for dead letters.
fn everything_can_come_from_a_secret_that_the_chart_does_not_see(tools: &Tools) {
    let kafka = "BRIDGE__SINKS__KAFKA__BROKERS=a BRIDGE__SINKS__KAFKA__TOPIC=b";
    for (values, more, expected) in [
        ("{}", format!("{kafka} BRIDGE__DEAD_LETTERS__KAFKA__TOPIC=c"), "dead_letters.kafka.topic = \"c\""),
        (
            "persistence: {enabled: false}",
            format!("{kafka} BRIDGE__DEAD_LETTERS__KAFKA__TOPIC=c"),
            "dead_letters.kafka.topic = \"c\"",
        ),
        (
            "kind: Deployment",
            format!("{kafka} BRIDGE__DEAD_LETTERS__KAFKA__TOPIC=c"),
            "dead_letters.kafka.topic = \"c\"",
        ),
        ("{}", kafka.into(), "dead_letters.directory = \"/var/lib/atdata-bridge/dead-letters\""),
        (
            "{}",
            "BRIDGE__SINKS__FILE__FORMAT=body".into(),
            "sinks.file.directory = \"/var/lib/atdata-bridge/sinks/file\"",
        ),
    ] {
        let mut variables = source();
        variables.extend(
            more.split(' ').map(|pair| pair.split_once('=').unwrap()).map(|(a, b)| (a.into(), b.into())),
        );
        let values = Values::default().and(values).and("extraEnvFrom: [{secretRef: {name: bridge}}]");
        let process = Process::of_workload(&tools.helm().objects(&values)).given(&variables);
        let output = process.run(&["config"]).unwrap_or_else(|error| panic!("{values:?}: {error}"));
        assert!(output.contains(expected), "{values:?}: {output}");
    }
}

/// A sink of files that only variables describe needs the volume as one in `config` does.
fn files_of_variables_are_on_the_volume(tools: &Tools) {
    let copy = "extraEnv: [{name: BRIDGE__SINKS__COPY__KIND, value: file}]";
    let process = Process::of_workload(&tools.helm().objects(&Values::minimal().and(copy)));
    let output = process.run(&["config"]).unwrap();
    assert!(output.contains("sinks.copy.directory = \"/var/lib/atdata-bridge/sinks/copy\""), "{output}");
    let letters = "config: {dead_letters: {kafka: {topic: c}}}";
    for nowhere in ["persistence: {enabled: false}", "kind: Deployment"] {
        let values = Values::minimal().and(copy).and(letters).and(nowhere);
        let error = tools.helm().refusal(&values);
        assert!(error.contains("config.sinks.copy"), "{error}");
    }
}

/// Every option of the program's reference with a value, except those that the chart must know.
fn options() -> Vec<(String, String)> {
    let reference = fs::read_to_string(in_tree("config/reference.toml")).unwrap();
    let is_option = |line: &&str| line.contains(" = ") && !line.starts_with("# ");
    let mut table = String::new();
    let mut options = Vec::new();
    for line in reference.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = name.to_owned();
        } else if let Some(line) = Some(line).filter(is_option) {
            let parsed: Value = from_str(line.trim_start_matches('#')).unwrap();
            for (name, value) in fields(&parsed) {
                options.extend(sample(&format!("{table}.{name}"), value));
            }
        }
    }
    options.retain(|(option, _)| !option.starts_with("admin.") && option != "shutdown.drain_timeout");
    options
}

/// The option, and its value as a variable has it.
fn sample(option: &str, value: &Value) -> Option<(String, String)> {
    let last = option.rsplit('.').next().unwrap();
    Some(match option {
        "sinks.kafka.sasl.mechanism" => (option.into(), "plain".into()),
        "source.urls" => (option.into(), "stomp://a:1,ssl://b:2".into()),
        "sinks.kafka.properties" => (format!("{option}.linger_ms"), "7".into()),
        "sinks.nats.create_stream.subjects" => (option.into(), "atdata.>".into()),
        _ if last.ends_with("_file") => (option.into(), format!("/files/{last}")),
        _ => match value {
            Value::Array(items) => (option.into(), items.iter().map(text).collect::<Vec<_>>().join(",")),
            Value::String(text) => (option.into(), text.clone()),
            Value::Bool(_) => (option.into(), "true".into()),
            other => (option.into(), other.to_string()),
        },
    })
}

/// What the bridge needs besides the option, and the option.
fn with_companions(option: &str, value: &str) -> Variables {
    let kafka = "sinks.kafka.brokers=a sinks.kafka.topic=b";
    let nats = "sinks.nats.url=nats://a sinks.nats.stream=b";
    let scram = "sinks.kafka.sasl.mechanism=plain sinks.kafka.sasl.username=a sinks.kafka.sasl.password=b";
    let oauth = "sinks.kafka.sasl.mechanism=oauthbearer sinks.kafka.sasl.token_url=https://a \
        sinks.kafka.sasl.client_id=b sinks.kafka.sasl.client_secret=c";
    let certificate = "tls.certificate_file=/files/certificate_file tls.key_file=/files/key_file";
    let last = option.rsplit('.').next().unwrap();
    let is_tls = option.contains(".tls.");
    let mut all = match option.split('.').take(2).collect::<Vec<_>>().join(".").as_str() {
        "sinks.nats" => nats.to_owned(),
        "sinks.file" => "sinks.file.format=body".to_owned(),
        "event.keys" | "event.partitions" | "event.unusable_key" => format!("{kafka} {nats}"),
        _ => kafka.to_owned(),
    };
    let table = option.split(".tls.").next().unwrap();
    let more = match last {
        "token_url" | "client_id" | "client_secret" | "client_secret_file" | "scope" => oauth.to_owned(),
        _ if option.starts_with("sinks.kafka.sasl.") => scram.to_owned(),
        "username" | "password" | "password_file" if option.starts_with("sinks.nats.") => {
            "sinks.nats.username=a sinks.nats.password=b".to_owned()
        }
        _ if is_tls && last != "ca_file" => {
            let pair = certificate.replace("tls.", &format!("{table}.tls."));
            if table == "sinks.kafka" { format!("{pair} {table}.tls.enabled=true") } else { pair }
        }
        _ if is_tls && table == "sinks.kafka" => format!("{table}.tls.enabled=true"),
        "exactly_once" => "source.ordering=strict".to_owned(),
        _ if option.contains(".create_stream.") => "sinks.nats.create_stream.enabled=true".to_owned(),
        _ => String::new(),
    };
    all = format!("{all} {more}");
    let mut variables = source();
    variables.extend(
        all.split_whitespace()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(option, value)| (variable(option), value.to_owned())),
    );
    match option {
        "source.urls" => drop(variables.remove(&variable("source.url"))),
        _ => drop(variables.remove(&variable(option.trim_end_matches("_file")))),
    }
    variables.insert(variable(option), value.to_owned());
    variables
}

fn source() -> Variables {
    let pairs = [
        ("url", "stomp+tls://broker:61614"),
        ("username", "12345"),
        ("password", "0123456789abcdef0123456789abcdef"),
        ("namespace", "acme"),
        ("destination_id", "main"),
    ];
    pairs.map(|(name, value)| (variable(&format!("source.{name}")), value.to_owned())).into()
}

fn variable(option: &str) -> String {
    format!("BRIDGE__{}", option.replace('.', "__").to_uppercase())
}

/// The pod with these variables in the values.
fn seen(tools: &Tools, variables: &Variables) -> Process {
    let entries: Vec<Value> = variables
        .iter()
        .map(|(name, value)| {
            let is_secret =
                ["PASSWORD", "SECRET", "TOKEN", "NKEY"].iter().any(|secret| name.ends_with(secret));
            let key = name.to_lowercase();
            match is_secret {
                true => json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "mine", "key": key}}}),
                false => json!({"name": name, "value": value}),
            }
        })
        .collect();
    Process::of_workload(&tools.helm().objects(&files().and(&json!({"extraEnv": entries}).to_string())))
}

/// Values that mount certificates and credentials at `/files`.
fn files() -> Values {
    let names = [
        "ca_file",
        "certificate_file",
        "key_file",
        "key_password_file",
        "password_file",
        "client_secret_file",
        "token_file",
        "nkey_file",
        "credentials_file",
    ];
    let items: Vec<Value> = names.iter().map(|name| json!({"key": name, "path": name})).collect();
    let volumes = json!({
        "extraVolumes": [{"name": "files", "secret": {"secretName": "mine", "items": items}}],
        "extraVolumeMounts": [{"name": "files", "mountPath": "/files"}],
        "persistence": {"size": "200Gi"},
    });
    Values::default().and(&volumes.to_string())
}
