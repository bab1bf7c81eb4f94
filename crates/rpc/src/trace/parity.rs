//! `trace_…`, as OpenEthereum had them and Erigon, Nethermind and reth have them.

use alloy_consensus::transaction::SignerRecoverable;
use alloy_eips::Decodable2718;
use alloy_evm::block::calc::{base_block_reward, block_reward, ommer_reward};
use alloy_primitives::{Address, B256, Bytes, TxHash, U256, map::HashSet};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_trace::{
    filter::{TraceFilter, TraceFilterMode},
    parity::{
        Action, LocalizedTransactionTrace, RewardAction, RewardType, TraceResults, TraceType,
        TransactionTrace,
    },
};
use heddle_chain::{BlockRules, ChainBlock};
use heddle_evm::Transaction;
use heddle_pool::PoolTransaction;
use revm::context::TxEnv;
use revm_inspectors::tracing::{TracingInspector, TracingInspectorConfig};
use serde::{Deserialize, Serialize};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use crate::{
    call::{CallRequest, Refused, Simulation},
    context::Context,
    errors::Failure,
    fork,
    params::{Args, Argument, BlockParam, Index, Number, from_json},
    trace::{Replay, replay::Watched},
    watch::{Deadline, Guard, Kept},
};

/// Which of the three kinds of trace are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Types(HashSet<TraceType>);

impl Argument for Types {
    fn parse(json: &str) -> Result<Self, String> {
        from_json(json).map(Self)
    }
}

impl Types {
    fn inspector(&self) -> TracingInspector {
        TracingInspector::new(TracingInspectorConfig::from_parity_config(&self.0))
    }

    fn kept(&self) -> Kept {
        Kept { steps: self.0.contains(&TraceType::VmTrace), ..Kept::default() }
    }
}

/// Results as they are sent. Kept as text, which is far smaller than what it is made of.
type Text = Box<RawValue>;

/// What a whole block's replay answers for each transaction.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Replayed {
    #[serde(flatten)]
    results: TraceResults,
    transaction_hash: TxHash,
}

pub(crate) fn guard(context: &Context, kept: Kept) -> Guard {
    let limits = &context.limits;
    Guard::new(Deadline::new(limits.trace_time_max), limits.trace_bytes_max, kept)
}

/// `trace_block`: the traces of all transactions, and the rewards that proof of work paid.
pub(crate) fn block(
    context: &Context,
    block: BlockParam,
) -> Result<Option<Vec<LocalizedTransactionTrace>>, Failure> {
    let Some(block) = context.block(block)? else { return Ok(None) };
    let mut guard = guard(context, Kept::default());
    whole(context, &block, &mut guard).map(Some)
}

/// All traces of a block, rewards last.
pub(crate) fn whole(
    context: &Context,
    block: &ChainBlock,
    guard: &mut Guard,
) -> Result<Vec<LocalizedTransactionTrace>, Failure> {
    let mut traces = Vec::new();
    // The genesis block executes nothing.
    if block.number() > 0 {
        let rules = BlockRules::of(context.chain.spec(), &block.header);
        let mut replay = Replay::begin(&context.chain, &rules, block)?;
        for index in 0..block.transactions.len() {
            let config = TracingInspectorConfig::default_parity();
            let mut inspector = TracingInspector::new(config);
            let tell = |inspector: &mut TracingInspector, watched: Watched<'_>| {
                Ok(localized(inspector, block, index, &watched))
            };
            traces.extend(replay.watch(&mut inspector, guard, tell)?.unwrap_or_default());
        }
        traces.extend(rewards(&rules, block));
    }
    Ok(traces)
}

fn localized(
    inspector: &mut TracingInspector,
    block: &ChainBlock,
    index: usize,
    watched: &Watched<'_>,
) -> Vec<LocalizedTransactionTrace> {
    let mut inspector = std::mem::take(inspector);
    inspector.set_transaction_caller(watched.transaction.caller);
    let info = block.transaction_info(index);
    inspector.into_parity_builder().into_localized_transaction_traces(info)
}

