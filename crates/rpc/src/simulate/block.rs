//! One simulated block: overrides, system calls, calls, and what comes after them.

use alloy_consensus::{
    Eip658Value, Header, Sealed, Transaction as _,
    constants::EMPTY_WITHDRAWALS,
    proofs::{calculate_receipt_root, calculate_withdrawals_root},
};
use alloy_eips::{eip4844::DATA_GAS_PER_BLOB, eip4895::Withdrawal};
use alloy_evm::EvmEnv;
use alloy_primitives::{B256, Bloom, Log as EmittedLog, TxKind, U256};
use alloy_rpc_types_eth::{
    Log, TransactionRequest,
    simulate::{SimCallResult, SimulateError, SimulatedBlock},
};
use heddle_chain::{BlockRules, ChainBlock, Scratch, State};
use heddle_chainspec::EthereumHardforks;
use heddle_evm::{
    BlockOutput, BlockState, BlockTransition, Receipt, RecoveredTransaction, block_context,
    build_receipt, watched_evm,
};
use revm::{
    Database, DatabaseCommit,
    context::result::{ExecutionResult, Output},
};

use crate::{
    call::{Refused, halted, refused, transaction},
    context::Context,
    convert::{self, RpcBlock},
    errors::{Failure, REVERTED},
    overrides::{PrecompileChanges, override_state},
    revert::reverted,
    simulate::{
        Draft,
        transaction::{transactions_root, unsigned},
        transfers::LogCollector,
    },
    watch::{Deadline, Guard, Kept},
};

/// A call wants more gas than its block has left.
const BLOCK_GAS_LIMIT_REACHED: i32 = -38015;

/// Makes simulated blocks, each on the one before.
#[derive(Debug)]
pub(super) struct Simulator<'a> {
    context: &'a Context,
    scratch: Scratch,
    parent: Sealed<Header>,
    validation: bool,
    trace_transfers: bool,
    /// Gas that all calls together may still use.
    gas_left: u64,
    guard: Guard,
}

/// What the calls of a block did.
#[derive(Debug, Default)]
struct Calls {
    transactions: Vec<RecoveredTransaction>,
    receipts: Vec<Receipt>,
    results: Vec<SimCallResult>,
    /// The logs of each, with their numbers.
    logs: Vec<Vec<(u64, EmittedLog)>>,
    gas_used: u64,
    blob_gas_used: u64,
}

type Steps<'a> = BlockTransition<'a, BlockRules<'a>, State>;

impl<'a> Simulator<'a> {
    pub(super) fn new(
        context: &'a Context,
        scratch: Scratch,
        parent: Sealed<Header>,
        validation: bool,
        trace_transfers: bool,
    ) -> Self {
        let limits = &context.limits;
        let deadline = Deadline::new(limits.call_time_max);
        // What is kept of calls goes into the answer.
        let bytes_max = limits.response_bytes_max as usize;
        let guard = Guard::new(deadline, bytes_max, Kept::default());
        let gas_left = limits.call_gas_max;
        Self { context, scratch, parent, validation, trace_transfers, gas_left, guard }
    }

    pub(super) fn block(
        &mut self,
        draft: Draft,
        full_transactions: bool,
    ) -> Result<SimulatedBlock<RpcBlock>, Failure> {
        self.guard.check()?;
        let mut header = self.header(&draft);
        let withdrawals = draft.overrides.withdrawals.unwrap_or_default();
        let withdrawals = header.withdrawals_root.map(|_| withdrawals);
        let rules = BlockRules::of(self.context.chain.spec(), &header);
        let mut env = rules.evm_env(&header);
        if let (Some(price), Some(blob)) =
            (draft.overrides.block.blob_base_fee, &mut env.block_env.blob_excess_gas_and_price)
        {
            blob.blob_gasprice = price.saturating_to();
        }
        let precompiles = match draft.state {
            Some(overrides) => {
                let mut state = BlockState::new(self.scratch.state().clone());
                let changes = override_state(overrides, &mut state, env.cfg_env.spec)?;
                self.scratch.apply(state.into_changes()?)?;
                changes
            }
            None => PrecompileChanges::default(),
        };
        let block_context = block_context(&header, &[], withdrawals.as_deref());
        let parent_state = self.scratch.state().clone();
        let mut steps = BlockTransition::begin(&rules, env.clone(), block_context, parent_state)
            .map_err(Failure::server)?;
        self.relax(&mut env);
        let mut calls = Calls::default();
        let mut collector = LogCollector::new(self.trace_transfers);
        for request in draft.calls {
            self.call(&mut steps, &env, &precompiles, request, &mut collector, &mut calls)?;
        }
        let Calls { transactions, receipts, mut results, logs, gas_used, blob_gas_used } = calls;
        steps.put_results(receipts, gas_used, blob_gas_used);
        let output = steps.finish().map_err(Failure::server)?;
        self.seal(&mut header, &transactions, withdrawals.as_deref(), &output)?;
        let block = ChainBlock::new(
            Sealed::new(header),
            transactions,
            Vec::new(),
            withdrawals,
            output.receipts,
            U256::ZERO,
        );
        self.scratch.apply(output.changes)?;
        self.scratch.seal(block.number(), block.hash());
        self.parent = block.header.clone();
        for (index, (result, logs)) in results.iter_mut().zip(logs).enumerate() {
            result.logs = placed_logs(&block, index, logs);
        }
        let inner = convert::block(&block, full_transactions);
        Ok(SimulatedBlock { inner, calls: results })
    }

