//! Moves finished files away while the bridge is dead, as people do.

use std::fs;
use std::path::Path;

use kit::output::{Tally, bytes, files};
use kit::scenario::{emptied, grown, subscribed};
use kit::stored::each_in_files;

use super::events;
use super::stage::{FILES, Process, Row, Stage, only_files, under_load};
use crate::round::setups;

const KILLS: usize = 10;
/// How large a file becomes: about two thousand events.
const SIZE: u64 = 400_000;

pub async fn moved_files(mut stage: Stage<'_>) -> Vec<Row> {
    let (broker, mut random) = (stage.broker(), stage.random.fork());
    let sinks = stage.sinks().await;
    let queue = sinks.queue();
    let setups = setups(&sinks, broker).map(|setup| {
        // One file after the other, so that the files that were moved away are the older ones.
        only_files(setup)
            .set("SINKS__FILE__NAME", "{connection_id}")
            .set("SINKS__FILE__ROTATE__SIZE", format!("{SIZE}B"))
    });
    let mut process = Process::new(setups, &queue);
    let aside = tempfile::tempdir().expect("make a directory");
    process.start();
    subscribed(broker, &queue, 1).await;

    let mut moved = 0;
    let (published, ()) = under_load(broker, &stage.name, &queue, async {
        for _ in 0..KILLS {
            grown(process.files(), bytes(process.files()) + random.u64(1..2 * SIZE)).await;
            process.kill(&mut random).await;
            moved += move_finished(process.files(), aside.path());
            process.start();
        }
    })
    .await;
    emptied(broker, &queue).await;
    process.stop().await;
    assert!(moved > KILLS / 2, "only {moved} files were moved away");

    let mut tally = Tally::new(events(published));
    for directory in [aside.path(), process.files()] {
        each_in_files(directory, |stored| stored.add_to(&mut tally));
    }
    vec![Row::new(FILES, 0..=0, published, [&process], &tally)]
}

/// Moves the finished files and returns how many there were.
fn move_finished(from: &Path, to: &Path) -> usize {
    let finished = files(from).into_iter().filter(|path| path.extension().is_none_or(|end| end != "open"));
    let moving = finished.map(|path| fs::rename(&path, to.join(path.file_name().expect("a name"))));
    moving.map(|moved| moved.expect("move a file")).count()
}
