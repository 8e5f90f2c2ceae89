//! Tests the values that reach where no other value does: patches, variables by name, a configuration file of the
//! user's, and what depends on what the bridge writes.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::pod::Process;
use kit::helm::objects::{Objects, at, fields, kind_of, list, text, title};
use kit::helm::{Tools, Values, chart, with_tools};

with_tools! {
    patches_reach_every_object,
    patches_merge_replace_and_remove,
    variables_of_several_files_add_up,
    variables_that_conflict_are_refused,
    clusters_have_connection_ids_of_their_own,
    a_claim_is_made_only_for_files,
    secrets_are_readable_by_the_group_of_the_bridge_only,
    a_configuration_file_of_the_user_replaces_config,
    monitors_can_name_their_job_and_labels,
    the_service_names_protocol_and_families,
}

/// The names of the objects that `patches` knows.
fn patchable() -> Vec<String> {
    let schema = fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    list(at(&schema, "/properties/patches/propertyNames/enum")).map(|name| text(name).into()).collect()
}

fn patches_reach_every_object(tools: &Tools) {
    let names = patchable();
    let patch = json!({"metadata": {"annotations": {"patched": "yes"}}});
    let patches: Value = names.iter().map(|name| (name.clone(), patch.clone())).collect();
    let patches = json!({"patches": patches, "extraObjects": []}).to_string();
    let mut kinds = BTreeSet::new();
    let inline = "config: {source: {password_file: {existingSecret: null, value: a}}}";
    for values in [
        Values::of("everything").and(inline),
        Values::of("deployment"),
        Values::of("service-monitor").and("tests: {enabled: true}"),
    ] {
        for object in &tools.helm().objects(&values.and(&patches)).0 {
            assert_eq!(object["metadata"]["annotations"]["patched"], "yes", "{}", title(object));
            kinds.insert(kind_of(object).to_owned());
        }
    }
    // Three names are of ConfigMaps.
    assert_eq!(kinds.len() + 2, names.len(), "{kinds:?}");
    let error = tools.helm().refusal(&Values::minimal().and("patches: {statefulset: {}}"));
    assert!(error.contains("statefulset"), "{error}");
}

fn patches_merge_replace_and_remove(tools: &Tools) {
    let patches = concat!(
        "patches:\n",
        "  statefulSet:\n",
        "    spec:\n",
        "      revisionHistoryLimit: null\n",
        "      template:\n",
        "        spec:\n",
        "          hostname: a\n",
        "          containers:\n",
        "            - {name: bridge, tty: false, args: [run, --help], env: [{name: A, value: b}]}\n",
        "            - {name: second, image: c}\n",
        "  service: {spec: {publishNotReadyAddresses: false}}\n",
    );
    let before = tools.helm().objects(&Values::minimal());
    for helm in &tools.helms {
        let after = helm.objects(&Values::minimal().and(patches));
        assert_eq!(after.the("Service")["spec"]["publishNotReadyAddresses"], false);
        let workload = after.workload();
        assert!(workload.owner["spec"]["revisionHistoryLimit"].is_null());
        assert_eq!(workload.spec["hostname"], "a");
        let bridge = workload.bridge();
        assert_eq!((&bridge["tty"], &bridge["args"]), (&json!(false), &json!(["run", "--help"])));
        assert_eq!(workload.spec["containers"][1], json!({"name": "second", "image": "c"}));
        let names = |objects: &Objects| {
            let variables = list(&objects.workload().bridge()["env"]).map(|of| of["name"].clone());
            variables.collect::<Vec<_>>()
        };
        assert_eq!(names(&after), [names(&before), vec![json!("A")]].concat());
        assert_eq!(bridge["image"], before.workload().bridge()["image"]);
    }
}

