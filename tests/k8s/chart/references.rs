//! Tests that every reference of an object resolves: to a rendered object, or to a name that the user has
//! written.

use std::collections::HashSet;

use serde_json::{Value, json};

use kit::helm::objects::{Objects, Pod, at, kind_of, list, name_of, selects, text, title, visit};
use kit::helm::{Tools, Values, with_tools};

with_tools! {
    every_reference_resolves,
    unresolved_references_are_found,
}

fn every_reference_resolves(tools: &Tools) {
    for (case, values) in Values::every() {
        let objects = tools.helm().objects(&values);
        assert_eq!(faults(&objects, &values.written()), Vec::<String>::new(), "{case}");
    }
}

fn unresolved_references_are_found(tools: &Tools) {
    let values = Values::of("everything");
    let objects = tools.helm().objects(&values);
    let gone = json!("gone");
    let pod = |pointer: &str| format!("/spec/template/spec{pointer}");
    let breaks = [
        ("StatefulSet", "/spec/serviceName".into(), gone.clone()),
        ("StatefulSet", "/spec/selector/matchLabels/app".into(), gone.clone()),
        ("StatefulSet", pod("/serviceAccountName"), gone.clone()),
        ("StatefulSet", pod("/imagePullSecrets/0/name"), gone.clone()),
        ("StatefulSet", pod("/topologySpreadConstraints/0/labelSelector/matchLabels/app"), gone.clone()),
        ("StatefulSet", pod("/volumes/0/configMap/name"), gone.clone()),
        ("StatefulSet", pod("/volumes/0/configMap/items"), json!([{"key": "gone", "path": "a"}])),
        ("StatefulSet", pod("/volumes/1/projected/sources/0/secret/name"), gone.clone()),
        ("StatefulSet", pod("/volumes/1/projected/sources/-"), json!({"configMap": {"name": "gone"}})),
        ("StatefulSet", pod("/volumes/-"), json!({"name": "unused", "emptyDir": {}})),
        ("StatefulSet", pod("/volumes/-"), json!({"name": "config", "emptyDir": {}})),
        (
            "StatefulSet",
            pod("/volumes/-"),
            json!({"name": "a", "persistentVolumeClaim": {"claimName": "gone"}}),
        ),
        ("StatefulSet", pod("/containers/0/volumeMounts/0/name"), gone.clone()),
        ("StatefulSet", pod("/containers/0/volumeMounts/0/mountPath"), json!("/var/lib/atdata-bridge")),
        ("StatefulSet", pod("/containers/0/readinessProbe/httpGet/port"), gone.clone()),
        ("StatefulSet", pod("/containers/0/livenessProbe/httpGet/port"), json!(1)),
        ("StatefulSet", pod("/containers/0/ports/-"), json!({"name": "admin", "containerPort": 1})),
        ("StatefulSet", pod("/containers/0/env/-"), json!({"name": "HOSTNAME", "value": "twice"})),
        ("StatefulSet", pod("/containers/0/env/-"), json!({"name": "A", "value": "$(GONE)"})),
        (
            "StatefulSet",
            pod("/containers/0/env/-"),
            json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "a"}}}),
        ),
        ("StatefulSet", pod("/containers/0/envFrom"), json!([{"configMapRef": {"name": "gone"}}])),
        ("StatefulSet", pod("/containers/0/args"), json!(["--config", "/gone/bridge.toml"])),
        ("Service", "/spec/selector/app".into(), gone.clone()),
        ("Service", "/spec/ports/0/targetPort".into(), gone.clone()),
        ("PodDisruptionBudget", "/spec/selector/matchLabels/app".into(), gone.clone()),
        ("NetworkPolicy", "/spec/podSelector".into(), json!({"matchLabels": {"app": "gone"}})),
        ("NetworkPolicy", "/spec/ingress/0/ports/0/port".into(), gone.clone()),
        ("PodMonitor", "/spec/selector/matchLabels/app".into(), gone.clone()),
        ("PodMonitor", "/spec/podMetricsEndpoints/0/port".into(), gone.clone()),
        ("PodMonitor", "/spec/namespaceSelector/matchNames".into(), json!(["gone"])),
    ];
    assert_found(&objects, &values, &breaks);
    let values = Values::of("service-monitor");
    let breaks = [
        ("ServiceMonitor", "/spec/selector/matchLabels/app".into(), gone.clone()),
        ("ServiceMonitor", "/spec/endpoints/0/port".into(), gone.clone()),
        ("ServiceMonitor", "/spec/namespaceSelector".into(), json!({"any": true})),
        ("StatefulSet", pod("/volumes/2/persistentVolumeClaim/claimName"), gone),
    ];
    assert_found(&tools.helm().objects(&values), &values, &breaks);
    let values = Values::of("deployment");
    let breaks = [("HorizontalPodAutoscaler", "/spec/scaleTargetRef/kind".into(), json!("StatefulSet"))];
    assert_found(&tools.helm().objects(&values), &values, &breaks);
}

