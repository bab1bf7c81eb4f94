//! The state of a block while it executes: the parent state below, the block's own writes above.

use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, U256,
    map::{AddressMap, B256Map, Entry, U256Map},
};
use heddle_trie::{AccountChange, AccountState, SlotChange, SortedMap, StateChanges};
use revm::{
    Database, DatabaseCommit, DatabaseRef,
    database_interface::DBErrorMarker,
    state::{Account, AccountId, AccountInfo, Bytecode, EvmState},
};
use std::{collections::BTreeMap, error::Error, fmt, sync::Arc};

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
    // Without code here, also where there is none: revm's empty code is one global object whose
    // references all threads would count.
    let AccountState { nonce, balance, code_hash } = *state;
    AccountInfo { balance, nonce, code_hash, account_id: None, code: None }
}

/// The basic part of revm's account.
pub fn account_state(info: &AccountInfo) -> AccountState {
    AccountState { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash }
}

/// The account as the state trie has it.
pub fn as_stored(state: AccountState) -> AccountState {
    if state.code_hash == STORAGE_ONLY_CODE_HASH {
        return AccountState { code_hash: KECCAK256_EMPTY, ..state };
    }
    state
}

/// One account: what the parent state says and what the block has made of it so far.
#[derive(Debug)]
pub struct CachedAccount {
    address: Address,
    before: Option<AccountState>,
    now: Option<AccountState>,
    wiped: bool,
    storage: U256Map<SlotChange>,
}

impl CachedAccount {
    fn wipe(&mut self) {
        self.wiped = true;
        self.storage.clear();
    }

    /// Whose it is.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the parent state has anything else.
    pub fn is_changed(&self) -> bool {
        self.before.map(as_stored) != self.now.map(as_stored)
            || (self.wiped && self.before.is_some())
            || self.storage.values().any(|slot| slot.before != slot.after)
    }

    /// The net change against the parent state.
    pub fn change(&self) -> AccountChange {
        self.change_sorted(|slots| slots.sort_unstable_by(SlotInOrder::compare))
    }

    /// As [`Self::change`], with the slots put in order by `sort`: one token can hold most of what
    /// a block changed.
    pub fn change_sorted<'a>(&'a self, sort: impl FnOnce(&mut [SlotInOrder<'a>])) -> AccountChange {
        let changed = self.storage.iter().filter(|(_, slot)| slot.before != slot.after);
        let in_order =
            |(slot, change): (&'a U256, _)| SlotInOrder { high: slot.as_limbs()[3], slot, change };
        let mut sorted: Vec<_> = changed.map(in_order).collect();
        sort(&mut sorted);
        let slots = sorted.into_iter().map(|entry| (*entry.slot, *entry.change)).collect();
        AccountChange {
            before: self.before.map(as_stored),
            after: self.now.map(as_stored),
            // An account that did not exist has no storage that could go.
            wiped: self.wiped && self.before.is_some(),
            storage: SortedMap::from_sorted(slots),
        }
    }
}

/// A changed slot. Sorted by the highest limb, held beside references, so that sorting moves little
/// and looks at a slot only where those are equal.
#[derive(Debug, Clone, Copy)]
pub struct SlotInOrder<'a> {
    high: u64,
    slot: &'a U256,
    change: &'a SlotChange,
}

impl SlotInOrder<'_> {
    /// By slot.
    pub fn compare(&self, other: &Self) -> std::cmp::Ordering {
        (self.high, self.slot).cmp(&(other.high, other.slot))
    }
}

/// The state inside a block: reads fall through to the parent state and are remembered, commits
/// stay here until [`Self::into_changes`].
pub struct BlockState<P> {
    parent: P,
    /// Where in `accounts` an address is. Apart from the accounts, because a map of large values
    /// moves them all whenever it grows. revm carries the place with an account that it has loaded
    /// (as its [`AccountId`]), so that storage reads and commits need no search.
    places: AddressMap<u32>,
    accounts: Vec<CachedAccount>,
    code: B256Map<Bytecode>,
    /// [`DatabaseCommit`] cannot fail; an account that it has to load and cannot is reported here.
    failed: Option<StateError>,
    /// The map of the transaction committed last, empty, for the next to use.
    emptied: EvmState,
}

/// Accounts for which a transaction's map is kept for the next. Going through a map takes time in
/// proportion to its room, so one transaction with many accounts must not slow down all later ones.
const MAP_KEPT_MAX: usize = 64;

/// Accounts looked at before the first of them is worked on. In order of address they are all over
/// the memory; looking at several in a short loop lets the processor wait for all of them at once.
const ACCOUNTS_AHEAD: usize = 32;

impl<P> fmt::Debug for BlockState<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockState").field("accounts", &self.accounts.len()).finish_non_exhaustive()
    }
}

impl<P: DatabaseRef<Error = StateError>> BlockState<P> {
    /// Starts on the parent state.
    pub fn new(parent: P) -> Self {
        Self {
            parent,
            places: AddressMap::default(),
            accounts: Vec::new(),
            code: B256Map::default(),
            failed: None,
            emptied: EvmState::default(),
        }
    }

