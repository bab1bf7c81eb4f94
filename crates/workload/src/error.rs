//! Why a workload cannot be made or measured.

use heddle_evm::ExecutionError;
use std::path::PathBuf;

/// Why a workload cannot be made or measured.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A compiled contract is missing.
    #[error("cannot read the compiled contract {}: {reason}; `npm ci --prefix tests` installs it", path.display())]
    Contract {
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A block of the set-up or of the workload cannot be executed.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// A transaction of the set-up, all of which must succeed, did not.
    #[error("transaction {index} of a set-up block failed")]
    SetUpFailed {
        /// Where in its block.
        index: usize,
    },
    /// The measured block is not what it is meant to be.
    #[error("{actual} of the block's transactions failed, {expected} were made to")]
    Failures {
        /// Transactions that were made to fail.
        expected: usize,
        /// Transactions that did.
        actual: usize,
    },
    /// The system refuses threads.
    #[error("cannot start workers: {0}")]
    Workers(#[from] std::io::Error),
}
