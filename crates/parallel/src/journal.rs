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

use alloy_primitives::{
    Address, B256, KECCAK256_EMPTY, Log, U256,
    map::{AddressMap, AddressSet, DefaultHashBuilder, HashSet},
};
use hashbrown::HashTable;
use heddle_evm::{AccountState, STORAGE_ONLY_CODE_HASH};
use revm::{
    Database,
    context::journal::warm_addresses::WarmAddresses,
    context_interface::{
        ErasedError,
        context::{SStoreResult, SelfDestructResult, StateLoad},
        journaled_state::{
            AccountInfoLoad, AccountLoad, JournalCheckpoint, JournalLoadError, JournalTr,
            TransferError, account::JournaledAccountTr, entry::SelfdestructionRevertStatus,
        },
    },
    primitives::{StorageKey, StorageValue, hardfork::SpecId},
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
    ) -> Result<(Self::AccountTag, Option<AccountState>), Self::Error>;

    /// The value of a slot.
    fn load_slot(
        &mut self,
        address: Address,
        slot: U256,
    ) -> Result<(Self::SlotTag, U256), Self::Error>;
}

/// An account that the transaction looked at.
#[derive(Debug)]
pub(crate) struct LoadedAccount<T> {
    pub(crate) address: Address,
    pub(crate) tag: T,
    /// As it was before the transaction.
    pub(crate) before: Option<AccountState>,
    /// As it is now; its storage is in the journal's slots.
    pub(crate) account: Account,
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

    /// The accounts that the transaction looked at.
    pub(crate) fn accounts(&self) -> &[LoadedAccount<S::AccountTag>] {
        &self.accounts[..self.accounts_in_use]
    }

    /// The slots that the transaction looked at.
    pub(crate) fn slots(&self) -> &[LoadedSlot<S::SlotTag>] {
        &self.slots
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
        let (tag, before) = self.source.load_account(address)?;
        let place = self.accounts_in_use as u32;
        if self.accounts_in_use == self.accounts.len() {
            let account = Account::new_not_existing(TransactionId::ZERO);
            self.accounts.push(LoadedAccount { address, tag, before, account });
        }
        self.accounts_in_use += 1;
        let loaded = &mut self.accounts[place as usize];
        (loaded.address, loaded.tag, loaded.before) = (address, tag, before);
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

    fn handle(&mut self, load: StateLoad<u32>) -> StateLoad<AccountHandle<'_, S>> {
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
        let address = self.accounts[account as usize].address;
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
            let (tag, value) = self.source.load_slot(address, key)?;
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

    fn move_balance(&mut self, from: u32, to: u32, amount: U256) -> Option<TransferError> {
        if from == to {
            let short = amount > self.account_at(from).info.balance;
            return short.then_some(TransferError::OutOfFunds);
        }
        if amount.is_zero() {
            self.touch(to);
            return None;
        }
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

/// An account of the journal, for the parts of the EVM that change several things of one account.
pub(crate) struct AccountHandle<'a, S: Source> {
    journal: &'a mut TxJournal<S>,
    place: u32,
}

impl<S: Source> std::fmt::Debug for AccountHandle<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountHandle").field("account", self.account()).finish()
    }
}

type Erased<T> = Result<StateLoad<T>, JournalLoadError<ErasedError>>;

