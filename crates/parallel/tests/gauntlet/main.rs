//! The central promise: for every block, the parallel result is the sequential result.
//!
//! Random blocks over few accounts and contracts that do one nasty thing each
//! (`contracts/Gauntlet.sol`), so that nearly every block conflicts, under every fork. Each is
//! executed by the reference, by 1, 2, 4 and 8 workers, by one in order, and with all code translated; receipts, gas, requests, changes, skipped
//! transactions and errors must be the same; and the reference must end where revm's own `State`
//! does. `HEDDLE_GAUNTLET_BLOCKS` sets how many blocks,
//! `HEDDLE_GAUNTLET_SEED` where to begin; a failure prints the seed to begin at.

#![allow(clippy::print_stdout, reason = "a test says what it has seen")]

mod blocks;
mod counters;
mod ether;
mod hinted;
mod hostile;
mod oracle;
mod state;
mod translated;

use blocks::{CONTRACTS, Gauntlet, TestSpec};
use heddle_evm::execute_block;
use heddle_parallel::{Cancellation, ParallelExecutor};
use rand::{SeedableRng, rngs::StdRng};
use std::time::Duration;

/// Blocks built on one another before the state starts anew.
const BLOCKS_PER_CHAIN: usize = 3;
const BLOCKS_IN_CI: usize = 12_000;
/// Every so many chains, reads of the parent state wait a little: that lets all workers in, however
/// busy the machine is.
const SLOW_CHAIN: u64 = 20;

fn from_env(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("is a number"))
}

#[test]
fn the_parallel_result_is_the_sequential_result_for_every_block() {
    let started = |workers| ParallelExecutor::new(workers).expect("threads start");
    let mut executors: Vec<_> =
        [1, 2, 4, 8].map(|workers| started(workers).with_all_workers_always()).into();
    // In order from the beginning, and from the first conflict on.
    executors.push(started(1));
    executors.push(started(4).with_all_workers_always().without_patience());
    // All code translated; the others translate what is called often.
    executors.push(started(1).with_all_code_translated());
    executors.push(started(4).with_all_workers_always().with_all_code_translated());
    let gauntlet = Gauntlet::load();
    let chains = from_env("HEDDLE_GAUNTLET_BLOCKS", BLOCKS_IN_CI) / BLOCKS_PER_CHAIN;
    let first = from_env("HEDDLE_GAUNTLET_SEED", 0);
    let mut seen = Seen::default();
    for seed in first..first + chains {
        run_chain(seed as u64, &gauntlet, &executors, &mut seen);
    }
    println!("{seen:?}");
    // What this proves depends on what the blocks are like.
    assert!(seen.valid > chains, "{seen:?}: nearly all blocks are invalid");
    assert!(seen.conflicts > chains, "{seen:?}: hardly any conflicts");
    assert!(seen.reexecutions > chains / 2, "{seen:?}: hardly any re-executions");
    assert!(seen.skipped > chains / 2, "{seen:?}: hardly any invalid transactions");
}

#[derive(Debug, Default)]
struct Seen {
    valid: usize,
    invalid: usize,
    transactions: usize,
    skipped: usize,
    reverted: usize,
    conflicts: usize,
    reexecutions: usize,
}

fn run_chain(seed: u64, gauntlet: &Gauntlet, executors: &[ParallelExecutor], seen: &mut Seen) {
    let mut rng = StdRng::seed_from_u64(seed);
    let spec = TestSpec::random(&mut rng);
    let mut state = gauntlet.state(spec, &mut rng);
    for number in 1..=BLOCKS_PER_CHAIN as u64 {
        let block = gauntlet.block(spec, &state, number, &mut rng);
        let input = block.input();
        let expected = execute_block(&spec, &state, &input);
        if let Ok(output) = &expected {
            let context = format!("HEDDLE_GAUNTLET_SEED={seed}, block {number}, {spec:?}");
            oracle::assert_agrees(spec, &state, &input, output, &context);
        }
        if seed.is_multiple_of(SLOW_CHAIN) {
            state.read_takes = Duration::from_micros(50);
        }
        for executor in executors {
            let workers = executor.workers();
            let context =
                format!("HEDDLE_GAUNTLET_SEED={seed}, block {number}, {spec:?}, {workers} workers");
            match (&expected, executor.execute(&spec, &state, &input)) {
                (Ok(expected), Ok(executed)) => {
                    assert_eq!(executed.output.receipts, expected.receipts, "receipts, {context}");
                    assert_eq!(executed.output.changes, expected.changes, "changes, {context}");
                    assert_eq!(&executed.output, expected, "{context}");
                    seen.conflicts += executed.profile.conflicts.len();
                    seen.reexecutions += executed.profile.reexecutions();
                }
                (Err(expected), Err(error)) => {
                    assert_eq!(error.to_string(), expected.to_string(), "{context}");
                }
                (expected, actual) => panic!("{context}: {expected:?} but {actual:?}"),
            }
        }
        state.read_takes = Duration::ZERO;
        match expected {
            Ok(output) => {
                seen.valid += 1;
                seen.transactions += output.receipts.len();
                seen.skipped += output.skipped.len();
                seen.reverted += output.receipts.iter().filter(|receipt| !receipt.status()).count();
                state.apply(&output.changes);
            }
            Err(_) => seen.invalid += 1,
        }
    }
}

