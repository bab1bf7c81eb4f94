//! How long transactions took.

use hdrhistogram::Histogram;
use std::time::Duration;

/// Latencies from send to block, to three digits, up to an hour.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

/// A bar of a histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Latencies from here on, in milliseconds.
    pub from_ms: f64,
    /// To here.
    pub to_ms: f64,
    /// How many.
    pub count: u64,
}

impl Latencies {
    /// In microseconds; whatever takes longer than an hour counts as an hour.
    const LONGEST_US: u64 = 3_600_000_000;

    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, Self::LONGEST_US, 3);
        Self(
            histogram.expect("one to an hour of microseconds, with three digits, are valid bounds"),
        )
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(microseconds.clamp(1, Self::LONGEST_US));
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// What this share (0 to 1) of them stayed below, in milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The longest, in milliseconds.
    pub fn longest_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    /// A histogram whose bars are twice as wide from one to the next.
    pub fn bars(&self) -> Vec<Bar> {
        let first_us = (self.0.min().max(1)).next_power_of_two() / 2;
        let mut from_us = 0;
        let mut bars = Vec::new();
        for step in self.0.iter_log(first_us.max(1), 2.0) {
            let to_us = step.value_iterated_to();
            let count = step.count_since_last_iteration();
            if count > 0 || !bars.is_empty() {
                let from_ms = from_us as f64 / 1e3;
                bars.push(Bar { from_ms, to_ms: (to_us + 1) as f64 / 1e3, count });
            }
            from_us = to_us + 1;
        }
        while bars.last().is_some_and(|bar| bar.count == 0) {
            bars.pop();
        }
        bars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        for milliseconds in 1..=1_000 {
            latencies.record(Duration::from_millis(milliseconds));
        }
        for (quantile, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let actual = latencies.quantile_ms(quantile);
            assert!((actual / expected - 1.0).abs() < 0.002, "{quantile}: {actual}");
        }
    }

    #[test]
    fn every_latency_is_in_one_bar() {
        let mut latencies = Latencies::new();
        let recorded = [0, 90, 1_000, 1_001, 7_000, 250_000, u64::MAX];
        for microseconds in recorded {
            latencies.record(Duration::from_micros(microseconds));
        }
        let bars = latencies.bars();
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), recorded.len() as u64);
        assert!(bars.windows(2).all(|pair| pair[0].to_ms <= pair[1].from_ms + f64::EPSILON));
        assert!(bars.first().is_some_and(|bar| bar.count > 0));
        assert!(bars.last().is_some_and(|bar| bar.count > 0));
        assert!(Latencies::new().bars().is_empty());
    }
}
