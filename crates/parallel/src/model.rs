//! Model checks: the engine, the scheduler and the versioned memory under shuttle, which runs the
//! same code under thousands of different interleavings of its locks and atomics.
//!
//! The "transactions" here are small programs over a few slots, with an oracle that runs them one
//! by one. They read, write values that depend on what was read, refuse to go on, need the head,
//! wipe, and are left out of the block.

use crate::{
    engine::{Engine, Execution, Interrupt, Transactions, Verdict, View},
    location::{Location, Read, TxIndex, Value, Write},
    memory::Found,
};
use alloy_primitives::{Address, U256};
use rand::{Rng, SeedableRng, rngs::StdRng};
use shuttle::{check_pct, check_random, thread};
use std::{collections::BTreeMap, sync::Arc};

const SLOTS: u64 = 3;
const WORKERS: usize = 3;
const HOME: Address = Address::ZERO;

/// One step of a program.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Reads a slot into the sum.
    Read(u64),
    /// Writes the sum plus a constant.
    Write(u64, u64),
    /// Wipes the account.
    Wipe,
    /// Adds what is committed so far to the sum, which only the head may.
    ReadCommitted,
    /// Is left out of the block if the sum is even.
    LeaveIfEven,
}

#[derive(Debug)]
struct Programs(Vec<Vec<Step>>);

/// State after one program, or `None` if it is left out.
fn run_alone(
    program: &[Step],
    state: &BTreeMap<u64, u64>,
    committed: u64,
) -> Option<(BTreeMap<u64, u64>, u64)> {
    let mut state = state.clone();
    let mut sum = 1;
    for step in program {
        match *step {
            Step::Read(slot) => sum += state.get(&slot).copied().unwrap_or_default(),
            Step::Write(slot, plus) => drop(state.insert(slot, (sum + plus) % 1_000)),
            Step::Wipe => state.clear(),
            Step::ReadCommitted => sum += committed,
            Step::LeaveIfEven if sum % 2 == 0 => return None,
            Step::LeaveIfEven => {}
        }
    }
    Some((state, sum))
}

impl Programs {
    fn random(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let step = |rng: &mut StdRng| match rng.random_range(0..12) {
            0..5 => Step::Read(rng.random_range(0..SLOTS)),
            5..9 => Step::Write(rng.random_range(0..SLOTS), rng.random_range(0..100)),
            9 => Step::Wipe,
            10 => Step::ReadCommitted,
            _ => Step::LeaveIfEven,
        };
        let programs = rng.random_range(2..5);
        Self(
            (0..programs)
                .map(|_| (0..rng.random_range(1..5)).map(|_| step(&mut rng)).collect())
                .collect(),
        )
    }

    fn one_by_one(&self) -> (BTreeMap<u64, u64>, u64) {
        let (mut state, mut committed) = (BTreeMap::new(), 0);
        for program in &self.0 {
            if let Some((next, sum)) = run_alone(program, &state, committed) {
                (state, committed) = (next, committed + sum);
            }
        }
        state.retain(|_, value| *value != 0);
        (state, committed)
    }
}

impl Transactions for Programs {
    type Worker<'a> = ();
    type Output = Option<u64>;
    type Committed = u64;
    type Error = ();

    fn execute<'w>(
        &'w self,
        (): &mut (),
        tx: TxIndex,
        view: View<'w, u64>,
    ) -> Result<Execution<Option<u64>>, Interrupt<()>> {
        let (mut reads, mut writes) = (Vec::new(), BTreeMap::<u64, u64>::new());
        let (mut sum, mut wiped, mut left_out) = (1, false, false);
        for step in &self.0[tx.as_usize()] {
            match *step {
                Step::Read(slot) => {
                    if let Some(value) = writes.get(&slot) {
                        sum += value;
                        continue;
                    }
                    if wiped {
                        continue;
                    }
                    let location = Location::Slot(HOME, U256::from(slot));
                    let (source, value) = match view.find(&location) {
                        Found::Parent => (None, Value::Slot(U256::ZERO)),
                        Found::Written(version, value) => (Some(version), value),
                        Found::Estimate(other) => return Err(Interrupt::After(other)),
                    };
                    reads.push(Read { location, source, value });
                    let Value::Slot(value) = value else { unreachable!("slots hold slot values") };
                    sum += value.to::<u64>();
                }
                Step::Write(slot, plus) => drop(writes.insert(slot, (sum + plus) % 1_000)),
                Step::Wipe => {
                    writes.clear();
                    wiped = true;
                }
                Step::ReadCommitted if view.at_head => sum += view.committed(|sum| *sum),
                Step::ReadCommitted => return Err(Interrupt::AtHead),
                Step::LeaveIfEven => left_out |= sum % 2 == 0,
            }
            if left_out {
                break;
            }
        }
        let wipe = Write { location: Location::Wipe(HOME), value: Value::Wipe };
        let mut all: Vec<Write> = wiped.then_some(wipe).into_iter().collect();
        all.extend(writes.into_iter().map(|(slot, value)| Write {
            location: Location::Slot(HOME, U256::from(slot)),
            value: Value::Slot(U256::from(value)),
        }));
        // A transaction that is left out has published its writes all the same, as one does that
        // turns out not to fit into the block's gas.
        Ok(Execution { reads, writes: all, output: (!left_out).then_some(sum) })
    }

    fn commit(&self, committed: &mut u64, _tx: TxIndex, output: Option<u64>) -> Verdict<()> {
        match output {
            Some(sum) => {
                *committed += sum;
                Verdict::Keep
            }
            None => Verdict::Leave,
        }
    }
}

fn run_in_parallel(programs: Programs) -> (BTreeMap<u64, u64>, u64) {
    let programs: &'static Programs = Box::leak(Box::new(programs));
    let predecessors = (0..programs.0.len()).map(|i| (i == 1).then_some(TxIndex(0))).collect();
    let engine = Arc::new(Engine::new(programs, predecessors, 0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|id| {
            let engine = engine.clone();
            thread::spawn(move || drop(engine.work(id, &mut (), || false)))
        })
        .collect();
    for worker in workers {
        worker.join().expect("no worker panics");
    }
    let engine = Arc::into_inner(engine).expect("all workers are done");
    let done = engine.into_result().expect("nothing fails");
    let slots = done.memory.into_final().slots.into_iter();
    let state = slots
        .map(|(_, slot, value)| (slot.to::<u64>(), value.to::<u64>()))
        .filter(|(_, value)| *value != 0)
        .collect();
    (state, done.committed)
}

fn agrees(seed: u64) {
    let programs = Programs::random(seed);
    let expected = programs.one_by_one();
    let shown = format!("{programs:?}");
    assert_eq!(run_in_parallel(programs), expected, "seed {seed}: {shown}");
}

#[test]
fn every_interleaving_gives_the_result_of_running_one_by_one() {
    for seed in 0..120 {
        check_random(move || agrees(seed), 50);
    }
}

#[test]
fn every_interleaving_with_rare_switches_gives_the_result_of_running_one_by_one() {
    for seed in 1_000..1_060 {
        check_pct(move || agrees(seed), 40, 3);
    }
}
