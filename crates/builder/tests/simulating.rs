//! Miners that simulate what waits: hints reach the executor, and nothing but time depends on them.

mod support;

use alloy_consensus::{TxEip1559, transaction::Recovered};
use alloy_primitives::{Address, B256, TxHash, U256};
use heddle_builder::{Miner, MinerConfig, Origin, PoolTransaction};
use heddle_chain::{BlockRules, Chain, ImportStatus, block_input};
use heddle_chainspec::ChainSpec;
use heddle_evm::execute_block;
use heddle_parallel::Location;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use support::{chain_of, config, sign, signer, template, wait_until};

/// Adds one to the slot that a call names.
const COUNTER: Address = Address::repeat_byte(0xc0);
const COUNTER_CODE: &str = "0x5f35805460010190550000";
/// Reads a slot again and again until there is no gas.
const BURNER: Address = Address::repeat_byte(0xb0);
const BURNER_CODE: &str = "0x5b5f54505f56";

/// Gas of a call that counts as heavy in the executor's forecast.
const HEAVY_GAS: u64 = 320_000;
/// The most that a transaction may have (EIP-7825).
const GAS_MAX: u64 = 1 << 24;
/// Longest that stopping may take, on a busy machine.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// The development chain with both contracts.
fn chain() -> Arc<Chain> {
    let dev = include_str!("../../../genesis/dev.json");
    let mut genesis: serde_json::Value = serde_json::from_str(dev).expect("is JSON");
    for (address, code) in [(COUNTER, COUNTER_CODE), (BURNER, BURNER_CODE)] {
        genesis["alloc"][address.to_string()] =
            serde_json::json!({ "balance": "0x0", "code": code });
    }
    chain_of(ChainSpec::from_genesis_json(&genesis.to_string()).expect("is a genesis"))
}

fn miner(simulate: bool) -> Arc<Miner> {
    Miner::start(chain(), MinerConfig { simulate, ..config() }).expect("the threads start")
}

/// A call to the counter or the burner.
fn call(to: Address, slot: u8, nonce: u64) -> TxEip1559 {
    let gas_limit = if to == BURNER { GAS_MAX } else { HEAVY_GAS };
    let input = B256::with_last_byte(slot).into();
    TxEip1559 { to: to.into(), input, nonce, gas_limit, ..template() }
}

fn submit(miner: &Miner, from: u32, tx: TxEip1559) -> TxHash {
    let tx: Recovered<PoolTransaction> = sign(&signer(from), tx);
    miner.submit(tx, Origin::External).expect("is accepted")
}

fn wait_for_hints(miner: &Miner, hashes: &[TxHash]) {
    let known = || hashes.iter().all(|hash| miner.hint(hash).is_some());
    wait_until("not all are simulated", known);
}

fn count(miner: &Miner, slot: u8) -> U256 {
    let state = miner.chain().latest_state();
    state.storage_at(COUNTER, U256::from(slot)).expect("state is readable")
}

/// Every block is what running its transactions one after the other gives, and another chain takes it.
fn check_blocks(chain: &Chain) {
    let other = self::chain();
    for number in 1..=chain.head().number() {
        let block = chain.block_by_number(number).expect("is readable").expect("is there");
        let parent = chain.scratch_at(number - 1).expect("is kept");
        let rules = BlockRules::of(chain.spec(), &block.header);
        let input = block_input(&rules, &block);
        let in_order = execute_block(chain.spec().as_ref(), parent.state(), &input);
        let in_order = in_order.expect("the block is valid");
        assert_eq!(block.receipts, in_order.receipts, "block {number}");
        let root = parent.root_after(&in_order.changes).expect("is readable");
        assert_eq!(block.header.state_root, root, "block {number}");
        let imported = other.import(block.to_block()).expect("the block is valid");
        assert_eq!(imported.status, ImportStatus::Head);
    }
    chain.store().verify_state().expect("the state has the root in the header");
}

