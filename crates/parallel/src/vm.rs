//! One transaction through revm, over the versioned memory.

use crate::{
    engine::{Execution, Interrupt, Transactions, Verdict, View},
    location::{Location, Read, TxIndex, Value, Write},
    memory::Found,
    sync::RwLock,
};
use alloy_consensus::Transaction as _;
use alloy_evm::{EvmEnv, ToTxEnv};
use alloy_primitives::{
    Address, B256, Bloom, Log, U256,
    map::{B256Map, HashMap},
};
use heddle_evm::{
    AccountState, ExecutionError, InvalidTransactions, ParentState, Receipt, RecoveredTransaction,
    STORAGE_ONLY_CODE_HASH, SkippedTransaction, StateError, TransactionError, account_info,
    build_receipt, complete_instructions,
};
use revm::{
    Context, Database, ExecuteEvm, MainBuilder, MainContext,
    bytecode::opcode::JUMPDEST,
    context::{
        BlockEnv, Cfg, CfgEnv, ContextError, ContextSetters, ContextTr, Journal, TxEnv,
        result::{EVMError, HaltReason, InvalidTransaction},
    },
    database_interface::DBErrorMarker,
    handler::{EvmTr, FrameResult, Handler, MainnetEvm},
    interpreter::{
        Instruction, InstructionContext, InstructionResult, interpreter::EthInterpreter,
    },
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode, EvmState},
};
use std::{cell::Cell, fmt};

/// What running one transaction gave.
#[derive(Debug)]
pub(crate) enum Output {
    Ran(Ran),
    /// The transaction cannot be at this place.
    Invalid(InvalidTransaction),
    /// The block has less gas left than the transaction may use.
    NoRoom,
}

/// A transaction that ran, well or not.
#[derive(Debug)]
pub(crate) struct Ran {
    success: bool,
    gas_used: u64,
    logs: Vec<Log>,
    /// The bloom of the logs, if there are any. Behind a pointer, because most transactions of
    /// most blocks have none and 256 bytes for each would double what a block keeps in memory.
    bloom: Option<Box<Bloom>>,
    /// What the beneficiary gets, in wei; `None` where fees are switched off.
    fee: Option<U256>,
    beneficiary: BeneficiaryWrite,
}

/// What a transaction did to the beneficiary's account beside paying it the fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BeneficiaryWrite {
    Nothing,
    Becomes(Option<AccountState>),
    /// It destroyed itself; the fee of the same transaction is destroyed with it.
    Destroyed,
}

/// What the commits of a block add up to.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) gas_used: u64,
    pub(crate) blob_gas_used: u64,
    pub(crate) skipped: Vec<SkippedTransaction>,
    /// The beneficiary's account now. Fees are sums: they are added here, in order, instead of
    /// making every transaction depend on the one before.
    pub(crate) beneficiary: Option<AccountState>,
}

/// The transactions of a block, over the state they start from.
pub(crate) struct BlockTransactions<'a, P> {
    parent: &'a P,
    env: &'a EvmEnv,
    transactions: &'a [RecoveredTransaction],
    invalid: InvalidTransactions,
    /// Code that the block itself deployed. Found by hash, so an entry of an incarnation that
    /// came to nothing does no harm.
    code: RwLock<B256Map<Bytecode>>,
    /// EIP-7702 transactions with their authorities recovered.
    set_code_envs: RwLock<HashMap<TxIndex, TxEnv>>,
}

impl<P> fmt::Debug for BlockTransactions<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockTransactions").field("transactions", &self.transactions.len()).finish()
    }
}

impl<'a, P: ParentState> BlockTransactions<'a, P> {
    pub(crate) fn new(
        parent: &'a P,
        env: &'a EvmEnv,
        transactions: &'a [RecoveredTransaction],
        invalid: InvalidTransactions,
    ) -> Self {
        let (code, set_code_envs) = (RwLock::default(), RwLock::default());
        Self { parent, env, transactions, invalid, code, set_code_envs }
    }

    fn beneficiary(&self) -> Address {
        self.env.block_env.beneficiary
    }

    /// What commits start from.
    pub(crate) fn nothing_committed(&self) -> Result<Committed, StateError> {
        let beneficiary = self.parent.basic_ref(self.beneficiary())?;
        Ok(Committed {
            receipts: Vec::with_capacity(self.transactions.len()),
            gas_used: 0,
            blob_gas_used: 0,
            skipped: Vec::new(),
            beneficiary: beneficiary.as_ref().map(state_of),
        })
    }

