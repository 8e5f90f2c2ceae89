//! Chooses which address of the broker to try next. It tries each address once before any wait. Each address
//! has its own wait, so one that needs an operator does not delay a good one.

use tokio::time::Instant;

use crate::telemetry::status::Status;

/// The addresses of one broker and the state of each.
#[derive(Debug)]
pub(super) struct Addresses {
    /// Index of the address that is being tried.
    pub(super) at: usize,
    each: Vec<AddressState>,
}

#[derive(Clone, Debug)]
struct AddressState {
    /// Not tried before this time.
    due: Instant,
    /// How the last attempt ended; cleared when a session succeeds at any address.
    failed: Option<Status>,
    /// A session has succeeded there before.
    is_known: bool,
}

impl Addresses {
    pub(super) fn new(count: usize) -> Self {
        let address = AddressState { due: Instant::now(), failed: None, is_known: false };
        Self { at: 0, each: vec![address; count] }
    }

    /// Whether a session has ever succeeded at the current address.
    pub(super) fn is_known(&self) -> bool {
        self.each[self.at].is_known
    }

    /// Notes that a session succeeded at the current address.
    pub(super) fn subscribed(&mut self) {
        self.each[self.at].is_known = true;
        self.each.iter_mut().for_each(|address| address.failed = None);
    }

    /// Notes that the attempt at the current address ended with this status. Returns the status to report for
    /// all of them; `None` while another address may succeed. If one address is starting, so is the whole.
    /// Otherwise the whole needs an operator as soon as one address does, and recovers by itself only if all
    /// do.
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
        // An unreachable address may be the standby of a held one: it listens only after the held one is
        // gone.
        let one_is_held = states.iter().any(|state| matches!(state, Status::Held(_)));
        Some(match (one_starts, one_is_held) {
            (true, _) => Status::Starting(text),
            (false, true) => Status::Held(text),
            (false, false) => Status::Retrying(text),
        })
    }

    /// Does not try the current address again before `due`. Moves on to the next address that may be tried,
    /// and returns when.
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
        // The first address is held for 40 s; the others do not wait for it.
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

    /// This is the case of a master whose standby never listens.
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
