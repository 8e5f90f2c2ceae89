//! Tests that every rendered pod, including those of hooks, meets the restricted level of Kubernetes' Pod
//! Security Standards and some additional rules.

use serde_json::{Value, json};

use kit::helm::objects::{Objects, Pod, at, fields, list, text, title, yaml};
use kit::helm::{Tools, Values, with_tools};

with_tools! {
    every_pod_is_restricted,
    violations_are_found,
    the_token_is_mounted_on_demand,
}

fn every_pod_is_restricted(tools: &Tools) {
    for (case, values) in Values::every() {
        let mut faults = faults(&tools.helm().objects(&values));
        let written = values.written();
        if list(&written).any(|values| *at(values, "/serviceAccount/automountToken") == true) {
            faults.retain(|fault| !fault.ends_with(": automountServiceAccountToken"));
        }
        assert_eq!(faults, Vec::<String>::new(), "{case}");
    }
}

/// A sidecar such as Vault Agent logs in with the token of the account.
fn the_token_is_mounted_on_demand(tools: &Tools) {
    for (values, mounted) in [("{}", false), ("serviceAccount: {automountToken: true}", true)] {
        let objects = tools.helm().objects(&Values::minimal().and(values));
        for pod in objects.pods() {
            assert_eq!(pod.spec["automountServiceAccountToken"], mounted, "{values}");
        }
        assert_eq!(objects.the("ServiceAccount")["automountServiceAccountToken"], mounted, "{values}");
    }
}

fn violations_are_found(tools: &Tools) {
    let objects = tools.helm().objects(&Values::of("everything"));
    let pod = |pointer: &str| format!("/spec/template/spec{pointer}");
    let container = |pointer: &str| pod(&format!("/containers/0/securityContext{pointer}"));
    let breaks = [
        (pod("/hostNetwork"), json!(true)),
        (pod("/hostPID"), json!(true)),
        (pod("/hostIPC"), json!(true)),
        (pod("/hostUsers"), json!(true)),
        (pod("/automountServiceAccountToken"), Value::Null),
        (pod("/enableServiceLinks"), Value::Null),
        (pod("/volumes/-"), json!({"name": "root", "hostPath": {"path": "/"}})),
        (pod("/containers/0/ports/0/hostPort"), json!(80)),
        (pod("/containers/-"), json!({"name": "sidecar", "image": "sidecar"})),
        (pod("/initContainers"), json!([{"name": "first", "image": "first"}])),
        (pod("/securityContext/runAsNonRoot"), Value::Null),
        (pod("/securityContext/runAsUser"), json!(0)),
        (pod("/securityContext/seccompProfile/type"), json!("Unconfined")),
        (pod("/securityContext/seccompProfile"), Value::Null),
        (pod("/securityContext/sysctls"), json!([{"name": "kernel.shm_rmid_forced", "value": "1"}])),
        (pod("/securityContext/supplementalGroups"), json!([0])),
        (pod("/securityContext/seLinuxOptions"), json!({"user": "system_u"})),
        (pod("/securityContext/windowsOptions"), json!({"hostProcess": true})),
        (pod("/securityContext/appArmorProfile"), json!({"type": "Unconfined"})),
        (container("/privileged"), json!(true)),
        (container("/runAsUser"), json!(0)),
        (container("/runAsNonRoot"), json!(false)),
        (container("/procMount"), json!("Unmasked")),
        (container("/allowPrivilegeEscalation"), Value::Null),
        (container("/capabilities/drop"), json!(["NET_RAW"])),
        (container("/capabilities/add"), json!(["SYS_ADMIN"])),
        (container("/readOnlyRootFilesystem"), Value::Null),
        (container("/seccompProfile"), json!({"type": "Unconfined"})),
    ];
    for (pointer, value) in breaks {
        let broken = objects.broken("StatefulSet", &pointer, value.clone());
        assert!(!faults(&broken).is_empty(), "{pointer} = {value} passes");
    }
    let hook = objects.broken("Pod", "/spec/containers/0/securityContext", Value::Null);
    assert!(!faults(&hook).is_empty(), "the test pod is not checked");
}

