//! Hints that are lies cost time, and not much: a block with the worst of them takes at most 1.3
//! times as long as in order.

#![allow(clippy::print_stdout, reason = "a test says what it has measured")]

use alloy_primitives::{Address, U256};
use heddle_evm::execute_block;
use heddle_parallel::{AccessHint, Execution, Location, ParallelExecutor};
use heddle_workload::{Workload, WorkloadKind, WorkloadOptions};
use std::time::{Duration, Instant};

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

#[test]
fn hostile_hints_cost_at_most_a_third_of_the_time() {
    let options =
        WorkloadOptions { transactions: Some(TRANSACTIONS), ..WorkloadOptions::default() };
    let workload = Workload::new(WorkloadKind::Erc20, &options).expect("needs no packages");
    let (spec, state, input) = (&workload.spec, &workload.state, workload.input());
    let expected = execute_block(spec, state, &input).expect("the block is valid");
    let executor = ParallelExecutor::new(2).expect("threads start");
    for (name, lie) in LIES {
        let hints: Vec<_> = (0..TRANSACTIONS).map(lie).collect();
        let execute = || {
            let execution = Execution { hints: &hints, ..Execution::default() };
            executor.execute_with(spec, state, &input, execution).expect("the block is valid")
        };
        assert_eq!(execute().output, expected, "{name}");
        let mut best = f64::INFINITY;
        for _ in 0..ATTEMPTS {
            let sequential = fastest(|| execute_block(spec, state, &input));
            let parallel = fastest(execute);
            best = best.min(parallel.as_secs_f64() / sequential.as_secs_f64());
            if best <= TIMES_MAX {
                break;
            }
        }
        println!("{name}: {best:.2} times the sequential run");
        assert!(best <= TIMES_MAX, "{name}: {best:.2} times the sequential run");
    }
}
