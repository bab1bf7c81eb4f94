//! State as executors and readers see it.

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, map::B256Map};
use heddle_evm::{
    AccountChange, AccountState, STORAGE_ONLY_CODE_HASH, StateChanges, StateError, account_info,
};
use heddle_remote::RemoteState;
use heddle_store::{BlockId, StateView};
use parking_lot::RwLock;
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use std::{collections::BTreeSet, fmt, sync::Arc};

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
    /// Blocks above the stored state that are not on the chain, in order.
    above: Vec<Layer>,
    code: Arc<CodeCache>,
    /// What the view does not know of a fork.
    remote: Option<Arc<RemoteState>>,
}

/// What a block that is not on the chain changed.
#[derive(Clone)]
struct Layer {
    changes: Arc<StateChanges>,
    /// Where the block has a hash already.
    block: Option<BlockId>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("number", &self.view.number()).finish_non_exhaustive()
    }
}

impl State {
    pub(crate) const fn new(
        view: Arc<StateView>,
        code: Arc<CodeCache>,
        remote: Option<Arc<RemoteState>>,
    ) -> Self {
        Self { view, above: Vec::new(), code, remote }
    }

    /// Whether some of this state is another node's, so that there is no trie of it.
    pub(crate) const fn is_fork(&self) -> bool {
        self.remote.is_some()
    }

    pub(crate) fn view(&self) -> &StateView {
        &self.view
    }

    /// The state after a further block that made `changes`.
    pub fn with_changes(&self, changes: Arc<StateChanges>) -> Self {
        self.with_layer(Layer { changes, block: None })
    }

    /// As [`Self::with_changes`], for a block that is sealed.
    pub(crate) fn with_block(&self, block: BlockId, changes: Arc<StateChanges>) -> Self {
        self.with_layer(Layer { changes, block: Some(block) })
    }

    /// Names the block of the topmost changes.
    pub(crate) fn seal(&mut self, block: BlockId) {
        if let Some(layer) = self.above.last_mut() {
            layer.block = Some(block);
        }
    }

    fn with_layer(&self, layer: Layer) -> Self {
        let mut state = self.clone();
        state.above.push(layer);
        state
    }

    /// What the blocks that are not on the chain made of an account, newest first.
    fn changes_of(&self, address: Address) -> impl Iterator<Item = &AccountChange> {
        let newest_first = self.above.iter().rev();
        newest_first.filter_map(move |layer| layer.changes.accounts.get(&address))
    }

    /// The account, `None` where there is none.
    pub fn account(&self, address: Address) -> Result<Option<AccountState>, StateError> {
        match self.changes_of(address).next() {
            Some(change) => Ok(change.after),
            None => self.stored_account(address),
        }
    }

    fn stored_account(&self, address: Address) -> Result<Option<AccountState>, StateError> {
        let stored = self.view.account(&address).map_err(StateError::new)?;
        match &self.remote {
            Some(remote)
                if stored.is_none()
                    && !self.view.knows_account(&address).map_err(StateError::new)? =>
            {
                remote.account(address).map_err(StateError::new)
            }
            _ => Ok(stored),
        }
    }

    /// The value of a storage slot, zero where there is none.
    pub fn storage_at(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        for change in self.changes_of(address) {
            if let Some(slot) = change.storage.get(&slot) {
                return Ok(slot.after);
            }
            if change.wiped || change.after.is_none() {
                return Ok(U256::ZERO);
            }
        }
        let stored = self.view.storage(&address, slot).map_err(StateError::new)?;
        match &self.remote {
            Some(remote)
                if stored.is_zero()
                    && !self.view.knows_slot(&address, slot).map_err(StateError::new)? =>
            {
                remote.storage(address, slot).map_err(StateError::new)
            }
            _ => Ok(stored),
        }
    }

    /// Whether an account without nonce and code has storage all the same.
    fn has_only_storage(&self, address: Address) -> Result<bool, StateError> {
        // What a later change cleared an earlier one may have set.
        let mut cleared = BTreeSet::new();
        for change in self.changes_of(address) {
            for (slot, value) in change.storage.iter() {
                if value.after.is_zero() {
                    cleared.insert(*slot);
                } else if !cleared.contains(slot) {
                    return Ok(true);
                }
            }
            if change.wiped || change.after.is_none() {
                return Ok(false);
            }
        }
        self.view.has_only_storage(&address).map_err(StateError::new)
    }

    fn stored_code(&self, hash: &B256) -> Result<Option<Bytes>, StateError> {
        let stored = self.view.code(hash).map_err(StateError::new)?;
        match &self.remote {
            Some(remote) if stored.is_none() => remote.code(*hash).map_err(StateError::new),
            _ => Ok(stored),
        }
    }

    /// The code of an account, empty where there is none.
    pub fn code_of(&self, address: Address) -> Result<Bytes, StateError> {
        match self.account(address)? {
            Some(account) => Ok(self.code_by_hash_ref(account.code_hash)?.original_bytes()),
            None => Ok(Bytes::new()),
        }
    }

    /// The code with this hash, which an account of this state has.
    pub fn code_by_hash(&self, hash: B256) -> Result<Bytes, StateError> {
        Ok(self.code_by_hash_ref(hash)?.original_bytes())
    }
}

impl DatabaseRef for State {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let Some(mut account) = self.account(address)? else {
            return Ok(None);
        };
        if account.nonce == 0
            && account.code_hash == KECCAK256_EMPTY
            && self.has_only_storage(address)?
        {
            account.code_hash = STORAGE_ONLY_CODE_HASH;
        }
        Ok(Some(account_info(&account)))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        if hash == KECCAK256_EMPTY || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.code.get(&hash) {
            return Ok(code);
        }
        let above = self.above.iter().rev().find_map(|layer| layer.changes.code.get(&hash));
        let code = match above.cloned() {
            Some(code) => code,
            None => self
                .stored_code(&hash)?
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
        let above = self.above.iter().filter_map(|layer| layer.block);
        if let Some(block) = above.rev().find(|block| block.number == number) {
            return Ok(block.hash);
        }
        if let Some(remote) = self.remote.as_ref().filter(|remote| number < remote.number()) {
            return remote.block_hash(number).map_err(StateError::new);
        }
        let hash = self.view.block_hash(number).map_err(StateError::new)?;
        Ok(hash.unwrap_or_default())
    }
}
