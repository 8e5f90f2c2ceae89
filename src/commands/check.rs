//! Runs `check`: checks the configuration, then the broker and every sink, and reports the cause of each
//! failure. It changes nothing. Without `--subscribe` it only logs in, with a connection id of its own. With
//! `--subscribe` it browses the queue, which consumes nothing but creates the queue, and looks whether the connection
//! id of the bridge is in use.

mod addresses;
mod certificates;
mod report;
mod source;
mod waiting_events;

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio::runtime::Builder;

use self::report::{CheckError, Report};
use super::{Console, Exit, configured};
use crate::bridge::{dead_letter_stores, sink_context};
use crate::config::{Settings, SinkRegistry, SubscriptionSettings, load};
use crate::finding::codes;
use crate::tls::{TlsError, TlsServer, shown_certificates};

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Only check the configuration; connect to nothing
    #[arg(long, conflicts_with = "subscribe")]
    pub offline: bool,
    /// Browse the queue too, which consumes nothing: look for the keys of the events that wait, at their timestamps, and
    /// whether the connection id is in use. The first time this makes a queue that fills from then on, also when nobody
    /// reads it
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
        source::check(&subscription.source, browses.then_some(&settings.keying), report).await?;
        check_sinks(subscription, &settings, report).await?;
    }
    check_dead_letters(&settings, report).await?;
    check_admin(&settings, report)?;
    let shown = shown_certificates();
    if shown.is_empty() {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    report.part("certificates", Ok::<_, CheckError>(certificates::findings(&shown, now)))
}

/// The address itself may be that of a bridge which runs.
fn check_admin(settings: &Settings, report: &mut Report<'_>) -> io::Result<()> {
    let Some((_, tls)) = settings.admin.listen.zip(settings.admin.tls.clone()) else { return Ok(()) };
    let held = |error: TlsError| CheckError::held(codes::ADMIN_TLS, error.to_string());
    report.part("admin", TlsServer::new(tls).map(|_| Vec::new()).map_err(held))
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
