//! The state before a block, as a tracer took it down: flat, in memory, incomplete where nothing
//! was there.

use crate::quantity::{Quantity, Quantity64};
use alloy_consensus::Header;
use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256,
    map::{AddressMap, B256Map, HashMap},
};
use heddle_evm::StateError;
use heddle_parallel::{Location, TxIndex};
use parking_lot::Mutex;
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicU32, Ordering},
};

/// An account of the `prestateTracer` shape.
#[derive(Debug, Deserialize)]
pub(crate) struct AccountJson {
    #[serde(default)]
    balance: Quantity,
    #[serde(default)]
    nonce: Quantity64,
    #[serde(default)]
    code: Bytes,
    #[serde(default)]
    storage: BTreeMap<Quantity, Quantity>,
}

/// The state before a block. What it lacks reads as empty and zero. Accounts carry their code,
/// analysed once however many accounts share it.
#[derive(Debug, Clone, Default)]
pub struct FlatState {
    accounts: AddressMap<AccountInfo>,
    storage: HashMap<(Address, U256), U256>,
    code: B256Map<Bytecode>,
    block_hashes: HashMap<u64, B256>,
}

impl FlatState {
    pub(crate) fn new(
        header: &Header,
        accounts: BTreeMap<Address, AccountJson>,
        block_hashes: impl Iterator<Item = (u64, B256)>,
    ) -> Result<Self, (Address, String)> {
        let mut state = Self { block_hashes: block_hashes.collect(), ..Self::default() };
        if let Some(parent) = header.number.checked_sub(1) {
            state.block_hashes.entry(parent).or_insert(header.parent_hash);
        }
        for (address, account) in accounts {
            let mut info = AccountInfo {
                balance: account.balance.0,
                nonce: account.nonce.0,
                ..Default::default()
            };
            if !account.code.is_empty() {
                let hash = keccak256(&account.code);
                let code = match state.code.get(&hash) {
                    Some(code) => code.clone(),
                    None => Bytecode::new_raw_checked(account.code)
                        .map_err(|error| (address, error.to_string()))?,
                };
                state.code.entry(hash).or_insert_with(|| code.clone());
                info.code_hash = hash;
                info.code = Some(code);
            }
            state.accounts.insert(address, info);
            let slots = account.storage.into_iter();
            state.storage.extend(slots.map(|(slot, value)| ((address, slot.0), value.0)));
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
        self.accounts.get(&address).is_some_and(|account| account.code_hash != KECCAK256_EMPTY)
    }
}

impl DatabaseRef for FlatState {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        Ok(self.accounts.get(&address).cloned())
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
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
        let account = self.state.basic_ref(address)?;
        if account.is_none() {
            self.miss(Location::Account(address));
        }
        Ok(account)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        self.state.code_by_hash_ref(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        if !self.state.storage.contains_key(&(address, slot)) {
            self.miss(Location::Slot(address, slot));
        }
        self.state.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.state.block_hash_ref(number)
    }
}
