//! The canonical chain: one head, everything below it, and how a block gets on top.
//!
//! Owns which block is the head; how a block is executed and sealed on it ([`Chain::produce`],
//! [`Chain::produce_after`], [`Chain::commit`]); how one that others made is validated, executed and verified
//! ([`Chain::import`]); how the head moves between branches ([`Chain::set_head`]); and chain files
//! ([`Chain::import_chain_file`], [`Chain::export_chain_file`]); and how a chain from a dump takes its
//! place ([`Chain::load`]). A change becomes visible as a whole: state, history, look-ups and the head together, and subscribers hear of it once, in
//! order.
//!
//! Promises: every block goes through the parallel executor and carries real roots. A block that
//! breaks a rule of its fork, from Frontier to Osaka and the blob-parameter forks after it, is
//! refused with that rule ([`ImportError`]), and nothing changes; a branch is executed and verified
//! in memory before the head goes over to it. Readers are never blocked by a block in the making; a
//! [`State`] stays what it was when it was taken.
//!
//! Leaves to others: which transactions go into a block (`builder`), the tables (`store`), what
//! executing means (`evm`, `parallel`). Proof-of-work seals are not verified by anybody: whoever
//! imports blocks from before the merge must trust where they come from.

mod alter;
mod block;
mod chain;
mod error;
mod file;
mod genesis;
mod import;
mod import_error;
mod kept_trie;
mod load;
mod offered;
mod produce;
mod range;
mod recent_blocks;
mod rules;
mod scratch;
mod stages;
mod state;
mod tip;
mod validate;
mod verify;
mod witness;

pub use alter::Alterations;
pub use block::ChainBlock;
pub use chain::{Chain, ChainEvent};
pub use error::ChainError;
pub use file::{ChainFileError, FILE_BLOCK_BYTES_MAX, ImportProgress, ImportSummary};
pub use genesis::GenesisBlock;
pub use heddle_store::StoredAccount;
pub use import::{ImportStatus, Imported, SIDE_BRANCH_EXECUTED_MAX};
pub use import_error::{ImportError, OptionalField};
pub use load::NewChain;
pub use offered::Offered;
pub use produce::{BlockAttributes, ProducedBlock};
pub use rules::BlockRules;
pub use scratch::Scratch;
pub use stages::BlockStages;
pub use state::{CodeCache, State};
pub use tip::Tip;
pub use verify::block_input;
pub use witness::Witness;
