//! The genesis block of a chain specification.

use crate::ChainError;
use alloy_consensus::Header;
use alloy_primitives::{B256, KECCAK256_EMPTY, keccak256};
use heddle_chainspec::ChainSpec;
use heddle_evm::{AccountChange, AccountState, SlotChange, StateChanges};
use heddle_store::ChainIdentity;
use heddle_trie::{NoNodes, TrieUpdates, state_root};
use std::sync::Arc;

/// The genesis header with the state it commits to.
#[derive(Debug, Clone)]
pub struct GenesisBlock {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
    /// The genesis state, as a change from nothing.
    pub changes: StateChanges,
    /// The nodes of its tries.
    pub trie: Arc<TrieUpdates>,
}

impl GenesisBlock {
    /// Works out the genesis block; the time grows with the allocation.
    pub fn new(spec: &ChainSpec) -> Result<Self, ChainError> {
        let allocation = spec.genesis_allocation().map_err(|_| ChainError::NoGenesisAllocation)?;
        let mut changes = StateChanges::default();
        for (address, account) in allocation {
            let code = account.code.clone().filter(|code| !code.is_empty());
            let code_hash = code.as_ref().map_or(KECCAK256_EMPTY, keccak256);
            if let Some(code) = code {
                changes.code.insert(code_hash, code);
            }
            let storage = account
                .storage_slots()
                .filter(|(_, value)| !value.is_zero())
                .map(|(slot, after)| {
                    (slot.into(), SlotChange { before: Default::default(), after })
                })
                .collect();
            let after = AccountState {
                nonce: account.nonce.unwrap_or_default(),
                balance: account.balance,
                code_hash,
            };
            let change = AccountChange { before: None, after: Some(after), wiped: false, storage };
            changes.accounts.insert(*address, change);
        }
        let (root, trie) = match state_root(&NoNodes, &changes) {
            Ok(sealed) => sealed,
            Err(error) => unreachable!("a trie built from nothing reads no nodes: {error}"),
        };
        let header = spec.genesis_header(root);
        Ok(Self { hash: header.hash_slow(), header, changes, trie: Arc::new(trie) })
    }

    /// What tells this chain's store from another's.
    pub fn identity(&self, spec: &ChainSpec) -> ChainIdentity {
        ChainIdentity { chain_id: spec.chain_id(), genesis_hash: self.hash }
    }
}
