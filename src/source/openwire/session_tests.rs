//! Tests one session command by command: what it sends, what it understands, and what ends it.

use bytes::Bytes;

use super::testing::{
    OpenWirePeer, SECOND, dispatch, dispatch_of, dispatches, message, offer, response, text_content, thrown,
    zlib,
};
use super::wire::ack::AckType;
use super::wire::command::{Command, Received};
use super::wire::control::ConsumerControl;
use super::wire::ids::ConsumerId;
use super::wire::info::Removed;
use super::wire::message::{Dispatch, MessageKind, WireMessage};
use crate::budget::Budget;
use crate::source::config::SourceSettings;
use crate::source::error::{Retry, SourceError};
use crate::source::protocol::session::{Session, SessionMode};
use crate::source::testing::settings;

#[test]
fn messages_keep_body_id_and_headers_and_are_acknowledged_up_to_a_position() {
    let mut talk = OpenWirePeer::subscribed(settings());
    let mut commands = dispatches(1..=4);
    commands.push(dispatch_of(message(5), 2));
    talk.hear(&commands).unwrap();
    let messages = &talk.progress.messages;
    assert_eq!(messages.len(), 5);
    assert_eq!(messages[1].id, "ID:producer-1:2:3:2", "as STOMP's message-id");
    assert_eq!(messages[1].body, "{\"n\":2}");
    assert_eq!((messages[1].timestamp, messages[1].redelivered), (Some(1_700_000_000_002), false));
    assert!(messages[4].redelivered);
    assert!(messages[1].headers.decode().contains(&("destination".into(), "/queue/d1.RTO.acme".into())));
    assert_eq!(talk.session.outstanding(), 5);

    talk.session.ack(talk.now, 3);
    assert_eq!(talk.acks(), [(AckType::Standard, 3, 3)], "a range, no response");
    assert_eq!(talk.session.outstanding(), 2);
    talk.session.ack(talk.now, 3);
    assert_eq!(talk.acks(), []);
    talk.session.ack(talk.now, 99);
    assert_eq!(talk.acks(), [(AckType::Standard, 5, 2)], "never beyond what was received");
}

#[test]
fn messages_may_come_before_the_answer_to_the_subscription() {
    let mut talk = OpenWirePeer::greeted(settings());
    talk.hear(&[response(1), dispatch(1)]).unwrap();
    assert!(talk.progress.subscribed && talk.progress.messages.len() == 1);
    talk.hear(&[response(3), dispatch(2)]).unwrap();
    assert_eq!(talk.progress.messages.len(), 2);
    talk.later(SECOND * 11).unwrap();
    let unasked = OpenWirePeer::begin(settings()).hear(&[dispatch(1)]).unwrap_err();
    assert!(matches!(unasked, SourceError::Protocol { .. }), "{unasked}");
}

#[test]
fn the_broker_is_kept_going_while_nothing_is_settled() {
    let mut talk = OpenWirePeer::subscribed(settings());
    talk.hear(&dispatches(1..=24)).unwrap();
    assert_eq!(talk.acks(), []);
    talk.hear(&dispatches(25..=25)).unwrap();
    assert_eq!(talk.acks(), [(AckType::Delivered, 25, 0)]);
    talk.hear(&dispatches(26..=100)).unwrap();
    assert_eq!(talk.acks(), [(AckType::Delivered, 100, 0)]);
    assert_eq!(talk.session.outstanding(), 100);
    talk.session.ack(talk.now, 40);
    assert_eq!(talk.acks(), [(AckType::Standard, 40, 40)]);
}

#[test]
fn text_of_java_is_repaired_and_bytes_are_not_touched() {
    let mut talk = OpenWirePeer::subscribed(settings());
    let mut text = message(1);
    text.content = Some(text_content("\u{1F600}"));
    let mut bytes = message(2);
    bytes.kind = MessageKind::Bytes;
    bytes.content = Some(Bytes::from_static(b"\xED\xA0\xBD\xED\xB8\x80"));
    talk.hear(&[dispatch_of(text, 0), dispatch_of(bytes, 0)]).unwrap();
    assert_eq!(talk.progress.messages[0].body, "\u{1F600}");
    assert_eq!(talk.progress.messages[1].body, b"\xED\xA0\xBD\xED\xB8\x80".as_slice());
    assert_eq!(talk.progress.repaired, 1);
}

