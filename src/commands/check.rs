//! Runs `check`: checks the configuration, then the broker and every sink, and reports the cause of each
//! failure. It changes nothing. Without `--subscribe` it only logs in, with its own connection id. With
//! `--subscribe` it browses the queue, which consumes nothing but creates the queue.

mod addresses;
mod certificates;
mod report;

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::runtime::Builder;

use self::report::{Failure, Report};
use super::{Console, Exit, configured};
use crate::bridge::{dead_letter_stores, sink_context};
use crate::budget::Budget;
use crate::config::{Settings, SinkRegistry, SubscriptionSettings, load};
use crate::event::{Defect, Event, Message};
use crate::finding::{Finding, codes};
use crate::key::{Keying, Suggestions};
use crate::source::check;
use crate::source::config::SourceSettings;
use crate::tls::shown_certificates;

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Only check the configuration; connect to nothing
    #[arg(long, conflicts_with = "subscribe")]
    pub offline: bool,
    /// Browse the queue too, which consumes nothing, and look for the keys of the events that wait. The first time this
    /// makes a queue that fills from then on, also when nobody reads it
    #[arg(long)]
    pub subscribe: bool,
    /// Write each result as a JSON object on a line of its own: part, level (ok, warning, error), code, message, and
    /// for an error state (refused, held: somebody must act; retrying: it passes by itself)
    #[arg(long)]
    pub json: bool,
    /// End with exit code 1 after warnings too
    #[arg(long)]
    pub strict: bool,
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
    let loaded = match args.json {
        false => configured(kinds, file, env, console)?,
        true => match load(kinds, file, env) {
            Ok(loaded) => Some(loaded),
            Err(errors) => {
                Report::new(console.out, true).refused(&errors.0)?;
                None
            }
        },
    };
    let Some(loaded) = loaded else { return Ok(Exit::Usage) };
    let mut report = Report::new(console.out, args.json);
    report.configured(loaded.settings.origins.clone(), &loaded.warnings)?;
    if !args.offline {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(check(loaded.settings, args.subscribe, &mut report))?;
        runtime.shutdown_background();
    }
    let Report { failures, warnings, .. } = report;
    if args.strict && failures == 0 && warnings > 0 {
        writeln!(console.err, "error: {warnings} of the results are warnings, and --strict is set")?;
        return Ok(Exit::Failure);
    }
    Ok(if failures == 0 { Exit::Success } else { Exit::Failure })
}

async fn check(settings: Settings, browses: bool, report: &mut Report<'_>) -> io::Result<()> {
    for subscription in &settings.subscriptions {
        check_source(&subscription.source, browses.then_some(&settings.keying), report).await?;
        check_sinks(subscription, &settings, report).await?;
    }
    check_dead_letters(&settings, report).await?;
    let shown = shown_certificates();
    if shown.is_empty() {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    report.part("certificates", Ok::<_, Failure>(certificates::findings(&shown, now)))
}

/// The most events that are browsed in a queue.
const BROWSED: u32 = 100;

/// If `keying` is given, also browses the waiting events and checks whether their keys are found.
async fn check_source(
    source: &SourceSettings,
    keying: Option<&Keying>,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let mut own = source.clone();
    own.connection_id.push_str("-check");
    own.prefetch = BROWSED;
    let own = Arc::new(own);
    for endpoint in &own.endpoints {
        let outcome = match keying {
            None => check::log_in(endpoint, &own).await.map_err(Failure::from).map(|()| {
                let message = format!(
                    "logged in as {}; whether the queue {} may be read shows only with --subscribe, which creates it",
                    own.username,
                    own.queue()
                );
                Finding::detail(codes::SOURCE_LOGIN, message)
            }),
            Some(keying) => {
                let mut seen = WaitingEvents::new(keying);
                let budget = Budget::new(own.max_body);
                let see = &mut |message| {
                    seen.add(message);
                    ControlFlow::Continue(())
                };
                let browsed = check::browse(endpoint, &own, &budget, see).await;
                browsed.map_err(Failure::from).and_then(|()| seen.outcome(&own))
            }
        };
        let mut outcome = outcome.map(|found| vec![found]);
        if let Ok(found) = &mut outcome {
            let tried = check::try_addresses(endpoint, own.connect_timeout).await;
            found.extend(addresses::finding(endpoint, &tried));
        }
        report.part(&format!("broker {endpoint}"), outcome)?;
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
    fn outcome(self, source: &SourceSettings) -> Result<Finding, Failure> {
        let (queue, count) = (source.queue(), self.count);
        let may_read = format!("the queue {queue} may be read by {}", source.username);
        let Some(defect) = self.defect else {
            let message = match count {
                0 => format!("{may_read}; no event waits in it whose key could be looked for"),
                _ => format!("{may_read}; the keys of {count} events that wait in it were found"),
            };
            return Ok(Finding::detail(codes::SOURCE_QUEUE, message));
        };
        let (found, advice) = (&self.suggestions, self.suggestions.advice());
        let found = format!("have no usable key by event.keys (the first: {defect}); {found}: {advice}");
        if self.unusable == count {
            let message = format!("all {count} events that wait in {queue} {found}");
            return Err(Failure::held(codes::SOURCE_ALL_KEYS_MISSING, message));
        }
        let message = format!("{} of {count} events that wait in {queue} {found}", self.unusable);
        Ok(Finding::warning(codes::SOURCE_SOME_KEYS_MISSING, message))
    }
}

/// Names the stores as the status of the bridge does.
async fn check_dead_letters(settings: &Settings, report: &mut Report<'_>) -> io::Result<()> {
    let stores = dead_letter_stores(settings);
    let is_one = stores.len() == 1;
    for (store, subscription) in stores.iter().zip(&settings.subscriptions) {
        let owner = subscription.sinks.first().filter(|_| !is_one);
        let part =
            owner.map_or_else(|| "dead letters".to_owned(), |sink| format!("dead letters {}", sink.name));
        report.part(&part, store.probe().await)?;
    }
    Ok(())
}

async fn check_sinks(
    subscription: &SubscriptionSettings,
    settings: &Settings,
    report: &mut Report<'_>,
) -> io::Result<()> {
    for sink in &subscription.sinks {
        let context = sink_context(&sink.name, &subscription.source, settings.partitions);
        let outcome = sink.factory.build(context).probe().await;
        report.part(&format!("sink {}", sink.name), outcome)?;
    }
    Ok(())
}
