//! `check`: the configuration, then the broker and every sink, each with its cause. Changes nothing:
//! without `--subscribe` it only logs in, with a connection id of its own.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Console, Exit, configured};
use crate::bridge::{dead_letter_store, sink_context};
use crate::cli::CheckArgs;
use crate::config::{Settings, SinkKinds, SubscriptionSettings};
use crate::source::config::SourceSettings;
use crate::source::probe::probe;
use crate::source::protocol::new_session;
use crate::source::session::Reach;

/// Checks, and tells on standard output what was found, one line each.
///
/// # Errors
/// The output can't be written, or the system refuses threads.
pub fn run(
    kinds: &SinkKinds,
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
    let reach = if args.subscribe { Reach::Subscribe } else { Reach::Login };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let failed = runtime.block_on(check(loaded.settings, reach, console))?;
    runtime.shutdown_background();
    Ok(if failed == 0 { Exit::Success } else { Exit::Failure })
}

async fn check(settings: Settings, reach: Reach, console: &mut Console<'_>) -> io::Result<usize> {
    let mut failed = 0;
    let origins = &settings.origins;
    let mut tell = |part: &str, outcome: Result<Vec<String>, String>| -> io::Result<()> {
        match outcome {
            Ok(findings) => {
                writeln!(console.out, "ok      {part}")?;
                let mut findings = findings.iter().map(|finding| origins.annotate(finding));
                findings.try_for_each(|finding| writeln!(console.out, "        {finding}"))
            }
            Err(cause) => {
                failed += 1;
                writeln!(console.out, "FAILED  {part}: {}", origins.annotate(&cause))
            }
        }
    };
    for subscription in &settings.subscriptions {
        check_source(&subscription.source, reach, &mut tell).await?;
        check_sinks(subscription, &settings, &mut tell).await?;
    }
    let probed = dead_letter_store(&settings).probe().await;
    tell("dead letters", probed.map_err(|error| error.to_string()))?;
    Ok(failed)
}

type Tell<'a> = dyn FnMut(&str, Result<Vec<String>, String>) -> io::Result<()> + 'a;

async fn check_source(source: &SourceSettings, reach: Reach, tell: &mut Tell<'_>) -> io::Result<()> {
    let mut own = source.clone();
    own.connection_id.push_str("-check");
    own.prefetch = 1;
    let own = Arc::new(own);
    let new_session = new_session(reach);
    for endpoint in &own.endpoints {
        let outcome = probe(endpoint, &own, &new_session).await.map_err(|trouble| trouble.to_string());
        let found = match reach {
            Reach::Login => format!(
                "logged in as {}; whether the queue {} may be read shows only with --subscribe, which creates it",
                own.username,
                own.queue()
            ),
            Reach::Subscribe => format!("subscribed to {} as {}", own.queue(), own.username),
        };
        tell(&format!("broker {endpoint}"), outcome.map(|()| vec![found]))?;
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
