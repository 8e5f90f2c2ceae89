//! Tests that names, labels, ports and quantities are valid for the API server, however long the user's
//! values are.

use serde_json::{Value, json};

use kit::helm::objects::{Objects, fields, kind_of, list, name_of, text, title, visit};
use kit::helm::{NAMESPACE, Tools, Values, with_tools};

with_tools! {
    names_and_labels_are_valid,
    long_names_are_truncated,
    invalid_names_and_labels_are_found,
}

fn names_and_labels_are_valid(tools: &Tools) {
    for (case, values) in Values::every() {
        let objects = own_objects(tools, values.and("namespaceOverride: ''"));
        assert_eq!(faults(&objects), Vec::<String>::new(), "{case}");
    }
}

/// The rendered objects without the user's own.
fn own_objects(tools: &Tools, values: Values) -> Objects {
    tools.helm().objects(&values.and("extraObjects: []"))
}

/// Helm accepts release names of up to 53 characters.
fn long_names_are_truncated(tools: &Tools) {
    let long = format!("a-{}-z", "long-".repeat(9) + "name");
    assert_eq!(long.len(), 53);
    let variants = [
        Values::of("everything").named(&long),
        Values::of("everything")
            .named(long.split_at(51).0)
            .and("nameOverride: with-a-name-of-its-own-that-is-rather-long"),
        Values::of("everything").and(&format!("fullnameOverride: {}", "x".repeat(51) + "-yz")),
    ];
    for values in variants {
        assert_eq!(faults(&own_objects(tools, values.clone())), Vec::<String>::new(), "{values:?}");
    }
}

fn invalid_names_and_labels_are_found(tools: &Tools) {
    let objects = own_objects(tools, Values::of("everything"));
    assert_eq!(faults(&objects), Vec::<String>::new());
    let breaks = [
        ("StatefulSet", "/metadata/name", json!("x".repeat(53))),
        ("StatefulSet", "/metadata/name", json!("With_Capitals")),
        ("StatefulSet", "/metadata/namespace", json!("elsewhere")),
        ("StatefulSet", "/metadata/labels/app", json!("x".repeat(64))),
        ("StatefulSet", "/metadata/labels/app", json!("a b")),
        ("StatefulSet", "/metadata/labels/app", json!(1)),
        ("StatefulSet", "/metadata/labels/a b", json!("c")),
        ("StatefulSet", "/metadata/labels/app.kubernetes.io~1version", Value::Null),
        ("StatefulSet", "/spec/selector/matchLabels/helm.sh~1chart", json!("atdata-bridge-1")),
        ("StatefulSet", "/spec/template/metadata/annotations/a", json!(true)),
        ("StatefulSet", "/spec/template/spec/containers/0/name", json!("a.b")),
        ("StatefulSet", "/spec/template/spec/containers/0/ports/0/name", json!("a-port-with-a-name")),
        ("StatefulSet", "/spec/template/spec/containers/0/ports/0/name", json!("9464")),
        ("StatefulSet", "/spec/template/spec/containers/0/ports/0/containerPort", json!(65536)),
        ("StatefulSet", "/spec/template/spec/containers/0/resources/limits/memory", json!("1 GiB")),
        ("StatefulSet", "/spec/template/spec/containers/0/resources/limits/memory", json!("1gi")),
        ("Service", "/metadata/name", json!("1st")),
        ("Service", "/metadata/name", json!("a.b")),
    ];
    for (kind, pointer, value) in breaks {
        // In a pointer, `~1` stands for the slash in the name of a label.
        let broken = match pointer.split_once("~1") {
            None => objects.broken(kind, pointer, value.clone()),
            Some(_) => with_escaped(&objects, kind, pointer, &value),
        };
        assert!(!faults(&broken).is_empty(), "{kind}{pointer} = {value} passes");
    }
}

fn with_escaped(objects: &Objects, kind: &str, pointer: &str, value: &Value) -> Objects {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let object = objects.of_kind(kind).next().unwrap();
    let mut labels = object.pointer(parent).unwrap().clone();
    labels[name.replace("~1", "/")] = value.clone();
    labels.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    objects.broken(kind, parent, labels)
}

/// Finds names, labels, annotations, ports and quantities that the API server would refuse, and selectors
/// with labels that change.
pub fn faults(objects: &Objects) -> Vec<String> {
    let mut faults = Vec::new();
    for object in &objects.0 {
        let mut expect = |what: String, holds: bool| {
            if !holds {
                faults.push(format!("{}: {what}", title(object)));
            }
        };
        check_object(object, &mut expect);
        visit(object, &mut |path, value| check_value(path, value, &mut expect));
    }
    faults
}

