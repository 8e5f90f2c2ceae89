//! How much the broker may send. The prefetch bounds what is un-acked, but on a backlog ActiveMQ reads only a
//! few hundred messages from its store and then nothing more until it hears of an acknowledgement, however
//! wide the window is (`activemq.md` 3.11); and a sink far away takes its time. A DELIVERED ack is one: it
//! removes nothing, and widens the window by its count until the messages are really acknowledged. So only
//! half of the prefetch is announced, and the other half given out by DELIVERED acks, never more.

/// ActiveMQ takes exactly this prefetch for "the broker's default".
const DEFAULT_OF_THE_BROKER: usize = 1000;

/// Messages between two DELIVERED acks, where the prefetch allows so many: half of what one page of the
/// broker holds.
const STEP: usize = 100;

/// The window of one consumer.
#[derive(Debug)]
pub(super) struct Window {
    prefetch: usize,
    announced: usize,
    step: usize,
    /// Messages received and not acknowledged.
    unacked: usize,
    /// So many of them, the oldest, widen the window.
    delivered: usize,
    /// What was un-acked when the broker last heard of an acknowledgement.
    heard: usize,
}

/// A DELIVERED ack that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    /// By how much it widens the window; 0 only makes the broker go on.
    pub(super) count: usize,
    /// The newest message that it speaks of, counted from 0 among the un-acked.
    pub(super) last: usize,
}

impl Window {
    /// At most `prefetch` messages un-acked.
    pub(super) fn new(prefetch: u32) -> Self {
        let prefetch = prefetch as usize;
        let half = prefetch - prefetch / 2;
        let announced = if half == DEFAULT_OF_THE_BROKER { half + 1 } else { half };
        let step = ((prefetch - announced) / 4).clamp(1, STEP);
        Self { prefetch, announced, step, unacked: 0, delivered: 0, heard: 0 }
    }

    /// What the broker is told, or has decided.
    pub(super) fn announced(&self) -> usize {
        self.announced
    }

    /// The broker has put another prefetch in place of the announced one: the whole stays bounded.
    pub(super) fn replaced(&mut self, announced: usize) {
        self.announced = announced;
    }

    /// So many messages have come.
    pub(super) fn received(&mut self, count: usize) {
        self.unacked += count;
    }

    /// So many messages, the oldest, are acknowledged, and the broker is told.
    pub(super) fn acknowledged(&mut self, count: usize) {
        self.unacked = self.unacked.saturating_sub(count);
        self.delivered = self.delivered.saturating_sub(count);
        self.heard = self.unacked;
    }

