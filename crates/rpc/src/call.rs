//! Running a call on some state without keeping anything: the ground under `eth_call`, `eth_estimateGas` and
//! `eth_createAccessList`.

mod brief;

use std::sync::Arc;

use alloy_evm::{EvmEnv, eth::EthEvmContext, overrides::apply_block_overrides};
use alloy_primitives::{Address, Bytes, TxKind, U256};
use alloy_rpc_types_eth::{AccessList, BlockOverrides, TransactionRequest, state::StateOverride};
use heddle_chain::State;
use heddle_evm::{StateError, watched_evm};
use revm::{
    Database, DatabaseCommit, Inspector,
    context::{
        TxEnv,
        either::Either,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    },
    database::CacheDB,
    inspector::NoOpInspector,
    state::EvmState,
};

use crate::{
    context::{Context, Position},
    errors::{Failure, INTERNAL_ERROR, INVALID_PARAMS},
    overrides::{PrecompileChanges, override_state},
    params::{Args, BlockParam},
    revert::reverted,
    watch::{Clock, Deadline, Guard},
};

/// A call with where it runs and what is different there.
#[derive(Clone, Debug)]
pub(crate) struct CallRequest {
    pub(crate) request: TransactionRequest,
    pub(crate) block: BlockParam,
    pub(crate) state: Option<StateOverride>,
    pub(crate) environment: Option<BlockOverrides>,
}

impl CallRequest {
    /// The parameters of `eth_call` and its like: call, block, state overrides, block overrides.
    pub(crate) fn parse(args: &mut Args<'_>) -> Result<Self, Failure> {
        let call = Self {
            request: args.required()?,
            block: args.or(BlockParam::Latest)?,
            state: args.optional()?,
            environment: args.optional()?,
        };
        call.check()?;
        Ok(call)
    }

    pub(crate) fn check(&self) -> Result<(), Failure> {
        if let (Some(input), Some(data)) = (&self.request.input.input, &self.request.input.data)
            && input != data
        {
            return Err(Failure::server(
                "both \"data\" and \"input\" are set and not equal. Please use \"input\" to pass transaction call data",
            ));
        }
        Ok(())
    }
}

/// `eth_call`: at once if it is brief, otherwise in its turn.
pub(crate) async fn call_in_turn(
    context: Arc<Context>,
    request: CallRequest,
) -> Result<Bytes, Failure> {
    if let Some(answer) = brief::call_briefly(&context, &request) {
        return answer;
    }
    let worker = context.clone();
    context.compute(move || call(&worker, &request)).await
}

/// `eth_call`, however long it takes.
pub(crate) fn call(context: &Context, call: &CallRequest) -> Result<Bytes, Failure> {
    let mut simulation = Simulation::new(context, call)?;
    let gas = simulation.gas_limit_wanted();
    answer(simulation.run(gas), gas)
}

/// What `eth_call` answers.
fn answer(result: Result<Outcome, Refused>, gas: u64) -> Result<Bytes, Failure> {
    match result {
        Ok(outcome) => outcome.into_output(),
        Err(Refused::Invalid(reason)) => {
            Err(Failure::server(format!("err: {reason} (supplied gas {gas})")))
        }
        Err(Refused::Failed(failure)) => Err(failure),
    }
}

/// Why a call did not run at all.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It does not even pay for its own size.
    Invalid(Invalid),
    Failed(Failure),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(reason) => Self::server(reason),
            Refused::Failed(failure) => failure,
        }
    }
}

/// Why a call is no valid transaction, in geth's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Invalid {
    message: String,
    /// More gas would help.
    pub(crate) is_out_of_gas: bool,
    /// The code that `eth_simulateV1` gives the reason.
    pub(crate) code: i32,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: ExecutionResult,
    /// What it touched.
    pub(crate) state: EvmState,
}

impl Outcome {
    /// The returned bytes, or the error that geth makes of a failed call.
    pub(crate) fn into_output(self) -> Result<Bytes, Failure> {
        match self.result {
            ExecutionResult::Success { output, .. } => Ok(output.into_data()),
            ExecutionResult::Revert { output, .. } => Err(reverted(output)),
            ExecutionResult::Halt { reason, .. } => Err(Failure::server(halted(&reason))),
        }
    }

