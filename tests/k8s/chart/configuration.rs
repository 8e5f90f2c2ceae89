//! Tests that the program itself can read the rendered configuration, as in a pod.

use serde_json::{Value, json};

use crate::pod::Process;
use kit::helm::objects::{fields, kind_of, text, yaml};
use kit::helm::{Tools, Values, with_tools};

with_tools! {
    the_program_accepts_every_rendered_configuration,
    every_option_keeps_its_value,
    unusual_values_keep_their_form,
    the_connection_id_contains_the_name_of_the_pod,
    errors_in_the_configuration_are_found,
    the_program_accepts_the_arguments_of_every_pod,
}

fn the_program_accepts_every_rendered_configuration(tools: &Tools) {
    for (case, values) in Values::every() {
        let process = Process::of_workload(&tools.helm().objects(&values));
        let output = process.run(&["check", "--offline"]);
        assert_eq!(output.as_deref(), Ok("ok      configuration\n"), "{case}");
    }
}

fn every_option_keeps_its_value(tools: &Tools) {
    for (case, values) in Values::every() {
        let effective = effective(tools, &values);
        for written in values.written().as_array().unwrap() {
            for (option, value) in options_of(&written["config"], "") {
                assert!(
                    is_effective(&effective, &option, &value),
                    "{case}: {option} = {value} became\n{effective}"
                );
            }
        }
    }
}

/// Numbers that YAML and Go write in another form, strings that look like another type, the bridge's own
/// braces, quotes, and names with dots.
fn unusual_values_keep_their_form(tools: &Tools) {
    let odd = concat!(
        "config:\n",
        "  source: {username: '01234', namespace: 'true', destination_id: '1e3', prefetch: 20000, max_body: 10485760}\n",
        "  event: {keys: ['/a \"b\\c\"/d', '/{{ .Values }}', \"/\\té\\u2028\"], partitions: 1000000}\n",
        "  dead_letters: {max_run: 10000000, max_share: 1, max_total: 10737418240}\n",
        "  sinks:\n",
        "    kafka: {topic: '0x1f', properties: {linger.ms: 20, message.max.bytes: 4000000}}\n",
        "    nats-2: {kind: nats, url: 'nats://n:4222', stream: 'no', subject: 'a.{namespace}.{partition}'}\n",
        "    my-files: {kind: file, name: '{connection_id}-{date}', max_total: 1099511627776}\n",
        "persistence: {size: 2Ti}\n",
    );
    for helm in &tools.helms {
        let process = Process::of_workload(&helm.objects(&Values::minimal().and(odd)));
        let effective = process.run(&["config"]).unwrap_or_else(|error| panic!("{error}"));
        for (option, value) in options_of(&yaml(odd)["config"], "") {
            assert!(is_effective(&effective, &option, &value), "{option} = {value} became\n{effective}");
        }
    }
}

/// The bridge's default ends with the host name, which is the pod's name.
fn the_connection_id_contains_the_name_of_the_pod(tools: &Tools) {
    for values in [Values::minimal(), Values::minimal().named("other").and("replicaCount: 3")] {
        let process = Process::of_workload(&tools.helm().objects(&values));
        let effective = process.run(&["config"]).unwrap();
        let expected = format!("source.connection_id = \"acme-main-{}\"", process.name());
        assert!(effective.contains(&expected), "{effective}");
    }
}

fn errors_in_the_configuration_are_found(tools: &Tools) {
    let objects = tools.helm().objects(&Values::minimal());
    let file = objects.configuration();
    for (right, wrong) in [("topic", "tropic"), ("stomp+tls", "smtp"), ("password_file", "passwort_file")] {
        let broken = objects.broken("ConfigMap", "/data/bridge.toml", json!(file.replace(right, wrong)));
        let output = Process::of_workload(&broken).run(&["check", "--offline"]);
        assert!(output.is_err(), "{wrong} passes: {output:?}");
    }
    assert!(!is_effective("a.b = 1  # default", "a.b", &json!(1)), "a default counts as a written value");
    assert!(!is_effective("a.b = 2  # /bridge.toml:1", "a.b", &json!(1)), "another value counts");
    for (shown, right, wrong) in [
        ("10GiB", json!(10_737_418_240_u64), json!(1024)),
        ("1KiB", json!("1024 B"), json!("1KB")),
        ("1m", json!("60s"), json!("10s")),
        ("1h 30m", json!("90min"), json!("1h")),
        ("1234B", json!(1234), json!("01234")),
    ] {
        let line = format!("a.b = \"{shown}\"  # /bridge.toml:1");
        assert!(is_effective(&line, "a.b", &right), "{shown} is not {right}");
        assert!(!is_effective(&line, "a.b", &wrong), "{shown} counts as {wrong}");
    }
}

fn the_program_accepts_the_arguments_of_every_pod(tools: &Tools) {
    for (case, values) in Values::every() {
        let objects = tools.helm().objects(&values);
        for pod in objects.pods() {
            let process = Process::new(&objects, pod);
            let arguments: Vec<&str> = process.arguments().iter().map(String::as_str).collect();
            let output = process.run(&[&arguments[..], &["--help"]].concat());
            assert!(output.is_ok(), "{case}: {}: {arguments:?}: {output:?}", kind_of(pod.owner));
            assert!(process.run(&["flie", "--help"]).is_err());
        }
    }
}

fn effective(tools: &Tools, values: &Values) -> String {
    let process = Process::of_workload(&tools.helm().objects(values));
    process.run(&["config"]).unwrap_or_else(|error| panic!("{values:?}: {error}"))
}

/// Whether, according to the line of `option`, the file or a variable has set it to `value`.
fn is_effective(effective: &str, option: &str, value: &Value) -> bool {
    let mut lines = effective.lines().filter_map(|line| line.split_once(" = "));
    let Some((_, line)) = lines.find(|(name, _)| *name == option) else { return false };
    let (shown, from) = line.rsplit_once("  # ").expect("the origin of a value");
    let shown: Value = toml_edit::de::from_str(&format!("shown = {shown}")).expect("a line of TOML");
    from != "default" && same(&shown["shown"], value)
}

fn same(shown: &Value, written: &Value) -> bool {
    let literal = written.to_string();
    shown == written
        || text(shown) == literal
        || shown.as_f64().is_some_and(|shown| Some(shown) == written.as_f64())
        || *shown == "***"
        || is_same_measure(shown, written)
}

/// The program prints durations and sizes in the largest unit that fits: `60s` as `1m`, `10485760` as
/// `10MiB`.
fn is_same_measure(shown: &Value, written: &Value) -> bool {
    let length = |value: &Value| humantime::parse_duration(text(value)).ok();
    length(shown).is_some_and(|shown| Some(shown) == length(written))
        || bytes(shown).is_some_and(|shown| Some(shown) == bytes(written))
}

/// The bytes of a number, or of a string with a unit. Digits in quotes without a unit are not a size.
fn bytes(size: &Value) -> Option<u64> {
    let text = text(size);
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return size.as_u64(),
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Every option in a tree of values by its name, without references to secrets and without nulls, which
/// remove a default.
fn options_of(tree: &Value, parent: &str) -> Vec<(String, Value)> {
    let options = fields(tree).flat_map(|(name, value)| {
        let option = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        let reference =
            ["existingSecret", "existingConfigMap", "value"].iter().any(|of| !value[of].is_null());
        match value {
            Value::Null => Vec::new(),
            Value::Object(_) if reference => Vec::new(),
            Value::Object(_) => options_of(value, &option),
            _ => vec![(option, value.clone())],
        }
    });
    options.collect()
}
