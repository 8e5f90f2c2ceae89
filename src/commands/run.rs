//! Runs `run`: mirrors events until told to stop, then drains, or abandons the rest at the deadline (D10).

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::config::shown;
use super::reload::Reload;
use super::signals::{StopSignals, hangups, survive_others};
use super::{Console, Exit, configured};
use crate::bridge::Bridge;
use crate::config::{LogFormat, Settings, SinkRegistry};
use crate::pipeline::PipelineError;
use crate::source::Disconnect;
use crate::telemetry::counters::Counters;
use crate::telemetry::logging;

/// The time between two log lines with the number of events so far.
const SUMMARY_EVERY: Duration = Duration::from_secs(60);

/// Runs until a signal to stop.
///
/// # Errors
/// Standard error can't be written, or the system refuses threads or signal handlers.
pub fn run(
    kinds: &SinkRegistry,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hangups = runtime.block_on(async { survive_others().and_then(|()| hangups()) })?;
    let env: Vec<_> = env.collect();
    let Some(loaded) = configured(kinds, file, env.iter().cloned(), console)? else {
        return Ok(Exit::Usage);
    };
    let bridge = Bridge::new(loaded.settings.clone());
    let telemetry = bridge.telemetry();
    telemetry.configuration.set(loaded.effective.iter().map(shown).collect());
    let log = &loaded.settings.log;
    let reload = Reload {
        kinds: kinds.clone(),
        file: file.map(Path::to_owned),
        env,
        given: loaded.given,
        filter: log.filter.clone(),
        log: logging::start(&log.filter, log.format == LogFormat::Json),
        telemetry,
    };
    let exit = runtime.block_on(serve(bridge, loaded.settings, reload, hangups))?;
    // After an abandoned drain, a write to a dead disk may never return, so do not wait for it.
    runtime.shutdown_background();
    Ok(exit)
}

async fn serve(bridge: Bridge, settings: Settings, reload: Reload, hangups: Signal) -> io::Result<Exit> {
    let mut stop = StopSignals::new()?;
    let mut reloads = std::pin::pin!(reload_at_each(hangups, reload));
    introduce(&settings);
    let drain_timeout = settings.drain_timeout;
    let counters = Arc::clone(&bridge.telemetry().counters);
    let summaries = tokio::spawn(summarise(Arc::clone(&counters)));
    let drain = CancellationToken::new();
    let mut running = std::pin::pin!(bridge.run(drain.clone()));
    let stopped = tokio::select! {
        biased;
        ended = &mut running => Err(ended),
        name = stop.asked() => Ok(name),
        never = &mut reloads => match never {},
        // The bridge itself does this when a sink has no reader any more and other sinks still hold events.
        () = drain.cancelled() => Ok("a sink has ended"),
    };
    let exit = match stopped {
        Err(ended) => ended_by_itself(ended),
        Ok(why) if drain_timeout.is_zero() => abandon(&format!("{why}, and shutdown.drain_timeout is 0 s")),
        Ok(why) => {
            tracing::info!("{why}: draining, for {} s at most", drain_timeout.as_secs());
            drain.cancel();
            tokio::select! {
                ended = &mut running => ended_by_itself(ended),
                name = stop.asked() => abandon(&format!("{name} again")),
                never = &mut reloads => match never {},
                () = sleep(drain_timeout) => abandon("shutdown.drain_timeout has passed"),
            }
        }
    };
    summaries.abort();
    summary(&counters);
    tell_what_is_left(&counters);
    Ok(exit)
}

/// Reads the configuration again at each SIGHUP.
async fn reload_at_each(mut hangups: Signal, mut reload: Reload) -> Infallible {
    while hangups.recv().await.is_some() {
        reload.reload().await;
    }
    pending().await
}

fn introduce(settings: &Settings) {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "atdata-bridge");
    for subscription in &settings.subscriptions {
        let source = &subscription.source;
        let sinks: Vec<_> = subscription.sinks.iter().map(|sink| sink.name.as_str()).collect();
        tracing::info!(
            queue = source.queue(),
            connection_id = source.connection_id,
            sinks = sinks.join(","),
            "subscription"
        );
    }
}

fn ended_by_itself(ended: Result<Disconnect, PipelineError>) -> Exit {
    match ended {
        Ok(Disconnect::Confirmed) => {
            tracing::info!("drained: everything taken is settled and acknowledged");
            Exit::Success
        }
        Ok(Disconnect::Unconfirmed) => {
            tracing::warn!("drained: everything taken is settled, but the last events may come again");
            Exit::Unconfirmed
        }
        Ok(Disconnect::Unsettled) => abandon("the connection to the broker is lost"),
        Err(PipelineError::ReaderGone(who)) => {
            tracing::info!("{who}: ended; what was not acknowledged stays with the broker");
            Exit::Success
        }
        Err(fault) => {
            tracing::error!(
                "a fault of the bridge itself, please report it: {fault}; what was not acknowledged comes again"
            );
            Exit::Fault
        }
    }
}

fn abandon(why: &str) -> Exit {
    tracing::warn!("{why}: abandoned; what was not acknowledged comes again");
    Exit::Abandoned
}

async fn summarise(counters: Arc<Counters>) {
    let mut ticks = interval(SUMMARY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut before = 0_u64;
    loop {
        ticks.tick().await;
        let received = counters.all().iter().map(|(_, subscription)| subscription.received.get()).sum();
        if received != before {
            summary(&counters);
            before = received;
        }
    }
}

fn summary(counters: &Counters) {
    for (queue, subscription) in counters.all() {
        tracing::info!(
            queue,
            received = subscription.received.get(),
            redelivered = subscription.redelivered.get(),
            acked = subscription.acked.get(),
            sessions = subscription.sessions.get(),
            "so far"
        );
        for (sink, worker) in subscription.workers.all() {
            tracing::info!(
                sink,
                durable = worker.durable.get(),
                dead_lettered = worker.dead_lettered.total(),
                suppressed = worker.suppressed.get(),
                retried = worker.retried.get(),
                "so far"
            );
        }
    }
}

/// Logs the events that this process received and that the broker still has.
fn tell_what_is_left(counters: &Counters) {
    for (queue, subscription) in counters.all() {
        let (taken, received) = (subscription.in_flight.get(), subscription.left.get());
        if taken > 0 || received > 0 {
            tracing::info!(
                queue,
                "left to the broker, which delivers them again: {taken} taken and not settled, {received} received \
                 and not taken"
            );
        }
    }
}
