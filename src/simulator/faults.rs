//! Defines the faults that the simulator can inject. They may be changed while it runs.

use std::time::Duration;

/// Faults of the broker and its connections; by default there are none. Odd bodies are set in the generator
/// ([`GeneratorConfig::oddities`](super::GeneratorConfig)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Each connection ends after so many events, inside a frame if there is one. Choose more than the
    /// prefetch of the consumer, or it may never get an acknowledgement through.
    pub drop_every: Option<u64>,
    /// Each connection gets an ERROR frame, or a `ConnectionError`, after so many events, and stays open.
    pub error_after: Option<u64>,
    /// Each connection gets nothing any more after so many events, not even heart-beats, and stays open.
    pub silent_after: Option<u64>,
    /// The broker closes the consumers of each connection after so many events, as it does with slow ones.
    /// STOMP has no message for this. New consumers are not closed.
    pub close_consumers_after: Option<u64>,
    /// So many of the next connections are refused with "already connected", if their client id was used
    /// before. Counts down.
    pub refuse_reconnects: u32,
    /// Connections are accepted and closed at once, before anything is sent.
    pub closed: bool,
    /// The behaviour of the broker's heart-beats.
    pub heart_beats: HeartBeats,
    /// Everything is written in pieces of so many bytes.
    pub dribble: Option<usize>,
}

/// When the broker sends its heart-beats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeartBeats {
    /// At the promised times.
    #[default]
    OnTime,
    /// Each later than promised, by this time.
    Late(Duration),
    /// Heart-beats are never sent.
    Never,
}
