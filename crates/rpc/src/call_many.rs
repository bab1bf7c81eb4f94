//! Many calls, each on what the ones before left: `eth_callMany` and `debug_traceCallMany`, as reth has them.

use alloy_primitives::Bytes;
use alloy_rpc_types_eth::{Bundle, EthCallResponse, TransactionRequest, state::StateOverride};
use heddle_chain::BlockRules;
use revm::context::result::ResultAndState;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    call::{CallRequest, Refused, Simulation},
    context::Context,
    errors::Failure,
    params::{Args, Argument, BlockParam, from_json},
    trace::{CallOptions, Options, Replay, geth},
    watch::{Deadline, Guard, Kept},
};

/// Seconds between the blocks that bundles stand for: a slot of Ethereum's.
const SECONDS_BETWEEN_BUNDLES: u64 = 12;

/// Calls that run in one block after the other.
#[derive(Debug)]
pub(crate) struct Bundles(Vec<Bundle>);

impl Argument for Bundles {
    fn parse(json: &str) -> Result<Self, String> {
        from_json(json).map(Self)
    }
}

/// After which transaction of which block they start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    block: BlockParam,
    /// How many transactions of the block run first; `None` for all.
    transactions: Option<usize>,
}

impl Default for Start {
    fn default() -> Self {
        Self { block: BlockParam::Latest, transactions: None }
    }
}

impl Argument for Start {
    fn parse(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Written {
            block_number: Option<Box<RawValue>>,
            transaction_index: Option<i64>,
        }
        let written: Written = from_json(json)?;
        let block = written.block_number.filter(|block| block.get() != "null");
        let transactions = match written.transaction_index {
            None | Some(-1) => None,
            Some(index) => Some(usize::try_from(index).map_err(|_| {
                format!("transaction index {index} is neither -1, for all, nor a number from 0 on")
            })?),
        };
        let block = block.map_or(Ok(BlockParam::Latest), |block| BlockParam::parse(block.get()))?;
        Ok(Self { block, transactions })
    }
}

/// What `eth_callMany` is asked.
pub(crate) type Calls = (Bundles, Start, Option<StateOverride>);

pub(crate) fn parse(args: &mut Args<'_>) -> Result<Calls, Failure> {
    Ok((args.required()?, args.or(Start::default())?, args.optional()?))
}

/// What `debug_traceCallMany` is asked.
pub(crate) type TracedCalls = (Bundles, Start, CallOptions);

pub(crate) fn parse_traced(args: &mut Args<'_>) -> Result<TracedCalls, Failure> {
    Ok((args.required()?, args.or(Start::default())?, args.or(CallOptions::default())?))
}

/// `eth_callMany`.
pub(crate) fn call_many(
    context: &Context,
    (bundles, start, overrides): Calls,
) -> Result<Vec<Vec<EthCallResponse>>, Failure> {
    let guard = Guard::new(
        Deadline::new(context.limits.call_time_max),
        context.limits.trace_bytes_max,
        Kept::default(),
    );
    let simulation = open(context, start, overrides, &guard)?;
    each(context, simulation, &bundles, |simulation| {
        let gas = simulation.gas_limit_wanted();
        match simulation.run(gas) {
            Ok(outcome) => {
                simulation.keep(outcome.state.clone());
                Ok(match outcome.into_output() {
                    Ok(value) => EthCallResponse { value: Some(value), error: None },
                    Err(failure) => failed(&failure),
                })
            }
            Err(Refused::Invalid(reason)) => Ok(failed(&Failure::server(reason))),
            // Time is over, or the state cannot be read: it would be so for all the others.
            Err(Refused::Failed(failure)) => Err(failure),
        }
    })
}

fn failed(failure: &Failure) -> EthCallResponse {
    EthCallResponse { value: None::<Bytes>, error: Some(failure.to_string()) }
}

/// `debug_traceCallMany`.
pub(crate) fn trace_call_many(
    context: &Context,
    (bundles, start, options): TracedCalls,
) -> Result<Vec<Vec<geth::Trace>>, Failure> {
    let tracing = Options::of_call(&options);
    let mut guard = tracing.guard(&context.limits);
    let simulation = open(context, start, options.0.state_overrides, &guard)?;
    let mut bytes = 0;
    each(context, simulation, &bundles, |simulation| {
        guard.next_transaction();
        let gas = simulation.gas_limit_wanted();
        let (outcome, mut inspector) =
            simulation.watch_under(gas, tracing.inspector()?, &mut guard)?;
        let done = ResultAndState::new(outcome.result, outcome.state);
        let (transaction, block) =
            (simulation.transaction_with(gas), simulation.env.block_env.clone());
        let trace = inspector
            .get_result(None, &transaction, &block, &done, &mut simulation.database)
            .map_err(Failure::server)?;
        simulation.keep(done.state);
        let trace = geth::text(trace)?;
        bytes += trace.get().len();
        geth::check_size(context, bytes).map(|()| trace)
    })
}

/// The state and the block that the first call meets.
fn open(
    context: &Context,
    start: Start,
    overrides: Option<StateOverride>,
    guard: &Guard,
) -> Result<Simulation, Failure> {
    let call = CallRequest {
        request: TransactionRequest::default(),
        block: start.block,
        state: overrides,
        environment: None,
    };
    let Some(index) = start.transactions else { return Simulation::new(context, &call) };
    let block = context.block(start.block)?.ok_or_else(|| Failure::server("header not found"))?;
    if index > block.transactions.len() {
        return Err(Failure::server(format!(
            "transaction index {index} out of range for block {}",
            block.hash()
        )));
    }
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, &block)?;
    replay.skip_to(index, guard)?;
    let state = replay.state()?;
    Simulation::on(context, state, replay.env().clone(), &call)
}

/// Runs the calls of all bundles.
fn each<T>(
    context: &Context,
    mut simulation: Simulation,
    bundles: &Bundles,
    mut run: impl FnMut(&mut Simulation) -> Result<T, Failure>,
) -> Result<Vec<Vec<T>>, Failure> {
    let chain_id = context.chain.chain_id();
    let mut answers = Vec::with_capacity(bundles.0.len());
    for (index, bundle) in bundles.0.iter().enumerate() {
        if index > 0 {
            simulation.next_block(SECONDS_BETWEEN_BUNDLES);
        }
        if let Some(overrides) = bundle.block_override.clone() {
            simulation.override_block(overrides)?;
        }
        let mut of_bundle = Vec::with_capacity(bundle.transactions.len());
        for request in &bundle.transactions {
            simulation.set_call(request, chain_id)?;
            of_bundle.push(run(&mut simulation)?);
        }
        answers.push(of_bundle);
    }
    Ok(answers)
}
