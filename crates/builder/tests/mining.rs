//! Miner, pool, chain and store together, without a network.

mod support;

use alloy_consensus::{TxEip1559, transaction::Recovered};
use alloy_primitives::{Address, B256, Bytes, TxHash, U256, hex};
use alloy_signer_local::PrivateKeySigner;
use heddle_builder::{MineError, Miner, MinerConfig, Origin, PoolTransaction};
use heddle_chain::{BlockAttributes, Chain, ImportStatus, State};
use heddle_chainspec::ChainSpec;
use heddle_evm::{AccountState, BlockState, RecoveredTransaction};
use std::{
    collections::BTreeSet,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};
use support::{chain_of, config, sign, signer, template, wait_until};

const RECEIVER: Address = Address::repeat_byte(0x99);

fn chain() -> Arc<Chain> {
    chain_of(ChainSpec::dev())
}

/// As the others, with blocks of a million gas.
fn chain_of_small_blocks() -> Arc<Chain> {
    let dev = include_str!("../../../genesis/dev.json");
    let mut genesis: serde_json::Value = serde_json::from_str(dev).expect("is JSON");
    genesis["gasLimit"] = "0xf4240".into();
    chain_of(ChainSpec::from_genesis_json(&genesis.to_string()).expect("is a genesis"))
}

fn miner(automine: bool, interval: Option<Duration>) -> Arc<Miner> {
    Miner::start(chain(), MinerConfig { automine, interval, ..config() })
        .expect("the thread starts")
}

fn transfer(from: &PrivateKeySigner, nonce: u64, tip: u128) -> Recovered<PoolTransaction> {
    sign(from, payment(nonce, tip))
}

fn payment(nonce: u64, tip: u128) -> TxEip1559 {
    let (gas_limit, to, value) = (21_000, RECEIVER.into(), U256::from(1));
    TxEip1559 { nonce, max_priority_fee_per_gas: tip, gas_limit, to, value, ..template() }
}

fn attributes(chain: &Chain, timestamp: u64) -> BlockAttributes {
    BlockAttributes {
        timestamp,
        beneficiary: Address::ZERO,
        prev_randao: B256::ZERO,
        gas_limit: chain.head().header.gas_limit,
        withdrawals: Vec::new(),
        parent_beacon_block_root: B256::ZERO,
        extra_data: Bytes::new(),
        base_fee: None,
    }
}

fn received(miner: &Miner) -> U256 {
    let account = miner.chain().latest_state().account(RECEIVER).expect("state is readable");
    account.map_or(U256::ZERO, |account| account.balance)
}

#[test]
fn a_block_waits_for_a_batch_that_was_announced() {
    let miner = miner(true, None);
    let signer = signer(0);
    // Not where the machine holds up this thread for longer than a block waits.
    let fast = (0..10).map(|round| 2 * round).find(|nonce| {
        let start = Instant::now();
        let batch = miner.announce();
        miner.submit(transfer(&signer, *nonce, 1), Origin::External).expect("is accepted");
        std::thread::sleep(Duration::from_millis(20));
        miner.submit(transfer(&signer, nonce + 1, 1), Origin::External).expect("is accepted");
        let took = start.elapsed();
        drop(batch);
        wait_until("not all were mined", || received(&miner) == U256::from(nonce + 2));
        took < Duration::from_millis(400)
    });
    assert!(fast.is_some(), "the machine was too slow, ten times");
    assert_eq!(miner.chain().head().transactions.len(), 2);
}

#[test]
fn a_batch_that_was_announced_and_does_not_come_holds_up_nothing_for_long() {
    let miner = miner(true, None);
    let batch = miner.announce();
    miner.submit(transfer(&signer(0), 0, 1), Origin::External).expect("is accepted");
    wait_until("it was not mined", || received(&miner) == U256::from(1));
    drop(batch);
}

#[test]
fn a_transaction_that_comes_when_the_thread_has_too_much_to_do_is_mined_without_another() {
    let miner = miner(true, None);
    let signer = signer(0);
    for nonce in 0..5 {
        let is_over = AtomicBool::new(false);
        let refused = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let context = &mut Context::from_waker(Waker::noop());
                    while !is_over.load(Ordering::Relaxed) {
                        // Asked is enough; nobody waits for the answer.
                        let asked = pin!(miner.snapshots()).poll(context);
                        if matches!(asked, Poll::Ready(Err(MineError::Stopped))) {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            wait_until("there is room in the queue", || refused.load(Ordering::Relaxed) > 100);
            miner.submit(transfer(&signer, nonce, 1), Origin::External).expect("is accepted");
            is_over.store(true, Ordering::Relaxed);
        });
        wait_until("it was not mined", || received(&miner) == U256::from(nonce + 1));
    }
}

