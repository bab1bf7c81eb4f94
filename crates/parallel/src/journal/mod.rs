//! The journal of one transaction: what it loaded, what it changed, and how to undo it.
//!
//! It follows the rules of revm's own journal (`revm::context::Journal`) for one transaction at a
//! time, and differs in what it costs. Nothing is allocated per transaction in the steady state:
//! accounts and slots lie in two vectors that are used again. Nothing that workers share is
//! counted up and down: revm's gives every account without code a reference to one global empty
//! bytecode, whose counter travels between the cores several times a transaction. And every
//! account and slot keeps the tag that its [`Source`] gave, so that writing back needs no look-up.
//!
//! What begins with Amsterdam (EIP-7708, EIP-8246) is left out: the executors refuse such blocks.

mod evm;
#[cfg(all(test, not(feature = "shuttle")))]
mod tests;

use crate::cell::CREDIT_MAX;
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, Log, U256, map::DefaultHashBuilder};
use evm::AccountHandle;
use hashbrown::HashTable;
use heddle_evm::{AccountState, STORAGE_ONLY_CODE_HASH};
use revm::{
    Database,
    context::journal::warm_addresses::WarmAddresses,
    context_interface::{
        context::{SStoreResult, StateLoad},
        journaled_state::{JournalLoadError, TransferError, entry::SelfdestructionRevertStatus},
    },
    primitives::hardfork::SpecId,
    state::{Account, AccountStatus, Bytecode, EvmStorageSlot, TransactionId, TransientStorage},
};
use std::hash::BuildHasher;

/// The precompile whose touch survives a revert (RIPEMD-160, see EIP-161's addendum on block
/// 2675119).
const PRECOMPILE_3: Address =
    alloy_primitives::address!("0000000000000000000000000000000000000003");

/// Where the accounts and slots of a journal come from.
pub(crate) trait Source: Database {
    /// How the source finds an account again.
    type AccountTag: Copy;
    /// How the source finds a slot again.
    type SlotTag: Copy;

    /// The basic part of an account.
    fn load_account(
        &mut self,
        address: Address,
    ) -> Result<LoadedState<Self::AccountTag>, Self::Error>;

    /// The transaction depends on all of an account that was open.
    fn close(&mut self, _: Self::AccountTag) {}

    /// The transaction depends on an account that is open having had `least` wei before it.
    fn needs(&mut self, _: Self::AccountTag, _least: u128) {}

    /// The value of a slot of an account that was loaded before.
    fn load_slot(
        &mut self,
        owner: (Address, Self::AccountTag),
        slot: U256,
    ) -> Result<(Self::SlotTag, U256), Self::Error>;
}

/// An account as its source gives it.
#[derive(Debug)]
pub(crate) struct LoadedState<T> {
    pub(crate) tag: T,
    pub(crate) state: Option<AccountState>,
    /// See [`LoadedAccount::is_open`].
    pub(crate) is_open: bool,
}

impl<T> LoadedState<T> {
    /// One that is not open.
    pub(crate) const fn whole(tag: T, state: Option<AccountState>) -> Self {
        Self { tag, state, is_open: false }
    }
}

/// An account that the transaction looked at.
#[derive(Debug)]
pub(crate) struct LoadedAccount<T> {
    pub(crate) address: Address,
    pub(crate) tag: T,
    /// As it was before the transaction.
    pub(crate) before: Option<AccountState>,
    /// Whether the transaction has used no more of it than its code, and its balance only to pay
    /// from and into: most calls of a token that wraps ether, say, do not care how much it holds.
    is_open: bool,
    /// As it is now; its storage is in the journal's slots.
    pub(crate) account: Account,
}

impl<T> LoadedAccount<T> {
    /// What was there before the transaction, if the account was left open to the end.
    pub(crate) fn left_open(&self) -> Option<&AccountState> {
        self.before.as_ref().filter(|_| self.is_open)
    }
}

