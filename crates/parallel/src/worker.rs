//! What a worker runs transactions with: an EVM over the versioned memory.

use crate::{
    cell::{AccountValue, AccountWrite, Found, takes_credit},
    engine::{Interrupt, Trace, View},
    journal::{Source, TxJournal},
    location::TxIndex,
    memory::{AccountCell, Read, SlotCell, VersionedMemory, Write},
    payment::Payment,
    vm::{BeneficiaryWrite, BlockTransactions, Committed, Ran},
};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256, map::B256Map};
use heddle_evm::{
    ParentState, STORAGE_ONLY_CODE_HASH, StateError, account_info, account_state,
    complete_instructions,
};
use revm::{
    Context, Database, MainBuilder,
    bytecode::{
        JumpTable,
        opcode::{JUMPDEST, KECCAK256, STOP},
    },
    context::{
        BlockEnv, Cfg, CfgEnv, ContextError, ContextSetters, ContextTr, LocalContext, TxEnv,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    },
    database_interface::DBErrorMarker,
    handler::{EvmTr, FrameResult, Handler, MainnetEvm},
    interpreter::{
        Instruction, InstructionContext, InstructionResult, instructions::system,
        interpreter::EthInterpreter, interpreter_types::MemoryTr,
    },
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode},
};
use std::{cell::Cell, fmt, marker::PhantomData};

/// A read that stops the EVM.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DbInterrupt {
    #[error("waits for transaction {0}")]
    After(TxIndex),
    #[error("waits until it is the first uncommitted transaction")]
    AtHead,
    #[error(transparent)]
    Failed(StateError),
}

impl DBErrorMarker for DbInterrupt {}

/// The state as one incarnation sees it; takes down what was read.
pub(crate) struct WorkerState<'w, 'm, P> {
    block: &'w BlockTransactions<'w, P>,
    memory: &'m VersionedMemory,
    worker: usize,
    view: Option<View<'w, 'm, Committed>>,
    reads: Vec<Read<'m>>,
    /// Copies of code that this worker alone counts references to.
    code: B256Map<Bytecode>,
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

/// Reads between two looks at whether a run still makes sense.
const READS_UNWATCHED: u32 = 16;

impl<'w, 'm, P: ParentState> WorkerState<'w, 'm, P> {
    fn view(&self) -> &View<'w, 'm, Committed> {
        let Some(view) = &self.view else { unreachable!("the EVM reads only inside a run") };
        view
    }

    fn keep_up(&mut self) -> Result<(), DbInterrupt> {
        let goes_on = self.view.as_mut().is_none_or(|view| view.keep_up(&self.reads));
        if goes_on { Ok(()) } else { Err(DbInterrupt::AtHead) }
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

    /// An account other than the beneficiary, not taken down.
    fn find_account(
        &mut self,
        address: Address,
    ) -> Result<(&'m AccountCell, AccountValue), DbInterrupt> {
        let cell = self.memory.account(address, self.worker);
        let value = match cell.find(self.view().tx) {
            Found::Written(_, value) => value,
            Found::Estimate(other) => return Err(DbInterrupt::After(other)),
            Found::Parent => cell
                .parent(|| Ok(self.block.parent.basic_ref(address)?.as_ref().map(account_state)))
                .map_err(DbInterrupt::Failed)?,
        };
        Ok((cell, value))
    }

    fn read_account(
        &mut self,
        address: Address,
    ) -> Result<(&'m AccountCell, AccountValue), DbInterrupt> {
        self.look()?;
        let (cell, value) = self.find_account(address)?;
        self.note(Read::Account(cell, value));
        Ok((cell, value))
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
        let value = match self.memory.find_slot(cell, self.view().tx) {
            Found::Written(_, value) => value,
            Found::Estimate(other) => return Err(DbInterrupt::After(other)),
            Found::Parent => cell
                .parent(|| self.block.parent.storage_ref(address, slot))
                .map_err(DbInterrupt::Failed)?,
        };
        self.note(Read::Slot(cell, value));
        Ok((cell, value))
    }
}

impl<'m, P: ParentState> Source for WorkerState<'_, 'm, P> {
    /// `None` for the beneficiary, whose account is kept apart.
    type AccountTag = Option<&'m AccountCell>;
    type SlotTag = &'m SlotCell;

    fn load_account(
        &mut self,
        address: Address,
    ) -> Result<(Self::AccountTag, AccountValue), DbInterrupt> {
        if address == self.block.beneficiary() {
            return Ok((None, self.read_beneficiary()?));
        }
        let (cell, value) = self.read_account(address)?;
        Ok((Some(cell), value))
    }

