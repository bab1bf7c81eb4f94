//! What parallel execution tells of blocks and transactions: the `heddle` namespace.
//!
//! Blocks are executed again for it, on the state that they started from, so that it works for every block; what comes
//! out is measured in that run. The dependencies between transactions are the true ones, from a sequential run that
//! takes down what each reads and writes ([`DependencyGraph`]).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U256, map::AddressMap};
use alloy_rpc_types_eth::TransactionRequest;
use heddle_chain::{BlockRules, BlockStages, ChainBlock, block_input};
use heddle_evm::{BlockInput, RecoveredTransaction, Transaction, execute_block};
use heddle_parallel::{Ending, Location, Profile, TxIndex};
use heddle_replay::{Dependency, DependencyGraph};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    context::Context,
    errors::Failure,
    params::{Argument, BlockNumber, BlockParam, from_json},
    simulate::transaction::unsigned,
    watch::Deadline,
};

/// Times of whole blocks are medians of so many runs, both executors taking turns.
const RUNS: usize = 3;

/// A location as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum NamedLocation {
    /// Balance, nonce and code of an account.
    Account { address: Address },
    /// One storage slot.
    Slot { address: Address, slot: U256 },
    /// All storage of an account at once.
    Storage { address: Address },
}

impl From<Location> for NamedLocation {
    fn from(location: Location) -> Self {
        match location {
            Location::Account(address) => Self::Account { address },
            Location::Slot(address, slot) => Self::Slot { address, slot },
            Location::Wipe(address) => Self::Storage { address },
        }
    }
}

/// What `heddle_getBlockProfile` answers. Times are nanoseconds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BlockProfile {
    number: U64,
    hash: B256,
    transactions: usize,
    gas_used: U64,
    /// What the figures are of: always of runs made for this answer.
    measured: &'static str,
    /// Workers that took part, and that there are.
    workers: usize,
    workers_available: usize,
    sequential_ns: u64,
    parallel_ns: u64,
    speedup: Option<f64>,
    /// Gas of the block over that of its critical path: no schedule gives more.
    speedup_possible: Option<f64>,
    critical_path: CriticalPath,
    timeline: Vec<Lane>,
    conflicts: Vec<Conflicts>,
    reexecutions: usize,
    when_added: Option<WhenAdded>,
}

/// How the block came onto this chain. The commit may have run beside the execution of the next block.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WhenAdded {
    workers: usize,
    conflicts: usize,
    execute_ns: u64,
    state_root_ns: u64,
    body_roots_ns: u64,
    commit_ns: u64,
}

impl From<BlockStages> for WhenAdded {
    fn from(stages: BlockStages) -> Self {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            workers: stages.workers,
            conflicts: stages.conflicts,
            execute_ns: ns(stages.execute),
            state_root_ns: ns(stages.state_root),
            body_roots_ns: ns(stages.body_roots),
            commit_ns: ns(stages.commit),
        }
    }
}

/// The heaviest chain of dependent transactions.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CriticalPath {
    gas: U64,
    transactions: Vec<u32>,
}

