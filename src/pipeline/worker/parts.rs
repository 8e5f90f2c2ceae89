//! Defines the parts of a worker that its files share: the connection to its sink, its claims and its hold, and the
//! dead letters that it writes.

use std::collections::BTreeMap;
use std::future::pending;
use std::mem::take;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::dead_letter::DeadLetter;
use crate::display::one_line;
use crate::event::SessionId;
use crate::sink::{DeliveryId, Held, Sink, SinkError, Submit, Verdict, Verdicts};

pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A claim that lasts longer is shown. Most take a few hundred milliseconds.
const LONG_CLAIM: Duration = Duration::from_secs(2);

/// The shortest time between two log lines about dead letters.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The answer to the question what the sink holds.
pub(super) struct Claim {
    pub(super) sink: Box<dyn Sink>,
    pub(super) submit: Box<dyn Submit>,
    pub(super) verdicts: Box<dyn Verdicts>,
    /// When the question was asked.
    pub(super) asked: std::time::Instant,
    pub(super) held: Result<Option<Held>, SinkError>,
}

/// A claim that is not answered yet.
pub(super) struct Claiming {
    pub(super) answer: Boxed<Claim>,
    pub(super) began: Instant,
}

pub(super) type OpenedSink = Result<(Box<dyn Submit>, Box<dyn Verdicts>), SinkError>;

pub(super) enum SinkIo {
    /// Not open. The next attempt begins when the wait, if there is one, is over.
    Closed(Box<dyn Sink>),
    Opening(Boxed<(Box<dyn Sink>, OpenedSink)>),
    Open {
        sink: Box<dyn Sink>,
        submit: Box<dyn Submit>,
        verdicts: Box<dyn Verdicts>,
    },
    /// Open, and asked what it holds. Nothing is in flight.
    Claiming(Claiming),
    /// A placeholder while the sink moves from one state to another.
    Moving,
}

impl Claiming {
    /// Waits for the answer. Cancel-safe.
    async fn ended(&mut self) -> Claim {
        (&mut self.answer).await
    }

    pub(super) fn is_long(&self) -> bool {
        self.began.elapsed() >= LONG_CLAIM
    }
}

/// What can happen at a sink.
pub(super) enum SinkHappening {
    Opened(Box<dyn Sink>, OpenedSink),
    Claimed(Claim),
    Verdicts(Result<Vec<(DeliveryId, Verdict)>, SinkError>),
}

/// Waits until the sink is opened or gives verdicts. Cancel-safe, because [`Verdicts::next`] is.
pub(super) async fn next_of(sink_io: &mut SinkIo) -> SinkHappening {
    match sink_io {
        SinkIo::Opening(opening) => {
            let (sink, opened) = opening.await;
            SinkHappening::Opened(sink, opened)
        }
        SinkIo::Claiming(claiming) => SinkHappening::Claimed(claiming.ended().await),
        SinkIo::Open { verdicts, .. } => SinkHappening::Verdicts(verdicts.next().await),
        SinkIo::Closed(_) | SinkIo::Moving => pending().await,
    }
}

/// The claims of a worker so far.
#[derive(Default)]
pub(super) struct Claims {
    /// When the sink last said what it holds.
    pub(super) answered: Option<Instant>,
    /// The last claim failed, and its error is shown until one succeeds.
    pub(super) failed: bool,
    /// The current claim was shown as a long one.
    pub(super) shown: bool,
    /// The session in which the sink was asked last.
    pub(super) asked_in: Option<SessionId>,
    /// The session in which the current connection has taken the queue over.
    pub(super) taken_over: Option<SessionId>,
}

/// The state of a worker that holds because the sink refuses more events than may become dead letters. The
/// worker offers the oldest refused event again from time to time, alone. When the sink takes it, the hold
/// ends.
pub(super) struct Hold {
    /// The delivery in which the oldest refused event was offered again last.
    pub(super) offered: Option<DeliveryId>,
    /// The reason, for the operator.
    pub(super) text: String,
}

/// The dead letters of one write, and the result of the write.
pub(super) type DeadLetterWritten = (Vec<DeadLetter>, Result<(), SinkError>);

/// Collects the dead letters that the log does not mention yet.
#[derive(Debug, Default)]
pub(super) struct Notice {
    counts: BTreeMap<&'static str, u64>,
    last: String,
    pub(super) next: Option<Instant>,
}

impl Notice {
    pub(super) fn add(&mut self, letter: &DeadLetter) {
        let count = self.counts.entry(letter.rejection.reason).or_default();
        *count += 1;
        self.last = format!("{}: {}", letter.event.message_id(), letter.rejection.detail);
    }

    /// Returns the log text when it is due, such as
    /// "3 events have become dead letters (key_missing 1, too_large 2); the last: ID:…: …".
    pub(super) fn due(&mut self, now: Instant) -> Option<String> {
        if self.counts.is_empty() || self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now + TOLD_EVERY);
        let counts = take(&mut self.counts);
        let total: u64 = counts.values().sum();
        let reasons: Vec<_> = counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let events =
            if total == 1 { "1 event has become a dead letter" } else { "events have become dead letters" };
        let number = if total == 1 { String::new() } else { format!("{total} ") };
        let (reasons, last) = (reasons.join(", "), take(&mut self.last));
        Some(format!("{number}{events} ({reasons}); the last: {}", one_line(&last)))
    }
}

/// Waits for the result of the current dead-letter write; never returns if there is none. Cancel-safe.
pub(super) async fn pending_write(write: &mut Option<Boxed<DeadLetterWritten>>) -> DeadLetterWritten {
    match write {
        Some(write) => write.await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_told_at_once_and_then_once_a_minute() {
        let mut notice = Notice::default();
        let start = Instant::now();
        assert_eq!(notice.due(start), None);
        let add = |notice: &mut Notice, reason, count| {
            notice.counts.insert(reason, count);
            notice.last = "ID:1\n: too long".to_owned();
        };
        add(&mut notice, "too_large", 1);
        let said = "1 event has become a dead letter (too_large 1); the last: ID:1\\n: too long";
        assert_eq!(notice.due(start).as_deref(), Some(said));
        add(&mut notice, "too_large", 2);
        add(&mut notice, "key_missing", 1);
        assert_eq!(notice.due(start + TOLD_EVERY / 2), None);
        let said =
            "3 events have become dead letters (key_missing 1, too_large 2); the last: ID:1\\n: too long";
        assert_eq!(notice.due(start + TOLD_EVERY).as_deref(), Some(said));
        assert_eq!(notice.due(start + TOLD_EVERY * 3), None);
    }
}
