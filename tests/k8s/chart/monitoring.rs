//! Tests the alerts and the dashboard: promtool accepts them, each alert fires in its own test, and they use
//! only metrics and labels that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::promql;
use kit::helm::objects::{list, text, visit, yaml};
use kit::helm::{Tools, Values, chart, directory, in_tree, run, with_tools};

with_tools! {
    promtool_accepts_the_rules_of_every_case,
    every_alert_fires_in_its_test_and_the_test_fails_without_it,
    pods_of_another_release_are_not_counted,
    pods_with_long_names_are_counted,
    alerts_can_be_disabled_and_have_thresholds,
    rules_use_only_existing_metrics_and_labels,
    the_queries_of_the_dashboard_are_valid,
    the_recipe_for_keda_asks_for_a_metric_that_exists,
}

fn promtool_accepts_the_rules_of_every_case(tools: &Tools) {
    for (case, values) in Values::every() {
        let rule = rule_of(tools, &values.and("metrics: {prometheusRule: {enabled: true}}"));
        check(tools, &rule["spec"]).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
    for expr in ["up{", "sum by (a up", "no_such_function(up)"] {
        let broken = json!({"groups": [{"name": "a", "rules": [{"alert": "A", "expr": expr}]}]});
        assert!(check(tools, &broken).is_err(), "{expr} passes");
    }
}

/// Runs the tests that the chart ships with its alerts on the rendered rules. Then it removes each alert in
/// turn, and the tests must fail.
fn every_alert_fires_in_its_test_and_the_test_fails_without_it(tools: &Tools) {
    let rule = rule_of(tools, &tested());
    test(tools, &rule["spec"]).unwrap_or_else(|error| panic!("{error}"));
    let alerts = alerts_of(&rule);
    assert!(alerts.len() >= 10, "{alerts:?}");
    for (n, alert) in alerts.iter().enumerate() {
        let mut without = rule["spec"].clone();
        without["groups"][0]["rules"].as_array_mut().unwrap().remove(n);
        assert!(test(tools, &without).is_err(), "no test needs {alert}");
    }
}

/// The name of one release begins with the name of another.
fn pods_of_another_release_are_not_counted(tools: &Tools) {
    let deployment = "kind: Deployment\nconfig: {dead_letters: {kafka: {topic: a}}}";
    for (values, own, others) in [
        ("{}", "atdata-bridge-0", "atdata-bridge-new-0"),
        (deployment, "atdata-bridge-6c8d5f7b9-x2b4z", "atdata-bridge-new-0"),
        (deployment, "atdata-bridge-6c8d5f7b9-x2b4z", "atdata-bridge-new-6c8d5f7b9-x2b4z"),
    ] {
        let values = Values::minimal().and(values).and("metrics: {prometheusRule: {enabled: true}}");
        let values = values.named("atdata-bridge").option("--namespace", "atdata");
        let rules = &rule_of(tools, &values)["spec"];
        none_missing(tools, rules, own).unwrap_or_else(|error| panic!("{error}"));
        let error = none_missing(tools, rules, others).expect_err(others);
        assert!(error.contains("AtDataBridgePodMissing"), "{error}");
    }
}

/// Kubernetes cuts off the name of a Deployment's pod after 58 characters, before the last five.
fn pods_with_long_names_are_counted(tools: &Tools) {
    let pod = |name: &str| {
        let prefix: String = format!("{name}-6c8d5f7b9-").chars().take(58).collect();
        format!("{prefix}x2b4z")
    };
    let values = Values::minimal().and("kind: Deployment\nconfig: {dead_letters: {kafka: {topic: a}}}");
    let values = values.and("metrics: {prometheusRule: {enabled: true}}").option("--namespace", "atdata");
    for length in [20, 45, 46, 47, 48, 50, 52] {
        let name = format!("{}b", "a".repeat(length - 1));
        let values = values.clone().and(&format!("fullnameOverride: {name}"));
        let rules = &rule_of(tools, &values)["spec"];
        none_missing(tools, rules, &pod(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let other = pod(&format!("{}c", "a".repeat(length - 1)));
        none_missing(tools, rules, &other).expect_err("a pod of another release counts");
    }
}

/// Tests that with this pod alone no alert fires.
fn none_missing(tools: &Tools, rules: &Value, pod: &str) -> Result<String, String> {
    let series = format!("atdata_bridge_ready{{namespace=\"atdata\",pod=\"{pod}\"}}");
    let case = json!({
        "interval": "1m",
        "input_series": [{"series": series, "values": "1x60"}],
        "promql_expr_test": [{"expr": "ALERTS", "eval_time": "40m"}],
    });
    test_by(tools, rules, &json!({"rule_files": [RENDERED], "tests": [case]}).to_string())
}

fn alerts_can_be_disabled_and_have_thresholds(tools: &Tools) {
    let rule = rule_of(tools, &tested());
    for alert in list(&rule["spec"]["groups"][0]["rules"]) {
        let name = text(&alert["alert"]);
        for annotation in ["summary", "description"] {
            assert!(!text(&alert["annotations"][annotation]).is_empty(), "{name} has no {annotation}");
        }
        assert!(["critical", "warning", "info"].contains(&text(&alert["labels"]["severity"])), "{alert}");
        let with = |settings: &str| {
            let setting = format!("metrics: {{prometheusRule: {{alerts: {{{name}: {settings}}}}}}}");
            rule_of(tools, &tested().and(&setting))
        };
        assert!(
            !alerts_of(&with("{enabled: false}")).contains(&name.to_owned()),
            "{name} can't be switched off"
        );
        let changed = with("{for: 77m, severity: info}");
        let changed =
            list(&changed["spec"]["groups"][0]["rules"]).find(|known| known["alert"] == name).unwrap();
        assert_eq!(
            (&changed["for"], &changed["labels"]["severity"]),
            (&json!("77m"), &json!("info")),
            "{name}"
        );
    }
    let old = "metrics: {prometheusRule: {alerts: {AtDataBridgeOldEvents: {threshold: 1000000}}}}";
    let rule = rule_of(tools, &tested().and(old));
    assert!(rule.to_string().contains("> 1000000\""), "{rule}");
}

fn rules_use_only_existing_metrics_and_labels(tools: &Tools) {
    let known = Known::read();
    for (case, values) in Values::every() {
        let rule = rule_of(tools, &values.and("metrics: {prometheusRule: {enabled: true}}"));
        for rule in list(&rule["spec"]["groups"][0]["rules"]) {
            let unknown = known.unexpected(text(&rule["expr"]));
            assert!(unknown.is_empty(), "{case}: {} uses {unknown:?}", rule["alert"]);
            for annotation in ["summary", "description"] {
                let template = text(&rule["annotations"][annotation]);
                let labels = template.split("$labels.").skip(1).map(promql::first_name);
                for label in labels {
                    assert!(known.labels.contains(label), "{}: no label {label}", rule["alert"]);
                }
            }
        }
    }
    for query in
        ["atdata_bridge_redy == 0", "rate(atdata_bridge_sessions[5m])", "sum by (que) (up)", "up{quue=\"a\"}"]
    {
        assert!(!known.unexpected(query).is_empty(), "{query} passes");
    }
}

fn the_queries_of_the_dashboard_are_valid(tools: &Tools) {
    let known = Known::read();
    let dashboard: Value = serde_json::from_str(&read("dashboards/atdata-bridge.json")).expect("JSON");
    let mut queries = Vec::new();
    visit(&dashboard, &mut |path, value| {
        if path.ends_with("/expr") {
            queries.push(text(value).to_owned());
        }
    });
    assert!(queries.len() > 10, "{queries:?}");
    let queries: Vec<String> = queries
        .iter()
        .map(|query| {
            query.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$__interval", "1m")
        })
        .collect();
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(n, query)| json!({"record": format!("query:{n}"), "expr": query}))
        .collect();
    check(tools, &json!({"groups": [{"name": "dashboard", "rules": rules}]}))
        .unwrap_or_else(|error| panic!("{error}"));
    for query in &queries {
        let unexpected = known.unexpected(query);
        assert!(unexpected.is_empty(), "{query} uses {unexpected:?}");
    }
}

fn the_recipe_for_keda_asks_for_a_metric_that_exists(tools: &Tools) {
    let page = fs::read_to_string(in_tree("docs/kubernetes.md")).unwrap();
    let recipe = page.split("```").find(|block| block.contains("keda.sh")).expect("the recipe");
    let recipe = yaml(recipe.strip_prefix("yaml").expect("a block of YAML"));
    let rendered = tools.helm().objects(&tested());
    let target = rendered.the("StatefulSet");
    assert_eq!(recipe["spec"]["scaleTargetRef"]["name"], target["metadata"]["name"]);
    assert_eq!(recipe["metadata"]["namespace"], target["metadata"]["namespace"]);
    assert_eq!(recipe["spec"]["minReplicaCount"], 1, "without a pod nobody knows how far behind it is");
    let query = text(&recipe["spec"]["triggers"][0]["metadata"]["query"]);
    assert!(Known::read().unexpected(query).is_empty(), "{query}");
    let rule = json!({"record": "query:keda", "expr": query});
    check(tools, &json!({"groups": [{"name": "keda", "rules": [rule]}]}))
        .unwrap_or_else(|error| panic!("{error}"));
}

/// The values that the head of the alerts' test file describes.
fn tested() -> Values {
    Values::of("files")
        .and("replicaCount: 2\nmetrics: {prometheusRule: {enabled: true, alerts: {AtDataBridgeSilent: {enabled: true}}}}")
        .named("atdata-bridge")
        .option("--namespace", "atdata")
}

fn rule_of(tools: &Tools, values: &Values) -> Value {
    tools.helm().objects(values).the("PrometheusRule").clone()
}

fn alerts_of(rule: &Value) -> Vec<String> {
    list(&rule["spec"]["groups"][0]["rules"]).map(|alert| text(&alert["alert"]).into()).collect()
}

fn check(tools: &Tools, rules: &Value) -> Result<String, String> {
    let directory = directory();
    let file = directory.path().join("rules.yaml");
    fs::write(&file, rules.to_string()).unwrap();
    run(Command::new(&tools.promtool).args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(file), "")
}

fn test(tools: &Tools, rules: &Value) -> Result<String, String> {
    test_by(tools, rules, &read("rules/alerts.test.yaml"))
}

/// The path of the rules in the tests.
const RENDERED: &str = "alerts.rendered.yaml";

fn test_by(tools: &Tools, rules: &Value, tests: &str) -> Result<String, String> {
    let directory = directory();
    fs::write(directory.path().join(RENDERED), rules.to_string()).unwrap();
    let file = directory.path().join("alerts.test.yaml");
    fs::write(&file, tests).unwrap();
    run(Command::new(&tools.promtool).args(["test", "rules"]).arg(file), "")
}

/// The metrics and labels that queries may use.
struct Known {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

impl Known {
    /// Reads the metrics of docs/metrics.md and adds those of every Prometheus on Kubernetes.
    fn read() -> Self {
        let page = fs::read_to_string(in_tree("docs/metrics.md")).unwrap();
        let others = ["up", "kubelet_volume_stats_used_bytes", "kubelet_volume_stats_capacity_bytes"];
        let mut metrics: BTreeSet<String> = others.map(Into::into).into();
        let of_kubernetes = ["namespace", "pod", "container", "persistentvolumeclaim", "le"];
        let mut labels: BTreeSet<String> = of_kubernetes.map(Into::into).into();
        for row in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let name = cells[1].trim_matches('`');
            match cells[2] {
                "histogram" => {
                    metrics.extend(["bucket", "count", "sum"].map(|part| format!("{name}_{part}")))
                }
                _ => drop(metrics.insert(name.into())),
            }
            labels.extend(cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned()));
        }
        assert!(metrics.len() > 15, "{metrics:?}");
        Self { metrics, labels }
    }

    fn unexpected(&self, query: &str) -> Vec<String> {
        let names = promql::names(query);
        let metrics = names.metrics.into_iter().filter(|name| !self.metrics.contains(name));
        metrics.chain(names.labels.into_iter().filter(|name| !self.labels.contains(name))).collect()
    }
}

fn read(file: impl AsRef<Path>) -> String {
    fs::read_to_string(chart().join(file)).unwrap()
}