    /// A worker's EVM.
    pub(crate) fn worker(&self) -> Worker<'_, P> {
        let db = WorkerDb { block: self, view: None, reads: Vec::new(), jumps: 0 };
        let mut evm = Context::mainnet()
            .with_block(self.env.block_env.clone())
            .with_cfg(self.env.cfg_env.clone())
            .with_db(db)
            .build_mainnet();
        complete_instructions(&mut evm.instruction, &self.env.cfg_env);
        evm.instruction.insert_instruction(JUMPDEST, Instruction::new(jumpdest::<P>), JUMPDEST_GAS);
        Worker { evm }
    }

    /// Code deployed by the block, for the state that it leaves.
    pub(crate) fn into_code(self) -> B256Map<Bytecode> {
        std::mem::take(&mut *self.code.write())
    }

    fn publish_code(&self, info: &AccountInfo) {
        if let Some(code) = info.code.as_ref().filter(|code| !code.is_empty())
            && !self.code.read().contains_key(&info.code_hash)
        {
            self.code.write().insert(info.code_hash, code.clone());
        }
    }

    /// Splits what the EVM did to the state into writes to locations.
    fn writes(&self, state: &EvmState) -> (Vec<Write>, BeneficiaryWrite) {
        let mut writes = Vec::new();
        let mut beneficiary = BeneficiaryWrite::Nothing;
        for (address, account) in state.iter().filter(|(_, account)| account.is_touched()) {
            let address = *address;
            let destroyed = account.is_selfdestructed();
            let created = account.is_created() && !destroyed;
            if destroyed || created {
                writes.push(Write { location: Location::Wipe(address), value: Value::Wipe });
            }
            let now = if destroyed {
                Some(None)
            } else if created {
                Some(Some(state_of(&account.info)))
            } else if account.is_empty() {
                // EIP-161: touched and empty is gone. Where that is not so yet, revm's journal
                // has marked the account as created or not touched it.
                (!account.is_loaded_as_not_existing()).then_some(None)
            } else {
                account.is_changed().then(|| Some(state_of(&account.info)))
            };
            if let Some(now) = now {
                if now.is_some() {
                    self.publish_code(&account.info);
                }
                if address == self.beneficiary() {
                    beneficiary = if destroyed {
                        BeneficiaryWrite::Destroyed
                    } else {
                        BeneficiaryWrite::Becomes(now)
                    };
                } else {
                    let value = Value::Account(now);
                    writes.push(Write { location: Location::Account(address), value });
                }
            }
            // An account that is gone has no slots.
            if now != Some(None) {
                writes.extend(account.changed_storage_slots().map(|(slot, value)| Write {
                    location: Location::Slot(address, *slot),
                    value: Value::Slot(value.present_value),
                }));
            }
        }
        (writes, beneficiary)
    }

    fn pay(&self, beneficiary: Option<AccountState>, fee: Option<U256>) -> Option<AccountState> {
        let Some(fee) = fee else { return beneficiary };
        let mut account = beneficiary.unwrap_or_default();
        // As revm has it: what does not fit is not paid.
        account.balance = account.balance.checked_add(fee).unwrap_or(account.balance);
        // Paying nothing touches the account all the same, see EIP-161.
        let keeps_empty = !self.env.cfg_env.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
        (keeps_empty || !account_info(&account).is_empty()).then_some(account)
    }

    /// Gas that the block has left, if `gas_limit` is more than that.
    fn lacks_room(&self, gas_limit: u64, committed: &Committed) -> Option<u64> {
        let available = self.env.block_env.gas_limit - committed.gas_used;
        let needed = gas_limit.min(Cfg::tx_gas_limit_cap(&self.env.cfg_env));
        (needed > available).then_some(available)
    }

    /// The transaction as revm wants it. With EIP-7702 this recovers the authorities, which is
    /// worth remembering for the next incarnation.
    fn tx_env(&self, tx: TxIndex) -> TxEnv {
        let transaction = &self.transactions[tx.as_usize()];
        if transaction.authorization_list().is_none() {
            return transaction.to_tx_env();
        }
        if let Some(env) = self.set_code_envs.read().get(&tx) {
            return env.clone();
        }
        let env: TxEnv = transaction.to_tx_env();
        self.set_code_envs.write().insert(tx, env.clone());
        env
    }

    fn refuse(
        &self,
        committed: &mut Committed,
        tx: TxIndex,
        reason: TransactionError,
    ) -> Verdict<ExecutionError> {
        let index = tx.as_usize();
        match self.invalid {
            InvalidTransactions::Skip => {
                committed.skipped.push(SkippedTransaction { index, reason });
                Verdict::Leave
            }
            InvalidTransactions::Reject => Verdict::Stop(ExecutionError::InvalidTransaction {
                index,
                hash: *self.transactions[index].inner().tx_hash(),
                reason,
            }),
        }
    }
}

fn state_of(info: &AccountInfo) -> AccountState {
    AccountState { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash }
}

