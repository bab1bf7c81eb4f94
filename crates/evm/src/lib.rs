//! One Ethereum block through revm, in order: the reference executor.
//!
//! Owns what executing a block means: block environment, system calls before and after the
//! transactions, receipts, EIP-7685 requests, withdrawals and rewards (all from alloy-evm), and
//! the bookkeeping that turns revm's results into [`StateChanges`]. The parallel executor must
//! agree with [`execute_block`] bit for bit, and shares everything with it except the loop over
//! the transactions.
//!
//! Promises: no panic on any block, state or transaction; an invalid transaction is an error that
//! names it, or is left out where the caller builds a block ([`InvalidTransactions::Skip`]).
//!
//! Leaves to others: whether the header is right (`chain`), roots (`trie`), where the parent state
//! comes from (anything that implements [`ParentState`]).

mod block;
mod dao;
mod inspect;
mod instructions;
mod receipt;
mod state;
mod transition;

pub use alloy_evm::{EvmEnv, eth::EthBlockExecutionCtx};
pub use block::{
    BlockInput, BlockOutput, ExecutionError, InvalidTransactions, SkippedTransaction,
    TransactionError, block_context, execute_block,
};
pub use heddle_trie::{AccountChange, AccountState, SlotChange, SortedMap, StateChanges};
pub use inspect::watched_evm;
pub use instructions::complete_instructions;
pub use receipt::{HeddleReceiptBuilder, LogBlooms, build_receipt};
pub use state::{
    BlockState, CachedAccount, ParentState, STORAGE_ONLY_CODE_HASH, SlotInOrder, StateError,
    account_info, account_state, as_stored,
};
pub use transition::BlockTransition;

use alloy_consensus::{EthereumTxEnvelope, TxEip4844, transaction::Recovered};

/// A transaction as it stands in a block: blob transactions without their sidecar.
pub type Transaction = EthereumTxEnvelope<TxEip4844>;
/// A transaction of a block together with its sender.
pub type RecoveredTransaction = Recovered<Transaction>;
/// A block with its transactions.
pub type Block = alloy_consensus::Block<Transaction>;
/// A typed receipt with its bloom; `Eip658Value` holds either status or, before Byzantium, a root.
pub type Receipt = alloy_consensus::ReceiptEnvelope;