#[tokio::test]
async fn blocks_of_contended_transactions_are_what_running_them_in_order_gives() {
    const NONCES: u64 = 24;
    let miner = miner(true);
    for half in [0..NONCES / 2, NONCES / 2..NONCES] {
        let mut hashes = Vec::new();
        for nonce in half {
            for from in 0..10 {
                let slot = (u64::from(from) * 7 + nonce) as u8 % 4;
                // Long runs of equal tips.
                let max_priority_fee_per_gas = u128::from(nonce / 8);
                let tx = TxEip1559 { max_priority_fee_per_gas, ..call(COUNTER, slot, nonce) };
                hashes.push(submit(&miner, from, tx));
            }
        }
        wait_for_hints(&miner, &hashes);
        let blocks = miner.mine(1, None, None).await.expect("a block is made");
        assert_eq!(blocks[0].transactions.len(), hashes.len());
    }
    let counted: U256 = (0..4).map(|slot| count(&miner, slot)).sum();
    assert_eq!(counted, U256::from(10 * NONCES));
    check_blocks(miner.chain());
}

#[tokio::test]
async fn what_was_simulated_reaches_the_executor() {
    // All call the same counter: one chain, which only those know who have looked.
    for (simulate, workers) in [(true, 1), (false, 2)] {
        let miner = miner(simulate);
        let submit_all = |nonce: u64| (0..10).map(move |from| (from, call(COUNTER, 1, nonce)));
        let hashes: Vec<_> =
            (0..4).flat_map(submit_all).map(|(from, tx)| submit(&miner, from, tx)).collect();
        if simulate {
            wait_for_hints(&miner, &hashes);
            let hint = miner.hint(&hashes[0]).expect("was simulated");
            let sender = signer(0).address();
            let written = [Location::Slot(COUNTER, U256::from(1)), Location::Account(sender)];
            assert_eq!(hint.writes, written);
            assert_eq!(hint.reads, [&written[..], &[Location::Account(COUNTER)]].concat());
        }
        let blocks = miner.mine(1, None, None).await.expect("a block is made");
        let stages = miner.chain().stages(&blocks[0].hash()).expect("was executed here");
        assert_eq!(stages.workers, workers, "simulated: {simulate}");
        if simulate {
            assert_eq!(stages.conflicts, 0);
        } else {
            assert!(hashes.iter().all(|hash| miner.hint(hash).is_none()));
        }
        assert_eq!(count(&miner, 1), U256::from(40));
    }
}

#[tokio::test]
async fn among_equal_tips_a_chain_is_begun_first_and_the_rest_runs_beside_it() {
    let by_arrival = [0, 1, 2, 3, 4, 5, 6, 7];
    // Two workers: one has the chain, the other the rest. Nothing waits for the chain's last part.
    let for_workers = [4, 0, 5, 1, 6, 2, 3, 7];
    for (simulate, expected) in [(true, for_workers), (false, by_arrival)] {
        let miner = miner(simulate);
        let slot = |from: u32| if from < 4 { from as u8 } else { 4 };
        let hashes: Vec<_> =
            (0..8).map(|from| submit(&miner, from, call(COUNTER, slot(from), 0))).collect();
        if simulate {
            wait_for_hints(&miner, &hashes);
        }
        let expected = expected.map(|from| hashes[from]);
        let pending = miner.pending_block().expect("is made");
        let block = miner.mine(1, None, None).await.expect("a block is made").remove(0);
        for block in [&pending.block, &block] {
            let order = block.transactions.iter().map(|tx| *tx.inner().tx_hash());
            assert!(order.eq(expected), "simulated: {simulate}");
        }
    }
}

#[test]
fn under_load_from_many_threads_everything_is_mined_once_with_simulation_as_without() {
    const EACH: u64 = 100;
    let miner = miner(true);
    miner.set_automine(true);
    std::thread::scope(|scope| {
        for from in 0..4 {
            let miner = &miner;
            scope.spawn(move || {
                for step in 0..EACH {
                    // A permutation of the nonces: 7 and 100 have no common divisor.
                    submit(miner, from, call(COUNTER, from as u8 % 2, step * 7 % EACH));
                }
            });
        }
    });
    wait_until("some are left in the pool", || miner.pool().is_empty());
    assert_eq!([count(&miner, 0), count(&miner, 1)], [U256::from(2 * EACH); 2]);
    check_blocks(miner.chain());
}