impl<S: Source> JournaledAccountTr for AccountHandle<'_, S> {
    fn account(&self) -> &Account {
        &self.journal.accounts[self.place as usize].account
    }

    fn sload(&mut self, key: StorageKey, skip_cold_load: bool) -> Erased<&mut EvmStorageSlot> {
        let load = self.journal.load_slot(self.place, key, skip_cold_load);
        let load = load.map_err(|error| error.map(ErasedError::new))?;
        Ok(load.map(|place| &mut self.journal.slots[place as usize].slot))
    }

    fn sstore(
        &mut self,
        key: StorageKey,
        new: StorageValue,
        skip_cold_load: bool,
    ) -> Erased<SStoreResult> {
        let load = self.journal.store_slot(self.place, key, new, skip_cold_load);
        load.map_err(|error| error.map(ErasedError::new))
    }

    fn load_code(&mut self) -> Result<&Bytecode, JournalLoadError<ErasedError>> {
        let code = self.journal.load_code_at(self.place);
        code.map_err(|error| JournalLoadError::DBError(ErasedError::new(error)))
    }

    fn balance(&self) -> &U256 {
        &self.account().info.balance
    }

    fn nonce(&self) -> u64 {
        self.account().info.nonce
    }

    fn code_hash(&self) -> &B256 {
        &self.account().info.code_hash
    }

    fn code(&self) -> Option<&Bytecode> {
        self.account().info.code.as_ref()
    }

    fn touch(&mut self) {
        self.journal.touch(self.place);
    }

    fn unsafe_mark_cold(&mut self) {
        self.journal.account_at(self.place).mark_cold();
    }

    fn set_balance(&mut self, balance: U256) {
        self.journal.set_balance(self.place, balance);
    }

    fn incr_balance(&mut self, balance: U256) -> bool {
        self.touch();
        let sum = self.balance().checked_add(balance);
        sum.inspect(|sum| self.set_balance(*sum)).is_some()
    }

    fn decr_balance(&mut self, balance: U256) -> bool {
        self.touch();
        let left = self.balance().checked_sub(balance);
        left.inspect(|left| self.set_balance(*left)).is_some()
    }

    fn bump_nonce(&mut self) -> bool {
        self.touch();
        let next = self.nonce().checked_add(1);
        next.inspect(|next| self.set_nonce(*next)).is_some()
    }

    fn set_nonce(&mut self, nonce: u64) {
        self.journal.set_nonce(self.place, nonce);
    }

    fn unsafe_set_nonce(&mut self, nonce: u64) {
        self.journal.account_at(self.place).info.nonce = nonce;
    }

    fn set_code(&mut self, code_hash: B256, code: Bytecode) {
        self.journal.set_code(self.place, code_hash, code);
    }

    fn set_code_and_hash_slow(&mut self, code: Bytecode) {
        self.set_code(code.hash_slow(), code);
    }

    fn delegate(&mut self, address: Address) {
        let (hash, code) = if address.is_zero() {
            (KECCAK256_EMPTY, self.journal.empty_code.clone())
        } else {
            let code = Bytecode::new_eip7702(address);
            (code.hash_slow(), code)
        };
        self.set_code(hash, code);
        self.bump_nonce();
    }
}

impl<S: Source> JournalTr for TxJournal<S> {
    type Database = S;
    type State = ();
    type JournaledAccount<'a>
        = AccountHandle<'a, S>
    where
        S: 'a;

    fn new(source: S) -> Self {
        Self {
            source,
            accounts: Vec::new(),
            accounts_in_use: 0,
            account_places: HashTable::new(),
            last_account: 0,
            slots: Vec::new(),
            slot_places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            undo: Vec::new(),
            logs: Vec::new(),
            transient: TransientStorage::default(),
            depth: 0,
            spec: SpecId::default(),
            warm: WarmAddresses::new(),
            empty_code: Bytecode::default(),
            state: (),
        }
    }

    fn db_and_state(&self) -> (&S, &()) {
        (&self.source, &self.state)
    }

    fn db_and_state_mut(&mut self) -> (&mut S, &mut ()) {
        (&mut self.source, &mut self.state)
    }

    fn sload_skip_cold_load(
        &mut self,
        address: Address,
        key: StorageKey,
        skip_cold_load: bool,
    ) -> Load<StorageValue, S> {
        let account = self.place_of(&address).ok_or(JournalLoadError::ColdLoadSkipped)?;
        let load = self.load_slot(account, key, skip_cold_load)?;
        Ok(load.map(|place| self.slots[place as usize].slot.present_value))
    }

    fn sstore_skip_cold_load(
        &mut self,
        address: Address,
        key: StorageKey,
        value: StorageValue,
        skip_cold_load: bool,
    ) -> Load<SStoreResult, S> {
        let account = self.place_of(&address).ok_or(JournalLoadError::ColdLoadSkipped)?;
        self.store_slot(account, key, value, skip_cold_load)
    }

    fn tload(&mut self, address: Address, key: StorageKey) -> StorageValue {
        self.transient.get_value(address, key)
    }

    fn tstore(&mut self, address: Address, key: StorageKey, value: StorageValue) {
        let old = self.transient.get_value(address, key);
        if old != value {
            self.put_transient(address, key, value);
            self.undo.push(Undo::Transient { address, key, old });
        }
    }

    fn log(&mut self, log: Log) {
        self.logs.push(log);
    }

    fn take_logs(&mut self) -> Vec<Log> {
        std::mem::take(&mut self.logs)
    }

    fn logs(&self) -> &[Log] {
        &self.logs
    }

