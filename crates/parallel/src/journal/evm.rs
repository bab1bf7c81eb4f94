//! The journal as the EVM uses it: revm's interfaces over [`TxJournal`].

use super::{Load, Source, TxJournal, Undo};
use alloy_primitives::{
    Address, B256, KECCAK256_EMPTY, Log, U256,
    map::{AddressMap, AddressSet, DefaultHashBuilder, HashSet},
};
use hashbrown::HashTable;
use revm::{
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
    state::{Account, Bytecode, EvmStorageSlot, TransientStorage},
};

/// An account of the journal, for the parts of the EVM that change several things of one account.
pub(crate) struct AccountHandle<'a, S: Source> {
    pub(super) journal: &'a mut TxJournal<S>,
    pub(super) place: u32,
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
        self.close(place);
        self.close(heir);
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
        if spec.is_enabled_in(SpecId::PRAGUE) {
            self.load_code_at(load.data)?;
        }
        let code = self.account_at(load.data).info.code.as_ref();
        let delegate = code.and_then(Bytecode::eip7702_address);
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
        self.close(payer);
        self.close(place);
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
        // CALL and its like, EXTCODESIZE and EXTCODECOPY ask for the code, and look at nothing else
        // of an account that has one. BALANCE, SELFBALANCE and EXTCODEHASH do not.
        if load_code {
            self.load_code_at(load.data)?;
        } else {
            self.close(load.data);
        }
        let account = &self.accounts[load.data as usize].account;
        let is_empty = account.state_clear_aware_is_empty(self.spec);
        Ok(AccountInfoLoad::new(&account.info, load.is_cold, is_empty))
    }
}
