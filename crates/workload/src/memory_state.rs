//! State in memory, as cheap to read as it can be.

use alloy_primitives::{
    Address, B256, KECCAK256_EMPTY, U256, keccak256,
    map::{AddressMap, B256Map, U256Map},
};
use heddle_evm::{AccountState, StateChanges, StateError, account_info};
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};

/// A whole state in hash maps. Accounts carry their code, so that reading one is one look-up.
#[derive(Debug, Clone, Default)]
pub struct MemoryState {
    accounts: AddressMap<AccountInfo>,
    storage: AddressMap<U256Map<U256>>,
    code: B256Map<Bytecode>,
}

impl MemoryState {
    /// Puts an account without code there.
    pub fn fund(&mut self, address: Address, balance: U256) {
        let account = AccountState { nonce: 0, balance, code_hash: KECCAK256_EMPTY };
        self.accounts.insert(address, account_info(&account));
    }

    /// Moves on to the state after a block.
    pub fn apply(&mut self, changes: &StateChanges) {
        for (hash, code) in &changes.code {
            self.code.insert(*hash, Bytecode::new_raw(code.clone()));
        }
        for (address, change) in &changes.accounts {
            if change.wiped {
                self.storage.remove(address);
            }
            if !change.storage.is_empty() {
                let slots = change.storage.iter().map(|(slot, value)| (*slot, value.after));
                self.storage.entry(*address).or_default().extend(slots);
            }
            match change.after {
                Some(account) => {
                    let mut info = account_info(&account);
                    if info.code.is_none() {
                        info.code = self.code.get(&account.code_hash).cloned();
                    }
                    self.accounts.insert(*address, info);
                }
                None => drop(self.accounts.remove(address)),
            }
        }
    }
}

impl DatabaseRef for MemoryState {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        Ok(self.accounts.get(&address).cloned())
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        let code = self.code.get(&hash).cloned();
        code.ok_or_else(|| StateError::new(format!("no code with hash {hash}")))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        let value = self.storage.get(&address).and_then(|slots| slots.get(&slot));
        Ok(value.copied().unwrap_or_default())
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        Ok(keccak256(number.to_be_bytes()))
    }
}
