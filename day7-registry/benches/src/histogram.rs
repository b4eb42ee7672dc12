//! How long the calls took: a histogram of constant size.
//!
//! Each power of two is cut into 64 buckets, so a percentile is exact to within 1.6 %. Counting is one relaxed
//! addition; the callers of both threads share the buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BUCKETS_PER_OCTAVE: u64 = 64;
/// From a nanosecond to eighteen minutes.
const OCTAVES: u64 = 40;

/// Durations, counted.
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        let buckets = (OCTAVES - 5) * BUCKETS_PER_OCTAVE;
        Histogram { buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket(nanos).min(self.buckets.len() - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// How many durations were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The duration that this share (0 to 1) of all recorded ones does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen >= wanted {
                return Duration::from_nanos(upper_end(index as u64));
            }
        }
        Duration::ZERO
    }
}

/// Below 128 ns a bucket is a nanosecond wide; from there on, its width doubles with each octave.
fn bucket(nanos: u64) -> usize {
    let octave = nanos.checked_ilog2().unwrap_or(0).saturating_sub(6);
    (u64::from(octave) * BUCKETS_PER_OCTAVE + (nanos >> octave)) as usize
}

fn upper_end(bucket: u64) -> u64 {
    let octave = (bucket / BUCKETS_PER_OCTAVE).saturating_sub(1);
    ((bucket - octave * BUCKETS_PER_OCTAVE + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_a_bucket_that_ends_at_most_two_percent_above_it() {
        for nanos in
            (0..2000).chain((11..40).map(|bits| (1 << bits) - 1)).chain((11..40).map(|bits| 1 << bits))
        {
            let end = upper_end(bucket(nanos) as u64);
            assert!(
                end >= nanos && end as f64 <= nanos as f64 * 1.016 + 1.0,
                "{nanos} is in the bucket to {end}"
            );
        }
    }

    #[test]
    fn quantiles_come_in_order() {
        let histogram = Histogram::new();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        let near = |share, micros: f64| {
            let got = histogram.quantile(share).as_nanos() as f64 / 1000.0;
            assert!((got / micros - 1.0).abs() < 0.02, "{got} us instead of {micros}");
        };
        near(0.5, 500.0);
        near(0.99, 990.0);
        near(1.0, 1000.0);
        assert_eq!(histogram.count(), 1000);
    }

    #[test]
    fn what_is_too_long_is_counted_as_the_longest() {
        let histogram = Histogram::new();
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 1);
    }
}
