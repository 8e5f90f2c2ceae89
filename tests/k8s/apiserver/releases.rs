//! Releases that live through install, upgrade, rollback and uninstall; objects are really stored.

use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api::Api;
use kit::helm::changes::changed;
use kit::helm::objects::{Objects, at, fields, text, title};
use kit::helm::{Helm, NAMESPACE, Tools, Values, chart, directory, run};

/// Each use under each Helm, one after the other.
pub fn lived(api: &Api, tools: &Tools, directory: &Path) {
    println!("\n## Installed, upgraded, rolled back, removed\n");
    println!(
        "Each use under each Helm, as a release of its own: `helm install`, `helm upgrade` with other values,"
    );
    println!(
        "`helm rollback`, `helm uninstall`. After each step every object is in the API server as rendered, or gone.\n"
    );
    println!("| values | {} | {} |\n|---|---|---|", name(&tools.helms[0]), name(&tools.helms[1]));
    for (case, values) in Values::every() {
        let steps = tools.helms.each_ref().map(|helm| {
            eprintln!("{case}: {}", name(helm));
            let values = values.clone().named(&case);
            Release { api, helm, kubeconfig: directory.join("kubeconfig"), case: &case, values }.live()
        });
        println!("| {case} | {} | {} |", steps[0], steps[1]);
    }
    fixed(api, tools, directory);
}

/// Its name and version.
pub fn name(helm: &Helm) -> String {
    let version = run(helm.command().args(["version", "--template={{.Version}}"]), "");
    format!("Helm {}", version.expect("Helm's version").trim())
}

/// Does it to a release in the cluster: what Helm says, on standard error too.
fn act(helm: &Helm, verb: &str, kubeconfig: &Path, values: &Values) -> Result<String, String> {
    let directory = directory();
    let mut command = helm.command();
    command.arg("--kubeconfig").arg(kubeconfig).args(["--namespace", NAMESPACE, verb, values.release()]);
    if ["install", "upgrade"].contains(&verb) {
        values.pass(command.arg(chart()), directory.path());
    }
    let Output { status, stdout, stderr } = command.output().expect("run Helm");
    let said = [stderr, stdout].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    if status.success() { Ok(said) } else { Err(said) }
}

struct Release<'a> {
    api: &'a Api,
    helm: &'a Helm,
    kubeconfig: PathBuf,
    case: &'a str,
    values: Values,
}

impl Release<'_> {
    fn live(&self) -> String {
        let (first, second) = (&self.values, changed(self.case, self.values.clone()));
        let [before, after] = [first, &second].map(|values| stored_of(self.helm.objects(values)));
        self.helm("install", first);
        self.assert_stored(&before, "install");
        self.helm("upgrade", &second);
        self.assert_stored(&after, "upgrade");
        self.assert_fixed_fields_are_fixed(&after);
        self.helm("rollback", first);
        self.assert_stored(&before, "rollback");
        self.helm("uninstall", first);
        for object in before.0.iter().chain(&after.0) {
            assert!(self.gone(object), "{}: uninstall left {}", self.case, title(object));
        }
        format!("{} → {} → {} → 0 objects", before.0.len(), after.0.len(), before.0.len())
    }

    fn helm(&self, verb: &str, values: &Values) {
        let said = act(self.helm, verb, &self.kubeconfig, values);
        let said = said.unwrap_or_else(|error| panic!("{}: {verb}: {error}", self.case));
        assert!(!said.to_ascii_lowercase().contains("warning"), "{}: {verb}: {said}", self.case);
    }

    /// Everything that was rendered is in what is stored, whatever the server has added.
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
            // The server keeps the texts of a Secret as data.
            for (name, value) in fields(&object["stringData"]) {
                let data = json!(STANDARD.encode(text(value)));
                assert_eq!(stored["data"][name], data, "{place}/stringData/{name}");
            }
        }
    }

    fn assert_fixed_fields_are_fixed(&self, objects: &Objects) {
        let owner = objects.workload().owner;
        let selector = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
        let error = self.api.change(owner, &selector).expect_err("another selector");
        assert!(error.contains("selector") || error.contains("updates to statefulset spec"), "{error}");
    }

    /// Gone, or only waiting for a controller, which nobody runs here, to let go of it.
    fn gone(&self, object: &Value) -> bool {
        self.api.stored(object).is_none_or(|stored| stored["metadata"]["deletionTimestamp"].is_string())
    }
}

/// Hooks are made when they are due, which they never are here.
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

/// The server writes `0.5` processors as `500m`.
fn is_same_quantity(rendered: &Value, stored: &Value) -> bool {
    let number = |value: &Value| {
        let told = value.to_string();
        let told = told.trim_matches('"').to_owned();
        told.strip_suffix('m')
            .map_or_else(|| told.parse().ok(), |milli| Some(milli.parse::<f64>().ok()? / 1000.0))
    };
    number(rendered).is_some_and(|rendered: f64| Some(rendered) == number(stored))
}

/// What values.yaml says can't be changed by an upgrade, and what the server says to it.
fn fixed(api: &Api, tools: &Tools, directory: &Path) {
    println!("\n## What an upgrade can't change\n");
    println!("| change | field | the API server's words |\n|---|---|---|");
    let kubeconfig = directory.join("kubeconfig");
    let values = Values::of("files").named("fixed");
    let helm = tools.helm();
    let installed = act(helm, "install", &kubeconfig, &values);
    installed.unwrap_or_else(|error| panic!("{error}"));
    for change in
        ["persistence: {size: 200Gi}", "persistence: {annotations: {a: b}}", "persistence: {labels: {a: b}}"]
    {
        let error = act(helm, "upgrade", &kubeconfig, &values.clone().and(change));
        let error = error.expect_err("a fixed field was changed");
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
