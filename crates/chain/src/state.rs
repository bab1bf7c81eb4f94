//! State as executors and readers see it.

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, map::B256Map};
use heddle_evm::{AccountState, StateChanges, StateError, account_info};
use heddle_store::StateView;
use parking_lot::RwLock;
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use std::{fmt, sync::Arc};

/// Code by hash, analysed once. Shared by every view of the state, since code never changes.
#[derive(Debug, Default)]
pub struct CodeCache(RwLock<CachedCode>);

#[derive(Debug, Default)]
struct CachedCode {
    by_hash: B256Map<Bytecode>,
    bytes: usize,
}

impl CodeCache {
    /// Bytes of code kept: some ten thousand contracts of the largest size, far more than a
    /// block's working set. Beyond it the cache starts anew, which costs one look-up for each
    /// contract still in use.
    pub const BYTES_MAX: usize = 256 << 20;

    fn get(&self, hash: &B256) -> Option<Bytecode> {
        self.0.read().by_hash.get(hash).cloned()
    }

    fn insert(&self, hash: B256, code: Bytecode) {
        let mut cached = self.0.write();
        if cached.bytes > Self::BYTES_MAX {
            *cached = CachedCode::default();
        }
        cached.bytes += code.len();
        cached.by_hash.insert(hash, code);
    }
}

/// The state after one block, for as long as it is held.
#[derive(Clone)]
pub struct State {
    view: Arc<StateView>,
    /// Changes above the stored state, for a block that is not on the chain.
    above: Option<Arc<StateChanges>>,
    code: Arc<CodeCache>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("number", &self.view.number())
            .finish_non_exhaustive()
    }
}

impl State {
    pub(crate) const fn new(view: Arc<StateView>, code: Arc<CodeCache>) -> Self {
        Self {
            view,
            above: None,
            code,
        }
    }

    pub(crate) fn view(&self) -> &StateView {
        &self.view
    }

    /// The state after a further block that made `changes`.
    pub fn with_changes(&self, changes: Arc<StateChanges>) -> Self {
        Self {
            above: Some(changes),
            ..self.clone()
        }
    }

    /// The account, `None` where there is none.
    pub fn account(&self, address: Address) -> Result<Option<AccountState>, StateError> {
        if let Some(change) = self
            .above
            .as_ref()
            .and_then(|above| above.accounts.get(&address))
        {
            return Ok(change.after);
        }
        self.view.account(&address).map_err(StateError::new)
    }

    /// The value of a storage slot, zero where there is none.
    pub fn storage_at(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        if let Some(change) = self
            .above
            .as_ref()
            .and_then(|above| above.accounts.get(&address))
        {
            if let Some(slot) = change.storage.get(&slot) {
                return Ok(slot.after);
            }
            if change.wiped || change.after.is_none() {
                return Ok(U256::ZERO);
            }
        }
        self.view.storage(&address, slot).map_err(StateError::new)
    }

    /// The code of an account, empty where there is none.
    pub fn code_of(&self, address: Address) -> Result<Bytes, StateError> {
        match self.account(address)? {
            Some(account) => Ok(self.code_by_hash_ref(account.code_hash)?.original_bytes()),
            None => Ok(Bytes::new()),
        }
    }
}

impl DatabaseRef for State {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        Ok(self.account(address)?.as_ref().map(account_info))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        if hash == KECCAK256_EMPTY || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.code.get(&hash) {
            return Ok(code);
        }
        let above = self
            .above
            .as_ref()
            .and_then(|above| above.code.get(&hash).cloned());
        let code = match above {
            Some(code) => code,
            None => self
                .view
                .code(&hash)
                .map_err(StateError::new)?
                .ok_or_else(|| StateError::new(format!("no code is stored with hash {hash}")))?,
        };
        let code = Bytecode::new_raw_checked(code).map_err(StateError::new)?;
        self.code.insert(hash, code.clone());
        Ok(code)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.storage_at(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        let hash = self.view.block_hash(number).map_err(StateError::new)?;
        Ok(hash.unwrap_or_default())
    }
}
