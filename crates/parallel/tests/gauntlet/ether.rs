//! Ether that moves into and out of a contract: a sum, until somebody asks how much there is, or
//! there is not enough.

use crate::{
    blocks::{Gauntlet, TestBlock, TestSpec, sign},
    state::TestState,
};
use alloy_consensus::TxLegacy;
use alloy_primitives::{Address, Bytes, U256, hex};
use heddle_evm::{InvalidTransactions, RecoveredTransaction, execute_block};
use heddle_parallel::ParallelExecutor;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Duration;

/// Without data: takes what comes. With a word: pays its caller so much, and then
/// `slot[caller]` = 1 + success. With two words: `slot[first]` = its own balance.
const WALLET: Address = Address::repeat_byte(0x3a);
const WALLET_CODE: [u8; 35] =
    hex!("3615601b5736602010601d575f5f5f5f5f35335af16001013355005b005b475f355500");

/// Looks at the wallet's code, loops 3,000 times, and then: `slot[caller]` = the wallet's balance.
const WATCHER: Address = Address::repeat_byte(0x3b);
const WATCHER_CODE: [u8; 61] = hex!(
    "733a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3b50610bb85b6001900380601a5750"
    "733a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a31335500"
);

#[derive(Debug, Clone, Copy)]
enum Action {
    Deposits(u64),
    Withdraws(u64),
    Records,
    Watches,
}

fn sender(index: usize) -> Address {
    Address::left_padding_from(&(0xe7_0000 + index).to_be_bytes())
}

/// A block in which each sender does one of `actions` to the wallet, which has so many wei.
fn block(actions: &[Action], wei: u128) -> (TestBlock, TestState) {
    let gauntlet = Gauntlet::load();
    let spec = TestSpec::newest();
    let mut rng = StdRng::seed_from_u64(1);
    let mut state = gauntlet.state(spec, &mut rng);
    let mut block = gauntlet.block(spec, &state, 1, &mut rng);
    block.invalid = InvalidTransactions::Reject;
    block.env.block_env.beneficiary = Address::repeat_byte(0xbb);
    block.env.block_env.gas_limit = 1 << 40;
    let transaction = |(index, action): (usize, &Action)| {
        let word = |value: u64| U256::from(value).to_be_bytes::<32>();
        let (to, value, input) = match action {
            Action::Deposits(wei) => (WALLET, *wei, Vec::new()),
            Action::Withdraws(wei) => (WALLET, 0, word(*wei).to_vec()),
            Action::Records => (WALLET, 0, [word(index as u64), word(0)].concat()),
            Action::Watches => (WATCHER, 0, Vec::new()),
        };
        let tx = TxLegacy {
            chain_id: Some(1),
            gas_price: 2_000,
            gas_limit: 200_000,
            to: to.into(),
            value: U256::from(value),
            input: input.into(),
            ..TxLegacy::default()
        };
        RecoveredTransaction::new_unchecked(sign(tx).into(), sender(index))
    };
    block.transactions = actions.iter().enumerate().map(transaction).collect();
    for index in 0..actions.len() {
        state.insert(sender(index), 0, U256::from(10).pow(U256::from(18)), &Bytes::new());
    }
    state.insert(WALLET, 1, U256::from(wei), &Bytes::from_static(&WALLET_CODE));
    state.insert(WATCHER, 1, U256::ZERO, &Bytes::from_static(&WATCHER_CODE));
    (block, state)
}

/// Runs it on some numbers of workers, and gives the conflicts of all.
fn run(block: &TestBlock, state: &mut TestState, context: &str) -> usize {
    let spec = TestSpec::newest();
    let expected = execute_block(&spec, &*state, &block.input()).expect("the block is valid");
    // Reads that wait let all workers in, however busy the machine is.
    state.read_takes = Duration::from_micros(20);
    let conflicts = [2, 4, 8].map(|workers| {
        let executor = ParallelExecutor::new(workers).expect("threads start");
        let executor = executor.with_all_workers_always();
        let executed = executor.execute(&spec, &*state, &block.input());
        let executed = executed.expect("the block is valid");
        assert_eq!(executed.output, expected, "{context}, {workers} workers");
        executed.profile.conflicts.len()
    });
    state.read_takes = Duration::ZERO;
    conflicts.iter().sum()
}

#[test]
fn deposits_and_withdrawals_do_not_conflict_while_there_is_enough() {
    let actions: Vec<_> = (0..300)
        .map(|index| match index % 3 {
            0 => Action::Withdraws(1_000 + index),
            _ => Action::Deposits(index),
        })
        .collect();
    let (block, mut state) = block(&actions, 1_000_000_000);
    assert_eq!(run(&block, &mut state, "plenty"), 0);
}

#[test]
fn an_empty_wallet_pays_nobody_and_who_asks_learns_what_it_has() {
    let mut conflicts = 0;
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let action = |_| match rng.random_range(0..8) {
            0..4 => Action::Deposits(rng.random_range(0..20)),
            4..7 => Action::Withdraws(rng.random_range(0..30)),
            _ => Action::Records,
        };
        let actions: Vec<_> = (0..60).map(action).collect();
        let (block, mut state) = block(&actions, u128::from(seed));
        conflicts += run(&block, &mut state, &format!("seed {seed}"));
    }
    assert!(conflicts > 100, "only {conflicts}: nothing was at stake");
}

#[test]
fn who_asks_late_what_was_there_early_learns_what_is_there_now() {
    // A watcher becomes the first in line while it loops, after a deposit that it has not seen.
    for round in 0..10 {
        let actions: Vec<_> = (0..60)
            .map(|index| if index % 3 == 2 { Action::Watches } else { Action::Deposits(1 + index) })
            .collect();
        let (block, mut state) = block(&actions, 5);
        run(&block, &mut state, &format!("round {round}"));
    }
}

#[test]
fn a_balance_near_the_highest_there_can_be_overflows_as_in_order() {
    let actions: Vec<_> = (0..40)
        .map(|index| if index % 5 == 4 { Action::Withdraws(3) } else { Action::Deposits(index) })
        .collect();
    for below in [0, 7, 100] {
        let (block, mut state) = block(&actions, 0);
        let balance = U256::MAX - U256::from(below);
        state.insert(WALLET, 1, balance, &Bytes::from_static(&WALLET_CODE));
        run(&block, &mut state, &format!("{below} below"));
    }
}
