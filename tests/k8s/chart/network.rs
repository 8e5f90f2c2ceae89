//! Tests the network policy: it allows every connection that the bridge makes, and names what it can't know.

use serde_json::{Value, json};

use kit::helm::objects::{Objects, list, selects, text};
use kit::helm::{Tools, Values, with_tools};

with_tools! {
    the_network_policy_allows_the_egress_that_the_bridge_needs,
    dns_may_listen_on_other_ports,
    addresses_in_variables_are_allowed_too,
    addresses_that_are_not_in_the_values_need_their_ports,
}

fn the_network_policy_allows_the_egress_that_the_bridge_needs(tools: &Tools) {
    assert_eq!(tools.helm().objects(&Values::minimal()).of_kind("NetworkPolicy").count(), 0);
    let values = concat!(
        "networkPolicy: {enabled: true, extraEgress: [{ports: [{port: 4711, protocol: TCP}]}]}\n",
        "config: {source: {urls: ['ssl://a:1', 'stomp://b:2']}, sinks: {nats: {url: 'nats://c,tls://d:3', stream: a},",
        " kafka: {brokers: ['e:4', f], sasl: {mechanism: oauthbearer, token_url: 'https://g/t', client_id: a,",
        " client_secret_file: {existingSecret: a}}}}}\n",
    );
    let objects = tools.helm().objects(&Values::minimal().and(values));
    let policy = &objects.the("NetworkPolicy")["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    let open = egress(&objects);
    // DNS, AtData's broker, NATS and Kafka each with the default and another port, and the token endpoint.
    for port in [
        "UDP/53",
        "TCP/53",
        "TCP/61614",
        "TCP/1",
        "TCP/2",
        "TCP/4222",
        "TCP/3",
        "TCP/4",
        "TCP/9092",
        "TCP/443",
        "TCP/4711",
    ] {
        assert!(open.iter().any(|known| known == port), "{port} is not allowed: {open:?}");
    }
    let inside: Vec<&Value> = list(&policy["ingress"]).flat_map(|rule| list(&rule["ports"])).collect();
    assert_eq!(inside, [&json!({"port": "admin", "protocol": "TCP"})]);
    // The pod of `helm test` needs the same connections.
    let test = objects.the("Pod");
    assert!(selects(&policy["podSelector"], &test["metadata"]["labels"]));
}

/// A policy checks the ports of pods, not those of a Service. OpenShift's DNS pods listen on 5353.
fn dns_may_listen_on_other_ports(tools: &Tools) {
    for (values, ports) in [
        ("{}", &[53][..]),
        ("openshift: true", &[53, 5353]),
        ("openshift: true\nnetworkPolicy: {dnsPorts: [54]}", &[54]),
    ] {
        let values = Values::minimal().and("networkPolicy: {enabled: true}").and(values);
        let open = egress(&tools.helm().objects(&values));
        for port in [53, 5353, 54] {
            for protocol in ["UDP", "TCP"] {
                let is_open = open.contains(&format!("{protocol}/{port}"));
                assert_eq!(is_open, ports.contains(&port), "{values:?}: {protocol}/{port}: {open:?}");
            }
        }
    }
}

/// Options can also be set by variables, those of a sink that `config` does not name among them.
fn addresses_in_variables_are_allowed_too(tools: &Tools) {
    let values = Values::minimal().and(concat!(
        "networkPolicy: {enabled: true}\nextraEnv:\n",
        "  - {name: BRIDGE__SOURCE__URL, value: 'ssl://a:1'}\n",
        "  - {name: BRIDGE__SINKS__KAFKA__BROKERS, value: 'b:2, c'}\n",
        "  - {name: BRIDGE__SINKS__KAFKA__SASL__TOKEN_URL, value: 'http://d/token'}\n",
        "  - {name: BRIDGE__SINKS__NATS__URL, value: 'nats://e:3'}\n",
        "  - {name: BRIDGE__SINKS__WEB__KIND, value: webhook}\n",
        "  - {name: BRIDGE__SINKS__WEB__ENDPOINT, value: 'https://f/g'}\n",
        "  - {name: BRIDGE__DEAD_LETTERS__NATS__URL, value: 'tls://h:4'}\n",
    ));
    let mut open = egress(&tools.helm().objects(&values));
    open.retain(|port| !port.ends_with("/53"));
    open.sort();
    assert_eq!(open, ["TCP/1", "TCP/2", "TCP/3", "TCP/4", "TCP/443", "TCP/80", "TCP/9092"]);
}

/// A policy without them would stop the bridge, and nothing would say why.
fn addresses_that_are_not_in_the_values_need_their_ports(tools: &Tools) {
    let secret = "valueFrom: {secretKeyRef: {name: a, key: b}}";
    for (values, named) in [
        (format!("extraEnv: [{{name: BRIDGE__SOURCE__URL, {secret}}}]"), "source.url"),
        (format!("extraEnv: [{{name: BRIDGE__SINKS__KAFKA__BROKERS, {secret}}}]"), "sinks.kafka.brokers"),
        (format!("extraEnv: [{{name: BRIDGE__SINKS__NATS__URL, {secret}}}]"), "sinks.nats.url"),
        (format!("extraEnv: [{{name: BRIDGE__SINKS__COPY__KIND, {secret}}}]"), "sinks.copy"),
        ("extraEnv: [{name: BRIDGE__SINKS__NATS__URL, value: 'nats://$(NATS)'}]".into(), "sinks.nats.url"),
        ("extraEnvFrom: [{secretRef: {name: a}}]".into(), "extraEnvFrom"),
        ("config: {source: {url: {existingSecret: a}}}".into(), "source.url"),
        ("config: {sinks: {nats: {stream: a, url: {existingSecret: a}}}}".into(), "sinks.nats.url"),
        ("config: {sinks: {web: {kind: webhook, host: a}}}".into(), "sinks.web"),
    ] {
        let values = Values::minimal().and("networkPolicy: {enabled: true}").and(&values);
        let error = tools.helm().refusal(&values);
        assert!(error.contains(named) && error.contains("networkPolicy.egressPorts"), "{values:?}: {error}");
        let open = egress(&tools.helm().objects(&values.and("networkPolicy: {egressPorts: [7]}")));
        assert!(open.contains(&"TCP/7".into()), "{open:?}");
    }
}

/// The ports of the policy's egress rules, such as `TCP/9092`.
fn egress(objects: &Objects) -> Vec<String> {
    let rules = list(&objects.the("NetworkPolicy")["spec"]["egress"]);
    let ports = rules.flat_map(|rule| list(&rule["ports"]));
    ports.map(|port| format!("{}/{}", text(&port["protocol"]), port["port"])).collect()
}
