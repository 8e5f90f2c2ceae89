//! Counts the letters that a replay is done with.

use std::cell::Cell;

/// How many letters of one sink the replay is done with.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) replayed_before: Cell<u64>,
    pub(super) repeated: Cell<u64>,
    pub(super) delivered: Cell<u64>,
    pub(super) refused: Cell<u64>,
}

impl Counts {
    pub(super) fn done(&self) -> u64 {
        self.replayed_before.get() + self.repeated.get() + self.delivered.get() + self.refused.get()
    }
}

pub(super) fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}
