//! The state of a block while it executes: the parent state below, the block's own writes above.

use alloy_primitives::{
    Address, B256, KECCAK256_EMPTY, U256,
    map::{AddressMap, B256Map, HashMap},
};
use heddle_trie::{AccountChange, AccountState, SlotChange, StateChanges};
use revm::{
    Database, DatabaseCommit, DatabaseRef,
    database_interface::DBErrorMarker,
    state::{Account, AccountInfo, Bytecode},
};
use std::{error::Error, fmt, sync::Arc};

/// A read of the parent state that failed (a broken disk, a lost remote node).
#[derive(Debug, Clone, thiserror::Error)]
#[error("reading state: {0}")]
pub struct StateError(Arc<dyn Error + Send + Sync>);

impl StateError {
    /// Wraps the error of whatever holds the state.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into().into())
    }
}

impl DBErrorMarker for StateError {}

/// The state a block builds on, readable from many threads at once. Accounts may come without
/// their code; it is then asked for by hash.
pub trait ParentState: DatabaseRef<Error = StateError> + Sync {}
impl<T: DatabaseRef<Error = StateError> + Sync> ParentState for T {}

/// The code hash that stands for "neither nonce nor code, but storage" in what a [`ParentState`]
/// answers and while a block executes; it never gets into [`StateChanges`]. Nothing can be created
/// there (EIP-7610), which revm tells by the code hash alone: it takes the zero hash for no code in
/// every other respect (except EXTCODEHASH, see [`crate::complete_instructions`]). Such accounts
/// date from before EIP-161, when a creation left the nonce at zero.
pub const STORAGE_ONLY_CODE_HASH: B256 = B256::ZERO;

/// revm's account for an [`AccountState`]; the code is left to be asked for by hash.
pub fn account_info(state: &AccountState) -> AccountInfo {
    let mut info = AccountInfo { balance: state.balance, nonce: state.nonce, ..Default::default() };
    if state.code_hash != KECCAK256_EMPTY {
        info.code_hash = state.code_hash;
        info.code = None;
    }
    info
}

fn account_state(info: &AccountInfo) -> AccountState {
    AccountState { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash }
}

/// As the state trie has it.
fn as_stored(state: AccountState) -> AccountState {
    if state.code_hash == STORAGE_ONLY_CODE_HASH {
        return AccountState { code_hash: KECCAK256_EMPTY, ..state };
    }
    state
}

/// One account: what the parent state says and what the block has made of it so far.
#[derive(Debug, Default)]
struct CachedAccount {
    before: Option<AccountState>,
    now: Option<AccountState>,
    wiped: bool,
    storage: HashMap<U256, SlotChange>,
}

impl CachedAccount {
    fn loaded(before: Option<AccountState>) -> Self {
        Self { before, now: before, ..Default::default() }
    }

    fn wipe(&mut self) {
        self.wiped = true;
        self.storage.clear();
    }
}

/// The state inside a block: reads fall through to the parent state and are remembered, commits
/// stay here until [`Self::into_changes`].
pub struct BlockState<P> {
    parent: P,
    accounts: AddressMap<CachedAccount>,
    code: B256Map<Bytecode>,
    /// [`DatabaseCommit`] cannot fail; an account that it has to load and cannot is reported here.
    failed: Option<StateError>,
}

impl<P> fmt::Debug for BlockState<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockState").field("accounts", &self.accounts.len()).finish_non_exhaustive()
    }
}

impl<P: DatabaseRef<Error = StateError>> BlockState<P> {
    /// Starts on the parent state.
    pub fn new(parent: P) -> Self {
        Self { parent, accounts: AddressMap::default(), code: B256Map::default(), failed: None }
    }

