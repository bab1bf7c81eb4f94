//! One sequential run that takes down what every transaction reads and writes.

use alloy_consensus::Transaction as _;
use alloy_evm::ToTxEnv;
use alloy_primitives::{Address, B256, U256, map::AddressSet};
use heddle_chainspec::ChainSpec;
use heddle_evm::{
    AccountState, BlockInput, BlockOutput, BlockState, BlockTransition, ExecutionError,
    ParentState, StateError, TransactionError, account_state, build_receipt, complete_instructions,
};
use heddle_parallel::{
    Location, TxIndex,
    scheduling::{
        JUMPS_UNWATCHED, PaymentRules, READS_UNWATCHED, balance_can_be_open, takes_credit,
    },
};
use revm::{
    Context, Database, DatabaseCommit, ExecuteEvm, MainBuilder, MainContext,
    bytecode::opcode::{BALANCE, JUMPDEST, SELFBALANCE},
    context::{
        BlockEnv, CfgEnv, ContextSetters, Journal, TxEnv,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    },
    handler::{EvmTr, FrameResult, Handler, MainnetEvm, post_execution},
    interpreter::{
        Instruction, InstructionContext, InstructionResult, instructions::host,
        interpreter::EthInterpreter,
    },
    primitives::hardfork::SpecId,
    state::{Account, AccountInfo, Bytecode, EvmState},
};
use std::{marker::PhantomData, time::Instant};

/// A location that a transaction reads, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RecordedRead {
    pub(crate) location: Location,
    /// How much of the transaction's time had passed, from 0 to 1.
    pub(crate) at: f64,
}

/// What one transaction did.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RecordedTransaction {
    /// Gas it used.
    pub(crate) gas: u64,
    /// First reads, in order. The payment of its own fee is not among them.
    pub(crate) reads: Vec<RecordedRead>,
    /// What it left different. What it did to the beneficiary is not among them: that is read
    /// through the sum of all fees before.
    pub(crate) writes: Vec<Location>,
    /// How much it added to each slot that it changed, by location.
    pub(crate) added: Vec<(Location, U256)>,
    /// Accounts that it neither reads nor writes but adds to the balance of, or takes from it: whom
    /// a plain payment pays, and contracts that ether moves into and out of without anybody asking
    /// how much they have.
    pub(crate) pays: Vec<Address>,
    /// When the executor would look whether running it still makes sense, from 0 to 1.
    pub(crate) looks: Vec<f64>,
}

impl RecordedTransaction {
    /// Nothing depends on the rest of the account.
    fn only_pays(&mut self, account: Address) {
        self.reads.retain(|read| read.location != Location::Account(account));
        let writes = self.writes.len();
        self.writes.retain(|location| *location != Location::Account(account));
        if self.writes.len() < writes {
            self.pays.push(account);
        }
    }
}

/// What the transactions of a block did.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The block's result: the same as the reference executor's.
    pub(crate) output: BlockOutput,
    pub(crate) transactions: Vec<RecordedTransaction>,
}

