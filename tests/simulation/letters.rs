//! Simulates the place of the dead letters, which outlives the processes that write to it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atdata_bridge::dead_letter::{DeadLetter, DeadLetterStore};
use atdata_bridge::finding::Finding;
use atdata_bridge::sink::{Position, RecordSender, SinkError};
use fastrand::Rng;
use tokio::time::sleep;

use crate::destination::number_of;
use crate::files::Letter;

/// A place in memory. Cheap to clone.
#[derive(Clone)]
pub struct Letters(Arc<Mutex<LettersState>>);

struct LettersState {
    random: Rng,
    is_away: bool,
    there: BTreeSet<Letter>,
}

impl Letters {
    pub fn new(random: Rng) -> Self {
        Self(Arc::new(Mutex::new(LettersState { random, is_away: false, there: BTreeSet::new() })))
    }

    /// Makes every write fail, or no longer.
    pub fn away(&self, is_away: bool) {
        self.0.lock().unwrap().is_away = is_away;
    }

    /// All letters.
    pub fn all(&self) -> BTreeSet<Letter> {
        self.0.lock().unwrap().there.clone()
    }
}

#[async_trait]
impl DeadLetterStore for Letters {
    fn place(&self) -> &'static str {
        "memory"
    }

    async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        let (delay, written) = {
            let mut state = self.0.lock().unwrap();
            let fails = state.is_away || state.random.u8(0..10) == 0;
            let written = if fails { state.random.usize(0..letters.len()) } else { letters.len() };
            (state.random.u64(0..20), if state.is_away { 0 } else { written })
        };
        sleep(Duration::from_millis(delay)).await;
        let sink = |letter: &DeadLetter| letter.sink.as_deref().map(str::to_owned);
        let there = letters[..written].iter().map(|letter| (number_of(&letter.event), sink(letter)));
        self.0.lock().unwrap().there.extend(there);
        match written == letters.len() {
            true => Ok(()),
            false => Err(SinkError::unavailable("the place of the dead letters is away")),
        }
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
