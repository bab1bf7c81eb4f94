//! The pool as others see it.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use alloy_consensus::transaction::Recovered;
use alloy_primitives::{Address, TxHash, map::HashMap};
use parking_lot::RwLock;
use tokio::sync::{Notify, broadcast};

use crate::{
    BestTransactions, PoolError, PoolLimits, PoolRules, PoolTransaction, PooledTx, SenderState,
    StateError,
    contents::Contents,
    limits::PENDING_EVENTS_CAPACITY,
    validate::{check_blob_proofs, check_rules},
};

/// How often an account is read again because the head moved meanwhile, before the caller is told.
const HEAD_RACES_MAX: usize = 64;

/// Reads accounts at the current head.
///
/// An implementation answers for the head **at the time of the call**, not for a snapshot taken earlier; and a new head
/// is readable before [`Pool::on_new_head`] is called for it. Together these keep a transaction from being filed by a
/// nonce that is already used, whatever the threads do. The pool never calls it with its lock held.
pub trait AccountReader {
    /// The account at the head; the default for one that does not exist.
    ///
    /// # Errors
    /// If the state cannot be read.
    fn account(&self, address: Address) -> Result<SenderState, StateError>;
}

impl<F: Fn(Address) -> Result<SenderState, StateError>> AccountReader for F {
    fn account(&self, address: Address) -> Result<SenderState, StateError> {
        self(address)
    }
}

/// Where a transaction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From this node's own user, or back from a block that left the chain. The lowest tip does not apply.
    Local,
    /// From anyone else.
    External,
}

/// Whether a transaction can run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// All earlier nonces of its sender are used or pending.
    Pending,
    /// An earlier nonce is missing.
    Queued,
}

/// A transaction was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Its hash.
    pub hash: TxHash,
    /// The transaction of the same sender and nonce whose place it took.
    pub replaced: Option<TxHash>,
    /// Whether it can run now.
    pub status: TxStatus,
}

/// The transactions of one sender, in nonce order.
#[derive(Clone, Debug, Default)]
pub struct SenderContent {
    /// Executable now.
    pub pending: Vec<Arc<PooledTx>>,
    /// Waiting for an earlier nonce.
    pub queued: Vec<Arc<PooledTx>>,
}

/// Transactions waiting for a block. Share it as `Arc<Pool>`; every method takes `&self`.
///
/// One lock guards the contents. Nothing slow happens under it: signatures are recovered before, blob proofs are
/// verified before, and accounts are read before; what a new head has overtaken is read again.
#[derive(Debug)]
pub struct Pool {
    contents: RwLock<Contents>,
    /// Sent to while the write lock is held, so that subscribers see the order of acceptance.
    events: broadcast::Sender<Arc<PooledTx>>,
    signal: Arc<Notify>,
}

impl Pool {
    /// An empty pool for the block after the current head.
    pub fn new(rules: PoolRules, limits: PoolLimits) -> Self {
        Self {
            contents: RwLock::new(Contents::new(rules, limits)),
            events: broadcast::Sender::new(PENDING_EVENTS_CAPACITY),
            signal: Arc::new(Notify::new()),
        }
    }

    /// The rules of the next block.
    pub fn rules(&self) -> Arc<PoolRules> {
        Arc::clone(&self.contents.read().rules)
    }

    /// Checks a transaction and files it.
    ///
    /// # Errors
    /// The reason why it was refused.
    pub fn add(
        &self,
        transaction: Recovered<PoolTransaction>,
        accounts: &dyn AccountReader,
        origin: Origin,
    ) -> Result<Added, PoolError> {
        let mut results = self.add_many(vec![transaction], accounts, origin);
        results
            .pop()
            .unwrap_or_else(|| Err(StateError("no result for the transaction".into()).into()))
    }

