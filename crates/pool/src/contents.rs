//! What is in the pool, behind its lock: every change of the set goes through here, and the counts stay right.

use std::{sync::Arc, time::Instant};

use alloy_primitives::{
    Address, TxHash, U512,
    map::{HashMap, HashSet},
};

use crate::{
    Added, Origin, Overdraft, PoolError, PoolLimits, PoolRules, PooledTx, SenderState, TxStatus,
    eviction::{Among, EvictionIndex, Need, Newcomer, Price},
    sender::{Changes, SenderQueue},
    validate::check_rules,
};

/// The pool's state. The counts are sums over `senders`.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) rules: Arc<PoolRules>,
    /// Counts heads, so that whoever read state or rules without the lock can see that they are stale.
    pub(crate) epoch: u64,
    limits: PoolLimits,
    by_hash: HashMap<TxHash, Arc<PooledTx>>,
    senders: HashMap<Address, SenderQueue>,
    pending: usize,
    queued: usize,
    bytes: usize,
    blob_bytes: usize,
    next_sequence: u64,
    /// No transaction here has a higher gas limit. May be too high; only a sweep makes it exact.
    gas_limit_max: u64,
    eviction: Option<EvictionIndex>,
    /// Became pending for the first time and not yet told to subscribers, in order.
    announcements: Vec<Arc<PooledTx>>,
    evicted: u64,
}

impl Contents {
    pub(crate) fn new(rules: PoolRules, limits: PoolLimits) -> Self {
        Self {
            rules: Arc::new(rules),
            epoch: 0,
            limits,
            by_hash: HashMap::default(),
            senders: HashMap::default(),
            pending: 0,
            queued: 0,
            bytes: 0,
            blob_bytes: 0,
            next_sequence: 0,
            gas_limit_max: 0,
            eviction: None,
            announcements: Vec::new(),
            evicted: 0,
        }
    }

    pub(crate) fn get(&self, hash: &TxHash) -> Option<&Arc<PooledTx>> {
        self.by_hash.get(hash)
    }

    pub(crate) fn sender(&self, address: &Address) -> Option<&SenderQueue> {
        self.senders.get(address)
    }