/// A slot that the transaction looked at.
#[derive(Debug)]
pub(crate) struct LoadedSlot<T> {
    /// Place of its account in the journal.
    pub(crate) account: u32,
    pub(crate) key: U256,
    /// `None` in an account that this transaction created: those slots were never loaded.
    pub(crate) tag: Option<T>,
    pub(crate) slot: EvmStorageSlot,
}

/// The accounts and slots that a transaction looked at.
pub(crate) type Loaded<'j, S> =
    (&'j [LoadedAccount<<S as Source>::AccountTag>], &'j [LoadedSlot<<S as Source>::SlotTag>]);

/// How to take back one change; accounts and slots by their place in the journal.
#[derive(Debug)]
enum Undo {
    AccountWarmed(u32),
    SlotWarmed(u32),
    Touched(u32),
    Destroyed { account: u32, target: u32, status: SelfdestructionRevertStatus, balance: U256 },
    Balance { account: u32, old: U256 },
    Transfer { from: u32, to: u32, amount: U256 },
    Nonce { account: u32, old: u64 },
    Created { account: u32, for_the_first_time: bool },
    Slot { slot: u32, old: U256 },
    Transient { address: Address, key: U256, old: U256 },
    Code { account: u32, hash: B256, code: Option<Bytecode> },
}

/// Buckets of the look-up tables from which on they are made anew after a transaction instead of
/// being cleared, which takes time in proportion to their size.
const BUCKETS_KEPT_MAX: usize = 1_024;

/// See the module.
pub(crate) struct TxJournal<S: Source> {
    pub(crate) source: S,
    /// Those in use come first; the rest wait to be used again.
    accounts: Vec<LoadedAccount<S::AccountTag>>,
    accounts_in_use: usize,
    account_places: HashTable<u32>,
    /// Place of the account last asked for: slots come in groups.
    last_account: u32,
    slots: Vec<LoadedSlot<S::SlotTag>>,
    slot_places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    undo: Vec<Undo>,
    logs: Vec<Log>,
    transient: TransientStorage,
    depth: usize,
    spec: SpecId,
    warm: WarmAddresses,
    empty_code: Bytecode,
    state: (),
}

impl<S: Source> std::fmt::Debug for TxJournal<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxJournal")
            .field("accounts", &self.accounts_in_use)
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

type Load<T, S> = Result<StateLoad<T>, JournalLoadError<<S as Database>::Error>>;

impl<S: Source> TxJournal<S> {
    /// Makes `code` stand for no code wherever there is none.
    pub(crate) fn set_empty_code(&mut self, code: Bytecode) {
        self.empty_code = code;
    }

    /// The source, and the accounts and slots that the transaction looked at.
    pub(crate) fn parts(&mut self) -> (&mut S, Loaded<'_, S>) {
        (&mut self.source, (&self.accounts[..self.accounts_in_use], &self.slots))
    }

    /// Forgets the transaction.
    pub(crate) fn reset(&mut self) {
        self.accounts_in_use = 0;
        self.slots.clear();
        for places in [&mut self.account_places, &mut self.slot_places] {
            if places.capacity() > BUCKETS_KEPT_MAX {
                *places = HashTable::new();
            } else {
                places.clear();
            }
        }
        self.end_transaction();
    }

    fn end_transaction(&mut self) {
        self.undo.clear();
        self.logs.clear();
        self.transient.clear();
        self.depth = 0;
        self.warm.clear_coinbase_and_access_list();
    }

    fn account_at(&mut self, place: u32) -> &mut Account {
        &mut self.accounts[place as usize].account
    }

    fn place_of(&mut self, address: &Address) -> Option<u32> {
        let last = self.last_account as usize;
        if last < self.accounts_in_use && self.accounts[last].address == *address {
            return Some(self.last_account);
        }
        let same = |place: &u32| self.accounts[*place as usize].address == *address;
        let place = *self.account_places.find(self.hasher.hash_one(address), same)?;
        self.last_account = place;
        Some(place)
    }