    /// Whether it ran out of gas, so that more might help.
    pub(crate) const fn is_out_of_gas(&self) -> bool {
        matches!(self.result, ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. })
    }
}

/// geth's words for an exceptional halt.
pub(crate) fn halted(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => "out of gas".to_owned(),
        HaltReason::OpcodeNotFound | HaltReason::NotActivated => "invalid opcode".to_owned(),
        HaltReason::InvalidFEOpcode => "invalid opcode: INVALID".to_owned(),
        HaltReason::StackOverflow => "stack limit reached 1024 (1023)".to_owned(),
        HaltReason::OutOfOffset => "return data out of bounds".to_owned(),
        HaltReason::CreateCollision => "contract address collision".to_owned(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".to_owned(),
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
        HaltReason::CreateContractStartingWithEF => {
            "invalid code: must not begin with 0xef".to_owned()
        }
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => {
            "write protection".to_owned()
        }
        HaltReason::OutOfFunds => "insufficient balance for transfer".to_owned(),
        HaltReason::CallTooDeep => "max call depth exceeded".to_owned(),
        HaltReason::NonceOverflow => "nonce uint64 overflow".to_owned(),
        other => other.to_string(),
    }
}

/// One call on one state. It can run several times with different gas limits; nothing that it changes is kept, what it
/// reads is.
#[derive(Debug)]
pub(crate) struct Simulation {
    pub(crate) database: CacheDB<State>,
    precompiles: PrecompileChanges,
    /// Of the present call: as the block's, with the rules lifted that do not apply to it.
    pub(crate) env: EvmEnv,
    block: EvmEnv,
    pub(crate) transaction: TxEnv,
    /// The most gas that a transaction of this block may ask for (EIP-7825).
    pub(crate) transaction_gas_cap: Option<u64>,
    requested_gas: Option<u64>,
    call_gas_max: u64,
    deadline: Deadline,
    /// How often something ran.
    pub(crate) runs: u32,
}

impl Simulation {
    /// The call after the block that it names.
    pub(crate) fn new(context: &Context, call: &CallRequest) -> Result<Self, Failure> {
        let (state, env) = match context.state_position(call.block)? {
            Position::Canonical(number) => {
                let header = context.chain.header_by_number(number)?;
                let header = header.ok_or_else(|| Failure::server("header not found"))?;
                (context.chain.state_at(number)?, context.chain.evm_env(&header))
            }
            Position::Pending(pending) => {
                (pending.state.clone(), context.chain.evm_env(&pending.block.header))
            }
        };
        Self::on(context, state, env, call)
    }

    /// The call on this state and in this environment.
    pub(crate) fn on(
        context: &Context,
        state: State,
        mut env: EvmEnv,
        call: &CallRequest,
    ) -> Result<Self, Failure> {
        let mut database = CacheDB::new(state);
        if let Some(overrides) = call.environment.clone() {
            override_block(overrides, &mut database, &mut env)?;
        }
        let precompiles = match call.state.clone() {
            Some(overrides) => override_state(overrides, &mut database, env.cfg_env.spec)?,
            None => PrecompileChanges::default(),
        };
        let timestamp = env.block_env.timestamp.saturating_to();
        let mut simulation = Self {
            transaction_gas_cap: context.chain.spec().transaction_gas_limit_cap(timestamp),
            database,
            precompiles,
            env: env.clone(),
            block: env,
            transaction: TxEnv::default(),
            requested_gas: None,
            call_gas_max: context.limits.call_gas_max,
            deadline: Deadline::new(context.limits.call_time_max),
            runs: 0,
        };
        simulation.set_call(&call.request, context.chain.chain_id())?;
        Ok(simulation)
    }

