//! Shows how far a replay is: a progress bar on a terminal. Elsewhere only what keeps it waiting is told.

use std::fmt;
use std::io::Write;
use std::time::Instant;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::commands::Console;
use crate::telemetry::status::Status;

/// Fits into 80 columns; notes follow on their own lines.
const STYLE: &str =
    "{prefix} {bar:20.green/dim} {human_pos} of {human_len} · {rate}/s · {eta} left{msg:.yellow}";

/// Writes whole letters per second.
fn write_rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // A bar without the rate is no reason to stop.
    let _written = write!(out, "{}", HumanCount(state.per_sec() as u64));
}

/// The progress of one sink.
pub(super) struct ReplayProgress<'a> {
    /// `None` if standard error is no terminal.
    bar: Option<ProgressBar>,
    err: &'a mut dyn Write,
    is_quiet: bool,
    /// The notes that were written last, so that no note is written twice in a row. Unused with a bar.
    told: String,
}

impl<'a> ReplayProgress<'a> {
    pub(super) fn new(sink: &str, letters: u64, console: &'a mut Console<'_>) -> Self {
        let target = ProgressDrawTarget::stderr();
        let bar = (!target.is_hidden() && !console.quiet).then(|| {
            let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(letters), target);
            let style = style.progress_chars("━━─").with_key("rate", write_rate);
            bar.with_style(style).with_prefix(sink.to_owned())
        });
        Self { bar, is_quiet: console.quiet, err: &mut *console.err, told: String::new() }
    }

    /// `asked` is the signal that has asked to stop.
    pub(super) fn show(&mut self, done: u64, parts: &[(String, Status, Instant)], asked: Option<&str>) {
        let waits = parts.iter().filter_map(|(part, status, _)| match status {
            Status::Retrying(reason) => Some(format!("{part}: retrying: {reason}")),
            _ => None,
        });
        let stops = asked.map(|signal| {
            format!("{signal}: waiting for letters that are on their way; a second one stops at once")
        });
        let notes: Vec<_> = waits.chain(stops).collect();
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(notes.iter().map(|note| format!("\n  {note}")).collect::<String>());
            }
            None => {
                let notes = notes.join("\n");
                if !notes.is_empty() && notes != self.told && !self.is_quiet {
                    // A reader that has gone is no reason to stop.
                    let _told = writeln!(self.err, "{notes}");
                }
                self.told = notes;
            }
        }
    }

    /// Removes the bar, so that the report can be written.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
