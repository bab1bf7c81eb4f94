//! Who does what next.
//!
//! Every transaction is in one of five states:
//!
//! ```text
//!            claim              finish             at the head             reads hold
//! Pending ──────────▶ Running ──────────▶ Executed ───────────▶ Committing ──────────▶ Committed
//!    ▲                 │   ▲                  │                     │
//!    └─────────────────┘   └──────────────────┴─────────────────────┘
//!       interrupted                reads went stale
//! ```
//!
//! The *head* is the first transaction that is not committed. Two rules make the result right, and
//! neither depends on any guess:
//!
//! 1. A transaction is committed only at the head, by the one worker that holds the commit lock,
//!    after its reads were validated. Everything before it is then final, so the validation is
//!    final too.
//! 2. A transaction that starts to run while it is the head reads only final values. It cannot go
//!    stale, need not wait for anybody, and is the only one that may read what is known at the
//!    head alone (the beneficiary's balance).
//!
//! Progress follows: whatever the guesses below did, a worker that looks for work looks at the head
//! first, and the head is always pending (then it runs it), executed (then it commits it or sends
//! it to run again as the head) or in the hands of another worker.
//!
//! All else is for speed: transactions run ahead of the head in order; one that met an estimate or
//! whose sender's former transaction has not run yet waits for that one; idle workers look ahead
//! for executed transactions whose reads have gone stale and run them again early.

use crate::{
    location::TxIndex,
    sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Backoff, Mutex, Ordering},
};
use std::{cmp::Reverse, collections::BinaryHeap};

/// How far ahead of the head idle workers look for stale transactions. Farther ones would
/// probably go stale once more before their turn.
const LOOKAHEAD_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Status {
    Pending,
    Running,
    Executed,
    Committing,
    Committed,
}

const PENDING: u8 = Status::Pending as u8;
const RUNNING: u8 = Status::Running as u8;
const EXECUTED: u8 = Status::Executed as u8;
const COMMITTING: u8 = Status::Committing as u8;
const COMMITTED: u8 = Status::Committed as u8;

/// What a worker is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Run it: it is this worker's now.
    Run(TxIndex),
    /// See whether its reads still hold: it is this worker's now.
    Check(TxIndex),
    /// The head is executed: take the commit lock, if it is free, and commit what can be.
    Commit,
    /// All committed, or stopped.
    Finished,
}

#[derive(Debug)]
struct Tx {
    status: AtomicU8,
    /// Count of runs begun.
    runs: AtomicU32,
    /// Value of `Scheduler::changes` when its reads were last found to hold.
    checked: AtomicU64,
    /// Transactions that wait for this one to be executed.
    dependents: Mutex<Vec<TxIndex>>,
}

#[derive(Debug)]
pub(crate) struct Scheduler {
    txs: Vec<Tx>,
    /// For each transaction the last one before it from the same sender.
    predecessors: Vec<Option<TxIndex>>,
    head: AtomicUsize,
    /// First transaction that no worker has taken yet.
    fresh: AtomicUsize,
    /// Transactions that can run again, and their number for a look without the lock.
    ready: Mutex<BinaryHeap<Reverse<TxIndex>>>,
    ready_len: AtomicUsize,
    /// Count of published write sets: while it stands still, no read can go stale.
    changes: AtomicU64,
    stopped: AtomicBool,
}