/// Finds violations of the restricted level of Pod Security and of our additional rules: no writable root, no
/// token, no environment variables for each service.
pub fn faults(objects: &Objects) -> Vec<String> {
    let mut faults = Vec::new();
    for pod in objects.pods() {
        let title = title(pod.owner);
        let mut expect = |what: &str, holds: bool| {
            if !holds {
                faults.push(format!("{title}: {what}"));
            }
        };
        check_pod(pod, &mut expect);
        for container in pod.containers() {
            let name = text(&container["name"]);
            check_container(pod, container, &mut |what, holds| expect(&format!("{name}: {what}"), holds));
        }
    }
    faults
}

fn check_pod(pod: Pod<'_>, expect: &mut impl FnMut(&str, bool)) {
    let spec = pod.spec;
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        expect(host, spec[host].is_null() || spec[host] == false);
    }
    expect("hostUsers", spec["hostUsers"] != true);
    expect("automountServiceAccountToken", spec["automountServiceAccountToken"] == false);
    expect("enableServiceLinks", spec["enableServiceLinks"] == false);
    let context = &spec["securityContext"];
    expect("sysctls", list(&context["sysctls"]).next().is_none());
    expect(
        "a group of root's",
        list(&context["supplementalGroups"]).chain([&context["fsGroup"]]).all(|id| *id != 0),
    );
    let kinds = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in list(&spec["volumes"]) {
        let allowed = fields(volume).all(|(name, _)| name == "name" || kinds.contains(&name.as_str()));
        expect(&format!("volume {volume}"), allowed);
    }
    check_context(context, expect);
}

fn check_container(pod: Pod<'_>, container: &Value, expect: &mut impl FnMut(&str, bool)) {
    let (context, of_pod) = (&container["securityContext"], &pod.spec["securityContext"]);
    let effective = |name: &str| if context[name].is_null() { &of_pod[name] } else { &context[name] };
    expect("runAsNonRoot", *effective("runAsNonRoot") == true);
    let profile = text(at(effective("seccompProfile"), "/type"));
    expect("seccompProfile", ["RuntimeDefault", "Localhost"].contains(&profile));
    expect("allowPrivilegeEscalation", context["allowPrivilegeEscalation"] == false);
    expect("privileged", context["privileged"].is_null() || context["privileged"] == false);
    expect("procMount", context["procMount"].is_null() || context["procMount"] == "Default");
    expect("readOnlyRootFilesystem", context["readOnlyRootFilesystem"] == true);
    expect("drop of all capabilities", list(at(context, "/capabilities/drop")).any(|name| name == "ALL"));
    let added = list(at(context, "/capabilities/add")).all(|name| name == "NET_BIND_SERVICE");
    expect("added capabilities", added);
    expect("hostPort", list(&container["ports"]).all(|port| port["hostPort"].is_null()));
    check_context(context, expect);
}

/// Checks the fields that a pod and a container have in common.
fn check_context(context: &Value, expect: &mut impl FnMut(&str, bool)) {
    expect("runAsUser", context["runAsUser"] != 0);
    expect("hostProcess", *at(context, "/windowsOptions/hostProcess") != true);
    expect("appArmorProfile", *at(context, "/appArmorProfile/type") != "Unconfined");
    let labels = &context["seLinuxOptions"];
    expect("seLinuxOptions", labels["user"].is_null() && labels["role"].is_null());
}

/// Sidecars of the user are the user's responsibility, but the chart's own containers must not need an
/// exception.
#[test]
fn the_check_accepts_a_restricted_pod() {
    let pod = yaml(concat!(
        "{kind: Pod, metadata: {name: a}, spec: {automountServiceAccountToken: false, enableServiceLinks: false,",
        " securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}},",
        " containers: [{name: a, securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true,",
        " capabilities: {drop: [ALL]}}}]}}",
    ));
    assert_eq!(faults(&Objects(vec![pod])), Vec::<String>::new());
}
