//! What a run tells.

use crate::Latencies;
use serde::Serialize;
use std::time::Duration;

/// Where a run is.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// Makes accounts and the plan.
    Planning,
    /// Signs and encodes.
    Signing {
        /// So many are.
        done: usize,
        /// Of so many.
        total: usize,
    },
    /// Funds the accounts, or sends a step of the set-up.
    SettingUp {
        /// Which.
        stage: String,
        /// So many transactions are in blocks.
        done: usize,
        /// Of so many.
        total: usize,
    },
    /// The clock runs.
    Running {
        /// So many were sent.
        sent: usize,
        /// So many are in blocks.
        included: usize,
        /// Of so many.
        total: usize,
        /// Since the start.
        elapsed: Duration,
    },
    /// Compares what came of it.
    Checking {
        /// So many answers are there.
        done: usize,
        /// Of so many.
        total: usize,
    },
}

/// What a run measured, and what its checks found.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// What was sent.
    pub workload: &'static str,
    /// How many transactions were to be sent.
    pub txs: usize,
    /// How many are in the chain, once.
    pub included: usize,
    /// How many should have succeeded and did not: reverted, refused, or in no block.
    pub failed: usize,
    /// How many were made to fail and did.
    pub expected_failures: usize,
    /// How often one had to be sent again because there was no room for it.
    pub retried: usize,
    /// How often a node that had stopped with transactions in its pool (Anvil does) was told to make a
    /// block.
    pub nudges: usize,
    /// From the first send until the last was seen in a block.
    pub seconds: f64,
    /// Included a second.
    pub tps: f64,
    /// From the first send until the last answer.
    pub submit_seconds: f64,
    /// From send (at a fixed rate: from when it was due) until a block that holds it was seen.
    pub p50_ms: f64,
    /// Nine of ten took no longer.
    pub p90_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// None took longer.
    pub max_ms: f64,
    /// How many blocks hold them.
    pub blocks: usize,
    /// Gas they used together.
    pub gas: u64,
    /// Processor time that this program took for each while the clock ran, in microseconds.
    pub client_cpu_us_per_tx: f64,
    /// How many nonces, balances, token balances and counters were compared.
    pub checks: usize,
    /// Whether everything is as it should be.
    pub verified: bool,
    /// What is not, at most [`Self::FAULTS_MAX`] of it.
    pub faults: Vec<String>,
    /// How long transactions took.
    #[serde(skip)]
    pub latencies: Latencies,
}

impl LoadReport {
    /// Most faults that are kept in words.
    pub const FAULTS_MAX: usize = 20;
}