    fn load_slot(
        &mut self,
        address: Address,
        slot: U256,
    ) -> Result<(&'m SlotCell, U256), DbInterrupt> {
        self.read_slot(address, slot)
    }
}

impl<P: ParentState> Database for WorkerState<'_, '_, P> {
    type Error = DbInterrupt;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, DbInterrupt> {
        Ok(self.load_account(address)?.1.as_ref().map(account_info))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, DbInterrupt> {
        if let Some(code) = self.code.get(&code_hash) {
            return Ok(code.clone());
        }
        if code_hash == STORAGE_ONLY_CODE_HASH {
            return Ok(empty_code());
        }
        let code = match self.block.deployed(&code_hash) {
            Some(code) => code,
            None => self.block.parent.code_by_hash_ref(code_hash).map_err(DbInterrupt::Failed)?,
        };
        let code = own_copy(&code);
        self.code.insert(code_hash, code.clone());
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

type WorkerContext<'w, 'm, P> = Context<
    BlockEnv,
    TxEnv,
    CfgEnv,
    WorkerState<'w, 'm, P>,
    TxJournal<WorkerState<'w, 'm, P>>,
    (),
    LocalContext,
>;

/// A worker's EVM, used for one transaction after the other.
pub(crate) struct Worker<'w, 'm, P: ParentState> {
    evm: MainnetEvm<WorkerContext<'w, 'm, P>>,
}

impl<P: ParentState> fmt::Debug for Worker<'_, '_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

/// How a transaction came out that ran to its end or could not begin.
#[derive(Debug)]
pub(crate) enum Outcome {
    Ran(Ran),
    Invalid(InvalidTransaction),
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
            code: B256Map::default(),
            looks: 0,
            jumps: 0,
            hashes: SeenHashes::default(),
        };
        let mut context = WorkerContext::new(state, block.env.cfg_env.spec)
            .with_block(block.env.block_env.clone())
            .with_cfg(block.env.cfg_env.clone());
        context.journaled_state.set_empty_code(empty_code());
        let mut evm = context.build_mainnet();
        complete_instructions(&mut evm.instruction, &block.env.cfg_env);
        // Alone, every run is the head's.
        if memory.workers() > 1 {
            let jumpdest = Instruction::new(jumpdest::<P>);
            evm.instruction.insert_instruction(JUMPDEST, jumpdest, JUMPDEST_GAS);
        }
        let static_gas = evm.instruction.gas_table()[usize::from(KECCAK256)];
        let keccak256 = Instruction::new(keccak256_seen::<P>);
        evm.instruction.insert_instruction(KECCAK256, keccak256, static_gas);
        Self { evm }
    }

    fn state(&mut self) -> &mut WorkerState<'w, 'm, P> {
        &mut self.evm.ctx.journaled_state.source
    }

    fn begin(&mut self, view: &View<'w, 'm, Committed>, trace: &mut Trace<'m>) {
        let state = self.state();
        state.view = Some(*view);
        state.looks = 0;
        state.reads = std::mem::take(&mut trace.reads);
    }

    fn end(&mut self, view: &mut View<'w, 'm, Committed>, trace: &mut Trace<'m>) {
        let state = self.state();
        if let Some(now) = state.view.take() {
            *view = now;
        }
        trace.reads = std::mem::take(&mut state.reads);
    }

    /// Makes a plain payment, if its payer can pay and its payee has no code; otherwise nothing
    /// has happened.
    pub(crate) fn pay(
        &mut self,
        payment: &Payment,
        view: &mut View<'w, 'm, Committed>,
        trace: &mut Trace<'m>,
    ) -> Result<Option<Ran>, DbInterrupt> {
        self.begin(view, trace);
        let paid = self.try_pay(payment, trace);
        self.end(view, trace);
        if !matches!(paid, Ok(Some(_))) {
            trace.reads.clear();
        }
        paid
    }

    fn try_pay(
        &mut self,
        payment: &Payment,
        trace: &mut Trace<'m>,
    ) -> Result<Option<Ran>, DbInterrupt> {
        let state = self.state();
        let (payer, before) = state.read_account(payment.payer)?;
        let Some(after) = payment.paid_from(before) else { return Ok(None) };
        let (payee, account) = state.find_account(payment.payee)?;
        if !takes_credit(&account) {
            return Ok(None);
        }
        state.note(Read::Payee(payee));
        trace.writes.push(Write::Account(payer, AccountWrite::Is(Some(after))));
        trace.writes.push(Write::Account(payee, AccountWrite::Credit(payment.value)));
        Ok(Some(Ran {
            success: true,
            gas_used: payment.gas,
            logs: Vec::new(),
            fee: Some(payment.fee()),
            beneficiary: None,
        }))
    }

    /// Runs a transaction through the EVM.
    pub(crate) fn transact(
        &mut self,
        tx: TxEnv,
        view: &mut View<'w, 'm, Committed>,
        trace: &mut Trace<'m>,
    ) -> Result<Outcome, Interrupt<EVMError<DbInterrupt, InvalidTransaction>>> {
        self.begin(view, trace);
        self.evm.set_tx(tx);
        let mut handler = FeesApart::default();
        let result = handler.run(&mut self.evm);
        let result = match result {
            Ok(result) => Ok(Outcome::Ran(self.ran(result, handler.fee.get(), trace))),
            Err(EVMError::Transaction(reason)) => Ok(Outcome::Invalid(reason)),
            Err(EVMError::Database(DbInterrupt::After(other))) => Err(Interrupt::After(other)),
            Err(EVMError::Database(DbInterrupt::AtHead)) => Err(Interrupt::AtHead),
            Err(error) => Err(Interrupt::Failed(error)),
        };
        self.evm.ctx.journaled_state.reset();
        self.end(view, trace);
        result
    }

    fn ran(
        &self,
        result: ExecutionResult<HaltReason>,
        fee: Option<u128>,
        trace: &mut Trace<'m>,
    ) -> Ran {
        let beneficiary = self.take_writes(&mut trace.writes);
        let (success, gas_used) = (result.is_success(), result.tx_gas_used());
        Ran {
            success,
            gas_used,
            logs: result.into_logs(),
            fee,
            beneficiary: beneficiary.map(Box::new),
        }
    }

    /// Splits what the EVM did to the state into writes to locations.
    fn take_writes(&self, writes: &mut Vec<Write<'m>>) -> Option<BeneficiaryWrite> {
        let journal = &self.evm.ctx.journaled_state;
        let WorkerState { block, memory, worker, .. } = &journal.source;
        let memory: &'m VersionedMemory = memory;
        let clears_empty = self.evm.ctx.cfg.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
        let mut beneficiary = None;
        for loaded in journal.accounts() {
            let account = &loaded.account;
            if !account.is_touched() {
                continue;
            }
            let destroyed = account.is_selfdestructed();
            let mut created = account.is_created() && !destroyed;
            let now = Some(account_state(&account.info));
            let now = if destroyed {
                None
            } else if created {
                now
            } else if account.info.is_empty() {
                // EIP-161: touched and empty is gone. Before it, an account that was there stays
                // as it was, and one that was not comes into being.
                if clears_empty {
                    None
                } else if loaded.before.is_none() {
                    created = true;
                    now
                } else {
                    continue;
                }
            } else {
                now
            };
            // An account that did not exist has no storage that could go: if one of that address
            // was destroyed in this block, its storage went with it.
            let wipes = (destroyed || created) && loaded.before.is_some();
            if wipes {
                writes.push(Write::Wipe(memory.wipe(loaded.address, *worker)));
            }
            if loaded.tag.is_none() && destroyed {
                beneficiary = Some(BeneficiaryWrite::Destroyed);
                continue;
            }
            if now == loaded.before && !wipes {
                continue;
            }
            if let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty())
                && loaded.before.is_none_or(|before| before.code_hash != account.info.code_hash)
                && now.is_some()
            {
                block.publish_code(account.info.code_hash, code);
            }
            match loaded.tag {
                Some(cell) => writes.push(Write::Account(cell, AccountWrite::Is(now))),
                None => beneficiary = Some(BeneficiaryWrite::Becomes(now)),
            }
        }
        for loaded in journal.slots() {
            let slot = &loaded.slot;
            if slot.present_value == slot.original_value {
                continue;
            }
            let owner = &journal.accounts()[loaded.account as usize];
            let account = &owner.account;
            // An account that is gone has no slots.
            let gone = account.is_selfdestructed()
                || (account.info.is_empty() && !account.is_created() && clears_empty);
            if !gone && account.is_touched() {
                let cell =
                    loaded.tag.unwrap_or_else(|| memory.slot(owner.address, loaded.key, *worker));
                writes.push(Write::Slot(cell, slot.present_value));
            }
        }
        beneficiary
    }
}

/// Jumps between two looks at whether a run still makes sense: some microseconds.
const JUMPS_UNWATCHED: u32 = 256;

/// The hashes of 64-byte preimages that a worker computed last. Solidity finds an entry of a mapping
/// by hashing key and place, once for reading it and once more for writing it.
struct SeenHashes(Box<[([u8; 64], U256); Self::ENTRIES]>);

impl SeenHashes {
    /// 12 KB, a part of the core's first cache.
    const ENTRIES: usize = 128;

