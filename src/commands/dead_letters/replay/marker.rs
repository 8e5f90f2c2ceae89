//! Marks the letters that a pipeline has settled.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::counts::{Counts, add};
use super::letters::ReplayDestination;
use super::refusals::Refusals;
use super::source::SettledLetter;
use crate::dead_letter::{ReplayMark, ReplayMarks};
use crate::sink::{SinkError, SinkErrorKind};
use crate::telemetry::status::{Status, StatusReporter};

/// The most letters of one mark, and the most bytes of their ids: every place takes such a line.
const MARKED_AT_ONCE: usize = 1000;
const MARK_BYTES: usize = 16 << 10;
/// How long settled letters wait for others, to be marked together.
const GATHER: Duration = Duration::from_millis(200);
/// The time between two tries to write a mark.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes the marks of one sink.
pub(super) struct Marker<'a> {
    pub(super) marks: &'a dyn ReplayMarks,
    pub(super) to: &'a ReplayDestination,
    pub(super) refusals: &'a Refusals,
    pub(super) counts: &'a Counts,
}

impl Marker<'_> {
    /// Marks what is settled, until the source is dropped.
    pub(super) async fn run(
        &self,
        mut settlements: mpsc::Receiver<SettledLetter>,
        reporter: StatusReporter,
    ) -> Result<(), SinkError> {
        while let Some(first) = settlements.recv().await {
            let mut settled = vec![first];
            let until = Instant::now() + GATHER;
            while settled.len() < MARKED_AT_ONCE
                && let Ok(1..) = timeout_at(until, settlements.recv_many(&mut settled, MARKED_AT_ONCE)).await
            {
            }
            let (mut marked, mut refused) = (Vec::new(), 0);
            for SettledLetter { id, .. } in &settled {
                match self.refusals.settle(id) {
                    true => refused += 1,
                    false => marked.push(String::from_utf8_lossy(id).into_owned()),
                }
            }
            let delivered = marked.len() as u64;
            if delivered > 0 {
                self.write(&in_marks(self.to, marked), &reporter).await?;
            }
            add(&self.counts.delivered, delivered);
            add(&self.counts.refused, refused);
        }
        Ok(())
    }

    /// Writes the marks; waits out an error that passes by itself. A mark that is there twice does no harm.
    async fn write(&self, marks: &[ReplayMark], reporter: &StatusReporter) -> Result<(), SinkError> {
        while let Err(error) = self.marks.add(marks).await {
            if error.kind == SinkErrorKind::Misconfigured {
                return Err(error);
            }
            reporter.report(Status::Retrying(error.to_string()));
            sleep(AGAIN).await;
        }
        reporter.report(Status::Ready);
        Ok(())
    }
}

/// Divides the ids into marks that every place takes.
fn in_marks(to: &ReplayDestination, message_ids: Vec<String>) -> Vec<ReplayMark> {
    let time = Timestamp::now();
    let mut marks: Vec<ReplayMark> = Vec::new();
    let mut bytes = 0;
    for id in message_ids {
        bytes += id.len();
        match marks.last_mut().filter(|_| bytes <= MARK_BYTES) {
            Some(mark) => mark.message_ids.push(id),
            None => {
                bytes = id.len();
                let ReplayDestination { queue, sink } = to.clone();
                marks.push(ReplayMark { queue, sink, time, message_ids: vec![id] });
            }
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::dead_letter::{DeadLetter, DeadLetterStore};
    use crate::finding::Finding;
    use crate::sink::{Position, RecordSender};
    use crate::telemetry::status::StatusRegistry;

    /// A place that takes marks while it is reachable, and counts them.
    #[derive(Default)]
    struct Place {
        is_reachable: AtomicBool,
        marks: AtomicUsize,
    }

    #[async_trait]
    impl DeadLetterStore for Place {
        fn place(&self) -> &str {
            "letters"
        }

        async fn write(&self, _: &[DeadLetter]) -> Result<(), SinkError> {
            Ok(())
        }

        async fn open(&self) -> Result<(), SinkError> {
            Ok(())
        }

        async fn probe(&self) -> Result<Vec<Finding>, SinkError> {
            Ok(Vec::new())
        }

        async fn read_back(&self, _: Option<Position>, _: RecordSender) -> Result<(), SinkError> {
            Ok(())
        }

        async fn close(&self) {}
    }

    #[async_trait]
    impl ReplayMarks for Place {
        async fn add(&self, marks: &[ReplayMark]) -> Result<(), SinkError> {
            if !self.is_reachable.load(Ordering::Relaxed) {
                return Err(SinkError::unavailable("the place is away"));
            }
            self.marks.fetch_add(marks.len(), Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_the_place_is_shown_and_waited_for() {
        let marks = Place::default();
        let to = ReplayDestination { queue: "main.RTO.acme".to_owned(), sink: "kafka".to_owned() };
        let (refusals, counts, statuses) = (Refusals::new(""), Counts::default(), StatusRegistry::default());
        let marker = Marker { marks: &marks, to: &to, refusals: &refusals, counts: &counts };
        let (written, reporter) = (in_marks(&to, vec!["ID:1".to_owned()]), statuses.reporter("replay marks"));
        let heal = async {
            sleep(5 * AGAIN).await;
            assert_eq!(statuses.all()[0].1.word(), "retrying");
            marks.is_reachable.store(true, Ordering::Relaxed);
        };
        let (outcome, ()) = tokio::join!(marker.write(&written, &reporter), heal);
        outcome.unwrap();
        assert_eq!((marks.marks.load(Ordering::Relaxed), statuses.all()[0].1.is_ready()), (1, true));
    }

    #[test]
    fn a_mark_is_no_longer_than_every_place_takes() {
        let to = ReplayDestination { queue: "main.RTO.acme".to_owned(), sink: "kafka".to_owned() };
        let ids: Vec<_> = (0..1000).map(|number| format!("{number:0>100}")).collect();
        let marks = in_marks(&to, ids.clone());
        assert!(marks.len() > 1 && marks.len() < 10, "{}", marks.len());
        assert!(marks.iter().all(|mark| mark.message_ids.concat().len() <= MARK_BYTES));
        assert_eq!(marks.iter().flat_map(|mark| mark.message_ids.clone()).collect::<Vec<_>>(), ids);
        let long = vec!["a".repeat(MARK_BYTES + 1), "b".to_owned()];
        assert_eq!(in_marks(&to, long).len(), 2);
    }
}
