//! Tests that an upgrade never changes an immutable field.

use std::fs;

use serde_json::{Value, json};

use kit::helm::objects::{Objects, at, fields, kind_of, name_of, title};
use kit::helm::{KUBERNETES, Tools, Values, chart, copy_directory, directory, with_tools};

with_tools! {
    another_version_of_the_chart_changes_no_immutable_field,
    changeable_values_change_no_immutable_field,
    changes_of_immutable_fields_are_found,
}

fn another_version_of_the_chart_changes_no_immutable_field(tools: &Tools) {
    let newer = directory();
    copy_directory(&chart(), newer.path());
    let definition = fs::read_to_string(newer.path().join("Chart.yaml")).unwrap();
    let version = format!("\nversion: {}", env!("CARGO_PKG_VERSION"));
    let app = format!("\nappVersion: \"{}\"", env!("CARGO_PKG_VERSION"));
    let bumped =
        definition.replace(&version, "\nversion: 7.8.9+build.1").replace(&app, "\nappVersion: \"7.8.9\"");
    assert!(bumped.matches("7.8.9").count() == 2, "{definition}");
    fs::write(newer.path().join("Chart.yaml"), bumped).unwrap();
    for (case, values) in Values::every() {
        let before = tools.helm().objects(&values);
        let after = tools.helm().template_for(newer.path(), KUBERNETES[3], &values).unwrap();
        assert!(after.contains("atdata-bridge-7.8.9_build.1"), "{case}: the new version is not rendered");
        assert_eq!(changed(&before, &Objects::parse(&after)), Vec::<String>::new(), "{case}");
    }
}

fn changeable_values_change_no_immutable_field(tools: &Tools) {
    for (case, values) in Values::every() {
        let before = tools.helm().objects(&values);
        let after = tools.helm().objects(&kit::helm::changes::changed(&case, values));
        assert_ne!(before.workload().owner, after.workload().owner, "{case}");
        assert_eq!(changed(&before, &after), Vec::<String>::new(), "{case}");
    }
}

fn changes_of_immutable_fields_are_found(tools: &Tools) {
    let before = tools.helm().objects(&Values::of("files"));
    let claim = "/spec/volumeClaimTemplates/0";
    let breaks = [
        ("StatefulSet", "/metadata/name".to_owned(), json!("another")),
        ("StatefulSet", "/spec/serviceName".into(), json!("another")),
        ("StatefulSet", "/spec/podManagementPolicy".into(), json!("OrderedReady")),
        ("StatefulSet", "/spec/selector/matchLabels/a".into(), json!("b")),
        ("StatefulSet", format!("{claim}/metadata/labels/a"), json!("b")),
        ("StatefulSet", format!("{claim}/spec/resources/requests/storage"), json!("1Gi")),
        ("StatefulSet", "/spec/template/metadata/labels".into(), json!({"app": "another"})),
        ("Service", "/spec/clusterIP".into(), Value::Null),
        ("Service", "/metadata/name".into(), json!("another")),
    ];
    for (kind, pointer, value) in breaks {
        let after = before.broken(kind, &pointer, value.clone());
        assert!(!changed(&before, &after).is_empty(), "{kind}{pointer} = {value} passes");
    }
    let deployment = tools.helm().objects(&Values::of("deployment"));
    let after = deployment.broken("Deployment", "/spec/selector/matchLabels/a", json!("b"));
    assert!(!changed(&deployment, &after).is_empty());
}

/// Finds changed immutable fields, objects that would be deleted, and old pods that a new selector does not
/// match.
fn changed(before: &Objects, after: &Objects) -> Vec<String> {
    let mut changed = Vec::new();
    for old in &before.0 {
        let Some(new) = after.find(kind_of(old), name_of(old)) else {
            changed.push(format!("{} is gone", title(old)));
            continue;
        };
        let (kind, title) = (kind_of(old), title(old));
        let (old, new) = (&old["spec"], &new["spec"]);
        let mut fixed = |what: &str, old: &Value, new: &Value| {
            if old != new {
                changed.push(format!("{title}: {what} was {old}, is {new}"));
            }
        };
        match kind {
            "StatefulSet" => {
                let free = [
                    "replicas",
                    "template",
                    "updateStrategy",
                    "persistentVolumeClaimRetentionPolicy",
                    "minReadySeconds",
                    "revisionHistoryLimit",
                    "ordinals",
                ];
                let names = fields(old).chain(fields(new)).map(|(name, _)| name.as_str());
                names
                    .filter(|name| !free.contains(name))
                    .for_each(|name| fixed(name, &old[name], &new[name]));
            }
            "Deployment" => fixed("selector", &old["selector"], &new["selector"]),
            "Service" => fixed("clusterIP", &old["clusterIP"], &new["clusterIP"]),
            _ => continue,
        }
        let of_pods = at(new, "/template/metadata/labels");
        for (name, value) in fields(at(old, "/selector/matchLabels")) {
            fixed(&format!("the pods' label {name}"), value, &of_pods[name]);
        }
    }
    changed
}
