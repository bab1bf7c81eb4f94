//! What somebody without the state needs to execute a block and check its roots.

use crate::{Chain, ChainBlock, ChainError, State, rules::BlockRules};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use heddle_evm::{
    BlockInput, InvalidTransactions, STORAGE_ONLY_CODE_HASH, StateError, block_context,
    execute_block,
};
use heddle_store::StoreError;
use heddle_trie::{Nibbles, NodeReader, prove_account, state_root};
use parking_lot::Mutex;
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use std::collections::{BTreeMap, BTreeSet};

/// The parts of the parent's state that a block reads or that its state root is computed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witness {
    /// RLP of trie nodes, of the state's trie and of the storage tries.
    pub nodes: Vec<Bytes>,
    /// Code that is executed or looked at.
    pub codes: Vec<Bytes>,
    /// The addresses and slots that are read, unhashed.
    pub keys: Vec<Bytes>,
    /// RLP of the headers from the oldest block whose hash is read to the parent, ascending.
    pub headers: Vec<Bytes>,
}

/// Reads of the parent's state, remembered.
struct Recorder<'a> {
    state: &'a State,
    reads: Mutex<Reads>,
}

#[derive(Default)]
struct Reads {
    accounts: BTreeMap<Address, BTreeSet<U256>>,
    codes: BTreeMap<B256, Bytes>,
    oldest_block: Option<u64>,
}

impl DatabaseRef for Recorder<'_> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.reads.lock().accounts.entry(address).or_default();
        self.state.basic_ref(address)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        let code = self.state.code_by_hash_ref(hash)?;
        if !code.is_empty() && hash != STORAGE_ONLY_CODE_HASH {
            self.reads.lock().codes.insert(hash, code.original_bytes());
        }
        Ok(code)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.reads.lock().accounts.entry(address).or_default().insert(slot);
        self.state.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        let mut reads = self.reads.lock();
        reads.oldest_block = Some(reads.oldest_block.map_or(number, |oldest| oldest.min(number)));
        self.state.block_hash_ref(number)
    }
}

/// Nodes that were read.
struct RecordingNodes<R> {
    nodes: R,
    read: Mutex<BTreeMap<B256, Bytes>>,
}

impl<R> RecordingNodes<R> {
    fn record(&self, node: Option<Vec<u8>>) -> Option<Vec<u8>> {
        if let Some(rlp) = &node {
            let rlp = Bytes::copy_from_slice(rlp);
            self.read.lock().insert(keccak256(&rlp), rlp);
        }
        node
    }
}

impl<R: NodeReader> NodeReader for RecordingNodes<R> {
    type Error = R::Error;

    fn account_node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, R::Error> {
        self.nodes.account_node(path).map(|node| self.record(node))
    }

    fn storage_node(&self, account: B256, path: &Nibbles) -> Result<Option<Vec<u8>>, R::Error> {
        self.nodes.storage_node(account, path).map(|node| self.record(node))
    }
}

impl Chain {
    /// Executes a block of the chain again, in order, and gives what of its parent's state that
    /// takes.
    ///
    /// # Errors
    /// For the genesis block, which has no parent, and for a block further back than the nodes of
    /// its parent's trie can be made ([`heddle_store::Store::reorg_depth`]).
    pub fn witness(&self, block: &ChainBlock) -> Result<Witness, ChainError> {
        let header = &block.header;
        let parent = header.number.checked_sub(1).ok_or(ChainError::UnknownBlock(0))?;
        let scratch = self.scratch_at(parent)?;
        let rules = BlockRules::of(&self.spec, header);
        let recorder = Recorder { state: scratch.state(), reads: Mutex::default() };
        let output = execute_block(
            &rules,
            &recorder,
            &BlockInput {
                env: rules.evm_env(header),
                ctx: block_context(header, &block.ommers, block.withdrawals.as_deref()),
                transactions: &block.transactions,
                invalid: InvalidTransactions::Reject,
            },
        )?;
        let reads = recorder.reads.into_inner();
        let base = self.store.first_state();
        let known = scratch.nodes().ok_or_else(|| StoreError::NotWhole { base })?;
        let nodes = RecordingNodes { nodes: known, read: Mutex::default() };
        let mut keys = Vec::new();
        for (address, slots) in &reads.accounts {
            let slots: Vec<U256> = slots.iter().copied().collect();
            prove_account(&nodes, *address, &slots).map_err(StoreError::from)?;
            keys.push(Bytes::copy_from_slice(address.as_slice()));
            keys.extend(slots.iter().map(|slot| Bytes::from(slot.to_be_bytes_vec())));
        }
        // Taking something out of a trie can need nodes beside the way to it.
        let (root, _) = state_root(&nodes, &output.changes).map_err(StoreError::from)?;
        if root != header.state_root {
            return Err(ChainError::NotFromParent(header.number));
        }
        Ok(Witness {
            nodes: nodes.read.into_inner().into_values().collect(),
            codes: reads.codes.into_values().collect(),
            keys,
            headers: self.headers(reads.oldest_block.unwrap_or(parent).min(parent), parent)?,
        })
    }

    fn headers(&self, first: u64, last: u64) -> Result<Vec<Bytes>, ChainError> {
        let encoded = |number| {
            let header = self.header_by_number(number)?.ok_or(ChainError::UnknownBlock(number))?;
            Ok(alloy_rlp::encode(header.inner()).into())
        };
        (first..=last).map(encoded).collect()
    }
}
