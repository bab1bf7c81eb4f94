//! Checking what is stored, and measuring it.

use crate::codec::{decode_account, decode_word};
use crate::error::unless_damaged;
use crate::past::root_of;
use crate::{BlockId, Store, StoreError};
use alloy_primitives::{Address, B256, U256, keccak256};
use heddle_trie::{
    EMPTY_ROOT_HASH, Nibbles, OutOfOrder, TrieAccount, full_state_root, full_storage_root,
};
use redb::ReadableTable;

/// What a verification found to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateReport {
    /// The block whose state was checked.
    pub head: BlockId,
    /// Its state root.
    pub state_root: B256,
    /// Accounts in that state.
    pub accounts: u64,
    /// Non-zero storage slots in that state.
    pub slots: u64,
    /// Pieces of code that are kept.
    pub code: u64,
}

/// How much a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSize {
    /// Name of the table.
    pub name: &'static str,
    /// Entries in it.
    pub entries: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Bytes of its pages beyond that: what finds the entries, and what is left empty.
    pub overhead_bytes: u64,
}

impl TableSize {
    /// What its pages take of the file.
    pub const fn used_bytes(&self) -> u64 {
        self.bytes + self.overhead_bytes
    }
}

impl Store {
    /// Recomputes the state root of the head from the flat state, with none of the incremental
    /// code, and compares it with the header and with the stored root node.
    ///
    /// Reads all of the state; holds about 140 bytes an account, and the slots of one account at a
    /// time, in memory.
    ///
    /// # Errors
    /// [`StoreError::WrongStateRoot`] or [`StoreError::OrphanStorage`] if the state is not right;
    /// or when the database fails.
    pub fn verify_state(&self) -> Result<StateReport, StoreError> {
        unless_damaged(|| {
            let span = tracing::info_span!("verify_state");
            let _entered = span.enter();
            let snapshot = self.snapshot();
            let head = snapshot.head()?;
            snapshot.base.check_whole()?;
            let tables = &snapshot.tables;
            let expected = root_of(&snapshot, head.number)?;
            let check = |actual| {
                if actual == expected {
                    return Ok(());
                }
                Err(StoreError::WrongStateRoot { number: head.number, actual, expected })
            };

            let mut storages =
                StorageRoots { slots: 0, iterator: tables.storage.iter()?, ahead: None };
            let mut accounts = Vec::new();
            for entry in tables.accounts.iter()? {
                let (address, account) = entry?;
                let address = Address::from(address.value());
                let account = decode_account("accounts", account.value())?;
                let storage_root = storages.next_root_of(address)?;
                let leaf = TrieAccount::new(
                    account.nonce,
                    account.balance,
                    storage_root,
                    account.code_hash,
                );
                accounts.push((keccak256(address), leaf));
            }
            if let Some((address, ..)) = storages.next_slot()? {
                return Err(StoreError::OrphanStorage { address });
            }
            let found = accounts.len() as u64;
            accounts.sort_unstable_by_key(|(hashed_address, _)| *hashed_address);
            let damaged = |error: OutOfOrder| StoreError::damaged("accounts", error.to_string());
            let state_root = full_state_root(accounts).map_err(damaged)?;
            check(state_root)?;
            let root_node =
                heddle_trie::NodeReader::account_node(&self.latest()?, &Nibbles::new())?;
            check(root_node.map_or(EMPTY_ROOT_HASH, keccak256))?;
            let code = crate::verify_blocks::verify_code(&snapshot)?;
            Ok(StateReport { head, state_root, accounts: found, slots: storages.slots, code })
        })
    }

    /// How much each table holds.
    ///
    /// # Errors
    /// When the database fails.
    pub fn table_sizes(&self) -> Result<Vec<TableSize>, StoreError> {
        unless_damaged(|| self.snapshot().tables.sizes())
    }
}

/// Walks the flat storage beside the flat accounts: both are in order of address.
struct StorageRoots<'t> {
    slots: u64,
    iterator: redb::Range<'t, &'static [u8; 52], &'static [u8]>,
    /// A slot that was read and belongs to a later account.
    ahead: Option<(Address, U256, U256)>,
}

impl StorageRoots<'_> {
    fn next_slot(&mut self) -> Result<Option<(Address, U256, U256)>, StoreError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let Some(entry) = self.iterator.next() else {
            return Ok(None);
        };
        let (key, value) = entry?;
        let (address, slot) = key.value().split_at(20);
        let value = decode_word("storage", value.value())?;
        Ok(Some((Address::from_slice(address), U256::from_be_slice(slot), value)))
    }

    fn next_root_of(&mut self, account: Address) -> Result<B256, StoreError> {
        let mut slots = Vec::new();
        while let Some((address, slot, value)) = self.next_slot()? {
            if address < account {
                return Err(StoreError::OrphanStorage { address });
            }
            if address > account {
                self.ahead = Some((address, slot, value));
                break;
            }
            slots.push((keccak256(slot.to_be_bytes::<32>()), value));
        }
        self.slots += slots.len() as u64;
        slots.sort_unstable_by_key(|(hashed_slot, _)| *hashed_slot);
        full_storage_root(slots).map_err(|error| StoreError::damaged("storage", error.to_string()))
    }
}
