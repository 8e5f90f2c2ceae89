//! Tests the schema of the values: it matches the program and values.yaml, is strict about the chart's own
//! values, and is open where the bridge is open. Also tests Helm's messages for wrong or missing values.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::pod::Process;

use kit::helm::objects::{fields, text, visit, yaml};
use kit::helm::{Tools, Values, chart, in_tree, run, with_tools};

with_tools! {
    misspelt_names_and_wrong_types_are_refused,
    what_the_bridge_refuses_the_schema_refuses,
    the_schema_accepts_every_form_that_the_bridge_accepts,
    sinks_of_any_name_and_kind_are_accepted,
    missing_required_values_are_named,
    unusable_values_are_refused_with_advice,
    usable_values_are_accepted,
    names_that_kubernetes_refuses_are_refused,
    another_controller_can_manage_the_replicas,
    generated_files_are_current,
}

fn misspelt_names_and_wrong_types_are_refused(tools: &Tools) {
    let wrong = [
        "replicaCuont: 2",
        "replicaCount: '2'",
        "replicaCount: -1",
        "kind: DaemonSet",
        "image: {tags: a}",
        "image: {digest: '0123'}",
        "persistence: {sise: 1Gi}",
        "metrics: {podMonitor: {enable: true}}",
        "metrics: {podMonitor: {enabled: 'true'}}",
        "metrics: {prometheusRule: {alerts: {AtDataBridgeHeld: {treshold: 1}}}}",
        "networkPolicy: {enabled: 1}",
        "config: {sorce: {}}",
        "config: {source: {prefech: 1}}",
        "config: {source: {username: 12345}}",
        "config: {source: {ordering: strickt}}",
        "config: {source: {password_file: {existingSecrets: a}}}",
        "config: {sinks: {kafka: {topik: a}}}",
        "config: {sinks: {kafka: {compression: lzma}}}",
        "config: {sinks: {kafka: {tls: {enabled: 'yes'}}}}",
        "config: {sinks: {nats: {url: 'nats://a', steam: b}}}",
        "config: {dead_letters: {directroy: /a}}",
    ];
    for helm in &tools.helms {
        for values in wrong {
            let error = helm.refusal(&Values::minimal().and(values));
            assert!(error.contains("schema"), "{helm:?}: {values}: {error}");
        }
    }
}

/// Otherwise the pod would end with exit code 64.
fn what_the_bridge_refuses_the_schema_refuses(tools: &Tools) {
    let refused = [
        "config: {sinks: {Kafka: {kind: kafka, brokers: [a], topic: b}}}",
        "config: {sinks: {a__b: {kind: kafka, brokers: [a], topic: b}}}",
        "config: {sinks: {a.b: {kind: kafka, brokers: [a], topic: b}}}",
        "config: {sinks: {-a: {kind: kafka, brokers: [a], topic: b}}}",
        "config: {dead_letters: {A: {kind: kafka, brokers: [a], topic: b}}}",
        "config: {sinks: {kafka: {topic: a b}}}",
        "config: {sinks: {nats: {url: 'a:4222', stream: b}}}",
        "config: {sinks: {nats: {url: 'http://a', stream: b}}}",
        "config: {sinks: {nats: {url: 'nats://a', stream: b.c}}}",
        "config: {source: {url: 'stomp://broker'}}",
        "config: {source: {url: 'broker:61613'}}",
        "config: {source: {url: 'stomp://broker:61613/queue'}}",
        "config: {source: {url: null, urls: ['stomp://a:1', 'stomp://b']}}",
        "config: {source: {namespace: a.b}}",
        "config: {source: {destination_id: main.RTO.acme}}",
        "config: {source: {connection_id: a b}}",
        "config: {source: {prefetch: 1000}}",
        "config: {source: {prefetch: 20001}}",
        "config: {source: {max_headers: 10}}",
        "config: {source: {heart_beat: '20'}}",
        "config: {source: {heart_beat: soon}}",
        "config: {source: {max_body: 1.5MiB}}",
        "config: {source: {max_body: 4Mi}}",
        "config: {event: {keys: [md5]}}",
        "config: {event: {keys: []}}",
        "config: {event: {partitions: 0}}",
        "config: {dead_letters: {max_share: 10}}",
        "config: {dead_letters: {max_run: 0}}",
        "config: {sinks: {file: {max_open: 0}}}",
    ];
    for values in refused {
        let values = Values::minimal().and(values);
        for helm in &tools.helms {
            let error = helm.refusal(&values);
            assert!(error.contains("schema"), "{helm:?}: {values:?}: {error}");
        }
        let unchecked = tools.helm().objects(&values.clone().flag("--skip-schema-validation"));
        let verdict = Process::of_workload(&unchecked).run(&["config"]);
        assert!(verdict.is_err(), "the bridge accepts {values:?}");
    }
}