#[test]
fn what_cannot_be_read_is_a_message_all_the_same() {
    let mut talk = OpenWirePeer::subscribed(settings());
    let map =
        WireMessage { kind: MessageKind::Map, content: Some(Bytes::from_static(b"\0\0")), ..message(1) };
    let corrupt = WireMessage { compressed: true, ..message(2) };
    let mut cut = Vec::new();
    dispatch(3).encode(0, false, &mut cut);
    // Cuts off its last fields, but not the id of the message.
    cut.truncate(cut.len() - 20);
    let size = u32::try_from(cut.len() - 4).unwrap();
    cut[..4].copy_from_slice(&size.to_be_bytes());
    talk.hear(&[dispatch_of(map, 0), dispatch_of(corrupt, 0)]).unwrap();
    talk.hear_bytes(&cut).unwrap();
    talk.hear(&[dispatch(4)]).unwrap();
    let told: Vec<_> = talk.progress.messages.iter().map(|message| message.unreadable.is_some()).collect();
    assert_eq!(told, [true, true, true, false]);
    assert_eq!(talk.progress.messages[0].body, b"\0\0".as_slice());
    assert!(
        talk.progress.messages[2].body.windows(7).any(|part| part == b"{\"n\":3}"),
        "the bytes as they came"
    );
    assert_eq!(talk.progress.messages[2].id, "ID:producer-1:2:3:3");
    talk.session.ack(talk.now, 3);
    assert_eq!(talk.acks(), [(AckType::Standard, 3, 3)]);
}

#[test]
fn a_body_too_large_is_named_after_the_good_ones() {
    let large = |content: String| WireMessage { content: Some(text_content(&content)), ..message(2) };
    for content in ["x".repeat(1001), "x".repeat(1 << 20)] {
        let mut talk = OpenWirePeer::subscribed(settings());
        let error = talk.hear(&[dispatch(1), dispatch_of(large(content), 0)]).unwrap_err();
        assert!(
            matches!(&error, SourceError::BodyTooLarge { message_id, .. }
            if message_id == "ID:producer-1:2:3:2"),
            "{error}"
        );
        assert_eq!((talk.progress.messages.len(), talk.session.outstanding()), (1, 1));
        assert_eq!(error.retry(), Retry::Slowly);
    }
}

#[test]
fn beats_in_thirds_and_judges_at_twice_the_smaller_inactivity() {
    let mut talk = OpenWirePeer::begin(settings());
    talk.hear(&[offer(12 * SECOND), response(1), response(3)]).unwrap();
    talk.said();
    talk.later(SECOND * 3).unwrap();
    assert_eq!(talk.said(), []);
    talk.later(SECOND).unwrap();
    let beat = Received { command_id: 4, response_required: false, command: Command::KeepAliveInfo };
    assert_eq!(talk.said(), [beat]);
    talk.hear(&[Command::KeepAliveInfo]).unwrap();
    assert_eq!(talk.said(), []);
    talk.later(SECOND * 26).unwrap();
    assert!(matches!(talk.later(SECOND), Err(SourceError::Silent(27))));
}

#[test]
fn a_question_for_life_is_answered_with_its_number() {
    let mut talk = OpenWirePeer::subscribed(settings());
    let mut asked = Vec::new();
    Command::KeepAliveInfo.encode(77, true, &mut asked);
    talk.hear_bytes(&asked).unwrap();
    let answer = Received { command_id: 77, response_required: false, command: Command::KeepAliveInfo };
    assert_eq!(talk.said(), [answer]);
}

#[test]
fn one_that_asks_for_life_and_takes_no_answers_costs_no_memory() {
    let mut talk = OpenWirePeer::subscribed(settings());
    let asked: Vec<Command> = vec![Command::KeepAliveInfo; 1000];
    let mut bytes = Vec::new();
    asked.iter().for_each(|command| command.encode(77, true, &mut bytes));
    (0..100).for_each(|_| talk.hear_bytes(&bytes).unwrap());
    let mut out = Vec::new();
    talk.session.take_output(&mut out);
    assert!(out.len() > 60 << 10 && out.len() < 70 << 10, "{} bytes", out.len());
    talk.hear_bytes(&bytes).unwrap();
    assert_eq!(talk.said().len(), 1000, "they were taken, and so it is answered again");
}

