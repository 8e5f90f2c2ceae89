//! The addresses of one broker, tried in turn: each once before any wait, and each with a wait of its own, so that
//! one that needs an operator does not keep a good one waiting.

use tokio::time::Instant;

use crate::telemetry::status::Status;

/// See the module text.
#[derive(Debug)]
pub(super) struct Addresses {
    /// The one that is being tried.
    pub(super) at: usize,
    each: Vec<AddressState>,
}

#[derive(Clone, Debug)]
struct AddressState {
    /// It is not tried before.
    due: Instant,
    /// How the last try ended, unless a session has come about anywhere since.
    failed: Option<Status>,
    /// A session has come about there.
    is_known: bool,
}

impl Addresses {
    /// None of them tried yet.
    pub(super) fn new(count: usize) -> Self {
        let address = AddressState { due: Instant::now(), failed: None, is_known: false };
        Self { at: 0, each: vec![address; count] }
    }

    /// Whether a session has ever come about at the present one.
    pub(super) fn is_known(&self) -> bool {
        self.each[self.at].is_known
    }

    /// A session came about at the present one.
    pub(super) fn subscribed(&mut self) {
        self.each[self.at].is_known = true;
        self.each.iter_mut().for_each(|address| address.failed = None);
    }

    /// The try of the present one ended in this state. Returns what is to be told of all of them; `None` while
    /// another one may do. Where one is on its way, so is the whole; otherwise it needs an operator as soon as one
    /// does, and passes by itself only if all do.
    pub(super) fn failed(&mut self, state: Status) -> Option<Status> {
        self.each[self.at].failed = Some(state);
        let now = Instant::now();
        let others = self.each.iter().enumerate().filter(|(place, _)| *place != self.at);
        if others.into_iter().any(|(_, address)| address.failed.is_none() && address.due <= now) {
            return None;
        }
        let states: Vec<&Status> = self.each.iter().filter_map(|address| address.failed.as_ref()).collect();
        let reasons: Vec<&str> = states.iter().map(|state| state.reason()).collect();
        let text = reasons.join("; and ");
        let one_starts = states.iter().any(|state| matches!(state, Status::Starting(_)));
        // One that is only out of reach may be the standby of another, which listens once that one is gone.
        let one_is_held = states.iter().any(|state| matches!(state, Status::Held(_)));
        Some(match (one_starts, one_is_held) {
            (true, _) => Status::Starting(text),
            (false, true) => Status::Held(text),
            (false, false) => Status::Retrying(text),
        })
    }

    /// The present one is not tried before `due`. Goes to the next one that may be tried, and returns when.
    pub(super) fn next(&mut self, due: Instant) -> Instant {
        self.each[self.at].due = due;
        let count = self.each.len();
        let now = Instant::now();
        let in_turn = (1..=count).map(|step| (self.at + step) % count);
        // Of those that are due already, the next in turn; otherwise the one that is due first.
        let next = in_turn.min_by_key(|place| self.each[*place].due.max(now)).unwrap_or(self.at);
        self.at = next;
        self.each[next].due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held(text: &str) -> Status {
        Status::Held(text.to_owned())
    }

    fn retrying(text: &str) -> Status {
        Status::Retrying(text.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_tried_once_before_any_wait() {
        let (begin, mut addresses) = (Instant::now(), Addresses::new(3));
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut tries = Vec::new();
        for wait in [40, 1, 5, 1, 60, 60] {
            tries.push(addresses.at);
            let next = addresses.next(Instant::now() + Duration::from_secs(wait));
            tokio::time::sleep_until(next).await;
        }
        // The first is held for 40 s, which the others do not wait for.
        assert_eq!(tries, [0, 1, 2, 1, 1, 2]);
        assert_eq!((addresses.at, Instant::now()), (0, after(40)));
    }

    #[test]
    fn trouble_is_told_once_no_other_may_do() {
        let mut addresses = Addresses::new(2);
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(addresses.failed(held("a")), None);
        addresses.next(later);
        assert_eq!(addresses.failed(retrying("b")), Some(held("a; and b")), "one does not pass by itself");
        addresses.next(later);
        assert_eq!(addresses.failed(held("a")), Some(held("a; and b")), "the same, and not in turns");
        addresses.next(later);
        assert_eq!(addresses.failed(held("c")), Some(held("a; and c")));
        addresses.subscribed();
        assert!(addresses.is_known());
        assert_eq!(addresses.failed(retrying("lost")), Some(retrying("lost")));
    }

    /// As with a master whose standby never listens.
    #[test]
    fn one_that_needs_an_operator_is_enough_unless_another_starts() {
        let starting = |text: &str| Status::Starting(text.to_owned());
        for (first, second, told) in [
            (retrying("a"), held("b"), held("a; and b")),
            (held("a"), retrying("b"), held("a; and b")),
            (held("a"), held("b"), held("a; and b")),
            (retrying("a"), retrying("b"), retrying("a; and b")),
            (starting("a"), held("b"), starting("a; and b")),
            (held("a"), starting("b"), starting("a; and b")),
            (starting("a"), retrying("b"), starting("a; and b")),
        ] {
            let mut addresses = Addresses::new(2);
            assert_eq!(addresses.failed(first), None);
            addresses.next(Instant::now() + Duration::from_secs(3600));
            assert_eq!(addresses.failed(second), Some(told));
        }
    }

    #[test]
    fn a_single_one_is_told_as_it_is() {
        let mut addresses = Addresses::new(1);
        for state in [held("a"), retrying("b"), Status::Starting("c".to_owned())] {
            assert_eq!(addresses.failed(state.clone()), Some(state));
        }
    }
}
