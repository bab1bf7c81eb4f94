//! Sequential against parallel, in one process, alternating.
//!
//! Three sides run the same block on the same state in memory:
//!
//! - *bare*: what anybody would write first with revm, one reused EVM that transacts and commits
//!   into a `CacheDB`. It leaves no receipts and no change set.
//! - *sequential*: the reference executor, [`execute_block`]: one reused EVM, and receipts with
//!   blooms, system calls, requests and the block's net change of state. It is the opponent,
//!   because it produces the same things.
//! - *parallel*: the executor that is measured.
//!
//! Where no transaction depends on another, a fourth shows what the machine's cores have to give: *untracked*, as many
//! threads as there are workers, each of which runs its own part of the block with the reference executor, as if there were no
//! others. Nobody takes down what was read, nothing is put in order, and no result of the whole block comes of it.
//!
//! The clock of each includes freeing what it used on the way (the `CacheDB` of the bare loop,
//! maps of cached state, versions); what a side gives back is freed after its clock has stopped.

use crate::{ColdRead, ColdState, Workload, WorkloadError};
use alloy_evm::ToTxEnv;
use heddle_evm::{BlockInput, BlockOutput, ExecutionError, ParentState, execute_block};
use heddle_parallel::{ExecutedBlock, ParallelExecutor};
use revm::{Context, DatabaseCommit, ExecuteEvm, MainBuilder, MainContext, database::CacheDB};
use serde::Serialize;
use std::{
    thread::{self, ScopedJoinHandle},
    time::Instant,
};

/// What was measured; times are medians in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Name of the workload.
    pub workload: &'static str,
    /// Transactions in the block.
    pub txs: usize,
    /// Gas that they used.
    pub gas: u64,
    /// Workers of the parallel executor.
    pub workers: usize,
    /// How often each was run.
    pub repeat: usize,
    /// The bare loop.
    pub bare_ms: f64,
    /// The reference executor.
    pub sequential_ms: f64,
    /// The parallel executor.
    pub parallel_ms: f64,
    /// As many threads as workers, each with a part of the block of its own. Only of several workers, and where no
    /// transaction depends on another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untracked_ms: Option<f64>,
    /// `sequential_ms / parallel_ms`.
    pub speedup: f64,
    /// `bare_ms / parallel_ms`.
    pub speedup_over_bare: f64,
    /// Stale reads found in the last parallel run.
    pub conflicts: usize,
    /// Runs beyond the first of a transaction in the last parallel run.
    pub reexecutions: usize,
    /// Whether every parallel result was the sequential one.
    pub identical: bool,
    /// Gas a second of the parallel executor.
    pub gas_per_second: f64,
    /// Transactions a second of the parallel executor.
    pub tps: f64,
    /// How long a cold read took, in microseconds; left out where state is in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_read_us: Option<f64>,
}

/// How to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasureOptions {
    /// How often each side runs, at least once.
    pub repeat: usize,
    /// What reading takes the first time; nothing but memory if not given. Every run of every side
    /// starts with everything cold.
    pub cold_read: Option<ColdRead>,
}

/// One of the two executors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The reference executor.
    Sequential,
    /// The parallel one.
    Parallel,
}

impl Side {
    /// Runs the block once.
    pub(crate) fn run(
        self,
        workload: &Workload,
        executor: &ParallelExecutor,
    ) -> Result<BlockOutput, ExecutionError> {
        let (spec, state, input) = (&workload.spec, &workload.state, workload.input());
        match self {
            Self::Sequential => execute_block(spec, state, &input),
            Self::Parallel => Ok(executor.execute(spec, state, &input)?.output),
        }
    }
}

/// Times of all sides.
#[derive(Debug, Default)]
struct Times {
    bare: Vec<f64>,
    untracked: Vec<f64>,
    sequential: Vec<f64>,
    parallel: Vec<f64>,
}

