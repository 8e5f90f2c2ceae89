//! Tests that the chart avoids the problems that users of charts report most. Others are tested elsewhere:
//! upgrades in `upgrade`, secrets in `credentials`, changing output in `rendering`, restricted pods in
//! `pod_security`, duplicate or long names in `names` and `references`.

use std::fs;

use serde_json::{Value, json};

use kit::helm::objects::{Objects, at, fields, list, text, visit};
use kit::helm::{KUBERNETES, Tools, Values, chart, directory, in_tree, value_at, with_tools};

with_tools! {
    a_budget_never_blocks_the_drain_of_a_node,
    a_parent_chart_can_disable_it_and_set_globals,
    braces_of_other_programs_are_kept,
    pods_for_openshift_have_no_fixed_ids,
    enabled_monitors_are_always_rendered_with_their_labels,
    the_image_and_its_pull_secrets_can_be_set,
    no_third_party_charts_or_images_are_needed,
    autoscaling_replaces_the_number_of_replicas,
    duplicate_names_are_refused,
    large_numbers_stay_numbers,
    probes_can_be_replaced_and_removed,
    pages_over_tls_are_asked_over_tls,
    the_reason_of_an_exit_is_in_the_pods_status,
    extra_objects_keep_their_braces_unless_they_are_texts,
    braces_that_helm_would_drop_are_refused,
}

fn a_budget_never_blocks_the_drain_of_a_node(tools: &Tools) {
    let budget = |yaml: &str| {
        let objects = tools.helm().objects(&Values::minimal().and(yaml));
        objects.of_kind("PodDisruptionBudget").next().map(|budget| budget["spec"].clone())
    };
    assert_eq!(budget("replicaCount: 1"), None);
    assert_eq!(budget("autoscaling: {enabled: true, minReplicas: 1, maxReplicas: 1}"), None);
    for several in ["replicaCount: 2", "autoscaling: {enabled: true, minReplicas: 1, maxReplicas: 3}"] {
        let spec = budget(several).expect("a budget for several pods");
        assert_eq!((&spec["maxUnavailable"], &spec["minAvailable"]), (&json!(1), &Value::Null), "{several}");
    }
    let none =
        budget("replicaCount: 3\npodDisruptionBudget: {minAvailable: 0, maxUnavailable: null}").unwrap();
    assert_eq!((&none["minAvailable"], &none["maxUnavailable"]), (&json!(0), &Value::Null));
    assert_eq!(
        budget("replicaCount: 3\npodDisruptionBudget: {maxUnavailable: 0}").unwrap()["maxUnavailable"],
        0
    );
    assert_eq!(budget("replicaCount: 3\npodDisruptionBudget: {enabled: false}"), None);
    let both = Values::minimal().and("replicaCount: 3\npodDisruptionBudget: {minAvailable: 1}");
    assert!(tools.helm().refusal(&both).contains("podDisruptionBudget"));
}

/// A template that uses the clock, random values or the cluster would cause a change at every
/// synchronisation.
#[test]
fn templates_call_no_function_with_changing_results() {
    assert_eq!(
        unstable_calls("{{ include \"x.lookup\" . }}{{- /* now */ -}} {{ .Values.date }}"),
        Vec::<String>::new()
    );
    for template in [
        "{{ now | date \"2006\" }}",
        "{{- $p := randAlphaNum 8 }}",
        "{{ with (lookup \"v1\" \"Secret\" \"\" \"\") }}",
    ] {
        assert!(!unstable_calls(template).is_empty(), "{template} passes");
    }
    let mut directories = vec![chart().join("templates")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else {
                let found = unstable_calls(&fs::read_to_string(entry.path()).unwrap());
                assert!(found.is_empty(), "{}: {found:?}", entry.path().display());
            }
        }
    }
}

/// Finds calls of such functions, but not comments, strings or fields with such a name.
fn unstable_calls(template: &str) -> Vec<String> {
    let functions = ["lookup", "now", "date", "uuidv4", "getHostByName", "bcrypt", "htpasswd", "encryptAES"];
    let actions = template.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    let code = actions.filter(|action| !action.trim_start_matches('-').trim_start().starts_with("/*"));
    let outside_texts = code.flat_map(|action| action.split('"').step_by(2));
    let words = outside_texts.flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric() && c != '.'));
    let changes =
        |word: &&str| functions.contains(word) || word.starts_with("rand") || word.starts_with("gen");
    words.filter(changes).map(Into::into).collect()
}

