//! The transactions of a block, or the rest of them, on one worker.
//!
//! Where nothing is to be gained from running ahead there is no need for versions: the state is
//! changed in place. What makes this faster than the reference executor is what it shares with the
//! other workers: a journal that allocates nothing, payments without the EVM, remembered hashes.

use crate::{
    cell::{AccountValue, takes_credit},
    engine::Verdict,
    forecast::Pace,
    hashes::SeenHashes,
    journal::{LoadedState, Source},
    location::{Incarnation, TxIndex},
    payment::Payment,
    profile::{Ending, WorkerLog},
    tx_evm::{DbInterrupt, Outcome, TxEvm, TxState},
    vm::{
        BeneficiaryWrite, BlockTransactions, Committed, CommittedTransaction, Output, Ran, failed,
    },
};
use alloy_primitives::{Address, B256, U256};
use heddle_evm::{AccountState, BlockState, ExecutionError, ParentState, account_info};
use revm::{
    Database,
    context::result::EVMError,
    state::{AccountInfo, Bytecode},
};
use std::{sync::mpsc::Sender, time::Instant};

/// Transactions that are handed over at once for their receipts.
const HANDED_OVER: usize = 256;

/// A worker that is alone with a block.
pub(crate) struct Solo<'s, T> {
    pub(crate) transactions: &'s BlockTransactions<'s, T>,
    pub(crate) committed: Committed,
    pub(crate) log: WorkerLog,
    /// When the block's transactions began.
    pub(crate) started: Instant,
    pub(crate) pace: Option<Pace<'s>>,
    /// To whom makes the receipts, in order; whatever is not handed over stays in `committed`.
    pub(crate) receipts: Option<Sender<Vec<CommittedTransaction>>>,
}

impl<T> std::fmt::Debug for Solo<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Solo").field("committed", &self.committed).finish_non_exhaustive()
    }
}

impl<T> Solo<'_, T> {
    /// Runs transactions in order, from `first` on, on `state`, which has everything before them
    /// but the beneficiary's account. Gives the state back with their writes, and the first
    /// transaction that was not run: all were, unless the pace is slow.
    pub(crate) fn run<P: ParentState>(
        &mut self,
        first: TxIndex,
        state: BlockState<P>,
        cancelled: impl Fn() -> bool,
    ) -> Result<(BlockState<P>, TxIndex), ExecutionError> {
        let state = SoloState {
            state,
            beneficiary: self.transactions.beneficiary(),
            beneficiary_now: self.committed.beneficiary,
            hashes: SeenHashes::default(),
            jumps: 0,
        };
        let BlockTransactions { env, translations, .. } = self.transactions;
        let mut evm = TxEvm::new(state, env, Bytecode::default(), translations);
        let mut next = first;
        self.log.begin(self.started.elapsed().as_nanos() as u64);
        while next.as_usize() < self.transactions.len() {
            if cancelled() {
                return Err(ExecutionError::Cancelled);
            }
            let tx = next;
            next.0 += 1;
            self.run_one(&mut evm, tx)?;
            evm.state().beneficiary_now = self.committed.beneficiary;
            let now_ns = self.log.last_ns();
            if self.pace.as_mut().is_some_and(|pace| pace.is_slow(tx, now_ns)) {
                break;
            }
        }
        self.log.finish(self.started.elapsed().as_nanos() as u64);
        Ok((evm.into_state().state, next))
    }

    fn run_one<P: ParentState>(
        &mut self,
        evm: &mut TxEvm<SoloState<P>>,
        tx: TxIndex,
    ) -> Result<(), ExecutionError> {
        let nanoseconds = || self.started.elapsed().as_nanos() as u64;
        self.log.start(nanoseconds);
        let output = run(self.transactions, evm, tx, &self.committed)?;
        self.log.end(tx, Incarnation(0), Ending::Executed, nanoseconds);
        match self.transactions.take_in(&mut self.committed, tx, output) {
            // A transaction that is left out has written nothing.
            Verdict::Keep | Verdict::Leave => {}
            Verdict::Stop(error) => return Err(error),
        }
        let committed = &mut self.committed.transactions;
        if committed.len() >= HANDED_OVER
            && let Some(receipts) = &self.receipts
        {
            let ready = std::mem::replace(committed, Vec::with_capacity(HANDED_OVER));
            // Nobody is there any more if making receipts panicked, which the scope passes on.
            let _ = receipts.send(ready);
        }
        Ok(())
    }
}

fn run<T, P: ParentState>(
    transactions: &BlockTransactions<'_, T>,
    evm: &mut TxEvm<SoloState<P>>,
    tx: TxIndex,
    committed: &Committed,
) -> Result<Output, ExecutionError> {
    if !transactions.has_room(tx, committed.gas_used) {
        return Ok(Output::NoRoom);
    }
    if let Some(payment) = transactions.payment(tx) {
        match evm.state().pay(&payment) {
            Ok(Some(ran)) => return Ok(Output::Ran(ran)),
            Ok(None) => {}
            Err(interrupt) => return Err(failed(EVMError::Database(interrupt))),
        }
    }
    match evm.transact(transactions.tx_env(tx)) {
        Ok(Outcome::Ran(ran)) => Ok(Output::Ran(ran)),
        Ok(Outcome::Invalid(reason)) => Ok(Output::Invalid(Box::new(reason))),
        Err(error) => Err(failed(error)),
    }
}