    /// Where the account is, for as long as this state lives; read from the parent state if the
    /// block has not met it before.
    pub fn place(&mut self, address: Address) -> Result<usize, StateError> {
        let entry = match self.places.entry(address) {
            Entry::Occupied(entry) => return Ok(*entry.get() as usize),
            Entry::Vacant(entry) => entry,
        };
        let place = u32::try_from(self.accounts.len()).map_err(StateError::new)?;
        let before = self.parent.basic_ref(address)?.map(|mut info| {
            if let Some(code) = info.code.take().filter(|code| !code.is_empty()) {
                self.code.entry(info.code_hash).or_insert(code);
            }
            account_state(&info)
        });
        let (now, wiped, storage) = (before, false, U256Map::default());
        self.accounts.push(CachedAccount { address, before, now, wiped, storage });
        entry.insert(place);
        Ok(place as usize)
    }

    /// As [`Self::place`]; `id` says where to look first.
    fn place_of(&mut self, address: Address, id: Option<AccountId>) -> Result<usize, StateError> {
        match id.map(AccountId::get) {
            Some(place) if self.accounts.get(place).is_some_and(|a| a.address == address) => {
                Ok(place)
            }
            _ => self.place(address),
        }
    }

    fn load(&mut self, address: Address) -> Result<&mut CachedAccount, StateError> {
        let place = self.place(address)?;
        Ok(&mut self.accounts[place])
    }

    /// The account as the block so far left it.
    pub(crate) fn account(&mut self, address: Address) -> Result<Option<AccountState>, StateError> {
        Ok(self.load(address)?.now)
    }

    /// The accounts that were looked at so far, each at its [`Self::place`].
    pub fn accounts(&self) -> &[CachedAccount] {
        &self.accounts
    }

    /// The addresses of [`Self::accounts`].
    pub fn addresses(&self) -> impl Iterator<Item = Address> {
        self.accounts.iter().map(|account| account.address)
    }

    /// Makes room for so many accounts more.
    pub fn reserve(&mut self, accounts: usize) {
        self.places.reserve(accounts);
        self.accounts.reserve(accounts);
    }

    /// The map that [`DatabaseCommit::commit`] got last, empty.
    pub(crate) fn take_emptied(&mut self) -> EvmState {
        std::mem::take(&mut self.emptied)
    }

    /// Makes `now` the state of the account. `wiped` drops all storage written or read before.
    pub fn set_account(
        &mut self,
        address: Address,
        now: Option<AccountState>,
        wiped: bool,
    ) -> Result<(), StateError> {
        let place = self.place(address)?;
        self.set_account_at(place, now, wiped);
        Ok(())
    }

    /// The account at a [`Self::place`] as the block so far left it.
    pub fn account_at(&self, place: usize) -> Option<AccountState> {
        self.accounts[place].now
    }

    /// As [`Self::set_account`].
    pub fn set_account_at(&mut self, place: usize, now: Option<AccountState>, wiped: bool) {
        let account = &mut self.accounts[place];
        account.now = now;
        if wiped {
            account.wipe();
        }
    }

    /// Makes `value` the value of the slot.
    pub fn set_storage(
        &mut self,
        address: Address,
        slot: U256,
        value: U256,
    ) -> Result<(), StateError> {
        let place = self.place(address)?;
        self.set_storage_at(place, slot, value)
    }

    /// The value of a slot of the account at a [`Self::place`].
    pub fn storage_at(&mut self, place: usize, slot: U256) -> Result<U256, StateError> {
        Ok(self.slot_at(place, slot)?.after)
    }

    /// As [`Self::set_storage`].
    pub fn set_storage_at(
        &mut self,
        place: usize,
        slot: U256,
        value: U256,
    ) -> Result<(), StateError> {
        self.slot_at(place, slot)?.after = value;
        Ok(())
    }

