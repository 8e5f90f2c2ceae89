//! Tests releases with install, upgrade, rollback and uninstall. The objects are really stored.

use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api::Api;
use kit::helm::changes::changed;
use kit::helm::objects::{Objects, at, fields, text, title};
use kit::helm::{Helm, NAMESPACE, Tools, Values, chart, directory, run};

/// Checks each `ci/` case with each Helm version, one after the other.
pub fn check(api: &Api, tools: &Tools, directory: &Path) {
    println!("\n## Installed, upgraded, rolled back, removed\n");
    println!(
        "Each use under each Helm, as a release of its own: `helm install`, `helm upgrade` with other values,"
    );
    println!(
        "`helm rollback`, `helm uninstall`. After each step every object is in the API server as rendered, or gone.\n"
    );
    println!("| values | {} | {} |\n|---|---|---|", name(&tools.helms[0]), name(&tools.helms[1]));
    for (case, values) in Values::every_for_a_cluster() {
        let steps = tools.helms.each_ref().map(|helm| {
            eprintln!("{case}: {}", name(helm));
            let values = values.clone().named(&case);
            Release { api, helm, kubeconfig: directory.join("kubeconfig"), case: &case, values }
                .run_lifecycle()
        });
        println!("| {case} | {} | {} |", steps[0], steps[1]);
    }
    check_immutable_fields(api, tools, directory);
}

/// The name and version of a Helm.
pub fn name(helm: &Helm) -> String {
    let version = run(helm.command().args(["version", "--template={{.Version}}"]), "");
    format!("Helm {}", version.expect("Helm's version").trim())
}

/// Runs a Helm command on a release in the cluster. Returns its output, including standard error.
fn run_helm(helm: &Helm, verb: &str, kubeconfig: &Path, values: &Values) -> Result<String, String> {
    let directory = directory();
    let mut command = helm.command();
    command.arg("--kubeconfig").arg(kubeconfig).args(["--namespace", NAMESPACE, verb, values.release()]);
    if ["install", "upgrade"].contains(&verb) {
        values.pass(command.arg(chart()), directory.path());
    }
    let Output { status, stdout, stderr } = command.output().expect("run Helm");
    let output = [stderr, stdout].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    if status.success() { Ok(output) } else { Err(output) }
}

struct Release<'a> {
    api: &'a Api,
    helm: &'a Helm,
    kubeconfig: PathBuf,
    case: &'a str,
    values: Values,
}

impl Release<'_> {
    fn run_lifecycle(&self) -> String {
        let (first, second) = (&self.values, changed(self.case, self.values.clone()));
        let [before, after] = [first, &second].map(|values| stored_of(self.helm.objects(values)));
        self.helm("install", first);
        self.assert_stored(&before, "install");
        self.helm("upgrade", &second);
        self.assert_stored(&after, "upgrade");
        self.assert_selector_is_immutable(&after);
        self.helm("rollback", first);
        self.assert_stored(&before, "rollback");
        self.helm("uninstall", first);
        for object in before.0.iter().chain(&after.0) {
            assert!(self.is_gone(object), "{}: uninstall left {}", self.case, title(object));
        }
        format!("{} → {} → {} → 0 objects", before.0.len(), after.0.len(), before.0.len())
    }

    fn helm(&self, verb: &str, values: &Values) {
        let output = run_helm(self.helm, verb, &self.kubeconfig, values);
        let output = output.unwrap_or_else(|error| panic!("{}: {verb}: {error}", self.case));
        assert!(!output.to_ascii_lowercase().contains("warning"), "{}: {verb}: {output}", self.case);
    }

    /// Asserts that the stored objects contain everything that was rendered. The server may add fields.
    fn assert_stored(&self, objects: &Objects, verb: &str) {
        for object in &objects.0 {
            let stored = self.api.stored(object);
            let stored = stored.unwrap_or_else(|| panic!("{}: {verb}: no {}", self.case, title(object)));
            let place = format!("{}: {verb}: {}", self.case, title(object));
            for pointer in ["/metadata/labels", "/metadata/annotations", "/spec", "/data"] {
                let rendered = at(object, pointer);
                if !rendered.is_null() {
                    assert_within(rendered, at(&stored, pointer), &format!("{place}{pointer}"));
                }
            }
            // The server stores `stringData` of a Secret as `data`.
            for (name, value) in fields(&object["stringData"]) {
                let data = json!(STANDARD.encode(text(value)));
                assert_eq!(stored["data"][name], data, "{place}/stringData/{name}");
            }
        }
    }

    fn assert_selector_is_immutable(&self, objects: &Objects) {
        let owner = objects.workload().owner;
        let selector = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
        let error = self.api.change(owner, &selector).expect_err("another selector");
        assert!(error.contains("selector") || error.contains("updates to statefulset spec"), "{error}");
    }

    /// Whether the object is deleted, or waits only for a controller to release it. No controller runs here.
    fn is_gone(&self, object: &Value) -> bool {
        self.api.stored(object).is_none_or(|stored| stored["metadata"]["deletionTimestamp"].is_string())
    }
}