#[tokio::test]
async fn transactions_may_be_replaced_and_dropped_while_they_are_simulated() {
    let miner = miner(true);
    const GWEI: u128 = 1_000_000_000;
    for round in 0..15 {
        for from in 0..3 {
            submit(&miner, from, call(BURNER, 0, round));
        }
        let dropped = submit(&miner, 3, call(BURNER, 0, 0));
        // From at once to when the last of them is being simulated, about.
        tokio::time::sleep(Duration::from_millis(3 * round)).await;
        let mut replacements = Vec::new();
        for from in 0..3 {
            let (max_fee_per_gas, tip) = (20 * GWEI, GWEI);
            let max_priority_fee_per_gas = tip;
            let tx = call(COUNTER, from as u8, round);
            let tx = TxEip1559 { max_fee_per_gas, max_priority_fee_per_gas, ..tx };
            replacements.push(submit(&miner, from, tx));
        }
        miner.pool().remove(&dropped).expect("is there");
        if round % 2 == 0 {
            wait_for_hints(&miner, &replacements);
        }
        let blocks = miner.mine(1, None, None).await.expect("a block is made");
        assert_eq!(blocks[0].transactions.len(), replacements.len(), "round {round}");
    }
    assert_eq!(count(&miner, 2), U256::from(15));
    check_blocks(miner.chain());
}

#[tokio::test]
async fn the_chain_may_go_back_while_transactions_are_simulated() {
    let miner = miner(true);
    submit(&miner, 0, call(COUNTER, 0, 0));
    miner.mine(1, None, None).await.expect("a block is made");
    for round in 0..8 {
        let snapshot = miner.snapshot().await.expect("is taken");
        for from in 1..6 {
            submit(&miner, from, call(BURNER, 0, 0));
            submit(&miner, from, call(COUNTER, 1, 1));
        }
        tokio::time::sleep(Duration::from_millis(8 * round)).await;
        miner.mine(1, None, None).await.expect("a block is made");
        assert_eq!(count(&miner, 1), U256::from(5));
        for from in 1..6 {
            submit(&miner, from, call(COUNTER, 2, 2));
        }
        match round % 4 {
            0 => assert!(miner.revert(snapshot).await.expect("works")),
            1 => miner.rollback(1).await.expect("works"),
            2 => drop(miner.reorganise(vec![Vec::new()]).await.expect("works")),
            _ => {
                miner.reset().await.expect("works");
                submit(&miner, 0, call(COUNTER, 0, 0));
                miner.mine(1, None, None).await.expect("a block is made");
            }
        }
        assert_eq!([count(&miner, 0), count(&miner, 1)], [U256::from(1), U256::ZERO]);
    }
    let last = submit(&miner, 0, call(COUNTER, 3, 1));
    wait_for_hints(&miner, &[last]);
    miner.mine(1, None, None).await.expect("a block is made");
    assert_eq!(count(&miner, 3), U256::from(1));
    check_blocks(miner.chain());
}

#[tokio::test]
async fn stopping_does_not_wait_for_what_is_left_to_simulate() {
    let miner = miner(true);
    let burn = |(from, nonce)| submit(&miner, from, call(BURNER, 0, nonce));
    let hashes: Vec<_> =
        (0..10).flat_map(|from| (0..40).map(move |nonce| (from, nonce))).map(burn).collect();
    wait_until("nothing is simulated", || hashes.iter().any(|hash| miner.hint(hash).is_some()));
    let started = Instant::now();
    miner.stop();
    assert!(started.elapsed() < STOP_TIME_MAX, "took {:?}", started.elapsed());
    let known = hashes.iter().filter(|hash| miner.hint(hash).is_some()).count();
    // Whoever submits now wakes nobody.
    submit(&miner, 0, call(COUNTER, 0, 40));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(hashes.iter().filter(|hash| miner.hint(hash).is_some()).count(), known);
}

/// The niceness in a thread's `stat` file.
#[cfg(target_os = "linux")]
fn niceness_in(stat: &str) -> Option<i32> {
    // Field 19 of proc_pid_stat(5), the 17th after the name in parentheses.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(16)?.parse().ok()
}

/// The niceness of a thread of this process.
#[cfg(target_os = "linux")]
fn niceness_of(name: &str) -> Option<i32> {
    let mut tasks = std::fs::read_dir("/proc/self/task").expect("is there").flatten();
    tasks.find_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        stat.contains(&format!("({name})")).then(|| niceness_in(&stat))?
    })
}

#[cfg(target_os = "linux")]
#[test]
fn the_simulating_thread_alone_gives_way_to_others() {
    let _miner = miner(true);
    wait_until("it does not give way", || niceness_of("heddle-simulate") == Some(19));
    let stat = std::fs::read_to_string("/proc/self/stat").expect("is there");
    assert_eq!(niceness_of("heddle-miner"), niceness_in(&stat));
}
