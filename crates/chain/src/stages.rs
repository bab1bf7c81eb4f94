//! How long the stages of a block took when it came onto the chain.

use heddle_parallel::Profile;
use std::time::{Duration, Instant};

/// Of a block that was executed for this chain: how that went, and the wall time of each stage.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockStages {
    /// Workers that took part in executing it.
    pub workers: usize,
    /// Reads that were found stale.
    pub conflicts: usize,
    /// Transactions, in order and with their changes.
    pub execute: Duration,
    /// The tries after it.
    pub state_root: Duration,
    /// Roots of its transactions and receipts, beside the tries; zero if the header only had to be compared.
    pub body_roots: Duration,
    /// The database, beside the execution of the next block if there was one.
    pub commit: Duration,
}

impl BlockStages {
    pub(crate) fn executed(profile: &Profile, execute: Duration) -> Self {
        let (workers, conflicts) = (profile.workers, profile.conflicts.len());
        metrics::histogram!("chain_execute_seconds").record(execute);
        Self { workers, conflicts, execute, ..Self::default() }
    }

    pub(crate) fn set_state_root(&mut self, time: Duration) {
        metrics::histogram!("chain_state_root_seconds").record(time);
        self.state_root = time;
    }

    pub(crate) fn set_body_roots(&mut self, time: Duration) {
        metrics::histogram!("chain_body_roots_seconds").record(time);
        self.body_roots = time;
    }

    pub(crate) fn set_commit(&mut self, time: Duration) {
        metrics::histogram!("chain_commit_seconds").record(time);
        self.commit = time;
    }
}

/// What `run` gives, and how long it took.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = run();
    (done, started.elapsed())
}
