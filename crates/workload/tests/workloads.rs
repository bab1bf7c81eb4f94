//! Every workload is what it says it is, and both executors agree on it.

#![allow(clippy::print_stdout, reason = "says what it skips")]

use alloy_consensus::{Transaction, TxReceipt};
use alloy_primitives::{B256, Log, U256, keccak256};
use heddle_evm::{BlockOutput, RecoveredTransaction, StateChanges, execute_block};
use heddle_parallel::ParallelExecutor;
use heddle_workload::{Workload, WorkloadKind, WorkloadOptions};
use std::path::{Path, PathBuf};

/// Where `npm ci --prefix tests` puts Uniswap's packages.
fn node_modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/node_modules")
}

fn options(transactions: usize) -> WorkloadOptions {
    WorkloadOptions {
        transactions: Some(transactions),
        accounts: 500,
        node_modules: node_modules(),
        ..WorkloadOptions::default()
    }
}

/// The kinds that can be made here: all, or without the packages those that need none.
fn kinds() -> Vec<WorkloadKind> {
    let has_packages = node_modules().join("@uniswap/v3-periphery").is_dir();
    let needs_packages = |kind: &WorkloadKind| {
        use WorkloadKind::{ChainUniswap, Hybrid, Uniswap, UniswapV2};
        matches!(kind, Uniswap | UniswapV2 | ChainUniswap | Hybrid)
    };
    let (with, without): (Vec<_>, Vec<_>) = WorkloadKind::ALL.into_iter().partition(needs_packages);
    if has_packages {
        return [with, without].concat();
    }
    println!("SKIPPED: uniswap, uniswap-v2, chain-uniswap, hybrid; `npm ci --prefix tests` first");
    without
}

fn available(kind: WorkloadKind) -> bool {
    kinds().contains(&kind)
}