/// The block's state, with the beneficiary's account apart.
struct SoloState<P> {
    state: BlockState<P>,
    beneficiary: Address,
    beneficiary_now: AccountValue,
    hashes: SeenHashes,
    /// JUMPDESTs passed.
    jumps: u32,
}

impl<P> std::fmt::Debug for SoloState<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoloState").finish_non_exhaustive()
    }
}

impl<P: ParentState> SoloState<P> {
    /// Makes a plain payment, if its payer can pay and its payee has no code.
    fn pay(&mut self, payment: &Payment) -> Result<Option<Ran>, DbInterrupt> {
        let LoadedState { tag: payer, state: before, .. } = self.load_account(payment.payer)?;
        let Some(after) = payment.paid_from(before) else { return Ok(None) };
        let LoadedState { tag: payee, state: account, .. } = self.load_account(payment.payee)?;
        if !takes_credit(&account) {
            return Ok(None);
        }
        let account = account.unwrap_or_default();
        let balance = account.balance + payment.value;
        let mut ran = payment.ran();
        for (place, now) in [(payer, after), (payee, AccountState { balance, ..account })] {
            match place {
                Some(place) => self.state.set_account_at(place, Some(now), false),
                None => ran.beneficiary = Some(Box::new(BeneficiaryWrite::Becomes(Some(now)))),
            }
        }
        Ok(Some(ran))
    }
}

impl<P: ParentState> Source for SoloState<P> {
    /// Place in the state; `None` for the beneficiary.
    type AccountTag = Option<usize>;
    type SlotTag = ();

    fn load_account(
        &mut self,
        address: Address,
    ) -> Result<LoadedState<Option<usize>>, DbInterrupt> {
        if address == self.beneficiary {
            return Ok(LoadedState::whole(None, self.beneficiary_now));
        }
        let place = self.state.place(address).map_err(DbInterrupt::Failed)?;
        Ok(LoadedState::whole(Some(place), self.state.account_at(place)))
    }

    fn load_slot(
        &mut self,
        (address, tag): (Address, Option<usize>),
        slot: U256,
    ) -> Result<((), U256), DbInterrupt> {
        let place = self.place(address, tag)?;
        Ok(((), self.state.storage_at(place, slot).map_err(DbInterrupt::Failed)?))
    }
}

impl<P: ParentState> SoloState<P> {
    fn place(&mut self, address: Address, tag: Option<usize>) -> Result<usize, DbInterrupt> {
        tag.map_or_else(|| self.state.place(address).map_err(DbInterrupt::Failed), Ok)
    }
}

impl<P: ParentState> TxState for SoloState<P> {
    fn hashes(&mut self) -> &mut SeenHashes {
        &mut self.hashes
    }

    fn jumps(&mut self) -> &mut u32 {
        &mut self.jumps
    }

    fn is_beneficiary(tag: Option<usize>) -> bool {
        tag.is_none()
    }

    fn put_wipe(
        &mut self,
        address: Address,
        tag: Option<usize>,
        _: bool,
    ) -> Result<(), DbInterrupt> {
        let place = self.place(address, tag)?;
        self.state.set_account_at(place, None, true);
        Ok(())
    }

    fn put_code(&mut self, hash: B256, code: &Bytecode) {
        self.state.insert_code(hash, code.clone());
    }

    fn put_account(&mut self, tag: Option<usize>, now: AccountValue) {
        if let Some(place) = tag {
            self.state.set_account_at(place, now, false);
        }
    }

    fn put_credit(&mut self, _: Option<usize>, _: U256) {
        unreachable!("in order, no account is left open")
    }

    fn put_slot(
        &mut self,
        (address, tag): (Address, Option<usize>),
        key: U256,
        _: Option<()>,
        value: U256,
    ) -> Result<(), DbInterrupt> {
        let place = self.place(address, tag)?;
        self.state.set_storage_at(place, key, value).map_err(DbInterrupt::Failed)
    }
}

impl<P: ParentState> Database for SoloState<P> {
    type Error = DbInterrupt;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, DbInterrupt> {
        Ok(self.load_account(address)?.state.as_ref().map(account_info))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, DbInterrupt> {
        self.state.code_by_hash(code_hash).map_err(DbInterrupt::Failed)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, DbInterrupt> {
        let tag = self.load_account(address)?.tag;
        Ok(self.load_slot((address, tag), slot)?.1)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, DbInterrupt> {
        self.state.block_hash(number).map_err(DbInterrupt::Failed)
    }
}
