//! The chart as the API server would get it, and what of it a kubelet reads.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use kit::provision::provisioned;

const CHART: &str = "helm/atdata-bridge";
/// The name of the release, and the namespace of Kubernetes.
const RELEASE: &str = "rehearsal";
pub const NAMESPACE: &str = "mirror";

/// What the chart makes of some values.
pub struct Release {
    objects: Vec<Value>,
}

impl Release {
    /// As `helm install` would send it.
    pub fn of(values: &Value) -> Self {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHART);
        let mut helm = Command::new(helm());
        helm.args(["template", RELEASE]).arg(chart).args(["--namespace", NAMESPACE, "--values", "-"]);
        let mut helm = helm.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run helm");
        let mut input = helm.stdin.take().expect("standard input");
        input.write_all(values.to_string().as_bytes()).expect("give helm the values");
        drop(input);
        let output = helm.wait_with_output().expect("wait for helm");
        assert!(output.status.success(), "helm refused the values {values:#}");
        let text = String::from_utf8(output.stdout).expect("text");
        Self { objects: serde_saphyr::from_multiple(&text).expect("what helm renders is YAML") }
    }

    /// The only object of this kind.
    pub fn only(&self, kind: &str) -> &Value {
        let mut found = self.objects.iter().filter(|object| object["kind"] == kind);
        let object = found.next().unwrap_or_else(|| panic!("the chart renders no {kind}"));
        assert!(found.next().is_none(), "the chart renders several of {kind}");
        object
    }

    /// The data of a ConfigMap or Secret of the chart's own.
    pub fn data(&self, kind: &str, name: &str) -> Option<&Value> {
        let named = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        let object = self.objects.iter().find(named)?;
        Some(if kind == "Secret" { &object["stringData"] } else { &object["data"] })
    }

    /// The StatefulSet's pods.
    pub fn pods(&self) -> Template<'_> {
        let set = self.only("StatefulSet");
        let spec = &set["spec"];
        // What the rehearsal does is what a controller does with these.
        assert_eq!(spec["podManagementPolicy"], "Parallel");
        assert_eq!(spec["updateStrategy"]["type"], "RollingUpdate");
        let claims = list(&spec["volumeClaimTemplates"]).iter().map(|claim| text(&claim["metadata"]["name"]));
        Template {
            name: text(&set["metadata"]["name"]),
            spec: &spec["template"]["spec"],
            claims: claims.collect(),
        }
    }

    /// The pod that `helm test` starts.
    pub fn test(&self) -> Template<'_> {
        let pod = self.only("Pod");
        assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
        Template { name: text(&pod["metadata"]["name"]), spec: &pod["spec"], claims: Vec::new() }
    }
}

/// What pods are made after.
#[derive(Clone)]
pub struct Template<'a> {
    /// Of the set, or of a pod that belongs to none.
    pub name: &'a str,
    pub spec: &'a Value,
    /// The volumes that each pod has of its own for ever.
    pub claims: Vec<&'a str>,
}

impl Template<'_> {
    /// The only one. What a kubelet would act on, and the rehearsal does not know, is a failure.
    pub fn container(&self) -> &Value {
        only_known(self.spec, &[PLAYED_OF_POD, NOT_PLAYED_OF_POD]);
        let [container] = list(&self.spec["containers"]) else { panic!("pods have one container") };
        only_known(container, &[PLAYED_OF_CONTAINER, NOT_PLAYED_OF_CONTAINER]);
        list(&container["volumeMounts"]).iter().for_each(|mount| only_known(mount, &[MOUNT]));
        list(&self.spec["volumes"]).iter().for_each(|volume| only_known(volume, &[VOLUME]));
        container
    }

    /// How long after SIGTERM a kubelet waits before it kills.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30))
    }

    /// The path and the port of a probe, which names the port; `None` if there is no such probe.
    pub fn probe(&self, probe: &str) -> Option<(&str, u16)> {
        let container = self.container();
        let get = container[probe]["httpGet"].as_object()?;
        let port = list(&container["ports"]).iter().find(|port| port["name"] == get["port"]);
        let port = port.and_then(|port| port["containerPort"].as_u64()).expect("the port of a probe");
        Some((text(&get["path"]), u16::try_from(port).expect("a port")))
    }
}

const PLAYED_OF_POD: &[&str] = &["containers", "volumes", "terminationGracePeriodSeconds"];
/// Who it runs as, and on which node: nothing that a process could tell the bridge.
const NOT_PLAYED_OF_POD: &[&str] = &[
    "serviceAccountName",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "securityContext",
    "topologySpreadConstraints",
    "restartPolicy",
];
const PLAYED_OF_CONTAINER: &[&str] =
    &["args", "env", "volumeMounts", "ports", "livenessProbe", "readinessProbe"];
const NOT_PLAYED_OF_CONTAINER: &[&str] =
    &["name", "image", "imagePullPolicy", "securityContext", "resources"];
const MOUNT: &[&str] = &["name", "mountPath", "readOnly"];
const VOLUME: &[&str] = &["name", "configMap", "secret", "projected", "emptyDir"];

fn only_known(object: &Value, known: &[&[&str]]) {
    for name in object.as_object().into_iter().flat_map(|object| object.keys()) {
        let is_known = known.iter().any(|names| names.contains(&name.as_str()));
        assert!(is_known, "the rehearsal does not know what `{name}` of a pod does");
    }
}

/// Where Helm is, or why there is none.
pub fn helm() -> PathBuf {
    let directory = provisioned("kubernetes", "helm-4");
    directory.unwrap_or_else(|reason| panic!("the rehearsal renders the chart: {reason}")).join("helm")
}

/// Its items; none of what is missing.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
