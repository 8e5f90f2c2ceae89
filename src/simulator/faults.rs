//! What goes wrong on purpose; may be changed while the simulator runs.

use std::time::Duration;

/// Faults of the broker and its connections; by default there are none. Odd bodies are the generator's
/// ([`GeneratorConfig::oddities`](super::GeneratorConfig)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Each connection ends, inside a frame where there is one, after so many events. Choose more than the
    /// consumer's prefetch, or it may never get an acknowledgement through.
    pub drop_every: Option<u64>,
    /// Each connection gets an ERROR frame, or a ConnectionError, after so many events, and goes on.
    pub error_after: Option<u64>,
    /// Each connection hears nothing any more after so many events, heart-beats neither; it stays open.
    pub silent_after: Option<u64>,
    /// The consumers of each connection are closed by the broker after so many events, as it does with those
    /// that are too slow; over STOMP nothing tells it. New ones are left alone.
    pub close_consumers_after: Option<u64>,
    /// So many of the next connections are refused with "already connected", if their client id has been
    /// seen before; counts down.
    pub refuse_reconnects: u32,
    /// Connections are accepted and closed at once, without a word.
    pub closed: bool,
    /// The broker's heart-beats.
    pub heart_beats: HeartBeats,
    /// Everything is written in pieces of so many bytes.
    pub dribble: Option<usize>,
}

/// When the broker sends its heart-beats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeartBeats {
    /// As promised.
    #[default]
    OnTime,
    /// So much later than promised, each.
    Late(Duration),
    /// Not at all.
    Never,
}
