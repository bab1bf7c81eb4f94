//! What can be chosen about a run, and its limits.

use crate::Endpoint;
use alloy_primitives::{B256, b256};
use heddle_workload::WorkloadKind;
use std::{path::PathBuf, time::Duration};

/// What can be chosen about a run.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where the node is.
    pub endpoint: Endpoint,
    /// What is sent.
    pub kind: WorkloadKind,
    /// How many transactions.
    pub transactions: usize,
    /// Transactions a second, whatever the node does. Without it, the next are sent when the former
    /// are answered.
    pub rate: Option<f64>,
    /// Connections that send. All transactions of an account go through the same one, in order.
    pub connections: usize,
    /// Most transactions in one request.
    pub batch: usize,
    /// Most unanswered requests on a connection. Over HTTP it is always one.
    pub in_flight: usize,
    /// Accounts that send.
    pub accounts: usize,
    /// Most transactions that are sent and in no block.
    pub pending_max: usize,
    /// The same seed makes the same choices of who does what.
    pub seed: u64,
    /// Who pays for it all.
    pub private_key: B256,
    /// The fee cap of every transaction in wei per gas; otherwise generous, and what the payer can afford.
    pub max_fee: Option<u128>,
    /// The chain id that the node must have.
    pub chain_id: Option<u64>,
    /// How long the node may do nothing.
    pub patience: Duration,
    /// Where npm put Uniswap's packages.
    pub node_modules: PathBuf,
}

impl LoadOptions {
    /// Most transactions: one takes about 1 KiB here (signed, encoded twice as long in hex, with its
    /// hash, and what it should do), so two million take 2 GiB.
    pub const TRANSACTIONS_MAX: u32 = 2_000_000;
    /// Most accounts: funding one costs the node some 40,000 gas, and checking one three questions.
    pub const ACCOUNTS_MAX: u32 = 200_000;
    /// Most connections. Nodes take some hundreds; more measure the network.
    pub const CONNECTIONS_MAX: u16 = 512;
    /// Most transactions in a request: what geth takes, and Heddle.
    pub const BATCH_MAX: u16 = 1_000;
    /// Most unanswered requests on a WebSocket; Heddle reads no further at 1,024 answers waiting.
    pub const IN_FLIGHT_MAX: u16 = 1_000;
    /// The first account of the mnemonic that development nodes share.
    pub const DEV_KEY: B256 =
        b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
}