/// What one worker did.
#[derive(Clone, Debug, Serialize)]
struct Lane {
    worker: usize,
    runs: Vec<Run>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    transaction: u32,
    /// Which attempt at the transaction it was, from 0.
    incarnation: u32,
    start_ns: u64,
    end_ns: u64,
    ending: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct Conflicts {
    location: NamedLocation,
    count: usize,
    transactions: Vec<u32>,
}

/// `heddle_getBlockProfile`: null if there is no such block.
pub(crate) fn block_profile(
    context: &Context,
    block: BlockParam,
) -> Result<Option<BlockProfile>, Failure> {
    let Some(block) = context.block(block)? else { return Ok(None) };
    check_executed(&block)?;
    let deadline = Deadline::new(context.limits.trace_time_max);
    let graph = graph(context, &block)?;
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let parent = context.chain.state_before(&block)?;
    let (mut sequential, mut parallel) = (Vec::new(), Vec::new());
    let mut profile = Profile::default();
    for _ in 0..RUNS {
        deadline.check()?;
        let input = block_input(&rules, &block);
        sequential.push(timed(|| execute_block(&rules, &parent, &input)).1);
        deadline.check()?;
        let (executed, time) = timed(|| context.chain.execute_again(&block));
        parallel.push(time);
        profile = executed?.profile;
    }
    let (sequential_ns, parallel_ns) = (median_ns(sequential), median_ns(parallel));
    let critical_path = graph.critical_path_gas();
    Ok(Some(BlockProfile {
        number: U64::from(block.number()),
        hash: block.hash(),
        transactions: block.transactions.len(),
        gas_used: U64::from(block.header.gas_used),
        measured: "for this answer",
        workers: profile.workers,
        workers_available: context.chain.workers(),
        sequential_ns,
        parallel_ns,
        speedup: ratio(sequential_ns, parallel_ns),
        speedup_possible: ratio(graph.total_gas(), critical_path.weight),
        critical_path: CriticalPath {
            gas: U64::from(critical_path.weight),
            transactions: numbers(&critical_path.transactions),
        },
        timeline: timeline(&profile),
        conflicts: profile
            .conflicts_by_location()
            .into_iter()
            .map(|conflicts| Conflicts {
                location: conflicts.location.into(),
                count: conflicts.count,
                transactions: numbers(&conflicts.transactions),
            })
            .collect(),
        reexecutions: profile.reexecutions(),
        when_added: context.chain.stages(&block.hash()).map(WhenAdded::from),
    }))
}

fn check_executed(block: &ChainBlock) -> Result<(), Failure> {
    match block.number() {
        0 => Err(Failure::server("nothing is executed in the genesis block")),
        _ => Ok(()),
    }
}

/// Who depended on whom in a block.
fn graph(context: &Context, block: &ChainBlock) -> Result<DependencyGraph, Failure> {
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let parent = context.chain.state_before(block)?;
    let recorded =
        DependencyGraph::record(context.chain.spec(), &parent, &block_input(&rules, block));
    Ok(recorded.map_err(Failure::server)?.0)
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = run();
    (done, started.elapsed())
}

fn median_ns(mut times: Vec<Duration>) -> u64 {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    u64::try_from(median.as_nanos()).unwrap_or(u64::MAX)
}

/// Rounded to thousandths; none where nothing was done.
fn ratio(whole: u64, part: u64) -> Option<f64> {
    (part > 0).then(|| (whole as f64 / part as f64 * 1_000.0).round() / 1_000.0)
}

fn numbers(transactions: &[TxIndex]) -> Vec<u32> {
    transactions.iter().map(|index| index.0).collect()
}

fn timeline(profile: &Profile) -> Vec<Lane> {
    let mut lanes = BTreeMap::<usize, Vec<Run>>::new();
    for span in profile.spans() {
        lanes.entry(span.worker).or_default().push(Run {
            transaction: span.tx.0,
            incarnation: span.incarnation.0,
            start_ns: span.start_ns,
            end_ns: span.end_ns,
            ending: match span.ending {
                Ending::Executed => "executed",
                Ending::Waited(_) => "waited",
                Ending::NeededHead => "neededHead",
                Ending::Failed => "failed",
            },
        });
    }
    lanes.into_iter().map(|(worker, runs)| Lane { worker, runs }).collect()
}

/// What `heddle_getHotLocations` answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HotLocations {
    from_block: U64,
    to_block: U64,
    transactions: usize,
    gas_used: U64,
    /// Of all blocks together: the sum of their critical paths.
    critical_path_gas: U64,
    speedup_possible: Option<f64>,
    locations: Vec<HotLocation>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HotLocation {
    location: NamedLocation,
    /// Blocks in which transactions depended on each other by it, and how many transactions did.
    blocks: u64,
    transactions: u64,
    /// Sum over the blocks of the gas of the heaviest chain that it alone makes.
    gas_serialised: U64,
}

/// `heddle_getHotLocations`.
pub(crate) fn hot_locations(
    context: &Context,
    (from, to, count): (BlockNumber, BlockNumber, Option<u64>),
) -> Result<HotLocations, Failure> {
    let limits = &context.limits;
    // Nothing is executed in the genesis block.
    let (from, to) = (context.known_number(from.0)?.max(1), context.known_number(to.0)?);
    if from > to {
        return Err(Failure::params("invalid block range params"));
    }
    if to - from >= limits.hot_blocks_max {
        return Err(Failure::Limit(format!(
            "query exceeds max block range {}: it spans {} blocks",
            limits.hot_blocks_max,
            to - from + 1
        )));
    }
    let most = limits.hot_locations_max;
    let count = count.map_or(most, |count| usize::try_from(count).unwrap_or(most).min(most));
    let deadline = Deadline::new(limits.trace_time_max);
    let mut found = BTreeMap::<Location, HotLocation>::new();
    let (mut transactions, mut gas, mut critical) = (0, 0_u64, 0_u64);
    for number in from..=to {
        deadline.check()?;
        let Some(block) = context.chain.block_by_number(number)? else { break };
        if block.transactions.is_empty() {
            continue;
        }
        let graph = graph(context, &block)?;
        transactions += block.transactions.len();
        gas += graph.total_gas();
        critical += graph.critical_path_gas().weight;
        for hot in graph.hot_locations(usize::MAX) {
            let entry = found.entry(hot.location).or_insert_with(|| HotLocation {
                location: hot.location.into(),
                blocks: 0,
                transactions: 0,
                gas_serialised: U64::ZERO,
            });
            entry.blocks += 1;
            entry.transactions += hot.transactions.len() as u64;
            entry.gas_serialised += U64::from(hot.gas_serialised);
        }
    }
    let mut locations: Vec<_> = found.into_values().collect();
    // Stable, so that equals stay in the order of their addresses.
    locations.sort_by_key(|hot| std::cmp::Reverse(hot.gas_serialised));
    locations.truncate(count);
    Ok(HotLocations {
        from_block: U64::from(from),
        to_block: U64::from(to),
        transactions,
        gas_used: U64::from(gas),
        critical_path_gas: U64::from(critical),
        speedup_possible: ratio(gas, critical),
        locations,
    })
}

/// Transactions that may never be sent: signed ones in hex, or calls.
#[derive(Debug)]
pub(crate) struct Candidates(Vec<Candidate>);

#[derive(Debug)]
enum Candidate {
    Signed(Box<RecoveredTransaction>),
    Call(Box<TransactionRequest>),
}

impl Argument for Candidates {
    fn parse(json: &str) -> Result<Self, String> {
        let candidate = |json: Box<RawValue>| {
            if json.get().starts_with('"') {
                return signed(&Bytes::parse(json.get())?).map(Box::new).map(Candidate::Signed);
            }
            from_json(json.get()).map(Box::new).map(Candidate::Call)
        };
        let written: Vec<Box<RawValue>> = from_json(json)?;
        written.into_iter().map(candidate).collect::<Result<_, _>>().map(Self)
    }
}

fn signed(raw: &Bytes) -> Result<RecoveredTransaction, String> {
    use alloy_consensus::transaction::SignerRecoverable;
    use alloy_eips::Decodable2718;
    use heddle_pool::PoolTransaction;
    let transaction: Transaction = match PoolTransaction::decode_2718_exact(raw) {
        Ok(transaction) => transaction.into(),
        Err(_) => Transaction::decode_2718_exact(raw).map_err(|error| error.to_string())?,
    };
    transaction.try_into_recovered().map_err(|_| "invalid sender: invalid signature".to_owned())
}

/// What `heddle_predictConflicts` answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Prediction {
    /// After which block they were tried.
    block_number: U64,
    /// Pending transactions that were run before them.
    pending: usize,
    /// Whether none of them depends on another or on a pending one.
    is_independent: bool,
    gas_used: U64,
    critical_path_gas: U64,
    speedup_possible: Option<f64>,
    transactions: Vec<Predicted>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicted {
    gas_used: U64,
    /// What it reads that one before it writes; of several writers the last.
    conflicts: Vec<PredictedConflict>,
}

#[derive(Clone, Debug, Serialize)]
struct PredictedConflict {
    with: Other,
    location: NamedLocation,
}

/// Another transaction.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Other {
    /// Of those that were asked about, by place.
    Index(usize),
    /// A pending one, by hash.
    Pending(B256),
    /// Any before it, pending ones too: it reads what the beneficiary owns, to which all of them pay.
    AllBefore,
}

