//! What can go wrong on the chain.

use alloy_primitives::B256;
use heddle_evm::{ExecutionError, StateError};
use heddle_store::StoreError;
use std::sync::Arc;

/// Why the chain could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChainError {
    /// The store failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// State could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The block could not be executed.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// There is no such block on the canonical chain.
    #[error("block {0} not found")]
    UnknownBlock(u64),
    /// The parent of a block is not on the canonical chain.
    #[error("parent {0} not found")]
    UnknownParent(B256),
    /// The parallel executor and the sequential one disagree: a bug in one of them. The block counts
    /// as not executed.
    #[error("the parallel and the sequential execution of block {0} differ")]
    ExecutorsDiffer(u64),
    /// The state of a block does not follow from its parent's and its transactions, because a
    /// development client altered it in between.
    #[error("block {0} does not follow from its parent alone: the state was altered before it")]
    NotFromParent(u64),
    /// The chain specification does not say what the genesis state is.
    #[error("the chain specification has no genesis allocation; give a genesis file that has one")]
    NoGenesisAllocation,
    /// Proof-of-work blocks can be imported but not made.
    #[error("block {0} would come before the merge, and proof-of-work blocks are not produced")]
    BeforeMerge(u64),
    /// A block must be later than its parent.
    #[error("timestamp {timestamp} is not after the parent's, {parent}")]
    TimestampTooOld {
        /// Asked for, in seconds.
        timestamp: u64,
        /// Of the parent, in seconds.
        parent: u64,
    },
    /// The chain was replaced by another one while it was read.
    #[error("the chain was just replaced; ask again")]
    Replaced,
    /// There is no state root to compare.
    #[error("this chain is a fork of another node's, on which blocks of others cannot be verified")]
    NotVerifiable,
    /// The chain went on while the block was made.
    #[error("the block was made on {parent}, but the head is now {head}")]
    HeadMoved {
        /// Parent of the block.
        parent: B256,
        /// The head.
        head: B256,
    },
}

impl ChainError {
    /// Whether what was asked for was there and is not kept any more.
    pub fn is_pruned(&self) -> bool {
        matches!(self, Self::Store(error) if matches!(**error, StoreError::Pruned { .. }))
    }
}

impl From<StoreError> for ChainError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