#[test]
fn a_long_quiet_subscription_is_renewed_but_not_one_with_events_on_the_way() {
    let mut talk = OpenWirePeer::subscribed(SourceSettings { heart_beat: None, ..settings() });
    talk.hear(&[dispatch(1)]).unwrap();
    talk.later(SECOND * 2000).unwrap();
    talk.session.ack(talk.now, 1);
    talk.later(SECOND * 899).unwrap();
    assert!(matches!(talk.later(SECOND), Err(SourceError::Idle(900))));
    let mut talk = OpenWirePeer::subscribed(SourceSettings { heart_beat: None, ..settings() });
    talk.later(SECOND * 899).unwrap();
    talk.hear(&[dispatch(1)]).unwrap();
    talk.session.ack(talk.now, 1);
    talk.later(SECOND * 899).unwrap();
}

#[test]
fn a_broker_that_reads_little_at_once_hears_of_it_all_the_same() {
    let mut talk = OpenWirePeer::subscribed(settings());
    talk.hear(&dispatches(1..=3)).unwrap();
    assert_eq!(talk.acks(), []);
    let wait = talk.session.deadline() - talk.now;
    assert!(wait <= SECOND / 10, "{wait:?}");
    talk.later(wait).unwrap();
    assert_eq!(talk.acks(), [(AckType::Delivered, 3, 0)], "removes nothing and widens nothing");
    talk.later(SECOND).unwrap();
    assert_eq!(talk.acks(), [], "once is enough");
    talk.hear(&[dispatch(4)]).unwrap();
    talk.session.close(talk.now, 3);
    talk.later(SECOND).unwrap();
}

#[test]
fn a_blob_is_kept_whole_since_it_says_only_where_its_content_is() {
    let mut talk = OpenWirePeer::subscribed(settings());
    let mut blob = message(1);
    (blob.kind, blob.content) = (MessageKind::Blob, None);
    talk.hear(&[dispatch_of(blob, 0)]).unwrap();
    let kept = &talk.progress.messages[0];
    assert!(kept.unreadable.is_some());
    assert!(kept.body.windows(11).any(|bytes| bytes == b"d1.RTO.acme"), "{:?}", kept.body);
}

#[test]
fn says_goodbye_with_what_was_taken_and_discards_what_still_comes() {
    for (acked, taken, last_delivered) in [(0, 0, -1), (2, 2, -1), (2, 4, 1004), (0, 99, 1005)] {
        let mut talk = OpenWirePeer::subscribed(settings());
        talk.hear(&dispatches(1..=5)).unwrap();
        talk.session.ack(talk.now, acked);
        talk.said();
        talk.session.close(talk.now, taken);
        let said = talk.said();
        let [
            Received { response_required: false, command: Command::RemoveInfo(consumer), .. },
            Received { command_id, response_required: true, command: Command::RemoveInfo(connection) },
        ] = &said[..]
        else {
            panic!("{said:?}")
        };
        assert!(matches!(consumer.object, Removed::Consumer(_)));
        assert!(matches!(connection.object, Removed::Connection(_)));
        assert_eq!((consumer.last_delivered, connection.last_delivered), (last_delivered, last_delivered));

        talk.hear(&[dispatch(6)]).unwrap();
        assert!(!talk.progress.closed && talk.progress.messages.len() == 5);
        talk.hear(&[response(*command_id)]).unwrap();
        assert!(talk.progress.closed);
        let said = talk.said();
        assert!(matches!(said[..], [Received { command: Command::ShutdownInfo, .. }]), "{said:?}");
    }
}

#[test]
fn messages_before_an_error_are_not_lost() {
    let mut talk = OpenWirePeer::subscribed(settings());
    let error = Command::ConnectionError { exception: thrown("javax.jms.JMSException", "out of luck") };
    let error = talk.hear(&[dispatch(1), error]).unwrap_err();
    assert_eq!(talk.progress.messages.len(), 1);
    assert!(error.leaves_the_connection_open());
    talk.session.ack(talk.now, 1);
    assert_eq!(talk.acks(), [(AckType::Standard, 1, 1)]);
}

