//! Reads the records of the place of the dead letters.

use std::io::{self, Write};
use std::ops::ControlFlow;

use tokio::sync::mpsc;

use crate::dead_letter::DeadLetterStore;
use crate::display::one_line;
use crate::sink::{Position, SinkError, StoredRecord};

/// How many records may wait for their turn. A record may have six times the size of the largest body.
pub(super) const WAITING: usize = 1;

/// How many records that are no dead letters are told one by one.
const FOREIGN_SHOWN: usize = 10;

/// Gives each record in the place to `take` until it breaks. Returns whether the place could be read.
pub(super) async fn read_each(
    store: &dyn DeadLetterStore,
    from: Option<Position>,
    mut take: impl FnMut(StoredRecord) -> io::Result<ControlFlow<()>>,
) -> io::Result<Result<(), SinkError>> {
    let (sender, mut records) = mpsc::channel(WAITING);
    let take = async {
        while let Some(record) = records.recv().await {
            if take(record)?.is_break() {
                break;
            }
        }
        // This ends the reading.
        drop(records);
        Ok(())
    };
    let (read, taken) = tokio::join!(store.read_back(from, sender), take);
    taken.map(|()| read)
}

/// The records that are no dead letters.
#[derive(Default)]
pub(super) struct Foreign {
    count: usize,
    /// The first ones, each with the reason.
    first: Vec<(Position, String)>,
}

impl Foreign {
    pub(super) fn add(&mut self, position: Position, why: &str) {
        self.count += 1;
        if self.first.len() < FOREIGN_SHOWN {
            self.first.push((position, one_line(why).into_owned()));
        }
    }

    pub(super) fn tell(&self, place: &str, err: &mut dyn Write) -> io::Result<()> {
        let Self { count, first } = self;
        match count {
            0 => return Ok(()),
            1 => writeln!(err, "warning: 1 record in {place} is not a dead letter, and was left out:")?,
            _ => {
                writeln!(err, "warning: {count} records in {place} are not dead letters, and were left out:")?
            }
        }
        for (position, why) in first {
            writeln!(err, "  {}: {why}", one_line(&position.to_string()))?;
        }
        match count - first.len() {
            0 => Ok(()),
            more => writeln!(err, "  and {more} more"),
        }
    }
}