/// Runs a block as the reference executor does, one transaction after the other, and records.
/// `enter` is told whose reads come next; `None`: the block's own.
pub(crate) fn record<P: ParentState>(
    spec: &ChainSpec,
    state: &P,
    input: &BlockInput<'_>,
    enter: impl Fn(Option<TxIndex>),
) -> Result<Recording, ExecutionError> {
    let mut block = BlockTransition::begin(spec, input.env.clone(), input.ctx.clone(), state)?;
    let database = RecordingState {
        state: block.state_mut(),
        reads: Vec::new(),
        contracts: Vec::new(),
        weighed: AddressSet::default(),
        looks: Vec::new(),
        jumps: 0,
        recording: false,
    };
    let payments = PaymentRules::new(&input.env);
    let mut evm = Context::mainnet()
        .with_block(input.env.block_env.clone())
        .with_cfg(input.env.cfg_env.clone())
        .with_db(database)
        .build_mainnet();
    complete_instructions(&mut evm.instruction, &input.env.cfg_env);
    evm.instruction.insert_instruction(JUMPDEST, Instruction::new(jumpdest), JUMPDEST_GAS);
    let static_gas = |opcode| evm.instruction.gas_table()[usize::from(opcode)];
    let (balance_gas, selfbalance_gas) = (static_gas(BALANCE), static_gas(SELFBALANCE));
    evm.instruction.insert_instruction(BALANCE, Instruction::new(balance), balance_gas);
    evm.instruction.insert_instruction(SELFBALANCE, Instruction::new(selfbalance), selfbalance_gas);
    let mut transactions = Vec::with_capacity(input.transactions.len());
    let mut receipts = Vec::with_capacity(input.transactions.len());
    let (mut gas_used, mut blob_gas_used) = (0, 0);
    for (index, transaction) in input.transactions.iter().enumerate() {
        enter(Some(TxIndex(index as u32)));
        let started = Instant::now();
        evm.ctx.journaled_state.database.recording = true;
        evm.set_tx(transaction.to_tx_env());
        let result = FeesUnrecorded(PhantomData).run(&mut evm);
        let changes = evm.finalize();
        let nanoseconds = started.elapsed().as_nanos() as f64;
        let database = &mut evm.ctx.journaled_state.database;
        database.recording = false;
        let reads = std::mem::take(&mut database.reads);
        let looks = std::mem::take(&mut database.looks);
        let contracts = std::mem::take(&mut database.contracts);
        let weighed = std::mem::take(&mut database.weighed);
        let result: ExecutionResult = result.map_err(|error| match error {
            EVMError::Database(error) => ExecutionError::State(error),
            EVMError::Transaction(reason) => ExecutionError::InvalidTransaction {
                index,
                hash: *transaction.inner().tx_hash(),
                reason: TransactionError::Invalid(reason),
            },
            error => ExecutionError::Block(error.to_string()),
        })?;
        let gas = result.tx_gas_used();
        gas_used += gas;
        if input.env.cfg_env.spec.is_enabled_in(SpecId::CANCUN) {
            blob_gas_used += transaction.blob_gas_used().unwrap_or_default();
        }
        let part = |at: Instant| {
            let passed = at.saturating_duration_since(started).as_nanos() as f64;
            (passed / nanoseconds.max(1.0)).clamp(0.0, 1.0)
        };
        let mut recorded = RecordedTransaction {
            gas,
            reads: reads
                .into_iter()
                .map(|(location, at)| RecordedRead { location, at: part(at) })
                .collect(),
            writes: writes(&changes, input.env.block_env.beneficiary),
            added: added(&changes),
            pays: Vec::new(),
            looks: looks.into_iter().map(part).collect(),
        };
        let payment = payments.as_ref().and_then(|rules| rules.payment(transaction));
        // Those to and by the beneficiary read the sum of the fees like anybody else.
        let beneficiary = input.env.block_env.beneficiary;
        let payment = payment.filter(|it| it.payer != beneficiary && it.payee != beneficiary);
        let account = payment.and_then(|payment| changes.get(&payment.payee));
        if let (Some(payment), Some(payee)) = (payment, account)
            && takes_credit(&Some(account_state(&payee.info)))
        {
            recorded.only_pays(payment.payee);
            recorded.looks.clear();
        }
        for (address, before) in contracts {
            let is_open = balance_can_be_open(&before)
                && address != transaction.signer()
                && address != beneficiary
                && !weighed.contains(&address)
                && changes.get(&address).is_none_or(|after| keeps_all_but_balance(after, &before));
            if is_open {
                recorded.only_pays(address);
            }
        }
        transactions.push(recorded);
        let success = result.is_success();
        let logs = result.into_logs();
        let bloom = logs.iter().collect();
        receipts.push(build_receipt(transaction.tx_type(), success, gas_used, logs, bloom));
        evm.ctx.journaled_state.database.state.commit(changes);
    }
    enter(None);
    drop(evm);
    block.put_results(receipts, gas_used, blob_gas_used);
    Ok(Recording { output: block.finish()?, transactions })
}

fn keeps_all_but_balance(after: &Account, before: &AccountState) -> bool {
    let info = &after.info;
    !after.is_selfdestructed() && (info.nonce, info.code_hash) == (before.nonce, before.code_hash)
}

/// The locations that hold something else after a transaction.
fn writes(changes: &EvmState, beneficiary: Address) -> Vec<Location> {
    let mut writes = Vec::new();
    for (address, account) in changes.iter().filter(|(_, account)| account.is_touched()) {
        let destroyed = account.is_selfdestructed();
        let replaced = destroyed || account.is_created();
        if replaced {
            writes.push(Location::Wipe(*address));
        }
        let removed = account.is_empty() && !account.is_loaded_as_not_existing();
        if *address != beneficiary && (replaced || removed || account.is_changed()) {
            writes.push(Location::Account(*address));
        }
        if !destroyed {
            let slots = account.changed_storage_slots();
            writes.extend(slots.map(|(slot, _)| Location::Slot(*address, *slot)));
        }
    }
    // The EVM's hash maps have no order; a recording has.
    writes.sort_unstable();
    writes
}