fn variables_of_several_files_add_up(tools: &Tools) {
    let values = Values::minimal()
        .and("env: {BRIDGE__LOG__FORMAT: json, BRIDGE__SOURCE__PREFETCH: 2048, A: gone}")
        .and("env: {BRIDGE__SOURCE__PREFETCH: 10000, A: null, B: {valueFrom: {fieldRef: {fieldPath: metadata.name}}}}")
        .and("env: {TOKEN: {existingSecret: mine, key: token}, FLAG: true}");
    for helm in &tools.helms {
        let objects = helm.objects(&values);
        let variables = &objects.workload().bridge()["env"];
        let of = |name: &str| list(variables).find(|of| of["name"] == name).cloned().unwrap_or_default();
        assert_eq!(of("BRIDGE__SOURCE__PREFETCH")["value"], "10000");
        assert_eq!(of("FLAG")["value"], "true");
        assert_eq!(of("A"), Value::Null);
        assert_eq!(of("B")["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
        assert_eq!(of("TOKEN")["valueFrom"]["secretKeyRef"], json!({"name": "mine", "key": "token"}));
        let effective = Process::of_workload(&objects).run(&["config"]).unwrap();
        assert!(effective.contains("log.format = \"json\"") && effective.contains("source.prefetch = 10000"));
    }
}

fn variables_that_conflict_are_refused(tools: &Tools) {
    for (values, named) in [
        ("env: {A: b}\nextraEnv: [{name: A, value: b}]", "A is set"),
        ("env: {HOSTNAME: b}", "HOSTNAME is set"),
        ("env: {BRIDGE__SOURCE__PASSWORD: b}", "valueFrom.secretKeyRef"),
        ("env: {BRIDGE__ADMIN__LISTEN: 'off'}", "admin.listen"),
        (
            "env: {BRIDGE__SOURCE__CONNECTION_ID: a-$(HOSTNAME)}\nconnectionIdPrefix: a",
            "CONNECTION_ID is set",
        ),
        ("env: {A: {existingSecret: b}}", "key"),
        ("connectionIdPrefix: a.b", "connectionIdPrefix"),
    ] {
        let error = tools.helm().refusal(&Values::minimal().and(values));
        assert!(error.contains(named), "{values}: {error}");
    }
}

fn clusters_have_connection_ids_of_their_own(tools: &Tools) {
    let id = |prefix: &str| {
        let values = Values::minimal().and("replicaCount: 2").and(&format!("connectionIdPrefix: {prefix}"));
        let effective = Process::of_workload(&tools.helm().objects(&values)).run(&["config"]).unwrap();
        let line =
            effective.lines().find(|line| line.starts_with("source.connection_id")).unwrap().to_owned();
        line.split('"').nth(1).unwrap().to_owned()
    };
    assert_eq!(
        (id("eu").as_str(), id("us").as_str()),
        ("eu-main-atdata-bridge-0", "us-main-atdata-bridge-0")
    );
}

fn a_claim_is_made_only_for_files(tools: &Tools) {
    let letters = "config: {dead_letters: {kafka: {topic: a}}}\n";
    for (values, has_claim) in [
        (String::new(), true),
        (letters.into(), false),
        (format!("{letters}env: {{BRIDGE__SINKS__COPY__KIND: file}}"), true),
        ("env: {BRIDGE__DEAD_LETTERS__KAFKA__TOPIC: a}".into(), false),
        ("extraEnvFrom: [{secretRef: {name: a}}]".into(), true),
        (format!("{letters}persistence: {{existingClaim: mine}}"), false),
    ] {
        let values = Values::minimal().and(&values).and("metrics: {prometheusRule: {enabled: true}}");
        let objects = tools.helm().objects(&values);
        let workload = objects.workload();
        assert_eq!(
            list(&workload.owner["spec"]["volumeClaimTemplates"]).count() == 1,
            has_claim,
            "{values:?}"
        );
        let mut volumes = list(&workload.spec["volumes"]);
        let has_volume = has_claim || volumes.any(|volume| volume["name"] == "data");
        let mut mounts = list(&workload.bridge()["volumeMounts"]);
        assert_eq!(mounts.any(|mount| mount["name"] == "data"), has_volume, "{values:?}");
        let alert = objects.the("PrometheusRule").to_string().contains("AtDataBridgeVolumeFull");
        assert_eq!(alert, has_volume, "{values:?}");
    }
}

/// Without a group of the volume, only root could read them.
fn secrets_are_readable_by_the_group_of_the_bridge_only(tools: &Tools) {
    let alone = "podSecurityContext: {fsGroup: null}";
    for (values, mode) in [("{}", json!(0o440)), ("openshift: true", json!(0o440)), (alone, Value::Null)] {
        let objects = tools.helm().objects(&Values::minimal().and(values));
        let mut volumes = list(&objects.workload().spec["volumes"]);
        let secrets = volumes.find(|volume| volume["name"] == "secrets").unwrap();
        assert_eq!(secrets["projected"]["defaultMode"], mode, "{values}");
    }
}

fn a_configuration_file_of_the_user_replaces_config(tools: &Tools) {
    let values = Values::of("existing-config-map").and("config: {admin: {listen: '0.0.0.0:8080'}}");
    let objects = tools.helm().objects(&values);
    let names: Vec<String> = objects.of_kind("ConfigMap").map(title).collect();
    assert_eq!(names, ["ConfigMap bridge-configuration"]);
    let effective = Process::of_workload(&objects).run(&["config"]).unwrap();
    assert!(effective.contains("admin.listen = \"0.0.0.0:8080\""), "the probes' port: {effective}");
    let error = tools.helm().refusal(&values.and("config: {source: {prefetch: 7}}"));
    assert!(error.contains("existingConfigMap: config.source"), "{error}");
}

fn monitors_can_name_their_job_and_labels(tools: &Tools) {
    for (name, kind) in [("podMonitor", "PodMonitor"), ("serviceMonitor", "ServiceMonitor")] {
        let given = "{enabled: true, jobLabel: app, podTargetLabels: [team]}";
        let objects = tools.helm().objects(&Values::minimal().and(&format!("metrics: {{{name}: {given}}}")));
        let spec = &objects.the(kind)["spec"];
        assert_eq!(
            (&spec["jobLabel"], &spec["podTargetLabels"]),
            (&json!("app"), &json!(["team"])),
            "{kind}"
        );
    }
}

fn the_service_names_protocol_and_families(tools: &Tools) {
    let objects = tools.helm().objects(&Values::of("dual-stack"));
    let spec = &objects.the("Service")["spec"];
    assert_eq!(spec["ipFamilies"], json!(["IPv6", "IPv4"]));
    for port in list(&spec["ports"]) {
        assert_eq!(port["appProtocol"], "http");
    }
    assert_eq!(fields(spec).filter(|(name, _)| name.starts_with("ipFamil")).count(), 2);
}
