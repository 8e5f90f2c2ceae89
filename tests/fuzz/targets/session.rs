//! A broker that says anything after the login: no panic, messages that are whole, and an output that is
//! itself good STOMP. The first byte chooses whether the subscription is confirmed, the second the splits.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use atdata_bridge::backoff::BackoffConfig;
use atdata_bridge::budget::Budget;
use atdata_bridge::event::Event;
use atdata_bridge::key::Keying;
use atdata_bridge::secret::Secret;
use atdata_bridge::source::config::{Endpoint, Ordering, Protocol, SourceSettings, TlsConfig};
use atdata_bridge::source::session::{Progress, Reach, Session};
use atdata_bridge::source::stomp::codec::{Decoder, Limits};
use atdata_bridge::source::stomp::frame::Command;
use atdata_bridge::source::stomp::session::StompSession;
use libfuzzer_sys::fuzz_target;
use tokio::time::Instant;

static SETTINGS: LazyLock<Arc<SourceSettings>> = LazyLock::new(|| {
    Arc::new(SourceSettings {
        endpoints: vec![Endpoint {
            host: "localhost".to_owned(),
            port: 61613,
            protocol: Protocol::Stomp,
            tls: false,
        }],
        username: "12345".to_owned(),
        password: Secret::new("0123456789abcdef0123456789abcdef"),
        namespace: "acme".to_owned(),
        destination_id: "fuzz".to_owned(),
        connection_id: "fuzz-1".to_owned(),
        prefetch: 1024,
        heart_beat: Some(Duration::from_secs(30)),
        ordering: Ordering::Shared,
        max_body: 4096,
        connect_timeout: Duration::from_secs(10),
        idle_reconnect: None,
        backoff: BackoffConfig::default(),
        tls: TlsConfig::default(),
    })
});
static KEYING: LazyLock<Keying> = LazyLock::new(|| Keying::new(vec!["/md5".to_owned()], false));

struct Broker {
    session: StompSession,
    now: Instant,
    messages: usize,
    acked: usize,
    closing: bool,
}

impl Broker {
    /// Whether the session goes on.
    fn says(&mut self, bytes: &[u8]) -> bool {
        self.now += Duration::from_millis(10);
        self.session.input().extend_from_slice(bytes);
        let mut progress = Progress::default();
        let outcome = self.session.advance(self.now, &mut progress);
        assert!(!self.closing || progress.messages.is_empty(), "a message after our goodbye");
        for message in progress.messages {
            assert!(!message.id.is_empty(), "a message without an id");
            assert!(message.headers.decode().iter().any(|(name, _)| name == "message-id"));
            self.messages += 1;
            Event::new(message, &KEYING);
        }
        assert!(self.session.outstanding() <= self.messages - self.acked);
        self.acked = self.messages.div_ceil(2).max(self.acked);
        self.session.ack(self.now, self.acked as u64);
        outcome.is_ok() && self.session.tick(self.now).is_ok()
    }
}

fuzz_target!(|input: &[u8]| {
    let [how, split, bytes @ ..] = input else { return };
    let now = Instant::now();
    let budget = Budget::new(usize::MAX);
    let session = StompSession::new(Arc::clone(&SETTINGS), Reach::Subscribe, budget.clone(), now);
    let mut broker = Broker { session, now, messages: 0, acked: 0, closing: false };
    assert!(broker.says(b"CONNECTED\nversion:1.2\nheart-beat:10000,10000\n\n\0\n"));
    if how & 1 == 0 {
        assert!(broker.says(b"RECEIPT\nreceipt-id:subscribed\n\n\0\n"));
    }
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*split) + 1).collect();
    for (number, piece) in pieces.iter().enumerate() {
        if how & 2 == 2 && number == pieces.len() / 2 {
            broker.session.close(broker.now, 0);
            broker.closing = true;
        }
        if !broker.says(piece) {
            break;
        }
    }
    let mut output = Vec::new();
    broker.session.take_output(&mut output);
    let mut decoder = Decoder::new(Limits::with_body(4096), Budget::new(usize::MAX));
    decoder.buffer().extend_from_slice(&output);
    let mut frames = Vec::new();
    decoder.decode(&mut frames).expect("our output is STOMP");
    assert_eq!(frames.first().map(|frame| frame.command), Some(Command::Connect));
    let known = [Command::Connect, Command::Subscribe, Command::Ack, Command::Disconnect];
    assert!(frames.iter().all(|frame| known.contains(&frame.command)), "{frames:?}");
    drop((frames, decoder, broker));
    assert_eq!(budget.used(), 0, "memory is still charged");
});
