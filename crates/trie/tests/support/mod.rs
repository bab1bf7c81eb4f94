//! What both test files compare against: tries built from scratch by `alloy_trie`, and a plain
//! in-memory model of a state and of its stored nodes.
#![allow(dead_code, reason = "each test file uses its part")]

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::{HashBuilder, TrieAccount, proof::ProofRetainer};
use heddle_trie::{AccountState, NodeReader, StateChanges, TrieUpdates};
use nybbles::Nibbles;
use std::collections::BTreeMap;
use std::convert::Infallible;

/// Root and stored nodes (by path) of the trie with these leaves.
pub(crate) fn from_scratch(leaves: &BTreeMap<B256, Vec<u8>>) -> (B256, BTreeMap<Nibbles, Vec<u8>>) {
    let targets = leaves.keys().map(Nibbles::unpack).collect();
    let mut builder = HashBuilder::default()
        .with_proof_retainer(ProofRetainer::<alloy_trie::proof::AddedRemovedKeys>::new(targets));
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    let root = builder.root();
    let nodes = builder
        .take_proof_nodes()
        .into_nodes_sorted()
        .into_iter()
        .filter(|(path, rlp)| (rlp.len() >= 32 || path.is_empty()) && !leaves.is_empty())
        .map(|(path, rlp)| (path, rlp.to_vec()))
        .collect();
    (root, nodes)
}

/// Applies updates to a map of stored nodes.
pub(crate) fn apply(
    nodes: &mut BTreeMap<Nibbles, Vec<u8>>,
    updates: BTreeMap<Nibbles, Option<Vec<u8>>>,
) {
    for (path, node) in updates {
        match node {
            Some(rlp) => {
                nodes.insert(path, rlp);
            }
            None => {
                let removed = nodes.remove(&path);
                assert!(removed.is_some(), "deletes a node that was never stored: {path:?}");
            }
        }
    }
}

/// Stored nodes of all tries.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Nodes {
    pub(crate) account: BTreeMap<Nibbles, Vec<u8>>,
    pub(crate) storage: BTreeMap<B256, BTreeMap<Nibbles, Vec<u8>>>,
}

impl Nodes {
    pub(crate) fn apply(&mut self, updates: TrieUpdates) {
        apply(&mut self.account, updates.account_nodes);
        for (hashed_address, updates) in updates.storage_nodes {
            let nodes = self.storage.entry(hashed_address).or_default();
            if updates.wiped {
                assert!(!nodes.is_empty(), "wipes a storage trie that was never stored");
                nodes.clear();
            }
            apply(nodes, updates.nodes);
            if nodes.is_empty() {
                self.storage.remove(&hashed_address);
            }
        }
    }
}

impl NodeReader for Nodes {
    type Error = Infallible;

    fn account_node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.account.get(path).cloned())
    }

    fn storage_node(&self, address: B256, path: &Nibbles) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.storage.get(&address).and_then(|nodes| nodes.get(path)).cloned())
    }
}

/// A state as plain maps.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) accounts: BTreeMap<Address, (AccountState, BTreeMap<U256, U256>)>,
}

impl Model {
    /// What the trie must be: the root and every stored node.
    pub(crate) fn tries(&self) -> (B256, Nodes) {
        let mut nodes = Nodes::default();
        let mut leaves = BTreeMap::new();
        for (address, (state, storage)) in &self.accounts {
            let slots = storage
                .iter()
                .map(|(slot, value)| {
                    (keccak256(slot.to_be_bytes::<32>()), alloy_rlp::encode(value))
                })
                .collect();
            let (storage_root, storage_nodes) = from_scratch(&slots);
            let hashed_address = keccak256(address);
            if !storage_nodes.is_empty() {
                nodes.storage.insert(hashed_address, storage_nodes);
            }
            let account =
                TrieAccount::new(state.nonce, state.balance, storage_root, state.code_hash);
            leaves.insert(hashed_address, alloy_rlp::encode(account));
        }
        let (root, account_nodes) = from_scratch(&leaves);
        nodes.account = account_nodes;
        (root, nodes)
    }

    pub(crate) fn apply(&mut self, changes: &StateChanges) {
        for (address, change) in &changes.accounts {
            let Some(after) = change.after else {
                self.accounts.remove(address);
                continue;
            };
            let (state, storage) = self.accounts.entry(*address).or_default();
            *state = after;
            if change.wiped {
                storage.clear();
            }
            for (slot, slot_change) in &change.storage {
                if slot_change.after.is_zero() {
                    storage.remove(slot);
                } else {
                    storage.insert(*slot, slot_change.after);
                }
            }
        }
    }
}