    /// The header before execution.
    fn header(&self, draft: &Draft) -> Header {
        let Draft { number, timestamp, .. } = *draft;
        let overrides = &draft.overrides.block;
        let spec = self.context.chain.spec();
        let parent = &self.parent;
        // Without a known merge block, timestamp forks tell as well as they do in geth.
        let is_merged =
            spec.is_proof_of_stake(number) || spec.is_shanghai_active_at_timestamp(timestamp);
        let difficulty = if is_merged { U256::ZERO } else { parent.difficulty };
        // Otherwise 0, where validation does not ask for the real one: calls without a price then still pay at least
        // the base fee, which contracts may rely on.
        let base_fee = spec.is_london_active_at_block(number).then(|| {
            let next = || spec.next_base_fee(parent).filter(|_| self.validation);
            let asked = overrides.base_fee.map(|fee| fee.saturating_to());
            asked.or_else(next).unwrap_or_default()
        });
        let is_cancun = spec.is_cancun_active_at_timestamp(timestamp);
        Header {
            parent_hash: parent.hash(),
            number,
            timestamp,
            difficulty: overrides.difficulty.unwrap_or(difficulty),
            gas_limit: overrides.gas_limit.unwrap_or(parent.gas_limit),
            beneficiary: overrides.coinbase.unwrap_or(parent.beneficiary),
            mix_hash: overrides.random.unwrap_or_default(),
            base_fee_per_gas: base_fee,
            excess_blob_gas: spec.next_excess_blob_gas(parent, timestamp),
            parent_beacon_block_root: is_cancun.then(|| overrides.beacon_root.unwrap_or_default()),
            withdrawals_root: spec
                .is_shanghai_active_at_timestamp(timestamp)
                .then_some(EMPTY_WITHDRAWALS),
            ..Header::default()
        }
    }

    /// Lifts the rules that simulated calls need not keep. Who may send is never asked.
    const fn relax(&self, env: &mut EvmEnv) {
        let cfg = &mut env.cfg_env;
        cfg.disable_nonce_check = !self.validation;
        cfg.disable_eip3607 = true;
        cfg.disable_block_gas_limit = true;
        cfg.tx_gas_limit_cap = Some(u64::MAX);
    }

    fn call(
        &mut self,
        steps: &mut Steps<'_>,
        env: &EvmEnv,
        precompiles: &PrecompileChanges,
        mut request: TransactionRequest,
        collector: &mut LogCollector,
        calls: &mut Calls,
    ) -> Result<(), Failure> {
        self.guard.check()?;
        let from = request.from.unwrap_or_default();
        let account = steps.state_mut().basic(from)?.unwrap_or_default();
        let nonce = *request.nonce.get_or_insert(account.nonce);
        let remaining = env.block_env.gas_limit.saturating_sub(calls.gas_used);
        let gas = request.gas.unwrap_or(remaining);
        if gas > remaining {
            let message =
                format!("block gas limit reached: remaining: {remaining}, required: {gas}");
            return Err(Failure::Coded { code: BLOCK_GAS_LIMIT_REACHED, message });
        }
        let gas = gas.min(self.gas_left);
        request.gas = Some(gas);
        let chain_id = self.context.chain.chain_id();
        let mut environment = transaction(&request, chain_id)?;
        environment.gas_limit = gas;
        if self.validation {
            environment.nonce = nonce;
        }
        let shown = unsigned(&request, chain_id);

        let (max_fee, base_fee) = (environment.gas_price, env.block_env.basefee);
        let env = self.env_of(env.clone(), &environment);
        let watchers = (&mut *collector, &mut self.guard);
        let evm = watched_evm(steps.state_mut(), env, watchers, true);
        let done = precompiles.transact(evm, true, environment);
        let done = match done.map_err(|error| refused(error, from, max_fee, base_fee)) {
            Ok(done) => done,
            Err(Refused::Invalid(reason)) => {
                let message = format!("err: {reason} (supplied gas {gas})");
                return Err(Failure::Coded { code: reason.code, message });
            }
            Err(Refused::Failed(failure)) => return Err(failure),
        };
        self.guard.check()?;
        steps.state_mut().commit(done.state);
        if account.nonce == u64::MAX && matches!(shown.kind(), TxKind::Call(_)) {
            wrap_nonce(steps, from)?;
        }
        self.record(steps, done.result, shown, collector, calls)
    }

