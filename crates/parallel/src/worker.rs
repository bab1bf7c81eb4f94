//! What a worker runs transactions with: an EVM over the versioned memory.

use crate::{
    cell::{AccountValue, AccountWrite, Found, balance_can_be_open, takes_credit},
    engine::{Interrupt, Trace, View},
    hashes::SeenHashes,
    journal::{LoadedState, Source},
    memory::{AccountCell, Read, SlotCell, VersionedMemory, Write},
    payment::Payment,
    tx_evm::{DbInterrupt, Outcome, TxEvm, TxState},
    vm::{BlockTransactions, Committed, Ran},
};
use alloy_primitives::{Address, B256, Bytes, U256, map::B256Map};
use heddle_evm::{ParentState, STORAGE_ONLY_CODE_HASH, account_info, account_state};
use revm::{
    Database,
    bytecode::{JumpTable, opcode::STOP},
    context::{
        TxEnv,
        result::{EVMError, InvalidTransaction},
    },
    state::{AccountInfo, Bytecode},
};
use std::fmt;

/// The state as one incarnation sees it; takes down what was read.
pub(crate) struct WorkerState<'w, 'm, P> {
    block: &'w BlockTransactions<'w, P>,
    memory: &'m VersionedMemory,
    worker: usize,
    view: Option<View<'w, 'm, Committed>>,
    reads: Vec<Read<'m>>,
    writes: Vec<Write<'m>>,
    code: B256Map<WorkerCode>,
    /// Reads of this run.
    looks: u32,
    /// JUMPDESTs passed.
    jumps: u32,
    hashes: SeenHashes,
}

impl<P> fmt::Debug for WorkerState<'_, '_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerState").field("reads", &self.reads).finish_non_exhaustive()
    }
}

/// Code that a worker has met.
enum WorkerCode {
    /// Once, as all have it.
    Shared(Bytecode),
    /// Again, in a copy that this worker alone counts references to.
    Own(Bytecode),
}

/// How a worker finds an account again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountTag<'m> {
    /// `None` for the beneficiary, whose account is kept apart.
    cell: Option<&'m AccountCell>,
    /// Which read of the run it was, if the account is open.
    read: u32,
}

/// Reads between two looks at whether a run still makes sense.
pub const READS_UNWATCHED: u32 = 16;

impl<'w, 'm, P: ParentState> WorkerState<'w, 'm, P> {
    fn view(&self) -> &View<'w, 'm, Committed> {
        let Some(view) = &self.view else { unreachable!("the EVM reads only inside a run") };
        view
    }

    fn look(&mut self) -> Result<(), DbInterrupt> {
        self.looks += 1;
        if self.looks.is_multiple_of(READS_UNWATCHED) { self.keep_up() } else { Ok(()) }
    }

    /// Takes down what was read. What the head reads is final.
    fn note(&mut self, read: Read<'m>) {
        if !self.view().at_head {
            self.reads.push(read);
        }
    }

    fn parent_account(&self, cell: &'m AccountCell) -> Result<AccountValue, DbInterrupt> {
        let parent = &self.block.parent;
        let account = || Ok(parent.basic_ref(cell.key)?.as_ref().map(account_state));
        cell.parent(|| self.view().read_parent(account)).map_err(DbInterrupt::Failed)
    }

    /// An account other than the beneficiary, not taken down.
    fn find_account(&self, cell: &'m AccountCell) -> Result<AccountValue, DbInterrupt> {
        match cell.find(self.view().tx) {
            Found::Written(_, value) => Ok(value),
            Found::Estimate(other) => Err(DbInterrupt::After(other)),
            Found::Parent => self.parent_account(cell),
        }
    }