    fn selfdestruct(
        &mut self,
        address: Address,
        target: Address,
        skip_cold_load: bool,
    ) -> Load<SelfDestructResult, S> {
        let load = self.load(target, skip_cold_load)?;
        let (place, heir) = (self.loaded_place(&address), load.data);
        let spec = self.spec;
        let target_exists = !self.account_at(heir).state_clear_aware_is_empty(spec);
        let balance = self.account_at(place).info.balance;
        if place != heir {
            self.touch(heir);
            self.account_at(heir).info.balance += balance;
        }
        // EIP-6780: since Cancun only what the same transaction created is destroyed.
        let cancun = spec.is_enabled_in(SpecId::CANCUN);
        let account = self.account_at(place);
        let status = if !account.is_selfdestructed() {
            SelfdestructionRevertStatus::GloballySelfdestroyed
        } else if !account.is_selfdestructed_locally() {
            SelfdestructionRevertStatus::LocallySelfdestroyed
        } else {
            SelfdestructionRevertStatus::RepeatedSelfdestruction
        };
        if account.is_created_locally() || !cancun {
            account.mark_selfdestructed_locally();
            // One that is its own heir burns what it has.
            account.info.balance = U256::ZERO;
            self.undo.push(Undo::Destroyed { account: place, target: heir, status, balance });
        } else if place != heir {
            account.info.balance = U256::ZERO;
            self.undo.push(Undo::Transfer { from: place, to: heir, amount: balance });
        }
        let result = SelfDestructResult {
            had_value: !balance.is_zero(),
            target_exists,
            previously_destroyed: status == SelfdestructionRevertStatus::RepeatedSelfdestruction,
        };
        Ok(StateLoad::new(result, load.is_cold))
    }

    fn warm_access_list(&mut self, access_list: AddressMap<HashSet<StorageKey>>) {
        self.warm.set_access_list(access_list);
    }

    fn warm_coinbase_account(&mut self, address: Address) {
        self.warm.set_coinbase(address);
    }

    fn warm_precompiles(&mut self, addresses: &AddressSet) {
        self.warm.set_precompile_addresses(addresses);
    }

    fn precompile_addresses(&self) -> &AddressSet {
        self.warm.precompiles()
    }

    fn set_spec_id(&mut self, spec_id: SpecId) {
        self.spec = spec_id;
    }

    fn set_eip7708_config(&mut self, _disabled: bool, _delayed_clear_disabled: bool) {}

    fn touch_account(&mut self, address: Address) {
        if let Some(place) = self.place_of(&address) {
            self.touch(place);
        }
    }

    fn transfer(
        &mut self,
        from: Address,
        to: Address,
        balance: U256,
    ) -> Result<Option<TransferError>, S::Error> {
        self.load_account(from)?;
        self.load_account(to)?;
        Ok(self.transfer_loaded(from, to, balance))
    }

    fn transfer_loaded(
        &mut self,
        from: Address,
        to: Address,
        balance: U256,
    ) -> Option<TransferError> {
        let (from, to) = (self.loaded_place(&from), self.loaded_place(&to));
        self.move_balance(from, to, balance)
    }

    #[expect(deprecated, reason = "the trait asks for it; nothing calls it")]
    fn caller_accounting_journal_entry(
        &mut self,
        address: Address,
        old_balance: U256,
        bump_nonce: bool,
    ) {
        let account = self.loaded_place(&address);
        self.undo.push(Undo::Balance { account, old: old_balance });
        self.undo.push(Undo::Touched(account));
        if bump_nonce {
            self.nonce_bump_journal_entry(address);
        }
    }

    fn balance_incr(&mut self, address: Address, balance: U256) -> Result<(), S::Error> {
        self.load_account_mut(address)?.data.incr_balance(balance);
        Ok(())
    }

    fn nonce_bump_journal_entry(&mut self, address: Address) {
        let account = self.loaded_place(&address);
        let old = self.account_at(account).info.nonce.saturating_sub(1);
        self.undo.push(Undo::Nonce { account, old });
    }

    fn load_account(&mut self, address: Address) -> Result<StateLoad<&Account>, S::Error> {
        let load = self.load(address, false).map_err(JournalLoadError::unwrap_db_error)?;
        Ok(self.account_load(load))
    }

    fn load_account_with_code(
        &mut self,
        address: Address,
    ) -> Result<StateLoad<&Account>, S::Error> {
        let load =
            self.load_with_code(address, false).map_err(JournalLoadError::unwrap_db_error)?;
        Ok(self.account_load(load))
    }