    /// The slot, read from the parent state if the block has not met it before.
    fn slot_at(&mut self, place: usize, slot: U256) -> Result<&mut SlotChange, StateError> {
        let CachedAccount { address, wiped, storage, .. } = &mut self.accounts[place];
        Ok(match storage.entry(slot) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let value =
                    if *wiped { U256::ZERO } else { self.parent.storage_ref(*address, slot)? };
                entry.insert(SlotChange { before: value, after: value })
            }
        })
    }

    /// Makes code known that accounts of this block refer to.
    pub fn insert_code(&mut self, hash: B256, code: Bytecode) {
        self.code.entry(hash).or_insert(code);
    }

    fn commit_or_fail(&mut self, address: Address, account: &Account) {
        if let Err(error) = self.commit_account(address, account) {
            self.failed.get_or_insert(error);
        }
    }

    fn commit_account(&mut self, address: Address, account: &Account) -> Result<(), StateError> {
        if !account.is_touched() {
            return Ok(());
        }
        let place = self.place_of(address, account.info.account_id)?;
        if account.is_selfdestructed() {
            self.set_account_at(place, None, true);
            return Ok(());
        }
        let created = account.is_created();
        if account.is_empty() && !created {
            // EIP-161: a touched empty account is no account. Before Spurious Dragon, revm's
            // journal marks the ones to be kept as created or untouched.
            self.set_account_at(place, None, false);
            return Ok(());
        }
        let now = account_state(&account.info);
        if self.accounts[place].now.is_none_or(|before| before.code_hash != now.code_hash)
            && let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty())
        {
            self.code.entry(now.code_hash).or_insert_with(|| code.clone());
        }
        self.set_account_at(place, Some(now), created);
        for (slot, value) in account.storage.iter().filter(|(_, value)| value.is_changed()) {
            self.slot_at(place, *slot)?.after = value.present_value;
        }
        Ok(())
    }

    /// The net change against the parent state.
    pub fn into_changes(self) -> Result<StateChanges, StateError> {
        self.changes()
    }

    /// Whether all commits so far could read what they needed.
    pub fn check(&self) -> Result<(), StateError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// The net change against the parent state so far.
    pub fn changes(&self) -> Result<StateChanges, StateError> {
        self.check()?;
        // By their first bytes, as slots are in `CachedAccount::change`.
        let prefix = |address: &Address| address.0.first_chunk().map(|b| u64::from_be_bytes(*b));
        let mut sorted: Vec<_> =
            self.accounts.iter().map(|account| (prefix(&account.address), account)).collect();
        sorted.sort_unstable_by(|a, b| (a.0, &a.1.address).cmp(&(b.0, &b.1.address)));
        let mut code = BTreeMap::new();
        let mut accounts = Vec::with_capacity(sorted.len());
        for run in sorted.chunks(ACCOUNTS_AHEAD) {
            let mut changed = [false; ACCOUNTS_AHEAD];
            for (changed, (_, account)) in changed.iter_mut().zip(run) {
                *changed = account.is_changed();
            }
            for (_, account) in
                run.iter().zip(changed).filter_map(|(a, changed)| changed.then_some(a))
            {
                let change = account.change();
                code.extend(self.new_code(&change));
                accounts.push((account.address, change));
            }
        }
        Ok(StateChanges { accounts: SortedMap::from_sorted(accounts), code })
    }

    /// The code that an account has now and had not before, with its hash.
    pub fn new_code(&self, change: &AccountChange) -> Option<(B256, Bytes)> {
        let hash = change.after?.code_hash;
        let had = change.before.is_some_and(|before| before.code_hash == hash);
        if had || hash == KECCAK256_EMPTY {
            return None;
        }
        Some((hash, self.code.get(&hash)?.original_bytes()))
    }
}

impl<P: DatabaseRef<Error = StateError>> Database for BlockState<P> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let place = self.place(address)?;
        let info = |account: &AccountState| AccountInfo {
            account_id: AccountId::new(place),
            ..account_info(account)
        };
        Ok(self.accounts[place].now.as_ref().map(info))
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
        let place = self.place(address)?;
        Ok(self.slot_at(place, slot)?.after)
    }

    fn storage_by_account_id(
        &mut self,
        address: Address,
        id: AccountId,
        slot: U256,
    ) -> Result<U256, StateError> {
        let place = self.place_of(address, Some(id))?;
        Ok(self.slot_at(place, slot)?.after)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.parent.block_hash_ref(number)
    }
}

impl<P: DatabaseRef<Error = StateError>> DatabaseRef for BlockState<P> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        match self.places.get(&address) {
            Some(place) => Ok(self.accounts[*place as usize].now.as_ref().map(account_info)),
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
        if let Some(place) = self.places.get(&address) {
            let account = &self.accounts[*place as usize];
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
    fn commit(&mut self, mut changes: EvmState) {
        for (address, account) in changes.drain() {
            self.commit_or_fail(address, &account);
        }
        if changes.capacity() <= MAP_KEPT_MAX {
            self.emptied = changes;
        }
    }

    fn commit_iter(&mut self, changes: &mut dyn Iterator<Item = (Address, Account)>) {
        for (address, account) in changes {
            self.commit_or_fail(address, &account);
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

    #[test]
    fn an_id_that_names_another_account_is_not_trusted() {
        let mut state = BlockState::new(parent());
        let id = state.basic(HOLDER).unwrap().unwrap().account_id.unwrap();
        let one = U256::from(1);
        assert_eq!(state.storage_by_account_id(HOLDER, id, one).unwrap(), U256::from(7));
        let stranger = Address::repeat_byte(2);
        assert_eq!(state.storage_by_account_id(stranger, id, one).unwrap(), U256::ZERO);
        let mut account = Account::default();
        account.info.account_id = Some(id);
        account.info.nonce = 3;
        account.mark_touch();
        state.commit(AddressMap::from_iter([(stranger, account)]));
        assert_eq!(state.basic(HOLDER).unwrap().unwrap().nonce, 1);
        assert_eq!(state.basic(stranger).unwrap().unwrap().nonce, 3);
    }
}
