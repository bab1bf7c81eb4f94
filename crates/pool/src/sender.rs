//! One sender's transactions in nonce order.

use std::{collections::BTreeMap, ops::RangeBounds, sync::Arc, time::Instant};

use alloy_primitives::{U256, U512};

use crate::PooledTx;

/// What the pool needs to know of an account at the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderState {
    /// The next nonce.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// Whether it has code other than an EIP-7702 delegation, and so cannot send (EIP-3607).
    pub has_non_delegation_code: bool,
}

/// What a change of a [`SenderQueue`] did.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Transactions that left.
    pub(crate) removed: Vec<Arc<PooledTx>>,
    /// Transactions that became pending, in nonce order.
    pub(crate) promoted: Vec<Arc<PooledTx>>,
}

/// The transactions of one sender.
///
/// Pending are the nonces `state.nonce..next_pending`, all of them present; queued is everything from there on, and
/// `next_pending` itself is absent. Nothing is below `state.nonce`.
#[derive(Debug)]
pub(crate) struct SenderQueue {
    state: SenderState,
    txs: BTreeMap<u64, Arc<PooledTx>>,
    next_pending: u64,
    /// Sum over the pending. 512 bits: each is at most 2^256 - 1, and there may be many.
    pending_cost: U512,
    /// No transaction here costs more than this. May be too high after removals; only scans make it exact.
    cost_max: U256,
    /// When something was last added or became pending: what the lifetime of the queued counts from.
    active: Instant,
}

impl SenderQueue {
    pub(crate) const fn new(state: SenderState, now: Instant) -> Self {
        Self {
            state,
            txs: BTreeMap::new(),
            next_pending: state.nonce,
            pending_cost: U512::ZERO,
            cost_max: U256::ZERO,
            active: now,
        }
    }

    pub(crate) const fn state(&self) -> SenderState {
        self.state
    }

    /// The nonce after the last pending one.
    pub(crate) const fn next_pending(&self) -> u64 {
        self.next_pending
    }

    pub(crate) const fn pending_cost(&self) -> U512 {
        self.pending_cost
    }

    pub(crate) const fn last_active(&self) -> Instant {
        self.active
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.txs.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.txs.len()
    }

    /// How many are pending and how many are queued.
    pub(crate) fn counts(&self) -> (usize, usize) {
        // Pending nonces are consecutive and present, so their number fits the map's length.
        let pending = (self.next_pending - self.state.nonce) as usize;
        (pending, self.txs.len() - pending)
    }

    pub(crate) fn get(&self, nonce: u64) -> Option<&Arc<PooledTx>> {
        self.txs.get(&nonce)
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = &Arc<PooledTx>> {
        self.txs.range(..self.next_pending).map(|(_, tx)| tx)
    }

    pub(crate) fn queued(&self) -> impl Iterator<Item = &Arc<PooledTx>> {
        self.txs.range(self.next_pending..).map(|(_, tx)| tx)
    }

    /// The transaction with the highest nonce within `nonces`.
    pub(crate) fn last_in(&self, nonces: impl RangeBounds<u64>) -> Option<&Arc<PooledTx>> {
        self.txs.range(nonces).next_back().map(|(_, tx)| tx)
    }

    /// Files `tx`, in place of one with the same nonce if there is one. Its nonce is not below the account's.
    pub(crate) fn insert(&mut self, tx: Arc<PooledTx>, now: Instant) -> Changes {
        let nonce = tx.nonce();
        debug_assert!(nonce >= self.state.nonce, "stale nonces are refused before they are filed");
        self.active = now;
        self.cost_max = self.cost_max.max(tx.cost());
        let mut changes = Changes::default();
        let cost = U512::from(tx.cost());
        let is_pending = nonce < self.next_pending;
        if is_pending {
            self.pending_cost += cost;
            changes.promoted.push(Arc::clone(&tx));
        }
        if let Some(old) = self.txs.insert(nonce, tx) {
            if is_pending {
                self.pending_cost -= U512::from(old.cost());
            }
            changes.removed.push(old);
        }
        self.promote(&mut changes);
        changes
    }

    /// Takes out `nonce`; what comes after it is queued from then on.
    pub(crate) fn remove(&mut self, nonce: u64) -> Changes {
        self.demote_from(nonce);
        Changes { removed: self.txs.remove(&nonce).into_iter().collect(), promoted: Vec::new() }
    }

    /// Takes out every transaction for which `drop` says so.
    pub(crate) fn remove_where(&mut self, mut drop: impl FnMut(&PooledTx) -> bool) -> Changes {
        let nonces: Vec<u64> =
            self.txs.iter().filter(|(_, tx)| drop(tx)).map(|(nonce, _)| *nonce).collect();
        let mut removed = Vec::with_capacity(nonces.len());
        if let Some(first) = nonces.first() {
            self.demote_from(*first);
        }
        for nonce in nonces {
            removed.extend(self.txs.remove(&nonce));
        }
        Changes { removed, promoted: Vec::new() }
    }

    /// Takes out everything.
    pub(crate) fn clear(&mut self) -> Changes {
        self.demote_from(self.state.nonce);
        Changes {
            removed: std::mem::take(&mut self.txs).into_values().collect(),
            promoted: Vec::new(),
        }
    }

    /// Follows the account to a new head: drops used nonces and what the balance no longer covers, promotes what has
    /// become executable. The cost is proportional to what changes, plus one scan if the balance has fallen below the
    /// dearest transaction.
    pub(crate) fn set_state(&mut self, state: SenderState, now: Instant) -> Changes {
        if state.has_non_delegation_code {
            let changes = self.clear();
            self.state = state;
            self.next_pending = state.nonce;
            return changes;
        }
        let mut changes = Changes::default();
        if state.nonce < self.state.nonce {
            // A reorganisation took transactions back; until they return, the ones here have a gap before them.
            self.demote_from(self.state.nonce);
            self.next_pending = state.nonce;
        }
        while let Some(entry) = self.txs.first_entry().filter(|entry| *entry.key() < state.nonce) {
            let (nonce, tx) = entry.remove_entry();
            if nonce < self.next_pending {
                self.pending_cost -= U512::from(tx.cost());
            }
            changes.removed.push(tx);
        }
        self.next_pending = self.next_pending.max(state.nonce);
        self.state = state;
        if self.cost_max > state.balance {
            let mut kept_max = U256::ZERO;
            let unpayable = self.remove_where(|tx| {
                let drop = tx.cost() > state.balance;
                if !drop {
                    kept_max = kept_max.max(tx.cost());
                }
                drop
            });
            self.cost_max = kept_max;
            changes.removed.extend(unpayable.removed);
        }
        self.promote(&mut changes);
        if !changes.promoted.is_empty() || !changes.removed.is_empty() {
            self.active = now;
        }
        changes
    }

    /// Moves the queued transactions that continue the pending ones over to them.
    fn promote(&mut self, changes: &mut Changes) {
        for (nonce, tx) in self.txs.range(self.next_pending..) {
            if *nonce != self.next_pending {
                break;
            }
            self.pending_cost += U512::from(tx.cost());
            // No overflow: the nonce 2^64 - 1 is refused (EIP-2681).
            self.next_pending += 1;
            changes.promoted.push(Arc::clone(tx));
        }
    }

    /// Makes `nonce` and everything after it queued.
    fn demote_from(&mut self, nonce: u64) {
        if nonce >= self.next_pending {
            return;
        }
        for (_, tx) in self.txs.range(nonce..self.next_pending) {
            self.pending_cost -= U512::from(tx.cost());
        }
        self.next_pending = nonce;
    }
}
