//! Tests the chart with a real Kubernetes API server: the server validates the rendered objects, and both
//! Helm versions install, upgrade, roll back and uninstall releases. No pod runs. `make apiserver-test`; the
//! document goes to standard output, progress to standard error.

#![allow(unreachable_pub, reason = "only this binary uses it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a campaign fails like a test, and prints what it found"
)]

mod api;
mod releases;

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use api::Api;
use kit::helm::objects::{Objects, kind_of, list, name_of, text, title, yaml};
use kit::helm::{NAMESPACE, Tools, Values};
use kit::ports::free_port;
use kit::process::Server;
use kit::provision;

fn main() {
    let tools = Tools::find().unwrap_or_else(|reason| panic!("{reason}"));
    let server = start();
    let api = Api::of(&server.directory().join("kubeconfig"));
    let servers = [
        ("API server", format!("kube-apiserver {}, with etcd in its process", api.version())),
        ("clients", tools.helms.each_ref().map(releases::name).join(", ")),
    ];
    print!("{}", kit::report::titled("The chart before an API server", "apiserver-test", &servers));
    prepare(&api, &tools);
    check_rendered(&api, &tools);
    check_broken(&api, &tools);
    releases::check(&api, &tools, server.directory());
    server.kill();
}

/// Starts etcd and the API server on their own ports. They end with this process.
fn start() -> Server {
    let program = provision::provisioned("apiserver", "1.37").unwrap_or_else(|reason| panic!("{reason}"));
    let server = Server::new("apiserver");
    let directory = server.directory().to_owned();
    server.launch_on(
        || [free_port(), free_port(), free_port()],
        |ports| {
            let mut command = Command::new(program.join("apiserver"));
            command.arg(&directory).args(ports.map(|port| port.to_string()));
            command
        },
    );
    server
}

/// Creates what a cluster has before the chart is installed: the operator's definitions, namespaces that
/// accept only restricted pods, and the objects that the values of `ci/` name.
fn prepare(api: &Api, tools: &Tools) {
    for file in fs::read_dir(&tools.operator).unwrap() {
        api.create(&yaml(&fs::read_to_string(file.unwrap().path()).unwrap()));
    }
    api.wait_for("monitoring.coreos.com/v1", 3);
    let levels = ["enforce", "audit", "warn"].map(|mode| format!("pod-security.kubernetes.io/{mode}"));
    let labels: Value = levels.into_iter().map(|name| (name, json!("restricted"))).collect();
    for name in [NAMESPACE, "monitoring", "events"] {
        let metadata = json!({"name": name, "labels": labels});
        api.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    let class = |version: &str, kind: &str, name: &str, more: (&str, Value)| {
        let mut class = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        class[more.0] = more.1;
        api.create(&class);
    };
    class("scheduling.k8s.io/v1", "PriorityClass", "high", ("value", json!(1000)));
    class("node.k8s.io/v1", "RuntimeClass", "gvisor", ("handler", json!("runsc")));
}

/// Validates each object of each `ci/` case, and a bare pod of each template, because the server applies the
/// namespace's level only to pods.
fn check_rendered(api: &Api, tools: &Tools) {
    println!("\n## Judged\n");
    println!(
        "Each object that `helm template` makes of each file in `ci/`, and a pod of each template, created with"
    );
    println!(
        "`dryRun=All`, `fieldValidation=Strict` in a namespace with `enforce=restricted`; a warning is a failure.\n"
    );
    println!("| values | objects | pods | refused or warned |\n|---|---:|---:|---|");
    for (case, values) in Values::every_for_a_cluster() {
        let objects = tools.helm().objects(&values);
        let pods = pods_of(&objects);
        for object in objects.0.iter().chain(&pods) {
            api.dry_run(object).unwrap_or_else(|error| panic!("{case}: {}: {error}", title(object)));
        }
        println!("| {case} | {} | {} | none |", objects.0.len(), pods.len());
    }
}

/// Makes a pod of each template, as the controllers do.
fn pods_of(objects: &Objects) -> Vec<Value> {
    let pods = objects.pods().filter(|pod| kind_of(pod.owner) != "Pod").map(|pod| {
        let mut metadata = pod.metadata.clone();
        metadata["name"] = json!(format!("{}-0", name_of(pod.owner)));
        metadata["namespace"] = pod.owner["metadata"]["namespace"].clone();
        let mut spec = pod.spec.clone();
        for claim in list(&pod.owner["spec"]["volumeClaimTemplates"]) {
            let name = &claim["metadata"]["name"];
            let volume =
                json!({"name": name, "persistentVolumeClaim": {"claimName": format!("{}-0", text(name))}});
            spec["volumes"].as_array_mut().expect("volumes").push(volume);
        }
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    });
    pods.collect()
}

/// Checks that the server refuses objects that are broken on purpose, each for the expected reason.
fn check_broken(api: &Api, tools: &Tools) {
    println!("\n## Refused\n");
    println!("The same with one thing broken on purpose: that the judgement above is one.\n");
    println!("| broken | the API server's words |\n|---|---|");
    let everything = tools.helm().objects(&Values::of("everything"));
    let pod = Objects(pods_of(&everything));
    let breaks = [
        (&everything, "StatefulSet", "/spec/replica", json!(2), "unknown field"),
        (&everything, "StatefulSet", "/spec/selector/matchLabels/a", json!("b"), "selector"),
        (&everything, "StatefulSet", "/spec/template/spec/containers/0/image", json!(""), "image: Required"),
        (
            &everything,
            "StatefulSet",
            "/spec/template/spec/containers/0/securityContext/capabilities",
            json!({}),
            "would violate PodSecurity",
        ),
        (&everything, "Service", "/spec/ports/0/port", json!(70000), "between 1 and 65535"),
        (&everything, "PodDisruptionBudget", "/spec/minAvailable", json!(1), "both"),
        (&everything, "PodMonitor", "/spec/podMetricsEndpoints/0/interval", json!("soon"), "interval"),
        (&everything, "PrometheusRule", "/spec/groups/0/rules/0/expression", json!("up"), "unknown field"),
        // For a pod with a user namespace the standard allows root, and the server forbids the namespaces of the node.
        (&pod, "Pod", "/spec/hostPID", json!(true), "when `hostUsers` is false"),
        (&pod, "Pod", "/spec/containers/0/ports/0/hostPort", json!(9464), "violates PodSecurity"),
        (&pod, "Pod", "/spec/containers/0/securityContext/capabilities", json!({}), "violates PodSecurity"),
        (&pod, "Pod", "/spec/priorityClassName", json!("gone"), "no PriorityClass"),
    ];
    for (objects, kind, pointer, value, reason) in breaks {
        let broken = objects.broken(kind, pointer, value.clone());
        let object = broken.of_kind(kind).find(|object| object.pointer(pointer) == Some(&value)).unwrap();
        let error = api.dry_run(object).expect_err("something broken");
        assert!(error.contains(reason), "{kind}{pointer} = {value}: {error}");
        println!("| {kind} `{pointer}` = `{value}` | {} |", error.replace('|', "\\|"));
    }
}
