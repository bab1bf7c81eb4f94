//! When a block had better wait for transactions that are on their way.
//!
//! Recovering senders takes as long as everything else about a transfer together, so a stream of batches keeps every core
//! busy with that. A block made meanwhile takes the time from it, and takes more of it for each transaction the smaller it
//! is: every block writes the upper nodes of the tries, the accounts that all use and the pages of the database anew. So
//! what is on its way comes first, as long as that does not take too long. Where nothing is on its way, nothing waits.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// Longest time that a block waits for transactions on their way. Under such a load they wait longer for their sender to
/// be recovered.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// A block with so many transactions gains little by more of them.
const ENOUGH: usize = 16_384;

/// Batches of transactions that are about to be handed to the pool.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(AtomicUsize);

impl Arrivals {
    pub(crate) fn begin(&self) {
        // Relaxed: whoever misses it makes a block a little earlier.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it was the last one.
    pub(crate) fn end(&self) -> bool {
        // Release: whoever sees that nothing is on its way finds it all in the pool.
        self.0.fetch_sub(1, Ordering::Release) == 1
    }

    pub(crate) fn are_any(&self) -> bool {
        // Acquire: see `end`.
        self.0.load(Ordering::Acquire) > 0
    }
}

/// Since when the next block waits.
#[derive(Debug)]
pub(crate) struct Gathering {
    enough: usize,
    since: Option<Instant>,
}

impl Gathering {
    /// For a pool that holds `transactions_max`; at a quarter of that nobody is turned away yet.
    pub(crate) fn new(transactions_max: usize) -> Self {
        Self { enough: ENOUGH.min(transactions_max / 4), since: None }
    }

    /// How long the block that could be made now waits at most for transactions that are on their way, where `pending` are
    /// there. To be asked again whenever something changes.
    pub(crate) fn wait(&mut self, arrivals: &Arrivals, pending: usize, now: Instant) -> Duration {
        let left = if arrivals.are_any() && pending < self.enough {
            let since = *self.since.get_or_insert(now);
            WAIT_MAX.saturating_sub(now.saturating_duration_since(since))
        } else {
            Duration::ZERO
        };
        if left.is_zero() {
            self.end(now);
        }
        left
    }

    /// A block is made, or none is to be made: the next one waits anew.
    pub(crate) fn end(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            let waited = now.saturating_duration_since(since);
            metrics::histogram!("builder_gather_seconds").record(waited);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_waits_for_what_is_on_its_way_for_so_long_and_no_longer() {
        let (arrivals, mut gathering) = (Arrivals::default(), Gathering::new(200_000));
        let start = Instant::now();
        assert_eq!(gathering.wait(&arrivals, 1, start), Duration::ZERO, "nothing is on its way");
        arrivals.begin();
        arrivals.begin();
        assert_eq!(gathering.wait(&arrivals, 1, start), WAIT_MAX);
        let half = start + WAIT_MAX / 2;
        assert_eq!(gathering.wait(&arrivals, 1, half), WAIT_MAX / 2);
        assert!(!arrivals.end());
        assert_eq!(gathering.wait(&arrivals, 2, start + WAIT_MAX), Duration::ZERO);
        let later = start + 2 * WAIT_MAX;
        assert_eq!(gathering.wait(&arrivals, 1, later), WAIT_MAX, "the one after waits anew");
        gathering.end(later);
        let even_later = later + 2 * WAIT_MAX;
        assert_eq!(
            gathering.wait(&arrivals, 1, even_later),
            WAIT_MAX,
            "a block was made meanwhile"
        );
        assert!(arrivals.end());
        assert_eq!(gathering.wait(&arrivals, 1, even_later), Duration::ZERO);
    }

    #[test]
    fn a_block_waits_for_no_more_than_makes_it_a_large_one() {
        let arrivals = Arrivals::default();
        arrivals.begin();
        for (transactions_max, enough) in [(200_000, ENOUGH), (1_000, 250), (0, 0)] {
            let mut gathering = Gathering::new(transactions_max);
            let now = Instant::now();
            assert_eq!(gathering.wait(&arrivals, enough, now), Duration::ZERO);
            if let Some(fewer) = enough.checked_sub(1) {
                assert_eq!(gathering.wait(&arrivals, fewer, now), WAIT_MAX);
            }
        }
    }
}
