//! Lies cost time, and not much: a block with the worst hints, or with conflicts made to teach the executor what is not
//! so, takes at most 1.3 times as long as in order.

#![allow(clippy::print_stdout, reason = "a test says what it has measured")]

use alloy_consensus::{SignableTransaction, transaction::Recovered};
use alloy_primitives::{Address, B256, U256};
use heddle_evm::{RecoveredTransaction, execute_block};
use heddle_parallel::{AccessHint, Execution, Location, ParallelExecutor};
use heddle_workload::{Workload, WorkloadKind, WorkloadOptions};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const TRANSACTIONS: usize = 8_000;
/// Times the sequential run that hints may make a block take.
const TIMES_MAX: f64 = 1.3;
/// Runs of which the fastest counts, and measurements of which the best does: a busy machine can
/// make anything slow once, and what is really slow is slow every time.
const RUNS: usize = 3;
const ATTEMPTS: usize = 60;

fn location(number: usize) -> Location {
    Location::Slot(Address::with_last_byte(7), U256::from(number))
}

/// That `tx` reads and writes these.
fn touches(numbers: impl Iterator<Item = usize> + Clone) -> AccessHint {
    AccessHint {
        reads: numbers.clone().map(location).collect(),
        writes: numbers.map(location).collect(),
    }
}

/// So that the measurements do not disturb each other.
static ALONE: Mutex<()> = Mutex::new(());

type Lie = fn(usize) -> AccessHint;

/// What each transaction is said to touch.
const LIES: [(&str, Lie); 7] = [
    ("all are one chain", |_| touches(0..1)),
    ("half of them are one chain", |tx| touches(tx % 2..tx % 2 + usize::from(tx % 2 == 0))),
    ("pairs of neighbours", |tx| touches(tx / 2..tx / 2 + 1)),
    ("two chains in turn", |tx| touches(tx % 2..tx % 2 + 1)),
    ("sixty chains", |tx| touches(tx % 60..tx % 60 + 1)),
    ("each of the second half waits for many of the first", |tx| {
        let (first, numbers) = (tx < TRANSACTIONS / 2, tx * 31 % 4_000..tx * 31 % 4_000 + 32);
        let all = numbers.map(location).collect();
        if first {
            AccessHint { reads: Vec::new(), writes: vec![location(tx)] }
        } else {
            AccessHint { reads: all, writes: Vec::new() }
        }
    }),
    ("a flood of locations", |tx| touches(tx * 1_000..tx * 1_000 + 1_024)),
];

fn fastest<T>(mut run: impl FnMut() -> T) -> Duration {
    let timed = |_| {
        let started = Instant::now();
        let result = run();
        let elapsed = started.elapsed();
        drop(result);
        elapsed
    };
    (0..RUNS).map(timed).min().unwrap_or_default()
}

/// Runs the block in both ways, until the parallel one is fast enough once.
fn measure(name: &str, workload: &Workload, executor: &ParallelExecutor, hints: &[AccessHint]) {
    let (spec, state, input) = (&workload.spec, &workload.state, workload.input());
    let expected = execute_block(spec, state, &input).expect("the block is valid");
    let execute = || {
        let execution = Execution { hints, ..Execution::default() };
        executor.execute_with(spec, state, &input, execution).expect("the block is valid")
    };
    let executed = execute();
    assert_eq!(executed.output, expected, "{name}");
    let mut best = f64::INFINITY;
    for _ in 0..ATTEMPTS {
        let sequential = fastest(|| execute_block(spec, state, &input));
        let parallel = fastest(execute);
        best = best.min(parallel.as_secs_f64() / sequential.as_secs_f64());
        if best <= TIMES_MAX {
            break;
        }
    }
    let conflicts = executed.profile.conflicts.len();
    println!("{name}: {best:.2} times the sequential run ({conflicts} conflicts)");
    assert!(best <= TIMES_MAX, "{name}: {best:.2} times the sequential run");
}

fn token_transfers() -> Workload {
    let options =
        WorkloadOptions { transactions: Some(TRANSACTIONS), ..WorkloadOptions::default() };
    Workload::new(WorkloadKind::Erc20, &options).expect("needs no packages")
}

#[test]
fn hostile_hints_cost_at_most_a_third_of_the_time() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let workload = token_transfers();
    let executor = ParallelExecutor::new(2).expect("threads start");
    for (name, lie) in LIES {
        let hints: Vec<_> = (0..TRANSACTIONS).map(lie).collect();
        measure(name, &workload, &executor, &hints);
    }
}

/// The same transfer with other arguments, and more words behind them, which the token does not look at.
fn transfer(
    tx: &RecoveredTransaction,
    to: Address,
    amount: u64,
    more: &[B256],
) -> RecoveredTransaction {
    let signed = tx.inner().as_eip1559().expect("the workload's transactions are of this type");
    let mut call = signed.tx().clone();
    let mut input = call.input[..4].to_vec();
    input.extend_from_slice(to.into_word().as_slice());
    input.extend_from_slice(&U256::from(amount).to_be_bytes::<32>());
    more.iter().for_each(|word| input.extend_from_slice(word.as_slice()));
    call.input = input.into();
    // Words of zeros and others cost some gas more than the limit was made for.
    call.gas_limit += 100_000;
    let signed = call.into_signed(*signed.signature());
    Recovered::new_unchecked(signed.into(), tx.signer())
}

/// What becomes of the transfer at a place of the block.
type Bait = fn(usize, &[RecoveredTransaction]) -> RecoveredTransaction;

fn own_receiver(tx: &RecoveredTransaction) -> Address {
    let input = &tx.inner().as_eip1559().expect("the workload's type").tx().input;
    Address::from_slice(&input[16..36])
}

/// Blocks whose first conflicts are about what the later transactions have in common and do not conflict over.
const BAITS: [(&str, Bait); 3] = [
    ("who has an amount in common fights at first, then half of the block has it", |index, all| {
        let hot = all[200].signer();
        let amount = if index < 400 || index % 20 < 11 { 5 } else { 6 };
        let to = if index < 400 && index % 2 == 0 && index != 200 {
            hot
        } else {
            own_receiver(&all[index])
        };
        transfer(&all[index], to, amount, &[])
    }),
    ("the same again and again with other amounts", |index, all| {
        let (start, amount) = (index / 500 * 500, 5 + (index / 500) as u64);
        let hot = all[start + 50].signer();
        let baits = index - start < 100 && index % 2 == 0 && index != start + 50;
        let to = if baits { hot } else { own_receiver(&all[index]) };
        let amount = if index % 20 < 11 { amount } else { 4 };
        transfer(&all[index], to, amount, &[])
    }),
    ("pairs make rules that others are held against in vain", |index, all| {
        let words: Vec<B256> =
            (0..10).map(|word| B256::with_last_byte(((index + word * 7) % 40) as u8)).collect();
        // The one 64 places on has the same receiver.
        let of = if index < 4_000 { index - index % 128 + index % 64 } else { index };
        transfer(&all[index], own_receiver(&all[of]), 5, &words)
    }),
];

#[test]
fn conflicts_that_teach_what_is_not_so_cost_at_most_a_third_of_the_time() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let executor = ParallelExecutor::new(2).expect("threads start");
    for (name, bait) in BAITS {
        let mut workload = token_transfers();
        let all = std::mem::take(&mut workload.transactions);
        workload.transactions = (0..all.len()).map(|index| bait(index, &all)).collect();
        measure(name, &workload, &executor, &[]);
    }
}
