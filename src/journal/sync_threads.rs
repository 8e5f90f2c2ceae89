//! Syncs several files at the same time, on threads that wait for the next files. The disk then flushes its
//! cache about once for all files, not once for each.

use std::sync::mpsc::{self, Receiver, SyncSender};

use super::error::JournalError;
use super::line_file::FileToSync;
use super::threads::DiskThreads;

/// The most files that are synced at the same time.
const PARALLEL_SYNCS: usize = 16;

type Outcome = Result<(), JournalError>;

/// Files for one thread, and where it sends the outcome.
type SyncJob = (Vec<FileToSync>, SyncSender<Outcome>);

/// The threads that sync files. They start when they are needed, and end when this value is dropped.
#[derive(Default)]
pub(super) struct SyncThreads(Vec<SyncSender<SyncJob>>);

impl SyncThreads {
    /// Returns once every file is synced, or with the first error once all have been tried.
    pub(super) fn sync_all(&mut self, threads: &dyn DiskThreads, files: &[FileToSync]) -> Outcome {
        let mut shares = files.chunks(files.len().div_ceil(PARALLEL_SYNCS).max(1));
        let own = shares.next().unwrap_or_default();
        let (sender, outcomes) = mpsc::sync_channel(PARALLEL_SYNCS);
        let mut missing = 0;
        let mut outcome = Ok(());
        for (n, share) in shares.enumerate() {
            match self.hand_over(threads, n, (share.to_vec(), sender.clone())) {
                Ok(()) => missing += 1,
                Err(()) => outcome = outcome.and(sync_each(share)),
            }
        }
        drop(sender);
        outcome = outcome.and(sync_each(own));
        for one in outcomes {
            missing -= 1;
            outcome = outcome.and(one);
        }
        // A thread that has panicked sent nothing.
        if missing > 0 { outcome.and(sync_each(files)) } else { outcome }
    }

    /// Gives a job to the thread with this number, and starts the thread if it does not run.
    fn hand_over(&mut self, threads: &dyn DiskThreads, thread: usize, job: SyncJob) -> Result<(), ()> {
        let job = match self.0.get(thread) {
            None => job,
            Some(running) => match running.send(job) {
                Ok(()) => return Ok(()),
                Err(ended) => ended.0,
            },
        };
        let (jobs, waiting) = mpsc::sync_channel(1);
        threads.start("sync", Box::new(move || run(&waiting))).map_err(drop)?;
        jobs.send(job).map_err(drop)?;
        match self.0.get_mut(thread) {
            Some(ended) => *ended = jobs,
            None => self.0.push(jobs),
        }
        Ok(())
    }
}

fn run(jobs: &Receiver<SyncJob>) {
    for (files, outcome) in jobs {
        // Nobody waits for the outcome only if the journal's own thread has panicked.
        drop(outcome.send(sync_each(&files)));
    }
}

fn sync_each(files: &[FileToSync]) -> Outcome {
    files.iter().try_for_each(FileToSync::sync)
}
