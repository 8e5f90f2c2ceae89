//! Runs `check`: checks the configuration, then the broker and every sink, and reports the cause of each
//! failure. It changes nothing. Without `--subscribe` it only logs in, with its own connection id. With
//! `--subscribe` it browses the queue, which consumes nothing but creates the queue.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use tokio::runtime::Builder;

use super::{Console, Exit, configured};
use crate::bridge::{dead_letter_stores, sink_context};
use crate::budget::Budget;
use crate::config::{Settings, SinkRegistry, SubscriptionSettings};
use crate::display::one_line;
use crate::event::{Defect, Event, Message};
use crate::key::{Keying, Suggestions};
use crate::source::check;
use crate::source::config::SourceSettings;

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Only check the configuration; connect to nothing
    #[arg(long, conflicts_with = "subscribe")]
    pub offline: bool,
    /// Browse the queue too, which consumes nothing, and look for the keys of the events that wait. The first time this
    /// makes a queue that fills from then on, also when nobody reads it
    #[arg(long)]
    pub subscribe: bool,
}

/// Runs the checks and writes the results to standard output, one line each.
///
/// # Errors
/// The output can't be written, or the system refuses threads.
pub fn run(
    kinds: &SinkRegistry,
    args: &CheckArgs,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    let Some(loaded) = configured(kinds, file, env, console)? else {
        return Ok(Exit::Usage);
    };
    writeln!(console.out, "ok      configuration")?;
    if args.offline {
        return Ok(Exit::Success);
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let failed = runtime.block_on(check(loaded.settings, args.subscribe, console))?;
    runtime.shutdown_background();
    Ok(if failed == 0 { Exit::Success } else { Exit::Failure })
}

async fn check(settings: Settings, browses: bool, console: &mut Console<'_>) -> io::Result<usize> {
    let mut failed = 0;
    let origins = &settings.origins;
    let mut tell = |part: &str, outcome: Result<Vec<String>, String>| -> io::Result<()> {
        match outcome {
            Ok(findings) => {
                writeln!(console.out, "ok      {part}")?;
                let mut findings = findings.iter().map(|finding| origins.annotate(finding));
                findings.try_for_each(|finding| writeln!(console.out, "        {}", one_line(&finding)))
            }
            Err(cause) => {
                failed += 1;
                writeln!(console.out, "FAILED  {part}: {}", one_line(&origins.annotate(&cause)))
            }
        }
    };
    for subscription in &settings.subscriptions {
        check_source(&subscription.source, browses.then_some(&settings.keying), &mut tell).await?;
        check_sinks(subscription, &settings, &mut tell).await?;
    }
    check_dead_letters(&settings, &mut tell).await?;
    Ok(failed)
}

type Tell<'a> = dyn FnMut(&str, Result<Vec<String>, String>) -> io::Result<()> + 'a;

/// The most events that are browsed in a queue.
const BROWSED: u32 = 100;

/// If `keying` is given, also browses the waiting events and checks whether their keys are found.
async fn check_source(
    source: &SourceSettings,
    keying: Option<&Keying>,
    tell: &mut Tell<'_>,
) -> io::Result<()> {
    let mut own = source.clone();
    own.connection_id.push_str("-check");
    own.prefetch = BROWSED;
    let own = Arc::new(own);
    for endpoint in &own.endpoints {
        let outcome = match keying {
            None => check::log_in(endpoint, &own).await.map(|()| {
                Ok(format!(
                    "logged in as {}; whether the queue {} may be read shows only with --subscribe, which creates it",
                    own.username,
                    own.queue()
                ))
            }),
            Some(keying) => {
                let mut seen = WaitingEvents::new(keying);
                let budget = Budget::new(own.max_body);
                let see = &mut |message| {
                    seen.add(message);
                    ControlFlow::Continue(())
                };
                let browsed = check::browse(endpoint, &own, &budget, see).await;
                browsed.map(|()| seen.outcome(&own))
            }
        };
        let outcome = outcome.map_err(|error| error.to_string()).flatten();
        tell(&format!("broker {endpoint}"), outcome.map(|found| vec![found]))?;
    }
    Ok(())
}

struct WaitingEvents<'a> {
    keying: &'a Keying,
    count: u32,
    unusable: u32,
    defect: Option<Defect>,
    suggestions: Suggestions,
}

impl<'a> WaitingEvents<'a> {
    fn new(keying: &'a Keying) -> Self {
        Self { keying, count: 0, unusable: 0, defect: None, suggestions: Suggestions::default() }
    }

    fn add(&mut self, message: Message) {
        self.count += 1;
        let event = Event::new(message, self.keying);
        if let Some(defect) = event.defect.clone() {
            self.unusable += 1;
            self.suggestions.add(event.body());
            self.defect.get_or_insert(defect);
        }
    }

    /// Returns the result. It is an error if no event has a usable key, because the bridge would only write
    /// dead letters.
    fn outcome(self, source: &SourceSettings) -> Result<String, String> {
        let (queue, count) = (source.queue(), self.count);
        let may_read = format!("the queue {queue} may be read by {}", source.username);
        let Some(defect) = self.defect else {
            return Ok(match count {
                0 => format!("{may_read}; no event waits in it whose key could be looked for"),
                _ => format!("{may_read}; the keys of {count} events that wait in it were found"),
            });
        };
        let (found, advice) = (&self.suggestions, self.suggestions.advice());
        let found = format!("have no usable key by event.keys (the first: {defect}); {found}: {advice}");
        match self.unusable {
            unusable if unusable == count => Err(format!("all {count} events that wait in {queue} {found}")),
            unusable => Ok(format!("warning: {unusable} of {count} events that wait in {queue} {found}")),
        }
    }
}

/// Names the stores as the status of the bridge does.
async fn check_dead_letters(settings: &Settings, tell: &mut Tell<'_>) -> io::Result<()> {
    let stores = dead_letter_stores(settings);
    let is_one = stores.len() == 1;
    for (store, subscription) in stores.iter().zip(&settings.subscriptions) {
        let owner = subscription.sinks.first().filter(|_| !is_one);
        let part =
            owner.map_or_else(|| "dead letters".to_owned(), |sink| format!("dead letters {}", sink.name));
        tell(&part, store.probe().await.map_err(|error| error.to_string()))?;
    }
    Ok(())
}

async fn check_sinks(
    subscription: &SubscriptionSettings,
    settings: &Settings,
    tell: &mut Tell<'_>,
) -> io::Result<()> {
    for sink in &subscription.sinks {
        let context = sink_context(&sink.name, &subscription.source, settings.partitions);
        let outcome = sink.factory.build(context).probe().await;
        tell(&format!("sink {}", sink.name), outcome.map_err(|error| error.to_string()))?;
    }
    Ok(())
}
