//! Tests that `peek` shows what waits in a queue and changes nothing in it, on real brokers and on the simulator.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use atdata_bridge::simulator::{Simulator, SimulatorConfig};
use serde_json::Value;

use kit::bridge::Setup;
use kit::broker::{Broker, Protocol, QueueCounts, Version, shared};
use kit::consumer::{Acks, Consumer};
use kit::events::Events;
use kit::output::{Tally, assert_dead_letters, json_lines};
use kit::publisher::Publisher;
use kit::scenario::{closed_without_reason, counts, drain, emptied, place, publish, subscribed};
use kit::stomp::{Connection, Login};
use kit::{SOON, on_each_broker, wait_until};

on_each_broker!(
    over each protocol:
    peeks_leave_the_queue_as_it_was,
    beside_a_bridge_it_shows_what_the_bridge_has_not_acknowledged,
    redelivered_events_are_marked,
    a_missing_queue_is_created_only_with_the_flag,
    events_without_a_key_come_with_the_pointer_to_set,
    the_causes_of_failures_are_those_of_check,
    events_before_one_that_is_too_large_are_shown,
);
on_each_broker!(a_long_queue_stays_as_it_was);

/// How many messages ActiveMQ shows a browser.
const BROWSE_PAGE: usize = 400;

const PEEK: &str = "--create-queue";

/// Creates a queue without a message.
async fn create(broker: &Broker, queue: &str) {
    Consumer::subscribe(broker, queue, 1, Acks::Never).await.close().await;
}

/// Runs a peek that must succeed, with the form of the output `form`. Returns its output and its messages.
fn peek(setup: &Setup, count: &str, form: &str) -> (String, String) {
    let (code, out, err) = setup.run(&["peek", count, PEEK, "--format", form]);
    assert_eq!(code, Some(0), "{err}");
    (out, err)
}

/// Runs a peek that must fail. Returns its messages.
fn failed_peek(setup: &Setup) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let (code, out, err) = setup.run(&["peek", PEEK]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        if !closed_without_reason(&err) || Instant::now() > deadline {
            return err;
        }
    }
}

