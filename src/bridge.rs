//! Turns checked settings into a running bridge. There is one subscription for all sinks, or one for each
//! (D8). Each subscription has its own source, ack tracker, sink workers and share of the memory. All share
//! one status registry and, if the dead letters are in files, one dead-letter store.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::budget::{Budget, Shares};
use crate::config::{Settings, SubscriptionSettings};
use crate::dead_letter::config::DeadLetterPlace;
use crate::dead_letter::{self, DeadLetterLimits, DeadLetterStore, ReplayMarks};
use crate::pipeline::{self, PipelineError, PipelineParts};
use crate::sink::SinkContext;
use crate::source::config::{Ordering, SourceSettings};
use crate::source::network::Tcp;
use crate::source::protocol::session::SessionMode;
use crate::source::session_factory::new_session;
use crate::source::supervisor::Supervisor;
use crate::source::{Disconnect, Source};
use crate::telemetry::Telemetry;
use crate::telemetry::bridge_status::{StatusSources, SubscriptionInfo};
use crate::telemetry::counters::SubscriptionCounters;
use crate::telemetry::health::Health;
use crate::telemetry::http::{self, ListenOptions, Pages};
use crate::telemetry::metrics::MetricsPage;
use crate::telemetry::status::StatusRegistry;

/// A bridge that has not started yet; [`Bridge::run`] starts it.
pub struct Bridge {
    settings: Settings,
    telemetry: Arc<Telemetry>,
}

impl Bridge {
    /// Makes a bridge from checked settings; opens no connection and no file.
    pub fn new(settings: Settings) -> Self {
        let origins = Arc::clone(&settings.origins);
        let states = StatusRegistry::annotated_by(move |text| origins.annotate(text));
        Self { settings, telemetry: Arc::new(Telemetry { statuses: states, ..Telemetry::default() }) }
    }

    /// The counters of the bridge and the status of its parts, while it runs and after.
    pub fn telemetry(&self) -> Arc<Telemetry> {
        Arc::clone(&self.telemetry)
    }

    /// Runs until `drain` is cancelled and every event taken is settled and acknowledged. Answers whether the
    /// broker has confirmed the acknowledgements of all subscriptions. Dropping the future abandons the rest:
    /// events that are not acknowledged come again.
    ///
    /// # Errors
    /// The first error of the bridge itself. An error of a broker or a sink is never returned: the bridge
    /// waits until it passes.
    pub async fn run(self, drain: CancellationToken) -> Result<Disconnect, PipelineError> {
        let stores = dead_letter_stores(&self.settings);
        let queues: Vec<_> =
            self.settings.subscriptions.iter().map(|subscription| subscription.source.queue()).collect();
        let budgets = Shares::new(self.settings.max_in_flight, &queues);
        // Health answers before anything is consumed, and as long as this future lives.
        let _admin = self.admin(&budgets).await;
        let telemetry = self.telemetry();
        let recording = Arc::clone(&telemetry.history).record(Arc::clone(&telemetry.counters));
        let _recording = AbortOnDropHandle::new(tokio::spawn(recording));
        let mut dispatchers = JoinSet::new();
        for parts in self.pipelines(&stores, &budgets) {
            dispatchers.spawn(pipeline::run(parts, drain.clone()));
        }
        telemetry.statuses.complete();
        let _reminders = AbortOnDropHandle::new(tokio::spawn(remind(telemetry.statuses.clone())));
        let mut disconnect = Disconnect::Confirmed;
        let mut reader_gone = None;
        while let Some(ended) = dispatchers.join_next().await {
            match ended
                .map_err(|error| PipelineError::WorkerEnded("pipeline".to_owned(), error.to_string()))?
            {
                Ok(ended) => disconnect = disconnect.max(ended),
                // Drains the other subscriptions, so that the events which their sinks hold are acknowledged.
                Err(gone @ PipelineError::ReaderGone(_)) => {
                    if !dispatchers.is_empty() {
                        drain.cancel();
                    }
                    reader_gone = Some(gone);
                }
                Err(fault) => return Err(fault),
            }
        }
        for store in stores {
            store.close().await;
        }
        match reader_gone {
            Some(gone) if disconnect == Disconnect::Confirmed => Err(gone),
            _ => Ok(disconnect),
        }
    }

    async fn admin(&self, budgets: &Shares) -> Option<AbortOnDropHandle<()>> {
        let settings = &self.settings.admin;
        let health = Health::new(self.telemetry(), settings.max_age, budgets.clone());
        let metrics = MetricsPage::new(self.telemetry(), health.clone(), budgets.clone());
        let subscriptions =
            self.settings.subscriptions.iter().map(|SubscriptionSettings { source, .. }| {
                let subscription = SubscriptionInfo {
                    connection_id: source.connection_id.clone(),
                    prefetch: source.prefetch,
                    is_strict: source.ordering == Ordering::Strict,
                };
                (source.queue(), subscription)
            });
        let status =
            StatusSources::new(self.telemetry(), health.clone(), budgets.clone(), subscriptions.collect());
        let options = ListenOptions { address: settings.listen?, tls: settings.tls.clone() };
        let reporter = self.telemetry.statuses.reporter("admin");
        Some(http::start(options, Pages { health, metrics, status }, reporter).await)
    }

