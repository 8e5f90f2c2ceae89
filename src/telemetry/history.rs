//! Keeps how the bridge did in the last 15 minutes, for the plots of the status page. It has one sample every
//! five seconds, and a bound on them all (I4).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::time::{MissedTickBehavior, interval};

use super::counters::Counters;

/// The time between two samples.
pub const EVERY: Duration = Duration::from_secs(5);
/// The number of samples that are kept.
pub const LENGTH: usize = 180;
/// The most series that are kept; further ones are left out. A bridge with 63 sinks has 130 series.
pub const MOST_SERIES: usize = 1000;

/// What a series measures, and in which unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// How far a queue is behind, in seconds.
    Behind,
    /// Events received from a queue, per second.
    Received,
    /// Events that a sink has settled, per second.
    Settled,
    /// The mean age of events when a sink had made them durable, from the broker's timestamp, in seconds.
    Age,
}

/// Identifies a series: what is measured, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SeriesName {
    /// The name of the queue.
    pub queue: String,
    /// The name of the sink; `None` for what is measured at the queue.
    pub sink: Option<String>,
    pub measure: Measure,
}

/// The samples of the last 15 minutes.
#[derive(Debug, Default)]
pub struct History(Mutex<HistorySamples>);

#[derive(Debug, Default, Serialize)]
struct HistorySamples {
    /// When each sample was taken, in milliseconds since 1970.
    times: VecDeque<i64>,
    #[serde(serialize_with = "as_list")]
    series: BTreeMap<SeriesName, VecDeque<f32>>,
}

/// A series as the page gets it. An unknown value is `null`.
#[derive(Serialize)]
struct Series<'a> {
    #[serde(flatten)]
    name: &'a SeriesName,
    values: &'a VecDeque<f32>,
}

fn as_list<S: Serializer>(
    series: &BTreeMap<SeriesName, VecDeque<f32>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(series.iter().map(|(name, values)| Series { name, values }))
}

impl History {
    /// Takes a sample every five seconds, as long as it is polled.
    pub async fn record(self: Arc<Self>, counters: Arc<Counters>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut before = CounterReading::of(&counters);
        loop {
            ticks.tick().await;
            let now = CounterReading::of(&counters);
            self.add(Timestamp::now().as_millisecond(), now.since(&before));
            before = now;
        }
    }

    /// Returns when the last sample was taken, in milliseconds since 1970; 0 if there is none.
    pub fn latest(&self) -> i64 {
        self.samples(|samples| samples.times.back().copied().unwrap_or(0))
    }

    /// Returns the last value of a series, if it is known.
    pub fn last(&self, name: &SeriesName) -> Option<f64> {
        self.samples(|samples| {
            let value = samples.series.get(name)?.back()?;
            value.is_finite().then(|| rounded(f64::from(*value)))
        })
    }

    /// Returns all samples as JSON: their times, and the values of each series at these times.
    ///
    /// # Errors
    /// Never, as far as is known.
    pub fn json(&self) -> serde_json::Result<String> {
        self.samples(serde_json::to_string)
    }

