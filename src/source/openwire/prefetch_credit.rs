//! Keeps the broker reading its store. On a backlog ActiveMQ reads a few hundred messages and then nothing
//! more until it hears of an acknowledgement, however wide the window is (`protocols.md §3.11`), and a sink far
//! away takes its time. A DELIVERED ack is heard as one, and removes nothing. It also widens the window by its
//! count (3.8), so its count is 0: the prefetch stays the exact bound of what is un-acked.
//!
//! One goes out with every so many messages, and also for fewer a little later: a broker that reads less at once
//! (`maxPageSize`) would wait for more of them for ever.
//!
//! The prefetch is announced whole for the sake of order (I3). With a part of it, widened later, the broker
//! would give a new session only a part of what a dead one had; if the new one died as well, its messages
//! would be queued behind the rest, the first behind the last.

use std::time::Duration;

use tokio::time::Instant;

/// Messages between two DELIVERED acks, where the prefetch allows so many: half of what the broker reads at
/// once.
const STEP: usize = 100;

/// So long after a message the broker has heard of an acknowledgement since.
const SOON: Duration = Duration::from_millis(50);

/// What the broker has heard of one consumer.
#[derive(Debug)]
pub(super) struct PrefetchCredit {
    step: usize,
    /// How many messages were un-acked when the broker last heard of an acknowledgement.
    heard: usize,
    /// When the first message came after that.
    waits_since: Option<Instant>,
}

impl PrefetchCredit {
    /// For a consumer with this prefetch.
    pub(super) fn new(prefetch: u32) -> Self {
        let step = (prefetch as usize / 4).clamp(1, STEP);
        Self { step, heard: 0, waits_since: None }
    }

    /// The broker is told of an acknowledgement that leaves so many messages un-acked.
    pub(super) fn acknowledged(&mut self, unacked: usize) {
        self.heard = unacked;
        self.waits_since = None;
    }

    /// Whether a DELIVERED ack must be sent now that so many messages are un-acked; it counts as sent.
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

    /// When to ask again, if no message comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waits_since.map(|since| since + SOON)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// ActiveMQ's side (`protocols.md §3.11`): a backlog without end, of which it reads a page when it hears of an
    /// acknowledgement; and what is on the way both ways.
    struct CreditScript {
        paging: PrefetchCredit,
        now: Instant,
        prefetch: usize,
        page: usize,
        paged: usize,
        dispatched: usize,
        to_consumer: usize,
        unacked: usize,
        /// Acknowledgements by how much they remove.
        from_consumer: VecDeque<usize>,
    }

    impl CreditScript {
        fn new(prefetch: u32, page: usize) -> Self {
            Self {
                paging: PrefetchCredit::new(prefetch),
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
            if self.paging.is_due(self.unacked, self.now) {
                self.from_consumer.push_back(0);
            }
        }

        fn acknowledge(&mut self, most: usize) {
            let count = most.min(self.unacked);
            if count > 0 {
                self.unacked -= count;
                self.paging.acknowledged(self.unacked);
                self.from_consumer.push_back(count);
            }
        }

        /// Nothing more is acknowledged; returns what is un-acked in the end.
        fn settle(&mut self) -> usize {
            loop {
                self.dispatch(usize::MAX);
                if self.to_consumer == 0 && self.from_consumer.is_empty() {
                    let Some(deadline) = self.paging.deadline() else { return self.unacked };
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
        let mut paging = PrefetchCredit::new(1024);
        let mut due = |unacked| paging.is_due(unacked, now);
        assert_eq!((1..=1024).filter(|unacked| due(*unacked)).count(), 10);
        paging.acknowledged(424);
        assert!(!paging.is_due(523, now));
        paging.acknowledged(522);
        let mut due = |unacked| paging.is_due(unacked, now);
        assert!(!due(621) && due(622) && !due(623));
        assert!(PrefetchCredit::new(1).is_due(1, now));
    }

    #[test]
    fn and_of_fewer_a_little_later() {
        let now = Instant::now();
        let mut paging = PrefetchCredit::new(1024);
        assert_eq!((paging.deadline(), paging.is_due(0, now + SOON)), (None, false));
        assert!(!paging.is_due(50, now) && !paging.is_due(60, now + SOON / 2));
        assert_eq!(paging.deadline(), Some(now + SOON));
        assert!(paging.is_due(60, now + SOON));
        assert_eq!((paging.deadline(), paging.is_due(60, now + SOON * 9)), (None, false));
        assert!(!paging.is_due(61, now + SOON * 9));
        paging.acknowledged(0);
        assert_eq!(paging.deadline(), None);
    }

    proptest! {
        /// However the acknowledgements and the messages cross, all that the prefetch allows comes when no sink
        /// answers any more.
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