fn a_parent_chart_can_disable_it_and_set_globals(tools: &Tools) {
    let parent = directory();
    let subcharts = parent.path().join("charts");
    fs::create_dir(&subcharts).unwrap();
    let dependencies = concat!(
        "apiVersion: v2\nname: above\nversion: 1.0.0\ndependencies:\n",
        "  - {name: atdata-bridge, version: '*', condition: atdata-bridge.enabled}\n",
    );
    fs::write(parent.path().join("Chart.yaml"), dependencies).unwrap();
    tools.helm().package(&chart(), &subcharts);
    let values = |enabled: bool| {
        let mut own = Values::minimal().written()[0].clone();
        own["enabled"] = json!(enabled);
        let global = json!({"imageRegistry": "registry.example.com", "imagePullSecrets": ["all"], "of": {"others": 1}});
        Values::default().and(&json!({"global": global, "atdata-bridge": own}).to_string())
    };
    for helm in &tools.helms {
        let rendered = helm.template_for(parent.path(), KUBERNETES[3], &values(true)).unwrap();
        let objects = Objects::parse(&rendered);
        let spec = objects.workload().spec;
        assert!(text(&spec["containers"][0]["image"]).starts_with("registry.example.com/"), "{spec}");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "all"}]));
        assert_eq!(helm.template_for(parent.path(), KUBERNETES[3], &values(false)).unwrap().trim(), "");
    }
}

