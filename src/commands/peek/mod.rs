//! Runs `peek`: shows the next events of the queue, which stay in it, and what the bridge would do with each.

mod view;

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tokio::runtime::Builder;

use self::view::EventView;
use super::{Console, Exit, configured};
use crate::budget::Budget;
use crate::config::{Settings, SinkRegistry};
use crate::display::one_line;
use crate::event::{Event, Message};
use crate::source::check;
use crate::source::config::SourceSettings;

#[derive(Clone, Debug, Args)]
pub struct PeekArgs {
    /// How many events to show, 1 to 20000. ActiveMQ shows at most the first 400 of a queue, unless its
    /// maxBrowsePageSize says otherwise. The first ones may be those that a running bridge has taken and not
    /// acknowledged yet
    #[arg(value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub count: u32,
    /// How to show the events
    #[arg(long, value_enum, default_value_t)]
    pub format: PeekFormat,
    /// Show whole bodies as text, instead of the first 1,000 characters
    #[arg(long)]
    pub full: bool,
    /// Confirm that ActiveMQ may create the queue. It creates a queue that is browsed and does not exist yet, and the
    /// new queue fills from then on, also when nobody reads it. If a bridge with this destination id has run before, the
    /// queue exists and nothing is created
    #[arg(long)]
    pub create_queue: bool,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PeekFormat {
    /// For people: some lines for each event, safe to show in a terminal
    #[default]
    Text,
    /// For programs: a JSON object for each event, one a line
    Json,
    /// Only the bodies as the broker sent them, each with a line feed
    Raw,
}

/// Writes the next events of each queue to standard output.
///
/// # Errors
/// The output can't be written, or the system refuses to open a runtime.
pub fn run(
    kinds: &SinkRegistry,
    args: &PeekArgs,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    let Some(loaded) = configured(kinds, file, env, console)? else {
        return Ok(Exit::Usage);
    };
    if !args.create_queue {
        refuse(&loaded.settings, console)?;
        return Ok(Exit::Usage);
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut exit = Exit::Success;
    for subscription in &loaded.settings.subscriptions {
        let source = &subscription.source;
        let budget = Budget::new(loaded.settings.max_in_flight);
        let browsed = runtime.block_on(browse(source, args.count, &budget));
        show(&browsed, source, &loaded.settings, args, console)?;
        browsed.tell(source, &loaded.settings, args.count, console)?;
        if !browsed.failures.is_empty() {
            exit = Exit::Failure;
        }
    }
    runtime.shutdown_background();
    Ok(exit)
}

fn refuse(settings: &Settings, console: &mut Console<'_>) -> io::Result<()> {
    let queues: Vec<_> =
        settings.subscriptions.iter().map(|subscription| subscription.source.queue()).collect();
    writeln!(
        console.err,
        "error: ActiveMQ creates the queue {} when it is browsed, if it does not exist yet, and a client can't find out \
         whether it does; a new queue fills from then on, also when nobody reads it. Add --create-queue if a bridge has \
         consumed this queue before, or if it may be created now",
        one_line(&queues.join(", "))
    )
}

/// What one browse has brought.
#[derive(Debug, Default)]
struct Browsed {
    messages: Vec<Message>,
    /// Whether they take all the memory that they may take, so that no more were read.
    is_full: bool,
    /// Why no address gave them all, one text for each address; empty if one did.
    failures: Vec<String>,
}

/// Reads at most `count` messages of the queue from the first address that has some.
async fn browse(source: &SourceSettings, count: u32, budget: &Budget) -> Browsed {
    let mut own = source.clone();
    own.connection_id.push_str("-peek");
    own.prefetch = browser_prefetch(count);
    let own = Arc::new(own);
    let mut browsed = Browsed::default();
    for endpoint in &own.endpoints {
        let outcome =
            check::browse(endpoint, &own, budget, &mut |message| browsed.add(message, count, budget)).await;
        match outcome {
            Ok(_) => {
                browsed.failures.clear();
                return browsed;
            }
            Err(error) => browsed.failures.push(format!("broker {endpoint}: {error}")),
        }
        if !browsed.messages.is_empty() {
            break;
        }
    }
    browsed
}

/// Returns the prefetch of a browser for `count` messages. With no more than that it needs no acknowledgement, which a
/// browser would have to send to get more. ActiveMQ takes 500 for its own default, which may be less.
fn browser_prefetch(count: u32) -> u32 {
    if count == 500 { 501 } else { count }
}

impl Browsed {
    fn add(&mut self, message: Message, count: u32, budget: &Budget) -> ControlFlow<()> {
        if self.messages.len() < count as usize {
            self.messages.push(message);
        }
        self.is_full = !budget.has_room();
        let is_enough = self.is_full || self.messages.len() >= count as usize;
        if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Says on standard error why there are no more events.
    fn tell(
        &self,
        source: &SourceSettings,
        settings: &Settings,
        count: u32,
        console: &mut Console<'_>,
    ) -> io::Result<()> {
        for failure in &self.failures {
            writeln!(console.err, "error: {}", one_line(&settings.origins.annotate(failure)))?;
        }
        let (queue, shown) = (source.queue(), self.messages.len());
        let queue = one_line(&queue);
        let events = if shown == 1 { "1 event".to_owned() } else { format!("{shown} events") };
        if !self.failures.is_empty() {
            return Ok(());
        }
        let end = if shown >= count as usize {
            "as many as asked for"
        } else if self.is_full {
            "as many as source.max_in_flight has room for"
        } else if shown < BROWSE_PAGE {
            "all that the broker shows"
        } else {
            "all that the broker shows; more may wait, since ActiveMQ shows a browser no more than its \
             maxBrowsePageSize, by default 400"
        };
        match shown {
            0 => console.note(&format!("no event waits in {queue}")),
            _ => console.note(&format!("{events} of {queue}, {end}")),
        }
    }
}

/// How many messages ActiveMQ shows a browser by default (D51).
const BROWSE_PAGE: usize = 400;

fn show(
    browsed: &Browsed,
    source: &SourceSettings,
    settings: &Settings,
    args: &PeekArgs,
    console: &mut Console<'_>,
) -> io::Result<()> {
    let (queue, now) = (source.queue(), Timestamp::now());
    for (index, message) in browsed.messages.iter().enumerate() {
        let event = Event::new(message.clone(), &settings.keying);
        let view = EventView::new(&queue, &event, settings);
        match args.format {
            PeekFormat::Text => view.write_text(index + 1, now, args.full, console.out)?,
            PeekFormat::Json => view.write_json(now, console.out)?,
            PeekFormat::Raw => {
                console.out.write_all(event.body())?;
                console.out.write_all(b"\n")?;
            }
        }
    }
    console.out.flush()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::Headers;

    fn message(budget: &Budget, size: usize) -> Message {
        Message {
            id: Bytes::from_static(b"ID:1"),
            body: budget.freeze(vec![b'x'; size]),
            timestamp: None,
            redelivered: false,
            headers: Headers::empty(),
            unreadable: None,
        }
    }

    #[test]
    fn no_more_events_are_read_than_asked_for_or_than_the_memory_allows() {
        let budget = Budget::new(100);
        let mut browsed = Browsed::default();
        assert!(browsed.add(message(&budget, 10), 2, &budget).is_continue());
        assert!(browsed.add(message(&budget, 10), 2, &budget).is_break());
        assert!(browsed.add(message(&budget, 10), 2, &budget).is_break());
        assert_eq!((browsed.messages.len(), browsed.is_full), (2, false));
        let mut browsed = Browsed::default();
        assert!(browsed.add(message(&budget, 100), 9, &budget).is_break());
        assert!(browsed.is_full);
    }

    #[test]
    fn a_prefetch_that_the_broker_replaces_is_not_asked_for() {
        assert_eq!([1, 499, 500, 1000, 20_000].map(browser_prefetch), [1, 499, 501, 1000, 20_000]);
    }
}