#[test]
fn a_failing_state_read_is_an_error_and_leaves_the_workers_usable() {
    let gauntlet = Gauntlet::load();
    let executor = ParallelExecutor::new(4).expect("threads start").with_all_workers_always();
    let mut rng = StdRng::seed_from_u64(7);
    let spec = TestSpec::newest();
    let mut state = gauntlet.state(spec, &mut rng);
    let block = gauntlet.block(spec, &state, 1, &mut rng);
    let good = executor.execute(&spec, &state, &block.input()).expect("the block is valid");
    state.fail_reads = true;
    let error = executor.execute(&spec, &state, &block.input()).expect_err("reads fail");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    state.fail_reads = false;
    let again = executor.execute(&spec, &state, &block.input()).expect("reads work again");
    assert_eq!(again.output, good.output);
}

#[test]
fn a_block_that_one_worker_began_and_is_slow_is_ended_by_all_of_them() {
    let gauntlet = Gauntlet::load();
    let executor = ParallelExecutor::new(4).expect("threads start");
    let mut helped = 0;
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let spec = TestSpec::random(&mut rng);
        let mut state = gauntlet.state(spec, &mut rng);
        let block = gauntlet.block(spec, &state, 1, &mut rng);
        let mut input = block.input();
        input.transactions = &input.transactions[..input.transactions.len().min(16)];
        let expected = execute_block(&spec, &state, &input);
        state.read_takes = Duration::from_millis(1);
        let executed = executor.execute(&spec, &state, &input);
        let (Ok(expected), Ok(executed)) = (expected, executed) else { continue };
        assert_eq!(executed.output, expected, "seed {seed}");
        helped += usize::from(
            executed.profile.stages.iter().any(|(stage, _)| *stage == "put in place")
                && executed.profile.workers > 1,
        );
    }
    assert!(helped > 4, "only {helped} blocks were ended by all");
}

#[test]
fn a_panic_in_a_worker_is_an_error_and_leaves_the_workers_usable() {
    let gauntlet = Gauntlet::load();
    let executor = ParallelExecutor::new(4).expect("threads start").with_all_workers_always();
    let mut rng = StdRng::seed_from_u64(8);
    let spec = TestSpec::newest();
    let mut state = gauntlet.state(spec, &mut rng);
    let block = gauntlet.block(spec, &state, 1, &mut rng);
    let good = executor.execute(&spec, &state, &block.input()).expect("the block is valid");
    state.panic_on_code_of = Some(CONTRACTS[0]);
    let error = executor.execute(&spec, &state, &block.input()).expect_err("code reads panic");
    assert!(error.to_string().contains("the code reader is broken"), "{error}");
    state.panic_on_code_of = None;
    let again = executor.execute(&spec, &state, &block.input()).expect("reads work again");
    assert_eq!(again.output, good.output);
}

#[test]
fn a_cancelled_block_is_an_error_and_leaves_the_workers_usable() {
    let gauntlet = Gauntlet::load();
    let executor = ParallelExecutor::new(2).expect("threads start").with_all_workers_always();
    let mut rng = StdRng::seed_from_u64(9);
    let spec = TestSpec::newest();
    let state = gauntlet.state(spec, &mut rng);
    let block = gauntlet.block(spec, &state, 1, &mut rng);
    let cancellation = Cancellation::default();
    cancellation.cancel();
    let error = executor
        .execute_cancellable(&spec, &state, &block.input(), &cancellation)
        .expect_err("it was cancelled before it began");
    assert_eq!(error.to_string(), "execution was cancelled");
    executor.execute(&spec, &state, &block.input()).expect("the block is valid");
}
