use alloy_primitives::B256;
use nybbles::Nibbles;
use std::collections::BTreeMap;

/// What a change of state does to the stored nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrieUpdates {
    /// Nodes of the account trie by path: the new RLP, or `None` to delete.
    pub account_nodes: BTreeMap<Nibbles, Option<Vec<u8>>>,
    /// Changes to storage tries, by hashed address.
    pub storage_nodes: BTreeMap<B256, StorageTrieUpdates>,
}

/// What a change of state does to the stored nodes of one storage trie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageTrieUpdates {
    /// All earlier nodes of this trie are to be deleted before `nodes` is applied.
    pub wiped: bool,
    /// Nodes by path: the new RLP, or `None` to delete.
    pub nodes: BTreeMap<Nibbles, Option<Vec<u8>>>,
}

impl StorageTrieUpdates {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.wiped && self.nodes.is_empty()
    }
}

impl TrieUpdates {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.account_nodes.is_empty() && self.storage_nodes.is_empty()
    }

    /// Adds the updates of the next change, so that `self` does what the two do one after another.
    pub fn extend(&mut self, next: Self) {
        self.account_nodes.extend(next.account_nodes);
        for (hashed_address, later) in next.storage_nodes {
            let earlier = self.storage_nodes.entry(hashed_address).or_default();
            if later.wiped {
                *earlier = later;
            } else {
                earlier.nodes.extend(later.nodes);
            }
        }
    }
}
