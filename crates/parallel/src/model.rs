//! Model checks: the engine, the scheduler and the versioned memory under shuttle, which runs the
//! same code under thousands of different interleavings of its locks and atomics.
//!
//! The "transactions" here are small programs over a few slots, with an oracle that runs them one
//! by one. They read, write values that depend on what was read, pay into a till, need the head, wipe,
//! and are left out of the block.

use crate::{
    cell::{AccountValue, AccountWrite, Found},
    engine::{Engine, Interrupt, Trace, Transactions, Verdict, View},
    location::TxIndex,
    memory::{Read, VersionedMemory, Write},
    scheduler::{Forecast, PATIENCE, Plan},
};
use alloy_primitives::{Address, U256};
use rand::{Rng, SeedableRng, rngs::StdRng};
use shuttle::{check_pct, check_random, thread};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

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
    /// Pays into the till, whatever is in it.
    Pay(u64),
    /// Reads what is in the till into the sum.
    ReadTill,
    /// Adds what is committed so far to the sum, which only the head may.
    ReadCommitted,
    /// Is left out of the block if the sum is even.
    LeaveIfEven,
}

#[derive(Debug)]
struct Programs(Vec<Vec<Step>>);

/// What programs leave behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    slots: BTreeMap<u64, u64>,
    till: u64,
    committed: u64,
}

/// State after one program, or `None` if it is left out.
fn run_alone(program: &[Step], before: &State) -> Option<State> {
    let mut after = before.clone();
    let state = &mut after.slots;
    let mut sum = 1;
    for step in program {
        match *step {
            Step::Read(slot) => sum += state.get(&slot).copied().unwrap_or_default(),
            Step::Write(slot, plus) => drop(state.insert(slot, (sum + plus) % 1_000)),
            Step::Wipe => state.clear(),
            Step::Pay(amount) => after.till += amount,
            Step::ReadTill => sum += after.till,
            Step::ReadCommitted => sum += before.committed,
            Step::LeaveIfEven if sum % 2 == 0 => return None,
            Step::LeaveIfEven => {}
        }
    }
    after.committed += sum;
    Some(after)
}

impl Programs {
    fn random(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let step = |rng: &mut StdRng| match rng.random_range(0..15) {
            0..5 => Step::Read(rng.random_range(0..SLOTS)),
            5..9 => Step::Write(rng.random_range(0..SLOTS), rng.random_range(0..100)),
            9 => Step::Wipe,
            10 => Step::ReadCommitted,
            11..13 => Step::Pay(rng.random_range(1..100)),
            13 => Step::ReadTill,
            _ => Step::LeaveIfEven,
        };
        let programs = rng.random_range(2..5);
        Self(
            (0..programs)
                .map(|_| (0..rng.random_range(1..5)).map(|_| step(&mut rng)).collect())
                .collect(),
        )
    }

    /// The state that the programs before `end` leave.
    fn one_by_one(&self, end: TxIndex) -> State {
        let mut state = State::default();
        for program in self.0.iter().take(end.as_usize()) {
            if let Some(next) = run_alone(program, &state) {
                state = next;
            }
        }
        state.slots.retain(|_, value| *value != 0);
        state
    }
}

impl<'m> Transactions<'m> for Programs {
    /// Number of the worker.
    type Worker<'w>
        = usize
    where
        'm: 'w;
    type Output = Option<u64>;
    type Committed = u64;
    type Error = ();