    /// The place of an account that the EVM has loaded before.
    fn loaded_place(&mut self, address: &Address) -> u32 {
        self.place_of(address).unwrap_or_else(|| unreachable!("account {address} is loaded"))
    }

    /// Loads an account and marks it as warm.
    fn load(&mut self, address: Address, skip_cold_load: bool) -> Load<u32, S> {
        if let Some(place) = self.place_of(&address) {
            let account = &mut self.accounts[place as usize].account;
            let mut is_cold = account.status.contains(AccountStatus::Cold);
            if is_cold {
                // Its first load was reverted.
                is_cold = self.warm.check_is_cold(&address, skip_cold_load)?;
                account.status -= AccountStatus::Cold;
                self.undo.push(Undo::AccountWarmed(place));
            }
            return Ok(StateLoad::new(place, is_cold));
        }
        let is_cold = self.warm.check_is_cold(&address, skip_cold_load)?;
        let LoadedState { tag, state: before, is_open } = self.source.load_account(address)?;
        let place = self.accounts_in_use as u32;
        if self.accounts_in_use == self.accounts.len() {
            let account = Account::new_not_existing(TransactionId::ZERO);
            self.accounts.push(LoadedAccount { address, tag, before, is_open, account });
        }
        self.accounts_in_use += 1;
        let loaded = &mut self.accounts[place as usize];
        (loaded.address, loaded.tag, loaded.before) = (address, tag, before);
        loaded.is_open = is_open;
        let info = &mut loaded.account.info;
        info.code = None;
        match before {
            Some(state) => {
                (info.balance, info.nonce, info.code_hash) =
                    (state.balance, state.nonce, state.code_hash);
                loaded.account.status = AccountStatus::empty();
            }
            None => {
                (info.balance, info.nonce, info.code_hash) = (U256::ZERO, 0, KECCAK256_EMPTY);
                loaded.account.status = AccountStatus::LoadedAsNotExisting;
            }
        }
        if is_cold {
            self.undo.push(Undo::AccountWarmed(place));
        }
        let (accounts, hasher) = (&self.accounts, &self.hasher);
        self.account_places.insert_unique(hasher.hash_one(address), place, |place| {
            hasher.hash_one(accounts[*place as usize].address)
        });
        self.last_account = place;
        Ok(StateLoad::new(place, is_cold))
    }

    fn load_code_at(&mut self, place: u32) -> Result<&Bytecode, S::Error> {
        let info = &mut self.accounts[place as usize].account.info;
        if info.code.is_none() {
            let none =
                info.code_hash == KECCAK256_EMPTY || info.code_hash == STORAGE_ONLY_CODE_HASH;
            let code = if none {
                self.empty_code.clone()
            } else {
                self.source.code_by_hash(info.code_hash)?
            };
            return Ok(info.code.insert(code));
        }
        Ok(info.code.as_ref().unwrap_or(&self.empty_code))
    }

    fn load_with_code(&mut self, address: Address, skip_cold_load: bool) -> Load<u32, S> {
        let load = self.load(address, skip_cold_load)?;
        self.load_code_at(load.data)?;
        Ok(load)
    }

    fn account_load(&mut self, load: StateLoad<u32>) -> StateLoad<&Account> {
        load.map(|place| &self.accounts[place as usize].account)
    }

