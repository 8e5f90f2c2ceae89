//! Tests one session frame by frame: what it sends, what it understands, and what ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::frame::{Encoder, Escapes, StompCommand};
use super::session::StompSession;
use crate::budget::Budget;
use crate::source::config::{Ordering, SourceSettings};
use crate::source::error::{Retry, SourceError, SuspectMessage};
use crate::source::protocol::session::{Session, SessionMode, SessionProgress};
use crate::source::testing::settings;

const SECOND: Duration = Duration::from_secs(1);

struct StompPeer {
    session: StompSession,
    now: Instant,
    progress: SessionProgress,
}

impl StompPeer {
    fn begin(settings: SourceSettings) -> Self {
        Self::in_mode(SessionMode::Subscribe, settings)
    }

    fn in_mode(mode: SessionMode, settings: SourceSettings) -> Self {
        let now = Instant::now();
        let session = StompSession::new(Arc::new(settings), mode, Budget::new(1 << 20), now);
        Self { session, now, progress: SessionProgress::default() }
    }

    fn subscribed(settings: SourceSettings) -> Self {
        let mut talk = Self::begin(settings);
        talk.hear("CONNECTED\nversion:1.2\nheart-beat:20000,20000\nsession:ID:x\n\n\0\n").unwrap();
        talk.hear("RECEIPT\nreceipt-id:subscribed\n\n\0\n").unwrap();
        assert!(talk.progress.subscribed);
        talk.said();
        talk
    }

    fn hear(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), SourceError> {
        self.session.input().extend_from_slice(bytes.as_ref());
        self.session.advance(self.now, &mut self.progress)
    }