/// How much was added to each slot that a transaction changed.
fn added(changes: &EvmState) -> Vec<(Location, U256)> {
    let slots = changes.iter().flat_map(|(address, account)| {
        account.changed_storage_slots().map(|(slot, value)| {
            let added = value.present_value.wrapping_sub(value.original_value);
            (Location::Slot(*address, *slot), added)
        })
    });
    let mut added: Vec<_> = slots.collect();
    added.sort_unstable();
    added
}

/// The state of the block, which takes down what is asked of it.
struct RecordingState<'b, P> {
    state: &'b mut BlockState<P>,
    reads: Vec<(Location, Instant)>,
    /// Accounts with code among them, as they were.
    contracts: Vec<(Address, AccountState)>,
    /// Accounts whose balance was asked for.
    weighed: AddressSet,
    looks: Vec<Instant>,
    /// Over all transactions, as the executor's workers count them.
    jumps: u32,
    recording: bool,
}

impl<P> RecordingState<'_, P> {
    fn read(&mut self, location: Location) {
        if self.recording {
            let now = Instant::now();
            self.reads.push((location, now));
            if self.reads.len().is_multiple_of(READS_UNWATCHED as usize) {
                self.looks.push(now);
            }
        }
    }
}

/// Gas of JUMPDEST (yellow paper, G_jumpdest).
const JUMPDEST_GAS: u16 = 1;

/// JUMPDEST, which does nothing, and at which the executor looks around every so often.
#[expect(clippy::needless_pass_by_value, reason = "the signature is revm's")]
fn jumpdest<P: revm::DatabaseRef<Error = StateError>>(
    context: InstructionContext<'_, RecordingContext<'_, P>, EthInterpreter>,
) -> Result<(), InstructionResult> {
    let database = &mut context.host.journaled_state.database;
    database.jumps = database.jumps.wrapping_add(1);
    if database.recording && database.jumps.is_multiple_of(JUMPS_UNWATCHED) {
        database.looks.push(Instant::now());
    }
    Ok(())
}

/// BALANCE, which makes the transaction depend on how much an account has.
fn balance<P: revm::DatabaseRef<Error = StateError>>(
    context: InstructionContext<'_, RecordingContext<'_, P>, EthInterpreter>,
) -> Result<(), InstructionResult> {
    if let Some(word) = context.interpreter.stack.data().last() {
        let address = Address::from_word((*word).into());
        context.host.journaled_state.database.weighed.insert(address);
    }
    host::balance(context)
}

/// SELFBALANCE, likewise.
fn selfbalance<P: revm::DatabaseRef<Error = StateError>>(
    context: InstructionContext<'_, RecordingContext<'_, P>, EthInterpreter>,
) -> Result<(), InstructionResult> {
    let address = context.interpreter.input.target_address;
    context.host.journaled_state.database.weighed.insert(address);
    host::selfbalance(context)
}

impl<P: revm::DatabaseRef<Error = StateError>> Database for RecordingState<'_, P> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.read(Location::Account(address));
        let info = self.state.basic(address)?;
        if let Some(account) = info.as_ref().map(account_state).filter(balance_can_be_open)
            && self.recording
        {
            self.contracts.push((address, account));
        }
        Ok(info)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateError> {
        self.state.code_by_hash(hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.read(Location::Slot(address, slot));
        self.state.storage(address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.state.block_hash(number)
    }
}

type RecordingContext<'b, P> =
    Context<BlockEnv, TxEnv, CfgEnv, RecordingState<'b, P>, Journal<RecordingState<'b, P>>>;

/// revm's mainnet rules; paying the fee to the beneficiary is not taken down as a read of it,
/// because the payments of a block are a sum.
struct FeesUnrecorded<'b, P>(PhantomData<&'b mut P>);

impl<'b, P: revm::DatabaseRef<Error = StateError>> Handler for FeesUnrecorded<'b, P> {
    type Evm = MainnetEvm<RecordingContext<'b, P>>;
    type Error = EVMError<StateError, InvalidTransaction>;
    type HaltReason = HaltReason;

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        evm.ctx().journaled_state.database.recording = false;
        post_execution::reward_beneficiary(evm.ctx(), result.gas()).map_err(EVMError::Database)
    }
}
