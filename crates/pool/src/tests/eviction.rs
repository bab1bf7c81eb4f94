//! A full pool.

use super::{Bench, GWEI, Transfer};
use crate::{PoolLimits, TxStatus};

fn full_of(max: usize) -> Bench {
    Bench::with_limits(|limits| limits.transactions_max = max)
}

#[test]
fn the_cheapest_makes_way_for_a_better_one() {
    let bench = full_of(3);
    for (sender, tip) in [(1, 3), (2, 1), (3, 2)] {
        bench.add(Transfer::new(sender, 0).tip(tip)).expect("room");
    }
    assert_eq!(bench.refusal(Transfer::new(4, 0).tip(1).build()), "transaction underpriced");
    bench.add(Transfer::new(4, 0).tip(4)).expect("outbids");
    assert_eq!((bench.pending(1), bench.pending(2), bench.pending(3)), (vec![0], vec![], vec![0]));
    bench.add(Transfer::new(5, 0).tip(4)).expect("outbids");
    assert_eq!((bench.pending(1), bench.pending(3)), (vec![0], vec![]));
}

#[test]
fn of_equals_the_newest_leaves() {
    let bench = full_of(2);
    bench.add(Transfer::new(1, 0)).expect("room");
    bench.add(Transfer::new(2, 0)).expect("room");
    bench.add(Transfer::new(3, 0).tip(2)).expect("outbids");
    assert_eq!((bench.pending(1), bench.pending(2)), (vec![0], vec![]));
}

#[test]
fn only_the_tail_of_a_sender_leaves() {
    let bench = full_of(3);
    bench.add(Transfer::new(1, 0).tip(1)).expect("room");
    bench.add(Transfer::new(1, 1).tip(5)).expect("room");
    bench.add(Transfer::new(2, 0).tip(4)).expect("room");
    bench.add(Transfer::new(3, 0).tip(9)).expect("outbids the tail of 2");
    assert_eq!((bench.pending(1), bench.pending(2)), (vec![0, 1], vec![]));
    bench.add(Transfer::new(4, 0).tip(9)).expect("outbids the tail of 1");
    assert_eq!(bench.pending(1), [0]);
    bench.add(Transfer::new(5, 0).tip(9)).expect("outbids what is left of 1");
    assert_eq!(bench.pending(1), [0; 0]);
}

#[test]
fn a_senders_own_earlier_nonces_are_kept() {
    let bench = full_of(2);
    bench.add(Transfer::new(1, 0).tip(1)).expect("room");
    bench.add(Transfer::new(1, 1).tip(1)).expect("room");
    assert_eq!(bench.refusal(Transfer::new(1, 2).tip(9).build()), "txpool is full");
    bench.pool.remove(&Transfer::new(1, 0).tip(1).hash());
    bench.add(Transfer::new(1, 5).tip(9)).expect("room");
    // The gap closes at the cost of the sender's last nonce, whatever that pays.
    bench.add(Transfer::new(1, 0).tip(1)).expect("earlier nonces come first");
    assert_eq!((bench.pending(1), bench.queued(1)), (vec![0, 1], vec![]));
}

#[test]
fn the_future_never_replaces_the_present() {
    let bench = full_of(2);
    bench.add(Transfer::new(1, 0).tip(1)).expect("room");
    bench.add(Transfer::new(2, 0).tip(1)).expect("room");
    assert_eq!(
        bench.refusal(Transfer::new(3, 7).tip(9).build()),
        "future transaction tries to replace pending"
    );
    bench.pool.remove(&Transfer::new(2, 0).tip(1).hash());
    bench.add(Transfer::new(3, 7).tip(1)).expect("room");
    bench.add(Transfer::new(4, 7).tip(2)).expect("outbids another queued one");
    assert_eq!((bench.queued(3), bench.queued(4)), (vec![], vec![7]));
    bench
        .add(Transfer::new(5, 0).tip(2))
        .expect("what can run beats what cannot at the same price");
    assert_eq!((bench.queued(4), bench.pending(5), bench.pending(1)), (vec![7], vec![0], vec![]));
    bench
        .add(Transfer::new(6, 0).tip(2))
        .expect("what can run beats what cannot at the same price");
    assert_eq!((bench.queued(4), bench.pending(6)), (vec![], vec![0]));
}