/// `heddle_predictConflicts`: runs the transactions in order in the block that would be mined now, after those that are
/// in it already if `with_pending`.
pub(crate) fn predict_conflicts(
    context: &Context,
    (candidates, with_pending): (Candidates, bool),
) -> Result<Prediction, Failure> {
    let pending = context.pending()?;
    let block = &pending.block;
    let before = if with_pending { block.transactions.as_slice() } else { &[] };
    let count = before.len() + candidates.0.len();
    let most = context.limits.predicted_max;
    if count > most {
        return Err(Failure::Limit(format!(
            "{count} transactions, {} of them pending, are more than {most}; ask about fewer, or without pending ones",
            before.len()
        )));
    }
    let head = context.chain.head();
    let state = context.chain.latest_state();
    let mut transactions = before.to_vec();
    let mut nonces = AddressMap::<u64>::default();
    for transaction in before {
        nonces.insert(transaction.signer(), next_nonce(transaction));
    }
    let gas_each = context.limits.predicted_gas_max / candidates.0.len().max(1) as u64;
    let mut gas_left = context.limits.predicted_gas_max;
    for candidate in candidates.0 {
        let transaction = match candidate {
            Candidate::Signed(transaction) => *transaction,
            Candidate::Call(mut request) => {
                let sender = request.from.unwrap_or_default();
                let known = nonces.get(&sender).copied();
                let nonce = match known {
                    Some(nonce) => nonce,
                    None => state.account(sender)?.unwrap_or_default().nonce,
                };
                complete(context, &mut request, block, nonce, gas_each);
                unsigned(&request, context.chain.chain_id())
            }
        };
        let gas_limit = transaction.inner().gas_limit();
        gas_left = gas_left.checked_sub(gas_limit).ok_or_else(|| {
            let most = context.limits.predicted_gas_max;
            Failure::Limit(format!("the transactions may use more than {most} gas together"))
        })?;
        nonces.insert(transaction.signer(), next_nonce(&transaction));
        transactions.push(transaction);
    }
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut input = BlockInput { transactions: &transactions, ..block_input(&rules, block) };
    relax(&mut input);
    let recorded = DependencyGraph::record(context.chain.spec(), &state, &input);
    let graph = recorded.map_err(Failure::server)?.0;
    let predicted: Vec<_> = (before.len()..count)
        .filter_map(|index| {
            let node = graph.transactions.get(index)?;
            let conflict = |dependency: &Dependency| PredictedConflict {
                with: match dependency.writer.as_usize().checked_sub(before.len()) {
                    Some(given) => Other::Index(given),
                    None => Other::Pending(hash(&before[dependency.writer.as_usize()])),
                },
                location: dependency.location.into(),
            };
            let mut conflicts: Vec<_> = node.dependencies.iter().map(conflict).collect();
            if node.reads_beneficiary.is_some() && index > 0 {
                let location = NamedLocation::Account { address: graph.beneficiary };
                conflicts.push(PredictedConflict { with: Other::AllBefore, location });
            }
            Some(Predicted { gas_used: U64::from(node.gas), conflicts })
        })
        .collect();
    let (gas, critical) = (graph.total_gas(), graph.critical_path_gas().weight);
    Ok(Prediction {
        block_number: U64::from(head.number()),
        pending: before.len(),
        is_independent: predicted.iter().all(|transaction| transaction.conflicts.is_empty()),
        gas_used: U64::from(gas),
        critical_path_gas: U64::from(critical),
        speedup_possible: ratio(gas, critical),
        transactions: predicted,
    })
}

