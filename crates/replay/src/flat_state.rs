//! The state before a block, as a tracer took it down: flat, in memory, incomplete where nothing
//! was there.

use crate::Prestate;
use alloy_consensus::Header;
use alloy_primitives::{
    Address, B256, KECCAK256_EMPTY, U256, keccak256,
    map::{AddressMap, B256Map, HashMap},
};
use heddle_evm::{STORAGE_ONLY_CODE_HASH, StateError};
use heddle_parallel::{Location, TxIndex};
use parking_lot::Mutex;
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering},
};

/// The state before a block. What it lacks reads as empty and zero. Accounts carry their code,
/// analysed once however many accounts share it.
#[derive(Debug, Clone, Default)]
pub struct FlatState {
    /// `None` where the bundle says that there is no account.
    accounts: AddressMap<Option<AccountInfo>>,
    storage: HashMap<(Address, U256), U256>,
    code: B256Map<Bytecode>,
    block_hashes: HashMap<u64, B256>,
}

impl FlatState {
    pub(crate) fn new(
        header: &Header,
        prestate: &Prestate,
        block_hashes: impl IntoIterator<Item = (u64, B256)>,
    ) -> Result<Self, (Address, String)> {
        let mut state =
            Self { block_hashes: block_hashes.into_iter().collect(), ..Self::default() };
        if let Some(parent) = header.number.checked_sub(1) {
            state.block_hashes.entry(parent).or_insert(header.parent_hash);
        }
        for (address, account) in &prestate.accounts {
            let Some(account) = account else {
                state.accounts.insert(*address, None);
                continue;
            };
            let mut info = AccountInfo {
                balance: account.balance.0,
                nonce: account.nonce.0,
                ..Default::default()
            };
            if !account.code.is_empty() {
                let hash = keccak256(&account.code);
                let code = match state.code.get(&hash) {
                    Some(code) => code.clone(),
                    None => Bytecode::new_raw_checked(account.code.clone())
                        .map_err(|error| (*address, error.to_string()))?,
                };
                state.code.entry(hash).or_insert_with(|| code.clone());
                info.code_hash = hash;
                info.code = Some(code);
            } else if account.has_only_storage() {
                info.code_hash = STORAGE_ONLY_CODE_HASH;
                info.code = None;
            }
            state.accounts.insert(*address, Some(info));
            let slots = account.storage.iter();
            state.storage.extend(slots.map(|(slot, value)| ((*address, slot.0), value.0)));
        }
        Ok(state)
    }

    /// Number of accounts.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Number of storage slots.
    pub fn slots(&self) -> usize {
        self.storage.len()
    }

    pub(crate) fn has_code(&self, address: Address) -> bool {
        let account = self.accounts.get(&address).and_then(Option::as_ref);
        account.is_some_and(|account| self.code.contains_key(&account.code_hash))
    }

    pub(crate) fn knows_account(&self, address: Address) -> bool {
        self.accounts.contains_key(&address)
    }

    /// An account that does not exist has no storage, which goes without saying.
    pub(crate) fn knows_slot(&self, address: Address, slot: U256) -> bool {
        self.storage.contains_key(&(address, slot))
            || self.accounts.get(&address).is_some_and(Option::is_none)
    }

    pub(crate) fn knows_block_hash(&self, number: u64) -> bool {
        self.block_hashes.contains_key(&number)
    }
}

impl DatabaseRef for FlatState {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        Ok(self.accounts.get(&address).cloned().flatten())
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        if hash == KECCAK256_EMPTY || hash == STORAGE_ONLY_CODE_HASH {
            return Ok(Bytecode::default());
        }
        let code = self.code.get(&hash).cloned();
        code.ok_or_else(|| StateError::new(format!("the bundle has no code with hash {hash}")))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        Ok(self.storage.get(&(address, slot)).copied().unwrap_or_default())
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        let hash = self.block_hashes.get(&number).copied();
        hash.ok_or_else(|| {
            StateError::new(format!("the bundle's blockHashes lack block {number}, which is read"))
        })
    }
}

/// A read of an account or slot that the bundle does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingRead {
    /// The first transaction that reads it.
    pub transaction: TxIndex,
    /// What is read.
    pub location: Location,
}

impl fmt::Display for MissingRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {} reads {}", self.transaction, self.location)
    }
}

/// A [`FlatState`] that takes down which reads it has no answer for.
#[derive(Debug)]
pub(crate) struct WatchedState<'a> {
    state: &'a FlatState,
    transaction: AtomicU32,
    missing: Mutex<Vec<MissingRead>>,
}

/// In place of a transaction: the block's own reads around its transactions (system calls,
/// withdrawals, the DAO fork), which no tracer of transactions sees.
const OUTSIDE: u32 = u32::MAX;

impl<'a> WatchedState<'a> {
    pub(crate) const fn new(state: &'a FlatState) -> Self {
        Self { state, transaction: AtomicU32::new(OUTSIDE), missing: Mutex::new(Vec::new()) }
    }

    /// Names the transaction that reads from here on.
    pub(crate) fn enter(&self, transaction: Option<TxIndex>) {
        // One thread reads and writes it; it is atomic only because a state must be shareable.
        self.transaction.store(transaction.map_or(OUTSIDE, |tx| tx.0), Ordering::Relaxed);
    }

    pub(crate) fn into_missing(self) -> Vec<MissingRead> {
        self.missing.into_inner()
    }

    fn miss(&self, location: Location) {
        let transaction = self.transaction.load(Ordering::Relaxed);
        if transaction != OUTSIDE {
            self.missing.lock().push(MissingRead { transaction: TxIndex(transaction), location });
        }
    }
}

impl DatabaseRef for WatchedState<'_> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        if !self.state.knows_account(address) {
            self.miss(Location::Account(address));
        }
        self.state.basic_ref(address)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        self.state.code_by_hash_ref(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        if !self.state.knows_slot(address, slot) {
            self.miss(Location::Slot(address, slot));
        }
        self.state.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.state.block_hash_ref(number)
    }
}
