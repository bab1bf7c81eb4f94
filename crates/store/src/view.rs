use crate::codec::{HeaderRecord, decode_account, decode_word};
use crate::error::unless_damaged;
use crate::schema::{account_node_key, storage_key, storage_node_key};
use crate::store::Snapshot;
use crate::{StoreError, change_set};
use alloy_primitives::{Address, B256, Bytes, U256};
use heddle_trie::{AccountState, Nibbles, NodeReader};
use std::sync::Arc;

/// The state after one block, as it was when the view was taken: later commits do not change it.
/// Cheap to clone, and shared between threads by reference.
///
/// A view keeps alive the pages of the database that it was taken from, so one that is held for
/// long makes the file (or the memory) grow with every block committed meanwhile. Take a new view
/// for each block or request; do not store one away. After the store is closed a view's reads fail.
#[derive(Debug, Clone)]
pub struct StateView {
    snapshot: Arc<Snapshot>,
    number: u64,
    head: u64,
}

impl StateView {
    pub(crate) fn latest(snapshot: Arc<Snapshot>) -> Result<Self, StoreError> {
        let head = snapshot.head()?.number;
        Ok(Self { snapshot, number: head, head })
    }

    pub(crate) fn at(snapshot: Arc<Snapshot>, number: u64) -> Result<Self, StoreError> {
        let head = snapshot.head()?.number;
        if number > head {
            return Err(StoreError::UnknownBlock { number, head });
        }
        snapshot.check_state(number)?;
        Ok(Self { snapshot, number, head })
    }

    /// The block after which this is the state.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The account at `address`, `None` if there is none.
    ///
    /// # Errors
    /// When the database fails or holds a value that does not decode.
    pub fn account(&self, address: &Address) -> Result<Option<AccountState>, StoreError> {
        unless_damaged(|| {
            let tables = &self.snapshot.tables;
            if self.number < self.head {
                // The first block after this one that changed the account kept what it was until then.
                if let Some(number) = self.snapshot.account_changed_after(address, self.number)? {
                    return change_set::account_before(&tables.changes, number, address);
                }
            }
            match tables.accounts.get(&address.0.0)? {
                None => Ok(None),
                Some(account) => decode_account("accounts", account.value()).map(Some),
            }
        })
    }

    /// The value of a storage slot; zero if it, or the account, does not exist.
    ///
    /// # Errors
    /// When the database fails or holds a value that does not decode.
    pub fn storage(&self, address: &Address, slot: U256) -> Result<U256, StoreError> {
        unless_damaged(|| {
            let tables = &self.snapshot.tables;
            if self.number < self.head {
                let wiped = self.next_wipe(address);
                let changed = self.snapshot.slot_changed_after(address, slot, self.number)?;
                if let Some(number) =
                    changed.filter(|changed| wiped.is_none_or(|wiped| *changed <= wiped))
                {
                    return change_set::slot_before(&tables.changes, number, address, slot);
                }
                if wiped.is_some() {
                    // What is here was written later.
                    return Ok(U256::ZERO);
                }
            }
            match tables.storage.get(&storage_key(address, slot))? {
                None => Ok(U256::ZERO),
                Some(value) => decode_word("storage", value.value()),
            }
        })
    }

    /// Whether an account without nonce and code has storage all the same, so that nothing can be
    /// created there (EIP-7610).
    ///
    /// Of an older block this may say so of an account that got its storage only later, but before
    /// EIP-161, when nothing asked.
    ///
    /// # Errors
    /// When the database fails.
    pub fn has_only_storage(&self, address: &Address) -> Result<bool, StoreError> {
        unless_damaged(|| {
            if self.snapshot.storage_only.binary_search(address).is_err() {
                return Ok(false);
            }
            let (first, last) = (storage_key(address, U256::ZERO), storage_key(address, U256::MAX));
            let mut slots = self.snapshot.tables.storage.range::<&[u8; 52]>(&first..=&last)?;
            Ok(slots.next().transpose()?.is_some())
        })
    }

    /// The code with this hash. Code is kept for good, so this does not depend on the block.
    ///
    /// # Errors
    /// When the database fails.
    pub fn code(&self, hash: &B256) -> Result<Option<Bytes>, StoreError> {
        unless_damaged(|| {
            let code = self.snapshot.tables.code.get(&**hash)?;
            Ok(code.map(|code| Bytes::copy_from_slice(code.value())))
        })
    }

    /// The hash of canonical block `number`, `None` if it is not at or before the block of this
    /// view.
    ///
    /// # Errors
    /// When the database fails or holds a value that does not decode.
    pub fn block_hash(&self, number: u64) -> Result<Option<B256>, StoreError> {
        unless_damaged(|| {
            if number > self.number {
                return Ok(None);
            }
            match self.snapshot.tables.headers.get(number)? {
                None => Ok(None),
                Some(record) => HeaderRecord::decode_hash("headers", record.value()).map(Some),
            }
        })
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(crate) fn nodes_are_of_this_block(&self) -> Result<(), StoreError> {
        if self.number == self.head {
            Ok(())
        } else {
            Err(StoreError::NodesOfHistory { number: self.number })
        }
    }
}

/// Nodes are stored for the head only: a view of an older block answers with
/// [`StoreError::NodesOfHistory`].
impl NodeReader for StateView {
    type Error = StoreError;

    fn account_node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, StoreError> {
        unless_damaged(|| {
            self.nodes_are_of_this_block()?;
            if let Some(node) = self.snapshot.pending.account_node(path) {
                return Ok(node.clone());
            }
            let key = account_node_key(path);
            let node = self.snapshot.tables.account_nodes.get(key.as_slice())?;
            Ok(node.map(|node| node.value().to_vec()))
        })
    }

    fn storage_node(
        &self,
        hashed_address: B256,
        path: &Nibbles,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        unless_damaged(|| {
            self.nodes_are_of_this_block()?;
            if let Some(node) = self.snapshot.pending.storage_node(hashed_address, path) {
                return Ok(node.clone());
            }
            let key = storage_node_key(hashed_address, path);
            let node = self.snapshot.tables.storage_nodes.get(key.as_slice())?;
            Ok(node.map(|node| node.value().to_vec()))
        })
    }
}