    /// Makes this the call that is run from now on, without the rules that do not apply to calls.
    pub(crate) fn set_call(
        &mut self,
        request: &TransactionRequest,
        chain_id: u64,
    ) -> Result<(), Failure> {
        self.transaction = transaction(request, chain_id)?;
        self.env = self.block.clone();
        relax(&mut self.env, &self.transaction);
        self.requested_gas = request.gas;
        Ok(())
    }

    /// Goes on to the next block, so many seconds later.
    pub(crate) fn next_block(&mut self, seconds: u64) {
        let block = &mut self.block.block_env;
        block.number = block.number.saturating_add(U256::ONE);
        block.timestamp = block.timestamp.saturating_add(U256::from(seconds));
    }

    /// Changes the block that calls run in from now on.
    pub(crate) fn override_block(&mut self, overrides: BlockOverrides) -> Result<(), Failure> {
        override_block(overrides, &mut self.database, &mut self.block)
    }

    /// Makes this the transaction that is run from now on, with all rules.
    pub(crate) fn set_transaction(&mut self, transaction: TxEnv) {
        self.env = self.block.clone();
        self.requested_gas = Some(transaction.gas_limit);
        self.transaction = transaction;
    }

    /// Keeps what a run changed, for the next one.
    pub(crate) fn keep(&mut self, state: EvmState) {
        self.database.commit(state);
    }

    /// The gas that the caller asks for, or as much as a call may have.
    pub(crate) fn gas_limit_wanted(&self) -> u64 {
        self.requested_gas.unwrap_or(self.call_gas_max).min(self.call_gas_max)
    }

    /// Runs the call with this gas limit.
    pub(crate) fn run(&mut self, gas_limit: u64) -> Result<Outcome, Refused> {
        self.deadline.check().map_err(Refused::Failed)?;
        if gas_limit <= GAS_WITHOUT_CLOCK {
            return self.execute(gas_limit, NoOpInspector {}, false).map(|(outcome, _)| outcome);
        }
        self.watch(gas_limit, NoOpInspector {}).map(|(outcome, _)| outcome)
    }

    /// Runs the call under an inspector, which is handed back.
    pub(crate) fn watch<I>(&mut self, gas_limit: u64, inspector: I) -> Result<(Outcome, I), Refused>
    where
        I: for<'a> Inspector<EthEvmContext<&'a mut CacheDB<State>>>,
    {
        self.deadline.check().map_err(Refused::Failed)?;
        let (outcome, (inspector, clock)) =
            self.execute(gas_limit, (inspector, Clock::new(self.deadline)), true)?;
        if clock.is_over() {
            return Err(Refused::Failed(self.deadline.failure()));
        }
        Ok((outcome, inspector))
    }

    /// As [`Self::watch`], but bounded by a guard instead of the time of a call.
    pub(crate) fn watch_under<I>(
        &mut self,
        gas_limit: u64,
        inspector: I,
        guard: &mut Guard,
    ) -> Result<(Outcome, I), Refused>
    where
        I: for<'a> Inspector<EthEvmContext<&'a mut CacheDB<State>>>,
    {
        let (outcome, (inspector, _)) = self.execute(gas_limit, (inspector, &mut *guard), true)?;
        guard.check().map_err(Refused::Failed)?;
        Ok((outcome, inspector))
    }

    /// The transaction that is run with this gas limit.
    pub(crate) fn transaction_with(&self, gas_limit: u64) -> TxEnv {
        TxEnv { gas_limit, ..self.transaction.clone() }
    }

    fn execute<I>(
        &mut self,
        gas_limit: u64,
        mut inspector: I,
        is_active: bool,
    ) -> Result<(Outcome, I), Refused>
    where
        I: for<'a> Inspector<EthEvmContext<&'a mut CacheDB<State>>>,
    {
        self.runs += 1;
        let transaction = self.transaction_with(gas_limit);
        let caller = transaction.caller;
        let max_fee = transaction.gas_price;
        let base_fee = self.env.block_env.basefee;
        let env = self.env.clone();
        let evm = watched_evm(&mut self.database, env, &mut inspector, is_active);
        match self.precompiles.transact(evm, is_active, transaction) {
            Ok(done) => Ok((Outcome { result: done.result, state: done.state }, inspector)),
            Err(error) => Err(refused(error, caller, max_fee, base_fee)),
        }
    }

