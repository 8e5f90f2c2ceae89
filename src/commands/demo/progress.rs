//! Shows the progress of the demo: a progress bar on a terminal, or one line each second elsewhere.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

use crate::commands::Console;
use crate::simulator::Simulator;
use crate::telemetry::Telemetry;
use crate::telemetry::status::Status;

/// Fits into 80 columns; notes follow on their own lines.
const STYLE: &str = "{bar:10.green/dim} {prefix}{msg:.yellow}";

/// The length of time over which the rate is computed.
const WINDOW: Duration = Duration::from_secs(1);

/// Reads the counters of the broker and the bridge and shows them.
pub(super) struct ProgressLine<'a, 'b> {
    simulator: &'a Simulator,
    telemetry: Arc<Telemetry>,
    events: u64,
    /// `None` if standard error is no terminal.
    bar: Option<ProgressBar>,
    console: &'a mut Console<'b>,
    /// Times and acknowledged events at these times, over the last [`WINDOW`].
    samples: VecDeque<(Instant, u64)>,
    stopping: bool,
}

impl<'a, 'b> ProgressLine<'a, 'b> {
    pub(super) fn new(
        simulator: &'a Simulator,
        telemetry: Arc<Telemetry>,
        events: NonZeroU64,
        console: &'a mut Console<'b>,
    ) -> Self {
        let target = ProgressDrawTarget::stderr();
        let bar = (!target.is_hidden() && !console.quiet).then(|| {
            let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(events.get()), target).with_style(style.progress_chars("━━─"))
        });
        let samples = VecDeque::from([(Instant::now(), 0)]);
        Self { simulator, telemetry, events: events.get(), bar, console, samples, stopping: false }
    }

    /// Shows the progress until writing fails; returns the error. Cancel-safe.
    pub(super) async fn follow(&mut self) -> io::Error {
        let mut ticks = interval(if self.bar.is_some() { WINDOW / 10 } else { WINDOW });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if let Err(error) = self.tell() {
                return error;
            }
        }
    }

    /// Notes that Ctrl-C was pressed.
    pub(super) fn stopping(&mut self) {
        self.stopping = true;
    }

    /// Notes that all events are written, and that the files are being read.
    pub(super) fn reading_back(&mut self) -> io::Result<()> {
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.simulator.stats().total().acked);
                bar.set_prefix("reading the files back");
                bar.set_message("");
                bar.tick();
                Ok(())
            }
            None => self.console.note("reading the files back"),
        }
    }

    /// Removes the bar, so that the report can be written.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn tell(&mut self) -> io::Result<()> {
        let total = self.simulator.stats().total();
        let line = format!(
            "settled {} of {} · in flight {} · {}/s",
            HumanCount(self.settled()),
            HumanCount(self.events),
            HumanCount(total.in_flight),
            HumanCount(self.rate(total.acked)),
        );
        let notes = self.notes();
        match &self.bar {
            Some(bar) => {
                bar.set_position(total.acked);
                bar.set_prefix(line);
                // Write each note on its own line under the bar.
                bar.set_message(notes.iter().map(|note| format!("\n  {note}")).collect::<String>());
                Ok(())
            }
            None => self.console.note(&[&[line][..], &notes].concat().join(" · ")),
        }
    }

    /// Returns the events acknowledged per second.
    fn rate(&mut self, acked: u64) -> u64 {
        let now = Instant::now();
        self.samples.push_back((now, acked));
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|(when, _)| now - *when >= WINDOW) {
            self.samples.pop_front();
        }
        let Some((when, before)) = self.samples.front() else { return 0 };
        ((acked - before) as f64 / (now - *when).as_secs_f64().max(0.001)) as u64
    }

    fn settled(&self) -> u64 {
        let subscriptions = self.telemetry.counters.all();
        let workers = subscriptions.iter().flat_map(|(_, subscription)| subscription.workers.all());
        workers.map(|(_, worker)| worker.durable.get() + worker.dead_lettered.total()).sum()
    }

    /// Returns the problems to show.
    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<_> =
            self.telemetry.statuses.all().iter().filter_map(|(part, state, _)| note(part, state)).collect();
        if self.stopping {
            notes.push("Ctrl-C again stops at once".to_owned());
        }
        notes
    }
}

fn note(part: &str, state: &Status) -> Option<String> {
    match state {
        Status::Ready => None,
        Status::Starting(reason) => Some(format!("{part}: {reason}")),
        Status::Retrying(reason) => Some(format!("{part}: retrying: {reason}")),
        Status::Held(reason) => Some(format!("{part}: held: {reason}")),
    }
}