/// Braces of the bridge in names, of Grafana in legends, of Prometheus in alerts and of Vault Agent in
/// annotations.
fn braces_of_other_programs_are_kept(tools: &Tools) {
    let all = "metrics: {dashboard: {enabled: true}, prometheusRule: {enabled: true}}";
    let own = "config: {event: {keys: ['/{{ .Release.Name }}', '/${HOME}']}}";
    let objects = tools.helm().objects(&Values::minimal().and(all).and(own));
    let configuration =
        objects.of_kind("ConfigMap").find_map(|map| map["data"]["bridge.toml"].as_str()).unwrap();
    assert!(configuration.contains("\"/{{ .Release.Name }}\", \"/${HOME}\""), "{configuration}");
    let data = objects.of_kind("ConfigMap").flat_map(|map| fields(&map["data"]));
    let dashboards = data.filter(|(name, _)| name.ends_with(".json"));
    let rendered: Vec<&str> = dashboards.map(|(_, data)| text(data)).collect();
    let shipped = fs::read_to_string(in_tree("helm/atdata-bridge/dashboards/atdata-bridge.json")).unwrap();
    let without_names = |text: &str| {
        let named = ["  \"title\": \"atdata-bridge", "  \"uid\": \"atdata-bridge"];
        let lines = text.trim().lines().filter(|line| named.iter().all(|name| !line.starts_with(name)));
        lines.map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(rendered.into_iter().map(without_names).collect::<Vec<_>>(), [without_names(&shipped)]);
    assert!(objects.the("PrometheusRule").to_string().contains("{{ $labels.pod }}"));
    let vault = tools.helm().objects(&Values::of("vault-agent"));
    for pod in vault.pods() {
        let template = text(&pod.metadata["annotations"]["vault.hashicorp.com/agent-inject-template-atdata"]);
        assert!(
            template.contains("secret \"secret/data/atdata\" -}}{{ .Data.data.password }}"),
            "{template}"
        );
    }
}

/// A cluster that assigns ids to every namespace refuses other ids.
fn pods_for_openshift_have_no_fixed_ids(tools: &Tools) {
    let nulls = "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}";
    for values in ["openshift: true", nulls] {
        let objects = tools.helm().objects(&Values::minimal().and(values));
        visit(&Value::Array(objects.0.clone()), &mut |path, value| {
            let id =
                ["runAsUser", "runAsGroup", "fsGroup"].iter().any(|id| path.ends_with(&format!("/{id}")));
            assert!(!id, "{values}: {path} = {value}");
        });
        assert_eq!(crate::pod_security::faults(&objects), Vec::<String>::new(), "{values}");
    }
    let objects = tools.helm().objects(&Values::minimal());
    assert_eq!(objects.workload().spec["securityContext"]["runAsUser"], 65532);
}

/// They must not depend on the cluster's API versions: without a cluster, they would be missing.
fn enabled_monitors_are_always_rendered_with_their_labels(tools: &Tools) {
    for (value, kind) in [
        ("podMonitor", "PodMonitor"),
        ("serviceMonitor", "ServiceMonitor"),
        ("prometheusRule", "PrometheusRule"),
    ] {
        let asked = format!(
            "metrics: {{{value}: {{enabled: true, namespace: monitoring, labels: {{release: stack}}}}}}"
        );
        let values = Values::minimal().and(&asked);
        let objects = tools.helm().objects(&values);
        let metadata = &objects.the(kind)["metadata"];
        assert_eq!(
            (&metadata["labels"]["release"], &metadata["namespace"]),
            (&json!("stack"), &json!("monitoring"))
        );
        let with_api_version = values.option("--api-versions", "monitoring.coreos.com/v1");
        assert_eq!(tools.helm().objects(&with_api_version).titles(), objects.titles(), "{kind}");
        assert_eq!(
            tools.helm().objects(&Values::minimal()).of_kind(kind).count(),
            0,
            "{kind} is not enabled"
        );
    }
}

fn the_image_and_its_pull_secrets_can_be_set(tools: &Tools) {
    let image = |yaml: &str| {
        let objects = tools.helm().objects(&Values::minimal().and(yaml));
        let images: Vec<String> =
            objects.pods().flat_map(|pod| pod.containers()).map(|of| text(&of["image"]).into()).collect();
        assert!(images.len() > 1 && images.iter().all(|image| *image == images[0]), "{images:?}");
        images.into_iter().next().unwrap()
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    let version = env!("CARGO_PKG_VERSION");
    assert!(image("{}").ends_with(&format!(":{version}")));
    let own = "image: {registry: r.example.com:5000, repository: a/b";
    assert_eq!(image(&format!("{own}}}")), format!("r.example.com:5000/a/b:{version}"));
    assert_eq!(image(&format!("{own}, tag: '1'}}")), "r.example.com:5000/a/b:1");
    assert_eq!(
        image(&format!("{own}, tag: '1', digest: '{digest}'}}")),
        format!("r.example.com:5000/a/b@{digest}")
    );
    assert_eq!(image(&format!("{own}}}\nglobal: {{imageRegistry: all}}")), format!("all/a/b:{version}"));
    let secrets = "imagePullSecrets: [one, {name: two}]\nglobal: {imagePullSecrets: [three]}";
    let objects = tools.helm().objects(&Values::minimal().and(secrets));
    for pod in objects.pods() {
        let named: Vec<&str> =
            list(&pod.spec["imagePullSecrets"]).map(|secret| text(&secret["name"])).collect();
        assert!(["one", "two", "three"].iter().all(|name| named.contains(name)), "{named:?}");
    }
}

fn no_third_party_charts_or_images_are_needed(tools: &Tools) {
    let definition = kit::helm::objects::yaml(&fs::read_to_string(chart().join("Chart.yaml")).unwrap());
    assert!(definition["dependencies"].is_null() && !chart().join("charts").exists());
    let everything =
        tools.helm().objects(&Values::of("everything").and("extraContainers: []\ninitContainers: []"));
    for container in everything.pods().flat_map(|pod| pod.containers()) {
        assert!(text(&container["image"]).contains("/atdata-bridge"), "{container}");
    }
}

fn autoscaling_replaces_the_number_of_replicas(tools: &Tools) {
    let nowhere = "kind: Deployment\nconfig: {dead_letters: {kafka: {topic: letters}}}";
    for kind in ["kind: StatefulSet", nowhere] {
        let values = Values::minimal().and(kind).and("replicaCount: 3");
        assert_eq!(tools.helm().objects(&values).workload().owner["spec"]["replicas"], 3);
        let scaled = tools.helm().objects(&values.and("autoscaling: {enabled: true, maxReplicas: 7}"));
        assert_eq!(scaled.workload().owner["spec"]["replicas"], Value::Null);
        assert_eq!(scaled.the("HorizontalPodAutoscaler")["spec"]["maxReplicas"], 7);
    }
    assert_eq!(
        tools.helm().objects(&Values::minimal().and("replicaCount: 0")).workload().owner["spec"]["replicas"],
        0
    );
}

/// The chart itself refuses them with a message. Otherwise the API server might refuse them later, or nothing
/// would.
fn duplicate_names_are_refused(tools: &Tools) {
    for (values, word) in [
        ("extraEnv: [{name: A, value: b}, {name: A, value: c}]", "extraEnv"),
        ("extraEnv: [{name: BRIDGE_CONFIG, value: /b}]", "extraEnv"),
        ("extraEnv: [{name: BRIDGE__ADMIN__LISTEN, value: 'off'}]", "admin.listen"),
        ("extraVolumes: [{name: config, emptyDir: {}}]", "extraVolumes"),
        ("extraVolumes: [{name: a, emptyDir: {}}, {name: a, emptyDir: {}}]", "extraVolumes"),
    ] {
        let error = tools.helm().refusal(&Values::minimal().and(values));
        assert!(error.contains(word), "{values}: {error}");
    }
}

/// For each method to pass values to Helm.
fn large_numbers_stay_numbers(tools: &Tools) {
    let numbers = [
        ("replicaCount", "/spec/replicas"),
        ("revisionHistoryLimit", "/spec/revisionHistoryLimit"),
        ("minReadySeconds", "/spec/minReadySeconds"),
        ("terminationGracePeriodSeconds", "/spec/template/spec/terminationGracePeriodSeconds"),
        ("podSecurityContext.runAsUser", "/spec/template/spec/securityContext/runAsUser"),
        ("livenessProbe.periodSeconds", "/spec/template/spec/containers/0/livenessProbe/periodSeconds"),
    ];
    let methods: [fn(Values, &str) -> Values; 3] = [
        |values, name| values.and(&value_at(name, "100000000")),
        |values, name| values.option("--set", &format!("{name}=100000000")),
        |values, name| values.option("--set-json", &format!("{name}=100000000")),
    ];
    for helm in &tools.helms {
        for method in methods {
            let values = numbers.iter().fold(Values::minimal(), |values, (name, _)| method(values, name));
            let values = method(values, "config.source.max_in_flight");
            let objects = helm.objects(&values);
            for (name, pointer) in numbers {
                assert_eq!(objects.workload().owner.pointer(pointer), Some(&json!(100_000_000)), "{name}");
            }
            let configuration = objects.configuration();
            assert!(configuration.contains("max_in_flight = 100000000\n"), "{configuration}");
        }
        // Labels, annotations and passwords are strings, even if they look like numbers.
        let texts = concat!(
            "commonLabels: {a: 10000000}\ncommonAnnotations: {a: true}\npodAnnotations: {b: 10000000}\n",
            "config: {source: {password_file: {existingSecret: null, value: '12345678901234567890123456789012'}}}",
        );
        let objects = helm.objects(&Values::minimal().and(texts));
        assert_eq!(objects.the("Service")["metadata"]["labels"]["a"], "10000000");
        assert_eq!(objects.workload().metadata["annotations"]["b"], "10000000");
        let secret = objects.the("Secret")["stringData"].to_string();
        assert!(secret.contains("\"12345678901234567890123456789012\""), "{secret}");
    }
}

/// `kubectl describe pod` shows it, such as the configuration that is refused.
fn the_reason_of_an_exit_is_in_the_pods_status(tools: &Tools) {
    for (case, values) in Values::every() {
        for pod in tools.helm().objects(&values).pods() {
            assert_eq!(pod.bridge()["terminationMessagePolicy"], "FallbackToLogsOnError", "{case}");
        }
    }
}

fn probes_can_be_replaced_and_removed(tools: &Tools) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = |yaml: &str| {
            let objects = tools.helm().objects(&Values::minimal().and(yaml));
            objects.workload().bridge()[name].clone()
        };
        let replaced =
            probe(&format!("{name}: {{httpGet: null, tcpSocket: {{port: admin}}, periodSeconds: 7}}"));
        assert_eq!(replaced["tcpSocket"], json!({"port": "admin"}));
        assert!(replaced["httpGet"].is_null() && replaced["periodSeconds"] == 7, "{replaced}");
        assert_eq!(probe(&format!("{name}: null")), Value::Null);
    }
    let objects = tools.helm().objects(&Values::minimal());
    let bridge = objects.workload().bridge();
    assert_eq!(*at(bridge, "/livenessProbe/httpGet/path"), json!("/livez"));
    assert_eq!(*at(bridge, "/readinessProbe/httpGet/path"), json!("/readyz"));
}

