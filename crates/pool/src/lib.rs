//! Transactions waiting for a block.
//!
//! **Owns** the set of transactions that were accepted but not yet mined: their filing by sender and nonce, the split
//! into *pending* (executable now, in nonce order) and *queued* (waiting for an earlier nonce), replacement by higher
//! fees, limits with eviction, and the order in which a block builder sees them.
//!
//! **Promises**
//! - A transaction that was accepted stays until it is mined, replaced, outbid when the pool is full, unpayable,
//!   expired, or removed by name. Arrival order does not matter: a queued transaction becomes pending in the very call
//!   that closes its gap.
//! - Pending transactions of a sender always run from the account's nonce without a hole.
//! - Memory has a bound ([`PoolLimits`]), and so has the work that one call does while it holds the lock.
//! - Each rejection says what geth says ([`PoolError`]).
//! - [`Pool::best`] is a consistent snapshot: it holds no lock while it is read.
//!
//! **Leaves to others** decoding and sender recovery (`rpc`), reading state (an [`AccountReader`] that the caller
//! supplies), telling the pool of each new head (`chain`), choosing the block's contents and its gas and blob budget
//! (`builder`), and gossip. Nothing here is async and nothing here spawns.
//!
//! Differences from geth, on purpose: plain and blob transactions of a sender share one nonce line; accounts with an
//! EIP-7702 delegation are not held to one transaction in flight (a development chain sends bursts from them; the
//! per-sender limit and the next head's balance check bound the harm).

mod best;
mod contents;
mod error;
mod eviction;
mod limits;
mod pool;
mod rules;
mod sender;
mod transaction;
mod validate;

#[cfg(test)]
mod tests;

pub use best::BestTransactions;
pub use error::{Overdraft, PoolError, StateError};
pub use limits::{
    BLOB_TX_BYTES_MAX, EVICTIONS_PER_ADD_MAX, PENDING_EVENTS_CAPACITY, PRICE_BUMP_BLOB_PERCENT,
    PRICE_BUMP_PERCENT, PoolLimits, TX_BYTES_MAX,
};
pub use pool::{AccountReader, Added, Origin, Pool, SenderContent, TxStatus};
pub use rules::{PoolFork, PoolRules};
pub use sender::SenderState;
pub use transaction::{BlockTransaction, PoolTransaction, PooledTx};
pub use validate::{floor_data_gas, intrinsic_gas};