    /// Changes what was taken down of an account that is open. If what the run depends on is not
    /// true any more then, the next look finds it out.
    fn change_open(&mut self, tag: AccountTag<'m>, change: impl FnOnce(Read<'m>) -> Read<'m>) {
        let read = &mut self.reads[tag.read as usize];
        *read = change(*read);
        if let Some(view) = &mut self.view
            && view.holds
        {
            view.holds = self.memory.validate(view.tx, std::slice::from_ref(read)).is_ok();
        }
    }

    fn read_beneficiary(&mut self) -> Result<AccountValue, DbInterrupt> {
        self.keep_up()?;
        let view = self.view();
        if !view.at_head {
            return Err(DbInterrupt::AtHead);
        }
        Ok(view.committed(|committed| committed.beneficiary))
    }

    fn read_slot(
        &mut self,
        address: Address,
        slot: U256,
    ) -> Result<(&'m SlotCell, U256), DbInterrupt> {
        self.look()?;
        let cell = self.memory.slot(address, slot, self.worker);
        let rule = cell.rule().filter(|_| !self.view().at_head);
        let (found, more) = match rule {
            Some(rule) => self.view().foresee(cell, rule),
            None => (self.memory.find_slot(cell, self.view().tx), U256::ZERO),
        };
        let value = match found {
            Found::Written(_, value) => value,
            Found::Estimate(other) => return Err(DbInterrupt::After(other)),
            Found::Parent => cell
                .parent(|| self.view().read_parent(|| self.block.parent.storage_ref(address, slot)))
                .map_err(DbInterrupt::Failed)?,
        };
        if rule.is_some() {
            let value = value.wrapping_add(more);
            self.reads.push(Read::Counter(cell, value));
            return Ok((cell, value));
        }
        self.note(Read::Slot(cell, value));
        Ok((cell, value))
    }
}

impl<'m, P: ParentState> Source for WorkerState<'_, 'm, P> {
    type AccountTag = AccountTag<'m>;
    type SlotTag = &'m SlotCell;

    fn load_account(
        &mut self,
        address: Address,
    ) -> Result<LoadedState<Self::AccountTag>, DbInterrupt> {
        if address == self.block.beneficiary() {
            let tag = AccountTag { cell: None, read: 0 };
            return Ok(LoadedState::whole(tag, self.read_beneficiary()?));
        }
        self.look()?;
        let cell = self.memory.account(address, self.worker);
        let found = cell.find_open(self.view().tx);
        let value = match found {
            Found::Written(_, value) => value,
            Found::Estimate(other) => return Err(DbInterrupt::After(other)),
            Found::Parent => self.parent_account(cell)?,
        };
        let tag = AccountTag { cell: Some(cell), read: self.reads.len() as u32 };
        // What the head reads is final, and nothing need be left open.
        if let Some(state) = value.filter(balance_can_be_open)
            && !self.view().holds
        {
            self.reads.push(Read::Contract(cell, state, 0));
            return Ok(LoadedState { tag, state: value, is_open: true });
        }
        // A change of the account's balance may be about to come out otherwise.
        let value = if found == Found::Parent { value } else { self.find_account(cell)? };
        self.note(Read::Account(cell, value));
        Ok(LoadedState::whole(tag, value))
    }

    fn close(&mut self, tag: AccountTag<'m>) {
        self.change_open(tag, |read| match read {
            Read::Contract(cell, state, _) => Read::Account(cell, Some(state)),
            read => read,
        });
    }

    fn needs(&mut self, tag: AccountTag<'m>, least: u128) {
        self.change_open(tag, |read| match read {
            Read::Contract(cell, state, needed) => Read::Contract(cell, state, needed.max(least)),
            read => read,
        });
    }

    fn load_slot(
        &mut self,
        (address, _): (Address, AccountTag<'m>),
        slot: U256,
    ) -> Result<(&'m SlotCell, U256), DbInterrupt> {
        self.read_slot(address, slot)
    }
}