fn the_schema_accepts_every_form_that_the_bridge_accepts(tools: &Tools) {
    let accepted = [
        "config: {sinks: {0: {kind: stdout}, a_b-c_: {kind: stdout}, a--b: {kind: stdout}}}",
        "config: {sinks: {nats: {url: 'nats://a, tls://b:3/,nats://[::1]:4', stream: Ä}}}",
        "config: {source: {url: ' STOMP+TLS://broker:61613/ ', namespace: straße}}",
        "config: {source: {url: 'tcp://[::1]:1', heart_beat: '0', connect_timeout: 1h 30min, idle_reconnect: 2months}}",
        "config: {source: {max_body: 1 kb, max_header_size: 65536, max_in_flight: 64 MIB}}",
        "config: {event: {keys: [/a b]}, dead_letters: {max_share: 0.5, max_total: 1700MB}}",
    ];
    for values in accepted {
        for helm in &tools.helms {
            let objects = helm.objects(&Values::minimal().and(values));
            let verdict = Process::of_workload(&objects).run(&["config"]);
            assert!(verdict.is_ok(), "{values}: {verdict:?}");
        }
    }
}

/// The user chooses the name in `[sinks.<name>]`, and another program can have other kinds.
fn sinks_of_any_name_and_kind_are_accepted(tools: &Tools) {
    let sinks = concat!(
        "config: {sinks: {kafka: null, kafka-eu: {kind: kafka, brokers: [a], topic: b},",
        " web_2: {kind: webhook, url: 'https://a', whatever: {it: needs}}}}",
    );
    for helm in &tools.helms {
        let objects = helm.objects(&Values::minimal().and(sinks));
        let configuration = objects.configuration();
        assert!(configuration.contains("[sinks.kafka-eu]") && !configuration.contains("[sinks.kafka]"));
        assert!(configuration.contains("[sinks.web_2.whatever]\n"), "{configuration}");
    }
}

/// The message names all missing values at once, and is not an internal error of Helm.
fn missing_required_values_are_named(tools: &Tools) {
    for helm in &tools.helms {
        let error = helm.refusal(&Values::default());
        let required = [
            "source.url",
            "source.username",
            "source.password_file",
            "source.namespace",
            "source.destination_id",
        ];
        for option in required.into_iter().chain(["sinks"]) {
            assert!(error.contains(&format!("config.{option}")), "{helm:?} does not name {option}: {error}");
        }
        assert!(!error.contains("nil pointer"), "{error}");
        for option in required {
            let path = option.replace("source.", "config: {source: {");
            let error = helm.refusal(&Values::minimal().and(&format!("{path}: null}}}}")));
            let named: Vec<&str> = required.into_iter().filter(|known| error.contains(known)).collect();
            assert_eq!(named, [option], "{error}");
        }
    }
}