/// Measures a workload: the sides in turn, as often as asked.
///
/// # Errors
/// If the block cannot be executed, or is not what the workload is meant to be.
pub fn measure(
    workload: &Workload,
    executor: &ParallelExecutor,
    options: &MeasureOptions,
) -> Result<Measurement, WorkloadError> {
    let mut times = Times::default();
    let mut identical = true;
    let mut last = round(workload, executor, options, &mut times, &mut identical)?;
    for _ in 1..options.repeat {
        last = round(workload, executor, options, &mut times, &mut identical)?;
    }
    let ExecutedBlock { output, profile } = last;
    let [bare_ms, sequential_ms, parallel_ms] =
        [&mut times.bare, &mut times.sequential, &mut times.parallel].map(|times| median(times));
    let txs = workload.transactions.len();
    Ok(Measurement {
        workload: workload.kind.name(),
        txs,
        gas: output.gas_used,
        workers: executor.workers(),
        repeat: times.bare.len(),
        bare_ms,
        sequential_ms,
        parallel_ms,
        untracked_ms: (!times.untracked.is_empty()).then(|| median(&mut times.untracked)),
        speedup: sequential_ms / parallel_ms,
        speedup_over_bare: bare_ms / parallel_ms,
        conflicts: profile.conflicts.len(),
        reexecutions: profile.reexecutions(),
        identical,
        gas_per_second: output.gas_used as f64 / parallel_ms * 1_000.0,
        tps: txs as f64 / parallel_ms * 1_000.0,
        cold_read_us: options.cold_read.map(|read| read.measured().as_secs_f64() * 1e6),
    })
}

/// All sides once.
fn round(
    workload: &Workload,
    executor: &ParallelExecutor,
    options: &MeasureOptions,
    times: &mut Times,
    identical: &mut bool,
) -> Result<ExecutedBlock, WorkloadError> {
    match options.cold_read {
        None => round_on(workload, executor, || &workload.state, times, identical),
        Some(read) => {
            let cold = || ColdState::new(&workload.state, read);
            round_on(workload, executor, cold, times, identical)
        }
    }
}

fn round_on<P: ParentState>(
    workload: &Workload,
    executor: &ParallelExecutor,
    parent: impl Fn() -> P,
    times: &mut Times,
    identical: &mut bool,
) -> Result<ExecutedBlock, WorkloadError> {
    let (spec, input) = (&workload.spec, workload.input());
    let state = parent();
    timed(&mut times.bare, || run_bare(workload, &state))?;
    let state = parent();
    let expected = timed(&mut times.sequential, || execute_block(spec, &state, &input))?;
    if executor.workers() > 1 && workload.kind.is_independent() {
        let state = parent();
        drop(timed(&mut times.untracked, || run_untracked(workload, &state, executor.workers()))?);
    }
    let state = parent();
    // Every run begins with code that nobody has seen.
    executor.forget_code();
    let executed = timed(&mut times.parallel, || executor.execute(spec, &state, &input))?;
    *identical &= executed.output == expected;
    let actual = expected.receipts.iter().filter(|receipt| !receipt.status()).count();
    if actual != workload.failing {
        return Err(WorkloadError::Failures { expected: workload.failing, actual });
    }
    Ok(executed)
}

fn timed<T>(
    times: &mut Vec<f64>,
    run: impl FnOnce() -> Result<T, ExecutionError>,
) -> Result<T, ExecutionError> {
    let started = Instant::now();
    let result = run()?;
    times.push(started.elapsed().as_secs_f64() * 1_000.0);
    Ok(result)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2.0 }
}

/// Each part of the block on a thread of its own; what each gives.
fn run_untracked<P: ParentState>(
    workload: &Workload,
    state: &P,
    threads: usize,
) -> Result<Vec<BlockOutput>, ExecutionError> {
    let part_len = workload.transactions.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let run = |transactions| {
            let input = BlockInput { transactions, ..workload.input() };
            execute_block(&workload.spec, state, &input)
        };
        let parts = workload.transactions.chunks(part_len);
        let parts: Vec<_> = parts.map(|part| scope.spawn(move || run(part))).collect();
        let join = |part: ScopedJoinHandle<'_, _>| match part.join() {
            Ok(output) => output,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        parts.into_iter().map(join).collect()
    })
}

fn run_bare<P: ParentState>(workload: &Workload, state: &P) -> Result<(), ExecutionError> {
    let input = workload.input();
    let mut evm = Context::mainnet()
        .with_block(input.env.block_env)
        .with_cfg(input.env.cfg_env)
        .with_db(CacheDB::new(state))
        .build_mainnet();
    for tx in input.transactions {
        let result = evm.transact(tx.to_tx_env());
        let result = result.map_err(|error| ExecutionError::Block(error.to_string()))?;
        evm.ctx.journaled_state.database.commit(result.state);
    }
    Ok(())
}