impl<P: ParentState> Transactions for BlockTransactions<'_, P> {
    type Worker<'a>
        = Worker<'a, P>
    where
        Self: 'a;
    type Output = Output;
    type Committed = Committed;
    type Error = ExecutionError;

    fn execute<'w>(
        &'w self,
        worker: &mut Worker<'w, P>,
        tx: TxIndex,
        view: View<'w, Committed>,
    ) -> Result<Execution<Output>, Interrupt<ExecutionError>> {
        let at_head = view.at_head;
        let gas_limit = self.transactions[tx.as_usize()].gas_limit();
        if at_head && view.committed(|committed| self.lacks_room(gas_limit, committed).is_some()) {
            // As in order: a transaction that does not fit is not even looked at.
            let (reads, writes) = (Vec::new(), Vec::new());
            return Ok(Execution { reads, writes, output: Output::NoRoom });
        }
        let (reads, result) = worker.transact(self.tx_env(tx), view);
        let (output, writes) = match result {
            Ok((result, fee, state)) => {
                let (writes, beneficiary) = self.writes(&state);
                let (success, gas_used) = (result.is_success(), result.tx_gas_used());
                let logs = result.into_logs();
                let bloom = (!logs.is_empty()).then(|| Box::new(logs.iter().collect()));
                (Output::Ran(Ran { success, gas_used, logs, bloom, fee, beneficiary }), writes)
            }
            Err(EVMError::Transaction(reason)) => (Output::Invalid(reason), Vec::new()),
            Err(EVMError::Database(DbInterrupt::After(other))) => {
                return Err(Interrupt::After(other));
            }
            Err(EVMError::Database(DbInterrupt::AtHead)) => return Err(Interrupt::AtHead),
            // Stale reads can lead to anything, even to a state that the parent cannot answer for.
            Err(_) if !at_head => return Err(Interrupt::AtHead),
            Err(EVMError::Database(DbInterrupt::Failed(error))) => {
                return Err(Interrupt::Failed(ExecutionError::State(error)));
            }
            Err(error) => return Err(Interrupt::Failed(ExecutionError::Block(error.to_string()))),
        };
        Ok(Execution { reads, writes, output })
    }

    fn commit(
        &self,
        committed: &mut Committed,
        tx: TxIndex,
        output: Output,
    ) -> Verdict<ExecutionError> {
        let transaction = &self.transactions[tx.as_usize()];
        let gas_limit = transaction.gas_limit();
        if let Some(available) = self.lacks_room(gas_limit, committed) {
            let reason = TransactionError::BlockGasExceeded { gas_limit, available };
            return self.refuse(committed, tx, reason);
        }
        let ran = match output {
            Output::NoRoom => unreachable!("room is only ever taken, never given back"),
            Output::Invalid(reason) => {
                let reason = TransactionError::Invalid(reason);
                return self.refuse(committed, tx, reason);
            }
            Output::Ran(ran) => ran,
        };
        committed.beneficiary = match ran.beneficiary {
            BeneficiaryWrite::Destroyed => None,
            BeneficiaryWrite::Becomes(now) => self.pay(now, ran.fee),
            BeneficiaryWrite::Nothing => self.pay(committed.beneficiary, ran.fee),
        };
        committed.gas_used += ran.gas_used;
        if self.env.cfg_env.spec.is_enabled_in(SpecId::CANCUN) {
            committed.blob_gas_used += transaction.blob_gas_used().unwrap_or_default();
        }
        committed.receipts.push(build_receipt(
            transaction.tx_type(),
            ran.success,
            committed.gas_used,
            ran.logs,
            ran.bloom.map_or(Bloom::ZERO, |bloom| *bloom),
        ));
        Verdict::Keep
    }
}

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
pub(crate) struct WorkerDb<'a, P> {
    block: &'a BlockTransactions<'a, P>,
    view: Option<View<'a, Committed>>,
    reads: Vec<Read>,
    /// JUMPDESTs passed.
    jumps: u32,
}

impl<P> fmt::Debug for WorkerDb<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerDb").field("reads", &self.reads).finish_non_exhaustive()
    }
}

impl<'a, P: ParentState> WorkerDb<'a, P> {
    fn view(&self) -> View<'a, Committed> {
        let Some(view) = self.view else { unreachable!("the EVM reads only inside `transact`") };
        view
    }

    fn keep_up(&mut self) -> Result<(), DbInterrupt> {
        let goes_on = self.view.as_mut().is_none_or(|view| view.keep_up(&self.reads));
        if goes_on { Ok(()) } else { Err(DbInterrupt::AtHead) }
    }

    /// What the block's earlier transactions left at `location`, taken down as read.
    fn find(&mut self, location: Location) -> Result<Option<Value>, DbInterrupt> {
        self.keep_up()?;
        match self.view().find(&location) {
            Found::Parent => Ok(None),
            Found::Estimate(other) => Err(DbInterrupt::After(other)),
            Found::Written(version, value) => {
                self.reads.push(Read { location, source: Some(version), value });
                Ok(Some(value))
            }
        }
    }

    fn read_parent(&mut self, location: Location, value: Value) {
        self.reads.push(Read { location, source: None, value });
    }

    fn read_beneficiary(&mut self) -> Result<Option<AccountInfo>, DbInterrupt> {
        self.keep_up()?;
        let view = self.view();
        if !view.at_head {
            return Err(DbInterrupt::AtHead);
        }
        Ok(view.committed(|committed| committed.beneficiary.as_ref().map(account_info)))
    }
}