#[test]
fn transactions_in_any_nonce_order_from_many_threads_are_all_mined() {
    let miner = miner(true, None);
    const EACH: u64 = 200;
    std::thread::scope(|scope| {
        for index in 0..4 {
            let miner = &miner;
            scope.spawn(move || {
                let signer = signer(index);
                for step in 0..EACH {
                    // A permutation of the nonces: 7 and 200 have no common divisor.
                    let tx = transfer(&signer, step * 7 % EACH, 1_000_000_000);
                    miner.submit(tx, Origin::External).expect("is accepted");
                }
            });
        }
    });
    wait_until("not all were mined", || received(&miner) == U256::from(4 * EACH));
    // The pool hears of a block a moment after the chain shows it.
    wait_until("some are left in the pool", || miner.pool().is_empty());
    miner.chain().store().verify_state().expect("the state has the root in the header");
}

/// With each call puts the parent's hash into the slot of the block's number.
const PARENT_HASHES: [u8; 9] = hex!("436001900340435500");

/// Submits transactions for many blocks of a million gas: transfers by eight accounts, and calls that ask for the hash of
/// the parent. Gives the contract.
fn submit_for_many_blocks(miner: &Miner) -> Address {
    let owner = signer(8);
    let init = [&hex!("68")[..], &PARENT_HASHES, &hex!("5f5260096017f3")].concat();
    let create = TxEip1559 { gas_limit: 100_000, input: init.into(), ..template() };
    miner.submit(sign(&owner, create), Origin::External).expect("is accepted");
    let contract = owner.address().create(0);
    for nonce in 1..40 {
        let (gas_limit, to) = (60_000, contract.into());
        let call = TxEip1559 { nonce, gas_limit, to, ..template() };
        miner.submit(sign(&owner, call), Origin::External).expect("is accepted");
    }
    for nonce in 0..80 {
        for index in 0..8 {
            let tx = transfer(&signer(index), nonce, 1 + u128::from(nonce % 7));
            miner.submit(tx, Origin::External).expect("is accepted");
        }
    }
    contract
}

#[test]
fn blocks_made_while_their_parents_are_committed_are_valid_and_hold_everything_once() {
    let miner = Miner::start(chain_of_small_blocks(), config()).expect("the thread starts");
    let contract = submit_for_many_blocks(&miner);
    miner.set_automine(true);
    wait_until("some are left in the pool", || miner.pool().is_empty());

    let (made, other) = (miner.chain(), chain_of_small_blocks());
    let head = made.head().number();
    assert!(head >= 15, "only {head} blocks");
    let mut seen = BTreeSet::new();
    for number in 1..=head {
        let block = made.block_by_number(number).expect("is readable").expect("is there");
        for tx in &block.transactions {
            assert!(seen.insert(*tx.inner().tx_hash()), "in two blocks: {}", tx.inner().tx_hash());
        }
        // Executed anew and compared with its header, by a chain that commits before it goes on.
        let imported = other.import(block.to_block()).expect("the block is valid");
        assert_eq!(imported.status, ImportStatus::Head);
        let state = made.state_at(number).expect("is kept");
        let noted = state.storage_at(contract, U256::from(number)).expect("is readable");
        assert!(
            noted.is_zero() || noted == U256::from_be_bytes(block.header.parent_hash.0),
            "block {number}"
        );
    }
    assert_eq!(seen.len(), 8 * 80 + 40);
    assert_eq!(received(&miner), U256::from(8 * 80));
    made.store().verify_state().expect("the state has the root in the header");
}

#[test]
fn a_block_made_on_one_that_is_not_committed_is_the_one_that_would_be_made_afterwards() {
    let chain = chain();
    let nonces = |nonces: std::ops::Range<u64>| -> Vec<RecoveredTransaction> {
        nonces.map(|nonce| sign(&signer(0), payment(nonce, 1))).collect()
    };
    let at = |timestamp| attributes(&chain, timestamp);
    // What was altered by hand is part of the first block.
    let given = U256::from(12_345);
    let give = move |state: &mut BlockState<State>| {
        let account = AccountState { balance: given, ..AccountState::default() };
        state.set_account(RECEIVER, Some(account), false)
    };
    chain.alter(give).expect("is altered");
    let first = chain.produce(&at(10), nonces(0..5)).expect("is made");
    let tip = chain.tip(&first).expect("was made on the head");
    let ahead = chain.produce_after(&tip, &at(20), nonces(5..9)).expect("is made");
    chain.commit(first).expect("is committed");
    let after = chain.produce(&at(20), nonces(5..9)).expect("is made");
    assert_eq!(ahead.block.hash(), after.block.hash());
    assert_eq!(ahead.changes, after.changes);
    let too_late = chain.tip(&ahead).expect("was made on what is the head now");
    chain.commit(ahead).expect("is committed");
    assert!(chain.tip(&after).is_err(), "the head has moved on");
    let on_the_head = chain.produce_after(&too_late, &at(30), nonces(9..10)).expect("is made");
    chain.commit(on_the_head).expect("the tries were those of the head all along");
    let receiver = chain.latest_state().account(RECEIVER).expect("is readable").expect("is there");
    assert_eq!(receiver.balance, given + U256::from(10));
    chain.store().verify_state().expect("the state has the root in the header");
}

