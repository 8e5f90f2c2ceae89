//! Takes files out of a journal when they are due, so that they can be finished.

use std::time::Duration;

use jiff::Timestamp;

use super::{Journal, OpenFile};
use crate::journal::finish::Unfinished;

/// The most unfinished files, open or closed. This bounds templates that contain the time.
const MAX_UNFINISHED: usize = 8192;

impl Journal {
    /// Takes out the files that are due, at most `room`, least recently written first. Files that exceed
    /// `room` keep growing until a later call.
    pub(crate) fn rotate(&mut self, now: Timestamp, room: usize) -> Vec<Unfinished> {
        if !self.settle_log() {
            return Vec::new();
        }
        let mut taken: Vec<Unfinished> = self.leftovers.drain(..room.min(self.leftovers.len())).collect();
        let rotation = self.settings.rotation;
        // If the disk has no room, small files are not worth finishing early.
        let large = self.files.values().map(|file| file.lines.synced).max().unwrap_or(0).div_ceil(2).max(1);
        let pressed = std::mem::take(&mut self.pressed);
        let is_due = |file: &OpenFile| {
            let len = file.lines.synced;
            rotation.is_due(len, file.opened, now) || (pressed && len >= large)
        };
        let mut due: Vec<(u64, String)> = self
            .files
            .iter()
            .filter(|(_, file)| is_due(file))
            .map(|(stem, file)| (file.wave, stem.clone()))
            .collect();
        if self.files.len() > MAX_UNFINISHED {
            let oldest = self.files.iter().min_by_key(|(_, file)| file.wave);
            due.extend(oldest.map(|(stem, file)| (file.wave, stem.clone())));
        }
        due.sort_unstable();
        for (_, stem) in due.into_iter().take(room - taken.len()) {
            taken.extend(self.take_out(&stem, now));
        }
        taken
    }

    /// Takes out every file, for a clean end.
    pub(crate) fn take_all(&mut self, now: Timestamp) -> Vec<Unfinished> {
        if !self.settle_log() {
            return Vec::new();
        }
        let mut taken = std::mem::take(&mut self.leftovers);
        let stems: Vec<String> = self.files.keys().cloned().collect();
        taken.extend(stems.iter().filter_map(|stem| self.take_out(stem, now)));
        taken
    }

    /// Returns whether a crash can no longer bring back a record that was cut off.
    fn settle_log(&mut self) -> bool {
        let settled = self.id_log.settle_cut(self.disk.as_ref());
        settled.inspect_err(|error| tracing::warn!("{error}; files are finished later")).is_ok()
    }

    fn take_out(&mut self, stem: &str, now: Timestamp) -> Option<Unfinished> {
        if let Err(error) = self.files.get_mut(stem)?.lines.settle_cut(self.disk.as_ref()) {
            tracing::warn!("{error}; the file is finished later");
            return None;
        }
        let file = self.files.remove(stem)?;
        self.lengths.forget(&file.lines.path);
        self.quota.finished(now);
        Some(Unfinished { base: file.base, len: file.lines.synced })
    }

    /// How long until a file is due by its age; `None` if there is none.
    pub(crate) fn next_rotation(&self, now: Timestamp) -> Option<Duration> {
        let remaining = |file: &OpenFile| self.settings.rotation.remaining(file.opened, now);
        self.files.values().map(remaining).min()
    }
}