/// What the block and its ommers earned, `None` under proof of stake.
pub(crate) fn issuance(
    rules: &BlockRules<'_>,
    block: &ChainBlock,
) -> Option<(u128, Vec<(Address, u128)>)> {
    let base = base_block_reward(rules, block.number())?;
    let number = block.number();
    let ommers = block.ommers.iter();
    // Validation has checked that an ommer is an ancestor's sibling, at most six blocks back.
    let ommers = ommers
        .filter(|ommer| ommer.number < number && ommer.number + 8 > number)
        .map(|ommer| (ommer.beneficiary, ommer_reward(base, number, ommer.number)));
    Some((block_reward(base, block.ommers.len()), ommers.collect()))
}

fn rewards(rules: &BlockRules<'_>, block: &ChainBlock) -> Vec<LocalizedTransactionTrace> {
    let Some((reward, ommers)) = issuance(rules, block) else { return Vec::new() };
    let trace = |author, reward_type, value| LocalizedTransactionTrace {
        trace: TransactionTrace {
            action: Action::Reward(RewardAction { author, reward_type, value: U256::from(value) }),
            ..TransactionTrace::default()
        },
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        transaction_hash: None,
        transaction_position: None,
    };
    let own = trace(block.header.beneficiary, RewardType::Block, reward);
    let ommers = ommers.into_iter().map(|(author, value)| trace(author, RewardType::Uncle, value));
    [own].into_iter().chain(ommers).collect()
}

/// `trace_transaction`: null for one that is not mined.
pub(crate) fn transaction(
    context: &Context,
    hash: B256,
) -> Result<Option<Vec<LocalizedTransactionTrace>>, Failure> {
    let Some((block, index)) = context.mined(hash)? else { return Ok(None) };
    let mut guard = guard(context, Kept::default());
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, &block)?;
    replay.skip_to(index, &guard)?;
    let mut inspector = TracingInspector::new(TracingInspectorConfig::default_parity());
    replay.watch(&mut inspector, &mut guard, |inspector, watched| {
        Ok(localized(inspector, &block, index, &watched))
    })
}

/// The parameters of `trace_get`: a transaction, and where in its tree of calls.
pub(crate) fn parse_get(args: &mut Args<'_>) -> Result<(B256, Vec<usize>), Failure> {
    let hash = args.required()?;
    let path: Vec<Index> = args.required()?;
    Ok((hash, path.into_iter().map(|index| index.0).collect()))
}

impl Argument for Vec<Index> {
    fn parse(json: &str) -> Result<Self, String> {
        let indexes: Vec<serde_json::Value> = from_json(json)?;
        let number = |index: &serde_json::Value| {
            let number = Number::parse(&index.to_string())?.0;
            Ok(Index(usize::try_from(number).unwrap_or(usize::MAX)))
        };
        indexes.iter().map(number).collect()
    }
}

/// `trace_get`.
pub(crate) fn get(
    context: &Context,
    (hash, path): (B256, Vec<usize>),
) -> Result<Option<LocalizedTransactionTrace>, Failure> {
    let traces = transaction(context, hash)?.unwrap_or_default();
    Ok(traces.into_iter().find(|trace| trace.trace.trace_address == path))
}

/// `trace_replayTransaction`.
pub(crate) fn replay_transaction(
    context: &Context,
    (hash, types): (B256, Types),
) -> Result<Text, Failure> {
    let (block, index) =
        context.mined(hash)?.ok_or_else(|| Failure::server("transaction not found"))?;
    let mut guard = guard(context, types.kept());
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, &block)?;
    replay.skip_to(index, &guard)?;
    let results = replay.watch(&mut types.inspector(), &mut guard, |inspector, watched| {
        results(inspector, &types, watched)
    })?;
    text(&results.ok_or_else(|| Failure::server("transaction not found"))?)
}

