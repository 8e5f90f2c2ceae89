//! Defines the faults that the simulator can inject. They may be changed while it runs.

use std::time::Duration;

use clap::Args;

/// Faults of the broker and its connections; by default there are none. Most are also arguments of
/// `simulate`. Odd bodies are set in the generator, by
/// [`GeneratorConfig::malformations`](super::GeneratorConfig).
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// End each connection inside a frame after N events; take more than the consumer's prefetch.
    #[arg(long, value_name = "N")]
    pub drop_every: Option<u64>,
    /// Send each connection an error after N events.
    #[arg(long, value_name = "N")]
    pub error_after: Option<u64>,
    /// Say nothing more on a connection after N events, and keep it open.
    #[arg(long, value_name = "N")]
    pub silent_after: Option<u64>,
    // STOMP has no message for this. New consumers are not closed.
    /// Close the consumers of each connection after N events, as ActiveMQ does with slow ones.
    #[arg(long, value_name = "N")]
    pub close_consumers_after: Option<u64>,
    // Counts down. Only client ids that were used before are refused.
    /// Refuse the next N reconnects with "already connected".
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub refuse_reconnects: u32,
    // Last in the help.
    /// Write at most N bytes at once.
    #[arg(long, value_name = "N", display_order = 100)]
    pub dribble: Option<usize>,
    /// Connections are accepted and closed at once, before anything is sent.
    #[arg(skip)]
    pub closed: bool,
    /// The behaviour of the broker's heart-beats.
    #[arg(skip)]
    pub heart_beats: HeartBeats,
}

/// When the broker sends its heart-beats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeartBeats {
    #[default]
    OnTime,
    /// Each is sent so much later than promised.
    Late(Duration),
    Never,
}
