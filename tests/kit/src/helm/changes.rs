//! Provides values that a user may change in an upgrade of a release.

use super::Values;

const CHANGES: &str = concat!(
    "image: {tag: next}\n",
    "commonLabels: {team: another}\n",
    "commonAnnotations: {a: another}\n",
    "podLabels: {app: another}\n",
    "podAnnotations: {a: another}\n",
    "terminationGracePeriodSeconds: 300\n",
    "minReadySeconds: 3\n",
    "revisionHistoryLimit: 3\n",
    "resources: {limits: {memory: 1Gi}}\n",
    "service: {labels: {a: b}, annotations: {a: b}}\n",
    "metrics: {dashboard: {enabled: true}, prometheusRule: {enabled: true}}\n",
    "replicaCount: 5\n",
);

const CONFIG: &str = "config: {source: {prefetch: 99}, log: {format: json}}";

/// The values of a `ci/` case with all of these changes.
pub fn changed(case: &str, values: Values) -> Values {
    let strategy = if case == "deployment" { "Recreate" } else { "OnDelete" };
    let values = values.and(CHANGES);
    // Here the configuration is in a ConfigMap of the user's.
    let values = if case == "existing-config-map" { values } else { values.and(CONFIG) };
    let values = values.and(&format!("updateStrategy: {{type: {strategy}, rollingUpdate: null}}\n"));
    values.and("networkPolicy: {enabled: true, egressPorts: [9093]}")
}