    fn pipelines(self, stores: &[Arc<dyn DeadLetterStore>], budgets: &Shares) -> Vec<PipelineParts> {
        let Settings { subscriptions, keying, partitions, dead_letters, .. } = self.settings;
        let telemetry = self.telemetry;
        let limits = DeadLetterLimits::new(dead_letters.max_run, dead_letters.max_share);
        let mirrored = subscriptions.len() > 1;
        let pipeline = |((subscription, (_, budget)), store): ((_, &(String, Budget)), _)| {
            let SubscriptionSettings { source, sinks } = subscription;
            let source = Arc::new(source);
            let name = sinks.first().filter(|_| mirrored).map(|sink| sink.name.clone());
            let part = name.as_ref().map_or_else(|| "source".to_owned(), |name| format!("source {name}"));
            let queue = source.queue();
            let counters = telemetry.counters.get(&queue);
            let built = sinks.into_iter().map(|sink| {
                let context = sink_context(&sink.name, &source, partitions);
                (sink.name, sink.factory.build(context))
            });
            let sinks = built.collect();
            let prefetch = source.prefetch as usize;
            let backoff = source.backoff;
            let source = start_source(source, part, budget.clone(), Arc::clone(&counters), &telemetry);
            PipelineParts {
                name,
                queue,
                source,
                sinks,
                keying: keying.clone(),
                prefetch,
                dead_letters: Arc::clone(store),
                limits: limits.clone(),
                backoff,
                counters,
                statuses: telemetry.statuses.clone(),
                watchdog: telemetry.watchdog.clone(),
            }
        };
        subscriptions.into_iter().zip(budgets.all()).zip(stores.iter().cycle()).map(pipeline).collect()
    }
}

/// Starts the supervisor of a subscription, which reports as `part`.
fn start_source(
    settings: Arc<SourceSettings>,
    part: String,
    budget: Budget,
    counters: Arc<SubscriptionCounters>,
    telemetry: &Telemetry,
) -> Box<dyn Source> {
    let session = new_session(SessionMode::Subscribe);
    let mark = telemetry.watchdog.loop_mark(part.clone());
    let reporter = telemetry.statuses.reporter(part);
    Box::new(Supervisor::start(settings, Arc::new(Tcp), session, budget, counters, reporter, mark))
}

/// How often the log is given what it has not reported yet.
const REMIND_EVERY: Duration = Duration::from_secs(5);

async fn remind(states: StatusRegistry) {
    loop {
        sleep(REMIND_EVERY).await;
        states.remind();
    }
}

/// Makes the stores that the settings name for dead letters; opens no connection and no file. Files have one
/// store for all subscriptions. In a sink each subscription has a store of its own, since the letters name
/// the queue of their events.
pub fn dead_letter_stores(settings: &Settings) -> Vec<Arc<dyn DeadLetterStore>> {
    let stores = match &settings.dead_letters.place {
        DeadLetterPlace::Files(_) => 1,
        DeadLetterPlace::Sink(_) => usize::MAX,
    };
    let table = dead_letter_table(settings);
    // Each sink may refuse each event.
    let sinks: usize = settings.subscriptions.iter().map(|subscription| subscription.sinks.len()).sum();
    let build = |SubscriptionSettings { source, .. }: &SubscriptionSettings| {
        let context = SinkContext { table: table.clone(), ..sink_context("dead-letters", source, None) };
        let capacity = source.prefetch as usize * pipeline::IDS_PER_EVENT * sinks;
        dead_letter::build(&settings.dead_letters, context, capacity)
    };
    settings.subscriptions.iter().take(stores).map(build).collect()
}

/// The table that describes the place of the dead letters.
fn dead_letter_table(settings: &Settings) -> String {
    match &settings.dead_letters.place {
        DeadLetterPlace::Files(_) => "dead_letters".to_owned(),
        DeadLetterPlace::Sink(sink) => format!("dead_letters.{}", sink.name),
    }
}

/// Makes the writer of replay marks for the place of the dead letters; opens no connection and no file. `None` if
/// there is no subscription.
pub fn replay_marks(settings: &Settings) -> Option<Arc<dyn ReplayMarks>> {
    let table = dead_letter_table(settings);
    let source = &settings.subscriptions.first()?.source;
    let context = SinkContext { table, ..replay_context("dead-letters", source, None) };
    Some(dead_letter::build_replay_marks(&settings.dead_letters, context))
}

/// The context that the sink `name` is built with for a replay. A bridge may run at the same time, with the same
/// configuration, so the connection id is another one.
pub fn replay_context(name: &str, source: &SourceSettings, partitions: Option<NonZeroU32>) -> SinkContext {
    let connection_id = format!("{}-replay", source.connection_id);
    SinkContext { connection_id, is_replay: true, ..sink_context(name, source, partitions) }
}

/// The context that the sink `name` of a subscription is built with.
pub fn sink_context(name: &str, source: &SourceSettings, partitions: Option<NonZeroU32>) -> SinkContext {
    SinkContext {
        sink: name.to_owned(),
        namespace: source.namespace.clone(),
        destination_id: source.destination_id.clone(),
        connection_id: source.connection_id.clone(),
        queue: source.queue(),
        partitions,
        table: format!("sinks.{name}"),
        max_body: source.max_body,
        is_replay: false,
    }
}
