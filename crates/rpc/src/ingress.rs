//! The way into the pool of signed transactions that come many at once.
//!
//! Recovering a sender takes 30 µs and more, as long as everything else about a transfer together. A batch of a thousand
//! would hold a connection's thread, and all other clients on it, for that many times as long. So the transactions of a
//! batch are decoded and recovered on threads of their own, all of these at once, and filed in the order of the batch
//! under one lock of the pool. What the pool has already is refused before its sender is recovered, and who signed what
//! came lately is remembered.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy_consensus::transaction::{Recovered, SignerRecoverable};
use alloy_primitives::{Address, B256, Bytes};
use heddle_pool::{Origin, PoolError, PoolTransaction};
use lru::LruCache;
use parking_lot::Mutex;
use rayon::prelude::*;
use tokio::sync::oneshot;

use crate::{context::Context, errors::Failure, transactions};

/// Transactions that one thread takes at a time.
const CHUNK: usize = 16;
/// Whose signatures are remembered: 64 bytes each.
const SENDERS_KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("is not zero");

/// Recovers and files the transactions of batches.
#[derive(Debug)]
pub(crate) struct Ingress {
    threads: rayon::ThreadPool,
    /// Transactions that wait for it or are in it.
    inside: AtomicUsize,
    inside_max: usize,
    /// Senders by transaction hash.
    known: Mutex<LruCache<B256, Address>>,
}

/// Leaves when it is dropped, also if nobody waits for the answer any more.
struct Place {
    context: Arc<Context>,
    transactions: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Relaxed: a count that nothing else is ordered by.
        self.context.ingress.inside.fetch_sub(self.transactions, Ordering::Relaxed);
    }
}

impl Ingress {
    /// One thread for each core. The system shares these out among them, the executor's workers and the connections.
    pub(crate) fn new(inside_max: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("heddle-ingress-{index}"))
            // Without one, a panic would end the process. As it is, whoever waits for the answer is told.
            .panic_handler(|_| tracing::error!("taking in a batch of transactions panicked"))
            .build()?;
        let known = Mutex::new(LruCache::new(SENDERS_KNOWN_MAX));
        Ok(Self { threads, inside: AtomicUsize::new(0), inside_max, known })
    }
}

/// As so many calls of `eth_sendRawTransaction` one after the other; one answer for each, in order.
pub(crate) async fn send_raw_many(
    context: Arc<Context>,
    raw: Vec<Bytes>,
) -> Vec<Result<B256, Failure>> {
    let count = raw.len();
    let max = context.ingress.inside_max;
    // Relaxed: a count that nothing else is ordered by.
    let inside = context.ingress.inside.fetch_add(count, Ordering::Relaxed);
    let place = Place { context: context.clone(), transactions: count };
    if inside.saturating_add(count) > max {
        metrics::counter!("rpc_busy_total").increment(1);
        return vec![Err(Failure::IngressFull(max)); count];
    }
    let (reply, answer) = oneshot::channel();
    let arrival = context.miner.announce();
    context.ingress.threads.spawn(move || {
        let answers = take_in(&place.context, &raw);
        drop((arrival, place));
        // Nobody waiting for the answer any more is fine.
        let _ = reply.send(answers);
    });
    answer.await.unwrap_or_else(|_| {
        let failed = Failure::server("internal error; the node's log has the details");
        vec![Err(failed); count]
    })
}

/// On the threads of the ingress.
fn take_in(context: &Context, raw: &[Bytes]) -> Vec<Result<B256, Failure>> {
    let recovered: Vec<_> =
        raw.par_iter().with_min_len(CHUNK).map(|raw| recover(context, raw)).collect();
    let mut known = context.ingress.known.lock();
    for transaction in recovered.iter().flatten() {
        known.put(*transaction.inner().tx_hash(), transaction.signer());
    }
    drop(known);
    let mut transactions = Vec::with_capacity(raw.len());
    let mut answers: Vec<Result<B256, Failure>> = Vec::with_capacity(raw.len());
    let mut places = Vec::with_capacity(raw.len());
    for transaction in recovered {
        match transaction {
            Ok(transaction) => {
                places.push(answers.len());
                answers.push(Ok(B256::ZERO));
                transactions.push(transaction);
            }
            Err(failure) => answers.push(Err(failure)),
        }
    }
    let filed = context.miner.submit_many(transactions, Origin::Local);
    for (place, filed) in places.into_iter().zip(filed) {
        answers[place] = filed.map_err(Failure::from);
    }
    answers
}

fn recover(context: &Context, raw: &Bytes) -> Result<Recovered<PoolTransaction>, Failure> {
    let transaction = transactions::decode(context, raw)?;
    let hash = *transaction.tx_hash();
    if context.pool.contains(&hash) {
        return Err(PoolError::AlreadyKnown.into());
    }
    let known = context.ingress.known.lock().get(&hash).copied();
    let sender = match known {
        Some(sender) => sender,
        None => transaction.recover_signer_unchecked().map_err(|_| transactions::no_signature())?,
    };
    Ok(Recovered::new_unchecked(transaction, sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_on_its_threads_ends_neither_them_nor_the_process() {
        let ingress = Ingress::new(1).expect("threads start");
        for _ in 0..2 * ingress.threads.current_num_threads() {
            let (reply, answer) = oneshot::channel::<()>();
            ingress.threads.spawn(move || {
                let _reply = reply;
                panic!("on purpose");
            });
            assert!(answer.blocking_recv().is_err());
        }
        assert_eq!(ingress.threads.install(|| 1), 1);
    }
}