fn hash(transaction: &RecoveredTransaction) -> B256 {
    *transaction.inner().tx_hash()
}

fn next_nonce(transaction: &RecoveredTransaction) -> u64 {
    transaction.inner().nonce().saturating_add(1)
}

/// Fills in what a call leaves out.
fn complete(
    context: &Context,
    request: &mut TransactionRequest,
    block: &ChainBlock,
    nonce: u64,
    gas_each: u64,
) {
    let gas_max = context
        .chain
        .spec()
        .transaction_gas_limit_cap(block.header.timestamp)
        .unwrap_or(u64::MAX)
        .min(block.header.gas_limit)
        .min(context.limits.call_gas_max);
    let gas = request.gas.unwrap_or_else(|| gas_max.min(gas_each)).min(gas_max);
    request.gas = Some(gas);
    request.nonce.get_or_insert(nonce);
    request.to.get_or_insert(TxKind::Create);
    if request.gas_price.is_none() {
        request.max_fee_per_gas.get_or_insert(0);
        request.max_priority_fee_per_gas.get_or_insert(0);
    }
}

/// Lifts the rules that only matter where transactions are paid for.
fn relax(input: &mut BlockInput<'_>) {
    let cfg = &mut input.env.cfg_env;
    cfg.disable_nonce_check = true;
    // No fees at all, rather than unchecked ones: revm adds those up trusting that somebody has so much.
    cfg.disable_fee_charge = true;
    cfg.disable_base_fee = true;
    cfg.disable_eip3607 = true;
    cfg.disable_block_gas_limit = true;
}
