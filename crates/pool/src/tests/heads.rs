//! New heads: mined transactions, changed accounts, changed rules, reorganisations.

use alloy_primitives::U256;

use super::{Bench, Transfer, account, rich, rules};
use crate::{Origin, PoolError, PoolFork, SenderState, TxStatus};

fn balance(nonce: u64, wei: u64) -> SenderState {
    SenderState { nonce, balance: U256::from(wei), has_non_delegation_code: false }
}

#[test]
fn mined_and_stale_nonces_leave() {
    let bench = Bench::new();
    for nonce in 0..5 {
        bench.add(Transfer::new(1, nonce)).expect("valid");
    }
    bench.head(&[(1, rich(3))]);
    assert_eq!(bench.pending(1), [3, 4]);
    assert_eq!(bench.pool.pending_nonce(account(1)), Some(5));
    bench.head(&[(1, rich(9))]);
    assert!(bench.pool.is_empty());
}

#[test]
fn mined_hashes_suffice_where_the_account_is_not_given() {
    let bench = Bench::new();
    for nonce in [0, 1, 2, 4] {
        bench.add(Transfer::new(1, nonce)).expect("valid");
    }
    let mined = [Transfer::new(1, 0).hash(), Transfer::new(1, 1).hash()];
    bench.pool.on_new_head(rules(), [], &mined);
    bench.pool.check_books();
    assert_eq!((bench.pending(1), bench.queued(1)), (vec![2], vec![4]));
}

#[test]
fn an_advancing_nonce_promotes_what_waited_for_it() {
    let bench = Bench::new();
    bench.add(Transfer::new(1, 2)).expect("valid");
    bench.add(Transfer::new(1, 3)).expect("valid");
    bench.head(&[(1, rich(2))]);
    assert_eq!(bench.pending(1), [2, 3]);
}

#[test]
fn an_unpayable_transaction_leaves_and_its_successors_wait() {
    let bench = Bench::new();
    let cheap = |nonce, fee| Transfer::new(1, nonce).fees(fee, fee);
    for (nonce, fee) in [(0, 1000), (1, 3000), (2, 1000)] {
        bench.add(cheap(nonce, fee)).expect("valid");
    }
    bench.head(&[(1, balance(0, 42_000_000))]);
    assert_eq!((bench.pending(1), bench.queued(1)), (vec![0], vec![2]));
    bench.add(cheap(1, 1000)).expect("payable");
    assert_eq!(bench.pending(1), [0, 1, 2]);
    bench.head(&[(1, balance(0, 20_999_999))]);
    assert!(bench.pool.is_empty());
}

#[test]
fn an_account_that_became_a_contract_loses_its_transactions() {
    let bench = Bench::new();
    bench.add(Transfer::new(1, 0)).expect("valid");
    bench.head(&[(1, SenderState { has_non_delegation_code: true, ..rich(1) })]);
    assert!(bench.pool.is_empty());
}

#[test]
fn a_reorganisation_takes_the_nonce_back_and_reinjection_closes_the_gap() {
    let bench = Bench::new();
    for nonce in 0..4 {
        bench.add(Transfer::new(1, nonce)).expect("valid");
    }
    bench.head(&[(1, rich(2))]);
    bench.head(&[(1, rich(0))]);
    assert_eq!((bench.pending(1), bench.queued(1)), (vec![], vec![2, 3]));
    let back =
        vec![Transfer::new(1, 0).build(), Transfer::new(1, 1).build(), Transfer::new(1, 2).build()];
    let results = bench.pool.reinject(back, &bench.accounts);
    bench.pool.check_books();
    assert_eq!(results[0].as_ref().map(|added| added.status), Ok(TxStatus::Pending));
    assert_eq!(results[2], Err(PoolError::AlreadyKnown));
    assert_eq!(bench.pending(1), [0, 1, 2, 3]);
}

#[test]
fn a_lower_block_gas_limit_drops_what_no_longer_fits() {
    let bench = Bench::new();
    bench.add(Transfer::new(1, 0).with(|tx| tx.gas_limit = 2_000_000)).expect("valid");
    bench.add(Transfer::new(1, 1)).expect("valid");
    bench.add(Transfer::new(2, 0)).expect("valid");
    let mut smaller = rules();
    smaller.block_gas_limit = 1_000_000;
    bench.pool.on_new_head(smaller, [], &[]);
    bench.pool.check_books();
    assert_eq!((bench.pending(1), bench.queued(1), bench.pending(2)), (vec![], vec![1], vec![0]));
}

#[test]
fn a_fork_drops_what_it_forbids() {
    let bench =
        Bench::with_rules(|rules| (rules.fork, rules.tx_gas_limit_cap) = (PoolFork::Cancun, None));
    bench
        .add(Transfer::new(1, 0).data(100).with(|tx| tx.gas_limit = 21_400))
        .expect("no floor before Prague");
    bench
        .add(Transfer::new(2, 0).with(|tx| tx.gas_limit = 20_000_000))
        .expect("no cap before Osaka");
    bench.add(Transfer::new(3, 0)).expect("valid");
    bench.pool.on_new_head(rules(), [], &[]);
    bench.pool.check_books();
    assert_eq!((bench.pending(1), bench.pending(2), bench.pending(3)), (vec![], vec![], vec![0]));
}

#[test]
fn replaced_state_is_read_anew() {
    let bench = Bench::new();
    for nonce in 0..3 {
        bench.add(Transfer::new(1, nonce)).expect("valid");
        bench.add(Transfer::new(2, nonce)).expect("valid");
    }
    bench.accounts.set(1, rich(2));
    bench.accounts.set(2, SenderState::default());
    bench.pool.on_state_replaced(rules(), &bench.accounts).expect("readable");
    bench.pool.check_books();
    assert_eq!((bench.pending(1), bench.pending(2)), (vec![2], vec![]));
}

#[test]
fn a_head_between_check_and_filing_is_noticed() {
    let bench = Bench::new();
    let pool = &bench.pool;
    let calls = std::cell::Cell::new(0);
    // The first read sees the old head, and while it is on its way the head moves on.
    let racing = |_| {
        calls.set(calls.get() + 1);
        if calls.get() == 1 {
            pool.on_new_head(rules(), [(account(1), rich(1))], &[]);
            return Ok(rich(0));
        }
        Ok(rich(1))
    };
    let results = pool.add_many(
        vec![Transfer::new(1, 0).build(), Transfer::new(1, 1).build()],
        &racing,
        Origin::External,
    );
    assert_eq!(results[0], Err(PoolError::NonceTooLow { next: 1, nonce: 0 }));
    assert_eq!(results[1].as_ref().map(|added| added.status), Ok(TxStatus::Pending));
    pool.check_books();
}