    /// Checks transactions and files them in the order given, under one lock. One result for each.
    pub fn add_many(
        &self,
        transactions: Vec<Recovered<PoolTransaction>>,
        accounts: &dyn AccountReader,
        origin: Origin,
    ) -> Vec<Result<Added, PoolError>> {
        let arrived = Instant::now();
        let (rules, rules_epoch) = {
            let contents = self.contents.read();
            (Arc::clone(&contents.rules), contents.epoch)
        };
        let checked: Vec<Result<PooledTx, PoolError>> =
            transactions.into_iter().map(|tx| self.check(tx, &rules, origin, arrived)).collect();

        let states = self.read_unknown(checked.iter().flatten().map(PooledTx::sender), accounts);
        let check = Recheck { rules_epoch, origin };
        let filed: Vec<Filed> = self.write(|contents| {
            let file = |tx| match tx {
                Ok(tx) => file(contents, tx, &states, check),
                Err(error) => Filed::Done(Err(error)),
            };
            checked.into_iter().map(file).collect()
        });
        let results = filed.into_iter().map(|filed| match filed {
            Filed::Done(result) => result,
            Filed::Overtaken(tx) => self.file_alone(*tx, accounts, check),
        });
        let results: Vec<_> = results.collect();
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            metrics::counter!("pool_rejected_transactions_total", "reason" => error.reason())
                .increment(1);
        }
        results
    }

    /// Puts the transactions of a block that left the chain back. Call it after [`Pool::on_new_head`] for the new
    /// chain. One result for each; those that the new chain includes too are refused, which is no fault.
    pub fn reinject(
        &self,
        transactions: Vec<Recovered<PoolTransaction>>,
        accounts: &dyn AccountReader,
    ) -> Vec<Result<Added, PoolError>> {
        self.add_many(transactions, accounts, Origin::Local)
    }

    /// Follows the chain to a new head.
    ///
    /// `rules` are those of the block after it; `changed` names every account whose nonce, balance or code is not what
    /// it was at the last head the pool heard of, whether or not it has transactions here; `mined` are the hashes of
    /// the transactions in the new blocks. The cost is proportional to `changed` and `mined`, not to the pool, except
    /// where a fork or a lower limit makes a check of everything necessary.
    pub fn on_new_head(
        &self,
        rules: PoolRules,
        changed: impl IntoIterator<Item = (Address, SenderState)>,
        mined: &[TxHash],
    ) {
        let now = Instant::now();
        self.write(|contents| contents.set_head(rules, changed, mined, now));
    }

    /// Follows the chain to a head of which nobody can say what changed (a snapshot restored, state edited by hand):
    /// reads every sender's account.
    ///
    /// # Errors
    /// If an account cannot be read, or the head keeps moving meanwhile; the senders' states are then as before, only
    /// the rules are new.
    pub fn on_state_replaced(
        &self,
        rules: PoolRules,
        accounts: &dyn AccountReader,
    ) -> Result<(), StateError> {
        let now = Instant::now();
        self.write(|contents| contents.set_head(rules, [], &[], now));
        for _ in 0..HEAD_RACES_MAX {
            let (senders, epoch): (Vec<Address>, u64) = {
                let contents = self.contents.read();
                (contents.senders().keys().copied().collect(), contents.epoch)
            };
            let states = senders
                .into_iter()
                .map(|sender| Ok((sender, accounts.account(sender)?)))
                .collect::<Result<HashMap<_, _>, StateError>>()?;
            let is_current = self.write(|contents| {
                let is_current = contents.epoch == epoch;
                if is_current {
                    contents.set_all_states(states, now);
                }
                is_current
            });
            if is_current {
                return Ok(());
            }
        }
        Err(head_races())
    }

    /// The pending transactions that a block with these fees could include, best first.
    pub fn best(&self, base_fee: u64, blob_base_fee: u128) -> BestTransactions {
        let contents = self.contents.read();
        BestTransactions::new(
            contents.senders().values(),
            contents.counts().0,
            base_fee,
            blob_base_fee,
        )
    }

    /// The nonce after the sender's pending transactions, which is what its next transaction should use; `None` if
    /// the sender has nothing here.
    pub fn pending_nonce(&self, address: Address) -> Option<u64> {
        self.contents.read().sender(&address).map(|queue| queue.next_pending())
    }

    /// The transaction with this hash.
    pub fn get(&self, hash: &TxHash) -> Option<Arc<PooledTx>> {
        self.contents.read().get(hash).cloned()
    }

    /// Whether the transaction is here.
    pub fn contains(&self, hash: &TxHash) -> bool {
        self.contents.read().get(hash).is_some()
    }

    /// Whether the transaction is here, and if it can run.
    pub fn status_of(&self, hash: &TxHash) -> Option<TxStatus> {
        let contents = self.contents.read();
        contents.get(hash).map(|tx| contents.status_at(tx.sender(), tx.nonce()))
    }

    /// Takes a transaction out; later nonces of its sender become queued.
    pub fn remove(&self, hash: &TxHash) -> Option<Arc<PooledTx>> {
        self.write(|contents| contents.remove(hash))
    }

    /// Takes out everything of a sender.
    pub fn remove_sender(&self, address: Address) -> Vec<Arc<PooledTx>> {
        self.write(|contents| contents.remove_sender(address))
    }

    /// Takes out everything.
    pub fn clear(&self) {
        self.write(Contents::clear);
    }

    /// Drops queued transactions of senders where nothing was added or became pending for
    /// [`PoolLimits::queued_lifetime`]. Returns how many. Looks at every sender: call it once a minute, not once a
    /// block.
    pub fn drop_expired(&self, now: Instant) -> usize {
        self.write(|contents| contents.drop_expired(now))
    }

    /// How many transactions are pending and how many are queued.
    pub fn status(&self) -> (usize, usize) {
        self.contents.read().counts()
    }

    /// How many transactions are here.
    pub fn len(&self) -> usize {
        self.contents.read().len()
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Encoded bytes in total, sidecars included.
    pub fn bytes(&self) -> usize {
        self.contents.read().bytes()
    }

    /// Everything, by sender.
    pub fn content(&self) -> BTreeMap<Address, SenderContent> {
        let contents = self.contents.read();
        contents
            .senders()
            .iter()
            .map(|(sender, queue)| (*sender, SenderContent::of(queue)))
            .collect()
    }

    /// Everything of one sender.
    pub fn content_from(&self, address: Address) -> SenderContent {
        self.contents.read().sender(&address).map(SenderContent::of).unwrap_or_default()
    }

    /// Every transaction from now on that becomes pending, once, in order. A subscriber that falls more than
    /// [`PENDING_EVENTS_CAPACITY`] behind is told how many it missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<PooledTx>> {
        self.events.subscribe()
    }

    /// Wakes **one** waiter, the block builder, whenever transactions became pending. A wake-up while nobody waits is
    /// kept for the next wait.
    pub fn pending_signal(&self) -> Arc<Notify> {
        Arc::clone(&self.signal)
    }

    /// The checks that need neither state nor the lock.
    fn check(
        &self,
        transaction: Recovered<PoolTransaction>,
        rules: &PoolRules,
        origin: Origin,
        arrived: Instant,
    ) -> Result<PooledTx, PoolError> {
        // Repeating a known blob transaction must not cost the milliseconds of its proofs each time. For the others the
        // lock is not worth taking twice.
        if transaction.inner().is_eip4844() && self.contains(transaction.inner().tx_hash()) {
            return Err(PoolError::AlreadyKnown);
        }
        let tx = PooledTx::new(transaction, arrived)?;
        check_rules(&tx, rules, origin)?;
        check_blob_proofs(&tx)?;
        Ok(tx)
    }

    /// The accounts of the senders that have nothing in the pool; the pool follows the others by itself.
    fn read_unknown(
        &self,
        senders: impl Iterator<Item = Address>,
        accounts: &dyn AccountReader,
    ) -> HeadStates {
        let (epoch, mut unknown): (u64, Vec<Address>) = {
            let contents = self.contents.read();
            (contents.epoch, senders.filter(|sender| contents.sender(sender).is_none()).collect())
        };
        unknown.sort_unstable();
        unknown.dedup();
        let by_sender =
            unknown.into_iter().map(|sender| (sender, accounts.account(sender))).collect();
        HeadStates { epoch, by_sender }
    }

    /// Files one transaction whose sender's account was read when the head moved. One account takes far less time to
    /// read than a block to make, so this ends.
    fn file_alone(
        &self,
        mut tx: PooledTx,
        accounts: &dyn AccountReader,
        check: Recheck,
    ) -> Result<Added, PoolError> {
        for _ in 0..HEAD_RACES_MAX {
            let states = self.read_unknown(std::iter::once(tx.sender()), accounts);
            match self.write(|contents| file(contents, tx, &states, check)) {
                Filed::Done(result) => return result,
                Filed::Overtaken(again) => tx = *again,
            }
        }
        Err(head_races().into())
    }

    /// Changes the contents, then tells subscribers, gauges and the builder.
    fn write<R>(&self, change: impl FnOnce(&mut Contents) -> R) -> R {
        let mut contents = self.contents.write();
        let result = change(&mut contents);
        let announcements = contents.take_announcements();
        let has_news = !announcements.is_empty();
        if self.events.receiver_count() > 0 {
            for tx in announcements {
                // Fails only if the last subscriber left meanwhile; then nobody misses it.
                let _ = self.events.send(tx);
            }
        }
        let (pending, queued) = contents.counts();
        metrics::gauge!("pool_pending_transactions").set(pending as f64);
        metrics::gauge!("pool_queued_transactions").set(queued as f64);
        metrics::gauge!("pool_bytes").set(contents.bytes() as f64);
        let evicted = contents.take_evicted();
        drop(contents);
        if evicted > 0 {
            metrics::counter!("pool_evicted_transactions_total").increment(evicted);
            tracing::debug!(evicted, "the pool is full: cheaper transactions made way");
        }
        if has_news {
            self.signal.notify_one();
        }
        result
    }

    #[cfg(test)]
    pub(crate) fn check_books(&self) {
        self.contents.read().check();
    }
}