    pub(crate) const fn senders(&self) -> &HashMap<Address, SenderQueue> {
        &self.senders
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many are pending and how many are queued.
    pub(crate) const fn counts(&self) -> (usize, usize) {
        (self.pending, self.queued)
    }

    pub(crate) fn take_announcements(&mut self) -> Vec<Arc<PooledTx>> {
        std::mem::take(&mut self.announcements)
    }

    /// How many were pushed out since the last call.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Files `tx`, which has passed the checks that need no state. `state` is the sender's account at the head; it
    /// counts only if the sender has nothing here, because a sender's state is followed from head to head.
    pub(crate) fn admit(
        &mut self,
        mut tx: PooledTx,
        state: SenderState,
    ) -> Result<Added, PoolError> {
        if self.by_hash.contains_key(&tx.hash()) {
            return Err(PoolError::AlreadyKnown);
        }
        let (hash, sender, nonce) = (tx.hash(), tx.sender(), tx.nonce());
        let state = self.senders.get(&sender).map_or(state, SenderQueue::state);
        self.check_state(&tx, state)?;
        self.make_room(&tx, state)?;

        tx.sequence = self.next_sequence;
        self.next_sequence += 1;
        self.gas_limit_max = self.gas_limit_max.max(tx.gas_limit());
        self.bytes += tx.encoded_length();
        self.blob_bytes += tx.blob_bytes();
        let now = tx.arrived();
        let tx = Arc::new(tx);
        self.by_hash.insert(hash, Arc::clone(&tx));
        // Looked up anew: making room may have emptied and dropped the sender's entry.
        self.senders.entry(sender).or_insert_with(|| SenderQueue::new(state, now));
        let replaced =
            self.change(sender, |queue| queue.insert(tx, now)).first().map(|old| old.hash());
        Ok(Added { hash, replaced, status: self.status_at(sender, nonce) })
    }

    /// Takes out one transaction; later nonces of its sender become queued.
    pub(crate) fn remove(&mut self, hash: &TxHash) -> Option<Arc<PooledTx>> {
        let (sender, nonce) = self.by_hash.get(hash).map(|tx| (tx.sender(), tx.nonce()))?;
        self.change(sender, |queue| queue.remove(nonce)).pop()
    }

    pub(crate) fn remove_sender(&mut self, sender: Address) -> Vec<Arc<PooledTx>> {
        self.change(sender, SenderQueue::clear)
    }

    pub(crate) fn clear(&mut self) {
        self.by_hash.clear();
        self.senders.clear();
        self.announcements.clear();
        (self.pending, self.queued, self.bytes, self.blob_bytes, self.gas_limit_max) =
            (0, 0, 0, 0, 0);
        self.eviction = None;
    }

    /// Drops the queued transactions of senders where nothing has moved for the lifetime.
    pub(crate) fn drop_expired(&mut self, now: Instant) -> usize {
        let expired: Vec<Address> = self
            .senders
            .iter()
            .filter(|(_, queue)| {
                queue.counts().1 > 0
                    && now.saturating_duration_since(queue.last_active())
                        > self.limits.queued_lifetime
            })
            .map(|(sender, _)| *sender)
            .collect();
        let mut dropped = 0;
        for sender in expired {
            dropped += self
                .change(sender, |queue| {
                    let first = queue.next_pending();
                    queue.remove_where(|tx| tx.nonce() >= first)
                })
                .len();
        }
        dropped
    }

    /// Follows the chain to a new head.
    pub(crate) fn set_head(
        &mut self,
        rules: PoolRules,
        changed: impl IntoIterator<Item = (Address, SenderState)>,
        mined: &[TxHash],
        now: Instant,
    ) {
        self.epoch += 1;
        if self.eviction.as_ref().is_some_and(|index| index.base_fee() != rules.base_fee) {
            self.eviction = None;
        }
        let old_rules = std::mem::replace(&mut self.rules, Arc::new(rules));

        let mut given: HashSet<Address> = HashSet::default();
        for (sender, state) in changed {
            if self.senders.contains_key(&sender) {
                given.insert(sender);
                self.change(sender, |queue| queue.set_state(state, now));
            }
        }
        self.drop_mined(mined, &given, now);
        if self.is_stricter_than(&old_rules) {
            self.sweep();
        }
    }

    /// Takes the state of every sender anew, for when the chain jumped and nobody can say what changed.
    pub(crate) fn set_all_states(&mut self, states: HashMap<Address, SenderState>, now: Instant) {
        for (sender, state) in states {
            self.change(sender, |queue| queue.set_state(state, now));
        }
    }

    /// Takes out what was mined. A sender whose new state was not given has at least used that nonce.
    fn drop_mined(&mut self, mined: &[TxHash], given: &HashSet<Address>, now: Instant) {
        let mut next_nonces: HashMap<Address, u64> = HashMap::default();
        for tx in mined.iter().filter_map(|hash| self.by_hash.get(hash)) {
            let next = next_nonces.entry(tx.sender()).or_default();
            *next = (*next).max(tx.nonce().saturating_add(1));
        }
        for (sender, nonce) in next_nonces {
            if given.contains(&sender) {
                continue;
            }
            self.change(sender, |queue| {
                let state = queue.state();
                queue.set_state(SenderState { nonce: state.nonce.max(nonce), ..state }, now)
            });
        }
        for hash in mined {
            self.remove(hash);
        }
    }

    /// Whether something in the pool may have stopped to be valid through the rules alone.
    fn is_stricter_than(&self, old: &PoolRules) -> bool {
        let rules = &self.rules;
        rules.gas_limit_max() < self.gas_limit_max
            || rules.fork != old.fork
            || rules.chain_id != old.chain_id
            || rules.blobs_max() < old.blobs_max()
            || rules.max_initcode_bytes < old.max_initcode_bytes
    }

    /// Checks everything against the rules. Costs the whole pool, but only forks and falling limits need it.
    fn sweep(&mut self) {
        let rules = Arc::clone(&self.rules);
        let senders: Vec<Address> = self.senders.keys().copied().collect();
        let mut gas_limit_max = 0;
        for sender in senders {
            self.change(sender, |queue| {
                queue.remove_where(|tx| {
                    // Local: the lowest tip is a rule for newcomers.
                    let drop = check_rules(tx, &rules, Origin::Local).is_err();
                    if !drop {
                        gas_limit_max = gas_limit_max.max(tx.gas_limit());
                    }
                    drop
                })
            });
        }
        self.gas_limit_max = gas_limit_max;
    }

    fn check_state(&self, tx: &PooledTx, state: SenderState) -> Result<(), PoolError> {
        if state.has_non_delegation_code {
            return Err(PoolError::SenderNotEoa(tx.sender()));
        }
        if tx.nonce() < state.nonce {
            return Err(PoolError::NonceTooLow { next: state.nonce, nonce: tx.nonce() });
        }
        if tx.cost() > state.balance {
            return Err(PoolError::InsufficientFunds { balance: state.balance, cost: tx.cost() });
        }
        let Some(queue) = self.senders.get(&tx.sender()) else {
            return Ok(());
        };
        let existing = queue.get(tx.nonce());
        check_total_cost(tx, state, queue)?;
        match existing {
            Some(old) if !tx.may_replace(old) => Err(PoolError::ReplacementUnderpriced),
            None if queue.len() >= self.limits.per_sender_max => {
                Err(PoolError::AccountLimitExceeded { pooled: queue.len() })
            }
            _ => Ok(()),
        }
    }

    /// Pushes out cheaper transactions until `tx` fits, or says why not. What a single limit asks for is chosen as a
    /// whole before anything leaves.
    fn make_room(&mut self, tx: &PooledTx, state: SenderState) -> Result<(), PoolError> {
        let queue = self.senders.get(&tx.sender());
        let old = queue.and_then(|queue| queue.get(tx.nonce()));
        let newcomer = Newcomer {
            sender: tx.sender(),
            nonce: tx.nonce(),
            price: Price::of(tx, self.rules.base_fee),
            is_pending: tx.nonce() <= queue.map_or(state.nonce, SenderQueue::next_pending),
        };
        let new_txs = usize::from(old.is_none());
        let old_bytes = old.map_or(0, |old| old.encoded_length());
        let old_blob_bytes = old.map_or(0, |old| old.blob_bytes());
        let blob_bytes = (self.blob_bytes + tx.blob_bytes()).saturating_sub(old_blob_bytes);

        if !newcomer.is_pending && new_txs > 0 && self.queued >= self.limits.queued_max {
            self.evict(&newcomer, Among::Queued, Need { txs: 1, ..Need::default() })?;
        }
        let blob_bytes = blob_bytes.saturating_sub(self.limits.blob_bytes_max);
        if blob_bytes > 0 && tx.blob_bytes() > 0 {
            self.evict(&newcomer, Among::Blobs, Need { blob_bytes, ..Need::default() })?;
        }
        let need = Need {
            txs: (self.len() + new_txs).saturating_sub(self.limits.transactions_max),
            bytes: (self.bytes + tx.encoded_length())
                .saturating_sub(old_bytes + self.limits.bytes_max),
            blob_bytes: 0,
        };
        if need.txs == 0 && need.bytes == 0 {
            return Ok(());
        }
        if newcomer.is_pending {
            return self.evict(&newcomer, Among::All, need);
        }
        self.evict(&newcomer, Among::Queued, need).map_err(|error| match error {
            PoolError::PoolFull if self.pending > 0 => PoolError::FutureReplacesPending,
            error => error,
        })
    }

    fn evict(&mut self, newcomer: &Newcomer, among: Among, need: Need) -> Result<(), PoolError> {
        let index = self
            .eviction
            .get_or_insert_with(|| EvictionIndex::build(&self.senders, self.rules.base_fee));
        let victims = index.choose(&self.senders, newcomer, among, need)?;
        for (sender, nonce) in victims {
            self.evicted += self.change(sender, |queue| queue.remove(nonce)).len() as u64;
        }
        Ok(())
    }

    /// Applies a change to one sender's queue and brings everything else in line. Returns what left.
    fn change(
        &mut self,
        sender: Address,
        change: impl FnOnce(&mut SenderQueue) -> Changes,
    ) -> Vec<Arc<PooledTx>> {
        let Some(queue) = self.senders.get_mut(&sender) else {
            return Vec::new();
        };
        let before = queue.counts();
        let Changes { removed, promoted } = change(queue);
        let after = queue.counts();
        self.pending = self.pending + after.0 - before.0;
        self.queued = self.queued + after.1 - before.1;
        for tx in &removed {
            self.by_hash.remove(&tx.hash());
            self.bytes -= tx.encoded_length();
            self.blob_bytes -= tx.blob_bytes();
        }
        self.announcements.extend(promoted.into_iter().filter(|tx| tx.announce()));
        if queue.is_empty() {
            self.senders.remove(&sender);
        }
        if let Some(index) = &mut self.eviction {
            index.update(sender, self.senders.get(&sender));
        }
        removed
    }

    pub(crate) fn status_at(&self, sender: Address, nonce: u64) -> TxStatus {
        match self.senders.get(&sender) {
            Some(queue) if nonce < queue.next_pending() => TxStatus::Pending,
            _ => TxStatus::Queued,
        }
    }
}

/// The balance has to cover the sender's pending transactions and this one together.
fn check_total_cost(
    tx: &PooledTx,
    state: SenderState,
    queue: &SenderQueue,
) -> Result<(), PoolError> {
    let balance = U512::from(state.balance);
    let queued = queue.pending_cost();
    let cost = U512::from(tx.cost());
    let replaced = queue.get(tx.nonce()).filter(|old| old.nonce() < queue.next_pending());
    let need = queued + cost - replaced.map_or(U512::ZERO, |old| U512::from(old.cost()));
    if need <= balance {
        return Ok(());
    }
    let overdraft = |added| {
        Box::new(Overdraft { balance: state.balance, queued, added, overshot: need - balance })
    };
    Err(match replaced {
        // Not below zero: the sender's total exceeds its balance already if a cheaper one does not fit.
        Some(old) => {
            PoolError::InsufficientFundsForBump(overdraft(tx.cost().saturating_sub(old.cost())))
        }
        None => PoolError::InsufficientFundsForAll(overdraft(tx.cost())),
    })
}

#[cfg(test)]
impl Contents {
    /// Recounts everything. Panics where the books do not agree.
    pub(crate) fn check(&self) {
        let (mut pending, mut queued, mut bytes, mut blob_bytes) = (0, 0, 0, 0);
        for (sender, queue) in &self.senders {
            assert!(!queue.is_empty(), "a sender without transactions has no entry");
            let state = queue.state();
            let mut cost = U512::ZERO;
            let mut expected = state.nonce;
            for tx in queue.pending() {
                assert_eq!(tx.nonce(), expected, "pending nonces have no hole");
                expected += 1;
                cost += U512::from(tx.cost());
                pending += 1;
            }
            assert_eq!(queue.next_pending(), expected);
            assert_eq!(queue.pending_cost(), cost);
            for tx in queue.queued() {
                assert!(tx.nonce() > expected, "a transaction that can run is pending");
                queued += 1;
            }
            for tx in queue.pending().chain(queue.queued()) {
                assert_eq!(tx.sender(), *sender);
                assert!(tx.cost() <= state.balance, "each is payable");
                bytes += tx.encoded_length();
                blob_bytes += tx.blob_bytes();
                assert!(self.by_hash.get(&tx.hash()).is_some_and(|other| Arc::ptr_eq(tx, other)));
            }
        }
        assert_eq!((pending, queued), (self.pending, self.queued));
        assert_eq!((bytes, blob_bytes), (self.bytes, self.blob_bytes));
        assert_eq!(self.by_hash.len(), pending + queued);
        assert!(self.len() <= self.limits.transactions_max);
        assert!(self.bytes <= self.limits.bytes_max);
        assert!(self.blob_bytes <= self.limits.blob_bytes_max);
        if let Some(index) = &self.eviction {
            assert!(
                index.is_consistent_with(&self.senders),
                "the eviction index follows every change"
            );
        }
    }
}
