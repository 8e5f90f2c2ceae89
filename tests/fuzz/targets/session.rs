//! Fuzzes a session, over either protocol, with a broker that sends any bytes after the login. The session
//! must not panic, its messages must be complete, and its output must be valid STOMP or OpenWire. The first
//! byte of the input chooses whether the subscription is confirmed, whether the session is closed in the
//! middle, and the protocol; the second chooses the splits.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use atdata_bridge::backoff::BackoffConfig;
use atdata_bridge::budget::Budget;
use atdata_bridge::event::Event;
use atdata_bridge::key::Keying;
use atdata_bridge::secret::Secret;
use atdata_bridge::source::config::{Endpoint, Ordering, Protocol, SourceSettings, SourceTlsConfig};
use atdata_bridge::source::openwire::session::OpenWireSession;
use atdata_bridge::source::openwire::wire::wire_format::WireFormatInfo;
use atdata_bridge::source::openwire::wire::{command as openwire_command, framing as openwire};
use atdata_bridge::source::protocol::session::{Session, SessionMode, SessionProgress};
use atdata_bridge::source::stomp::session::StompSession;
use atdata_bridge::source::stomp::{frame as stomp_frame, framing as stomp};
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
        virtual_host: None,
        max_body: 4096,
        max_headers: 1000,
        max_header_size: 64 << 10,
        connect_timeout: Duration::from_secs(10),
        idle_reconnect: None,
        backoff: BackoffConfig::default(),
        tls: SourceTlsConfig::default(),
    })
});
static KEYING: LazyLock<Keying> = LazyLock::new(|| Keying::new(vec!["/md5".to_owned()], false));

/// The memory budget; a compressed body can use all of it.
const BUDGET: usize = 2048;

struct Broker {
    session: Box<dyn Session>,
    now: Instant,
    messages: usize,
    acked: usize,
    closing: bool,
}

impl Broker {
    /// Gives the session bytes from the broker. Returns whether the session continues.
    fn sends(&mut self, bytes: &[u8]) -> bool {
        self.now += Duration::from_millis(10);
        self.session.input().extend_from_slice(bytes);
        loop {
            let mut progress = SessionProgress::default();
            let outcome = self.session.advance(self.now, &mut progress);
            let unread = progress.unread;
            self.handle(progress);
            if outcome.is_err() || self.session.tick(self.now).is_err() {
                return false;
            }
            assert!(self.session.deadline() > self.now, "the session would spin");
            if !unread {
                return true;
            }
        }
    }

    fn handle(&mut self, progress: SessionProgress) {
        assert!(!self.closing || progress.messages.is_empty(), "a message after our disconnect");
        for message in progress.messages {
            assert!(!message.id.is_empty(), "a message without an id");
            assert!(message.headers.decode().iter().any(|(name, _)| name == "message-id"));
            self.messages += 1;
            Event::new(message, &KEYING);
        }
        assert!(self.session.outstanding() <= self.messages - self.acked);
        self.acked = self.messages.div_ceil(2).max(self.acked);
        self.session.ack(self.now, self.acked as u64);
    }
}

fn handshake(protocol: Protocol, confirmed: bool) -> Vec<Vec<u8>> {
    match protocol {
        Protocol::Stomp => {
            let mut sent = vec![b"CONNECTED\nversion:1.2\nheart-beat:10000,10000\n\n\0\n".to_vec()];
            sent.extend(confirmed.then(|| b"RECEIPT\nreceipt-id:subscribed\n\n\0\n".to_vec()));
            sent
        }
        Protocol::OpenWire => {
            use openwire_command::Command;

            let beat = Duration::from_secs(10);
            let wire_format = Command::WireFormatInfo(WireFormatInfo::offer(beat, beat, i64::MAX));
            let mut sent = vec![wire_format, Command::Response { correlation_id: 1 }];
            sent.extend(confirmed.then_some(Command::Response { correlation_id: 3 }));
            let wire = |command: Command| {
                let mut wire = Vec::new();
                command.encode(0, false, &mut wire);
                wire
            };
            sent.into_iter().map(wire).collect()
        }
    }
}

fn read_stomp(output: &[u8]) {
    use stomp_frame::StompCommand;

    let mut decoder = stomp::StompDecoder::new(stomp::StompLimits::with_body(4096), Budget::new(usize::MAX));
    decoder.buffer().extend_from_slice(output);
    let mut frames = Vec::new();
    decoder.decode(&mut frames).expect("our output is STOMP");
    assert_eq!(frames.first().map(|frame| frame.command), Some(StompCommand::Connect));
    let known = [StompCommand::Connect, StompCommand::Subscribe, StompCommand::Ack, StompCommand::Disconnect];
    assert!(frames.iter().all(|frame| known.contains(&frame.command)), "{frames:?}");
}

fn read_openwire(output: &[u8]) {
    use openwire_command::{Command, decode};

    let mut decoder =
        openwire::OpenWireDecoder::new(openwire::OpenWireLimits::with_body(4096), Budget::new(usize::MAX));
    decoder.buffer().extend_from_slice(output);
    let mut frames = Vec::new();
    decoder.decode(&mut frames).expect("our output is OpenWire");
    for (number, frame) in frames.iter().enumerate() {
        let command = decode(frame).expect("a command").command;
        assert_eq!(number == 0, matches!(command, Command::WireFormatInfo(_)), "{command:?}");
        assert!(!matches!(command, Command::Other(_)), "{command:?}");
    }
}

fuzz_target!(|input: &[u8]| {
    let [how, split, bytes @ ..] = input else { return };
    let protocol = if how & 4 == 0 { Protocol::Stomp } else { Protocol::OpenWire };
    let (now, budget, settings) = (Instant::now(), Budget::new(BUDGET), Arc::clone(&SETTINGS));
    let session: Box<dyn Session> = match protocol {
        Protocol::Stomp => Box::new(StompSession::new(settings, SessionMode::Subscribe, budget.clone(), now)),
        Protocol::OpenWire => {
            Box::new(OpenWireSession::new(settings, SessionMode::Subscribe, budget.clone(), now))
        }
    };
    let mut broker = Broker { session, now, messages: 0, acked: 0, closing: false };
    for sent in handshake(protocol, how & 1 == 0) {
        assert!(broker.sends(&sent));
    }
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*split) + 1).collect();
    for (number, piece) in pieces.iter().enumerate() {
        if how & 2 == 2 && number == pieces.len() / 2 {
            broker.session.close(broker.now, 0);
            broker.closing = true;
        }
        if !broker.sends(piece) {
            break;
        }
    }
    let mut output = Vec::new();
    broker.session.take_output(&mut output);
    match protocol {
        Protocol::Stomp => read_stomp(&output),
        Protocol::OpenWire => read_openwire(&output),
    }
    drop(broker);
    assert_eq!(budget.used(), 0, "memory is still charged");
});