#[tokio::test]
async fn without_mining_a_block_is_made_when_asked_for_best_tip_first() {
    let miner = miner(false, None);
    let mut hashes = Vec::<TxHash>::new();
    for (index, tip) in [(0, 1), (1, 3), (2, 2)] {
        let tx = transfer(&signer(index), 0, tip * 1_000_000_000);
        hashes.push(miner.submit(tx, Origin::Local).expect("is accepted"));
    }
    assert_eq!(miner.chain().head().number(), 0);
    let pending = miner.pending_block().expect("is made");
    assert_eq!(pending.block.transactions.len(), 3);
    let blocks = miner.mine(2, Some(10), None).await.expect("blocks are made");
    let mined: Vec<_> = blocks[0].transactions.iter().map(|tx| *tx.inner().tx_hash()).collect();
    assert_eq!(mined, [hashes[1], hashes[2], hashes[0]]);
    assert_eq!(blocks[1].header.timestamp, blocks[0].header.timestamp + 10);
    assert!(blocks[1].transactions.is_empty());
}

#[tokio::test]
async fn reverting_to_a_snapshot_takes_blocks_state_and_waiting_transactions_back() {
    let miner = miner(false, None);
    let from = signer(0);
    miner.submit(transfer(&from, 0, 1), Origin::Local).expect("is accepted");
    let first = miner.mine(1, None, None).await.expect("a block is made");
    let snapshot = miner.snapshot().await.expect("is taken");
    miner.submit(transfer(&from, 1, 1), Origin::Local).expect("is accepted");
    miner.mine(3, None, None).await.expect("blocks are made");
    miner.submit(transfer(&from, 2, 1), Origin::Local).expect("is accepted");
    assert_eq!(received(&miner), U256::from(2));

    let mut events = miner.chain().subscribe();
    assert!(miner.revert(snapshot).await.expect("works"));
    assert_eq!(miner.chain().head().hash(), first[0].hash());
    assert_eq!(received(&miner), U256::from(1));
    assert_eq!(miner.pool().len(), 0);
    let event = events.try_recv().expect("subscribers hear of it");
    assert_eq!(event.removed.len(), 3);
    assert!(!miner.revert(snapshot).await.expect("works"), "a snapshot can be used once");

    // The nonce is free again, and life goes on.
    miner.submit(transfer(&from, 1, 1), Origin::Local).expect("is accepted");
    miner.mine(1, None, None).await.expect("a block is made");
    assert_eq!(received(&miner), U256::from(2));
}

#[test]
fn interval_mining_makes_empty_blocks_too() {
    let miner = miner(false, Some(Duration::from_millis(20)));
    wait_until("no blocks by interval", || miner.chain().head().number() >= 3);
    miner.set_interval(None).expect("the thread listens");
    std::thread::sleep(Duration::from_millis(60));
    let number = miner.chain().head().number();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(miner.chain().head().number(), number);
}

#[tokio::test]
async fn the_next_timestamp_can_be_set_but_not_before_the_head() {
    let miner = miner(false, None);
    let target = miner.next_timestamp() + 5_000;
    miner.set_next_timestamp(target).expect("is later than the head");
    let blocks = miner.mine(1, None, None).await.expect("a block is made");
    assert_eq!(blocks[0].header.timestamp, target);
    let error = miner.set_next_timestamp(target).expect_err("is the head's own");
    assert!(matches!(error, MineError::TimestampTooOld { .. }), "{error}");
}

#[tokio::test]
async fn after_stop_requests_are_refused_and_not_left_hanging() {
    let miner = miner(true, None);
    miner.stop();
    let error = miner.mine(1, None, None).await.expect_err("nobody makes blocks any more");
    assert!(matches!(error, MineError::Stopped), "{error}");
}