    /// Runs from now on with this access list, as a type that can have one.
    pub(crate) fn set_access_list(&mut self, access_list: AccessList) {
        self.transaction.access_list = access_list;
        self.transaction.tx_type = self.transaction.tx_type.max(1);
    }

    /// The sender's balance, after overrides.
    pub(crate) fn caller_balance(&mut self) -> Result<U256, Failure> {
        let account = self.database.basic(self.transaction.caller)?;
        Ok(account.map_or(U256::ZERO, |account| account.balance))
    }

    /// Whether there is code at this address, after overrides.
    pub(crate) fn has_code(&mut self, address: Address) -> Result<bool, Failure> {
        Ok(self.database.basic(address)?.is_some_and(|account| !account.is_empty_code_hash()))
    }
}

fn override_block(
    overrides: BlockOverrides,
    database: &mut CacheDB<State>,
    env: &mut EvmEnv,
) -> Result<(), Failure> {
    if overrides.beacon_root.is_some() {
        return Err(Failure::server(
            "block override \"beaconRoot\" is not supported for this RPC method",
        ));
    }
    apply_block_overrides(overrides, database, &mut env.block_env);
    Ok(())
}

/// The call as the EVM takes it, gas limit aside.
pub(crate) fn transaction(request: &TransactionRequest, chain_id: u64) -> Result<TxEnv, Failure> {
    let has_1559_fees =
        request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && has_1559_fees {
        return Err(Failure::server(
            "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified",
        ));
    }
    if let Some(have) = request.chain_id.filter(|have| *have != chain_id) {
        return Err(Failure::server(format!(
            "chainId does not match node's (have={have}, want={chain_id})"
        )));
    }
    let blob_hashes = request.blob_versioned_hashes.clone().unwrap_or_default();
    let authorizations = request.authorization_list.clone().unwrap_or_default();
    let kind = request.to.unwrap_or(TxKind::Create);
    // A list that is given and empty is an error of its own.
    let tx_type = match request {
        _ if request.authorization_list.is_some() => 4,
        _ if request.blob_versioned_hashes.is_some() => 3,
        _ if has_1559_fees => 2,
        _ if request.access_list.is_some() => 1,
        _ => 0,
    };
    if kind.is_create() && tx_type >= 3 {
        return Err(Failure::server(format!(
            "a transaction of type {tx_type} cannot create a contract"
        )));
    }
    let max_fee = request.gas_price.or(request.max_fee_per_gas).unwrap_or_default();
    Ok(TxEnv {
        tx_type,
        caller: request.from.unwrap_or_default(),
        // Set for each run.
        gas_limit: 0,
        gas_price: max_fee,
        kind,
        value: request.value.unwrap_or_default(),
        data: request.input.input().cloned().unwrap_or_default(),
        // Not checked, and what a created contract's address depends on is the account's own.
        nonce: 0,
        chain_id: Some(chain_id),
        access_list: request.access_list.clone().unwrap_or_default(),
        gas_priority_fee: (tx_type >= 2)
            .then(|| request.max_priority_fee_per_gas.or(request.gas_price).unwrap_or_default()),
        blob_hashes,
        // Without blobs it means nothing.
        max_fee_per_blob_gas: request
            .max_fee_per_blob_gas
            .filter(|_| tx_type == 3)
            .unwrap_or_default(),
        authorization_list: authorizations.into_iter().map(Either::Left).collect(),
    })
}

/// Lifts the rules that do not apply to a call that is only tried, as geth does.
fn relax(env: &mut EvmEnv, transaction: &TxEnv) {
    let cfg = &mut env.cfg_env;
    cfg.disable_nonce_check = true;
    cfg.disable_eip3607 = true;
    cfg.disable_block_gas_limit = true;
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    let pays_nothing =
        transaction.gas_price == 0 && transaction.gas_priority_fee.unwrap_or_default() == 0;
    if pays_nothing {
        // A call without fees sees a base fee of 0: contracts may rely on the price being at least the base fee.
        cfg.disable_base_fee = true;
        env.block_env.basefee = 0;
    }
    if transaction.max_fee_per_blob_gas == 0
        && let Some(blob) = &mut env.block_env.blob_excess_gas_and_price
    {
        blob.blob_gasprice = 0;
    }
}