    fn execute<'w>(
        &'w self,
        worker: &mut usize,
        view: &mut View<'w, 'm, u64>,
        trace: &mut Trace<'m>,
    ) -> Result<Option<u64>, Interrupt<()>>
    where
        'm: 'w,
    {
        let mut writes = BTreeMap::<u64, u64>::new();
        let (mut sum, mut wiped, mut left_out) = (1, false, false);
        let mut credit = 0;
        let slot_cell = |slot| view.memory.slot(HOME, U256::from(slot), *worker);
        let till = view.memory.account(HOME, *worker);
        till.parent(|| Ok::<_, Interrupt<()>>(None))?;
        for step in &self.0[view.tx.as_usize()] {
            match *step {
                Step::Read(slot) => {
                    if let Some(value) = writes.get(&slot) {
                        sum += value;
                        continue;
                    }
                    if wiped {
                        continue;
                    }
                    let cell = slot_cell(slot);
                    let value = match view.memory.find_slot(cell, view.tx) {
                        Found::Parent => cell.parent(|| Ok::<_, Interrupt<()>>(U256::ZERO))?,
                        Found::Written(_, value) => value,
                        Found::Estimate(other) => return Err(Interrupt::After(other)),
                    };
                    trace.reads.push(Read::Slot(cell, value));
                    sum += value.to::<u64>();
                }
                Step::Write(slot, plus) => drop(writes.insert(slot, (sum + plus) % 1_000)),
                Step::Wipe => {
                    writes.clear();
                    wiped = true;
                }
                Step::Pay(amount) => credit += amount,
                Step::ReadTill => {
                    let account = match till.find(view.tx) {
                        Found::Parent => None,
                        Found::Written(_, account) => account,
                        Found::Estimate(other) => return Err(Interrupt::After(other)),
                    };
                    trace.reads.push(Read::Account(till, account));
                    sum += credit + balance_of(account);
                }
                Step::ReadCommitted if view.at_head => sum += view.committed(|sum| *sum),
                Step::ReadCommitted => return Err(Interrupt::AtHead),
                Step::LeaveIfEven => left_out |= sum % 2 == 0,
            }
            if left_out {
                break;
            }
        }
        if wiped {
            trace.writes.push(Write::Wipe(view.memory.wipe(HOME, *worker)));
        }
        if credit > 0 {
            trace.reads.push(Read::Payee(till));
            let credit = AccountWrite::Credit(U256::from(credit));
            trace.writes.push(Write::Account(till, credit));
        }
        trace.writes.extend(
            writes.into_iter().map(|(slot, value)| Write::Slot(slot_cell(slot), U256::from(value))),
        );
        // A transaction that is left out has published its writes all the same, as one does that
        // turns out not to fit into the block's gas.
        Ok((!left_out).then_some(sum))
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

fn balance_of(account: AccountValue) -> u64 {
    account.map_or(0, |account| account.balance.to())
}

/// The state that is left, and the first program that did not run.
fn run_in_parallel(programs: Programs, patience: usize) -> (State, TxIndex) {
    let programs: &'static Programs = Box::leak(Box::new(programs));
    let memory: &'static VersionedMemory = Box::leak(Box::new(VersionedMemory::new(2, 2, WORKERS)));
    let forecast = |index| Forecast {
        predecessors: (0, u8::from(index == 1)),
        // Some stretches of one, some of two.
        work: if index < 2 { 24 } else { 48 },
    };
    let forecasts: Vec<_> = (0..programs.0.len()).map(forecast).collect();
    let (first, workers) = (TxIndex(0), WORKERS);
    let predecessors = &[TxIndex(0)];
    let plan =
        Plan { transactions: &[], forecasts: &forecasts, predecessors, first, workers, patience };
    let engine = Engine::new(programs, memory, &plan, 0, Instant::now());
    let engine = Arc::new(engine);
    let workers: Vec<_> = (0..WORKERS)
        .map(|mut id| {
            let engine = engine.clone();
            thread::spawn(move || drop(engine.work(id, &mut id, || false)))
        })
        .collect();
    for worker in workers {
        worker.join().expect("no worker panics");
    }
    let engine = Arc::into_inner(engine).expect("all workers are done");
    let (committed, head) = engine.into_result().expect("nothing fails");
    let slots = (0..WORKERS).flat_map(|worker| memory.slots_of(worker));
    let slots = slots
        .filter_map(|cell| {
            Some((cell.key.1.to::<u64>(), memory.settled_slot(cell, head)?.to::<u64>()))
        })
        .filter(|(_, value)| *value != 0)
        .collect();
    let till = memory.known_account(HOME).and_then(|cell| cell.settled(head));
    let till = till.map_or(0, |(_, account)| balance_of(account));
    (State { slots, till, committed }, head)
}

fn agrees(seed: u64) {
    let programs = Programs::random(seed);
    let again = Programs::random(seed);
    // Every other one stops at the first conflict found at the head.
    let patience = if seed % 2 == 0 { 0 } else { PATIENCE };
    let (state, head) = run_in_parallel(programs, patience);
    assert!(patience == 0 || head.as_usize() == again.0.len(), "seed {seed}: {again:?}");
    assert_eq!(state, again.one_by_one(head), "seed {seed}, up to {head}: {again:?}");
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
