//! Miner, pool, chain and store together, without a network.

use alloy_consensus::{EthereumTxEnvelope, SignableTransaction, TxEip1559, transaction::Recovered};
use alloy_primitives::{Address, Bytes, TxHash, U256};
use alloy_signer::SignerSync;
use alloy_signer_local::{MnemonicBuilder, PrivateKeySigner};
use heddle_builder::{MineError, Miner, MinerConfig, Origin, PoolTransaction};
use heddle_chain::{Chain, GenesisBlock};
use heddle_chainspec::ChainSpec;
use heddle_parallel::ParallelExecutor;
use heddle_pool::PoolLimits;
use heddle_store::Store;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const RECEIVER: Address = Address::repeat_byte(0x99);

fn signer(index: u32) -> PrivateKeySigner {
    let phrase = "test test test test test test test test test test test junk";
    let builder = MnemonicBuilder::from_phrase(phrase).index(index).expect("is a path");
    builder.build().expect("is a mnemonic")
}

fn miner(automine: bool, interval: Option<Duration>) -> Arc<Miner> {
    let spec = Arc::new(ChainSpec::dev());
    let genesis = GenesisBlock::new(&spec).expect("the dev chain has an allocation");
    let store = Store::in_memory(&genesis.identity(&spec)).expect("memory is there");
    let executor = ParallelExecutor::new(2).expect("threads start");
    let chain = Arc::new(Chain::open(spec, &genesis, store, executor).expect("the chain opens"));
    let config = MinerConfig {
        automine,
        interval,
        coinbase: Address::ZERO,
        gas_limit: None,
        extra_data: Bytes::new(),
        pool_limits: PoolLimits::default(),
        funded: Vec::new(),
    };
    Miner::start(chain, config).expect("the thread starts")
}

fn transfer(from: &PrivateKeySigner, nonce: u64, tip: u128) -> Recovered<PoolTransaction> {
    let tx = TxEip1559 {
        chain_id: 31_337,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: tip,
        to: RECEIVER.into(),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    let signature = from.sign_hash_sync(&tx.signature_hash()).expect("signs");
    Recovered::new_unchecked(EthereumTxEnvelope::from(tx.into_signed(signature)), from.address())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn received(miner: &Miner) -> U256 {
    let account = miner.chain().latest_state().account(RECEIVER).expect("state is readable");
    account.map_or(U256::ZERO, |account| account.balance)
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
