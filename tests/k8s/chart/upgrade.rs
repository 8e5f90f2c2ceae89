//! Tests that an upgrade never changes an immutable field.

use std::fs;

use serde_json::{Value, json};

use crate::pod::Process;
use kit::helm::objects::{Objects, at, fields, kind_of, name_of, title};
use kit::helm::{KUBERNETES, Tools, Values, chart, copy_directory, directory, with_tools};

with_tools! {
    another_version_of_the_chart_changes_no_immutable_field,
    changeable_values_change_no_immutable_field,
    changes_of_immutable_fields_are_found,
    a_release_keeps_its_queue,
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

/// What waits in the old queue would stay there. An upgrade with another queue fails, and even then the pods that it
/// has changed take the events of the old one.
fn a_release_keeps_its_queue(tools: &Tools) {
    let before = tools.helm().objects(&Values::minimal());
    for change in [
        "config: {source: {destination_id: another}}",
        "config: {source: {namespace: another}}",
        "config: {source: {isolation: mirror}}",
        "extraEnv: [{name: BRIDGE__SOURCE__DESTINATION_ID, value: another}]",
        "extraEnv: [{name: BRIDGE__SOURCE__ISOLATION, value: mirror}]",
    ] {
        let mut after = tools.helm().objects(&Values::minimal().and(change));
        let changed = changed(&before, &after);
        let [changed] = changed.as_slice() else { panic!("{change}: {changed:?}") };
        assert!(changed.starts_with("ConfigMap main-atdata-bridge-queue"), "{change}: {changed}");
        let is_queue = |object: &&mut Value| name_of(object) == "main-atdata-bridge-queue";
        let queue = after.0.iter_mut().find(is_queue).unwrap();
        *queue = before.find("ConfigMap", "main-atdata-bridge-queue").unwrap().clone();
        let effective = Process::of_workload(&after).run(&["config"]).unwrap();
        for line in ["destination_id = \"main\"", "namespace = \"acme\"", "isolation = \"shared\""] {
            assert!(effective.contains(&format!("source.{line}")), "{change}: {effective}");
        }
    }
    let values = Values::minimal().and("config: {source: {isolation: shared, prefetch: 7}}");
    assert_eq!(changed(&before, &tools.helm().objects(&values)), Vec::<String>::new());
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
        if old["immutable"] == true && old["data"] != new["data"] {
            changed.push(format!("{title}: data was {}, is {}", old["data"], new["data"]));
        }
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
