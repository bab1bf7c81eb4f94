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
    /// A transaction that must succeed did not.
    #[error("transaction {index} of the {stage} failed")]
    Failed {
        /// Where in its block.
        index: usize,
        /// Which block.
        stage: &'static str,
    },
    /// The system refuses threads.
    #[error("cannot start workers: {0}")]
    Workers(#[from] std::io::Error),
}
