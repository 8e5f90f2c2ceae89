//! Counts durations in buckets without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The upper bounds of the buckets, in seconds. They cover half a millisecond, a disk sync, a network round
/// trip and the outage of a sink.
const BOUNDS: [f64; 18] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    1800.0,
];

/// A histogram of durations with fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One bucket for each bound, and one above the last bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// The bits of the sum in seconds, an `f64`.
    sum: AtomicU64,
}

/// The content of a histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The sum of all durations, in seconds.
    pub sum: f64,
    /// The number of durations that were counted.
    pub count: u64,
    /// For each bucket its upper bound in seconds (the last is infinite) and its own count, not cumulative.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Counts `count` things that took `took` each.
    pub fn observe(&self, took: Duration, count: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took.as_secs_f64());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(count, Ordering::Relaxed);
            let added = took.as_secs_f64() * count as f64;
            let add = |bits| Some((f64::from_bits(bits) + added).to_bits());
            // The update never fails, because `add` never gives up.
            let _always = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
    }

    /// Returns a recorder for things that end now and began at different moments.
    pub fn ending_now(&self) -> BatchRecorder<'_, Instant> {
        let since = |now: Instant, began| now.saturating_duration_since(began);
        BatchRecorder { histogram: self, now: Instant::now(), since, began: None, count: 0 }
    }

    /// Returns a recorder for the age of things with a time in milliseconds since 1970. A time that the clock has not
    /// reached counts as now.
    pub fn ages_now(&self) -> BatchRecorder<'_, i64> {
        let since =
            |now: i64, began| Duration::from_millis(now.saturating_sub(began).try_into().unwrap_or(0));
        let now = Timestamp::now().as_millisecond();
        BatchRecorder { histogram: self, now, since, began: None, count: 0 }
    }

    /// Returns the current counts. They belong to one moment only if nothing is counted meanwhile.
    pub fn snapshot(&self) -> Snapshot {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        Snapshot {
            sum: f64::from_bits(self.sum.load(Ordering::Relaxed)),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

/// Counts neighbours that began at the same moment in one step, for example the events of one batch.
#[derive(Debug)]
pub struct BatchRecorder<'a, T: Copy + PartialEq> {
    histogram: &'a Histogram,
    now: T,
    /// The time between `now` and an earlier moment.
    since: fn(T, T) -> Duration,
    began: Option<T>,
    count: u64,
}

impl<T: Copy + PartialEq> BatchRecorder<'_, T> {
    /// Counts one thing that began at `began`.
    pub fn add(&mut self, began: T) {
        if self.began != Some(began) {
            self.count_them();
            self.began = Some(began);
        }
        self.count += 1;
    }

    fn count_them(&mut self) {
        if let Some(began) = self.began {
            self.histogram.observe((self.since)(self.now, began), std::mem::take(&mut self.count));
        }
    }
}

impl<T: Copy + PartialEq> Drop for BatchRecorder<'_, T> {
    fn drop(&mut self) {
        self.count_them();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for (micros, count) in [(0, 1), (500, 2), (501, 4), (1_800_000_000, 8), (1_800_000_001, 16)] {
            histogram.observe(Duration::from_micros(micros), count);
        }
        let snapshot = histogram.snapshot();
        let filled: Vec<_> = snapshot.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.0005, 3), (0.001, 4), (1800.0, 8), (f64::INFINITY, 16)]);
        assert_eq!(snapshot.count, 31);
        assert!((snapshot.sum - (8.0 * 1800.0 + 16.0 * 1_800.000_001 + 0.003_004)).abs() < 1e-6);
    }

    #[test]
    fn what_began_together_is_counted_together_and_nothing_is_forgotten() {
        let histogram = Histogram::default();
        let mut ending = histogram.ending_now();
        let (now, second) = (ending.now, Duration::from_secs(1));
        for seconds in [9, 9, 9, 2, 9, 0] {
            ending.add(now - seconds * second);
        }
        drop(ending);
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.count, snapshot.sum), (6, 38.0));
        assert_eq!(snapshot.buckets.iter().find(|(bound, _)| *bound == 10.0), Some(&(10.0, 4)));
    }

    #[test]
    fn an_age_is_counted_from_the_clock_and_never_below_zero() {
        let histogram = Histogram::default();
        let mut ages = histogram.ages_now();
        let now = ages.now;
        for began in [now - 20_000, now - 20_000, now, now + 5_000, i64::MIN, i64::MAX] {
            ages.add(began);
        }
        drop(ages);
        let filled = histogram.snapshot().buckets.into_iter().filter(|(_, count)| *count > 0);
        assert_eq!(filled.collect::<Vec<_>>(), [(0.0005, 3), (30.0, 2), (f64::INFINITY, 1)]);
    }
}