fn unusable_values_are_refused_with_advice(tools: &Tools) {
    let refused = [
        ("kind: Deployment", "config.dead_letters"),
        (
            "kind: Deployment\nconfig: {sinks: {file: {}}, dead_letters: {kafka: {topic: a}}}",
            "config.sinks.file",
        ),
        ("persistence: {enabled: false}", "persistence.enabled"),
        ("terminationGracePeriodSeconds: 25", "terminationGracePeriodSeconds"),
        ("config: {shutdown: {drain_timeout: 2min}}", "terminationGracePeriodSeconds"),
        ("config: {shutdown: {drain_timeout: soon}}", "drain_timeout"),
        ("config: {admin: {listen: 'off'}}", "config.admin.listen"),
        ("config: {admin: {listen: '127.0.0.1:9464'}}", "config.admin.listen"),
        ("replicaCount: 2\nconfig: {source: {connection_id: me}}", "config.source.connection_id"),
        (
            "replicaCount: 2\nextraEnv: [{name: BRIDGE__SOURCE__CONNECTION_ID, value: me}]",
            "BRIDGE__SOURCE__CONNECTION_ID",
        ),
        (
            "replicaCount: null\nextraEnv: [{name: BRIDGE__SOURCE__CONNECTION_ID, value: me}]",
            "BRIDGE__SOURCE__CONNECTION_ID",
        ),
        (
            "replicaCount: 2\nextraEnv: [{name: BRIDGE__SOURCE__CONNECTION_ID, value: me-$$(HOSTNAME)}]",
            "BRIDGE__SOURCE__CONNECTION_ID",
        ),
        (
            "replicaCount: 2\nextraEnv: [{name: BRIDGE__SOURCE__CONNECTION_ID, value: me-$(NODE)}]",
            "BRIDGE__SOURCE__CONNECTION_ID",
        ),
        (
            concat!(
                "replicaCount: 2\nextraEnv: [{name: BRIDGE__SOURCE__CONNECTION_ID, value: $(POD)},",
                " {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
            ),
            "BRIDGE__SOURCE__CONNECTION_ID",
        ),
        (
            concat!(
                "replicaCount: 2\nextraEnv: [{name: BRIDGE__SOURCE__CONNECTION_ID,",
                " valueFrom: {secretKeyRef: {name: a, key: b}}}]",
            ),
            "BRIDGE__SOURCE__CONNECTION_ID",
        ),
        (
            "replicaCount: 2\nconfig: {source: {connection_id: {existingSecret: a}}}",
            "config.source.connection_id",
        ),
        ("persistence: {retentionPolicy: {whenDeleted: Delete}}", "whenDeleted"),
        (
            "persistence: {retentionPolicy: {whenScaled: Delete}}\nconfig: {sinks: {file: {}}}",
            "config.sinks.file",
        ),
        ("persistence: {enabled: false}\nconfig: {dead_letters: {directory: /a}}", "/a"),
        ("config: {dead_letters: {directory: /var/lib/atdata-bridge-2}}", "/var/lib/atdata-bridge-2"),
        ("config: {dead_letters: {directory: /var/lib/atdata-bridge/../a}}", "/var/lib/atdata-bridge/../a"),
        (
            concat!(
                "persistence: {enabled: false}\nconfig: {dead_letters: {directory: /mine-2}}\n",
                "extraVolumes: [{name: mine, persistentVolumeClaim: {claimName: a}}]\n",
                "extraVolumeMounts: [{name: mine, mountPath: /mine}]",
            ),
            "/mine-2",
        ),
        (
            concat!(
                "config: {dead_letters: {directory: /mine/a}}\nextraVolumes: [{name: mine, emptyDir: {}}]\n",
                "extraVolumeMounts: [{name: mine, mountPath: /mine}]",
            ),
            "ends with the pod",
        ),
        (
            concat!(
                "extraVolumes: [{name: mine, emptyDir: {}}]\n",
                "extraVolumeMounts: [{name: mine, mountPath: /var/lib/atdata-bridge/dead-letters}]",
            ),
            "ends with the pod",
        ),
        (
            concat!(
                "kind: Deployment\nconfig: {dead_letters: {kafka: {topic: a}}}\n",
                "extraEnv: [{name: BRIDGE__SINKS__COPY__KIND, value: file}]",
            ),
            "config.sinks.copy",
        ),
        ("config: {dead_letters: {stdout: {}}}", "config.dead_letters.stdout"),
        ("config: {sinks: {out: {kind: stdout}}, dead_letters: {out: {}}}", "config.dead_letters.out"),
        (
            "extraEnv: [{name: BRIDGE__SINKS__KAFKA__SASL__PASSWORD, value: a}]",
            "config.sinks.kafka.sasl.password_file",
        ),
        ("extraEnv: [{name: BRIDGE__SINKS__NATS__URL, value: 'nats://a:b@c'}]", "BRIDGE__SINKS__NATS__URL"),
        ("config: {sinks: {nats: {url: 'a:b@c', stream: d}}}", "config.sinks.nats.url"),
        ("config: {sinks: {kafka: {brokers: ['ssl://a:b/c@d']}}}", "config.sinks.kafka.brokers"),
        ("config: {sinks: {web: {kind: webhook, endpoint: 'https://a:b/c@d'}}}", "config.sinks.web.endpoint"),
        ("config: {sinks: {kafka: {properties: {ssl.key.pem: a}}}}", "tls.key_file"),
        ("config: {sinks: {kafka: {properties: {sasl.oauthbearer.config: a}}}}", "sasl.client_secret_file"),
        ("updateStrategy: {type: Recreate}", "OnDelete"),
        ("autoscaling: {enabled: true, minReplicas: 6, maxReplicas: 5}", "maxReplicas"),
        ("terminationGracePeriodSeconds: 29", "raise it to 30"),
        ("terminationGracePeriodSeconds: 30\nlifecycle: {preStop: {sleep: {seconds: 5}}}", "raise it to 35"),
        ("metrics: {podMonitor: {enabled: true}, serviceMonitor: {enabled: true}}", "serviceMonitor"),
        ("config: {source: {max_in_flight: 600MiB}}", "64Mi (for the bridge itself) + 600Mi"),
        ("config: {source: {max_in_flight: 629145600}}", "= 1264Mi: raise the limit to 1264Mi"),
        (
            "extraEnv: [{name: BRIDGE__SOURCE__MAX_IN_FLIGHT, value: 600MiB}]",
            "resources.limits.memory: 512Mi",
        ),
        ("config: {source: {max_in_flight: 250 MB}}", "resources.limits.memory: 512Mi"),
        ("resources: {limits: {memory: 191Mi}}", "64Mi (its copy in sinks.kafka) = 192Mi"),
        ("resources: {limits: {memory: 200M}}", "resources.limits.memory: 200M"),
        (
            "config: {sinks: {kafka-2: {kind: kafka, brokers: [a], topic: b}}}\nresources: {limits: {memory: 255Mi}}",
            "sinks.kafka-2",
        ),
        ("config: {sinks: {file: {max_total: 8GiB}}}", "persistence.size: 8Gi"),
        ("config: {dead_letters: {max_total: 10GB}}", "10GB (config.dead_letters.max_total)"),
        ("config: {source: {password_file: {existingSecret: a, value: b}}}", "config.source.password_file"),
    ];
    for helm in &tools.helms {
        for (values, named) in refused {
            let error = helm.refusal(&Values::minimal().and(values));
            assert!(error.contains(named) && error.contains(": "), "{helm:?}: {values}: {error}");
        }
    }
}

