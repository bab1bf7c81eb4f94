//! State in memory, as cheap to read as it can be.

use alloy_primitives::{
    Address, B256, KECCAK256_EMPTY, U256, keccak256,
    map::{AddressMap, B256Map, HashMap},
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
    storage: HashMap<(Address, U256), U256>,
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
        for code in changes.code.values() {
            self.code.insert(keccak256(code), Bytecode::new_raw(code.clone()));
        }
        for (address, change) in &changes.accounts {
            if change.wiped {
                self.storage.retain(|(owner, _), _| owner != address);
            }
            for (slot, value) in &change.storage {
                self.storage.insert((*address, *slot), value.after);
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
        Ok(self.storage.get(&(address, slot)).copied().unwrap_or_default())
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        Ok(keccak256(number.to_be_bytes()))
    }
}
