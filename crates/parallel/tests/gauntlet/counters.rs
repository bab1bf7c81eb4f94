//! A counter that many take numbers from, and what is foreseen of it when it does not only count.

use crate::{
    blocks::{Gauntlet, TestBlock, TestSpec, sign},
    state::TestState,
};
use alloy_consensus::TxLegacy;
use alloy_primitives::{Address, Bytes, U256, hex};
use heddle_evm::{InvalidTransactions, RecoveredTransaction, execute_block};
use heddle_parallel::{ExecutedBlock, ParallelExecutor};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// Call data is the number of an [`Action`] in four bytes and a word; `slot[0]` is the counter.
const COUNTER: Address = Address::repeat_byte(0x3c);
const COUNTER_CODE: [u8; 75] = hex!(
    "5f3560e01c6004355f54826001146030578260021460375782600314603c575b8082015f"
    "5533816401000000000155005b8181035f55005b815f55005b80600116604757601f565b5f5ffd"
);

#[derive(Debug, Clone, Copy)]
enum Action {
    /// Adds this, and `slot[2^32 + counter]` = caller.
    Takes(u64),
    /// Takes this away.
    Gives(u64),
    /// Makes it this.
    Sets(u64),
    /// As `Takes`, but fails if the counter is odd.
    TakesOfEven(u64),
}

fn sender(index: usize) -> Address {
    Address::left_padding_from(&(0xe8_0000 + index).to_be_bytes())
}

/// A block in which each sender does one of `actions`, one after the other.
fn block(actions: &[Action]) -> (TestBlock, TestState) {
    let gauntlet = Gauntlet::load();
    let spec = TestSpec::newest();
    let mut rng = StdRng::seed_from_u64(1);
    let mut state = gauntlet.state(spec, &mut rng);
    let mut block = gauntlet.block(spec, &state, 1, &mut rng);
    block.invalid = InvalidTransactions::Reject;
    block.env.block_env.beneficiary = Address::repeat_byte(0xbb);
    block.env.block_env.gas_limit = 1 << 40;
    let transaction = |(index, action): (usize, &Action)| {
        let (function, amount) = match *action {
            Action::Takes(amount) => (0_u32, amount),
            Action::Gives(amount) => (1, amount),
            Action::Sets(amount) => (2, amount),
            Action::TakesOfEven(amount) => (3, amount),
        };
        let input = [&function.to_be_bytes()[..], &U256::from(amount).to_be_bytes::<32>()].concat();
        let tx = TxLegacy {
            chain_id: Some(1),
            gas_price: 2_000,
            gas_limit: 200_000,
            to: COUNTER.into(),
            input: input.into(),
            ..TxLegacy::default()
        };
        RecoveredTransaction::new_unchecked(sign(tx).into(), sender(index))
    };
    block.transactions = actions.iter().enumerate().map(transaction).collect();
    for index in 0..actions.len() {
        state.insert(sender(index), 0, U256::from(10).pow(U256::from(18)), &Bytes::new());
    }
    state.insert(COUNTER, 1, U256::ZERO, &Bytes::from_static(&COUNTER_CODE));
    state.set_slot(COUNTER, U256::ZERO, U256::from(1_000));
    (block, state)
}

/// Runs it on so many workers, beside the reference.
fn run(block: &TestBlock, state: &mut TestState, workers: usize, context: &str) -> ExecutedBlock {
    let spec = TestSpec::newest();
    let expected = execute_block(&spec, &*state, &block.input()).expect("the block is valid");
    // Reads that wait let all workers in, however busy the machine is.
    state.read_takes = Duration::from_micros(20);
    let executor = ParallelExecutor::new(workers).expect("threads start");
    let executor = executor.with_all_workers_always();
    let executed = executor.execute(&spec, &*state, &block.input());
    let executed = executed.expect("the block is valid");
    assert_eq!(executed.output, expected, "{context}, {workers} workers");
    state.read_takes = Duration::ZERO;
    executed
}

#[test]
fn who_takes_the_next_number_need_not_wait_for_those_before() {
    let amount = |index: u64| 1 + index * 7 % 5;
    let once = |index| Action::Takes(amount(index));
    let both = |index| if index % 3 == 0 { Action::Gives(amount(index)) } else { once(index) };
    let blocks: [Vec<_>; 2] = [(0..400).map(once).collect(), (0..400).map(both).collect()];
    for actions in blocks {
        let (block, mut state) = block(&actions);
        for workers in [2, 4] {
            // How the work is shared is up to the system as well: a busy machine may keep a worker
            // away for a whole block. Were the numbers not foreseen, no block would do.
            let mut seen = Vec::new();
            while seen.last().is_none_or(|(runs, conflicts): &(Vec<usize>, usize)| {
                runs.iter().any(|count| *count >= 300) || *conflicts >= 100
            }) {
                assert!(seen.len() < 30, "one did nearly all, or conflicts are many: {seen:?}");
                let executed = run(&block, &mut state, workers, "numbers");
                let spans = executed.profile.spans();
                let runs = |worker| spans.iter().filter(|span| span.worker == worker).count();
                let conflicts = executed.profile.conflicts.len();
                seen.push(((0..workers).map(runs).collect(), conflicts));
            }
        }
    }
}

#[test]
fn a_counter_that_does_not_only_count_is_what_it_is_in_order() {
    let mut conflicts = 0;
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        // Mostly regular, so that something is foreseen, with more and more that is not.
        let action = |_| match rng.random_range(0..200) {
            odd if odd < seed => Action::Sets(rng.random_range(0..10)),
            odd if odd < 2 * seed => Action::TakesOfEven(1),
            odd if odd < 120 => Action::Takes(1 + odd % 3),
            _ => Action::Gives(1),
        };
        let actions: Vec<_> = (0..200).map(action).collect();
        let (block, mut state) = block(&actions);
        for workers in [2, 4, 8] {
            let executed = run(&block, &mut state, workers, &format!("seed {seed}"));
            conflicts += executed.profile.conflicts.len();
        }
    }
    assert!(conflicts > 100, "only {conflicts}: nothing was at stake");
}
