//! Tests `/status` and the verb `status` with a bridge that starts, works, and loses its broker.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use atdata_bridge::telemetry::bridge_status::BridgeStatus;
use kit::admin::Admin;
use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::events::Events;
use kit::on_each_broker;
use kit::ports::free_port;
use kit::proxy::Proxy;
use kit::scenario::{drain, emptied, place, publish, subscribed};

on_each_broker!(
    over each protocol: the_state_is_told_whatever_it_is,
);

async fn the_state_is_told_whatever_it_is(version: Version, protocol: Protocol) {
    let (broker, (namespace, queue)) = (shared(version), &place(protocol, "status"));
    let proxy = Proxy::start(broker.addr_of(protocol)).await;
    let setup = Setup::new(broker, protocol, namespace, "main", namespace)
        .set("SOURCE__URL", protocol.url(proxy.addr()))
        .set("SOURCE__CONNECT_TIMEOUT", "1s")
        .set("ADMIN__LISTEN", format!("0.0.0.0:{}", free_port()));
    let (code, out, err) = setup.run(&["status"]);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(err.contains("tells no state: can't connect: ") && err.contains("does it run"), "{err}");

    let bridge = setup.start();
    subscribed(broker, queue, 1).await;
    publish(broker, namespace, Events::good(100)).await;
    emptied(broker, queue).await;
    let admin = Admin::of(&bridge).await;
    admin.ready().await;
    let (code, out, err) = setup.run(&["status"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("ready: atdata-bridge "), "{out}");
    let has =
        |start: &str, end: &str| lines.iter().any(|line| line.starts_with(start) && line.ends_with(end));
    let counts = ", 100 acknowledged, 0 of 1024 in flight";
    assert!(has("  source ", "") && has(&format!("{queue}: 0.0 s behind, last event "), counts), "{out}");
    assert!(has("  file: 100 settled", "dead letters: none"), "{out}");

    let (code, out, _) = setup.run(&["status", "--json"]);
    let status: BridgeStatus = serde_json::from_str(&out).expect("the document");
    assert_eq!((code, status.ready, status.queues[0].received), (Some(0), true, 100));
    let page = admin.get("/status").await;
    assert!(page.head.contains("content-type: application/json") && page.status == 200, "{}", page.head);

    let mut watch = setup.command(&["status", "--watch", "--json"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().expect("start the verb");
    let mut looks = BufReader::new(watch.stdout.take().expect("its output")).lines();
    for _ in 0..2 {
        let look = looks.next().expect("another look").expect("a line");
        assert!(serde_json::from_str::<BridgeStatus>(&look).expect("the document").ready);
    }
    watch.kill().and_then(|()| watch.wait()).expect("end the verb");

    proxy.silence();
    proxy.cut();
    admin.not_ready(&["source: retrying: "]).await;
    let (code, out, _) = setup.run(&["status"]);
    assert!(code == Some(1) && out.starts_with("NOT READY: "), "{out}");
    assert!(
        out.contains("  retrying  for ") && out.contains(": how far behind is not known, last event "),
        "{out}"
    );
    proxy.resume();
    admin.ready().await;
    drain(bridge).await;

    let (code, _, err) = setup.set("ADMIN__LISTEN", "off").run(&["status"]);
    assert_eq!(
        (code, err.as_str()),
        (Some(64), "error: admin.listen is off, so the bridge tells no state\n")
    );
}
