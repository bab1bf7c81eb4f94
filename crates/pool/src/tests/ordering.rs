//! Nonce order, price order, and who hears of what.

use std::time::{Duration, Instant};

use alloy_primitives::B256;

use super::{BASE_FEE, Bench, GWEI, Transfer, account};
use crate::TxStatus;

#[test]
fn a_queued_transaction_becomes_pending_when_its_gap_closes() {
    let bench = Bench::new();
    assert_eq!(bench.add(Transfer::new(1, 2)).map(|added| added.status), Ok(TxStatus::Queued));
    assert_eq!(bench.add(Transfer::new(1, 1)).map(|added| added.status), Ok(TxStatus::Queued));
    assert_eq!(bench.pool.status(), (0, 2));
    assert_eq!(bench.pool.pending_nonce(account(1)), Some(0));
    assert_eq!(bench.add(Transfer::new(1, 0)).map(|added| added.status), Ok(TxStatus::Pending));
    assert_eq!(bench.pending(1), [0, 1, 2]);
    assert_eq!(bench.pool.pending_nonce(account(1)), Some(3));
    assert_eq!(bench.pool.pending_nonce(account(2)), None);
}

#[test]
fn the_best_come_by_tip_then_by_arrival_in_nonce_order() {
    let bench = Bench::new();
    for transfer in [
        Transfer::new(1, 0).tip(2),
        Transfer::new(1, 1).tip(9),
        Transfer::new(2, 0).tip(5),
        Transfer::new(3, 0).tip(2),
        Transfer::new(2, 1).tip(1),
        Transfer::new(4, 1).tip(99),
    ] {
        bench.add(transfer).expect("valid");
    }
    let order: Vec<_> = bench.pool.best(BASE_FEE, 1).map(|tx| (tx.sender(), tx.nonce())).collect();
    let expected =
        [(2, 0), (1, 0), (1, 1), (3, 0), (2, 1)].map(|(sender, nonce)| (account(sender), nonce));
    assert_eq!(order, expected);
}

#[test]
fn the_tip_counts_as_far_as_the_fee_cap_lets_it() {
    let bench = Bench::new();
    bench.add(Transfer::new(1, 0).fees(3 * GWEI, 3 * GWEI)).expect("valid");
    bench.add(Transfer::new(2, 0).fees(9 * GWEI, 2 * GWEI)).expect("valid");
    let first = |base_fee| bench.pool.best(base_fee, 0).next().map(|tx| tx.sender());
    assert_eq!(first(0), Some(account(1)));
    assert_eq!(first(2 * BASE_FEE), Some(account(2)));
    assert_eq!(bench.pool.best(4 * BASE_FEE, 0).count(), 1);
}

#[test]
fn what_cannot_run_hides_its_successors() {
    let bench = Bench::new();
    bench.add(Transfer::new(1, 0).tip(3)).expect("valid");
    bench.add(Transfer::new(1, 1).fees(BASE_FEE.into(), 1)).expect("valid");
    bench.add(Transfer::new(1, 2).tip(3)).expect("valid");
    assert_eq!(bench.pool.best(BASE_FEE + 1, 0).count(), 1);
    assert_eq!(bench.pool.best(BASE_FEE, 0).count(), 3);

    let mut best = bench.pool.best(BASE_FEE, 0);
    let first = best.next().expect("one is pending");
    best.mark_invalid(&first);
    assert!(best.next().is_none());
}

#[test]
fn an_invalid_sender_does_not_hide_others() {
    let bench = Bench::new();
    for sender in 1..=3 {
        for nonce in 0..3 {
            bench.add(Transfer::new(sender, nonce)).expect("valid");
        }
    }
    let mut best = bench.pool.best(BASE_FEE, 0);
    let first = best.next().expect("nine are pending");
    best.mark_invalid(&first);
    let rest: Vec<_> = best.collect();
    assert_eq!(rest.len(), 6);
    assert!(rest.iter().all(|tx| tx.sender() != first.sender()));
}

#[test]
fn a_snapshot_does_not_change_with_the_pool() {
    let bench = Bench::new();
    bench.add(Transfer::new(1, 0)).expect("valid");
    let best = bench.pool.best(BASE_FEE, 0);
    bench.pool.clear();
    assert_eq!(best.count(), 1);
    assert!(bench.pool.is_empty());
    bench.pool.check_books();
}

