//! Sequential against parallel, in one process, alternating.

use crate::{Workload, WorkloadError};
use alloy_evm::ToTxEnv;
use heddle_evm::{ExecutionError, execute_block};
use heddle_parallel::ParallelExecutor;
use revm::{
    Context, DatabaseCommit, ExecuteEvm, MainBuilder, MainContext, database::CacheDB,
    database_interface::WrapDatabaseRef,
};
use serde::Serialize;
use std::time::Instant;

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
    /// A bare loop: one reused EVM that transacts and commits into a `CacheDB` over the same
    /// state. No receipts, no change set, nothing around the transactions.
    pub bare_ms: f64,
    /// The reference executor: receipts, system calls, change set.
    pub sequential_ms: f64,
    /// The parallel executor: the same results.
    pub parallel_ms: f64,
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
}

/// Measures a workload `repeat` times (at least once), sequential and parallel in turn.
pub fn measure(
    name: &'static str,
    workload: &Workload,
    executor: &ParallelExecutor,
    repeat: usize,
) -> Result<Measurement, WorkloadError> {
    let repeat = repeat.max(1);
    let input = workload.input();
    let (mut bare, mut sequential, mut parallel) = (Vec::new(), Vec::new(), Vec::new());
    let (mut identical, mut gas, mut conflicts, mut reexecutions) = (true, 0, 0, 0);
    for _ in 0..repeat {
        bare.push(timed(|| run_bare(workload))?.1);
        let (expected, time) = timed(|| execute_block(&workload.spec, &workload.state, &input))?;
        sequential.push(time);
        let (executed, time) = timed(|| executor.execute(&workload.spec, &workload.state, &input))?;
        parallel.push(time);
        identical &= executed.output == expected;
        gas = expected.gas_used;
        conflicts = executed.profile.conflicts.len();
        reexecutions = executed.profile.reexecutions();
        if let Some(index) = expected.receipts.iter().position(|receipt| !receipt.status()) {
            return Err(WorkloadError::Failed { index, stage: "workload" });
        }
    }
    let (bare_ms, sequential_ms, parallel_ms) =
        (median(&mut bare), median(&mut sequential), median(&mut parallel));
    let txs = workload.transactions.len();
    Ok(Measurement {
        workload: name,
        txs,
        gas,
        workers: executor.workers(),
        repeat,
        bare_ms,
        sequential_ms,
        parallel_ms,
        speedup: sequential_ms / parallel_ms,
        speedup_over_bare: bare_ms / parallel_ms,
        conflicts,
        reexecutions,
        identical,
        gas_per_second: gas as f64 / parallel_ms * 1_000.0,
        tps: txs as f64 / parallel_ms * 1_000.0,
    })
}

fn timed<T>(run: impl FnOnce() -> Result<T, ExecutionError>) -> Result<(T, f64), ExecutionError> {
    let started = Instant::now();
    let result = run()?;
    Ok((result, started.elapsed().as_secs_f64() * 1_000.0))
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2.0 }
}

/// What anybody would write first with revm.
fn run_bare(workload: &Workload) -> Result<(), ExecutionError> {
    let input = workload.input();
    let mut evm = Context::mainnet()
        .with_block(input.env.block_env)
        .with_cfg(input.env.cfg_env)
        .with_db(CacheDB::new(WrapDatabaseRef(&workload.state).0))
        .build_mainnet();
    for tx in input.transactions {
        let result = evm.transact(tx.to_tx_env());
        let result = result.map_err(|error| ExecutionError::Block(error.to_string()))?;
        evm.ctx.journaled_state.database.commit(result.state);
    }
    Ok(())
}
