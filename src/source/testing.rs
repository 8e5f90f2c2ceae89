//! Provides what the tests of sessions, connections and supervisors share.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use proptest::sample::Index;
use tokio::time::Instant;

use super::config::{Endpoint, Ordering, Protocol, SourceSettings, SourceTlsConfig};
use super::error::SourceError;
use super::protocol::framing::{DecodeError, FrameDecoder, Scan};
use super::protocol::session::{Session, SessionProgress};
use crate::backoff::BackoffConfig;
use crate::event::{Headers, Message};
use crate::secret::Secret;

const SECOND: Duration = Duration::from_secs(1);

/// Settings like those of a customer, with small limits.
pub(super) fn settings() -> SourceSettings {
    SourceSettings {
        endpoints: vec![Endpoint {
            host: "broker".to_owned(),
            port: 61613,
            protocol: Protocol::Stomp,
            tls: false,
        }],
        username: "12345".to_owned(),
        password: Secret::new("0123"),
        namespace: "acme".to_owned(),
        destination_id: "d1".to_owned(),
        connection_id: "acme-d1-pod-0".to_owned(),
        prefetch: 100,
        heart_beat: Some(SECOND * 20),
        ordering: Ordering::Shared,
        virtual_host: None,
        max_body: 1000,
        max_headers: 1000,
        max_header_size: 64 << 10,
        connect_timeout: SECOND * 10,
        idle_reconnect: Some(SECOND * 900),
        backoff: BackoffConfig::default(),
        tls: SourceTlsConfig::default(),
    }
}

/// Decodes `pieces` in turn, up to the first error.
pub(super) fn decode_pieces<S: Scan>(
    mut decoder: FrameDecoder<S>,
    pieces: &[&[u8]],
) -> (Vec<S::Frame>, Option<DecodeError<S::Error>>) {
    let mut frames = Vec::new();
    let failure = pieces.iter().find_map(|piece| {
        decoder.buffer().extend_from_slice(piece);
        decoder.decode(&mut frames).err()
    });
    (frames, failure)
}

/// Cuts `wire` into pieces at these places.
pub(super) fn cut<'a>(wire: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    cuts.extend([0, wire.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect()
}

/// A session that follows a script: for each `advance`, the progress and the error after it.
#[derive(Default)]
pub(super) struct Scripted {
    brings: VecDeque<(SessionProgress, Result<(), SourceError>)>,
    /// Bytes that it has read but not processed at its first `advance`.
    unread: Option<Bytes>,
    input: Vec<u8>,
    output: Vec<u8>,
    outstanding: usize,
    known: u64,
}

impl Scripted {
    /// A session that returns these results in turn. At its first `advance` it still holds `unread`, which it
    /// has read but not processed.
    pub(super) fn new(
        brings: impl IntoIterator<Item = (SessionProgress, Result<(), SourceError>)>,
        unread: Option<Bytes>,
    ) -> Box<Self> {
        Box::new(Self { brings: brings.into_iter().collect(), unread, ..Self::default() })
    }
}

impl Session for Scripted {
    fn input(&mut self) -> &mut Vec<u8> {
        self.input.reserve(1);
        &mut self.input
    }

    fn advance(&mut self, _: Instant, progress: &mut SessionProgress) -> Result<(), SourceError> {
        let (brought, outcome) = self.brings.pop_front().expect("nothing more to bring");
        *progress = brought;
        if !progress.unread {
            self.unread = None;
        }
        self.outstanding += progress.messages.len();
        outcome
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
    }

    fn ack(&mut self, _: Instant, through: u64) {
        (self.outstanding, self.known) = (0, through);
        self.output.extend(b"ack ");
    }

    fn known(&self) -> u64 {
        self.known
    }

    fn silence(&self) -> Option<Duration> {
        None
    }

    fn outstanding(&self) -> usize {
        self.outstanding
    }

    fn close(&mut self, _: Instant, taken: u64) {
        self.output.extend(format!("goodbye after {taken}").bytes());
    }

    fn reading(&mut self, _: Instant, _: bool) {}

    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn tick(&mut self, _: Instant) -> Result<(), SourceError> {
        Ok(())
    }
}

/// An empty message with that id.
pub(super) fn message(id: &'static str) -> Message {
    Message {
        id: Bytes::from_static(id.as_bytes()),
        body: Bytes::new(),
        timestamp: None,
        redelivered: false,
        headers: Headers::empty(),
        unreadable: None,
    }
}