    fn load_account_delegated(
        &mut self,
        address: Address,
    ) -> Result<StateLoad<AccountLoad>, S::Error> {
        let load = self.load(address, false).map_err(JournalLoadError::unwrap_db_error)?;
        let spec = self.spec;
        let is_empty = self.account_at(load.data).state_clear_aware_is_empty(spec);
        let delegate = if spec.is_enabled_in(SpecId::PRAGUE) {
            self.load_code_at(load.data)?.eip7702_address()
        } else {
            None
        };
        let is_delegate_account_cold = match delegate {
            Some(delegate) => Some(self.load_account_with_code(delegate)?.is_cold),
            None => None,
        };
        Ok(load.map(|_| AccountLoad { is_delegate_account_cold, is_empty }))
    }

    fn load_account_mut_skip_cold_load(
        &mut self,
        address: Address,
        skip_cold_load: bool,
    ) -> Load<AccountHandle<'_, S>, S> {
        let load = self.load(address, skip_cold_load)?;
        Ok(self.handle(load))
    }

    fn load_account_mut_optional_code(
        &mut self,
        address: Address,
        load_code: bool,
    ) -> Result<StateLoad<AccountHandle<'_, S>>, S::Error> {
        let load = self.load(address, false).map_err(JournalLoadError::unwrap_db_error)?;
        if load_code {
            self.load_code_at(load.data)?;
        }
        Ok(self.handle(load))
    }

    fn set_code_with_hash(&mut self, address: Address, code: Bytecode, hash: B256) {
        let place = self.loaded_place(&address);
        self.set_code(place, hash, code);
    }

    fn checkpoint(&mut self) -> JournalCheckpoint {
        self.depth += 1;
        JournalCheckpoint {
            log_i: self.logs.len(),
            journal_i: self.undo.len(),
            selfdestructed_i: 0,
        }
    }

    fn checkpoint_commit(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn checkpoint_revert(&mut self, checkpoint: JournalCheckpoint) {
        self.depth = self.depth.saturating_sub(1);
        self.logs.truncate(checkpoint.log_i);
        while self.undo.len() > checkpoint.journal_i {
            if let Some(undo) = self.undo.pop() {
                self.revert(undo);
            }
        }
    }

    fn create_account_checkpoint(
        &mut self,
        caller: Address,
        address: Address,
        balance: U256,
        spec_id: SpecId,
    ) -> Result<JournalCheckpoint, TransferError> {
        let checkpoint = self.checkpoint();
        let (payer, place) = (self.loaded_place(&caller), self.loaded_place(&address));
        let account = self.account_at(place);
        if account.info.code_hash != KECCAK256_EMPTY || account.info.nonce != 0 {
            self.checkpoint_revert(checkpoint);
            return Err(TransferError::CreateCollision);
        }
        let for_the_first_time = account.mark_created_locally();
        account.info.code = None;
        // EIP-161.
        if spec_id.is_enabled_in(SpecId::SPURIOUS_DRAGON) {
            account.info.nonce = 1;
        }
        self.undo.push(Undo::Created { account: place, for_the_first_time });
        // Before EIP-161 an account may be kept even though it is empty.
        self.touch(place);
        if balance.is_zero() {
            return Ok(checkpoint);
        }
        let account = self.account_at(place);
        let Some(sum) = account.info.balance.checked_add(balance) else {
            self.checkpoint_revert(checkpoint);
            return Err(TransferError::OverflowPayment);
        };
        account.info.balance = sum;
        // That the creator can pay was checked before.
        self.account_at(payer).info.balance -= balance;
        self.undo.push(Undo::Transfer { from: payer, to: place, amount: balance });
        Ok(checkpoint)
    }

    fn depth(&self) -> usize {
        self.depth
    }

    /// What the transaction did stays readable until [`TxJournal::reset`].
    fn commit_tx(&mut self) {
        self.end_transaction();
    }

    fn discard_tx(&mut self) {
        self.reset();
    }

    fn finalize(&mut self) {
        self.reset();
    }

    fn load_account_info_skip_cold_load(
        &mut self,
        address: Address,
        load_code: bool,
        skip_cold_load: bool,
    ) -> Result<AccountInfoLoad<'_>, JournalLoadError<S::Error>> {
        let load = self.load(address, skip_cold_load)?;
        if load_code {
            self.load_code_at(load.data)?;
        }
        let account = &self.accounts[load.data as usize].account;
        let is_empty = account.state_clear_aware_is_empty(self.spec);
        Ok(AccountInfoLoad::new(&account.info, load.is_cold, is_empty))
    }
}