fn assert_found(objects: &Objects, values: &Values, breaks: &[(&str, String, Value)]) {
    for (kind, pointer, value) in breaks {
        let broken = objects.broken(kind, pointer, value.clone());
        assert!(!faults(&broken, &values.written()).is_empty(), "{kind}{pointer} = {value} passes");
    }
}

/// Finds unresolved references, and duplicate names that must be unique.
pub fn faults(objects: &Objects, written: &Value) -> Vec<String> {
    let mut checker = Checker { objects, named: texts_of(written), faults: Vec::new() };
    objects.pods().for_each(|pod| checker.pod(pod));
    objects.0.iter().for_each(|object| checker.object(object));
    checker.faults
}

/// All strings in the user's values, which include the names of the user's secrets, accounts and claims.
fn texts_of(written: &Value) -> HashSet<String> {
    let mut texts = HashSet::new();
    visit(written, &mut |_, value| texts.extend(value.as_str().map(String::from)));
    texts
}

struct Checker<'a> {
    objects: &'a Objects,
    named: HashSet<String>,
    faults: Vec<String>,
}

impl<'a> Checker<'a> {
    fn expect(&mut self, of: &Value, what: &str, holds: bool) {
        if !holds {
            self.faults.push(format!("{}: {what}", title(of)));
        }
    }

