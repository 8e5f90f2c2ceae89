//! Tests that a place of dead letters that can't be read is told with its cause.

use super::run;
use kit::bridge::Setup;
use kit::kafka::{self, Listener, on_kafka};
use kit::nats::{NatsServer, on_nats};

on_kafka!(a_topic_that_cannot_be_read_is_told_with_its_cause);
on_nats!(a_stream_that_cannot_be_read_is_told_with_its_cause);

async fn a_topic_that_cannot_be_read_is_told_with_its_cause() {
    let kafka = kafka::shared();
    let setup = |brokers: String, topic: &str| {
        Setup::at("stomp://127.0.0.1:1", "unreadtopic", "main", "unreadtopic")
            .unset("DEAD_LETTERS__DIRECTORY")
            .set("DEAD_LETTERS__KAFKA__BROKERS", brokers)
            .set("DEAD_LETTERS__KAFKA__TOPIC", topic)
    };
    kafka.create_topic("unreadable", 1, &[]);
    kafka.allow("User:*", "WRITE", "unreadable");
    let login = setup(kafka.addr(Listener::Sasl).to_string(), "unreadable")
        .set("DEAD_LETTERS__KAFKA__SASL__MECHANISM", "plain")
        .set("DEAD_LETTERS__KAFKA__SASL__USERNAME", kafka::CUSTOMER.0)
        .set("DEAD_LETTERS__KAFKA__SASL__PASSWORD", "wrong-secret");
    for (setup, words) in [
        (setup(kafka.bootstrap(), "no-such-topic"), "no-such-topic"),
        (setup(kafka.bootstrap(), "unreadable"), "not allowed to read the topic unreadable"),
        (setup("127.0.0.1:1".to_owned(), "unreadable"), "127.0.0.1:1"),
        (login, "dead_letters.kafka.sasl."),
    ] {
        let (code, out, err) = run(&setup, "export");
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        let last = err.lines().last().unwrap();
        assert!(last.starts_with("error: dead letters: ") && last.contains(words), "{words}: {err}");
        assert!(!err.contains("wrong-secret"), "{err}");
    }
    let (code, _, err) = run(&setup(kafka.bootstrap(), "unreadable"), "show --from 17");
    assert_eq!(code, Some(1));
    assert!(err.contains("positions here are of the form partition:offset"), "{err}");
}

async fn a_stream_that_cannot_be_read_is_told_with_its_cause() {
    let server = NatsServer::start("authorization { user: bridge, password: \"s3cret\" }\n");
    let setup = |url: String, stream: &str, password: &str| {
        Setup::at("stomp://127.0.0.1:1", "unreadstream", "main", "unreadstream")
            .unset("DEAD_LETTERS__DIRECTORY")
            .set("DEAD_LETTERS__NATS__URL", url)
            .set("DEAD_LETTERS__NATS__STREAM", stream)
            .set("DEAD_LETTERS__NATS__SUBJECT", "letters")
            .set("DEAD_LETTERS__NATS__USERNAME", "bridge")
            .set("DEAD_LETTERS__NATS__PASSWORD", password)
    };
    for (setup, words) in [
        (setup(server.url(), "NONE", "s3cret"), "there is no stream NONE"),
        (setup("nats://127.0.0.1:1".to_owned(), "LETTERS", "s3cret"), "127.0.0.1:1"),
        (setup(server.url(), "LETTERS", "wrong-secret"), "dead_letters.nats.username"),
    ] {
        let (code, out, err) = run(&setup, "list");
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        let last = err.lines().last().unwrap();
        assert!(last.starts_with("error: dead letters: ") && last.contains(words), "{words}: {err}");
        assert!(!err.contains("secret"), "{err}");
    }
}