/// These values are similar to refused ones.
fn usable_values_are_accepted(tools: &Tools) {
    let taken = [
        "persistence: {retentionPolicy: {whenDeleted: Delete}}\nconfig: {dead_letters: {kafka: {topic: a}}}",
        "config: {dead_letters: {directory: /var/lib/atdata-bridge/letters/}}",
        concat!(
            "persistence: {enabled: false}\nconfig: {dead_letters: {directory: /mine/a}}\n",
            "extraVolumes: [{name: mine, persistentVolumeClaim: {claimName: '{{ .Release.Name }}'}}]\n",
            "extraVolumeMounts: [{name: mine, mountPath: /mine/}]",
        ),
        concat!(
            "persistence: {enabled: false}\n",
            "extraVolumes: [{name: mine, persistentVolumeClaim: {claimName: a}}]\n",
            "extraVolumeMounts: [{name: mine, mountPath: /var/lib/atdata-bridge}]",
        ),
        concat!(
            "replicaCount: 2\nextraEnv: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.uid}}},",
            " {name: BRIDGE__SOURCE__CONNECTION_ID, value: me-$(POD)}]",
        ),
        "config: {source: {connection_id: me}}",
        "extraEnv: [{name: BRIDGE__SINKS__KAFKA__SASL__PASSWORD_FILE, value: /a}, {name: TOKEN, value: b}]",
        "kind: Deployment\nconfig: {dead_letters: {kafka: {topic: a}}}\nupdateStrategy: {type: Recreate}",
        "autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 5}",
        "resources: {limits: {memory: 192Mi}}",
        "resources: {limits: {memory: null}}\nconfig: {source: {max_in_flight: 6GiB}}",
        "resources: {limits: {memory: 2Gi}}\nconfig: {source: {max_in_flight: 600MiB}}",
        "config: {sinks: {nats: {url: 'nats://a:1', stream: b}, kafka: null}}\nresources: {limits: {memory: 128Mi}}",
        concat!(
            "config: {source: {isolation: mirror}, sinks: {nats: {url: 'nats://a:1', stream: b}}}\n",
            "resources: {limits: {memory: 160Mi}}",
        ),
        "persistence: {existingClaim: mine}\nconfig: {sinks: {file: {max_total: 800GiB}}}",
        "config: {sinks: {file: {max_total: 7GiB}}}",
        "terminationGracePeriodSeconds: 35\nlifecycle: {preStop: {sleep: {seconds: 5}}}",
    ];
    for helm in &tools.helms {
        for values in taken {
            helm.objects(&Values::minimal().and(values));
        }
    }
}

