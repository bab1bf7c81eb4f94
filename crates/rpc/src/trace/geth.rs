//! `debug_trace…`, as geth has them.

use alloy_primitives::{B256, Bytes};
use alloy_rlp::Decodable;
use alloy_rpc_types_trace::{
    common::TraceResult,
    geth::{DefaultFrame, GethTrace},
};
use heddle_chain::{BlockRules, ChainBlock, Witness};
use heddle_evm::Block;
use revm::context::result::ResultAndState;
use revm_inspectors::tracing::{DebugInspector, TransactionContext};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    call::{CallRequest, Simulation},
    context::Context,
    errors::Failure,
    params::{Args, BlockParam},
    trace::{CallOptions, Options, Replay, replay::Watched},
};

/// A trace as it is sent. Kept as text, which is far smaller than what it is made of.
pub(crate) type Trace = Box<RawValue>;
/// The trace of one transaction of a block.
pub(crate) type BlockTrace = TraceResult<Trace, String>;

/// `debug_traceTransaction`.
pub(crate) fn transaction(
    context: &Context,
    (hash, options): (B256, Options),
) -> Result<Trace, Failure> {
    let (block, index) =
        context.mined(hash)?.ok_or_else(|| Failure::server("transaction not found"))?;
    let mut guard = options.guard(&context.limits);
    let mut inspector = options.inspector()?;
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, &block)?;
    replay.skip_to(index, &guard)?;
    let trace = replay.watch(&mut inspector, &mut guard, |inspector, watched| {
        tell(inspector, &block, index, watched)
    })?;
    checked(context, trace.ok_or_else(|| Failure::server("transaction not found"))?)
}

/// `debug_traceBlockByNumber` and `debug_traceBlockByHash`.
pub(crate) fn block(
    context: &Context,
    (block, options): (BlockParam, Options),
) -> Result<Vec<BlockTrace>, Failure> {
    let found = context.block(block)?.ok_or_else(|| {
        Failure::server(match block {
            BlockParam::Hash(hash) => format!("block {hash} not found"),
            BlockParam::Number(number) => format!("block #{number} not found"),
            _ => "block not found".to_owned(),
        })
    })?;
    whole(context, &found, &options)
}

/// `debug_traceBlock`: a block that is handed over as RLP. Its parent must be on the chain, itself it need not be.
pub(crate) fn given_block(
    context: &Context,
    (rlp, options): (Bytes, Options),
) -> Result<Vec<BlockTrace>, Failure> {
    let undecodable =
        |error: &dyn std::fmt::Display| Failure::server(format!("could not decode block: {error}"));
    let mut rest = rlp.as_ref();
    let block = Block::decode(&mut rest).map_err(|error| undecodable(&error))?;
    if !rest.is_empty() {
        return Err(undecodable(&"there is more after it"));
    }
    let block = ChainBlock::from_block(block).map_err(|error| undecodable(&error))?;
    whole(context, &block, &options)
}

fn whole(
    context: &Context,
    block: &ChainBlock,
    options: &Options,
) -> Result<Vec<BlockTrace>, Failure> {
    let mut guard = options.guard(&context.limits);
    let mut inspector = options.inspector()?;
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, block)?;
    let mut traces = Vec::with_capacity(block.transactions.len());
    let mut bytes = 0;
    for (index, transaction) in block.transactions.iter().enumerate() {
        let trace = replay.watch(&mut inspector, &mut guard, |inspector, watched| {
            tell(inspector, block, index, watched)
        })?;
        let Some(trace) = trace else { break };
        bytes += trace.get().len();
        check_size(context, bytes)?;
        traces.push(TraceResult::new_success(trace, Some(*transaction.inner().tx_hash())));
        inspector.fuse().map_err(Failure::params)?;
    }
    Ok(traces)
}

fn tell(
    inspector: &mut DebugInspector,
    block: &ChainBlock,
    index: usize,
    watched: Watched<'_>,
) -> Result<Trace, Failure> {
    let context = TransactionContext {
        block_hash: Some(block.hash()),
        tx_index: Some(index),
        tx_hash: block.transactions.get(index).map(|tx| *tx.inner().tx_hash()),
    };
    let Watched { env, transaction, done, before } = watched;
    let trace = inspector.get_result(Some(context), transaction, &env.block_env, done, before);
    text(trace.map_err(Failure::server)?)
}