    /// Checks that an object of this kind is rendered with these keys, or that the user has named one.
    fn exists<'k>(&mut self, of: &Value, kind: &str, name: &Value, keys: impl Iterator<Item = &'k str>) {
        let name = text(name);
        let Some(found) = self.objects.find(kind, name) else {
            return self.expect(of, &format!("no {kind} {name:?}"), self.named.contains(name));
        };
        for key in keys {
            let has = ["data", "stringData", "binaryData"].iter().any(|data| !found[data][key].is_null());
            self.expect(of, &format!("{kind} {name} has no {key:?}"), has);
        }
    }

    fn unique<'v>(&mut self, of: &Value, what: &str, names: impl Iterator<Item = &'v str>) {
        let mut seen = HashSet::new();
        for name in names {
            self.expect(of, &format!("{what} {name:?} twice"), seen.insert(name));
        }
    }

    fn pod(&mut self, pod: Pod<'_>) {
        let (owner, spec) = (pod.owner, pod.spec);
        if spec["serviceAccountName"] != "default" {
            self.exists(owner, "ServiceAccount", &spec["serviceAccountName"], [].into_iter());
        }
        for secret in list(&spec["imagePullSecrets"]) {
            self.exists(owner, "Secret", &secret["name"], [].into_iter());
        }
        let claims =
            list(at(owner, "/spec/volumeClaimTemplates")).map(|claim| text(&claim["metadata"]["name"]));
        let volumes: Vec<&str> =
            list(&spec["volumes"]).map(|volume| text(&volume["name"])).chain(claims).collect();
        self.unique(owner, "volume", volumes.iter().copied());
        list(&spec["volumes"]).for_each(|volume| self.volume(owner, volume));
        self.unique(owner, "container", pod.containers().map(|container| text(&container["name"])));
        let ports = pod.containers().flat_map(|container| list(&container["ports"]));
        self.unique(owner, "port", ports.map(|port| text(&port["name"])).filter(|name| !name.is_empty()));
        for container in pod.containers() {
            self.container(owner, container, &volumes);
        }
        for volume in &volumes {
            let mut mounts = pod.containers().flat_map(|container| list(&container["volumeMounts"]));
            self.expect(
                owner,
                &format!("nothing mounts {volume:?}"),
                mounts.any(|mount| mount["name"] == *volume),
            );
        }
        for constraint in list(&spec["topologySpreadConstraints"]) {
            let own = selects(&constraint["labelSelector"], &pod.metadata["labels"]);
            self.expect(owner, "spreads other pods than its own", own);
        }
    }

    fn volume(&mut self, owner: &Value, volume: &Value) {
        let claim = at(volume, "/persistentVolumeClaim/claimName");
        if !claim.is_null() {
            self.exists(owner, "PersistentVolumeClaim", claim, [].into_iter());
        }
        for source in list(at(volume, "/projected/sources")).chain([volume]) {
            for (field, kind, name) in [
                ("configMap", "ConfigMap", "name"),
                ("secret", "Secret", "name"),
                ("secret", "Secret", "secretName"),
            ] {
                let reference = &source[field];
                if !reference[name].is_null() {
                    let keys = list(&reference["items"]).map(|item| text(&item["key"]));
                    self.exists(owner, kind, &reference[name], keys);
                }
            }
        }
        let paths = list(at(volume, "/projected/sources")).flat_map(|source| {
            ["configMap", "secret"].into_iter().flat_map(|field| list(&source[field]["items"]))
        });
        self.unique(owner, "path", paths.map(|item| text(&item["path"])));
    }

    fn container(&mut self, owner: &Value, container: &Value, volumes: &[&str]) {
        let mounts = || list(&container["volumeMounts"]);
        for mount in mounts() {
            let name = text(&mount["name"]);
            self.expect(owner, &format!("no volume {name:?} to mount"), volumes.contains(&name));
        }
        self.unique(owner, "mount", mounts().map(|mount| text(&mount["mountPath"])));
        self.environment(owner, container);
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let port = at(&container[probe], "/httpGet/port");
            let known = list(&container["ports"])
                .any(|known| known["name"] == *port || known["containerPort"] == *port);
            self.expect(owner, &format!("{probe} asks port {port}"), port.is_null() || known);
        }
        // The configuration file of the bridge must be on a volume.
        let options = list(&container["args"]).map(text).filter(|argument| argument.starts_with('/'));
        let variable = list(&container["env"]).filter(|variable| variable["name"] == "BRIDGE_CONFIG");
        for path in options.chain(variable.map(|variable| text(&variable["value"]))) {
            let mounted = mounts().any(|mount| path.starts_with(text(&mount["mountPath"])));
            self.expect(owner, &format!("nothing is mounted at {path}"), mounted);
        }
    }

    fn environment(&mut self, owner: &Value, container: &Value) {
        let names: Vec<&str> = list(&container["env"]).map(|variable| text(&variable["name"])).collect();
        self.unique(owner, "variable", names.iter().copied());
        for variable in list(&container["env"]) {
            for (field, kind) in [("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")] {
                let reference = &variable["valueFrom"][field];
                if !reference.is_null() {
                    self.exists(owner, kind, &reference["name"], [text(&reference["key"])].into_iter());
                }
            }
            let inner = text(&variable["value"]).split("$(").skip(1).filter_map(|rest| rest.split_once(')'));
            for (name, _) in inner {
                self.expect(owner, &format!("no variable {name}"), names.contains(&name));
            }
        }
        for source in list(&container["envFrom"]) {
            for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
                if !source[field].is_null() {
                    self.exists(owner, kind, &source[field]["name"], [].into_iter());
                }
            }
        }
    }

    fn object(&mut self, object: &Value) {
        let spec = &object["spec"];
        let workload = self.objects.workload();
        let labels = &workload.metadata["labels"];
        let ports = || workload.containers().flat_map(|container| list(&container["ports"]));
        match kind_of(object) {
            "StatefulSet" => {
                let service = self.objects.find("Service", text(&spec["serviceName"]));
                let headless = service.is_some_and(|service| service["spec"]["clusterIP"] == "None");
                self.expect(object, "no headless Service of that name", headless);
                self.expect(object, "its selector", selects(&spec["selector"], labels));
            }
            "Deployment" => self.expect(object, "its selector", selects(&spec["selector"], labels)),
            "Service" => {
                self.expect(object, "its selector", selects(&spec["selector"], labels));
                for port in list(&spec["ports"]) {
                    let target = &port["targetPort"];
                    let known =
                        ports().any(|known| known["name"] == *target || known["containerPort"] == *target);
                    self.expect(object, &format!("port {target}"), known);
                }
                // The Service must select only pods of the bridge.
                let others =
                    self.objects.pods().filter(|pod| selects(&spec["selector"], &pod.metadata["labels"]));
                let others = others.filter(|pod| kind_of(pod.owner) == "Pod").count();
                self.expect(object, "it reaches the test's pod", others == 0);
            }
            "PodDisruptionBudget" => self.expect(object, "its selector", selects(&spec["selector"], labels)),
            "NetworkPolicy" => {
                self.expect(object, "its selector", selects(&spec["podSelector"], labels));
                let named =
                    list(&spec["ingress"]).flat_map(|rule| list(&rule["ports"])).map(|port| &port["port"]);
                for port in named.filter(|port| port.is_string()) {
                    self.expect(object, &format!("port {port}"), ports().any(|known| known["name"] == *port));
                }
            }
            "PodMonitor" => {
                self.monitor(object, workload.owner, labels);
                for endpoint in list(&spec["podMetricsEndpoints"]) {
                    let known = ports().any(|port| port["name"] == endpoint["port"]);
                    self.expect(object, &format!("port {}", endpoint["port"]), known);
                }
            }
            "ServiceMonitor" => {
                let service = self.objects.the("Service");
                self.monitor(object, service, &service["metadata"]["labels"]);
                for endpoint in list(&spec["endpoints"]) {
                    let known = list(&service["spec"]["ports"]).any(|port| port["name"] == endpoint["port"]);
                    self.expect(object, &format!("port {}", endpoint["port"]), known);
                }
            }
            "HorizontalPodAutoscaler" => {
                let target = &spec["scaleTargetRef"];
                let same = target["name"] == name_of(workload.owner)
                    && target["kind"] == kind_of(workload.owner)
                    && target["apiVersion"] == workload.owner["apiVersion"];
                self.expect(object, "its target", same);
            }
            _ => {}
        }
    }

    fn monitor(&mut self, monitor: &Value, of: &'a Value, labels: &Value) {
        self.expect(monitor, "its selector", selects(&monitor["spec"]["selector"], labels));
        let namespaces = at(monitor, "/spec/namespaceSelector/matchNames");
        let mut named = list(namespaces);
        let own = namespaces.is_null() && monitor["metadata"]["namespace"] == of["metadata"]["namespace"];
        self.expect(monitor, "its namespace", own || named.any(|name| *name == of["metadata"]["namespace"]));
    }
}
