//! Merkle-Patricia commitments: the state root of a block, computed from what the block changed.
//!
//! **Owns** the shape in which state changes travel ([`StateChanges`]), the sparse trie that
//! applies them to persisted nodes ([`SparseTrie`]), the tries of a whole state, kept in memory from
//! block to block ([`StateTrie`]) or for one root ([`state_root`]), EIP-1186 proofs ([`prove_account`]),
//! pages of what a trie holds ([`accounts_from`]) and, for verification, the root recomputed from flat state
//! by other code ([`full_state_root`], [`full_storage_root`]).
//!
//! **Promises** that work is in proportion to the change, not to the state: only nodes on changed
//! paths are read, and not those that recent changes left in memory, only dirty ones hashed; that the returned [`TrieUpdates`], applied to the nodes
//! that were read, leave exactly the nodes of the new trie and no others; and that a missing or
//! damaged node is an error that names trie and path, never a panic and never a wrong root: every
//! node read is checked against the hash by which its parent refers to it.
//!
//! **Leaves to others** where nodes are kept ([`NodeReader`] is all it asks of a store) and the
//! roots of transactions, receipts and withdrawals, which `alloy_consensus::proofs` computes.
//!
//! # How nodes are stored
//! Tries are those of the Yellow Paper, appendix D, with keys hashed by keccak-256. Nodes are kept
//! *by path*, not by hash: an account node under its path of nibbles from the root, a storage node
//! under the hashed address and that path. A node has one place, so a changed node overwrites its
//! old version and nothing has to be collected later. A node whose RLP is shorter than 32 bytes is
//! part of its parent and has no entry of its own; only the root always has one.

mod changes;
mod error;
mod full;
mod node;
mod proof;
mod range;
mod reader;
mod seal;
mod sorted_map;
mod sparse;
mod state;
mod updates;

pub use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
pub use changes::{AccountChange, AccountState, SlotChange, StateChanges};
pub use error::{NodeDefect, NodePlace, TrieError, TrieId};
pub use full::{OutOfOrder, full_state_root, full_storage_root};
pub use nybbles::Nibbles;
pub use proof::{AccountProof, StorageProof, prove_account};
pub use range::{accounts_from, slots_from};
pub use reader::{NoNodes, NodeReader, OverlayReader};
pub use sorted_map::SortedMap;
pub use sparse::{LeafValue, NodeSource, NodeUpdates, SparseTrie};
pub use state::{NODES_KEPT_MAX, StateTrie, state_root};
pub use updates::{StorageTrieUpdates, TrieUpdates};
