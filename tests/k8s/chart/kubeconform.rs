//! Tests the rendered objects with kubeconform and the schemas of several Kubernetes versions and of the
//! Prometheus operator. An unknown field or kind is an error.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use kit::helm::objects::{at, list, text, yaml};
use kit::helm::{KUBERNETES, Tools, Values, directory, run, with_tools};

with_tools! {
    rendered_objects_are_valid_for_every_version_of_kubernetes,
    invalid_objects_are_found,
}

fn rendered_objects_are_valid_for_every_version_of_kubernetes(tools: &Tools) {
    let schemas = Schemas::of(tools);
    for kubernetes in KUBERNETES {
        let directory = directory();
        for (case, values) in Values::every() {
            let rendered = tools.helm().template_for(&kit::helm::chart(), kubernetes, &values);
            fs::write(directory.path().join(format!("{case}.yaml")), rendered.unwrap()).unwrap();
        }
        schemas.check(kubernetes, directory.path()).unwrap_or_else(|error| panic!("{kubernetes}: {error}"));
    }
}

fn invalid_objects_are_found(tools: &Tools) {
    let schemas = Schemas::of(tools);
    let full = tools.helm().objects(&Values::of("everything"));
    let breaks = [
        ("StatefulSet", "/kind", json!("StatelessSet")),
        ("StatefulSet", "/spec/replica", json!(2)),
        ("StatefulSet", "/spec/replicas", json!("2")),
        ("StatefulSet", "/spec/template/spec/containers/0/ports/0/port", json!(9464)),
        ("StatefulSet", "/spec/selector", Value::Null),
        ("Service", "/apiVersion", json!("v2")),
        ("PodMonitor", "/spec/podMetricsEndpoints/0/prot", json!("metrics")),
        ("PodMonitor", "/spec/selector", Value::Null),
        ("PrometheusRule", "/spec/groups/0/rules/0/expr", Value::Null),
        ("PrometheusRule", "/spec/groups/0/rules/0/expression", json!("up")),
    ];
    for (kind, pointer, value) in breaks {
        for kubernetes in [KUBERNETES[0], KUBERNETES[3]] {
            let directory = directory();
            let changed = full.broken(kind, pointer, value.clone());
            let broken: Vec<_> = changed.0.iter().filter(|object| !full.0.contains(object)).collect();
            let [broken] = broken.as_slice() else { panic!("{kind}{pointer} changes {broken:?}") };
            fs::write(directory.path().join("broken.yaml"), broken.to_string()).unwrap();
            let verdict = schemas.check(kubernetes, directory.path());
            assert!(verdict.is_err(), "{kubernetes}: {kind}{pointer} = {value} passes: {verdict:?}");
        }
    }
}

struct Schemas<'a> {
    tools: &'a Tools,
    operator: tempfile::TempDir,
}

impl<'a> Schemas<'a> {
    fn of(tools: &'a Tools) -> Self {
        let operator = directory();
        for file in fs::read_dir(&tools.operator).unwrap() {
            let definition = yaml(&fs::read_to_string(file.unwrap().path()).unwrap());
            let kind = text(at(&definition, "/spec/names/kind")).to_ascii_lowercase();
            for version in list(at(&definition, "/spec/versions")) {
                let name = format!("{kind}-{}.json", text(&version["name"]));
                let schema = strict(at(version, "/schema/openAPIV3Schema").clone());
                fs::write(operator.path().join(name), schema.to_string()).unwrap();
            }
        }
        Self { tools, operator }
    }

    /// Validates all files of a directory; the error is kubeconform's output.
    fn check(&self, kubernetes: &str, directory: &Path) -> Result<String, String> {
        let of_kubernetes = self.tools.schemas.join(kubernetes).join("{{.ResourceKind}}{{.KindSuffix}}.json");
        let of_operator = self.operator.path().join("{{.ResourceKind}}-{{.ResourceAPIVersion}}.json");
        let mut command = Command::new(&self.tools.kubeconform);
        command.arg("-strict").args(["-n", "2"]);
        // Objects of other operators, which users add; their definitions are not at hand.
        command.args(["-skip", "ExternalSecret,SealedSecret,SecretProviderClass"]);
        command.arg("-schema-location").arg(of_kubernetes).arg("-schema-location").arg(of_operator);
        run(command.arg(directory), "")
    }
}

/// Makes a schema strict. A definition names every field that exists, and the API server accepts no other.
fn strict(mut schema: Value) -> Value {
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    if schema["properties"].is_object() && schema["additionalProperties"].is_null() && !open {
        schema["additionalProperties"] = json!(false);
    }
    match &mut schema {
        Value::Object(fields) => fields.values_mut().for_each(|inner| *inner = strict(inner.take())),
        Value::Array(items) => items.iter_mut().for_each(|inner| *inner = strict(inner.take())),
        _ => {}
    }
    schema
}