fn pages_over_tls_are_asked_over_tls(tools: &Tools) {
    let schemes = |values: &Values| {
        let objects = tools.helm().objects(values);
        let pod = objects.workload();
        let (bridge, annotations) = (pod.bridge(), at(pod.owner, "/spec/template/metadata/annotations"));
        let endpoint = at(objects.the("PodMonitor"), "/spec/podMetricsEndpoints/0/scheme");
        let service = at(objects.the("Service"), "/spec/ports/0/appProtocol");
        let probes =
            ["liveness", "readiness"].map(|kind| &bridge[format!("{kind}Probe")]["httpGet"]["scheme"]);
        json!([probes, endpoint, service, annotations["prometheus.io/scheme"]])
    };
    let over_tls = json!([["HTTPS", "HTTPS"], "https", "https", "https"]);
    assert_eq!(schemes(&Values::of("admin-tls")), over_tls);
    let monitored = Values::minimal().and("metrics: {scrapeAnnotations: true, podMonitor: {enabled: true}}");
    assert_eq!(schemes(&monitored), json!([[null, null], null, "http", null]));
    let variables = "env: {BRIDGE__ADMIN__TLS__CERTIFICATE_FILE: /a, BRIDGE__ADMIN__TLS__KEY_FILE: /b}";
    assert_eq!(schemes(&monitored.clone().and(variables)), over_tls);
    let clients = "config: {admin: {tls: {certificate_file: /a, key_file: /b, client_ca_file: /c}}}";
    let refusal = tools.helm().refusal(&monitored.and(clients));
    assert!(refusal.contains("metrics.podMonitor.endpoint.tlsConfig is missing"), "{refusal}");
    for (values, reason) in [
        ("config: {admin: {tls: {key_file: /b}}}", "config.admin.tls.certificate_file is missing"),
        ("config: {admin: {tls: {client_ca_file: /c}}}", "config.admin.tls.certificate_file is missing"),
        ("env: {BRIDGE__ADMIN__TLS__CERTIFICATE_FILE: /a}", "config.admin.tls.key_file is missing"),
    ] {
        let refusal = tools.helm().refusal(&Values::minimal().and(values));
        assert!(refusal.contains(reason), "{values}: {refusal}");
    }
    let own = "config: {admin: {tls: {certificate_file: /a, key_file: /b}}}";
    let refusal = tools.helm().refusal(&Values::of("existing-config-map").and(own));
    assert!(refusal.contains("config.admin.tls would not be read"), "{refusal}");
    let hook = "lifecycle: {preStop: {httpGet: {port: admin, path: /livez}}}";
    let objects = tools.helm().objects(&Values::of("admin-tls").and(hook));
    let scheme = at(objects.workload().bridge(), "/lifecycle/preStop/httpGet/scheme");
    assert_eq!(*scheme, json!("HTTPS"));
    let own = Values::of("admin-tls").and("livenessProbe: {httpGet: {port: 8080, path: /}}");
    let objects = tools.helm().objects(&own);
    assert_eq!(objects.workload().bridge()["livenessProbe"]["httpGet"]["scheme"], Value::Null);
}