/// `trace_replayBlockTransactions`.
pub(crate) fn replay_block(
    context: &Context,
    (block, types): (BlockParam, Types),
) -> Result<Option<Vec<Text>>, Failure> {
    let Some(block) = context.block(block)? else { return Ok(None) };
    if block.number() == 0 {
        return Ok(Some(Vec::new()));
    }
    let mut guard = guard(context, types.kept());
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, &block)?;
    let mut replayed = Vec::with_capacity(block.transactions.len());
    for transaction in &block.transactions {
        let results = replay.watch(&mut types.inspector(), &mut guard, |inspector, watched| {
            results(inspector, &types, watched)
        })?;
        let Some(results) = results else { break };
        let transaction_hash = *transaction.inner().tx_hash();
        let one = text(&Replayed { results, transaction_hash })?;
        guard.record(one.get().len());
        guard.check()?;
        replayed.push(one);
    }
    Ok(Some(replayed))
}

fn results(
    inspector: &mut TracingInspector,
    types: &Types,
    watched: Watched<'_>,
) -> Result<TraceResults, Failure> {
    let mut inspector = std::mem::take(inspector);
    inspector.set_transaction_caller(watched.transaction.caller);
    let builder = inspector.into_parity_builder();
    builder
        .into_trace_results_with_state(watched.done, &types.0, watched.before)
        .map_err(Failure::from)
}

fn text(value: &impl Serialize) -> Result<Text, Failure> {
    to_raw_value(value).map_err(Failure::server)
}

/// The parameters of `trace_call`: call, types, block, state overrides, block overrides.
pub(crate) fn parse_call(args: &mut Args<'_>) -> Result<(CallRequest, Types), Failure> {
    let request = args.required()?;
    let types = args.required()?;
    let call = CallRequest {
        request,
        block: args.or(BlockParam::Latest)?,
        state: args.optional()?,
        environment: args.optional()?,
    };
    call.check()?;
    Ok((call, types))
}

/// `trace_call`.
pub(crate) fn call(
    context: &Context,
    (call, types): (CallRequest, Types),
) -> Result<Text, Failure> {
    let mut simulation = Simulation::new(context, &call)?;
    let mut guard = guard(context, types.kept());
    text(&run(&mut simulation, &types, &mut guard)?)
}

/// The calls of `trace_callMany`, each with what is wanted of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Calls(Vec<(TransactionRequest, HashSet<TraceType>)>);

impl Argument for Calls {
    fn parse(json: &str) -> Result<Self, String> {
        from_json(json)
    }
}

/// `trace_callMany`: each call on the state that the one before it left.
pub(crate) fn call_many(
    context: &Context,
    (calls, block): (Calls, BlockParam),
) -> Result<Vec<Text>, Failure> {
    let keeps_steps = calls.0.iter().any(|(_, types)| types.contains(&TraceType::VmTrace));
    let mut guard = guard(context, Kept { steps: keeps_steps, ..Kept::default() });
    let mut simulation = Simulation::new(context, &at(block))?;
    let mut traced = Vec::with_capacity(calls.0.len());
    for (request, types) in calls.0 {
        simulation.set_call(&request, context.chain.chain_id())?;
        let one = text(&run(&mut simulation, &Types(types), &mut guard)?)?;
        guard.record(one.get().len());
        guard.check()?;
        traced.push(one);
    }
    Ok(traced)
}

fn at(block: BlockParam) -> CallRequest {
    CallRequest { request: TransactionRequest::default(), block, state: None, environment: None }
}