fn make(kind: WorkloadKind, options: &WorkloadOptions) -> Workload {
    Workload::new(kind, options).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

fn run(workload: &Workload) -> BlockOutput {
    execute_block(&workload.spec, &workload.state, &workload.input()).expect("the block is valid")
}

/// As [`run`], with other transactions.
fn run_transactions(workload: &Workload, transactions: &[RecoveredTransaction]) -> BlockOutput {
    let input = heddle_evm::BlockInput { transactions, ..workload.input() };
    execute_block(&workload.spec, &workload.state, &input).expect("the block is valid")
}

fn failures(output: &BlockOutput) -> usize {
    output.receipts.iter().filter(|receipt| !receipt.status()).count()
}

#[test]
fn every_workload_gives_the_same_with_any_number_of_workers() {
    let executors = [1, 2, 4, 8].map(|workers| ParallelExecutor::new(workers).unwrap());
    for kind in kinds() {
        let workload = make(kind, &WorkloadOptions { hot_ratio: 0.3, ..options(200) });
        let expected = run(&workload);
        assert_eq!(expected.receipts.len(), 200, "{kind}");
        assert_eq!(failures(&expected), workload.failing, "{kind}");
        for executor in &executors {
            let executed = executor.execute(&workload.spec, &workload.state, &workload.input());
            assert_eq!(
                executed.unwrap().output,
                expected,
                "{kind}, {} workers",
                executor.workers()
            );
        }
    }
}

#[test]
fn the_smallest_block_of_every_workload_can_be_made() {
    for kind in kinds() {
        let workload = make(kind, &WorkloadOptions { accounts: 1, hot_ratio: 1.0, ..options(1) });
        assert_eq!(failures(&run(&workload)), 0, "{kind}");
    }
}

#[test]
fn the_same_seed_gives_the_same_block_and_another_seed_another() {
    use WorkloadKind::{DaoVote, Hybrid, Lending, MixedDefi, NftMint};
    for kind in [Hybrid, NftMint, DaoVote, Lending, MixedDefi] {
        if !available(kind) {
            continue;
        }
        let block = |seed| {
            let workload = make(kind, &WorkloadOptions { seed, ..options(100) });
            (run(&workload), workload.transactions)
        };
        let (first, second, other) = (block(1), block(1), block(2));
        assert_eq!(first.1, second.1, "{kind}");
        assert_eq!(first.0, second.0, "{kind}");
        assert_ne!(first.1, other.1, "{kind}");
    }
}

#[test]
fn one_in_ten_transactions_of_mixed_defi_fails() {
    for count in [10, 95, 500] {
        let workload = make(WorkloadKind::MixedDefi, &options(count));
        assert_eq!(failures(&run(&workload)), count / 10);
    }
}

#[test]
fn hybrid_divides_its_gas_as_it_says() {
    if !available(WorkloadKind::Hybrid) {
        return;
    }
    let workload = make(WorkloadKind::Hybrid, &options(2_000));
    let output = run(&workload);
    // By gas limit: 21,000 for plain transfers, 80,000 for tokens, 300,000 for swaps.
    let mut gas = [0; 3];
    let mut before = 0;
    for (tx, receipt) in workload.transactions.iter().zip(&output.receipts) {
        let used = receipt.cumulative_gas_used() - before;
        before = receipt.cumulative_gas_used();
        gas[match tx.gas_limit() {
            21_000 => 0,
            80_000 => 1,
            _ => 2,
        }] += used;
    }
    for (gas, share) in gas.into_iter().zip([0.6, 0.2, 0.2]) {
        let actual = gas as f64 / output.gas_used as f64;
        assert!((actual - share).abs() < 0.02, "{actual} of {share}");
    }
}

#[test]
fn independent_workloads_give_the_same_in_any_order() {
    use WorkloadKind::{Erc20, Transfers, Uniswap};
    for kind in [Transfers, Erc20, Uniswap] {
        if !available(kind) {
            continue;
        }
        let workload = make(kind, &options(40));
        let mut reversed = workload.transactions.clone();
        reversed.reverse();
        let (forwards, backwards) = (run(&workload), run_transactions(&workload, &reversed));
        assert_eq!(forwards.changes, backwards.changes, "{kind}");
        let logs = |output: &BlockOutput| -> Vec<Vec<Log>> {
            output.receipts.iter().map(|receipt| receipt.logs().to_vec()).collect()
        };
        let mut logs_backwards = logs(&backwards);
        logs_backwards.reverse();
        assert_eq!(logs(&forwards), logs_backwards, "{kind}");
    }
}

#[test]
fn in_a_chain_every_transaction_needs_the_one_before() {
    use WorkloadKind::{ChainErc20, ChainUniswap};
    for kind in [ChainErc20, ChainUniswap] {
        if !available(kind) {
            continue;
        }
        let workload = make(kind, &options(8));
        let whole = run(&workload);
        for index in 1..workload.transactions.len() {
            let mut transactions = workload.transactions[..=index].to_vec();
            transactions.remove(index - 1);
            let without = run_transactions(&workload, &transactions);
            let (with, without) = (&whole.receipts[index], &without.receipts[index - 1]);
            let differs = with.logs() != without.logs() || with.status() != without.status();
            assert!(differs, "{kind}: transaction {index} does not need the one before");
        }
    }
}

/// What the block added to the slots of the contract that most of them belong to.
fn added(changes: &StateChanges, slots: impl IntoIterator<Item = U256>) -> U256 {
    let contract = changes.accounts.values().max_by_key(|change| change.storage.len());
    let storage = &contract.expect("the block changed something").storage;
    let of = |slot| storage.get(&slot).map_or(U256::ZERO, |value| value.after - value.before);
    slots.into_iter().map(of).fold(U256::ZERO, |sum, value| sum + value)
}

#[test]
fn every_mint_raises_the_one_counter() {
    let workload = make(WorkloadKind::NftMint, &options(150));
    // Slot 0 of Collectible is the supply.
    assert_eq!(added(&run(&workload).changes, [U256::ZERO]), U256::from(150));
}

#[test]
fn every_vote_is_in_one_of_the_tallies() {
    let workload = make(WorkloadKind::DaoVote, &options(150));
    // A proposal of Dao lies at keccak(id, 1); the tallies are its slots 1 to 3.
    let tallies = (1..=4_u64).flat_map(|id| {
        let key = [B256::from(U256::from(id)), B256::from(U256::from(1))].concat();
        let proposal = U256::from_be_bytes(keccak256(key).0);
        (1..=3_u64).map(move |tally| proposal + U256::from(tally))
    });
    let vote = U256::from(10).pow(U256::from(19));
    assert_eq!(added(&run(&workload).changes, tallies), U256::from(150) * vote);
}

#[test]
fn the_lending_market_s_totals_move_with_every_operation() {
    let workload = make(WorkloadKind::Lending, &options(150));
    let output = run(&workload);
    // Slots of LendingMarket: 1 at hand, 2 lent out, 3 shares. What is borrowed leaves the one for
    // the other, so that their sum (less the interest of the block's one second) is what was
    // deposited.
    let moved = added(&output.changes, [U256::from(1), U256::from(2)]);
    let one = U256::from(10).pow(U256::from(18));
    let deposits = moved / one;
    assert!(deposits > U256::from(50) && deposits < U256::from(100), "{deposits}");
    let shares = added(&output.changes, [U256::from(3)]) / one;
    assert!(shares <= deposits && shares + U256::from(1) >= deposits, "{shares} {deposits}");
}

#[test]
fn a_missing_package_is_named() {
    let options = WorkloadOptions { node_modules: "nowhere".into(), ..options(1) };
    let error = Workload::new(WorkloadKind::UniswapV2, &options).unwrap_err();
    assert!(error.to_string().contains("nowhere/@uniswap"), "{error}");
}