#[test]
fn queued_transactions_have_their_own_limit() {
    let bench = Bench::with_limits(|limits| limits.queued_max = 2);
    bench.add(Transfer::new(1, 3).tip(2)).expect("room");
    bench.add(Transfer::new(2, 3).tip(3)).expect("room");
    assert_eq!(bench.refusal(Transfer::new(3, 3).tip(1).build()), "transaction underpriced");
    bench.add(Transfer::new(3, 0).tip(1)).expect("pending is not bounded by it");
    bench.add(Transfer::new(3, 2).tip(5)).expect("outbids");
    assert_eq!((bench.queued(1), bench.pool.status()), (vec![], (1, 2)));
}

#[test]
fn bytes_are_bounded_and_a_refusal_evicts_nothing() {
    let bench = Bench::with_limits(|limits| limits.bytes_max = 3000);
    for (sender, tip) in [(1, 1), (2, 5), (3, 2)] {
        bench.add(Transfer::new(sender, 0).data(800).tip(tip)).expect("room");
    }
    // Two would have to go, and it outbids only the cheaper one.
    assert_eq!(
        bench.refusal(Transfer::new(4, 0).data(1600).tip(2).build()),
        "transaction underpriced"
    );
    let added = bench.add(Transfer::new(4, 0).data(1600).tip(3)).expect("outbids both");
    assert_eq!(added.status, TxStatus::Pending);
    assert_eq!((bench.pending(1), bench.pending(2), bench.pending(3)), (vec![], vec![0], vec![]));
    assert!(bench.pool.bytes() <= 3000);
    assert_eq!(bench.refusal(Transfer::new(5, 0).data(4000).tip(9).build()), "txpool is full");
}

#[test]
fn a_larger_replacement_makes_room_for_itself() {
    let bench = Bench::with_limits(|limits| limits.bytes_max = 2000);
    bench.add(Transfer::new(1, 0).data(800).tip(3)).expect("room");
    bench.add(Transfer::new(2, 0).data(800).tip(2)).expect("room");
    bench.add(Transfer::new(1, 0).data(1600).tip(30)).expect("pays more");
    assert_eq!((bench.pending(1), bench.pending(2)), (vec![0], vec![]));
}

#[test]
fn one_transaction_pushes_out_a_bounded_number() {
    let bench = Bench::with_limits(|limits| limits.bytes_max = 120_000);
    let mut sender = 0;
    while bench.pool.bytes() < 119_800 {
        sender += 1;
        bench
            .pool
            .add(Transfer::new(sender, 0).build(), &bench.accounts, crate::Origin::External)
            .expect("room");
    }
    let before = bench.pool.len();
    assert_eq!(bench.refusal(Transfer::new(0, 0).data(60_000).tip(9).build()), "txpool is full");
    assert_eq!(bench.pool.len(), before);
    bench.add(Transfer::new(0, 0).data(10_000).tip(9)).expect("few enough have to go");
}

#[test]
fn the_order_of_eviction_follows_the_base_fee() {
    let bench = full_of(2);
    bench.add(Transfer::new(1, 0).fees(3 * GWEI, 3 * GWEI)).expect("room");
    bench.add(Transfer::new(2, 0).fees(50 * GWEI, GWEI)).expect("room");
    assert_eq!(
        bench.refusal(Transfer::new(3, 0).fees(50 * GWEI, GWEI / 2).build()),
        "transaction underpriced"
    );
    let mut dearer = super::rules();
    dearer.base_fee = 5 * super::BASE_FEE;
    bench.pool.on_new_head(dearer, [], &[]);
    bench.add(Transfer::new(3, 0).fees(50 * GWEI, GWEI / 2)).expect("1 can no longer run");
    assert_eq!((bench.pending(1), bench.pending(2), bench.pending(3)), (vec![], vec![0], vec![0]));
}

#[test]
fn a_flood_from_strangers_stays_within_the_limits() {
    let limits = PoolLimits { transactions_max: 500, queued_max: 200, ..Default::default() };
    let bench = Bench::with_limits(|given| *given = limits.clone());
    for n in 0..5000u64 {
        let tip = u128::from(n.wrapping_mul(2_654_435_761) % 1000 + 1);
        let transfer = Transfer::new(n % 1700, n % 5).tip_wei(tip);
        let _ = bench.pool.add(transfer.build(), &bench.accounts, crate::Origin::External);
    }
    bench.pool.check_books();
    assert_eq!(bench.pool.len(), 500);
    assert!(bench.pool.status().1 <= 200);
}