    /// The environment for one call: one that offers no fee at all is let in without, if nobody validates.
    fn env_of(&self, mut env: EvmEnv, transaction: &revm::context::TxEnv) -> EvmEnv {
        let tip = transaction.gas_priority_fee.unwrap_or_default();
        if !self.validation && transaction.gas_price == 0 && tip == 0 {
            env.cfg_env.disable_base_fee = true;
        }
        if !self.validation
            && transaction.max_fee_per_blob_gas == 0
            && let Some(blob) = &mut env.block_env.blob_excess_gas_and_price
        {
            blob.blob_gasprice = 0;
        }
        env
    }

    fn record(
        &mut self,
        steps: &Steps<'_>,
        result: ExecutionResult,
        transaction: RecoveredTransaction,
        collector: &mut LogCollector,
        calls: &mut Calls,
    ) -> Result<(), Failure> {
        let gas = *result.gas();
        let gas_used = gas.tx_gas_used();
        calls.gas_used += gas_used;
        self.gas_left = self.gas_left.saturating_sub(gas_used);
        let blobs = transaction.blob_versioned_hashes().map_or(0, <[B256]>::len);
        calls.blob_gas_used += blobs as u64 * DATA_GAS_PER_BLOB;

        let succeeded = result.is_success();
        let emitted = result.logs().to_vec();
        let bloom = emitted.iter().collect();
        let kind = transaction.inner().tx_type();
        let mut receipt = build_receipt(kind, succeeded, calls.gas_used, emitted, bloom);
        let number = self.parent.number + 1;
        if !self.context.chain.spec().is_byzantium_active_at_block(number)
            && let Receipt::Legacy(receipt) = &mut receipt
        {
            // Before EIP-658 a receipt had the state root instead of a status.
            let root = self.scratch.root_after(&steps.state().changes()?)?;
            receipt.receipt.status = Eip658Value::PostState(root);
        }
        let (return_data, error) = match result {
            ExecutionResult::Success { output: Output::Call(data), .. }
            | ExecutionResult::Success { output: Output::Create(data, _), .. } => (data, None),
            ExecutionResult::Revert { output, .. } => {
                let message = reverted(output.clone()).to_string();
                let error = SimulateError { code: REVERTED, message, data: Some(output) };
                (Default::default(), Some(error))
            }
            ExecutionResult::Halt { reason, .. } => {
                let code = SimulateError::VM_EXECUTION_ERROR_CODE;
                let error = SimulateError { code, message: halted(&reason), data: None };
                (Default::default(), Some(error))
            }
        };
        calls.receipts.push(receipt);
        calls.transactions.push(transaction);
        calls.logs.push(collector.take());
        calls.results.push(SimCallResult {
            return_data,
            logs: Vec::new(),
            gas_used,
            max_used_gas: Some(gas.total_gas_spent().max(gas.floor_gas())),
            status: succeeded,
            error,
        });
        Ok(())
    }

    /// Fills in what execution gives.
    fn seal(
        &self,
        header: &mut Header,
        transactions: &[RecoveredTransaction],
        withdrawals: Option<&[Withdrawal]>,
        output: &BlockOutput,
    ) -> Result<(), Failure> {
        let spec = self.context.chain.spec();
        header.state_root = self.scratch.root_after(&output.changes)?;
        header.gas_used = output.gas_used;
        header.transactions_root = transactions_root(transactions);
        header.receipts_root = calculate_receipt_root(&output.receipts);
        let blooms = output.receipts.iter().map(Receipt::logs_bloom);
        header.logs_bloom = blooms.fold(Bloom::ZERO, |all, bloom| all | *bloom);
        header.withdrawals_root = withdrawals.map(calculate_withdrawals_root);
        header.blob_gas_used = header.excess_blob_gas.map(|_| output.blob_gas_used);
        header.requests_hash = spec
            .is_prague_active_at_timestamp(header.timestamp)
            .then(|| output.requests.requests_hash());
        Ok(())
    }
}

/// geth lets a nonce that nobody checks begin anew, where the EVM leaves it at its largest value.
fn wrap_nonce(steps: &mut Steps<'_>, address: alloy_primitives::Address) -> Result<(), Failure> {
    let Some(info) = steps.state_mut().basic(address)? else { return Ok(()) };
    let account =
        heddle_evm::AccountState { nonce: 0, balance: info.balance, code_hash: info.code_hash };
    Ok(steps.state_mut().set_account(address, Some(account), false)?)
}

/// Logs with their place, which is known once the block has its hash.
fn placed_logs(block: &ChainBlock, index: usize, logs: Vec<(u64, EmittedLog)>) -> Vec<Log> {
    let place = |(log_index, inner)| Log {
        inner,
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: block.transactions.get(index).map(|tx| *tx.inner().tx_hash()),
        transaction_index: Some(index as u64),
        log_index: Some(log_index),
        removed: false,
    };
    logs.into_iter().map(place).collect()
}
