//! Tests the verb `dead-letters replay`: what it sends, that it sends nothing twice, and how it stops.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{run, said};
use kit::bridge::Setup;
use kit::broker::{Protocol, Version, shared};
use kit::events::Events;
use kit::kafka_reader::{contents, record_count};
use kit::nats;
use kit::output::{Tally, files};
use kit::scenario::{drain, emptied, place, publish, seeded, subscribed};
use kit::three::Sinks;
use kit::{SOON, any_kafka, kafka, on_broker, on_each_broker, wait_until};

on_each_broker!(letters_get_through_once_the_key_pointer_is_right);
on_broker!(letters_in_a_topic: all_real, letters_in_a_topic_are_replayed_beside_the_bridge, V6);
on_broker!(a_killed_replay: all_available, a_replay_that_is_killed_loses_and_doubles_nothing, V6);

const NO_BROKER: &str = "stomp://127.0.0.1:1";

/// The cells of the rows of the table.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().skip_while(|line| !line.starts_with("SINK ")).skip(1);
    let rows = rows.take_while(|line| line.contains("  "));
    rows.map(|row| row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

/// Publishes events whose key the bridge looks for in the wrong place, so that all become dead letters.
async fn letters_get_through_once_the_key_pointer_is_right(version: Version) {
    const EVENTS: u64 = 300;
    let broker = shared(version);
    let (namespace, queue) = place(Protocol::Stomp, "replaykeys");
    let setup = Setup::new(broker, Protocol::Stomp, &namespace, "main", "replaykeys")
        .set("EVENT__KEYS", "/email")
        .set("DEAD_LETTERS__MAX_RUN", "100000")
        .set("DEAD_LETTERS__MAX_SHARE", "1");
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;
    publish(broker, &namespace, Events::good(EVENTS).with_bad(50)).await;
    emptied(broker, &queue).await;
    drain(bridge).await;

    let setup = setup.set("EVENT__KEYS", "/md5");
    let (out, err) = said(&setup, "replay --dry-run");
    assert_eq!(rows(&out)[0][..4], ["file", "0", "0", "294"], "{out}");
    assert!(out.contains("key_missing 2, key_not_an_md5 2, not_an_event 2"), "{out}");
    assert!(err.ends_with("\n\nnothing was sent; without --dry-run it is\n"), "{err}");
    assert_eq!(files(setup.files()).len(), 0);

    let (code, out, err) = run(&setup, "replay");
    assert_eq!((code, out.as_str()), (Some(1), ""), "standard output may be a sink");
    assert_eq!(rows(&err)[0], ["file", "300", "0", "294", "0", "6", "0"], "{err}");
    assert!(
        err.contains("note: a replayed event comes after events of its key that were sent later"),
        "{err}"
    );
    assert!(err.contains("file: refused again: key_missing 2; the last: ID:"), "{err}");
    Tally::of(Events::good(EVENTS).with_bad(50), setup.files()).assert_complete(0);

    let (code, _, err) = run(&setup, "replay");
    assert_eq!(code, Some(1));
    assert_eq!(rows(&err)[0], ["file", "300", "294", "0", "0", "6", "0"], "{err}");
    Tally::of(Events::good(EVENTS).with_bad(50), setup.files()).assert_complete(0);

    let (out, _) = said(&setup, "list");
    assert!(out.contains("\nreplayed to file: 294, the last at 2"), "{out}");
    let list: Value = serde_json::from_str(&said(&setup, "list --json").0).unwrap();
    assert_eq!((&list["letters"], &list["replayed"]), (&json!(300), &json!({"file": 294})));
    assert_eq!(said(&setup, "export").0.lines().count(), 300, "marks are no letters");
}

/// Writes a letter for each event, without a key as if the pointer had been wrong.
fn craft_letters(directory: &Path, events: Events) {
    fs::create_dir_all(directory).unwrap();
    let file = fs::File::create(directory.join("dead-letters-x-20261130T010000000Z-000000.jsonl")).unwrap();
    let mut file = std::io::BufWriter::new(file);
    for number in 0..events.count {
        let letter = json!({
            "reason": "key_missing", "detail": "no key at /email", "sink": null, "attempts": 1,
            "first_time": "2026-11-30T01:00:00.000Z", "last_time": "2026-11-30T01:00:00.000Z",
            "message_id": format!("ID:crafted-{number}"), "key": null, "timestamp": 1_790_000_000_000_u64 + number,
            "redelivered": number % 2 == 0, "headers": [["a", "b"]], "body": events.body(number),
        });
        writeln!(file, "{letter}").unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
}

fn start_replay(setup: &Setup) -> Child {
    let mut command = setup.command(&["dead-letters", "replay"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the replay")
}

/// No broker is needed: the letters are all that a replay reads. `REPLAYED_LETTERS` sets how many.
async fn a_replay_that_is_killed_loses_and_doubles_nothing(version: Version) {
    const KILLS: u64 = 5;
    let letters =
        std::env::var("REPLAYED_LETTERS").map_or(20_000, |letters| letters.parse().expect("a number"));
    let events = Events::good(letters);
    let namespace = "replaykilled";
    let mut sinks = Sinks::make(version, namespace, any_kafka::shared(), nats::shared()).await;
    let setup = sinks.setup(shared(version), Protocol::Stomp).set("SOURCE__URL", NO_BROKER);
    sinks.connection = format!("{}-replay", sinks.name);
    craft_letters(setup.dead_letters(), events);
    let mut random = seeded();
    let total = 3 * events.count;
    for kill in 1..=KILLS {
        let mut replay = start_replay(&setup);
        // At a random point of the fifth that follows the last kill.
        let step = total / (KILLS + 1);
        let at = step * (kill - 1) + random.u64(step / 2..step);
        loop {
            let ended = replay.try_wait().unwrap();
            let mut written = sinks.topic_len() + sinks.stream_len().await;
            files_lines(setup.files(), &mut written);
            if written >= at {
                break;
            }
            assert_eq!(ended, None, "it ended after {written} of {total} before the kill at {at}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        replay.kill().unwrap();
        replay.wait().unwrap();
    }
    said(&setup, "replay");
    sinks.assert_complete(events, &setup, [0; 3]).await;
    let (_, err) = said(&setup, "replay");
    let letters = letters.to_string();
    let rows = rows(&err);
    assert_eq!(rows.len(), 3, "{err}");
    assert!(rows.iter().all(|row| row[1..] == [&letters, &letters, "0", "0", "0", "0"]), "{err}");
    sinks.assert_complete(events, &setup, [0; 3]).await;
}

fn files_lines(directory: &Path, lines: &mut u64) {
    if directory.exists() {
        // A file may be renamed meanwhile.
        let entries = fs::read_dir(directory).unwrap().filter_map(|entry| fs::read(entry.ok()?.path()).ok());
        *lines +=
            entries.map(|content| content.iter().filter(|byte| **byte == b'\n').count() as u64).sum::<u64>();
    }
}

/// The topic refuses events that are too large, until it takes them.
async fn letters_in_a_topic_are_replayed_beside_the_bridge(version: Version) {
    const EVENTS: u64 = 60;
    let (broker, kafka) = (shared(version), kafka::shared());
    let (namespace, queue) = place(Protocol::OpenWire, "replaytopic");
    let topic = format!("{namespace}-{version:?}");
    let letters = format!("{topic}-letters");
    kafka.create_topic(&topic, 2, &[]);
    kafka.create_topic(&letters, 3, &[]);
    let setup = Setup::new(broker, Protocol::OpenWire, &namespace, "main", &topic)
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__KAFKA__BROKERS", kafka.bootstrap())
        .set("SINKS__KAFKA__TOPIC", &topic)
        .set("SINKS__KAFKA__EXACTLY_ONCE", "true")
        .set("SOURCE__ORDERING", "strict")
        .set("SINKS__KAFKA__PROPERTIES__MESSAGE_MAX_BYTES", "1000")
        .unset("DEAD_LETTERS__DIRECTORY")
        .set("DEAD_LETTERS__KAFKA__TOPIC", &letters)
        .set("DEAD_LETTERS__KAFKA__EXACTLY_ONCE", "false")
        .set("DEAD_LETTERS__KAFKA__PROPERTIES__MESSAGE_MAX_BYTES", "1000000");
    let bridge = setup.start();
    subscribed(broker, &queue, 1).await;
    let events = Events::good(EVENTS);
    let padded = |number: u64| match number % 3 {
        0 => events.body(number).replace(r#""type""#, &format!(r#""pad":"{:2000}","type""#, "")),
        _ => events.body(number),
    };
    let bodies: Vec<_> = (0..EVENTS).map(padded).collect();
    kit::publisher::Publisher::connect(broker, &namespace)
        .await
        .publish(bodies.clone())
        .await
        .expect("publish");
    emptied(broker, &queue).await;
    let records = || tokio::task::block_in_place(|| record_count(&kafka.bootstrap(), &topic));
    assert_eq!(contents(&kafka.bootstrap(), &letters).len(), 20);

    // Refused again: nothing changes, and the letters stay.
    let (code, _, err) = run(&setup, "replay");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("kafka: refused again: too_large 20; the last: ID:"), "{err}");

    let wider = setup.set("SINKS__KAFKA__PROPERTIES__MESSAGE_MAX_BYTES", "1000000");
    let (_, err) = said(&wider, "replay");
    assert!(!err.contains("error"), "{err}");
    assert_eq!(rows(&err)[0][1..], ["20", "0", "20", "0", "0", "0"], "{err}");
    let (_, before) = (said(&wider, "replay"), records());
    let mut found: Vec<_> = contents(&kafka.bootstrap(), &topic)
        .into_iter()
        .map(|record| String::from_utf8(record.value.expect("a body")).expect("text"))
        .collect();
    let mut expected = bodies;
    found.sort_unstable();
    expected.sort_unstable();
    assert!(found == expected, "{} of {}", found.len(), expected.len());

    // The running bridge was not fenced, and goes on.
    publish(broker, &namespace, Events::good(10)).await;
    emptied(broker, &queue).await;
    wait_until("the bridge writes on", SOON, || records() > before).await;
    assert!(!wider.log().contains("has taken over the queue"), "{}", wider.log());
    drain(bridge).await;
}

/// Letters as large as all the room that events may take.
#[test]
fn large_letters_wait_for_each_other_and_not_for_ever() {
    let setup = crafted(5).set("SOURCE__MAX_BODY", "3MiB").set("SOURCE__MAX_IN_FLIGHT", "3MiB");
    let file = &files(setup.dead_letters())[0];
    let lines = fs::read_to_string(file).unwrap();
    let pad = format!(r#"{{\"pad\":\"{}\","#, "x".repeat(2 << 20));
    fs::write(file, lines.replace(r#"{\"md5"#, &format!(r#"{pad}\"md5"#))).unwrap();
    let (_, err) = said(&setup, "replay");
    assert_eq!(rows(&err)[0], ["file", "5", "0", "5", "0", "0", "0"], "{err}");
}

/// A directory of letters and a bridge that nobody runs.
fn crafted(events: u64) -> Setup {
    let setup = Setup::at(NO_BROKER, "crafted", "main", "crafted");
    craft_letters(setup.dead_letters(), Events::good(events));
    setup
}

#[test]
fn an_error_that_somebody_must_correct_stops_it_and_it_goes_on_when_the_cause_is_gone() {
    let file = |setup: &Setup| setup.files().join("x");
    let setup = crafted(500);
    fs::create_dir_all(setup.files()).unwrap();
    fs::write(file(&setup), "").unwrap();
    let (good, bad) = (setup.files().join("y"), file(&setup));
    let setup = setup
        .unset("SINKS__FILE__DIRECTORY")
        .set("SINKS__BAD__KIND", "file")
        .set("SINKS__BAD__DIRECTORY", bad.to_str().unwrap())
        .set("SINKS__GOOD__KIND", "file")
        .set("SINKS__GOOD__DIRECTORY", good.to_str().unwrap());
    let (code, _, err) = run(&setup, "replay");
    assert_eq!(code, Some(1));
    let expected = [["bad", "500", "0", "0", "0", "0", "500"], ["good", "500", "0", "500", "0", "0", "0"]];
    assert_eq!(rows(&err), expected, "the other sink gets its letters");
    assert!(err.lines().last().unwrap().starts_with("error: sink bad: "), "{err}");
    let setup = setup.set("SINKS__BAD__DIRECTORY", good.with_file_name("z").to_str().unwrap());
    let (_, err) = said(&setup, "replay");
    assert_eq!(rows(&err)[0], ["bad", "500", "0", "500", "0", "0", "0"], "{err}");
}

/// One wrong letter after the other may be in front of good ones.
#[test]
fn letters_without_a_usable_key_hold_up_no_others() {
    let setup = crafted(20);
    let lines = fs::read_to_string(&files(setup.dead_letters())[0]).unwrap();
    let keyless = lines.lines().next().unwrap().replace("md5", "no");
    let keyless: String =
        (0..150).map(|number| keyless.replace("crafted-0", &format!("bad-{number}")) + "\n").collect();
    let before = setup.dead_letters().join("dead-letters-w-20261130T000000000Z-000000.jsonl");
    fs::write(before, keyless).unwrap();
    let (code, _, err) = run(&setup, "replay");
    assert_eq!(code, Some(1));
    assert_eq!(rows(&err)[0], ["file", "170", "0", "20", "0", "150", "0"], "{err}");
    assert!(err.contains("file: refused again: key_missing 150; the last: ID:bad-149: no key at "), "{err}");
}

#[test]
fn letters_that_a_sink_refuses_one_after_the_other_stop_it() {
    let setup = crafted(10_000);
    let file = files(setup.dead_letters()).remove(0);
    let lines = fs::read_to_string(&file).unwrap();
    // The file sink refuses what is no text.
    let lines = lines.replace(r#""body":"{"#, r#""body_base64":"/w==","x":"{"#);
    fs::write(&file, lines).unwrap();
    let setup = setup.set("EVENT__UNUSABLE_KEY", "digest");
    let (code, _, err) = run(&setup, "replay");
    assert_eq!(code, Some(1), "{err}");
    let last = err.lines().last().unwrap();
    assert!(
        last.starts_with(
            "error: more than 100 letters in a row were refused again; the last one: ID:crafted-"
        ) && last.contains("left out with --reason"),
        "{err}"
    );
    let left: u64 = rows(&err)[0][6].parse().unwrap();
    assert!(left > 5000, "{err}");
}

#[test]
fn letters_of_a_sink_that_is_gone_are_told_and_go_where_the_operator_says() {
    let setup = crafted(3);
    let line = fs::read_to_string(&files(setup.dead_letters())[0]).unwrap();
    let line = line.lines().next().unwrap();
    let line = line.replace("\"sink\":null", "\"sink\":\"old\"").replace("crafted-0", "old-0");
    let file = setup.dead_letters().join("dead-letters-y-20261130T020000000Z-000000.jsonl");
    fs::write(file, line + "\n").unwrap();
    let (out, err) = said(&setup, "replay --dry-run");
    assert_eq!(rows(&out)[0], ["file", "0", "0", "3", "0"], "{out}");
    assert!(
        err.contains("warning: 1 letter is of the sink old, which is not configured: ")
            && err.contains("--sink old --to SINK"),
        "{err}"
    );
    let (_, err) = said(&setup, "replay --sink old --to file");
    assert_eq!(rows(&err)[0], ["file", "1", "0", "1", "0", "0", "0"], "{err}");
    let (code, _, err) = run(&setup, "replay --to kafka");
    assert_eq!((code, err.as_str()), (Some(64), "error: --to kafka: the sinks are file\n"));
    let (_, err) = said(&setup, "replay --reason too_large");
    assert!(err.contains("none of 4 dead letters in the directory "), "{err}");
}

/// Two bridges may keep their letters in one place, and copies of an event have one message id in all queues.
#[test]
fn letters_of_another_queue_are_left_to_its_bridge() {
    let setup = crafted(5);
    let file = &files(setup.dead_letters())[0];
    let lines = fs::read_to_string(file).unwrap();
    let of = |queue: &str| lines.replace("\"sink\":null", &format!("\"queue\":\"{queue}\",\"sink\":null"));
    fs::write(file, of("main.RTO.crafted") + &of("second.RTO.crafted")).unwrap();
    let (_, err) = said(&setup, "replay");
    assert_eq!(rows(&err)[0], ["file", "5", "0", "5", "0", "0", "0"], "{err}");
    assert!(err.contains("warning: 5 letters are of the queue second.RTO.crafted, which this"), "{err}");
    let second = setup.set("SOURCE__DESTINATION_ID", "second").set("SOURCE__CONNECTION_ID", "second");
    let (_, err) = said(&second, "replay");
    assert_eq!(rows(&err)[0], ["file", "5", "0", "5", "0", "0", "0"], "{err}");
    let (_, err) = said(&second, "replay --queue main.RTO.crafted --dry-run");
    assert!(!err.contains("warning"), "{err}");
    assert_eq!(said(&second, "export --queue main.RTO.crafted").0.lines().count(), 5);
}

#[test]
fn letters_count_from_the_position_on_that_is_named() {
    let setup = crafted(10);
    let name = "dead-letters-x-20261130T010000000Z-000000.jsonl";
    let (_, err) = said(&setup, &format!("replay --from {name}:9"));
    assert_eq!(rows(&err)[0], ["file", "2", "0", "2", "0", "0", "0"], "{err}");
    let (code, _, err) = run(&setup, "replay --from 17");
    assert_eq!(code, Some(1));
    assert!(
        err.contains("the position 17 is of the form sequence") && err.ends_with("; nothing was sent\n"),
        "{err}"
    );
}

/// What a replay marks after another one has read the marks would be sent twice.
#[test]
fn a_second_replay_waits_for_nobody_and_sends_nothing() {
    let setup = crafted(200_000);
    let mut first = start_replay(&setup);
    let lock = setup.dead_letters().join(".dead-letters-crafted-replay.lock");
    while !lock.exists() {
        assert_eq!(first.try_wait().unwrap(), None);
    }
    let (code, _, err) = run(&setup, "replay");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("another replay is running; wait until it has ended; nothing was sent"), "{err}");
    kill_process(Pid::from_child(&first), Signal::INT).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(75));
    let (code, _, err) = run(&setup, "replay");
    assert_eq!(code, Some(0), "{err}");
    Tally::of(Events::good(200_000), setup.files()).assert_complete(0);
}

/// A mark that is missing would double events in the next replay.
#[test]
fn nothing_is_sent_if_it_could_not_be_noted() {
    let setup = crafted(3);
    fs::create_dir(setup.dead_letters().join(".dead-letters-crafted-replay.lock")).unwrap();
    let (code, out, err) = run(&setup, "replay");
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(
        err.starts_with("error: dead letters: can't write replay marks into the directory ")
            && err.trim_end().ends_with("nothing was sent"),
        "{err}"
    );
}