/// The name of the Service comes from the release.
fn names_that_kubernetes_refuses_are_refused(tools: &Tools) {
    for helm in &tools.helms {
        for release in ["1st", "a.b"] {
            let named = Values::minimal().named(release);
            assert!(helm.refusal(&named).contains("fullnameOverride"), "{release}");
            helm.objects(&named.and("fullnameOverride: first"));
        }
        assert!(helm.refusal(&Values::minimal().and("fullnameOverride: First")).contains("fullnameOverride"));
        let objects = helm.objects(&Values::minimal().and("namespaceOverride: '1234'"));
        for object in &objects.0 {
            assert_eq!(object["metadata"]["namespace"], "1234", "{object}");
        }
    }
}

/// The chart sets no number of replicas that conflicts with the other controller, and assumes several
/// replicas.
fn another_controller_can_manage_the_replicas(tools: &Tools) {
    let letters = "config: {dead_letters: {kafka: {topic: a}}}\nmetrics: {prometheusRule: {enabled: true}}";
    for helm in &tools.helms {
        for kind in ["StatefulSet", "Deployment"] {
            let values = Values::minimal().and(letters).and(&format!("kind: {kind}\nreplicaCount: null"));
            let objects = helm.objects(&values);
            assert!(objects.workload().owner["spec"]["replicas"].is_null(), "{kind}");
            assert_eq!(objects.of_kind("PodDisruptionBudget").count(), 1, "{kind}");
            assert!(objects.the("PrometheusRule").to_string().contains("vector(0)) < 1\""), "{kind}");
        }
    }
}

/// The files generated from the program's schema and from the comments in values.yaml are up to date.
fn generated_files_are_current(_: &Tools) {
    let generate = |schema: &str| {
        let mut command = Command::new("python3");
        run(command.arg(in_tree("helm/generate.py")).arg("--check"), schema)
    };
    let mut program = Command::new(env!("CARGO_BIN_EXE_atdata-bridge"));
    let schema = run(program.args(["config", "--reference=schema"]), "").unwrap();
    generate(&schema).unwrap_or_else(|error| panic!("{error}"));
    let another = schema.replace("\"prefetch\"", "\"postfetch\"");
    assert!(another != schema && generate(&another).is_err(), "an unknown option is not found");
}

#[test]
fn every_helm_version_can_read_the_schema_without_a_network() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert_eq!(schema["additionalProperties"], false);
    visit(&schema, &mut |path, value| {
        let remote = path.ends_with("/$ref") && !text(value).starts_with("#/");
        assert!(!remote, "{path} refers to {value}");
    });
}

/// Each value has a comment and a default in values.yaml, except values that Helm itself passes.
#[test]
fn every_value_of_the_schema_is_explained_in_values_yaml() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values = yaml(&read("values.yaml"));
    let mut in_schema = names(&schema["properties"]);
    assert!(in_schema.remove("enabled"), "the value with which parent charts enable this chart");
    assert_eq!(in_schema, names(&values));
    // Values of the bridge, of other charts and of Kubernetes are explained elsewhere.
    let ours = |name: &str| !["config", "global", "resources"].contains(&name);
    for (name, part) in fields(&schema["properties"]).filter(|(name, _)| ours(name)) {
        if part["properties"].is_object() {
            assert_eq!(names(&part["properties"]), names(&values[name]), "{name}");
        }
    }
}

fn names(map: &Value) -> BTreeSet<String> {
    fields(map).map(|(name, _)| name.clone()).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(chart().join(file)).unwrap()
}