impl<P: ParentState> Database for WorkerDb<'_, P> {
    type Error = DbInterrupt;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, DbInterrupt> {
        if address == self.block.beneficiary() {
            return self.read_beneficiary();
        }
        let location = Location::Account(address);
        if let Some(Value::Account(account)) = self.find(location)? {
            return Ok(account.as_ref().map(account_info));
        }
        let info = self.block.parent.basic_ref(address).map_err(DbInterrupt::Failed)?;
        self.read_parent(location, Value::Account(info.as_ref().map(state_of)));
        Ok(info)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, DbInterrupt> {
        if code_hash == STORAGE_ONLY_CODE_HASH {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.block.code.read().get(&code_hash) {
            return Ok(code.clone());
        }
        self.block.parent.code_by_hash_ref(code_hash).map_err(DbInterrupt::Failed)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, DbInterrupt> {
        let location = Location::Slot(address, slot);
        if let Some(Value::Slot(value)) = self.find(location)? {
            return Ok(value);
        }
        let value = self.block.parent.storage_ref(address, slot).map_err(DbInterrupt::Failed)?;
        self.read_parent(location, Value::Slot(value));
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, DbInterrupt> {
        self.block.parent.block_hash_ref(number).map_err(DbInterrupt::Failed)
    }
}

type WorkerContext<'a, P> =
    Context<BlockEnv, TxEnv, CfgEnv, WorkerDb<'a, P>, Journal<WorkerDb<'a, P>>>;

/// A worker's EVM, used for one transaction after the other.
pub(crate) struct Worker<'a, P: ParentState> {
    evm: MainnetEvm<WorkerContext<'a, P>>,
}

impl<P: ParentState> fmt::Debug for Worker<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

type TransactResult = Result<
    (revm::context::result::ExecutionResult, Option<U256>, EvmState),
    EVMError<DbInterrupt, InvalidTransaction>,
>;

impl<'a, P: ParentState> Worker<'a, P> {
    fn transact(&mut self, tx: TxEnv, view: View<'a, Committed>) -> (Vec<Read>, TransactResult) {
        self.evm.ctx.journaled_state.database.view = Some(view);
        self.evm.set_tx(tx);
        let mut handler = FeesApart::default();
        let result = handler.run(&mut self.evm);
        let state = self.evm.finalize();
        let db = &mut self.evm.ctx.journaled_state.database;
        db.view = None;
        let reads = std::mem::take(&mut db.reads);
        (reads, result.map(|result| (result, handler.fee.get(), state)))
    }
}

/// Jumps between two looks at whether a run still makes sense: some microseconds.
const JUMPS_UNWATCHED: u32 = 256;

/// Gas of JUMPDEST (yellow paper, G_jumpdest).
const JUMPDEST_GAS: u16 = 1;

/// JUMPDEST, which does nothing, and which no loop can do without: the place to look whether a
/// long run still makes sense.
#[expect(clippy::needless_pass_by_value, reason = "the signature is revm's")]
fn jumpdest<P: ParentState>(
    context: InstructionContext<'_, WorkerContext<'_, P>, EthInterpreter>,
) -> Result<(), InstructionResult> {
    let db = &mut context.host.journaled_state.database;
    db.jumps = db.jumps.wrapping_add(1);
    if !db.jumps.is_multiple_of(JUMPS_UNWATCHED) {
        return Ok(());
    }
    db.keep_up().map_err(|interrupt| {
        *context.host.error() = Err(ContextError::Db(interrupt));
        InstructionResult::FatalExternalError
    })
}

/// revm's mainnet rules, except that the fee is not paid to the beneficiary but kept apart.
struct FeesApart<'a, P> {
    fee: Cell<Option<U256>>,
    evm: std::marker::PhantomData<&'a P>,
}

impl<P> Default for FeesApart<'_, P> {
    fn default() -> Self {
        Self { fee: Cell::new(None), evm: std::marker::PhantomData }
    }
}

impl<'a, P: ParentState> Handler for FeesApart<'a, P> {
    type Evm = MainnetEvm<WorkerContext<'a, P>>;
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
        self.fee.set(Some(U256::from(price * u128::from(used))));
        Ok(())
    }
}
