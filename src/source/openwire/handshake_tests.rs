//! Tests how a session begins: the login, the subscription, and what keeps them from succeeding.

use std::time::Duration;

use super::testing::{OpenWirePeer, SECOND, offer, response, thrown};
use super::wire::command::{Command, Received};
use super::wire::ids::Destination;
use super::wire::info::Removed;
use super::wire::properties::Value;
use super::wire::wire_format::WireFormatInfo;
use crate::source::config::{Ordering, SourceSettings};
use crate::source::error::SourceError;
use crate::source::protocol::session::{Session, SessionMode};
use crate::source::testing::settings;

#[test]
fn greets_logs_in_and_subscribes() {
    let mut talk = OpenWirePeer::begin(settings());
    let said = talk.said();
    let [Received { command: Command::WireFormatInfo(ours), .. }] = &said[..] else { panic!("{said:?}") };
    assert_eq!((ours.version, ours.inactivity(), ours.initial_delay()), (12, 20 * SECOND, 10 * SECOND));
    for flag in ["TightEncodingEnabled", "CacheEnabled"] {
        assert_eq!(ours.property(flag), Some(&Value::Bool(false)));
    }

    talk.hear(&[offer(30 * SECOND), Command::Other(90)]).unwrap();
    let said = talk.said();
    let [Received { command_id: 1, response_required: true, command: Command::ConnectionInfo(login) }] =
        &said[..]
    else {
        panic!("{said:?}")
    };
    assert_eq!(login.client_id.as_deref(), Some("acme-d1-pod-0"));
    assert_eq!(login.user_name.as_deref(), Some("12345"));
    assert_eq!(login.password.as_ref().map(|password| password.reveal()), Some("0123"));
    let connection = login.connection.clone();

    talk.hear(&[response(7), response(1)]).unwrap();
    let said = talk.said();
    let [
        Received { command_id: 2, response_required: false, command: Command::SessionInfo(session) },
        Received { command_id: 3, response_required: true, command: Command::ConsumerInfo(consumer) },
    ] = &said[..]
    else {
        panic!("{said:?}")
    };
    assert_eq!((&session.connection, session.value), (&connection, consumer.consumer.session));
    assert_eq!((&consumer.destination, consumer.prefetch), (&Destination::queue("d1.RTO.acme"), 100));
    assert!(!consumer.exclusive && !consumer.browser && !talk.progress.subscribed);

    talk.hear(&[response(3)]).unwrap();
    assert!(talk.progress.subscribed);
    assert_eq!(talk.said(), []);
}

#[test]
fn every_connection_has_an_id_of_its_own() {
    let connection = || {
        let mut talk = OpenWirePeer::greeted(settings());
        match talk.said().pop() {
            Some(Received { command: Command::ConnectionInfo(login), .. }) => login.connection,
            other => panic!("{other:?}"),
        }
    };
    let (one, other) = (connection(), connection());
    assert!(one != other && one.starts_with(b"ID:acme-d1-pod-0-"), "{one:?} {other:?}");
}

#[test]
fn strict_ordering_asks_to_be_the_only_one() {
    let mut talk = OpenWirePeer::greeted(SourceSettings { ordering: Ordering::Strict, ..settings() });
    talk.hear(&[response(1)]).unwrap();
    let said = talk.said();
    assert!(
        matches!(said.last(), Some(Received { command: Command::ConsumerInfo(consumer), .. })
        if consumer.exclusive),
        "{said:?}"
    );
}

#[test]
fn a_check_logs_in_only() {
    let mut talk = OpenWirePeer::in_mode(SessionMode::Login, settings());
    talk.hear(&[offer(SECOND), response(1)]).unwrap();
    assert!(talk.progress.subscribed);
    talk.said();
    talk.session.close(talk.now, 0);
    let said = talk.said();
    let [Received { command_id: 2, response_required: true, command: Command::RemoveInfo(remove) }] =
        &said[..]
    else {
        panic!("{said:?}")
    };
    assert!(matches!(remove.object, Removed::Connection(_)));
}

#[test]
fn without_heart_beats_on_either_side_silence_is_no_fault() {
    for (ours, theirs) in [(None, 30 * SECOND), (Some(20 * SECOND), Duration::ZERO)] {
        let idle = SourceSettings { heart_beat: ours, idle_reconnect: None, ..settings() };
        let mut talk = OpenWirePeer::begin(idle);
        talk.hear(&[offer(theirs), response(1), response(3)]).unwrap();
        talk.said();
        talk.later(SECOND * 6000).unwrap();
        assert_eq!(talk.said(), []);
    }
}

#[test]
fn every_answer_has_its_time() {
    let late = |talk: &mut OpenWirePeer| match talk.later(SECOND * 10) {
        Err(SourceError::Timeout { what, seconds: 10 }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        late(&mut OpenWirePeer::begin(settings())),
        "the greeting (is it OpenWire that listens there, as source.url says?)"
    );
    let mut talk = OpenWirePeer::greeted(settings());
    assert_eq!(late(&mut talk), "the login");
    let mut talk = OpenWirePeer::greeted(settings());
    talk.hear(&[response(1)]).unwrap();
    assert_eq!(late(&mut talk), "the subscription");
    let mut talk = OpenWirePeer::subscribed(settings());
    talk.session.close(talk.now, 0);
    assert_eq!(late(&mut talk), "the disconnect");
}

#[test]
fn errors_are_told_apart_by_their_text() {
    let at_login = |class, text| {
        let exception = thrown(class, text);
        OpenWirePeer::greeted(settings()).hear(&[Command::ExceptionResponse { correlation_id: 1, exception }])
    };
    let refused = at_login("java.lang.SecurityException", "User name [12345] or password is invalid.");
    assert!(matches!(refused, Err(SourceError::Credentials(_))));
    let text = "Broker: b - Client: acme-d1-pod-0 already connected from tcp://10.0.0.7:4711";
    let taken = at_login("javax.jms.InvalidClientIDException", text);
    assert!(matches!(&taken, Err(SourceError::AlreadyConnected { peer }) if peer == "tcp://10.0.0.7:4711"));
    let other = at_login("java.lang.NullPointerException", "");
    assert!(matches!(&other, Err(SourceError::Broker { message, .. }) if message.contains("NullPointer")));

    let mut talk = OpenWirePeer::greeted(settings());
    let exception = thrown(
        "java.lang.SecurityException",
        "User 12345 is not authorized to read from: queue://d1.RTO.acme",
    );
    let denied = [response(1), Command::ExceptionResponse { correlation_id: 3, exception }];
    assert!(matches!(talk.hear(&denied), Err(SourceError::NotAuthorized(_))));
}

#[test]
fn another_protocol_or_an_old_version_is_told() {
    let mut talk = OpenWirePeer::begin(settings());
    let error = talk.hear_bytes(b"ERROR\ncontent-type:text/plain\n\n\0").unwrap_err();
    assert!(error.to_string().contains("is it OpenWire that listens there"), "{error}");
    let mut old = WireFormatInfo::offer(SECOND, SECOND, 0);
    old.version = 9;
    let error = OpenWirePeer::begin(settings()).hear(&[Command::WireFormatInfo(old)]).unwrap_err();
    assert!(error.to_string().contains("version 9"), "{error}");
}
