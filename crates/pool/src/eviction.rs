//! Which transactions leave when the pool is full.
//!
//! Only a sender's *tail*, its highest nonce, may leave: without a lower nonce the higher ones would be worthless. The
//! index keeps the tails in order of price. It exists only once the pool has been full, and only for one base fee,
//! because the base fee decides the order; the first newcomer of a new head that finds the pool full builds it anew.

use std::{cmp::Reverse, collections::BTreeSet};

use alloy_primitives::{Address, map::HashMap};

use crate::{PoolError, PooledTx, limits::EVICTIONS_PER_ADD_MAX, sender::SenderQueue};

/// What a transaction is worth to a block builder, for comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Price {
    /// A fee cap below the base fee is worth less than any above it.
    executable: bool,
    /// The effective tip if executable, else the fee cap; in wei per gas.
    fee: u128,
}

impl Price {
    pub(crate) fn of(tx: &PooledTx, base_fee: u64) -> Self {
        match tx.effective_tip(base_fee) {
            Some(fee) => Self { executable: true, fee },
            None => Self { executable: false, fee: tx.max_fee() },
        }
    }
}

/// A tail in the order in which tails leave: the cheapest, the queued before the pending, the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tail {
    price: Price,
    is_pending: bool,
    sequence: Reverse<u64>,
    sender: Address,
    nonce: u64,
    has_blobs: bool,
}

impl Tail {
    fn of(tx: &PooledTx, queue: &SenderQueue, base_fee: u64) -> Self {
        Self {
            price: Price::of(tx, base_fee),
            is_pending: tx.nonce() < queue.next_pending(),
            sequence: Reverse(tx.sequence()),
            sender: tx.sender(),
            nonce: tx.nonce(),
            has_blobs: tx.transaction().is_eip4844(),
        }
    }
}

/// Which tails may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    All,
    Queued,
    Blobs,
}

/// How much has to become free.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    pub(crate) txs: usize,
    pub(crate) bytes: usize,
    pub(crate) blob_bytes: usize,
}

impl Need {
    const fn is_met(&self) -> bool {
        self.txs == 0 && self.bytes == 0 && self.blob_bytes == 0
    }

    fn reduce_by(&mut self, tx: &PooledTx) {
        self.txs = self.txs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(tx.encoded_length());
        self.blob_bytes = self.blob_bytes.saturating_sub(tx.blob_bytes());
    }
}

/// The transaction for which room is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer {
    pub(crate) sender: Address,
    pub(crate) nonce: u64,
    pub(crate) price: Price,
    pub(crate) is_pending: bool,
}

enum Verdict {
    Take,
    Skip,
    /// Neither this one nor any that comes after it.
    Stop,
}

impl Newcomer {
    fn judge(&self, tail: &Tail) -> Verdict {
        if tail.sender == self.sender {
            // Its own later nonces make way for it; its own earlier ones never.
            return if tail.nonce > self.nonce { Verdict::Take } else { Verdict::Skip };
        }
        if !self.is_pending && tail.is_pending {
            return Verdict::Skip;
        }
        let outbid = tail.price < self.price;
        let more_useful = self.is_pending && !tail.is_pending && tail.price == self.price;
        if outbid || more_useful { Verdict::Take } else { Verdict::Stop }
    }
}

/// The tails of all senders by price.
#[derive(Debug)]
pub(crate) struct EvictionIndex {
    base_fee: u64,
    by_sender: HashMap<Address, Tail>,
    all: BTreeSet<Tail>,
    queued: BTreeSet<Tail>,
    blobs: BTreeSet<Tail>,
}

impl EvictionIndex {
    pub(crate) fn build(senders: &HashMap<Address, SenderQueue>, base_fee: u64) -> Self {
        let mut index = Self {
            base_fee,
            by_sender: HashMap::default(),
            all: BTreeSet::new(),
            queued: BTreeSet::new(),
            blobs: BTreeSet::new(),
        };
        for (sender, queue) in senders {
            index.update(*sender, Some(queue));
        }
        index
    }

    pub(crate) const fn base_fee(&self) -> u64 {
        self.base_fee
    }

    /// Brings the entry of `sender` up to date.
    pub(crate) fn update(&mut self, sender: Address, queue: Option<&SenderQueue>) {
        let tail =
            queue.and_then(|queue| queue.last_in(..).map(|tx| Tail::of(tx, queue, self.base_fee)));
        let old = match tail {
            Some(tail) => self.by_sender.insert(sender, tail),
            None => self.by_sender.remove(&sender),
        };
        if old == tail {
            return;
        }
        if let Some(old) = old {
            self.all.remove(&old);
            self.queued.remove(&old);
            self.blobs.remove(&old);
        }
        if let Some(tail) = tail {
            self.all.insert(tail);
            if !tail.is_pending {
                self.queued.insert(tail);
            }
            if tail.has_blobs {
                self.blobs.insert(tail);
            }
        }
    }

    /// Chooses what leaves so that `newcomer` fits: the cheapest tails, each cheaper than it. Changes nothing.
    ///
    /// # Errors
    /// [`PoolError::Underpriced`] if the newcomer does not outbid enough of them, [`PoolError::PoolFull`] if there are
    /// not enough, or too many would have to go.
    pub(crate) fn choose(
        &self,
        senders: &HashMap<Address, SenderQueue>,
        newcomer: &Newcomer,
        among: Among,
        mut need: Need,
    ) -> Result<Vec<(Address, u64)>, PoolError> {
        let mut indexed = match among {
            Among::All => self.all.iter(),
            Among::Queued => self.queued.iter(),
            Among::Blobs => self.blobs.iter(),
        }
        .peekable();
        // Tails that appear when the ones above them are chosen.
        let mut exposed: BTreeSet<Tail> = BTreeSet::new();
        let mut chosen = Vec::new();
        while !need.is_met() {
            let from_index = match (indexed.peek(), exposed.first()) {
                (Some(tail), Some(other)) => *tail < other,
                (tail, _) => tail.is_some(),
            };
            let tail = if from_index { indexed.next().copied() } else { exposed.pop_first() };
            let Some(tail) = tail.filter(|_| chosen.len() < EVICTIONS_PER_ADD_MAX) else {
                return Err(PoolError::PoolFull);
            };
            match newcomer.judge(&tail) {
                Verdict::Stop => return Err(PoolError::Underpriced),
                Verdict::Skip => continue,
                Verdict::Take => {}
            }
            let Some(queue) = senders.get(&tail.sender) else {
                continue;
            };
            let Some(tx) = queue.get(tail.nonce) else {
                continue;
            };
            need.reduce_by(tx);
            chosen.push((tail.sender, tail.nonce));
            if let Some(next) = queue.last_in(..tail.nonce) {
                let next = Tail::of(next, queue, self.base_fee);
                let eligible = match among {
                    Among::All => true,
                    Among::Queued => !next.is_pending,
                    Among::Blobs => next.has_blobs,
                };
                if eligible {
                    exposed.insert(next);
                }
            }
        }
        Ok(chosen)
    }

    /// Whether it is what a fresh build would give.
    #[cfg(test)]
    pub(crate) fn is_consistent_with(&self, senders: &HashMap<Address, SenderQueue>) -> bool {
        let fresh = Self::build(senders, self.base_fee);
        let ours: HashMap<_, _> = self.by_sender.iter().collect();
        let theirs: HashMap<_, _> = fresh.by_sender.iter().collect();
        ours == theirs
            && self.all == fresh.all
            && self.queued == fresh.queued
            && self.blobs == fresh.blobs
    }
}
