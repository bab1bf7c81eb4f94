//! Many threads.

use std::sync::{Arc, Barrier};

use super::{Accounts, Bench, Transfer, account, rich, rules};
use crate::{Origin, Pool, PoolLimits};

/// A permutation of `0..len` that differs by seed.
fn shuffled(len: u64, seed: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..len).collect();
    order.sort_by_key(|n| {
        (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03))
    });
    order
}

#[test]
fn random_nonce_order_from_many_threads_all_becomes_pending() {
    const THREADS: u64 = 8;
    const TXS: u64 = 500;
    // All threads share two senders, so that nearly every arrival is out of order.
    let bench = Bench::new();
    let barrier = Barrier::new(THREADS as usize);
    let order = shuffled(THREADS * TXS / 2, 7);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (bench, barrier, order) = (&bench, &barrier, &order);
            scope.spawn(move || {
                barrier.wait();
                let share = (TXS as usize) * (thread as usize / 2);
                for nonce in &order[share..share + TXS as usize] {
                    let tx = Transfer::new(thread % 2, *nonce).build();
                    bench.pool.add(tx, &bench.accounts, Origin::External).expect("valid");
                }
            });
        }
    });
    bench.pool.check_books();
    assert_eq!(bench.pool.status(), ((THREADS * TXS) as usize, 0));
}

#[test]
fn blocks_taken_while_threads_add_in_random_order_include_everything() {
    const SENDERS: u64 = 4;
    const TXS: u64 = 400;
    let pool = Arc::new(Pool::new(rules(), PoolLimits::default()));
    let accounts = Arc::new(Accounts::default());
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            for half in 0..2 {
                let (pool, accounts) = (Arc::clone(&pool), Arc::clone(&accounts));
                scope.spawn(move || {
                    for nonce in
                        shuffled(TXS, sender + 1).into_iter().filter(|nonce| nonce % 2 == half)
                    {
                        let tx = Transfer::new(sender, nonce).build();
                        pool.add(tx, &*accounts, Origin::External).expect("its nonce is not used");
                    }
                });
            }
        }
        let mut next = [0; SENDERS as usize];
        let mut mined = 0;
        let started = std::time::Instant::now();
        while mined < SENDERS * TXS {
            assert!(
                started.elapsed().as_secs() < 60,
                "lost transactions: {mined} mined, {:?} wait",
                pool.status()
            );
            let block: Vec<_> = pool.best(super::BASE_FEE, 1).take(50).collect();
            for tx in &block {
                let sender =
                    (0..SENDERS).find(|n| account(*n) == tx.sender()).expect("one of ours");
                assert_eq!(tx.nonce(), next[sender as usize], "nonce order");
                next[sender as usize] += 1;
            }
            mined += block.len() as u64;
            // The new head is readable before the pool hears of it.
            let states: Vec<_> = (0..SENDERS).map(|n| (n, rich(next[n as usize]))).collect();
            for (n, state) in &states {
                accounts.set(*n, *state);
            }
            let hashes: Vec<_> = block.iter().map(|tx| tx.hash()).collect();
            pool.on_new_head(
                rules(),
                states.into_iter().map(|(n, state)| (account(n), state)),
                &hashes,
            );
        }
    });
    pool.check_books();
    assert!(pool.is_empty());
}