/// What `debug_executionWitness` answers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExecutionWitness {
    state: Vec<Bytes>,
    codes: Vec<Bytes>,
    keys: Vec<Bytes>,
    headers: Vec<Bytes>,
}

/// `debug_executionWitness`.
pub(crate) fn witness(context: &Context, block: BlockParam) -> Result<ExecutionWitness, Failure> {
    let block = context.block(block)?.ok_or_else(|| Failure::server("block not found"))?;
    if block.number() == 0 {
        return Err(Failure::server("the genesis block has no parent to be witnessed"));
    }
    let Witness { nodes, codes, keys, headers } = context.chain.witness(&block)?;
    Ok(ExecutionWitness { state: nodes, codes, keys, headers })
}

/// The parameters of `debug_traceCall`: call, block, options.
pub(crate) fn parse_call(args: &mut Args<'_>) -> Result<(CallRequest, CallOptions), Failure> {
    let request = args.required()?;
    let block = args.or(BlockParam::Latest)?;
    let options: CallOptions = args.or(CallOptions::default())?;
    let state = options.0.state_overrides.clone();
    let environment = options.0.block_overrides.clone();
    let call = CallRequest { request, block, state, environment };
    call.check()?;
    Ok((call, options))
}

/// `debug_traceCall`: a call after a block, or with `txIndex` before that transaction of it.
pub(crate) fn call(
    context: &Context,
    (call, options): (CallRequest, CallOptions),
) -> Result<Trace, Failure> {
    let in_block = options.0.tx_index;
    let options = Options::of_call(&options);
    let mut guard = options.guard(&context.limits);
    let mut simulation = match in_block {
        None => Simulation::new(context, &call)?,
        Some(index) => {
            let block = context.block(call.block)?;
            let block = block.ok_or_else(|| Failure::server("header not found"))?;
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            if index >= block.transactions.len() {
                return Err(Failure::server(format!(
                    "transaction index {index} out of range for block {}",
                    block.hash()
                )));
            }
            let rules = BlockRules::of(context.chain.spec(), &block.header);
            let mut replay = Replay::begin(&context.chain, &rules, &block)?;
            replay.skip_to(index, &guard)?;
            let state = replay.state()?;
            Simulation::on(context, state, replay.env().clone(), &call)?
        }
    };
    let inspector = options.inspector()?;
    let gas = simulation.gas_limit_wanted();
    let (outcome, mut inspector) = simulation.watch_under(gas, inspector, &mut guard)?;
    let done = ResultAndState::new(outcome.result, outcome.state);
    let (transaction, block) = (simulation.transaction_with(gas), simulation.env.block_env);
    let trace = inspector.get_result(None, &transaction, &block, &done, &mut simulation.database);
    checked(context, text(trace.map_err(Failure::server)?)?)
}

pub(crate) fn text(mut trace: GethTrace) -> Result<Trace, Failure> {
    if let GethTrace::Default(frame) = &mut trace {
        leave_out_empty(frame);
    }
    to_raw_value(&trace).map_err(Failure::server)
}

/// geth leaves these out where they are empty.
fn leave_out_empty(frame: &mut DefaultFrame) {
    for step in &mut frame.struct_logs {
        step.refund_counter = step.refund_counter.filter(|refund| *refund != 0);
        step.return_data = step.return_data.take().filter(|data| !data.is_empty());
        step.memory = step.memory.take().filter(|memory| !memory.is_empty());
    }
}

fn checked(context: &Context, trace: Trace) -> Result<Trace, Failure> {
    check_size(context, trace.get().len()).map(|()| trace)
}

/// An answer that would be too large is better refused before the rest of it is made.
pub(crate) fn check_size(context: &Context, bytes: usize) -> Result<(), Failure> {
    let most = context.limits.response_bytes_max as usize;
    if bytes > most {
        return Err(Failure::Limit(format!(
            "the trace is larger than an answer may be, {most} bytes"
        )));
    }
    Ok(())
}
