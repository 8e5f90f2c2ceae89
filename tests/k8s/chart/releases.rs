//! Tests that releases, and the charts of one release, do not get in each other's way, and that tools other than Helm
//! can apply what is rendered.

use std::fs;

use serde_json::{Value, json};

use crate::rendering::doubled;
use kit::helm::objects::{Objects, at, fields, kind_of, list, text};
use kit::helm::{KUBERNETES, Tools, Values, chart, directory, run, with_tools};

with_tools! {
    charts_under_aliases_render_different_objects,
    two_releases_have_different_dashboards,
    what_others_apply_has_no_test_pod,
    claims_are_complete_objects,
    a_selector_of_the_user_is_kept,
}

/// A chart above can have this one several times, such as once for each destination id.
fn charts_under_aliases_render_different_objects(tools: &Tools) {
    let parent = directory();
    fs::create_dir(parent.path().join("charts")).unwrap();
    let dependencies = concat!(
        "apiVersion: v2\nname: above\nversion: 1.0.0\ndependencies:\n",
        "  - {name: atdata-bridge, version: '*', alias: eu}\n",
        "  - {name: atdata-bridge, version: '*', alias: us}\n",
    );
    fs::write(parent.path().join("Chart.yaml"), dependencies).unwrap();
    tools.helm().package(&chart(), &parent.path().join("charts"));
    let own = &Values::minimal().written()[0];
    let values = Values::default().and(&json!({"eu": own, "us": own}).to_string());
    for helm in &tools.helms {
        for release in ["main", "eu", "eu-us", &"x".repeat(53)] {
            let values = values.clone().named(release);
            let rendered = helm.template_for(parent.path(), KUBERNETES[3], &values).unwrap();
            let objects = Objects::parse(&rendered);
            assert_eq!(doubled(&objects), Vec::<String>::new(), "{release}");
            assert_eq!(objects.of_kind("StatefulSet").count(), 2, "{release}");
        }
    }
}

/// Grafana keeps one dashboard of a uid, and of a title in a folder.
fn two_releases_have_different_dashboards(tools: &Tools) {
    let dashboard = |release: &str, more: &str| {
        let values = Values::minimal().named(release).and("metrics: {dashboard: {enabled: true}}").and(more);
        let objects = tools.helm().objects(&values);
        let data = objects.of_kind("ConfigMap").flat_map(|map| fields(&map["data"]));
        let (_, json) = data.into_iter().find(|(name, _)| name.ends_with(".json")).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(text(json)).unwrap();
        let uid = text(&dashboard["uid"]).to_owned();
        assert!(uid.len() <= 40, "Grafana's limit: {uid}");
        (uid, text(&dashboard["title"]).to_owned())
    };
    let one = dashboard("one", "{}");
    assert_eq!(one, dashboard("one", "replicaCount: 2"), "bookmarks stay valid");
    for other in [dashboard("two", "{}"), dashboard("one", "namespaceOverride: another")] {
        assert!(one.0 != other.0 && one.1 != other.1, "{one:?} {other:?}");
    }
}

/// `kubectl apply` can't change a pod that has ended.
fn what_others_apply_has_no_test_pod(tools: &Tools) {
    for helm in &tools.helms {
        let directory = directory();
        let mut command = helm.command();
        command.args(["template", "main", "--kube-version", KUBERNETES[3]]).arg(chart());
        let rendered = run(Values::minimal().pass(&mut command, directory.path()), "").unwrap();
        let kinds: Vec<String> = Objects::parse(&rendered).0.iter().map(|of| kind_of(of).into()).collect();
        assert!(kinds.contains(&"StatefulSet".into()) && !kinds.contains(&"Pod".into()), "{kinds:?}");
    }
    assert_eq!(tools.helm().objects(&Values::minimal()).of_kind("Pod").count(), 1, "`helm test` has its pod");
}

/// The API server adds what is missing, and Argo CD would find a difference for ever.
fn claims_are_complete_objects(tools: &Tools) {
    for (case, values) in Values::every() {
        let objects = tools.helm().objects(&values);
        for claim in list(at(objects.workload().owner, "/spec/volumeClaimTemplates")) {
            let kind = (&claim["apiVersion"], &claim["kind"]);
            assert_eq!(kind, (&json!("v1"), &json!("PersistentVolumeClaim")), "{case}");
        }
    }
}

/// The chart's selector is for constraints that have none.
fn a_selector_of_the_user_is_kept(tools: &Tools) {
    let own = json!({"matchLabels": {"tier": "mirror"}});
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    let mut selecting = constraint.clone();
    selecting["labelSelector"] = own.clone();
    let values =
        json!({"podLabels": {"tier": "mirror"}, "topologySpreadConstraints": [selecting, constraint]});
    let objects = tools.helm().objects(&Values::minimal().and(&values.to_string()));
    let workload = objects.workload();
    let constraints = &workload.spec["topologySpreadConstraints"];
    assert_eq!(constraints[0]["labelSelector"], own);
    assert_eq!(constraints[1]["labelSelector"], workload.owner["spec"]["selector"]);
}