    fn load(&mut self, address: Address) -> Result<&mut CachedAccount, StateError> {
        use alloy_primitives::map::Entry;
        Ok(match self.accounts.entry(address) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let before = self.parent.basic_ref(address)?;
                let before = before.map(|mut info| {
                    if let Some(code) = info.code.take().filter(|code| !code.is_empty()) {
                        self.code.entry(info.code_hash).or_insert(code);
                    }
                    account_state(&info)
                });
                entry.insert(CachedAccount::loaded(before))
            }
        })
    }

    /// The account as the block so far left it.
    pub(crate) fn account(&mut self, address: Address) -> Result<Option<AccountState>, StateError> {
        Ok(self.load(address)?.now)
    }

    /// Makes room for so many accounts more.
    pub fn reserve(&mut self, accounts: usize) {
        self.accounts.reserve(accounts);
    }

    /// Makes `now` the state of the account. `wiped` drops all storage written or read before.
    pub fn set_account(
        &mut self,
        address: Address,
        now: Option<AccountState>,
        wiped: bool,
    ) -> Result<(), StateError> {
        let account = self.load(address)?;
        account.now = now;
        if wiped {
            account.wipe();
        }
        Ok(())
    }

    /// Makes `value` the value of the slot.
    pub fn set_storage(
        &mut self,
        address: Address,
        slot: U256,
        value: U256,
    ) -> Result<(), StateError> {
        let before = self.load(address)?;
        let before = match (before.wiped, before.storage.get(&slot)) {
            (_, Some(change)) => change.before,
            (true, None) => U256::ZERO,
            (false, None) => self.parent.storage_ref(address, slot)?,
        };
        let account = self.load(address)?;
        account.storage.insert(slot, SlotChange { before, after: value });
        Ok(())
    }

    /// Makes code known that accounts of this block refer to.
    pub fn insert_code(&mut self, hash: B256, code: Bytecode) {
        self.code.entry(hash).or_insert(code);
    }

    fn commit_account(&mut self, address: Address, account: &Account) -> Result<(), StateError> {
        if !account.is_touched() {
            return Ok(());
        }
        if account.is_selfdestructed() {
            return self.set_account(address, None, true);
        }
        let created = account.is_created();
        if account.is_empty() && !created {
            // EIP-161: a touched empty account is no account. Before Spurious Dragon, revm's
            // journal marks the ones to be kept as created or untouched.
            return self.set_account(address, None, false);
        }
        if let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty()) {
            self.code.entry(account.info.code_hash).or_insert_with(|| code.clone());
        }
        self.set_account(address, Some(account_state(&account.info)), created)?;
        for (slot, value) in account.storage.iter().filter(|(_, value)| value.is_changed()) {
            self.set_storage(address, *slot, value.present_value)?;
        }
        Ok(())
    }

    /// The net change against the parent state.
    pub fn into_changes(self) -> Result<StateChanges, StateError> {
        self.changes()
    }

    /// The net change against the parent state so far.
    pub fn changes(&self) -> Result<StateChanges, StateError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut changes = StateChanges::default();
        for (address, account) in &self.accounts {
            let (before, now) = (account.before.map(as_stored), account.now.map(as_stored));
            // An account that did not exist has no storage that could go.
            let wiped = account.wiped && before.is_some();
            let storage: std::collections::BTreeMap<_, _> = account
                .storage
                .iter()
                .filter(|(_, change)| change.before != change.after)
                .map(|(slot, change)| (*slot, *change))
                .collect();
            if before == now && !wiped && storage.is_empty() {
                continue;
            }
            let code_hash = now.map_or(KECCAK256_EMPTY, |now| now.code_hash);
            if code_hash != KECCAK256_EMPTY
                && before.is_none_or(|before| before.code_hash != code_hash)
                && let Some(code) = self.code.get(&code_hash)
            {
                changes.code.insert(code_hash, code.original_bytes());
            }
            changes.accounts.insert(*address, AccountChange { before, after: now, wiped, storage });
        }
        Ok(changes)
    }
}

impl<P: DatabaseRef<Error = StateError>> Database for BlockState<P> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        Ok(self.load(address)?.now.as_ref().map(account_info))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, StateError> {
        if code_hash == STORAGE_ONLY_CODE_HASH {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.code.get(&code_hash) {
            return Ok(code.clone());
        }
        let code = self.parent.code_by_hash_ref(code_hash)?;
        self.code.insert(code_hash, code.clone());
        Ok(code)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        let account = self.load(address)?;
        if let Some(change) = account.storage.get(&slot) {
            return Ok(change.after);
        }
        if account.wiped {
            return Ok(U256::ZERO);
        }
        let value = self.parent.storage_ref(address, slot)?;
        let change = SlotChange { before: value, after: value };
        self.load(address)?.storage.insert(slot, change);
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.parent.block_hash_ref(number)
    }
}