    /// All of the account is open to who holds the handle.
    fn handle(&mut self, load: StateLoad<u32>) -> StateLoad<AccountHandle<'_, S>> {
        self.close(load.data);
        load.map(|place| AccountHandle { journal: self, place })
    }

    fn slot_hash(hasher: &DefaultHashBuilder, account: u32, key: &U256) -> u64 {
        hasher.hash_one((account, key))
    }

    /// Loads a slot and marks it as warm.
    fn load_slot(&mut self, account: u32, key: U256, skip_cold_load: bool) -> Load<u32, S> {
        let hash = Self::slot_hash(&self.hasher, account, &key);
        let same = |place: &u32| {
            let slot = &self.slots[*place as usize];
            slot.key == key && slot.account == account
        };
        let LoadedAccount { address, tag, .. } = self.accounts[account as usize];
        if let Some(place) = self.slot_places.find(hash, same).copied() {
            let slot = &mut self.slots[place as usize].slot;
            let is_cold = slot.is_cold && !self.warm.is_storage_warm(&address, &key);
            if is_cold && skip_cold_load {
                return Err(JournalLoadError::ColdLoadSkipped);
            }
            slot.is_cold = false;
            if is_cold {
                self.undo.push(Undo::SlotWarmed(place));
            }
            return Ok(StateLoad::new(place, is_cold));
        }
        let is_cold = !self.warm.is_storage_warm(&address, &key);
        if is_cold && skip_cold_load {
            return Err(JournalLoadError::ColdLoadSkipped);
        }
        let (tag, value) = if self.accounts[account as usize].account.is_created() {
            (None, U256::ZERO)
        } else {
            let (tag, value) = self.source.load_slot((address, tag), key)?;
            (Some(tag), value)
        };
        let place = self.slots.len() as u32;
        let slot = EvmStorageSlot::new(value, TransactionId::ZERO);
        self.slots.push(LoadedSlot { account, key, tag, slot });
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.slot_places.insert_unique(hash, place, |place| {
            let slot = &slots[*place as usize];
            Self::slot_hash(hasher, slot.account, &slot.key)
        });
        if is_cold {
            self.undo.push(Undo::SlotWarmed(place));
        }
        Ok(StateLoad::new(place, is_cold))
    }

    fn store_slot(
        &mut self,
        account: u32,
        key: U256,
        new: U256,
        skip_cold_load: bool,
    ) -> Load<SStoreResult, S> {
        self.touch(account);
        let load = self.load_slot(account, key, skip_cold_load)?;
        let slot = &mut self.slots[load.data as usize].slot;
        let (original_value, present_value) = (slot.original_value, slot.present_value);
        if present_value != new {
            slot.present_value = new;
            self.undo.push(Undo::Slot { slot: load.data, old: present_value });
        }
        let result = SStoreResult { original_value, present_value, new_value: new };
        Ok(StateLoad::new(result, load.is_cold))
    }

    fn touch(&mut self, place: u32) {
        let account = &mut self.accounts[place as usize].account;
        if !account.is_touched() {
            account.mark_touch();
            self.undo.push(Undo::Touched(place));
        }
    }

    fn set_balance(&mut self, place: u32, balance: U256) {
        self.touch(place);
        let old = std::mem::replace(&mut self.account_at(place).info.balance, balance);
        if old != balance {
            self.undo.push(Undo::Balance { account: place, old });
        }
    }

    fn set_nonce(&mut self, place: u32, nonce: u64) {
        self.touch(place);
        let old = std::mem::replace(&mut self.account_at(place).info.nonce, nonce);
        self.undo.push(Undo::Nonce { account: place, old });
    }

    fn set_code(&mut self, place: u32, hash: B256, code: Bytecode) {
        self.touch(place);
        let info = &mut self.account_at(place).info;
        let (hash, code) = (std::mem::replace(&mut info.code_hash, hash), info.code.replace(code));
        self.undo.push(Undo::Code { account: place, hash, code });
    }

    /// Makes the transaction depend on all of an account.
    fn close(&mut self, place: u32) {
        let loaded = &mut self.accounts[place as usize];
        if std::mem::take(&mut loaded.is_open) {
            self.source.close(loaded.tag);
        }
    }

    /// Makes the transaction depend on an account being able to pay.
    fn will_pay(&mut self, place: u32, amount: U256) {
        let loaded = &self.accounts[place as usize];
        let Some(before) = loaded.left_open() else { return };
        let left = loaded.account.info.balance.checked_sub(amount);
        let least = left.and_then(|left| before.balance.saturating_sub(left).try_into().ok());
        match least {
            Some(least) => self.source.needs(loaded.tag, least),
            None => self.close(place),
        }
    }

    /// Makes the transaction depend on all of an account if so much might be too much for it.
    fn will_be_paid(&mut self, place: u32, amount: U256) {
        let loaded = &self.accounts[place as usize];
        let Some(before) = loaded.left_open() else { return };
        let sum = loaded.account.info.balance.saturating_add(amount);
        if sum.saturating_sub(before.balance) >= CREDIT_MAX {
            self.close(place);
        }
    }

    fn move_balance(&mut self, from: u32, to: u32, amount: U256) -> Option<TransferError> {
        if from == to {
            if amount.is_zero() {
                return None;
            }
            self.close(from);
            let short = amount > self.account_at(from).info.balance;
            return short.then_some(TransferError::OutOfFunds);
        }
        if amount.is_zero() {
            self.touch(to);
            return None;
        }
        self.will_pay(from, amount);
        self.will_be_paid(to, amount);
        self.touch(from);
        let payer = &mut self.account_at(from).info.balance;
        let Some(left) = payer.checked_sub(amount) else {
            return Some(TransferError::OutOfFunds);
        };
        *payer = left;
        self.touch(to);
        let payee = &mut self.account_at(to).info.balance;
        let Some(sum) = payee.checked_add(amount) else {
            return Some(TransferError::OverflowPayment);
        };
        *payee = sum;
        self.undo.push(Undo::Transfer { from, to, amount });
        None
    }

    fn revert(&mut self, undo: Undo) {
        match undo {
            Undo::AccountWarmed(place) => self.account_at(place).mark_cold(),
            Undo::SlotWarmed(place) => self.slots[place as usize].slot.is_cold = true,
            Undo::Touched(place) => {
                let stays = self.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON)
                    && self.accounts[place as usize].address == PRECOMPILE_3;
                if !stays {
                    self.account_at(place).unmark_touch();
                }
            }
            Undo::Destroyed { account: place, target, status, balance } => {
                let account = self.account_at(place);
                match status {
                    SelfdestructionRevertStatus::GloballySelfdestroyed => {
                        account.unmark_selfdestruct();
                        account.unmark_selfdestructed_locally();
                    }
                    SelfdestructionRevertStatus::LocallySelfdestroyed => {
                        account.unmark_selfdestructed_locally();
                    }
                    SelfdestructionRevertStatus::RepeatedSelfdestruction => {}
                }
                account.info.balance += balance;
                if place != target {
                    self.account_at(target).info.balance -= balance;
                }
            }
            Undo::Balance { account, old } => self.account_at(account).info.balance = old,
            Undo::Transfer { from, to, amount } => {
                self.account_at(from).info.balance += amount;
                self.account_at(to).info.balance -= amount;
            }
            Undo::Nonce { account, old } => self.account_at(account).info.nonce = old,
            Undo::Created { account: place, for_the_first_time } => {
                let account = self.account_at(place);
                account.unmark_created_locally();
                if for_the_first_time {
                    account.unmark_created();
                }
                account.info.nonce = 0;
            }
            Undo::Slot { slot, old } => self.slots[slot as usize].slot.present_value = old,
            Undo::Transient { address, key, old } => self.put_transient(address, key, old),
            Undo::Code { account, hash, code } => {
                let info = &mut self.account_at(account).info;
                (info.code_hash, info.code) = (hash, code);
            }
        }
    }

    fn put_transient(&mut self, address: Address, key: U256, value: U256) {
        if value.is_zero() {
            self.transient.remove_value(address, key);
        } else {
            self.transient.insert_value(address, key, value);
        }
    }
}