    fn add(&self, at: i64, values: BTreeMap<SeriesName, f64>) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.add(at, values);
    }

    fn samples<T>(&self, read: impl FnOnce(&HistorySamples) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HistorySamples {
    fn add(&mut self, at: i64, mut values: BTreeMap<SeriesName, f64>) {
        push(&mut self.times, at);
        let before = self.times.len() - 1;
        for name in values.keys() {
            if self.series.len() < MOST_SERIES && !self.series.contains_key(name) {
                let mut unknown = VecDeque::with_capacity(LENGTH);
                unknown.extend(std::iter::repeat_n(f32::NAN, before));
                self.series.insert(name.clone(), unknown);
            }
        }
        for (name, series) in &mut self.series {
            push(series, rounded(values.remove(name).unwrap_or(f64::NAN)) as f32);
        }
    }
}

/// Adds a value; drops the oldest one if there are too many.
fn push<T>(all: &mut VecDeque<T>, value: T) {
    if all.len() >= LENGTH {
        all.pop_front();
    }
    all.reserve_exact(LENGTH - all.len());
    all.push_back(value);
}

/// Keeps three digits after the point, which is what a plot can show.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// What the counters say at one moment.
struct CounterReading {
    at: Instant,
    /// By queue and sink; the sink is `None` for the totals of the queue itself.
    totals: BTreeMap<(String, Option<String>), Totals>,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    /// Events that the queue has received, or the sink has settled.
    events: u64,
    /// Events with an age, and the sum of their ages in seconds.
    aged: u64,
    ages: f64,
    /// How far the queue is behind, if that is known.
    behind: Option<f64>,
}

impl CounterReading {
    fn of(counters: &Counters) -> Self {
        let mut totals = BTreeMap::new();
        for (queue, source) in counters.all() {
            for (sink, worker) in source.workers.all() {
                let ages = worker.ages.snapshot();
                let settled = worker.settled();
                let of_sink = Totals { events: settled, aged: ages.count, ages: ages.sum, behind: None };
                totals.insert((queue.clone(), Some(sink)), of_sink);
            }
            let of_queue =
                Totals { events: source.received.get(), behind: source.behind(), ..Totals::default() };
            totals.insert((queue, None), of_queue);
        }
        Self { at: Instant::now(), totals }
    }

    /// Returns the values of all series for the time from `before` to this reading.
    fn since(&self, before: &Self) -> BTreeMap<SeriesName, f64> {
        let seconds = self.at.saturating_duration_since(before.at).as_secs_f64();
        let mut values = BTreeMap::new();
        for (place, now) in &self.totals {
            // Counters begin at 0.
            let was = before.totals.get(place).copied().unwrap_or_default();
            let (queue, sink) = place;
            let name = |measure| SeriesName { queue: queue.clone(), sink: sink.clone(), measure };
            let rate = now.events.saturating_sub(was.events) as f64 / seconds;
            if sink.is_some() {
                let aged = now.aged.saturating_sub(was.aged);
                let age = if aged == 0 { f64::NAN } else { (now.ages - was.ages) / aged as f64 };
                values.extend([(name(Measure::Settled), rate), (name(Measure::Age), age)]);
            } else {
                let behind = now.behind.unwrap_or(f64::NAN);
                values.extend([(name(Measure::Received), rate), (name(Measure::Behind), behind)]);
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn name(sink: Option<&str>, measure: Measure) -> SeriesName {
        SeriesName { queue: "main.RTO.acme".to_owned(), sink: sink.map(str::to_owned), measure }
    }

    fn document(history: &History) -> Value {
        serde_json::from_str(&history.json().unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn rates_and_ages_are_those_of_the_last_five_seconds() {
        let (history, counters) = (Arc::<History>::default(), Arc::<Counters>::default());
        let source = counters.get("main.RTO.acme");
        source.received.add(1_000_000);
        let recording = tokio::spawn(Arc::clone(&history).record(Arc::clone(&counters)));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!((history.latest(), document(&history)), (0, json!({"times": [], "series": []})));

        source.received.add(100);
        source.is_subscribed.set(1);
        let worker = source.workers.get("file");
        worker.durable.add(90);
        worker.dead_lettered.add("too_large", 5);
        worker.ages.observe(Duration::from_secs(4), 90);
        tokio::time::sleep(EVERY).await;
        assert!(history.latest() > 0);
        assert_eq!(history.last(&name(None, Measure::Behind)), Some(0.0));
        assert_eq!(history.last(&name(Some("file"), Measure::Age)), Some(4.0));
        // The clock that measures a rate goes on while that of the test is stopped.
        let [received, settled] = [(None, Measure::Received), (Some("file"), Measure::Settled)]
            .map(|(sink, measure)| history.last(&name(sink, measure)).unwrap());
        assert!(received > 0.0 && (settled / received - 0.95).abs() < 0.01, "{received} {settled}");

        tokio::time::sleep(EVERY).await;
        assert_eq!(history.last(&name(Some("file"), Measure::Settled)), Some(0.0));
        assert_eq!(history.last(&name(Some("file"), Measure::Age)), None, "nothing was made durable");
        assert_eq!(document(&history)["series"].as_array().unwrap().len(), 4);
        recording.abort();
    }

    #[test]
    fn a_series_that_begins_late_or_pauses_keeps_its_place_in_time() {
        let history = History::default();
        let (early, late) = (name(None, Measure::Received), name(Some("file"), Measure::Settled));
        history.add(1, BTreeMap::from([(early.clone(), 1.0)]));
        history.add(2, BTreeMap::from([(early, 0.123_456), (late.clone(), 2.0)]));
        history.add(3, BTreeMap::from([(late, 3.0)]));
        let queue = "main.RTO.acme";
        let expected = json!({"times": [1, 2, 3], "series": [
            {"queue": queue, "sink": null, "measure": "received", "values": [1.0, 0.123, null]},
            {"queue": queue, "sink": "file", "measure": "settled", "values": [null, 2.0, 3.0]},
        ]});
        assert_eq!(document(&history), expected);
    }

    /// I4: with the most series that are kept, everything together is far below 2 MB.
    #[test]
    fn memory_is_bounded_however_long_it_runs_and_however_many_sinks_there_are() {
        let history = History::default();
        let of_sink = |n: usize| (name(Some(&format!("sink-{n}")), Measure::Age), n as f64);
        for at in 0..LENGTH as i64 * 3 {
            history.add(at, (0..MOST_SERIES + 10).map(of_sink).collect());
        }
        history.samples(|samples| {
            assert_eq!((samples.times.len(), samples.times.front()), (LENGTH, Some(&(LENGTH as i64 * 2))));
            assert_eq!(samples.series.len(), MOST_SERIES);
            let values = samples.series.values().map(|values| values.capacity() * size_of::<f32>());
            let names = samples.series.keys().map(|name| {
                size_of::<SeriesName>() + name.queue.capacity() + name.sink.as_ref().unwrap().capacity()
            });
            let bytes = values.sum::<usize>() + names.sum::<usize>();
            assert!(bytes < 1_000_000, "{bytes}");
            assert!(samples.series.values().all(|values| values.len() == LENGTH));
        });
    }
}
