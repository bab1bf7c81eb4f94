//! Why a run cannot be made or finished.

use alloy_primitives::{Address, U256};
use heddle_workload::WorkloadError;
use std::time::Duration;

/// Why a run cannot be made or finished.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The address of the node is none.
    #[error("{url:?} is no address of a node: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {node}: {reason}")]
    Connect {
        /// Scheme, host and port.
        node: String,
        /// Why.
        reason: String,
    },
    /// A connection broke.
    #[error("the connection to {node} broke: {reason}")]
    Broken {
        /// Scheme, host and port.
        node: String,
        /// Why.
        reason: String,
    },
    /// The node answers with something other than JSON-RPC.
    #[error("{node} does not answer as a node does: {reason}")]
    NotJsonRpc {
        /// Scheme, host and port.
        node: String,
        /// What it does.
        reason: String,
    },
    /// The node asks to wait.
    #[error("{node} is busy: HTTP status {status}")]
    Busy {
        /// Scheme, host and port.
        node: String,
        /// 429 or 503.
        status: u16,
    },
    /// A request took too long.
    #[error("{node} did not answer within {patience:?}")]
    Silent {
        /// Scheme, host and port.
        node: String,
        /// How long it had.
        patience: Duration,
    },
    /// A method failed.
    #[error("{method} failed: {message} ({code})")]
    Refused {
        /// The method.
        method: String,
        /// JSON-RPC's error code.
        code: i64,
        /// What the node says.
        message: String,
    },
    /// A method gave something else than it should.
    #[error("{method} gave an unexpected answer: {reason}")]
    Answer {
        /// The method.
        method: String,
        /// What is wrong.
        reason: String,
    },
    /// Another chain than expected.
    #[error("the node's chain id is {actual}, not {expected}")]
    WrongChain {
        /// What was asked for.
        expected: u64,
        /// What the node has.
        actual: u64,
    },
    /// A block has no base fee.
    #[error(
        "the chain has no base fee yet; transactions with fee caps (EIP-1559) are refused before London"
    )]
    NoBaseFee,
    /// The payer has too little.
    #[error(
        "account {payer} has {balance} wei; with a fee cap of {max_fee} wei per gas the run needs {needed}; \
         --private-key names another, --txs fewer transactions"
    )]
    Unfunded {
        /// Who pays.
        payer: Address,
        /// What it has.
        balance: U256,
        /// What it would need.
        needed: U256,
        /// At the lowest fee cap that makes sense.
        max_fee: u128,
    },
    /// A private key is none.
    #[error("the private key is not valid")]
    PrivateKey,
    /// What is to be sent does not fit into memory.
    #[error("the encoded transactions take more than {limit} bytes; send fewer (--txs)")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A transaction needs more gas than a block has.
    #[error("the set-up has a transaction of {needed} gas, and the node's blocks have {limit}")]
    BlockGas {
        /// What it needs.
        needed: u64,
        /// The gas limit of the newest block.
        limit: u64,
    },
    /// Nothing gets into blocks.
    #[error("the node made no block with any of {pending} transactions within {patience:?}{hint}")]
    NotMining {
        /// How many wait.
        pending: usize,
        /// How long it had.
        patience: Duration,
        /// What may be the reason.
        hint: String,
    },
    /// The node refuses a transaction of the set-up.
    #[error("the node refused {count} transactions of the {stage}, first: {first}")]
    SetUpRefused {
        /// Funding or a step of the set-up.
        stage: String,
        /// How many.
        count: usize,
        /// What it said to one.
        first: String,
    },
    /// A transaction of the set-up, all of which must succeed, did not.
    #[error("{count} of {total} transactions of the {stage} failed on the node{hint}")]
    SetUpFailed {
        /// Funding or a step of the set-up.
        stage: String,
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
        /// What may be the reason.
        hint: String,
    },
    /// The workload cannot be made.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The system refuses.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}
