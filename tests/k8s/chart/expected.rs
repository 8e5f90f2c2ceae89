//! Tests values that users know from the charts of other programs (docs/chart-comparison.md).

use std::fs;

use serde_json::{Value, json};

use kit::helm::objects::{Objects, at, list};
use kit::helm::{Tools, Values, chart, in_tree, with_tools};

with_tools! {
    the_workload_alone_can_be_annotated,
    the_account_can_be_labelled_and_the_autoscaler_annotated,
    pods_can_run_in_a_user_namespace,
    an_endpoint_can_have_any_field,
    a_prometheus_without_the_operator_can_find_the_pods,
    claims_can_select_volumes,
    a_change_of_extra_objects_can_restart_pods,
    pods_go_to_linux_nodes_unless_told_otherwise,
}

fn objects(tools: &Tools, yaml: &str) -> Objects {
    tools.helm().objects(&Values::minimal().and(yaml))
}

fn the_workload_alone_can_be_annotated(tools: &Tools) {
    let kafka =
        "config: {sinks: {file: null, kafka: {brokers: [a], topic: b}}, dead_letters: {kafka: {topic: c}}}";
    for (kind, values) in [("StatefulSet", ""), ("Deployment", kafka)] {
        let values =
            format!("kind: {kind}\nworkloadAnnotations: {{a.b/c: d}}\ncommonAnnotations: {{e: f}}\n{values}");
        for object in &objects(tools, &values).0 {
            let is_workload = object["kind"] == kind;
            assert_eq!(object["metadata"]["annotations"]["a.b/c"] == "d", is_workload, "{object}");
            assert_eq!(object["metadata"]["annotations"]["e"], "f", "{object}");
        }
    }
}

fn the_account_can_be_labelled_and_the_autoscaler_annotated(tools: &Tools) {
    let values = "serviceAccount: {labels: {a: b}}\nautoscaling: {enabled: true, annotations: {c: d}}";
    let objects = objects(tools, values);
    assert_eq!(objects.the("ServiceAccount")["metadata"]["labels"]["a"], "b");
    assert_eq!(objects.the("HorizontalPodAutoscaler")["metadata"]["annotations"]["c"], "d");
}

fn pods_can_run_in_a_user_namespace(tools: &Tools) {
    for (values, expected) in [("{}", Value::Null), ("hostUsers: false", json!(false))] {
        for pod in objects(tools, values).pods() {
            assert_eq!(pod.spec["hostUsers"], expected, "{values}");
        }
    }
}

/// Such as those for a mesh that lets in only TLS.
fn an_endpoint_can_have_any_field(tools: &Tools) {
    let endpoint =
        "{scheme: https, tlsConfig: {insecureSkipVerify: true}, honorTimestamps: false, path: null}";
    for (name, kind, endpoints) in [
        ("podMonitor", "PodMonitor", "podMetricsEndpoints"),
        ("serviceMonitor", "ServiceMonitor", "endpoints"),
    ] {
        let values = format!("metrics: {{{name}: {{enabled: true, endpoint: {endpoint}}}}}");
        let objects = objects(tools, &values);
        assert_eq!(
            objects.the(kind)["spec"][endpoints],
            json!([{
                "port": "admin", "honorLabels": false, "interval": "30s", "scheme": "https",
                "tlsConfig": {"insecureSkipVerify": true}, "honorTimestamps": false,
            }])
        );
    }
}

fn a_prometheus_without_the_operator_can_find_the_pods(tools: &Tools) {
    let of = |values: &str| {
        let annotations =
            objects(tools, values).workload().owner["spec"]["template"]["metadata"]["annotations"].clone();
        ["scrape", "path", "port"].map(|name| annotations[format!("prometheus.io/{name}")].clone())
    };
    assert_eq!(of("{}"), [Value::Null, Value::Null, Value::Null]);
    let values = "metrics: {scrapeAnnotations: true}\nconfig: {admin: {listen: '0.0.0.0:8080'}}";
    assert_eq!(of(values), ["true", "/metrics", "8080"]);
    let values = "metrics: {scrapeAnnotations: true}\npodAnnotations: {prometheus.io/port: '1'}";
    assert_eq!(of(values), ["true", "/metrics", "1"]);
}

fn claims_can_select_volumes(tools: &Tools) {
    let objects = objects(tools, "persistence: {selector: {matchLabels: {tier: gold}}}");
    let claims: Vec<_> = list(&objects.the("StatefulSet")["spec"]["volumeClaimTemplates"]).collect();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0]["spec"]["selector"], json!({"matchLabels": {"tier": "gold"}}));
}

fn a_change_of_extra_objects_can_restart_pods(tools: &Tools) {
    let of = |rolls: bool, data: &str| {
        let map = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}, data: {{b: {data}}}}}");
        let values = format!("rollOnExtraObjectsChange: {rolls}\nextraObjects: [{map}]");
        objects(tools, &values).workload().owner["spec"]["template"].clone()
    };
    assert_eq!(of(false, "c"), of(false, "d"));
    assert_ne!(of(true, "c"), of(true, "d"));
    assert_eq!(of(true, "c"), of(true, "c"));
}

fn pods_go_to_linux_nodes_unless_told_otherwise(tools: &Tools) {
    for (values, expected) in [
        ("{}", json!({"kubernetes.io/os": "linux"})),
        ("nodeSelector: {a: b}", json!({"a": "b", "kubernetes.io/os": "linux"})),
        ("nodeSelector: {kubernetes.io/os: null}", Value::Null),
    ] {
        for pod in objects(tools, values).pods() {
            assert_eq!(pod.spec["nodeSelector"], expected, "{values}");
        }
    }
}

/// Whether the schema of the values has `name`, such as `metrics.podMonitor.endpoint`.
fn is_value(schema: &Value, name: &str) -> bool {
    let mut part = schema;
    for step in name.split('.') {
        if let Some(definition) = part["$ref"].as_str() {
            part = at(schema, definition.trim_start_matches('#'));
        }
        part = &part["properties"][step];
    }
    !part.is_null()
}

/// The cells of the column for this chart in the table of features.
fn own_cells(document: &str) -> impl Iterator<Item = &str> {
    let rows = document.lines().skip_while(|line| !line.starts_with("| feature | this chart |")).skip(2);
    rows.take_while(|line| line.starts_with('|')).filter_map(|row| row.split('|').nth(2))
}

#[test]
fn every_value_that_the_comparison_names_exists() {
    let schema = fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let document = fs::read_to_string(in_tree("docs/chart-comparison.md")).unwrap();
    let names: Vec<&str> = own_cells(&document).flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(names.len() > 50, "{names:?}");
    // `_file` is the end of many names.
    let unknown: Vec<_> =
        names.into_iter().filter(|name| *name != "_file" && !is_value(&schema, name)).collect();
    assert_eq!(unknown, [""; 0]);
    for name in ["metrics.podMonitor.endpoints", "config.source.passwords", "kind.name", "x"] {
        assert!(!is_value(&schema, name), "{name}");
    }
}
