//! Sends extra acknowledgements so that the broker keeps reading its store.
//!
//! On a backlog ActiveMQ reads a few hundred messages and then nothing more until it receives an
//! acknowledgement, however wide the window is (`protocols.md §3.11`), and a distant sink takes its time. A
//! DELIVERED ack counts as one, and removes nothing. It also widens the window by its count (3.8), so its
//! count is 0: the prefetch stays the exact limit of unacknowledged messages.
//!
//! The session sends one after each `step` messages, and for fewer messages a little later. A broker that
//! reads fewer at once (`maxPageSize`) would otherwise wait for ever.
//!
//! The prefetch is announced in full to keep the order (I3). With a part of it, widened later, the broker
//! would give a new session only a part of the messages that a dead one had. If the new session died as well,
//! its messages would be queued behind the rest, so that the first would come last.

use std::time::Duration;

use tokio::time::Instant;

/// The most messages between two DELIVERED acks: half of what the broker reads at once. Fewer if the prefetch
/// is small.
const STEP: usize = 100;

/// The longest time from a message to the next acknowledgement sent to the broker.
const SOON: Duration = Duration::from_millis(50);

/// What the broker has heard of one consumer's acknowledgements.
#[derive(Debug)]
pub(super) struct PrefetchCredit {
    step: usize,
    /// The number of unacknowledged messages at the last acknowledgement that the broker received.
    heard: usize,
    /// When the first message came after that.
    waits_since: Option<Instant>,
}

impl PrefetchCredit {
    pub(super) fn new(prefetch: u32) -> Self {
        let step = (prefetch as usize / 4).clamp(1, STEP);
        Self { step, heard: 0, waits_since: None }
    }

    /// Notes an acknowledgement that leaves `unacked` messages unacknowledged.
    pub(super) fn acknowledged(&mut self, unacked: usize) {
        self.heard = unacked;
        self.waits_since = None;
    }

    /// Returns whether a DELIVERED ack must be sent now, with `unacked` messages unacknowledged. If so, it
    /// counts as sent.
    pub(super) fn is_due(&mut self, unacked: usize, now: Instant) -> bool {
        let unheard = unacked.saturating_sub(self.heard);
        if unheard == 0 {
            return false;
        }
        let since = *self.waits_since.get_or_insert(now);
        let is_due = unheard >= self.step || now >= since + SOON;
        if is_due {
            self.acknowledged(unacked);
        }
        is_due
    }

    /// When to check again, if no message comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waits_since.map(|since| since + SOON)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Simulates ActiveMQ (`protocols.md §3.11`): a backlog without end, from which it reads a page at each
    /// acknowledgement it receives, and the messages and acknowledgements on the way.
    struct CreditScript {
        credit: PrefetchCredit,
        now: Instant,
        prefetch: usize,
        page: usize,
        paged: usize,
        dispatched: usize,
        to_consumer: usize,
        unacked: usize,
        /// Acknowledgements on the way, as the number of messages that each removes.
        from_consumer: VecDeque<usize>,
    }

    impl CreditScript {
        fn new(prefetch: u32, page: usize) -> Self {
            Self {
                credit: PrefetchCredit::new(prefetch),
                now: Instant::now(),
                prefetch: prefetch as usize,
                page,
                paged: page,
                dispatched: 0,
                to_consumer: 0,
                unacked: 0,
                from_consumer: VecDeque::new(),
            }
        }

        fn dispatch(&mut self, most: usize) {
            let count = most.min(self.paged).min(self.prefetch - self.dispatched);
            self.paged -= count;
            self.dispatched += count;
            self.to_consumer += count;
        }

        fn hear(&mut self) {
            if let Some(removed) = self.from_consumer.pop_front() {
                self.dispatched -= removed;
                self.paged = self.paged.max(self.page);
            }
        }

        fn receive(&mut self, most: usize) {
            let count = most.min(self.to_consumer);
            self.to_consumer -= count;
            self.unacked += count;
            self.tick();
        }

        fn tick(&mut self) {
            if self.credit.is_due(self.unacked, self.now) {
                self.from_consumer.push_back(0);
            }
        }

        fn acknowledge(&mut self, most: usize) {
            let count = most.min(self.unacked);
            if count > 0 {
                self.unacked -= count;
                self.credit.acknowledged(self.unacked);
                self.from_consumer.push_back(count);
            }
        }

        /// Acknowledges nothing more, and returns the number of unacknowledged messages in the end.
        fn settle(&mut self) -> usize {
            loop {
                self.dispatch(usize::MAX);
                if self.to_consumer == 0 && self.from_consumer.is_empty() {
                    let Some(deadline) = self.credit.deadline() else { return self.unacked };
                    self.now = deadline;
                    self.tick();
                }
                self.receive(usize::MAX);
                self.hear();
            }
        }
    }

    #[test]
    fn the_broker_hears_of_every_hundredth_message_or_every_acknowledgement() {
        let now = Instant::now();
        let mut credit = PrefetchCredit::new(1024);
        let mut due = |unacked| credit.is_due(unacked, now);
        assert_eq!((1..=1024).filter(|unacked| due(*unacked)).count(), 10);
        credit.acknowledged(424);
        assert!(!credit.is_due(523, now));
        credit.acknowledged(522);
        let mut due = |unacked| credit.is_due(unacked, now);
        assert!(!due(621) && due(622) && !due(623));
        assert!(PrefetchCredit::new(1).is_due(1, now));
    }

    #[test]
    fn and_of_fewer_a_little_later() {
        let now = Instant::now();
        let mut credit = PrefetchCredit::new(1024);
        assert_eq!((credit.deadline(), credit.is_due(0, now + SOON)), (None, false));
        assert!(!credit.is_due(50, now) && !credit.is_due(60, now + SOON / 2));
        assert_eq!(credit.deadline(), Some(now + SOON));
        assert!(credit.is_due(60, now + SOON));
        assert_eq!((credit.deadline(), credit.is_due(60, now + SOON * 9)), (None, false));
        assert!(!credit.is_due(61, now + SOON * 9));
        credit.acknowledged(0);
        assert_eq!(credit.deadline(), None);
    }

    proptest! {
        /// In whatever order the acknowledgements and the messages cross, all messages that the prefetch
        /// allows come even if no sink answers any more.
        #[test]
        fn the_whole_prefetch_comes(
            prefetch in prop_oneof![1..50_u32, 900..2200_u32],
            page in 1..300_usize,
            steps in prop::collection::vec((0..4_u8, 0..700_usize), 0..200),
        ) {
            let mut talk = CreditScript::new(prefetch, page);
            for (step, size) in steps {
                match step {
                    0 => talk.dispatch(size),
                    1 => talk.receive(size),
                    2 => talk.acknowledge(size),
                    _ => talk.hear(),
                }
            }
            prop_assert_eq!(talk.settle(), prefetch as usize);
        }
    }
}
