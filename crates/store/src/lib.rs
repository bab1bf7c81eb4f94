//! The durable state and history of one chain, in redb.
//!
//! **Owns** the data directory: headers, bodies, receipts, look-ups, the flat state (accounts,
//! slots, code), the nodes of its tries, and what each block overwrote, from which every older
//! state can be read and every block undone.
//!
//! **Promises** that
//! - a block becomes visible whole or not at all, and only on the head ([`Store::commit_block`]);
//! - readers have consistent snapshots and never wait for writers ([`StateView`]);
//! - after a crash at any instant the store reopens on a whole block, at most the durability window
//!   behind the last one it showed ([`DurabilityPolicy`]); [`Store::verify_state`] recomputes that
//!   block's state root from the flat state;
//! - a directory that cannot be used is refused with a sentence that says why ([`StoreError`]).
//!
//! **Leaves to others** what a block means: it knows nothing of the EVM, of forks of the protocol
//! or of which block is better; it does not recompute the state root of a block it is given.
//!
//! # Tables
//! Integers in keys are such that keys sort by them; values are described in `codec.rs`.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | name | schema version, chain id, genesis hash, finalized, safe and settled numbers, accounts that were left with storage only |
//! | `headers` | number | hash, total difficulty, RLP of the header; the last entry is the head |
//! | `block_numbers` | hash | number |
//! | `bodies` | number, piece | RLP of transactions, senders, ommers, withdrawals; see `pieces.rs` |
//! | `receipts` | number, piece | RLP without bloom filters, which follow from the logs |
//! | `transactions` | segment, start of the transaction hash, block number, index | nothing; see `lookup.rs` |
//! | `transaction_segments` | segment | its first block, how many transactions it has |
//! | `accounts` | address | nonce, code hash, balance: the state after the head |
//! | `storage` | address, slot | value: the state after the head |
//! | `code` | code hash | code |
//! | `account_nodes` | path | RLP of the node, of the account trie after the last *settled* block |
//! | `storage_nodes` | hashed address, path | RLP of the node, of a storage trie |
//! | `changes` | number, piece | all values that the block overwrote, by address and slot |
//! | `account_history` | address, last number | the blocks up to the settled one that changed the account; see `changed_at.rs` |
//! | `storage_history` | address, slot, last number | the blocks that changed the slot |
//! | `recent_logs` | number | fingerprints of the addresses and topics of its logs, of the newest blocks |
//! | `log_chunks` | last block, fingerprint, page | the same of older blocks, by fingerprint; see `log_index.rs` |
//! | `alteration_pieces` | number, place | what was altered by hand in the state before that block was made, one piece after the other |
//! | `side_blocks` | hash | header and body of a block that is not in the chain |
//!
//! The state after block *n* is read by two short look-ups: the history says which block above *n* is the first that
//! changed the account or slot, and that block's changes say what it was until then; if there is none, it has not changed
//! since and the flat state says it. A wiped storage is entered slot by slot, so that this stays
//! true. The genesis block has no changes and no history, since nothing is before it.
//!
//! # Written together
//! The keys of nodes and histories are spread over their tables, so that a block's would cost nearly a page each. They
//! wait in memory until those of several blocks are written in one go, which settles these blocks; readers find there
//! what the tables lack, and when a store is opened it is made anew from the change sets ([`StoreConfig::pending_entries_max`];
//! see `pending.rs`). [`Store::settle`] writes them at once.
//!
//! # Loaded chains
//! A store can begin at a later block than genesis ([`NewBase`]), with a state that is given as a
//! whole. Its number and the root of that state are the entry `base` in `meta`; blocks before it may
//! be there without a state.
//!
//! Or at a block of another node, whose state stays there ([`Store::fork`]): here is what was changed since, and
//! [`StateView`] tells what is not known. There are no tries then, and the nodes of blocks are empty.
//!
//! # Durability
//! Commits are visible at once and go to disk in the background, all that were made within the
//! window together, by one durable redb commit. redb never overwrites a page that the last durable
//! commit refers to, so a crash in between leaves exactly that commit. Others can commit while that one is
//! written and synced (see `disk.rs`). On a full disk
//! writes are refused, reads go on, and all is as before when there is room ([`Store::check_writable`]; see `disk.rs`).
//! When a write or a flush fails otherwise, the store takes no more writes, since what it shows might never become
//! durable, and says so until it is opened again.
//!
//! # Memory
//! A [`StateView`] keeps the pages of its snapshot: redb cannot reuse them as long as it lives, and
//! the database grows by what every block overwrites. Views are for the duration of a request or a
//! block.

// For the chain that tests of this crate and tests from outside share.
#[cfg(test)]
extern crate self as heddle_store;

mod alterations;
mod base;
mod block;
mod chain;
mod change_set;
mod changed_at;
mod closing;
mod codec;
mod commit;
mod disk;
mod error;
mod flusher;
mod keys;
mod log_index;
mod lookup;
mod open;
mod past;
mod pending;
mod pieces;
#[cfg(test)]
mod power_loss;
mod prune;
mod schema;
mod store;
mod unwritten;
mod verify;
mod verify_blocks;
mod view;
mod whole;

pub use base::NewBase;
pub use block::{
    BlockBatch, BlockId, ChainIdentity, StoredBlock, Transaction, TransactionLocation,
};
pub use chain::SIDE_BLOCKS_MAX;
pub use error::StoreError;
pub use open::DATABASE_FILE;
pub use past::{PROOF_CHANGE_BYTES_MAX, PROOF_DEPTH_BLOCKS, PastNodes};
pub use pending::PENDING_ENTRIES_MAX;
pub use prune::{Kept, Prunable, PruneDistances, PruneReport};
pub use schema::SCHEMA_VERSION;
pub use store::{CACHE_BYTES, DURABILITY_WINDOW, DurabilityPolicy, Store, StoreConfig};
pub use verify::{StateReport, TableSize};
pub use verify_blocks::BlocksReport;
pub use view::StateView;
pub use whole::StoredAccount;