#[test]
fn a_consumer_that_the_broker_has_closed_is_told() {
    let mut talk = OpenWirePeer::subscribed(settings());
    let control = ConsumerControl { close: true, ..ConsumerControl::default() };
    let error = talk.hear(&[dispatch(1), Command::ConsumerControl(control)]).unwrap_err();
    assert_eq!((error.label(), error.retry()), ("consumer_closed", Retry::Soon));
    assert!(!error.leaves_the_connection_open(), "its acknowledgements count for nothing");
}

#[test]
fn what_is_of_no_use_need_not_be_understood() {
    let mut talk = OpenWirePeer::subscribed(settings());
    let frame = |kind| [&[0, 0, 0, 2, kind][..], &[9]].concat();
    talk.hear_bytes(&frame(2)).unwrap();
    talk.hear(&[dispatch(1)]).unwrap();
    assert_eq!(talk.progress.messages.len(), 1);
    let error = talk.hear_bytes(&frame(21)).unwrap_err();
    assert!(matches!(error, SourceError::Protocol { .. }), "{error}");
}

#[test]
fn inflation_stops_where_the_budget_is_used_up() {
    let mut talk = OpenWirePeer::with_budget(Budget::new(1), SessionMode::Subscribe, settings());
    talk.hear(&[offer(30 * SECOND), response(1), response(3)]).unwrap();
    let compressed = |n: i64| {
        let content = Some(zlib(&text_content(&"x".repeat(900))).into());
        dispatch_of(WireMessage { content, compressed: true, ..message(n) }, 0)
    };
    let commands: Vec<_> = [1, 2, 3].map(compressed).into_iter().chain([dispatch(4)]).collect();
    talk.hear(&commands).unwrap();
    for (count, unread) in [(1, true), (2, true), (3, true), (4, false)] {
        assert_eq!((talk.progress.messages.len(), talk.progress.unread), (count, unread));
        talk.hear_bytes(b"").unwrap();
    }
    assert_eq!(talk.progress.messages.len(), 4, "none came twice");
}

/// The broker's notice that it has removed the consumer may stand far behind in bytes that are not read yet.
#[test]
fn late_acknowledgements_are_unknown_until_an_answer_in_order() {
    let mut talk = OpenWirePeer::subscribed(settings());
    talk.hear(&dispatches(1..=2)).unwrap();
    talk.said();
    talk.session.ack(talk.now, 1);
    assert_eq!(talk.session.known(), 1);
    talk.said();
    talk.now += 2 * SECOND;
    talk.session.ack(talk.now, 2);
    assert_eq!(talk.session.known(), 1);
    let said = talk.said();
    let Some(Received { command_id, response_required: true, command: Command::SessionInfo(_) }) =
        said.last()
    else {
        panic!("{said:?}")
    };
    talk.hear(&[response(*command_id)]).unwrap();
    assert_eq!(talk.session.known(), 2);
}

#[test]
fn a_browser_sees_as_many_as_the_prefetch_or_all_acknowledges_none_and_leaves() {
    for (count, ends) in [(2, true), (100, false), (0, true)] {
        let mut talk = OpenWirePeer::in_mode(SessionMode::Browse, settings());
        talk.hear(&[offer(30 * SECOND), response(1), response(3)]).unwrap();
        let said = talk.said();
        assert!(
            said.iter().any(|received| matches!(&received.command,
                Command::ConsumerInfo(consumer) if consumer.browser && consumer.prefetch == 100)),
            "{said:?}"
        );
        talk.hear(&dispatches(1..=count)).unwrap();
        if ends {
            let end = Dispatch {
                consumer: ConsumerId::default(),
                destination: None,
                message: None,
                redelivery_counter: 0,
            };
            talk.hear(&[Command::MessageDispatch(end)]).unwrap();
        }
        let said = talk.said();
        let [Received { command: Command::RemoveInfo(consumer), .. }, Received { command_id, .. }] =
            &said[..]
        else {
            panic!("{said:?}")
        };
        assert_eq!(consumer.last_delivered, -1, "nothing was delivered");
        assert_eq!(talk.session.outstanding(), 0);
        talk.session.ack(talk.now, u64::MAX);
        assert_eq!(talk.said(), []);
        talk.hear(&[response(*command_id)]).unwrap();
        assert!(talk.progress.closed && talk.progress.messages.len() == count as usize);
    }
}