    /// The DELIVERED ack that must be sent now, if any.
    pub(super) fn due(&mut self) -> Option<Delivered> {
        let spare = self.prefetch.saturating_sub(self.announced);
        let count = self.unacked.min(spare).saturating_sub(self.delivered);
        let news = self.unacked.saturating_sub(self.heard);
        if count.max(news) < self.step {
            return None;
        }
        self.heard = self.unacked;
        self.delivered += count;
        let last = self.delivered.checked_sub(1)?;
        Some(Delivered { count, last })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// What the consumer says: STANDARD with its count, or DELIVERED with its count and message.
    #[derive(Clone, Copy, Debug)]
    enum Ack {
        Standard(usize),
        Delivered(usize, u64),
    }

    /// ActiveMQ's side (`activemq.md` 3.8, 3.11), a backlog without end, and what is on the way both ways.
    struct Broker {
        prefetch: usize,
        extension: usize,
        dispatched: VecDeque<u64>,
        next: u64,
        /// So many more until it hears of the next acknowledgement.
        paged: usize,
        page: usize,
        to_consumer: VecDeque<u64>,
        from_consumer: VecDeque<Ack>,
    }

    impl Broker {
        fn dispatch(&mut self, most: usize) {
            for _ in 0..most {
                if self.dispatched.len() >= self.prefetch + self.extension || self.paged == 0 {
                    return;
                }
                self.dispatched.push_back(self.next);
                self.to_consumer.push_back(self.next);
                self.next += 1;
                self.paged -= 1;
            }
        }

        fn hear(&mut self) {
            match self.from_consumer.pop_front() {
                None => return,
                Some(Ack::Standard(count)) => {
                    self.dispatched.drain(..count);
                    self.extension = self.extension.saturating_sub(count);
                }
                Some(Ack::Delivered(count, last)) => {
                    assert!(self.dispatched.contains(&last), "it can't be correlated");
                    self.extension += count;
                }
            }
            self.paged = self.paged.max(self.page);
        }
    }

    struct Talk {
        broker: Broker,
        window: Window,
        unacked: VecDeque<u64>,
    }

    impl Talk {
        fn new(prefetch: u32, page: usize) -> Self {
            let window = Window::new(prefetch);
            let broker = Broker {
                prefetch: window.announced(),
                extension: 0,
                dispatched: VecDeque::new(),
                next: 0,
                paged: page,
                page,
                to_consumer: VecDeque::new(),
                from_consumer: VecDeque::new(),
            };
            Self { broker, window, unacked: VecDeque::new() }
        }

        fn receive(&mut self, most: usize) {
            let count = most.min(self.broker.to_consumer.len());
            self.unacked.extend(self.broker.to_consumer.drain(..count));
            self.window.received(count);
            self.widen();
        }

        fn acknowledge(&mut self, most: usize) {
            let count = most.min(self.unacked.len());
            if count > 0 {
                self.unacked.drain(..count);
                self.window.acknowledged(count);
                self.broker.from_consumer.push_back(Ack::Standard(count));
                self.widen();
            }
        }

        fn widen(&mut self) {
            if let Some(Delivered { count, last }) = self.window.due() {
                self.broker.from_consumer.push_back(Ack::Delivered(count, self.unacked[last]));
            }
        }

        /// Nothing more is acknowledged; returns what the broker counts as un-acked in the end.
        fn settle(&mut self) -> usize {
            while !self.broker.from_consumer.is_empty() || {
                self.broker.dispatch(usize::MAX);
                !self.broker.to_consumer.is_empty()
            } {
                self.receive(usize::MAX);
                self.broker.hear();
            }
            self.broker.dispatched.len()
        }
    }

    #[test]
    fn half_is_announced_and_never_the_brokers_default() {
        for (prefetch, announced) in [(1, 1), (2, 1), (3, 2), (1024, 512), (1999, 1001), (2000, 1001)] {
            assert_eq!(Window::new(prefetch).announced(), announced);
        }
    }

    #[test]
    fn the_default_prefetch_is_filled_in_steps_and_then_the_broker_is_only_kept_going() {
        let mut window = Window::new(1024);
        let mut said = Vec::new();
        for _ in 0..1024 {
            window.received(1);
            said.extend(window.due().map(|due| (due.count, due.last)));
        }
        let steps = [(100, 99), (100, 199), (100, 299), (100, 399), (100, 499), (12, 511)];
        assert_eq!(said[..6], steps);
        assert_eq!(said[6..], [(0, 511); 4]);
        window.acknowledged(600);
        assert_eq!(window.due(), Some(Delivered { count: 424, last: 423 }));
        assert_eq!(window.due(), None);
    }

    #[test]
    fn a_broker_that_has_its_own_prefetch_is_given_less() {
        let mut window = Window::new(1024);
        window.replaced(1000);
        window.received(500);
        assert_eq!(window.due(), Some(Delivered { count: 24, last: 23 }));
        window.replaced(5000);
        window.received(500);
        assert_eq!(window.due(), Some(Delivered { count: 0, last: 23 }));
    }

    proptest! {
        /// Whatever is on the way, the broker never has more than the prefetch un-acked; and when no sink
        /// answers, all of it comes, but for less than a step.
        #[test]
        fn the_prefetch_is_the_bound_and_is_reached(
            prefetch in prop_oneof![1..50_u32, 900..2200_u32],
            page in 100..300_usize,
            steps in prop::collection::vec((0..4_u8, 0..700_usize), 0..200),
        ) {
            let mut fresh = Talk::new(prefetch, page);
            prop_assert_eq!(fresh.settle(), prefetch as usize);

            let mut talk = Talk::new(prefetch, page);
            for (step, size) in steps {
                match step {
                    0 => talk.broker.dispatch(size),
                    1 => talk.receive(size),
                    2 => talk.acknowledge(size),
                    _ => talk.broker.hear(),
                }
                prop_assert!(talk.broker.dispatched.len() <= prefetch as usize);
            }
            let unacked = talk.settle();
            prop_assert!(unacked <= prefetch as usize && unacked + talk.window.step > prefetch as usize);
        }
    }
}