/// geth's words for a transaction that is not valid.
pub(crate) fn refused(
    error: EVMError<StateError>,
    caller: Address,
    max_fee: u128,
    base_fee: u64,
) -> Refused {
    let invalid = match error {
        EVMError::Transaction(invalid) => invalid,
        other => return Refused::Failed(Failure::server(other)),
    };
    let is_out_of_gas = matches!(
        invalid,
        InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
            | InvalidTransaction::GasFloorMoreThanGasLimit { .. }
    );
    let code = code_of(&invalid);
    let message = match invalid {
        InvalidTransaction::NonceTooHigh { tx, state } => {
            format!("nonce too high: address {caller}, tx: {tx} state: {state}")
        }
        InvalidTransaction::NonceTooLow { tx, state } => {
            format!("nonce too low: address {caller}, tx: {tx} state: {state}")
        }
        InvalidTransaction::NonceOverflowInTransaction => {
            format!("nonce has max value: address {caller}, nonce: {}", u64::MAX)
        }
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            format!(
                "insufficient funds for gas * price + value: address {caller} have {balance} want {fee}"
            )
        }
        InvalidTransaction::OverflowPaymentInTransaction => {
            format!(
                "insufficient funds for gas * price + value: address {caller} required balance exceeds 256 bits"
            )
        }
        InvalidTransaction::GasPriceLessThanBasefee => format!(
            "max fee per gas less than block base fee: address {caller}, maxFeePerGas: {max_fee}, baseFee: {base_fee}"
        ),
        InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
            format!(
                "max priority fee per gas higher than max fee per gas: address {caller}, maxFeePerGas: {max_fee}"
            )
        }
        InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
            format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
        }
        InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
            format!("insufficient gas for floor data gas cost: have {gas_limit}, want {gas_floor}")
        }
        InvalidTransaction::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
        InvalidTransaction::EmptyAuthorizationList => {
            format!("EIP-7702 transaction with empty auth list (sender {caller})")
        }
        InvalidTransaction::EmptyBlobs => "blob transaction missing blob hashes".to_owned(),
        InvalidTransaction::BlobGasPriceGreaterThanMax {
            block_blob_gas_price,
            tx_max_fee_per_blob_gas,
        } => format!(
            "max fee per blob gas less than block blob gas fee: address {caller} \
             blobGasFeeCap: {tx_max_fee_per_blob_gas}, blobBaseFee: {block_blob_gas_price}"
        ),
        other => other.to_string(),
    };
    Refused::Invalid(Invalid { message, is_out_of_gas, code })
}

/// The codes that the specification of `eth_simulateV1` has for transactions that are not valid.
const fn code_of(invalid: &InvalidTransaction) -> i32 {
    match invalid {
        InvalidTransaction::NonceTooLow { .. } => -38010,
        InvalidTransaction::NonceTooHigh { .. } => -38011,
        InvalidTransaction::GasPriceLessThanBasefee => -38012,
        InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
        | InvalidTransaction::GasFloorMoreThanGasLimit { .. } => -38013,
        InvalidTransaction::LackOfFundForMaxFee { .. }
        | InvalidTransaction::OverflowPaymentInTransaction => -38014,
        InvalidTransaction::RejectCallerWithCode => -38024,
        InvalidTransaction::CreateInitCodeSizeLimit => -38025,
        InvalidTransaction::PriorityFeeGreaterThanMaxFee => INVALID_PARAMS,
        _ => INTERNAL_ERROR,
    }
}

/// Up to this much gas a call cannot take long enough for its time to matter, and it is spared the clock, which makes
/// every instruction slower.
const GAS_WITHOUT_CLOCK: u64 = 50_000_000;

#[cfg(test)]
mod tests;
