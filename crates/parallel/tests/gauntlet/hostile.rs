//! Blocks made to hurt: each was once wrong or slow.

use crate::{
    blocks::{Gauntlet, TestBlock, TestSpec, sign},
    state::TestState,
};
use alloy_consensus::TxLegacy;
use alloy_primitives::{Address, Bytes, U256, hex};
use heddle_evm::{ExecutionError, InvalidTransactions, RecoveredTransaction, execute_block};
use heddle_parallel::ParallelExecutor;
use rand::{SeedableRng, rngs::StdRng};
use revm::primitives::hardfork::SpecId;
use std::time::{Duration, Instant};

const TARGET: Address = Address::repeat_byte(0x77);

fn sender(index: usize) -> Address {
    Address::left_padding_from(&(0x5e_0000 + index).to_be_bytes())
}

/// A block of calls to `TARGET`, each from its own sender.
fn calls(count: usize, gas_limit: u64, input: impl Fn(usize) -> Bytes) -> (TestBlock, TestState) {
    let gauntlet = Gauntlet::load();
    let mut rng = StdRng::seed_from_u64(1);
    let mut state = gauntlet.state(TestSpec::newest(), &mut rng);
    let mut block = gauntlet.block(TestSpec::newest(), &state, 1, &mut rng);
    block.invalid = InvalidTransactions::Reject;
    block.env.block_env.beneficiary = Address::repeat_byte(0xbb);
    let call = |index: usize| {
        let tx = TxLegacy {
            chain_id: Some(1),
            gas_price: 2_000,
            gas_limit,
            to: TARGET.into(),
            input: input(index),
            ..TxLegacy::default()
        };
        RecoveredTransaction::new_unchecked(sign(tx).into(), sender(index))
    };
    block.transactions = (0..count).map(call).collect();
    for index in 0..count {
        state.insert(sender(index), 0, U256::from(10).pow(U256::from(20)), &Bytes::new());
    }
    (block, state)
}

/// Asserts equality at several worker counts; gives the time of the reference and the longest of
/// the others.
fn compare(block: &TestBlock, state: &TestState) -> (Duration, Duration) {
    let spec = TestSpec::newest();
    let started = Instant::now();
    let expected = execute_block(&spec, state, &block.input()).expect("the block is valid");
    let sequential = started.elapsed();
    let mut slowest = Duration::ZERO;
    for workers in [1, 2, 4] {
        let executor =
            ParallelExecutor::new(workers).expect("threads start").with_all_workers_always();
        let started = Instant::now();
        let executed = executor.execute(&spec, state, &block.input()).expect("the block is valid");
        slowest = slowest.max(started.elapsed());
        assert_eq!(executed.output, expected, "{workers} workers");
    }
    (sequential, slowest)
}

/// A busy machine can take a core away for this long without it meaning anything.
const NOISE: Duration = Duration::from_millis(800);
/// And it can do so again: what is really slow is slow every time.
const ATTEMPTS: usize = 4;

/// Asserts equality, and that no number of workers takes more than so many times as long as the
/// reference.
fn assert_not_slower(times: u32, block: &TestBlock, state: &TestState) {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let (sequential, parallel) = compare(block, state);
        if parallel < times * sequential + NOISE {
            return;
        }
        seen.push((sequential, parallel));
    }
    panic!("sequential and in parallel: {seen:?}");
}

#[test]
fn a_run_on_stale_reads_that_would_loop_to_its_gas_limit_does_not_hold_up_the_block() {
    // Loops for ever unless slot[i] is set; sets slot[i + 1]. Only the one before makes i end.
    let code = hex!("60003554600c575b600756005b60016000356001015500");
    let (mut block, mut state) =
        calls(300, 16_000_000, |index| U256::from(index).to_be_bytes_vec().into());
    block.env.block_env.gas_limit = 36_000_000;
    state.insert(TARGET, 1, U256::ZERO, &Bytes::copy_from_slice(&code));
    state.set_slot(TARGET, U256::ZERO, U256::from(1));
    assert_not_slower(40, &block, &state);
}

#[test]
fn one_location_that_everybody_writes_does_not_take_quadratic_time() {
    let (mut block, mut state) = calls(8_000, 21_000, |_| Bytes::new());
    block.env.block_env.gas_limit = 1 << 40;
    for tx in &mut block.transactions {
        let index = tx.signer();
        let transfer = TxLegacy {
            chain_id: Some(1),
            gas_price: 2_000,
            gas_limit: 21_000,
            to: TARGET.into(),
            value: U256::from(1),
            ..TxLegacy::default()
        };
        *tx = RecoveredTransaction::new_unchecked(sign(transfer).into(), index);
    }
    state.insert(TARGET, 0, U256::from(1), &Bytes::new());
    assert_not_slower(20, &block, &state);
}

#[test]
fn a_fee_that_overflows_the_beneficiary_is_not_paid_and_one_that_is_switched_off_neither() {
    let (mut block, mut state) = calls(20, 21_000, |_| Bytes::new());
    let beneficiary = block.env.block_env.beneficiary;
    state.insert(beneficiary, 0, U256::MAX - U256::from(5), &Bytes::new());
    compare(&block, &state);
    block.env.cfg_env.disable_fee_charge = true;
    compare(&block, &state);
}

#[test]
fn a_fork_that_the_executors_do_not_know_is_refused_by_both() {
    let (mut block, state) = calls(2, 21_000, |_| Bytes::new());
    block.env.cfg_env.set_spec_and_mainnet_gas_params(SpecId::AMSTERDAM);
    let spec = TestSpec::newest();
    let sequential = execute_block(&spec, &state, &block.input());
    let parallel = ParallelExecutor::new(2)
        .expect("threads start")
        .with_all_workers_always()
        .execute(&spec, &state, &block.input());
    assert!(matches!(sequential, Err(ExecutionError::Block(_))), "{sequential:?}");
    assert!(matches!(parallel, Err(ExecutionError::Block(_))), "{parallel:?}");
}
