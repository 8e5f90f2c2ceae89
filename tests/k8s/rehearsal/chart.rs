//! Renders the chart as for the API server, and reads the fields that a kubelet uses.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use kit::provision::provisioned;

const CHART: &str = "helm/atdata-bridge";
/// The name of the release, and its Kubernetes namespace.
const RELEASE: &str = "rehearsal";
pub const NAMESPACE: &str = "mirror";

/// The objects rendered from some values.
pub struct Release {
    objects: Vec<Value>,
}

impl Release {
    /// Renders the objects that `helm install` would send.
    pub fn of(values: &Value) -> Self {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHART);
        let mut helm = Command::new(helm());
        helm.args(["template", RELEASE]).arg(chart).args(["--namespace", NAMESPACE, "--values", "-"]);
        // As a cluster does, which knows the kind of the test's pod.
        helm.args(["--api-versions", "v1/Pod"]);
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

    /// The data of a ConfigMap or Secret of the chart.
    pub fn data(&self, kind: &str, name: &str) -> Option<&Value> {
        let named = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        let object = self.objects.iter().find(named)?;
        Some(if kind == "Secret" { &object["stringData"] } else { &object["data"] })
    }

    /// The pod template of the StatefulSet.
    pub fn pods(&self) -> Template<'_> {
        let set = self.only("StatefulSet");
        let spec = &set["spec"];
        // The rehearsal does what a controller does with these settings.
        assert_eq!(spec["podManagementPolicy"], "Parallel");
        assert_eq!(spec["updateStrategy"]["type"], "RollingUpdate");
        let claims = list(&spec["volumeClaimTemplates"]).iter().map(|claim| text(&claim["metadata"]["name"]));
        Template {
            name: text(&set["metadata"]["name"]),
            spec: &spec["template"]["spec"],
            claims: claims.collect(),
        }
    }

    /// The pod of `helm test`.
    pub fn test(&self) -> Template<'_> {
        let pod = self.only("Pod");
        assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
        Template { name: text(&pod["metadata"]["name"]), spec: &pod["spec"], claims: Vec::new() }
    }
}

/// The template of a pod.
#[derive(Clone)]
pub struct Template<'a> {
    /// The name of the StatefulSet, or of a pod without a set.
    pub name: &'a str,
    pub spec: &'a Value,
    /// The volume claims, of which each pod has its own, permanently.
    pub claims: Vec<&'a str>,
}

impl Template<'_> {
    /// The only container. Panics if the template has a field that a kubelet uses and the rehearsal does not
    /// support.
    pub fn container(&self) -> &Value {
        only_known(self.spec, &[SUPPORTED_IN_POD, IGNORED_IN_POD]);
        let [container] = list(&self.spec["containers"]) else { panic!("pods have one container") };
        only_known(container, &[SUPPORTED_IN_CONTAINER, IGNORED_IN_CONTAINER]);
        list(&container["volumeMounts"]).iter().for_each(|mount| only_known(mount, &[MOUNT]));
        list(&self.spec["volumes"]).iter().for_each(|volume| only_known(volume, &[VOLUME]));
        container
    }

    /// The time that a kubelet waits after SIGTERM before it kills the process.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30))
    }

    /// The path and the port number of a probe; `None` if there is no such probe.
    pub fn probe(&self, probe: &str) -> Option<(&str, u16)> {
        let container = self.container();
        let get = container[probe]["httpGet"].as_object()?;
        let port = list(&container["ports"]).iter().find(|port| port["name"] == get["port"]);
        let port = port.and_then(|port| port["containerPort"].as_u64()).expect("the port of a probe");
        Some((text(&get["path"]), u16::try_from(port).expect("a port")))
    }
}

const SUPPORTED_IN_POD: &[&str] = &["containers", "volumes", "terminationGracePeriodSeconds"];
/// The user and the node. A process of the rehearsal cannot imitate them.
const IGNORED_IN_POD: &[&str] = &[
    "serviceAccountName",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "securityContext",
    "nodeSelector",
    "topologySpreadConstraints",
    "restartPolicy",
];
const SUPPORTED_IN_CONTAINER: &[&str] =
    &["args", "env", "volumeMounts", "ports", "livenessProbe", "readinessProbe"];
const IGNORED_IN_CONTAINER: &[&str] =
    &["name", "image", "imagePullPolicy", "securityContext", "resources", "terminationMessagePolicy"];
const MOUNT: &[&str] = &["name", "mountPath", "readOnly"];
const VOLUME: &[&str] = &["name", "configMap", "secret", "projected", "emptyDir"];

fn only_known(object: &Value, known: &[&[&str]]) {
    for name in object.as_object().into_iter().flat_map(|object| object.keys()) {
        let is_known = known.iter().any(|names| names.contains(&name.as_str()));
        assert!(is_known, "the rehearsal does not support `{name}` of a pod");
    }
}

/// The path of Helm; panics if it is not available.
pub fn helm() -> PathBuf {
    let directory = provisioned("kubernetes", "helm-4");
    directory.unwrap_or_else(|reason| panic!("the rehearsal renders the chart: {reason}")).join("helm")
}

/// The items of a list; none if it is missing.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
