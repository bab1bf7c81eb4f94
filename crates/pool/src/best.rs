//! Pending transactions in the order a block builder wants them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    sync::Arc,
};

use alloy_primitives::{Address, map::HashSet};

use crate::{PooledTx, sender::SenderQueue};

/// The best executable transactions first: by effective tip descending, then by arrival, each sender's in nonce order.
///
/// A snapshot: what happens in the pool meanwhile does not show. Building it copies one pointer a transaction; the
/// order is found as it is read, in O(log senders) a transaction.
#[derive(Debug)]
pub struct BestTransactions {
    base_fee: u64,
    /// Sender after sender, each in nonce order.
    txs: Vec<Arc<PooledTx>>,
    /// For each sender that is not exhausted, its next transaction.
    heads: BinaryHeap<Head>,
    invalid: HashSet<Address>,
}

/// Greatest first: highest tip, then lowest sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    tip: u128,
    sequence: Reverse<u64>,
    index: usize,
    /// One past the sender's last transaction.
    end: usize,
}

impl Head {
    fn new(txs: &[Arc<PooledTx>], index: usize, end: usize, base_fee: u64) -> Self {
        // Only executable transactions are in the snapshot, so the tip is there.
        let tip = txs[index].effective_tip(base_fee).unwrap_or(0);
        Self { tip, sequence: Reverse(txs[index].sequence()), index, end }
    }
}

impl BestTransactions {
    pub(crate) fn new<'a>(
        senders: impl Iterator<Item = &'a SenderQueue>,
        pending: usize,
        base_fee: u64,
        blob_base_fee: u128,
    ) -> Self {
        let mut txs: Vec<Arc<PooledTx>> = Vec::with_capacity(pending);
        let mut heads = Vec::new();
        for queue in senders {
            let start = txs.len();
            txs.extend(
                queue
                    .pending()
                    .take_while(|tx| tx.is_executable_at(base_fee, blob_base_fee))
                    .cloned(),
            );
            if txs.len() > start {
                heads.push(Head::new(&txs, start, txs.len(), base_fee));
            }
        }
        Self { base_fee, txs, heads: heads.into(), invalid: HashSet::default() }
    }

    /// Leaves out what the sender of `tx` has after it: `tx` could not be executed, so nor can they.
    pub fn mark_invalid(&mut self, tx: &PooledTx) {
        self.invalid.insert(tx.sender());
    }
}

impl Iterator for BestTransactions {
    type Item = Arc<PooledTx>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut head = self.heads.peek_mut()?;
            let tx = &self.txs[head.index];
            if !self.invalid.is_empty() && self.invalid.contains(&tx.sender()) {
                PeekMut::pop(head);
                continue;
            }
            let next = head.index + 1;
            if next < head.end {
                // Replaced in place: one sift instead of a pop and a push.
                *head = Head::new(&self.txs, next, head.end, self.base_fee);
            } else {
                PeekMut::pop(head);
            }
            return Some(Arc::clone(tx));
        }
    }
}
