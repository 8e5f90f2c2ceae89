//! Checked settings into a running bridge: one subscription for all sinks, or one for each (D8), each with
//! its own source, ledger and lanes; one budget, one dead-letter store, one board of states for all.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::config::{Settings, SubscriptionSettings};
use crate::pump::dead_letters::{self, DeadLetterStore, Limits};
use crate::pump::{self, Fault, PumpParts};
use crate::sink::SinkContext;
use crate::source::Source;
use crate::source::config::SourceSettings;
use crate::source::link::Link;
use crate::source::session::Session;
use crate::source::stomp::session::{Reach, StompSession};
use crate::telemetry::counters::Counters;
use crate::telemetry::states::States;

/// A bridge that has not started yet.
pub struct Bridge {
    settings: Settings,
    counters: Arc<Counters>,
    states: States,
}

impl Bridge {
    /// Touches nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, counters: Arc::default(), states: States::default() }
    }

    /// What it counts, while it runs and after.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Which part is in which state.
    pub fn states(&self) -> States {
        self.states.clone()
    }

    /// Runs until `drain` is cancelled and everything taken is settled and acknowledged. Dropping the
    /// future abandons: what is not acknowledged comes again.
    ///
    /// # Errors
    /// A fault in the bridge itself, the first of them; never the trouble of a broker or sink, which is
    /// waited out.
    pub async fn run(self, drain: CancellationToken) -> Result<(), Fault> {
        let store = dead_letter_store(&self.settings);
        let mut pumps = JoinSet::new();
        for parts in self.pumps(&store) {
            pumps.spawn(pump::run(parts, drain.clone()));
        }
        while let Some(ended) = pumps.join_next().await {
            ended.map_err(|error| Fault::LaneEnded("pump".to_owned(), error.to_string()))??;
        }
        store.close().await;
        Ok(())
    }

    fn pumps(self, store: &Arc<dyn DeadLetterStore>) -> Vec<PumpParts> {
        let Settings { subscriptions, keying, partitions, max_in_flight, dead_letters, .. } = self.settings;
        let budget = Budget::new(max_in_flight);
        let limits = Limits::new(dead_letters.max_run, dead_letters.max_share);
        let mirrored = subscriptions.len() > 1;
        let pump = |SubscriptionSettings { source, sinks }: SubscriptionSettings| {
            let source = Arc::new(source);
            let part = match sinks.first() {
                Some(sink) if mirrored => format!("source {}", sink.name),
                _ => "source".to_owned(),
            };
            let built = sinks.into_iter().map(|sink| {
                let context = sink_context(&sink.name, &source, partitions);
                (sink.name, sink.factory.build(context))
            });
            let sinks = built.collect();
            let prefetch = source.prefetch as usize;
            let backoff = source.backoff;
            let reporter = self.states.reporter(part);
            let link = Link::start(
                source,
                Box::new(new_session),
                budget.clone(),
                Arc::clone(&self.counters),
                reporter,
            );
            PumpParts {
                source: Box::new(link) as Box<dyn Source>,
                sinks,
                keying: keying.clone(),
                prefetch,
                dead_letters: Arc::clone(store),
                limits: limits.clone(),
                backoff,
                counters: Arc::clone(&self.counters),
                states: self.states.clone(),
            }
        };
        subscriptions.into_iter().map(pump).collect()
    }
}

/// Where the settings say that dead letters go; touches nothing yet.
pub fn dead_letter_store(settings: &Settings) -> Arc<dyn DeadLetterStore> {
    // One store for all subscriptions, told of the first; settings never have none.
    let first = settings.subscriptions.first().map(|first| sink_context("dead-letters", &first.source, None));
    dead_letters::build(&settings.dead_letters, first.unwrap_or_default())
}

/// What the sink `name` of a subscription gets to know.
pub fn sink_context(name: &str, source: &SourceSettings, partitions: Option<NonZeroU32>) -> SinkContext {
    SinkContext {
        sink: name.to_owned(),
        namespace: source.namespace.clone(),
        destination_id: source.destination_id.clone(),
        connection_id: source.connection_id.clone(),
        queue: source.queue(),
        partitions,
    }
}

fn new_session(settings: Arc<SourceSettings>, budget: Budget, now: Instant) -> Box<dyn Session> {
    Box::new(StompSession::new(settings, Reach::Subscribe, budget, now))
}