impl<P: DatabaseRef<Error = StateError>> DatabaseRef for BlockState<P> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        match self.accounts.get(&address) {
            Some(account) => Ok(account.now.as_ref().map(account_info)),
            None => self.parent.basic_ref(address),
        }
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, StateError> {
        match self.code.get(&code_hash) {
            _ if code_hash == STORAGE_ONLY_CODE_HASH => Ok(Bytecode::default()),
            Some(code) => Ok(code.clone()),
            None => self.parent.code_by_hash_ref(code_hash),
        }
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        if let Some(account) = self.accounts.get(&address) {
            if let Some(change) = account.storage.get(&slot) {
                return Ok(change.after);
            }
            if account.wiped {
                return Ok(U256::ZERO);
            }
        }
        self.parent.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.parent.block_hash_ref(number)
    }
}

impl<P: DatabaseRef<Error = StateError>> DatabaseCommit for BlockState<P> {
    fn commit(&mut self, changes: AddressMap<Account>) {
        self.commit_iter(&mut changes.into_iter());
    }

    fn commit_iter(&mut self, changes: &mut dyn Iterator<Item = (Address, Account)>) {
        for (address, account) in changes {
            if let Err(error) = self.commit_account(address, &account) {
                self.failed.get_or_insert(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::database_interface::EmptyDBTyped;

    const HOLDER: Address = Address::repeat_byte(1);

    /// One account with one slot.
    #[derive(Debug)]
    struct Parent(AccountState);

    impl DatabaseRef for Parent {
        type Error = StateError;
        fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
            Ok((address == HOLDER).then(|| account_info(&self.0)))
        }
        fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
            Err(StateError::new(format!("no code {hash}")))
        }
        fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
            let is_set = address == HOLDER && slot == U256::from(1);
            Ok(if is_set { U256::from(7) } else { U256::ZERO })
        }
        fn block_hash_ref(&self, _: u64) -> Result<B256, StateError> {
            Ok(B256::ZERO)
        }
    }

    fn parent() -> Parent {
        Parent(AccountState { nonce: 1, balance: U256::from(5), code_hash: KECCAK256_EMPTY })
    }

    #[test]
    fn what_ends_as_it_began_is_no_change() {
        let mut state = BlockState::new(parent());
        let before = parent().0;
        let other = AccountState { nonce: 2, ..before };
        state.set_account(HOLDER, Some(other), false).unwrap();
        state.set_account(HOLDER, Some(before), false).unwrap();
        state.set_storage(HOLDER, U256::from(1), U256::from(9)).unwrap();
        state.set_storage(HOLDER, U256::from(1), U256::from(7)).unwrap();
        assert!(state.into_changes().unwrap().is_empty());
    }

    #[test]
    fn a_wipe_forgets_the_parent_s_slots_and_what_the_block_wrote_before() {
        let mut state = BlockState::new(parent());
        state.set_storage(HOLDER, U256::from(2), U256::from(9)).unwrap();
        state.set_account(HOLDER, None, true).unwrap();
        assert_eq!(state.storage(HOLDER, U256::from(1)).unwrap(), U256::ZERO);
        assert_eq!(state.storage_ref(HOLDER, U256::from(2)).unwrap(), U256::ZERO);
        let reborn = AccountState { nonce: 1, ..AccountState::default() };
        state.set_account(HOLDER, Some(reborn), false).unwrap();
        state.set_storage(HOLDER, U256::from(3), U256::from(4)).unwrap();
        let changes = state.into_changes().unwrap();
        let change = &changes.accounts[&HOLDER];
        assert!(change.wiped);
        assert_eq!(change.after, Some(reborn));
        let slot = SlotChange { before: U256::ZERO, after: U256::from(4) };
        assert_eq!(change.storage.iter().collect::<Vec<_>>(), [(&U256::from(3), &slot)]);
    }

    #[test]
    fn an_account_that_comes_and_goes_in_one_block_leaves_no_trace() {
        let mut state = BlockState::new(EmptyDBTyped::<StateError>::new());
        let account = AccountState { nonce: 1, ..AccountState::default() };
        state.set_account(HOLDER, Some(account), true).unwrap();
        state.set_storage(HOLDER, U256::from(1), U256::from(1)).unwrap();
        state.set_account(HOLDER, None, true).unwrap();
        assert!(state.into_changes().unwrap().is_empty());
    }
}