impl Scheduler {
    /// `predecessors[i]` is the last transaction before `i` from the same sender.
    pub(crate) fn new(predecessors: Vec<Option<TxIndex>>) -> Self {
        let tx = |_: &Option<TxIndex>| Tx {
            status: AtomicU8::new(PENDING),
            runs: AtomicU32::new(0),
            checked: AtomicU64::new(0),
            dependents: Mutex::new(Vec::new()),
        };
        Self {
            txs: predecessors.iter().map(tx).collect(),
            predecessors,
            head: AtomicUsize::new(0),
            fresh: AtomicUsize::new(0),
            ready: Mutex::new(BinaryHeap::new()),
            ready_len: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    // Orderings: a status is stored with release and loaded with acquire, so that whoever sees
    // "executed" or "committed" sees the writes and the result published before. `head` likewise.
    // `fresh`, `runs` and `ready_len` only hand out numbers; what they guard is the status claim.

    fn status(&self, tx: TxIndex) -> u8 {
        self.txs[tx.as_usize()].status.load(Ordering::Acquire)
    }

    fn set(&self, tx: TxIndex, status: Status) {
        self.txs[tx.as_usize()].status.store(status as u8, Ordering::Release);
    }

    fn claim(&self, tx: TxIndex, from: u8) -> bool {
        self.change(tx, from, RUNNING)
    }

    fn change(&self, tx: TxIndex, from: u8, to: u8) -> bool {
        self.txs[tx.as_usize()]
            .status
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// The first transaction that is not committed, `None` when all are.
    pub(crate) fn head(&self) -> Option<TxIndex> {
        let head = self.head.load(Ordering::Acquire);
        (head < self.txs.len()).then_some(TxIndex(head as u32))
    }

    /// Makes every worker finish soon.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until there is something to do. `look_ahead`: someone else is committing the head.
    pub(crate) fn next(&self, mut look_ahead: bool, backoff: &mut Backoff) -> Task {
        loop {
            if self.stopped() {
                return Task::Finished;
            }
            let Some(head) = self.head() else {
                return Task::Finished;
            };
            match self.status(head) {
                EXECUTED if !std::mem::take(&mut look_ahead) => return Task::Commit,
                PENDING if self.claim(head, PENDING) => return Task::Run(head),
                _ => {}
            }
            if let Some(task) = self.next_ahead(head) {
                return task;
            }
            backoff.pause();
        }
    }

    fn next_ahead(&self, head: TxIndex) -> Option<Task> {
        if let Some(tx) = self.pop_ready() {
            return Some(Task::Run(tx));
        }
        while self.fresh.load(Ordering::Relaxed) < self.txs.len() {
            let tx = self.fresh.fetch_add(1, Ordering::Relaxed);
            if tx >= self.txs.len() {
                break;
            }
            let tx = TxIndex(tx as u32);
            if self.claim(tx, PENDING) && !self.wait_for_sender(tx) {
                return Some(Task::Run(tx));
            }
        }
        let changes = self.changes.load(Ordering::Acquire);
        let ahead = head.as_usize() + 1..self.txs.len().min(head.as_usize() + LOOKAHEAD_MAX);
        for index in ahead {
            let tx = TxIndex(index as u32);
            if self.txs[index].checked.load(Ordering::Relaxed) < changes
                && self.status(tx) == EXECUTED
                && self.claim(tx, EXECUTED)
            {
                self.txs[index].checked.store(changes, Ordering::Relaxed);
                return Some(Task::Check(tx));
            }
        }
        None
    }

    fn pop_ready(&self) -> Option<TxIndex> {
        while self.ready_len.load(Ordering::Relaxed) > 0 {
            let Reverse(tx) = {
                let mut ready = self.ready.lock();
                let tx = ready.pop()?;
                self.ready_len.store(ready.len(), Ordering::Relaxed);
                tx
            };
            // The head rule may have taken it in the meantime.
            if self.claim(tx, PENDING) {
                return Some(tx);
            }
        }
        None
    }

    fn push_ready(&self, txs: impl IntoIterator<Item = TxIndex>) {
        let mut ready = self.ready.lock();
        ready.extend(txs.into_iter().map(Reverse));
        self.ready_len.store(ready.len(), Ordering::Relaxed);
    }

    /// A nonce needs the one before: puts `tx` aside if its sender's former transaction is still
    /// to be executed.
    fn wait_for_sender(&self, tx: TxIndex) -> bool {
        match self.predecessors[tx.as_usize()] {
            Some(former) if self.status(former) < EXECUTED => {
                self.wait_for(tx, former);
                true
            }
            _ => false,
        }
    }

    /// Begins a run; gives the number of runs before it.
    pub(crate) fn begin(&self, tx: TxIndex) -> u32 {
        self.txs[tx.as_usize()].runs.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives `tx` back until `other` is executed.
    pub(crate) fn wait_for(&self, tx: TxIndex, other: TxIndex) {
        let mut dependents = self.txs[other.as_usize()].dependents.lock();
        self.set(tx, Status::Pending);
        // Under the lock: `executed` sets the status before it takes the dependents, so either it
        // finds `tx` among them or the status is seen here.
        if self.status(other) < EXECUTED {
            dependents.push(tx);
        } else {
            drop(dependents);
            self.push_ready([tx]);
        }
    }

    /// Gives `tx` back until it is the head.
    pub(crate) fn wait_for_head(&self, tx: TxIndex) {
        self.set(tx, Status::Pending);
    }

    /// `tx` has run and its writes are published.
    pub(crate) fn executed(&self, tx: TxIndex, published: bool) {
        if published {
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
        self.set(tx, Status::Executed);
        let dependents = std::mem::take(&mut *self.txs[tx.as_usize()].dependents.lock());
        if !dependents.is_empty() {
            self.push_ready(dependents);
        }
    }

    /// The head, if it is executed and so can be committed. Only under the commit lock. It counts
    /// as executed for those who would wait for it: a commit wakes nobody.
    pub(crate) fn executed_head(&self) -> Option<TxIndex> {
        self.head().filter(|head| self.change(*head, EXECUTED, COMMITTING))
    }

    /// Commits the head. Only under the commit lock, after [`Self::executed_head`].
    pub(crate) fn committed(&self, tx: TxIndex) {
        debug_assert_eq!(self.status(tx), COMMITTING);
        debug_assert_eq!(self.head(), Some(tx));
        self.set(tx, Status::Committed);
        self.head.store(tx.as_usize() + 1, Ordering::Release);
    }

    /// Takes the head, whose reads have gone stale, to run it again. Only under the commit lock,
    /// after [`Self::executed_head`].
    pub(crate) fn reclaim(&self, tx: TxIndex) {
        debug_assert_eq!(self.status(tx), COMMITTING);
        self.set(tx, Status::Running);
    }

    /// Whether all are committed.
    pub(crate) fn finished(&self) -> bool {
        debug_assert!(
            self.head().is_some()
                || self.txs.iter().all(|tx| tx.status.load(Ordering::Relaxed) == COMMITTED)
        );
        self.head().is_none()
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_transaction_that_is_being_committed_can_run_at_once() {
        let scheduler = Scheduler::new(vec![None, None, None]);
        let mut backoff = Backoff::default();
        for index in 0..3 {
            assert_eq!(scheduler.next(false, &mut backoff), Task::Run(TxIndex(index)));
        }
        scheduler.executed(TxIndex(0), true);
        assert_eq!(scheduler.executed_head(), Some(TxIndex(0)));
        scheduler.wait_for(TxIndex(2), TxIndex(0));
        scheduler.committed(TxIndex(0));
        assert_eq!(scheduler.next_ahead(TxIndex(1)), Some(Task::Run(TxIndex(2))));
    }
}