/// Accounts as read at one head.
struct HeadStates {
    epoch: u64,
    by_sender: HashMap<Address, Result<SenderState, StateError>>,
}

/// What is needed to repeat the cheap checks if the rules changed after them.
#[derive(Clone, Copy)]
struct Recheck {
    rules_epoch: u64,
    origin: Origin,
}

enum Filed {
    Done(Result<Added, PoolError>),
    /// The sender's account is not known at the present head.
    Overtaken(Box<PooledTx>),
}

fn file(contents: &mut Contents, tx: PooledTx, states: &HeadStates, check: Recheck) -> Filed {
    if contents.epoch != check.rules_epoch
        && let Err(error) = check_rules(&tx, &contents.rules, check.origin)
    {
        return Filed::Done(Err(error));
    }
    let is_current = contents.epoch == states.epoch;
    let state = match (contents.sender(&tx.sender()), states.by_sender.get(&tx.sender())) {
        (Some(queue), _) => queue.state(),
        (None, Some(Ok(state))) if is_current => *state,
        (None, Some(Err(error))) => return Filed::Done(Err(error.clone().into())),
        // A head came in between, or the sender was known and its last transaction has just left.
        (None, _) => return Filed::Overtaken(Box::new(tx)),
    };
    Filed::Done(contents.admit(tx, state))
}

fn head_races() -> StateError {
    StateError(format!("the head moved {HEAD_RACES_MAX} times while accounts were read"))
}

impl SenderContent {
    fn of(queue: &crate::sender::SenderQueue) -> Self {
        Self {
            pending: queue.pending().cloned().collect(),
            queued: queue.queued().cloned().collect(),
        }
    }
}
