//! A parent state in memory that can be made to fail.

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use heddle_evm::{AccountState, StateChanges, StateError, account_info};
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

#[derive(Debug, Clone, Default)]
pub(crate) struct TestState {
    pub(crate) accounts: BTreeMap<Address, (AccountState, HashMap<U256, U256>)>,
    code: HashMap<B256, Bytecode>,
    pub(crate) fail_reads: bool,
    /// How long a read of an account or a slot takes.
    pub(crate) read_takes: Duration,
    /// Reading the code of this account panics.
    pub(crate) panic_on_code_of: Option<Address>,
}

impl TestState {
    pub(crate) fn insert(&mut self, address: Address, nonce: u64, balance: U256, code: &Bytes) {
        let mut account = AccountState { nonce, balance, code_hash: KECCAK256_EMPTY };
        if !code.is_empty() {
            account.code_hash = keccak256(code);
            self.code.insert(account.code_hash, Bytecode::new_raw(code.clone()));
        }
        self.accounts.insert(address, (account, HashMap::new()));
    }

    pub(crate) fn set_slot(&mut self, address: Address, slot: U256, value: U256) {
        let (_, storage) = self.accounts.get_mut(&address).expect("the account exists");
        storage.insert(slot, value);
    }

    pub(crate) fn nonce(&self, address: &Address) -> u64 {
        self.accounts.get(address).map_or(0, |(account, _)| account.nonce)
    }

    /// Moves on to the state after a block; the changes must start from this one.
    pub(crate) fn apply(&mut self, changes: &StateChanges) {
        for (hash, code) in &changes.code {
            assert_eq!(*hash, keccak256(code));
            self.code.insert(*hash, Bytecode::new_raw(code.clone()));
        }
        for (address, change) in &changes.accounts {
            let former = self.accounts.remove(address);
            assert_eq!(change.before, former.as_ref().map(|(account, _)| *account), "{address}");
            let mut storage = former.map_or_else(HashMap::new, |(_, storage)| storage);
            if change.wiped {
                storage.clear();
            }
            for (slot, value) in &change.storage {
                let before = storage.insert(*slot, value.after).unwrap_or_default();
                assert_eq!(before, value.before, "slot {slot} of {address}");
                assert_ne!(before, value.after, "slot {slot} of {address} did not change");
            }
            storage.retain(|_, value| !value.is_zero());
            match change.after {
                Some(account) => drop(self.accounts.insert(*address, (account, storage))),
                None => assert!(storage.is_empty(), "{address} is gone but has storage"),
            }
        }
    }

    fn check(&self) -> Result<(), StateError> {
        if !self.read_takes.is_zero() {
            std::thread::sleep(self.read_takes);
        }
        if self.fail_reads { Err(StateError::new("the disk is gone")) } else { Ok(()) }
    }
}

impl DatabaseRef for TestState {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.check()?;
        Ok(self.accounts.get(&address).map(|(account, _)| account_info(account)))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        let broken = self.panic_on_code_of.and_then(|address| self.accounts.get(&address));
        assert!(
            broken.is_none_or(|(account, _)| account.code_hash != hash),
            "the code reader is broken"
        );
        self.check()?;
        let code = self.code.get(&hash).cloned();
        code.ok_or_else(|| StateError::new(format!("no code with hash {hash}")))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.check()?;
        let account = self.accounts.get(&address);
        Ok(account.and_then(|(_, storage)| storage.get(&slot)).copied().unwrap_or_default())
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.check()?;
        Ok(keccak256(number.to_be_bytes()))
    }
}