    fn said(&mut self) -> String {
        let mut out = Vec::new();
        self.session.take_output(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn later(&mut self, by: Duration) -> Result<(), SourceError> {
        self.now += by;
        self.session.tick(self.now)?;
        assert!(self.session.deadline() > self.now, "it would spin");
        Ok(())
    }
}

fn message(n: u64) -> String {
    format!(
        "MESSAGE\nack:ID\\cbroker-1\\c{n}\nmessage-id:ID\\cproducer-1\\c{n}\ndestination:/queue/d1.RTO.acme\n\
         timestamp:1700000000{n:03}\nsubscription:0\n\n{{\"n\":{n}}}\0\n"
    )
}

#[test]
fn logs_in_and_subscribes_with_a_receipt() {
    let mut talk = StompPeer::begin(settings());
    let connect = "CONNECT\naccept-version:1.2\nhost:broker\nlogin:12345\npasscode:0123\n\
                   client-id:acme-d1-pod-0\nheart-beat:20000,20000\n\n\0\n";
    assert_eq!(talk.said(), connect);
    talk.hear("CONNECTED\nversion:1.2\nheart-beat:20000,20000\n\n\0\n").unwrap();
    let subscribe = "SUBSCRIBE\nid:0\ndestination:/queue/d1.RTO.acme\nack:client\nreceipt:subscribed\n\
                     activemq.prefetchSize:100\n\n\0\n";
    assert_eq!(talk.said(), subscribe);
    assert!(!talk.progress.subscribed);
    talk.hear("RECEIPT\nreceipt-id:subscribed\n\n\0\n").unwrap();
    assert!(talk.progress.subscribed);
}

#[test]
fn strict_ordering_asks_to_be_the_only_one() {
    let mut talk = StompPeer::begin(SourceSettings { ordering: Ordering::Strict, ..settings() });
    talk.hear("CONNECTED\nversion:1.2\n\n\0\n").unwrap();
    assert!(talk.said().contains("\nactivemq.exclusive:true\n"));
}

#[test]
fn messages_keep_body_id_and_headers_and_are_acknowledged_up_to_a_position() {
    let mut talk = StompPeer::subscribed(settings());
    talk.hear((1..=5).map(message).collect::<String>()).unwrap();
    let messages = &talk.progress.messages;
    assert_eq!(messages.len(), 5);
    assert_eq!(messages[1].id, "ID:producer-1:2");
    assert_eq!(messages[1].body, "{\"n\":2}");
    assert_eq!((messages[1].timestamp, messages[1].redelivered), (Some(1_700_000_000_002), false));
    assert!(messages[1].headers.decode().contains(&("destination".into(), "/queue/d1.RTO.acme".into())));
    assert_eq!(talk.session.outstanding(), 5);

    talk.session.ack(talk.now, 3);
    assert_eq!(talk.said(), "ACK\nid:ID\\cbroker-1\\c3\n\n\0\n", "cumulative, no receipt, the id as it came");
    assert_eq!(talk.session.outstanding(), 2);
    talk.session.ack(talk.now, 3);
    assert_eq!(talk.said(), "");
    talk.session.ack(talk.now, 99);
    assert_eq!(talk.said(), "ACK\nid:ID\\cbroker-1\\c5\n\n\0\n", "never beyond what was received");
}

#[test]
fn text_of_old_brokers_is_repaired_and_bytes_are_not_touched() {
    let mut talk = StompPeer::subscribed(settings());
    let emoji = b"\xED\xA0\xBD\xED\xB8\x80";
    talk.hear([b"MESSAGE\nack:1\nmessage-id:1\n\n".as_slice(), emoji, b"\0\n"].concat()).unwrap();
    talk.hear([b"MESSAGE\nack:2\nmessage-id:2\ncontent-length:6\n\n".as_slice(), emoji, b"\0\n"].concat())
        .unwrap();
    assert_eq!(talk.progress.messages[0].body, "\u{1F600}");
    assert_eq!(talk.progress.messages[1].body, emoji.as_slice());
    assert_eq!(talk.progress.repaired, 1);
}

#[test]
fn beats_at_half_the_interval_and_judges_at_twice() {
    let mut talk = StompPeer::subscribed(settings());
    talk.later(SECOND * 9).unwrap();
    assert_eq!(talk.said(), "");
    talk.later(SECOND).unwrap();
    assert_eq!(talk.said(), "\n");
    talk.hear("\n").unwrap();
    talk.later(SECOND * 40).unwrap();
    assert!(matches!(talk.later(SECOND * 6), Err(SourceError::Silent(46))));
}

#[test]
fn without_heart_beats_nothing_is_sent_and_silence_is_no_fault() {
    let mut talk = StompPeer::begin(SourceSettings { heart_beat: None, ..settings() });
    assert!(talk.said().contains("heart-beat:0,0\n"));
    talk.hear("CONNECTED\nversion:1.2\nheart-beat:20000,20000\n\n\0\nRECEIPT\nreceipt-id:subscribed\n\n\0\n")
        .unwrap();
    talk.said();
    talk.later(SECOND * 600).unwrap();
    assert_eq!(talk.said(), "");
}

#[test]
fn a_long_quiet_subscription_is_renewed_but_not_one_with_events_on_the_way() {
    let mut talk = StompPeer::subscribed(SourceSettings { heart_beat: None, ..settings() });
    talk.hear(message(1)).unwrap();
    talk.later(SECOND * 2000).unwrap();
    let mut talk = StompPeer::subscribed(SourceSettings { heart_beat: None, ..settings() });
    talk.later(SECOND * 899).unwrap();
    assert!(matches!(talk.later(SECOND), Err(SourceError::Idle(900))));
}

#[test]
fn every_answer_has_its_time() {
    let mut talk = StompPeer::begin(settings());
    assert!(matches!(talk.later(SECOND * 10), Err(SourceError::Timeout { what: "the login", seconds: 10 })));
    let mut talk = StompPeer::begin(settings());
    talk.hear("CONNECTED\nversion:1.2\n\n\0\n").unwrap();
    assert!(matches!(talk.later(SECOND * 10), Err(SourceError::Timeout { what: "the subscription", .. })));
    let mut talk = StompPeer::subscribed(settings());
    talk.session.close(talk.now, 0);
    assert!(matches!(talk.later(SECOND * 10), Err(SourceError::Timeout { what: "the disconnect", .. })));
}

#[test]
fn says_goodbye_and_discards_what_still_comes() {
    let mut talk = StompPeer::subscribed(settings());
    talk.session.close(talk.now, 0);
    assert_eq!(talk.said(), "DISCONNECT\nreceipt:goodbye\n\n\0\n");
    talk.hear(message(1)).unwrap();
    assert!(!talk.progress.closed && talk.progress.messages.is_empty());
    talk.hear("RECEIPT\nreceipt-id:goodbye\n\n\0\n").unwrap();
    assert!(talk.progress.closed);
}

fn error_frame(message: &str, escapes: Escapes) -> Vec<u8> {
    let mut wire = Vec::new();
    Encoder::begin(&mut wire, StompCommand::Error, escapes)
        .header("message", message)
        .end(format!("java.lang.Something: {message}\n\tat x").as_bytes());
    wire
}

#[test]
fn errors_are_told_apart_by_their_text() {
    let at_login =
        |text: &str| StompPeer::begin(settings()).hear(error_frame(text, Escapes::None)).unwrap_err();
    let refused = at_login("User name [12345] or password is invalid.");
    assert!(matches!(refused, SourceError::Credentials(_)));
    assert_eq!(refused.retry(), Retry::Slowly);
    let taken = at_login("Broker: b - Client: acme-d1-pod-0 already connected from tcp://10.0.0.7:4711");
    assert!(
        matches!(&taken, SourceError::AlreadyConnected { peer } if peer == "tcp://10.0.0.7:4711"),
        "{taken}"
    );
    assert_eq!(taken.retry(), Retry::Soon);
    assert!(matches!(at_login("Invalid Protocol version[1.2]"), SourceError::Broker { .. }));

    let mut talk = StompPeer::begin(settings());
    talk.hear("CONNECTED\nversion:1.2\n\n\0\n").unwrap();
    let denied = "User 12345 is not authorized to read from: queue://d1.RTO.acme";
    let denied = talk.hear(error_frame(denied, Escapes::V1_2)).unwrap_err();
    assert!(matches!(&denied, SourceError::NotAuthorized(text) if text.contains("queue://d1")), "{denied}");
}

#[test]
fn what_only_the_body_of_an_error_tells_is_told_too() {
    let rabbit = |cause: &str| {
        let mut wire = Vec::new();
        Encoder::begin(&mut wire, StompCommand::Error, Escapes::None)
            .header("message", "Bad CONNECT")
            .end(cause.as_bytes());
        StompPeer::begin(settings()).hear(wire).unwrap_err()
    };
    let host = rabbit("Virtual host 'broker' access denied\n");
    assert_eq!(host.retry(), Retry::Slowly);
    let text = host.to_string();
    assert!(text.contains("Bad CONNECT: Virtual host 'broker' access denied"), "{text}");
    assert!(text.contains("set source.virtual_host"), "{text}");
    assert!(matches!(rabbit("Access refused for user '12345'\n"), SourceError::Credentials(_)));
    let java =
        StompPeer::begin(settings()).hear(error_frame("java.lang.Something", Escapes::None)).unwrap_err();
    assert!(
        matches!(&java, SourceError::Broker { message, .. } if message == "java.lang.Something"),
        "{java}"
    );
}

#[test]
fn another_virtual_host_is_named_if_there_is_one() {
    let mut talk =
        StompPeer::begin(SourceSettings { virtual_host: Some("/atdata".to_owned()), ..settings() });
    assert!(talk.said().contains("\nhost:/atdata\n"));
}

/// ActiveMQ answers like this to a consumer that its policy has removed (`protocols.md §1.11`).
#[test]
fn after_late_acknowledgements_it_asks_whether_the_consumer_is_still_there() {
    let unsubscribe = "UNSUBSCRIBE\nid:0\nreceipt:unsubscribed\n\n\0\n";
    for (answer, known) in [
        ("RECEIPT\nreceipt-id:unsubscribed\n\n\0\n", 2),
        ("ERROR\nreceipt-id:unsubscribed\nmessage:Cannot remove a consumer\n\n\0\n", 1),
    ] {
        let mut talk = StompPeer::subscribed(settings());
        talk.hear([message(1), message(2)].concat()).unwrap();
        talk.session.ack(talk.now, 1);
        assert_eq!(talk.session.known(), 1);
        talk.later(SECOND * 2).unwrap();
        talk.session.ack(talk.now, 2);
        assert_eq!(talk.session.known(), 1, "the broker may do nothing with it");
        talk.said();
        talk.later(SECOND).unwrap();
        assert_eq!(talk.said(), "");
        talk.later(SECOND).unwrap();
        assert_eq!(talk.said(), unsubscribe);
        talk.hear(message(3)).unwrap();
        assert_eq!(talk.progress.messages.len(), 2, "it comes again");
        let error = talk.hear(answer).unwrap_err();
        assert_eq!(talk.session.known(), known);
        match known {
            2 => assert!(matches!(error, SourceError::Renewal), "{error}"),
            _ => assert!(matches!(error, SourceError::ConsumerClosed), "{error}"),
        }
    }
}

#[test]
fn a_goodbye_in_doubt_asks_as_well() {
    let mut talk = StompPeer::subscribed(settings());
    talk.hear(message(1)).unwrap();
    talk.later(SECOND * 2).unwrap();
    talk.session.ack(talk.now, 1);
    talk.said();
    talk.session.close(talk.now, 1);
    assert_eq!(
        talk.said(),
        "UNSUBSCRIBE\nid:0\nreceipt:unsubscribed\n\n\0\nDISCONNECT\nreceipt:goodbye\n\n\0\n"
    );
    talk.hear("RECEIPT\nreceipt-id:unsubscribed\n\n\0\n").unwrap();
    assert!(!talk.progress.closed && talk.session.known() == 1);
    talk.hear("RECEIPT\nreceipt-id:goodbye\n\n\0\n").unwrap();
    assert!(talk.progress.closed);
}

#[test]
fn a_browser_sees_as_many_as_the_prefetch_or_all_acknowledges_none_and_leaves() {
    let end = "MESSAGE\nbrowser:end\nmessage-id:0\nsubscription:0\n\n\0\n";
    for (count, end) in [(2, end), (100, ""), (0, end)] {
        let mut talk = StompPeer::in_mode(SessionMode::Browse, settings());
        talk.hear("CONNECTED\nversion:1.2\n\n\0\n").unwrap();
        assert!(talk.said().contains("\nbrowser:true\n"));
        let messages: String = (1..=count).map(message).collect();
        talk.hear(format!("RECEIPT\nreceipt-id:subscribed\n\n\0\n{messages}{end}")).unwrap();
        assert_eq!(talk.said(), "DISCONNECT\nreceipt:goodbye\n\n\0\n", "and no ACK");
        assert_eq!(talk.progress.messages.len() as u64, count);
        assert_eq!(talk.session.outstanding(), 0);
        talk.session.ack(talk.now, count);
        assert_eq!(talk.said(), "");
        talk.hear("RECEIPT\nreceipt-id:goodbye\n\n\0\n").unwrap();
        assert!(talk.progress.closed);
    }
}

#[test]
fn a_head_beyond_the_limits_names_the_option_that_raises_them() {
    let limited =
        || StompPeer::subscribed(SourceSettings { max_headers: 3, max_header_size: 100, ..settings() });
    let many = limited().hear("MESSAGE\na:1\nb:2\nc:3\nd:4\nmessage-id:late\n\nx\0\n").unwrap_err();
    assert!(many.to_string().contains("raise source.max_headers, or consume over OpenWire"), "{many}");
    let long = limited().hear(format!("MESSAGE\nmessage-id:7\na:{}\n\nx\0\n", "x".repeat(200))).unwrap_err();
    assert!(long.to_string().contains("(message 7); raise source.max_header_size"), "{long}");
}

#[test]
fn nothing_that_a_broker_says_begins_a_line_of_the_log() {
    let mut talk = StompPeer::subscribed(settings());
    let cut = talk.hear("MESSAGE\nack:1\nmessage-id:1\\nERROR forged\n\na\0b\0\n").unwrap_err();
    let large = format!("MESSAGE\nack:1\nmessage-id:1\\nERROR forged\n\n{}\0\n", "x".repeat(1001));
    let large = StompPeer::subscribed(settings()).hear(large).unwrap_err();
    let words = StompPeer::begin(settings()).hear(error_frame("a\\nb\u{2028}c", Escapes::V1_2)).unwrap_err();
    let suspect = SuspectMessage::After("2\nERROR forged".to_owned());
    for text in [cut.to_string(), large.to_string(), words.to_string(), suspect.to_string()] {
        assert_eq!(crate::display::one_line(&text), text);
    }
}

#[test]
fn messages_before_an_error_are_not_lost() {
    let mut talk = StompPeer::subscribed(settings());
    let wire = [message(1).into_bytes(), error_frame("out of luck", Escapes::V1_2)].concat();
    let error = talk.hear(wire).unwrap_err();
    assert_eq!(talk.progress.messages.len(), 1);
    assert!(error.leaves_the_connection_open());
    talk.session.ack(talk.now, 1);
    assert!(talk.said().starts_with("ACK\n"));
}

#[test]
fn a_body_too_large_or_with_a_nul_is_named() {
    let mut talk = StompPeer::subscribed(settings());
    let large = format!("MESSAGE\nack:1\nmessage-id:big\n\n{}\0\n", "x".repeat(1001));
    let error = talk.hear(large).unwrap_err();
    assert!(matches!(&error, SourceError::BodyTooLarge { message_id, .. } if message_id == "big"), "{error}");
    assert_eq!(error.retry(), Retry::Slowly);
    let mut talk = StompPeer::subscribed(settings());
    let error = talk.hear("MESSAGE\nack:1\nmessage-id:cut\n\na\0b\0\n").unwrap_err();
    assert_eq!(error.suspect(), Some(&SuspectMessage::Itself("cut".to_owned())));
    assert!(talk.progress.messages.is_empty());
}

#[test]
fn a_message_without_an_id_ends_the_session_after_the_good_ones() {
    let mut talk = StompPeer::subscribed(settings());
    let error = talk.hear(format!("{}MESSAGE\nack:2\n\nx\0\n", message(1))).unwrap_err();
    assert!(matches!(error, SourceError::Protocol { .. }));
    assert_eq!(talk.progress.messages.len(), 1);
}