/// An object such as an ExternalSecret has templates of its own, of which Helm would make nothing.
fn extra_objects_keep_their_braces_unless_they_are_texts(tools: &Tools) {
    let object = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  a: '{{{{ .Release.Name }}}}'\n"
        )
    };
    let values = json!({"extraObjects": [kit::helm::objects::yaml(&object("map")), object("text")]});
    let objects = tools.helm().objects(&Values::minimal().and(&values.to_string()));
    let data = |name: &str| text(&objects.find("ConfigMap", name).unwrap()["data"]["a"]).to_owned();
    assert_eq!((data("map").as_str(), data("text").as_str()), ("{{ .Release.Name }}", "main"));
    let external = tools.helm().objects(&Values::of("external-secrets"));
    let template = at(external.the("ExternalSecret"), "/spec/target/template/data/password");
    assert_eq!(template, "{{ .password | trim }}");
}

/// Helm expands a name that it does not know to nothing.
fn braces_that_helm_would_drop_are_refused(tools: &Tools) {
    let sidecar = |braces: &str| {
        let sidecar = json!([{"name": "a", "image": "b", "args": [braces]}]);
        Values::minimal().and(&json!({"extraContainers": sidecar}).to_string())
    };
    let agent = "{{ .password }}";
    let error = tools.helm().refusal(&sidecar(agent));
    assert!(error.contains("extraContainers") && error.contains("{{ \"{{ .password }}\" }}"), "{error}");
    for (braces, rendered) in [
        ("{{ \"{{ .password }}\" }}", agent),
        ("{{ .Release.Name }}-{{ $.Values.kind }}", "main-StatefulSet"),
    ] {
        let objects = tools.helm().objects(&sidecar(braces));
        assert_eq!(objects.workload().spec["containers"][1]["args"][0], rendered);
    }
}