impl<'m, P: ParentState> TxState for WorkerState<'_, 'm, P> {
    fn hashes(&mut self) -> &mut SeenHashes {
        &mut self.hashes
    }

    fn jumps(&mut self) -> &mut u32 {
        &mut self.jumps
    }

    fn keep_up(&mut self) -> Result<(), DbInterrupt> {
        let goes_on = self.view.as_mut().is_none_or(|view| view.keep_up(&self.reads));
        if goes_on { Ok(()) } else { Err(DbInterrupt::AtHead) }
    }

    fn is_beneficiary(tag: AccountTag<'m>) -> bool {
        tag.cell.is_none()
    }

    fn put_wipe(
        &mut self,
        address: Address,
        _: AccountTag<'m>,
        existed: bool,
    ) -> Result<(), DbInterrupt> {
        // An account that did not exist has no storage that could go: if one of that address
        // was destroyed in this block, its storage went with it.
        if existed {
            self.writes.push(Write::Wipe(self.memory.wipe(address, self.worker)));
        }
        Ok(())
    }

    fn put_code(&mut self, hash: B256, code: &Bytecode) {
        self.block.publish_code(hash, code);
    }

    fn put_account(&mut self, tag: AccountTag<'m>, now: AccountValue) {
        if let Some(cell) = tag.cell {
            self.writes.push(Write::Account(cell, AccountWrite::Is(now)));
        }
    }

    fn put_credit(&mut self, tag: AccountTag<'m>, amount: U256) {
        if let Some(cell) = tag.cell {
            self.writes.push(Write::Account(cell, AccountWrite::Credit(amount)));
        }
    }

    fn put_slot(
        &mut self,
        (address, _): (Address, AccountTag<'m>),
        key: U256,
        tag: Option<&'m SlotCell>,
        value: U256,
    ) -> Result<(), DbInterrupt> {
        let cell = tag.unwrap_or_else(|| self.memory.slot(address, key, self.worker));
        self.writes.push(Write::Slot(cell, value));
        Ok(())
    }
}