fn shown(setup: &Setup, count: &str) -> Vec<Value> {
    let (out, _) = peek(setup, count, "json");
    out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// Checks that these are the first events, none of them redelivered.
fn assert_first(events: Events, shown: &[Value]) {
    for (number, event) in (0..).zip(shown) {
        assert_eq!(event["body"], events.body(number));
        assert_eq!(event["redelivered"], false, "{event}");
        let expected = (events.defect(number), events.defect(number).is_none().then(|| events.key(number)));
        assert_eq!((event["reason"].as_str(), event["key"].as_str().map(str::to_owned)), expected, "{event}");
    }
}

/// One copy of the events goes to a bridge, the other to a consumer that sees the mark of a redelivery.
async fn peeks_leave_the_queue_as_it_was(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let (namespace, queue) = place(protocol, "peeked");
    let copy = format!("copy.RTO.{namespace}");
    let setup = |destination: &str| Setup::new(broker, protocol, &namespace, destination, &namespace);
    let setups = [setup("main"), setup("copy")];
    let events = Events::good(1000).with_bad(100);
    for queue in [&queue, &copy] {
        create(broker, queue).await;
    }
    publish(broker, &namespace, events).await;
    let before = QueueCounts { messages: 1000, in_flight: 0, enqueued: 1000, dequeued: 0, consumers: 0 };
    for (setup, queue) in setups.iter().zip([&queue, &copy]) {
        let (bodies, said) = peek(setup, "10", "raw");
        assert!(bodies.lines().eq((0..10).map(|number| events.body(number))), "{bodies}");
        assert_eq!(said, format!("10 events of {queue}, as many as asked for\n"));
        for count in ["399", "500", "2000"] {
            let shown = shown(setup, count);
            assert_eq!(shown.len(), count.parse::<usize>().expect("a number").min(BROWSE_PAGE));
            assert_first(events, &shown);
        }
        let (text, said) = peek(setup, "2000", "text");
        assert_eq!(text.lines().count(), 4 * BROWSE_PAGE);
        assert!(
            said.starts_with(&format!("400 events of {queue}, all that the broker shows; more may wait")),
            "{said}"
        );
        wait_until("the browsers are gone", SOON, || counts(broker, queue) == before).await;
    }

    let bridge = setups[0].start();
    emptied(broker, &queue).await;
    drain(bridge).await;
    Tally::of(events, setups[0].files()).assert_complete(0);
    assert_dead_letters(events, setups[0].dead_letters());
    let letters = json_lines(setups[0].dead_letters());
    assert!(
        letters.len() == 10 && letters.iter().all(|letter| letter["redelivered"] == false),
        "{letters:?}"
    );
    let mut consumer = Consumer::subscribe(broker, &copy, 300, Acks::Every(100)).await;
    for number in 0..events.count {
        let frame = consumer.next().await;
        assert_eq!((frame.text(), frame.get("redelivered")), (events.body(number).as_str(), None));
    }
    consumer.close().await;
    assert_eq!(counts(broker, &copy).dequeued, events.count);
}

/// A frozen bridge has taken events and can't acknowledge them. With `strict` it is the queue's exclusive consumer, and
/// other consumers get nothing.
async fn beside_a_bridge_it_shows_what_the_bridge_has_not_acknowledged(version: Version, protocol: Protocol) {
    let broker = shared(version);
    for ordering in ["shared", "strict"] {
        let (namespace, queue) = place(protocol, &format!("peeked-beside-{ordering}"));
        let setup =
            Setup::new(broker, protocol, &namespace, "main", &namespace).set("SOURCE__ORDERING", ordering);
        let bridge = setup.start();
        subscribed(broker, &queue, 1).await;
        bridge.freeze();
        let events = Events::good(50);
        publish(broker, &namespace, events).await;
        let held = QueueCounts { messages: 50, in_flight: 50, enqueued: 50, dequeued: 0, consumers: 1 };
        wait_until("the bridge has been sent all events", SOON, || counts(broker, &queue) == held).await;
        let shown = shown(&setup, "100");
        assert_eq!(shown.len(), 50);
        assert_first(events, &shown);
        wait_until("the browser is gone", SOON, || counts(broker, &queue) == held).await;
        bridge.thaw();
        emptied(broker, &queue).await;
        let (out, said) = peek(&setup, "10", "text");
        assert_eq!((out.as_str(), said), ("", format!("no event waits in {queue}\n")));
        drain(bridge).await;
        Tally::of(events, setup.files()).assert_complete(0);
    }
}

/// The mark that the broker has set already.
async fn redelivered_events_are_marked(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let (namespace, queue) = place(protocol, "peeked-again");
    create(broker, &queue).await;
    publish(broker, &namespace, Events::good(50)).await;
    let mut consumer = Consumer::subscribe(broker, &queue, 30, Acks::Never).await;
    consumer.take(30).await;
    consumer.close().await;
    let setup = Setup::new(broker, protocol, &namespace, "main", &namespace);
    let marks: Vec<_> = shown(&setup, "50").iter().map(|event| event["redelivered"] == true).collect();
    assert_eq!(marks, [[true; 30].as_slice(), &[false; 20]].concat());
    assert_eq!(peek(&setup, "50", "text").0.matches(" ago, redelivered\n").count(), 30);
}

async fn a_missing_queue_is_created_only_with_the_flag(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let (namespace, queue) = place(protocol, "peeked-missing");
    let setup = Setup::new(broker, protocol, &namespace, "main", &namespace);
    let (code, out, err) = setup.run(&["peek"]);
    assert_eq!((code, out.as_str()), (Some(64), ""), "{err}");
    assert!(err.starts_with("error: ActiveMQ creates the queue ") && err.contains("--create-queue"), "{err}");
    assert_eq!(broker.queue(&queue), None);
    let (_, said) = peek(&setup, "10", "text");
    assert_eq!(said, format!("no event waits in {queue}\n"));
    wait_until("the browser is gone", SOON, || {
        let empty = QueueCounts { messages: 0, in_flight: 0, enqueued: 0, dequeued: 0, consumers: 0 };
        broker.queue(&queue) == Some(empty)
    })
    .await;
}

async fn events_without_a_key_come_with_the_pointer_to_set(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let (namespace, queue) = place(protocol, "peeked-keyless");
    create(broker, &queue).await;
    let key = Events::good(1).key(0);
    let body = format!(r#"{{"email":{{"md5":"{key}"}}}}"#);
    Publisher::connect(broker, &namespace).await.publish([body]).await.expect("publish");
    let setup = Setup::new(broker, protocol, &namespace, "main", &namespace);
    let (text, _) = peek(&setup, "10", "text");
    let expected = ["so that it becomes a dead letter (key_missing)", r#"set event.keys = ["/email/md5"]"#];
    assert!(expected.iter().all(|expected| text.contains(expected)), "{text}");
    let corrected = setup.set("EVENT__KEYS", "/email/md5").set("EVENT__PARTITIONS", "12");
    let (text, _) = peek(&corrected, "10", "text");
    assert!(text.contains(&format!("key   {key} at /email/md5, partition ")), "{text}");
}

async fn the_causes_of_failures_are_those_of_check(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let (namespace, queue) = place(protocol, "peeked-refused");
    create(broker, &queue).await;
    let setup = || Setup::new(broker, protocol, &namespace, "main", &namespace);
    let wrong = setup().set("SOURCE__PASSWORD", "ffffffffffffffffffffffffffffffff");
    let said = failed_peek(&wrong);
    assert!(
        said.starts_with(&format!(
            "error: broker {}: the broker refused the login: ",
            broker.url_of(protocol)
        )),
        "{said}"
    );
    assert!(said.contains("(source.username: BRIDGE__SOURCE__USERNAME"), "{said}");

    let Login { username, password, .. } = Login::other_customer();
    let said = failed_peek(&setup().set("SOURCE__USERNAME", username).set("SOURCE__PASSWORD", password));
    assert!(said.contains("the broker refused to let this user read the queue: "), "{said}");

    let (other, advice) = match protocol {
        Protocol::Stomp => (Protocol::OpenWire, "speaks OpenWire: write tcp://"),
        Protocol::OpenWire => (Protocol::Stomp, "speaks STOMP: write stomp://"),
    };
    let elsewhere = setup().set("SOURCE__URL", protocol.url(broker.addr_of(other)));
    let said = failed_peek(&elsewhere.set("SOURCE__CONNECT_TIMEOUT", "5s"));
    assert!(said.contains(advice), "{said}");

    let said = failed_peek(&setup().set("SOURCE__URL", broker.tls_url_of(protocol)));
    assert!(said.contains(": TLS with ") && said.contains("source.tls.ca_file"), "{said}");

    let holder = Login::customer().client_id(format!("{namespace}-peek"));
    let holder = Connection::login(broker.addr(), &holder).await.expect("log in");
    let said = failed_peek(&setup());
    assert!(said.contains("the connection id is still in use"), "{said}");
    holder.disconnect().await.expect("disconnect");

    // The address after one where nothing listens.
    let url = broker.url_of(protocol);
    let closed = format!("{}://127.0.0.1:1", url.split(':').next().expect("a scheme"));
    let pair = setup().unset("SOURCE__URL").set("SOURCE__URLS", format!("{closed}, {url}"));
    assert_eq!(peek(&pair, "10", "text").1, format!("no event waits in {queue}\n"));
}

async fn events_before_one_that_is_too_large_are_shown(version: Version, protocol: Protocol) {
    let broker = shared(version);
    let (namespace, queue) = place(protocol, "peeked-large");
    create(broker, &queue).await;
    let bodies = [10, 20, 5000, 10].map(|size| "x".repeat(size));
    Publisher::connect(broker, &namespace).await.publish(bodies.clone()).await.expect("publish");
    let setup = Setup::new(broker, protocol, &namespace, "main", &namespace).set("SOURCE__MAX_BODY", "1KiB");
    let (code, out, err) = setup.run(&["peek", PEEK, "--format", "raw"]);
    assert_eq!((code, out), (Some(1), format!("{}\n{}\n", bodies[0], bodies[1])), "{err}");
    assert!(err.contains(" is too large: ") && err.contains("raise source.max_body"), "{err}");
    assert_eq!(broker.depth(&queue), 4);
}

async fn a_long_queue_stays_as_it_was(version: Version) {
    let broker = shared(version);
    let (namespace, queue) = ("peeked-long", "main.RTO.peeked-long");
    create(broker, queue).await;
    let events = Events::good(100_000);
    publish(broker, namespace, events).await;
    let before = counts(broker, queue);
    assert_eq!((before.messages, before.dequeued), (events.count, 0));
    for protocol in Protocol::ALL {
        let setup = Setup::new(broker, protocol, namespace, "main", namespace);
        for (count, expected) in [("10", 10), ("20000", BROWSE_PAGE)] {
            let shown = shown(&setup, count);
            assert_eq!(shown.len(), expected);
            assert_first(events, &shown);
        }
        wait_until("the browsers are gone", SOON, || counts(broker, queue) == before).await;
    }
    let mut consumer = Consumer::subscribe(broker, queue, 300, Acks::Every(100)).await;
    for number in 0..1000 {
        let frame = consumer.next().await;
        assert_eq!((frame.text(), frame.get("redelivered")), (events.body(number).as_str(), None));
    }
    consumer.close().await;
    assert_eq!(broker.depth(queue), events.count - 1000);
}

/// A simulator with this many events, and the settings of a bridge that consumes them over each protocol.
async fn simulated(events: Events) -> (Simulator, [Setup; 2]) {
    let simulator = Simulator::start(SimulatorConfig::default()).await.expect("a simulator");
    simulator.declare_queue("acme", "main");
    events.bodies().for_each(|body| simulator.publish("acme", body));
    let urls = [simulator.url(), simulator.openwire_url()];
    let setups = urls.map(|url| Setup::at(&url, "acme", "main", "peeked"));
    (simulator, setups)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulator_is_browsed_too() {
    let events = Events::good(1000);
    let (simulator, setups) = simulated(events).await;
    for setup in &setups {
        for (count, expected) in [("10", 10), ("2000", BROWSE_PAGE)] {
            let shown = shown(setup, count);
            assert_eq!(shown.len(), expected);
            assert_first(events, &shown);
        }
    }
    // Each sink has a queue of its own.
    let [mirror, _] =
        setups.map(|setup| setup.set("SOURCE__ISOLATION", "mirror").set("SINKS__STDOUT__KIND", "stdout"));
    let (out, said) = peek(&mirror, "10", "json");
    let expected = "no event waits in main-file.RTO.acme\nno event waits in main-stdout.RTO.acme\n";
    assert_eq!((out.as_str(), said.as_str()), ("", expected));
    let total = simulator.stats().total();
    assert_eq!((total.acked, total.dispatched, total.dead), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_read_than_the_memory_allows() {
    let (simulator, setups) = simulated(Events::good(0)).await;
    (0..400).for_each(|_| simulator.publish("acme", "x".repeat(4000)));
    for setup in setups {
        let limited = setup.set("SOURCE__MAX_BODY", "8KiB").set("SOURCE__MAX_IN_FLIGHT", "512KiB");
        let (out, said) = peek(&limited, "400", "raw");
        let shown = out.lines().count();
        assert!((2..400).contains(&shown), "{shown}");
        let expected =
            format!("{shown} events of main.RTO.acme, as many as source.max_in_flight has room for\n");
        assert_eq!(said, expected);
    }
}

/// A reader such as `head` has seen enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_is_no_error() {
    let (_simulator, setups) = simulated(Events::good(1000)).await;
    for setup in &setups {
        let mut command = setup.command(&["peek", "400", PEEK, "--format", "json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start a peek");
        let mut lines = BufReader::with_capacity(64, child.stdout.take().expect("its output"));
        assert!(lines.read_line(&mut String::new()).expect("a line") > 0);
        drop(lines);
        assert_eq!(child.wait().expect("wait for the peek").code(), Some(0));
    }
}