    fn hash(&mut self, preimage: &[u8; 64]) -> U256 {
        // Keys and places differ in their last bytes. Two that meet at one entry push each other
        // out, which costs what it would cost without.
        let word = |at: usize| {
            preimage[at..].first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_be_bytes(*bytes))
        };
        let mixed = (word(24) ^ word(56).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let entry = &mut self.0[mixed as usize >> 32 & (Self::ENTRIES - 1)];
        if entry.0 != *preimage {
            *entry = (*preimage, keccak256(preimage).into());
        }
        entry.1
    }
}

impl Default for SeenHashes {
    fn default() -> Self {
        let zeros = [0; 64];
        Self(Box::new([(zeros, keccak256(zeros).into()); Self::ENTRIES]))
    }
}

/// KECCAK256 as revm has it, with an eye on [`SeenHashes`].
fn keccak256_seen<P: ParentState>(
    context: InstructionContext<'_, WorkerContext<'_, '_, P>, EthInterpreter>,
) -> Result<(), InstructionResult> {
    let InstructionContext { interpreter, host } = context;
    // Only what is plain: 64 bytes of memory that is there. The rest is revm's.
    let preimage = match interpreter.stack.data()[..] {
        [.., len, offset] if len == PREIMAGE_LEN => usize::try_from(offset).ok(),
        _ => None,
    };
    let end = preimage.and_then(|offset| offset.checked_add(64));
    let (Some(offset), Some(end)) = (preimage, end) else {
        return system::keccak256(InstructionContext { interpreter, host });
    };
    if end > interpreter.memory.size() {
        return system::keccak256(InstructionContext { interpreter, host });
    }
    if !interpreter.gas.record_regular_cost(host.cfg.gas_params().keccak256_cost(64)) {
        return Err(InstructionResult::OutOfGas);
    }
    let hash = match <&[u8; 64]>::try_from(&*interpreter.memory.slice_len(offset, 64)) {
        Ok(preimage) => host.journaled_state.source.hashes.hash(preimage),
        Err(_) => unreachable!("the slice is 64 bytes long"),
    };
    let _ = interpreter.stack.pop();
    let _ = interpreter.stack.pop();
    let _ = interpreter.stack.push(hash);
    Ok(())
}

const PREIMAGE_LEN: U256 = U256::from_limbs([64, 0, 0, 0]);

/// Gas of JUMPDEST (yellow paper, G_jumpdest).
const JUMPDEST_GAS: u16 = 1;

/// JUMPDEST, which does nothing, and which no loop can do without: the place to look whether a
/// long run still makes sense.
#[expect(clippy::needless_pass_by_value, reason = "the signature is revm's")]
fn jumpdest<P: ParentState>(
    context: InstructionContext<'_, WorkerContext<'_, '_, P>, EthInterpreter>,
) -> Result<(), InstructionResult> {
    let state = &mut context.host.journaled_state.source;
    state.jumps = state.jumps.wrapping_add(1);
    if !state.jumps.is_multiple_of(JUMPS_UNWATCHED) {
        return Ok(());
    }
    state.keep_up().map_err(|interrupt| {
        *context.host.error() = Err(ContextError::Db(interrupt));
        InstructionResult::FatalExternalError
    })
}

/// revm's mainnet rules, except that the fee is not paid to the beneficiary but kept apart.
struct FeesApart<E> {
    fee: Cell<Option<u128>>,
    evm: PhantomData<E>,
}

impl<E> Default for FeesApart<E> {
    fn default() -> Self {
        Self { fee: Cell::new(None), evm: PhantomData }
    }
}

impl<'w, 'm, P: ParentState> Handler for FeesApart<MainnetEvm<WorkerContext<'w, 'm, P>>> {
    type Evm = MainnetEvm<WorkerContext<'w, 'm, P>>;
    type Error = EVMError<DbInterrupt, InvalidTransaction>;
    type HaltReason = HaltReason;

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        use revm::context::{Block, Transaction};
        let context = evm.ctx_ref();
        if context.cfg().is_fee_charge_disabled() {
            return Ok(());
        }
        let base_fee = u128::from(context.block().basefee());
        let price = context.tx().effective_gas_price(base_fee);
        // EIP-1559 burns the base fee.
        let price = if context.cfg().spec().is_enabled_in(SpecId::LONDON) {
            price.saturating_sub(base_fee)
        } else {
            price
        };
        let gas = result.gas();
        let used = gas.used().saturating_sub(gas.reservoir());
        self.fee.set(Some(price.wrapping_mul(u128::from(used))));
        Ok(())
    }
}