/// `trace_rawTransaction`: a signed transaction, as if it were mined after the block.
pub(crate) fn raw_transaction(
    context: &Context,
    (raw, types, block): (Bytes, Types, BlockParam),
) -> Result<Text, Failure> {
    let transaction: Transaction = match PoolTransaction::decode_2718_exact(&raw) {
        Ok(transaction) => transaction.into(),
        Err(_) => Transaction::decode_2718_exact(&raw).map_err(Failure::server)?,
    };
    let recovered = transaction
        .try_into_recovered()
        .map_err(|_| Failure::server("invalid sender: invalid transaction v, r, s values"))?;
    let environment: TxEnv = alloy_evm::ToTxEnv::to_tx_env(&recovered);
    let mut simulation = Simulation::new(context, &at(block))?;
    simulation.set_transaction(environment);
    let mut guard = guard(context, types.kept());
    text(&run(&mut simulation, &types, &mut guard)?)
}

fn run(
    simulation: &mut Simulation,
    types: &Types,
    guard: &mut Guard,
) -> Result<TraceResults, Failure> {
    let gas = simulation.gas_limit_wanted();
    let (outcome, inspector) =
        simulation.watch_under(gas, types.inspector(), guard).map_err(|refused| match refused {
            Refused::Invalid(reason) => {
                Failure::server(format!("err: {reason} (supplied gas {gas})"))
            }
            Refused::Failed(failure) => failure,
        })?;
    let results = inspector.into_parity_builder().into_trace_results_with_state_parts(
        &outcome.result,
        &outcome.state,
        &types.0,
        &simulation.database,
    )?;
    simulation.keep(outcome.state);
    Ok(results)
}

/// What `trace_filter` looks for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Filter {
    from_block: Option<String>,
    to_block: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_address: Option<Vec<Address>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_address: Option<Vec<Address>>,
    mode: TraceFilterMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl Argument for Filter {
    fn parse(json: &str) -> Result<Self, String> {
        let filter: Self = from_json(json)?;
        for block in [&filter.from_block, &filter.to_block].into_iter().flatten() {
            BlockParam::read(block)?;
        }
        Ok(filter)
    }
}

/// `trace_filter`.
pub(crate) fn filter(
    context: &Context,
    filter: Filter,
) -> Result<Vec<LocalizedTransactionTrace>, Failure> {
    let number = |block: Option<String>, default: BlockParam| {
        let block = block.map_or(Ok(default), |block| BlockParam::read(&block));
        context.known_number(block.map_err(Failure::InvalidParams)?)
    };
    let first = number(filter.from_block, BlockParam::Earliest)?;
    let last = number(filter.to_block, BlockParam::Latest)?;
    if first > last {
        return Err(Failure::params("fromBlock is after toBlock"));
    }
    let most = context.limits.trace_filter_blocks_max;
    if last - first >= most {
        return Err(Failure::Limit(format!(
            "{} blocks are more than the {most} that one trace_filter may span",
            (last - first).saturating_add(1)
        )));
    }
    if let Some(remote) = context.chain.forked().filter(|remote| first <= remote.number()) {
        if last > remote.number() {
            return Err(Failure::server(format!(
                "this chain is a fork made at block {}; ask for the blocks up to it and those after it by themselves",
                remote.number()
            )));
        }
        let filter = Filter {
            from_block: Some(format!("{first:#x}")),
            to_block: Some(format!("{last:#x}")),
            ..filter
        };
        return fork::ask(&remote, "trace_filter", [json!(filter)]);
    }
    let matcher = TraceFilter {
        from_address: filter.from_address.unwrap_or_default(),
        to_address: filter.to_address.unwrap_or_default(),
        mode: filter.mode,
        ..TraceFilter::default()
    }
    .matcher();
    let after = usize::try_from(filter.after.unwrap_or_default()).unwrap_or(usize::MAX);
    let count =
        filter.count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let wanted = after.saturating_add(count);
    let mut guard = guard(context, Kept::default());
    let mut found = Vec::new();
    for number in first..=last {
        if found.len() >= wanted {
            break;
        }
        let Some(block) = context.chain.block_by_number(number)? else { break };
        let traces = whole(context, &block, &mut guard)?;
        found.extend(traces.into_iter().filter(|trace| matcher.matches(&trace.trace)));
    }
    Ok(found.into_iter().skip(after).take(count).collect())
}