/// Leaves out hooks, which Helm creates only when they run. They never run here.
fn stored_of(objects: Objects) -> Objects {
    let is_hook = |object: &Value| !at(object, "/metadata/annotations/helm.sh~1hook").is_null();
    Objects(objects.0.into_iter().filter(|object| !is_hook(object)).collect())
}

fn assert_within(rendered: &Value, stored: &Value, place: &str) {
    match rendered {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                assert_within(value, &stored[name], &format!("{place}/{name}"));
            }
        }
        Value::Array(items) => {
            assert_eq!(stored.as_array().map_or(0, Vec::len), items.len(), "{place}");
            for (n, item) in items.iter().enumerate() {
                assert_within(item, &stored[n], &format!("{place}/{n}"));
            }
        }
        _ => assert!(
            rendered == stored || is_same_quantity(rendered, stored),
            "{place}: {rendered}, but {stored}"
        ),
    }
}

/// Compares quantities: the server writes `0.5` processors as `500m`.
fn is_same_quantity(rendered: &Value, stored: &Value) -> bool {
    let number = |value: &Value| {
        let written = value.to_string();
        let written = written.trim_matches('"').to_owned();
        written
            .strip_suffix('m')
            .map_or_else(|| written.parse().ok(), |milli| Some(milli.parse::<f64>().ok()? / 1000.0))
    };
    number(rendered).is_some_and(|rendered: f64| Some(rendered) == number(stored))
}

/// Checks the fields that, according to values.yaml, an upgrade cannot change. Prints the server's message
/// for each.
fn check_immutable_fields(api: &Api, tools: &Tools, directory: &Path) {
    println!("\n## What an upgrade can't change\n");
    println!("| change | field | the API server's words |\n|---|---|---|");
    let kubeconfig = directory.join("kubeconfig");
    let values = Values::of("files").named("fixed");
    let helm = tools.helm();
    let installed = run_helm(helm, "install", &kubeconfig, &values);
    installed.unwrap_or_else(|error| panic!("{error}"));
    for change in [
        "persistence: {size: 200Gi}",
        "persistence: {annotations: {a: b}}",
        "persistence: {labels: {a: b}}",
        "config: {source: {destination_id: another}}",
        "config: {source: {isolation: mirror}}",
    ] {
        let error = run_helm(helm, "upgrade", &kubeconfig, &values.clone().and(change));
        let error = error.expect_err("an immutable field was changed");
        let (_, words) =
            error.trim().rsplit_once("is invalid: ").unwrap_or_else(|| panic!("{change}: {error}"));
        let (field, reason) = (words.split(": ").next().unwrap(), words.rsplit(": ").next().unwrap());
        assert!(reason.contains("immutable") || words.contains("Forbidden"), "{change}: {error}");
        println!("| `{change}` | {field} | {} |", reason.replace('|', "\\|"));
        let objects = helm.objects(&values);
        assert!(
            api.stored(objects.workload().owner).is_some(),
            "{change}: the refused upgrade removed the workload"
        );
    }
}