impl<P: ParentState> Database for WorkerState<'_, '_, P> {
    type Error = DbInterrupt;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, DbInterrupt> {
        Ok(self.load_account(address)?.state.as_ref().map(account_info))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, DbInterrupt> {
        if code_hash == STORAGE_ONLY_CODE_HASH {
            return Ok(empty_code());
        }
        if let Some(known) = self.code.get_mut(&code_hash) {
            // A copy has a jump table of its own: too much for code that runs once in a block.
            if let WorkerCode::Shared(code) = known {
                *known = WorkerCode::Own(own_copy(code));
            }
            let (WorkerCode::Shared(code) | WorkerCode::Own(code)) = known;
            return Ok(code.clone());
        }
        let code = match self.block.deployed(&code_hash) {
            Some(code) => code,
            None => self.block.parent.code_by_hash_ref(code_hash).map_err(DbInterrupt::Failed)?,
        };
        self.code.insert(code_hash, WorkerCode::Shared(code.clone()));
        Ok(code)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, DbInterrupt> {
        Ok(self.read_slot(address, slot)?.1)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, DbInterrupt> {
        self.block.parent.block_hash_ref(number).map_err(DbInterrupt::Failed)
    }
}

/// The same code behind a reference count of its own. Every call clones and drops the code that
/// it runs; with one count for all workers its cache line would travel between the cores several
/// times a transaction.
fn own_copy(code: &Bytecode) -> Bytecode {
    if let Some(address) = code.eip7702_address() {
        return Bytecode::new_eip7702(address);
    }
    let Some(jumps) = code.legacy_jump_table() else { return code.clone() };
    analyzed(code.bytes(), code.len(), jumps.clone())
}

/// No code, behind a reference count of its own.
fn empty_code() -> Bytecode {
    analyzed(Bytes::from_static(&[STOP]), 0, JumpTable::default())
}

#[expect(unsafe_code, reason = "revm has no other way to copy analysed code without analysing it")]
fn analyzed(padded: Bytes, len: usize, jumps: JumpTable) -> Bytecode {
    // SAFETY: bytes, length and jump table come from one `Bytecode` that revm's analysis made and
    // padded, or are its empty code: a single STOP. Both callers are in sight.
    unsafe { Bytecode::new_analyzed(padded, len, jumps) }
}

/// A worker's EVM, used for one transaction after the other.
pub(crate) struct Worker<'w, 'm, P: ParentState> {
    evm: TxEvm<WorkerState<'w, 'm, P>>,
}

impl<P: ParentState> fmt::Debug for Worker<'_, '_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl<'w, 'm, P: ParentState> Worker<'w, 'm, P> {
    pub(crate) fn new(
        block: &'w BlockTransactions<'w, P>,
        memory: &'m VersionedMemory,
        worker: usize,
    ) -> Self {
        let state = WorkerState {
            block,
            memory,
            worker,
            view: None,
            reads: Vec::new(),
            writes: Vec::new(),
            code: B256Map::default(),
            looks: 0,
            jumps: 0,
            hashes: SeenHashes::default(),
        };
        Self { evm: TxEvm::new(state, block.env, empty_code(), block.translations) }
    }

    fn begin(&mut self, view: &View<'w, 'm, Committed>, trace: &mut Trace<'m>) {
        let state = self.evm.state();
        state.view = Some(*view);
        state.looks = 0;
        state.reads = std::mem::take(&mut trace.reads);
        state.writes = std::mem::take(&mut trace.writes);
    }

    fn end(&mut self, view: &mut View<'w, 'm, Committed>, trace: &mut Trace<'m>) {
        let state = self.evm.state();
        if let Some(now) = state.view.take() {
            *view = now;
        }
        trace.reads = std::mem::take(&mut state.reads);
        trace.writes = std::mem::take(&mut state.writes);
    }

    /// Makes a plain payment, if its payer can pay, its payee has no code, and neither is the
    /// beneficiary; otherwise nothing has happened.
    pub(crate) fn pay(
        &mut self,
        payment: &Payment,
        view: &mut View<'w, 'm, Committed>,
        trace: &mut Trace<'m>,
    ) -> Result<Option<Ran>, DbInterrupt> {
        self.begin(view, trace);
        let paid = self.try_pay(payment);
        self.end(view, trace);
        if !matches!(paid, Ok(Some(_))) {
            trace.reads.clear();
        }
        paid
    }

    fn try_pay(&mut self, payment: &Payment) -> Result<Option<Ran>, DbInterrupt> {
        let state = self.evm.state();
        let beneficiary = state.block.beneficiary();
        if payment.payer == beneficiary || payment.payee == beneficiary {
            return Ok(None);
        }
        state.look()?;
        let payer = state.memory.account(payment.payer, state.worker);
        let before = state.find_account(payer)?;
        state.note(Read::Account(payer, before));
        let Some(after) = payment.paid_from(before) else { return Ok(None) };
        let payee = state.memory.account(payment.payee, state.worker);
        let account = match payee.find_replaced(state.view().tx) {
            Found::Written(_, value) => value,
            Found::Estimate(other) => return Err(DbInterrupt::After(other)),
            Found::Parent => state.parent_account(payee)?,
        };
        if !takes_credit(&account) {
            return Ok(None);
        }
        state.note(Read::Payee(payee));
        state.writes.push(Write::Account(payer, AccountWrite::Is(Some(after))));
        state.writes.push(Write::Account(payee, AccountWrite::Credit(payment.value)));
        Ok(Some(payment.ran()))
    }

    /// Runs a transaction through the EVM.
    pub(crate) fn transact(
        &mut self,
        tx: TxEnv,
        view: &mut View<'w, 'm, Committed>,
        trace: &mut Trace<'m>,
    ) -> Result<Outcome, Interrupt<EVMError<DbInterrupt, InvalidTransaction>>> {
        self.begin(view, trace);
        let outcome = self.evm.transact(tx).map_err(|error| match error {
            EVMError::Database(DbInterrupt::After(other)) => Interrupt::After(other),
            EVMError::Database(DbInterrupt::AtHead) => Interrupt::AtHead,
            error => Interrupt::Failed(error),
        });
        self.end(view, trace);
        outcome
    }
}
