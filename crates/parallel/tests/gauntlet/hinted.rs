//! Hints: right ones leave nothing to run twice, wrong ones change nothing but the time.

use crate::{
    blocks::{Gauntlet, TestSpec},
    state::TestState,
};
use alloy_evm::{
    EvmFactory,
    block::BlockExecutor,
    eth::{EthBlockExecutor, EthEvmFactory},
};
use alloy_primitives::{Address, U256};
use heddle_evm::{BlockInput, HeddleReceiptBuilder, execute_block};
use heddle_parallel::{AccessHint, Execution, Location, ParallelExecutor};
use rand::{Rng, SeedableRng, rngs::StdRng};
use revm::database::State;
use std::time::Duration;

/// What each transaction of the block touches, as revm's own state saw it.
fn true_hints(spec: TestSpec, parent: &TestState, input: &BlockInput<'_>) -> Vec<AccessHint> {
    let state = State::builder().with_database_ref(parent).with_bundle_update().build();
    let evm = EthEvmFactory::default().create_evm(state, input.env.clone());
    let mut executor = EthBlockExecutor::new(evm, input.ctx.clone(), spec, HeddleReceiptBuilder);
    executor.apply_pre_execution_changes().expect("the block is valid");
    let hint = |tx: &heddle_evm::RecoveredTransaction| {
        let mut hint = AccessHint::default();
        let Ok(executed) = executor.execute_transaction_without_commit(tx) else { return hint };
        for (address, account) in &executed.result.state {
            hint.reads.push(Location::Account(*address));
            if account.is_touched() {
                hint.writes.push(Location::Account(*address));
            }
            if account.is_selfdestructed() || account.is_created() {
                hint.writes.push(Location::Wipe(*address));
            }
            for (slot, value) in &account.storage {
                hint.reads.push(Location::Slot(*address, *slot));
                if value.is_changed() {
                    hint.writes.push(Location::Slot(*address, *slot));
                }
            }
        }
        executor.commit_transaction(executed);
        hint
    };
    input.transactions.iter().map(hint).collect()
}

#[test]
fn with_right_hints_nothing_runs_twice() {
    let gauntlet = Gauntlet::load();
    let executor = ParallelExecutor::new(4).expect("threads start").with_all_workers_always();
    let (mut blocks, mut conflicts_without) = (0, 0);
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let spec = TestSpec::random(&mut rng);
        let mut state = gauntlet.state(spec, &mut rng);
        let block = gauntlet.block(spec, &state, 1, &mut rng);
        let input = block.input();
        let Ok(expected) = execute_block(&spec, &state, &input) else { continue };
        if !expected.skipped.is_empty() {
            // What a transaction reads that cannot be there, nobody has told.
            continue;
        }
        let hints = true_hints(spec, &state, &input);
        // Reads that wait let all workers in, however busy the machine is.
        state.read_takes = Duration::from_micros(50);
        conflicts_without +=
            executor.execute(&spec, &state, &input).expect("it is valid").profile.conflicts.len();
        let execution = Execution { hints: &hints, ..Execution::default() };
        let executed = executor.execute_with(&spec, &state, &input, execution);
        let executed = executed.expect("the block is valid");
        assert_eq!(executed.output, expected, "seed {seed}, {spec:?}");
        let profile = executed.profile;
        assert_eq!((profile.conflicts.as_slice(), profile.reexecutions()), (&[][..], 0), "{seed}");
        blocks += 1;
    }
    assert!(blocks > 50 && conflicts_without > 0, "{blocks}, {conflicts_without}");
}

#[test]
fn wrong_hints_change_no_result() {
    let gauntlet = Gauntlet::load();
    let executors = [2, 4].map(|workers| ParallelExecutor::new(workers).expect("threads start"));
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let spec = TestSpec::random(&mut rng);
        let state = gauntlet.state(spec, &mut rng);
        let block = gauntlet.block(spec, &state, 1, &mut rng);
        let input = block.input();
        let Ok(expected) = execute_block(&spec, &state, &input) else { continue };
        // Few locations, so that much seems to depend on much; more hints than transactions.
        let mut location = || {
            let address = Address::with_last_byte(rng.random_range(0..4));
            match rng.random_range(0..3) {
                0 => Location::Account(address),
                1 => Location::Slot(address, U256::from(rng.random_range(0..4_u8))),
                _ => Location::Wipe(address),
            }
        };
        let mut some = |most: usize| (0..most).map(|_| location()).collect::<Vec<_>>();
        let hints: Vec<_> = (0..input.transactions.len() + 3)
            .map(|index| AccessHint { reads: some(index % 5), writes: some(index % 3) })
            .collect();
        for executor in &executors {
            let execution = Execution { hints: &hints, ..Execution::default() };
            let executed = executor.execute_with(&spec, &state, &input, execution);
            assert_eq!(executed.expect("it is valid").output, expected, "seed {seed}, {spec:?}");
        }
    }
}