#[test]
fn subscribers_hear_of_each_pending_transaction_once_in_order() {
    let bench = Bench::new();
    let mut events = bench.pool.subscribe();
    let mut expected: Vec<B256> = Vec::new();
    for nonce in [1, 2, 0, 5] {
        bench.add(Transfer::new(1, nonce)).expect("valid");
    }
    expected.extend([0, 1, 2].map(|nonce| Transfer::new(1, nonce).hash()));
    let replacement = Transfer::new(1, 1).tip(2);
    bench.add(replacement.clone()).expect("pays more");
    expected.push(replacement.hash());
    // 1 and 2 are demoted and come back: nobody hears of them twice.
    bench.pool.remove(&Transfer::new(1, 0).hash());
    bench.add(Transfer::new(1, 0).tip(7)).expect("valid");
    expected.push(Transfer::new(1, 0).tip(7).hash());
    let heard: Vec<B256> =
        std::iter::from_fn(|| events.try_recv().ok()).map(|tx| tx.hash()).collect();
    assert_eq!(heard, expected);
}

#[test]
fn the_builder_is_woken_by_pending_transactions_only() {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };
    let bench = Bench::new();
    let signal = bench.pool.pending_signal();
    let mut context = Context::from_waker(Waker::noop());
    bench.add(Transfer::new(1, 1)).expect("valid");
    assert_eq!(pin!(signal.notified()).poll(&mut context), Poll::Pending);
    bench.add(Transfer::new(1, 0)).expect("valid");
    assert_eq!(
        pin!(signal.notified()).poll(&mut context),
        Poll::Ready(()),
        "kept while nobody waited"
    );
}

#[test]
fn removal_demotes_what_follows() {
    let bench = Bench::new();
    for nonce in 0..4 {
        bench.add(Transfer::new(1, nonce)).expect("valid");
    }
    let hash = Transfer::new(1, 1).hash();
    assert_eq!(bench.pool.status_of(&hash), Some(TxStatus::Pending));
    assert_eq!(bench.pool.remove(&hash).map(|tx| tx.nonce()), Some(1));
    bench.pool.check_books();
    assert_eq!((bench.pending(1), bench.queued(1)), (vec![0], vec![2, 3]));
    assert_eq!(bench.pool.status_of(&hash), None);
    assert_eq!(bench.pool.status_of(&Transfer::new(1, 2).hash()), Some(TxStatus::Queued));
    assert_eq!(bench.pool.remove_sender(account(1)).len(), 3);
    bench.pool.check_books();
    assert!(bench.pool.is_empty());
    assert_eq!(bench.pool.bytes(), 0);
}

#[test]
fn content_is_split_by_sender_and_status() {
    let bench = Bench::new();
    bench.add(Transfer::new(1, 0)).expect("valid");
    bench.add(Transfer::new(1, 2)).expect("valid");
    bench.add(Transfer::new(2, 1)).expect("valid");
    let content = bench.pool.content();
    assert_eq!(content.len(), 2);
    assert_eq!((content[&account(1)].pending.len(), content[&account(1)].queued.len()), (1, 1));
    assert_eq!((content[&account(2)].pending.len(), content[&account(2)].queued.len()), (0, 1));
}

#[test]
fn queued_transactions_expire_and_pending_ones_do_not() {
    let bench = Bench::with_limits(|limits| limits.queued_lifetime = Duration::from_secs(60));
    bench.add(Transfer::new(1, 0)).expect("valid");
    bench.add(Transfer::new(1, 2)).expect("valid");
    bench.add(Transfer::new(2, 2)).expect("valid");
    assert_eq!(bench.pool.drop_expired(Instant::now() + Duration::from_secs(30)), 0);
    assert_eq!(bench.pool.drop_expired(Instant::now() + Duration::from_secs(90)), 2);
    bench.pool.check_books();
    assert_eq!(bench.pool.status(), (1, 0));
}

#[test]
fn a_hundred_thousand_transactions_are_ordered_in_well_under_a_second() {
    let bench = Bench::new();
    let txs = (0..100u64).flat_map(|sender| {
        (0..1000).map(move |nonce| {
            Transfer::new(sender, nonce)
                .tip_wei(u128::from(sender * 7919 + nonce * 104_729) % 1000 + 1)
                .build()
        })
    });
    let results = bench.pool.add_many(txs.collect(), &bench.accounts, crate::Origin::External);
    assert!(results.iter().all(Result::is_ok));
    bench.pool.check_books();
    let started = Instant::now();
    assert_eq!(bench.pool.best(BASE_FEE, 0).count(), 100_000);
    // About 15 ms (snapshot 5 ms); the bound only catches a wrong order of growth on a busy machine.
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}