fn check_object(object: &Value, expect: &mut impl FnMut(String, bool)) {
    let name = name_of(object);
    let fits = match kind_of(object) {
        // Its pods have the label controller-revision-hash: the name, a dash, and ten characters.
        "StatefulSet" => is_label(name) && name.len() <= 52,
        "Service" => is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase()),
        "Pod" | "Job" | "CronJob" => is_label(name),
        _ => is_subdomain(name),
    };
    expect(format!("name {name:?}"), fits);
    // Objects for Prometheus or Grafana may be in their namespace.
    let elsewhere =
        ["PodMonitor", "ServiceMonitor", "PrometheusRule", "ConfigMap"].contains(&kind_of(object));
    let namespace = text(&object["metadata"]["namespace"]);
    expect("namespace".into(), namespace == NAMESPACE || elsewhere && namespace == "monitoring");
    let labels = &object["metadata"]["labels"];
    for label in ["name", "instance", "version", "managed-by"] {
        let label = format!("app.kubernetes.io/{label}");
        expect(format!("label {label} is missing"), labels[&label].is_string());
    }
    expect("label helm.sh/chart is missing".into(), labels["helm.sh/chart"].is_string());
}

fn check_value(path: &str, value: &Value, expect: &mut impl FnMut(String, bool)) {
    let (parent, last) = path.rsplit_once('/').unwrap_or_default();
    match last {
        "labels" | "matchLabels" if value.is_object() => {
            for (name, value) in fields(value) {
                expect(format!("{path}: {name}: {value}"), is_qualified(name) && is_label_value(value));
                let changes = ["helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"];
                let selects = last == "matchLabels";
                expect(format!("{path} selects by {name}"), !(selects && changes.contains(&name.as_str())));
            }
        }
        "annotations" if parent.ends_with("metadata") => {
            for (name, value) in fields(value) {
                expect(format!("{path}: {name}: {value}"), is_qualified(name) && value.is_string());
            }
        }
        "containers" | "initContainers" | "volumes" => {
            for item in list(value) {
                expect(format!("{path}: {}", item["name"]), is_label(text(&item["name"])));
            }
        }
        "ports" => {
            for port in list(value) {
                let named = port["name"].is_null() || is_port_name(text(&port["name"]));
                expect(format!("{path}: {}", port["name"]), named);
                let number =
                    if port["containerPort"].is_null() { &port["port"] } else { &port["containerPort"] };
                let possible =
                    number.is_string() || number.as_u64().is_some_and(|n| (1..=65535).contains(&n));
                expect(format!("{path}: {number}"), possible);
            }
        }
        "requests" | "limits" => {
            for (name, value) in fields(value) {
                expect(format!("{path}: {name}: {value}"), is_quantity(value));
            }
        }
        "sizeLimit" => expect(format!("{path}: {value}"), is_quantity(value)),
        _ => {}
    }
}

/// DNS-1123 label.
fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len()) && is_of(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), "-")
}

/// DNS-1123 subdomain.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|part| is_of(part, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), "-"))
}

/// The name of a label or an annotation.
fn is_qualified(name: &str) -> bool {
    let (prefix, name) = name.split_once('/').unwrap_or(("a", name));
    is_subdomain(prefix) && name.len() <= 63 && is_of(name, |c| c.is_ascii_alphanumeric(), "-_.")
}

fn is_label_value(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        text.is_empty() || text.len() <= 63 && is_of(text, |c| c.is_ascii_alphanumeric(), "-_.")
    })
}

fn is_port_name(name: &str) -> bool {
    let lettered = name.chars().any(|c| c.is_ascii_lowercase());
    lettered && name.len() <= 15 && !name.contains("--") && is_label(name)
}

fn is_quantity(value: &Value) -> bool {
    let quantity = value.to_string();
    let quantity = quantity.trim_matches('"');
    let number = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (_, unit) = quantity.split_at(number.len());
    let units = ["", "m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi"];
    number.parse::<f64>().is_ok() && units.contains(&unit)
}

/// Whether all characters are `usual`, or one of `inner` if they are not the first or the last.
fn is_of(name: &str, usual: impl Fn(char) -> bool, inner: &str) -> bool {
    name.starts_with(&usual) && name.ends_with(&usual) && name.chars().all(|c| usual(c) || inner.contains(c))
}
