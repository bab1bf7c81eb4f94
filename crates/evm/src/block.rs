//! A whole block in order.

use crate::{BlockTransition, ParentState, Receipt, RecoveredTransaction, StateError};
use alloy_consensus::Header;
use alloy_eips::{eip4895::Withdrawal, eip7685::Requests};
use alloy_evm::{
    EvmEnv,
    block::{BlockExecutionError, BlockValidationError, InternalBlockExecutionError},
    eth::{EthBlockExecutionCtx, spec::EthExecutorSpec},
};
use alloy_primitives::B256;
use heddle_trie::StateChanges;
use revm::context::result::{EVMError, InvalidTransaction};
use std::borrow::Cow;

/// What to do with a transaction that cannot be in the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidTransactions {
    /// The block is invalid: for blocks that others made.
    Reject,
    /// Leave it out and go on: for a block being built.
    Skip,
}

/// A block to execute. The transactions are what a block may hold: recovered, without sidecars.
#[derive(Debug, Clone)]
pub struct BlockInput<'a> {
    /// Rules and block environment.
    pub env: EvmEnv,
    /// What system calls, rewards and withdrawals need.
    pub ctx: EthBlockExecutionCtx<'a>,
    /// Transactions in block order.
    pub transactions: &'a [RecoveredTransaction],
    /// What to do with invalid ones.
    pub invalid: InvalidTransactions,
}

/// What a block did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOutput {
    /// One receipt for each transaction that was not skipped.
    pub receipts: Vec<Receipt>,
    /// EIP-7685 requests; empty before Prague.
    pub requests: Requests,
    /// Gas of all transactions.
    pub gas_used: u64,
    /// Blob gas of all transactions; zero before Cancun.
    pub blob_gas_used: u64,
    /// Net change of state.
    pub changes: StateChanges,
    /// Transactions left out, in order; only with [`InvalidTransactions::Skip`].
    pub skipped: Vec<SkippedTransaction>,
}

/// A transaction that was left out of a block being built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedTransaction {
    /// Its place in [`BlockInput::transactions`].
    pub index: usize,
    /// Why it cannot be in this block.
    pub reason: TransactionError,
}

/// Why a transaction cannot be in a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The protocol forbids it in this state.
    #[error(transparent)]
    Invalid(#[from] InvalidTransaction),
    /// Its gas limit is more than what the block has left.
    #[error("gas limit {gas_limit} exceeds the {available} gas left in the block")]
    BlockGasExceeded {
        /// Of the transaction.
        gas_limit: u64,
        /// Block gas limit less gas used so far.
        available: u64,
    },
}

/// Why a block could not be executed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecutionError {
    /// A transaction cannot be where it is.
    #[error("transaction {index} ({hash}): {reason}")]
    InvalidTransaction {
        /// Its place in the block.
        index: usize,
        /// Its hash.
        hash: B256,
        /// What is wrong with it.
        reason: TransactionError,
    },
    /// The parent state could not be read; says nothing about the block.
    #[error(transparent)]
    State(StateError),
    /// A rule about the block as a whole is broken (for instance a system call failed).
    #[error("block: {0}")]
    Block(String),
    /// A worker panicked; a bug in the executor or the EVM, and the block counts as not executed.
    #[error("worker panicked: {0}")]
    Panic(String),
    /// The caller asked to stop.
    #[error("execution was cancelled")]
    Cancelled,
}

impl ExecutionError {
    pub(crate) fn from_block(error: BlockExecutionError) -> Self {
        match error {
            BlockExecutionError::Validation(BlockValidationError::InvalidTx { hash, error }) => {
                let reason = error
                    .as_invalid_tx_err()
                    .cloned()
                    .unwrap_or_else(|| InvalidTransaction::Str(error.to_string().into()));
                Self::InvalidTransaction { index: 0, hash, reason: reason.into() }
            }
            BlockExecutionError::Validation(
                BlockValidationError::TransactionGasLimitMoreThanAvailableBlockGas {
                    transaction_gas_limit: gas_limit,
                    block_available_gas: available,
                },
            ) => Self::InvalidTransaction {
                index: 0,
                hash: B256::ZERO,
                reason: TransactionError::BlockGasExceeded { gas_limit, available },
            },
            BlockExecutionError::Internal(InternalBlockExecutionError::EVM { error, .. }) => {
                match error.downcast_ref::<EVMError<StateError>>() {
                    Some(EVMError::Database(error)) => Self::State(error.clone()),
                    _ => Self::Block(error.to_string()),
                }
            }
            other => Self::Block(other.to_string()),
        }
    }
}

/// The execution context of the block that `header` heads.
pub fn block_context<'a>(
    header: &Header,
    ommers: &'a [Header],
    withdrawals: Option<&'a [Withdrawal]>,
) -> EthBlockExecutionCtx<'a> {
    EthBlockExecutionCtx {
        parent_hash: header.parent_hash,
        parent_beacon_block_root: header.parent_beacon_block_root,
        ommers,
        withdrawals: withdrawals.map(Cow::Borrowed),
        extra_data: header.extra_data.clone(),
        tx_count_hint: None,
        slot_number: None,
    }
}

/// Executes the transactions one after the other. This is what "the result of a block" means;
/// every other executor is measured against it.
pub fn execute_block<S, P>(
    spec: &S,
    parent: P,
    input: &BlockInput<'_>,
) -> Result<BlockOutput, ExecutionError>
where
    S: EthExecutorSpec,
    P: ParentState,
{
    let mut block = BlockTransition::begin(spec, input.env.clone(), input.ctx.clone(), parent)?;
    block.reserve(input.transactions.len());
    let mut skipped = Vec::new();
    for (index, tx) in input.transactions.iter().enumerate() {
        match block.execute(tx) {
            Ok(()) => {}
            Err(ExecutionError::InvalidTransaction { reason, .. }) => match input.invalid {
                InvalidTransactions::Skip => skipped.push(SkippedTransaction { index, reason }),
                InvalidTransactions::Reject => {
                    let hash = *tx.inner().tx_hash();
                    return Err(ExecutionError::InvalidTransaction { index, hash, reason });
                }
            },
            Err(error) => return Err(error),
        }
    }
    Ok(BlockOutput { skipped, ..block.finish()? })
}
