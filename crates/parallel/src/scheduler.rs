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
//! All else is for speed. Transactions are handed out in order and in *stretches*: a worker takes
//! as many consecutive ones as make up some microseconds of work, so that two workers seldom meet
//! at one cache line. One that met an estimate, or whose
//! sender's former transaction or (if there are hints) the writer of what it reads has not run yet,
//! waits for that one; idle workers look ahead for executed transactions whose reads have gone
//! stale and run them again early.

use crate::{
    counter::Additions,
    learner::{COUNTERS_MAX, CountersFound, Handed, LINKS_MAX, Learner, Link, Surprise},
    location::{Location, TxIndex},
    sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering},
};
use alloy_primitives::U256;
use crossbeam_utils::CachePadded;
use heddle_evm::RecoveredTransaction;
use smallvec::SmallVec;
use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, time::Duration};

/// How far ahead of the head idle workers look for stale transactions. Farther ones would
/// probably go stale once more before their turn.
const LOOKAHEAD_MAX: usize = 64;

/// How far ahead of the head transactions are handed out where those before them conflict: so far
/// at least, and so far for each worker.
const AHEAD_MIN: usize = 256;
const AHEAD_A_WORKER: usize = 64;

/// Work in a stretch, in units of a plain payment.
const STRETCH_WORK: u32 = 48;

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
pub enum Task {
    /// Run it: it is this worker's now.
    Run(TxIndex),
    /// See whether its reads still hold: it is this worker's now.
    Check(TxIndex),
    /// The head is executed: take the commit lock, if it is free, and commit what can be.
    Commit,
    /// All committed, or stopped.
    Finished,
}

/// What is known about a transaction before it runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forecast {
    /// Where in [`Plan::predecessors`] the earlier transactions are that it probably has to wait
    /// for, and how many: the last one of the same sender, and writers of what it reads.
    pub predecessors: (u32, u8),
    /// About how much there is to do, in units of a plain payment.
    pub work: u8,
}

/// What a scheduler is to do.
#[derive(Debug)]
pub struct Plan<'f, 'b> {
    /// What conflicts teach is taken from these; there may be none.
    pub transactions: &'b [RecoveredTransaction],
    /// Of all transactions.
    pub forecasts: &'f [Forecast],
    /// See [`Forecast::predecessors`].
    pub predecessors: &'f [TxIndex],
    /// The first one to run; those before it are committed.
    pub first: TxIndex,
    /// How many share the work.
    pub workers: usize,
    /// Length of going alone at which running ahead is given up for the rest of the block; with
    /// zero that is so at the first conflict.
    pub patience: usize,
}

#[derive(Debug)]
struct Tx {
    status: AtomicU8,
    forecast: Forecast,
    /// Count of runs begun.
    runs: AtomicU32,
    /// Who ran it last.
    runner: AtomicU32,
    /// Value of `Scheduler::changes` when its reads were last found to hold.
    checked: AtomicU64,
    /// What it has to wait for according to what was learned, see [`LearnedLink`].
    learned: [LearnedLink; LINKS_MAX],
    /// Rules about counters that it may add to: each in sixteen bits, plus one.
    counters: [AtomicU64; COUNTERS_MAX / 4],
    /// Transactions that wait for this one to be executed.
    dependents: Mutex<Vec<TxIndex>>,
}

/// A [`Link`], or none, for workers that need not agree on when they see it.
#[derive(Debug, Default)]
struct LearnedLink(AtomicU64);

impl LearnedLink {
    const IS_THERE: u64 = 1 << 63;
    const ON_TRIAL: u64 = 1 << 62;

    fn set(&self, link: &Link) {
        let on_trial = if link.on_trial { Self::ON_TRIAL } else { 0 };
        let packed = u64::from(link.rule) << 32 | u64::from(link.predecessor.0);
        self.0.store(Self::IS_THERE | on_trial | packed, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Link> {
        let packed = self.0.load(Ordering::Relaxed);
        (packed & Self::IS_THERE != 0).then_some(Link {
            rule: (packed >> 32) as u16,
            predecessor: TxIndex(packed as u32),
            on_trial: packed & Self::ON_TRIAL != 0,
        })
    }
}

/// The transactions that a worker has taken and not looked at yet.
#[derive(Debug)]
pub struct Stretch {
    pub(crate) worker: usize,
    left: Range<usize>,
}

impl Stretch {
    /// None yet, for this worker.
    pub const fn new(worker: usize) -> Self {
        Self { worker, left: 0..0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

/// The state of a block's transactions, and who is to do what next. It knows nothing of what they
/// are; the engine runs the EVM with it, simulations a clock.
#[derive(Debug)]
pub struct Scheduler<'b> {
    txs: Vec<Tx>,
    predecessors: Vec<TxIndex>,
    learner: Learner<'b>,
    /// Reads of the parent state that were timed, and how many of them were slow.
    reads_timed: AtomicU32,
    slow_reads: AtomicU32,
    head: CachePadded<AtomicUsize>,
    /// First transaction that no worker has taken yet.
    fresh: CachePadded<AtomicUsize>,
    /// Transactions that can run again, and their number for a look without the lock.
    ready: Mutex<BinaryHeap<Reverse<TxIndex>>>,
    ready_len: CachePadded<AtomicUsize>,
    /// Count of transactions that were ever put among another's dependents.
    waits: CachePadded<AtomicUsize>,
    /// Published write sets, counted by each worker: while none is added, no read can go stale.
    changes: Vec<CachePadded<AtomicU64>>,
    /// Transactions up to here come soon after one that conflicted: they are taken one at a time
    /// and committed as soon as they can be, because what is found stale late was built upon.
    contended: CachePadded<AtomicUsize>,
    /// See [`CONFLICT_COST`]. Changed under the commit lock only.
    cost: CachePadded<AtomicU32>,
    /// Up to here `leader` works alone, and for how many transactions it will the next time.
    alone_until: CachePadded<AtomicUsize>,
    alone_next: AtomicUsize,
    leader: AtomicUsize,
    /// See [`Plan`].
    patience: usize,
    abandoned: AtomicBool,
    stopped: CachePadded<AtomicBool>,
}

/// Transactions after a conflict that are taken with care.
const CARE: usize = 64;

/// When running ahead does not pay, one worker goes on alone, as the head, and the others leave it
/// the memory and the caches. A conflict counts this much against running ahead, a transaction
/// that ran ahead and could be committed counts one for it.
const CONFLICT_COST: u32 = 4;
/// As [`CONFLICT_COST`], of one that follows from others which will not come again.
const LATE_CONFLICT_COST: u32 = 1;
/// Count from which on running ahead does not pay: below one conflict in some four transactions.
const COST_MAX: u32 = 24;
/// Transactions for which one worker goes on alone at first; twice as many each time after, because
/// a block that began as one chain goes on as one.
const ALONE_MIN: usize = 64;
const ALONE_MAX: usize = 4_096;
/// The usual `patience`: a block that had to be run by one worker for so long in several pieces
/// is one chain.
pub const PATIENCE: usize = 512;

/// Workers from which on more is done so that one need not wait for another: counters are looked
/// for, and who follows a stale transaction is called back. Two of them are at best a little faster
/// than one in place while the other makes the receipts, unless reading state takes long.
const MANY_WORKERS: usize = 3;
/// How long a slow read takes at least, and how many are timed to find out whether they are.
const SLOW_READ: Duration = Duration::from_micros(4);
const READS_TIMED: u32 = 64;
const READS_TIMED_MIN: u32 = 8;

impl<'b> Scheduler<'b> {
    /// For the transactions of a block that are not committed yet.
    pub fn new(plan: &Plan<'_, 'b>) -> Self {
        let first = plan.first.as_usize();
        let tx = |(index, forecast): (usize, &Forecast)| Tx {
            status: AtomicU8::new(if index < first { COMMITTED } else { PENDING }),
            forecast: *forecast,
            runs: AtomicU32::new(0),
            runner: AtomicU32::new(0),
            checked: AtomicU64::new(0),
            learned: Default::default(),
            counters: Default::default(),
            dependents: Mutex::new(Vec::new()),
        };
        let counter = || CachePadded::new(AtomicU64::new(0));
        Self {
            predecessors: plan.predecessors.to_vec(),
            learner: Learner::new(plan.transactions, plan.workers >= MANY_WORKERS),
            reads_timed: AtomicU32::new(0),
            slow_reads: AtomicU32::new(0),
            txs: plan.forecasts.iter().enumerate().map(tx).collect(),
            head: CachePadded::new(AtomicUsize::new(first)),
            fresh: CachePadded::new(AtomicUsize::new(first)),
            ready: Mutex::new(BinaryHeap::new()),
            ready_len: CachePadded::new(AtomicUsize::new(0)),
            waits: CachePadded::new(AtomicUsize::new(0)),
            changes: (0..plan.workers).map(|_| counter()).collect(),
            contended: CachePadded::new(AtomicUsize::new(0)),
            cost: CachePadded::new(AtomicU32::new(0)),
            alone_until: CachePadded::new(AtomicUsize::new(0)),
            alone_next: AtomicUsize::new(ALONE_MIN),
            leader: AtomicUsize::new(0),
            patience: plan.patience,
            abandoned: AtomicBool::new(false),
            stopped: CachePadded::new(AtomicBool::new(false)),
        }
    }

    // Orderings: a status is stored with release and loaded with acquire, so that whoever sees
    // "executed" or "committed" sees the writes and the result published before. `head` likewise.
    // `fresh`, `runs` and `ready_len` only hand out numbers; what they guard is the status claim.
    // Where a status and `waits` are compared (`wait_for`, `executed`), both are SeqCst.

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

    /// The first transaction that is not committed; `None` when all are.
    pub fn head(&self) -> Option<TxIndex> {
        let head = self.head.load(Ordering::Acquire);
        (head < self.txs.len()).then_some(TxIndex(head as u32))
    }

    /// Everything below this is committed.
    pub fn committed_below(&self) -> TxIndex {
        TxIndex(self.head.load(Ordering::Acquire) as u32)
    }

    /// Makes all workers finish; the block then has no result.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The next thing to do, if there is anything just now. `look_ahead` asks for a task that is not
    /// `Commit`, for a worker that found the commit lock taken.
    pub fn next(&self, stretch: &mut Stretch, look_ahead: bool) -> Option<Task> {
        if self.stopped() {
            return Some(Task::Finished);
        }
        // First of all, and without a look at the head, which changes all the time.
        if let Some(task) = self.next_of(stretch) {
            return Some(task);
        }
        let Some(head) = self.head() else { return Some(Task::Finished) };
        if self.stands_aside(stretch.worker, head) {
            return None;
        }
        match self.status(head) {
            PENDING if self.claim(head, PENDING) => return Some(Task::Run(head)),
            EXECUTED if !look_ahead && self.commits(stretch.worker, head) => {
                return Some(Task::Commit);
            }
            _ => {}
        }
        if let Some(task) = self.next_ahead(stretch) {
            return Some(task);
        }
        if !look_ahead && self.status(head) == EXECUTED {
            return Some(Task::Commit);
        }
        if let Some(task) = self.next_check(head) {
            return Some(task);
        }
        look_ahead.then_some(Task::Commit)
    }

    /// Whether a worker that has other things to do should commit `tx`, which is executed. Who ran
    /// it has what it touched in its cache, so it is left to that one, unless it matters to know
    /// soon whether it is stale.
    fn commits(&self, worker: usize, tx: TxIndex) -> bool {
        self.txs[tx.as_usize()].runner.load(Ordering::Relaxed) as usize == worker
            || tx.as_usize() < self.contended.load(Ordering::Relaxed)
    }

    /// Takes down that what `tx` had read at `location` has gone stale, and who wrote it since, if
    /// anybody did. Gives how much that counts against running ahead.
    pub fn conflict(&self, tx: TxIndex, location: Location, writer: Option<TxIndex>) -> u32 {
        self.contended.fetch_max(tx.as_usize() + CARE, Ordering::Relaxed);
        if self.many_workers() {
            self.recall_followers(tx);
        }
        let linked = |rule| self.learned(tx).any(|link| link.rule == rule);
        let surprise = writer.map(|writer| self.learner.conflict(location, writer, tx, linked));
        match surprise {
            // Who waits for the writer did so, and this is what the writer wrote when it ran again.
            _ if self.many_workers()
                && writer.is_some_and(|writer| self.foreseen(tx).contains(&writer)) =>
            {
                LATE_CONFLICT_COST
            }
            None | Some(Surprise::New) => CONFLICT_COST,
            Some(Surprise::Late) => LATE_CONFLICT_COST,
            Some(Surprise::Once) => 0,
        }
    }

    fn many_workers(&self) -> bool {
        self.changes.len() >= MANY_WORKERS
    }

    /// `tx` is about to run again, and those that were made to wait for it ran on what it had written:
    /// they wait for it again, and for each other. Else a chain, once stale, would stay stale: its
    /// members would be found out one by one, each by who looks at it after the one before.
    fn recall_followers(&self, tx: TxIndex) {
        let first = tx.as_usize();
        let mut again = [false; AHEAD_MIN + 1];
        again[0] = true;
        let end = self.fresh.load(Ordering::Relaxed).min(first + again.len());
        for index in first + 1..end {
            let follower = TxIndex(index as u32);
            if self.status(follower) != EXECUTED {
                continue;
            }
            let goes_again = |link: &Link| {
                let place = link.predecessor.as_usize().checked_sub(first);
                place.is_some_and(|place| again[place]) && !self.learner.is_dropped(link.rule)
            };
            let link = self.learned(follower).find(goes_again);
            if let Some(link) = link
                && self.claim(follower, EXECUTED)
            {
                self.wait_for(follower, link.predecessor);
                again[index - first] = true;
            }
        }
    }

    /// Takes down what else went stale with a conflict.
    pub fn stale_too(&self, tx: TxIndex, location: Location, writer: Option<TxIndex>) {
        if let Some(writer) = writer {
            self.learner.conflict(location, writer, tx, |_| true);
        }
    }

    /// As [`Self::conflict`], where `worker` found it out about the head. Only under the commit
    /// lock. Whether the block goes on here; if not, see [`Self::abandoned`].
    pub fn conflict_at_head(
        &self,
        tx: TxIndex,
        location: Location,
        writer: Option<TxIndex>,
        worker: usize,
    ) -> bool {
        let cost = self.cost.load(Ordering::Relaxed) + self.conflict(tx, location, writer);
        // What others had run ahead before one went on alone says nothing new.
        if self.many_workers() && tx.as_usize() < self.alone_until.load(Ordering::Relaxed) {
            return true;
        }
        if cost < COST_MAX && self.patience > 0 {
            self.cost.store(cost, Ordering::Relaxed);
            return true;
        }
        // Half: what follows has to prove itself soon.
        self.cost.store(COST_MAX / 2, Ordering::Relaxed);
        // Where it paid for a good while since, conflicts come in groups, and not because the block
        // is one chain.
        let paid = tx.as_usize().saturating_sub(self.alone_until.load(Ordering::Relaxed));
        let mut alone = self.alone_next.load(Ordering::Relaxed);
        if paid >= alone && self.patience > 0 {
            alone = ALONE_MIN;
        }
        if alone >= self.patience {
            self.abandoned.store(true, Ordering::Relaxed);
            self.stop();
            return false;
        }
        self.alone_next.store((2 * alone).min(ALONE_MAX), Ordering::Relaxed);
        self.leader.store(worker, Ordering::Relaxed);
        // Release pairs with the acquire in `stands_aside`: who sees this sees the leader.
        self.alone_until.store(tx.as_usize() + alone, Ordering::Release);
        true
    }

    /// Whether all workers were stopped because the rest of the block, from the head on, is better
    /// run in order.
    pub fn abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Whether `worker` leaves the work to another for now. The leader never does, so the head goes
    /// on; what others had begun they end first.
    fn stands_aside(&self, worker: usize, head: TxIndex) -> bool {
        head.as_usize() < self.alone_until.load(Ordering::Acquire)
            && self.leader.load(Ordering::Relaxed) != worker
    }

    /// The next pending transaction of the stretch.
    fn next_of(&self, stretch: &mut Stretch) -> Option<Task> {
        for index in stretch.left.by_ref() {
            let tx = TxIndex(index as u32);
            // Another worker may have run it already, as the head.
            if self.claim(tx, PENDING) && !self.wait_for_predecessors(tx) {
                return Some(Task::Run(tx));
            }
        }
        None
    }

    fn next_ahead(&self, stretch: &mut Stretch) -> Option<Task> {
        if let Some(tx) = self.pop_ready() {
            return Some(Task::Run(tx));
        }
        while self.take_stretch(stretch) {
            if let Some(task) = self.next_of(stretch) {
                return Some(task);
            }
        }
        None
    }

    /// An executed transaction near the head whose reads may have gone stale.
    fn next_check(&self, head: TxIndex) -> Option<Task> {
        let changes = self.changes();
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

    /// Takes the next fresh transactions, if there are any.
    fn take_stretch(&self, stretch: &mut Stretch) -> bool {
        stretch.left = if self.learner.has_rules() {
            let work = |index: usize| self.txs[index].forecast.work;
            let hand = |index: usize, handed: &Handed| {
                let tx = &self.txs[index];
                for (link, place) in handed.links.iter().zip(&tx.learned) {
                    place.set(link);
                }
                let pack = |packed, rule: &u16| packed << 16 | u64::from(rule + 1);
                for (rules, place) in handed.counters.chunks(4).zip(&tx.counters) {
                    place.store(rules.iter().fold(0, pack), Ordering::Relaxed);
                }
            };
            // What is handed out before a rule is made does not follow it, so not all at once.
            let fresh = self.fresh.load(Ordering::Relaxed);
            let head = self.committed_below();
            let ahead = fresh.saturating_sub(head.as_usize());
            if ahead >= AHEAD_MIN.max(AHEAD_A_WORKER * self.changes.len()) {
                return false;
            }
            self.learner.hand_out(|| self.take_fresh(), head, work, hand)
        } else {
            self.take_fresh()
        };
        !stretch.is_empty()
    }

    fn take_fresh(&self) -> Range<usize> {
        let mut start = self.fresh.load(Ordering::Relaxed);
        while start < self.txs.len() {
            // Towards the end less at a time, so that all workers finish together.
            let mut left = (self.txs.len() - start).div_ceil(2 * self.changes.len());
            if start < self.contended.load(Ordering::Relaxed) {
                left = 1;
            }
            let mut work = 0;
            let mut end = start;
            while end < start + left && work < STRETCH_WORK {
                work += u32::from(self.txs[end].forecast.work);
                end += 1;
            }
            match self.fresh.compare_exchange(start, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return start..end,
                Err(now) => start = now,
            }
        }
        0..0
    }

    fn learned(&self, tx: TxIndex) -> impl Iterator<Item = Link> {
        self.txs[tx.as_usize()].learned.iter().filter_map(LearnedLink::get)
    }

    /// `tx` has run to its end; `touched` says whether it read or wrote a location.
    pub fn ran(&self, tx: TxIndex, touched: impl Fn(Location) -> bool) {
        for link in self.learned(tx).filter(|link| link.on_trial) {
            self.learner.tried(link.rule, &touched);
        }
    }

    /// As [`Self::ran`]; `added` says how much it has added to a slot, and `holds` whether what it read
    /// is what it would read now. Gives the slots that are found to count by this, and by which rule.
    pub fn counted(
        &self,
        tx: TxIndex,
        added: impl Fn(&Location) -> U256,
        holds: impl FnOnce() -> bool,
    ) -> CountersFound {
        let packed = self.txs[tx.as_usize()].counters.each_ref();
        let packed = packed.map(|place| place.load(Ordering::Relaxed));
        if packed[0] == 0 {
            return SmallVec::new();
        }
        let unpack = |packed: u64| (0..4).map(move |place| (packed >> (16 * place)) as u16);
        let rules = packed.into_iter().flat_map(unpack).filter_map(|rule| rule.checked_sub(1));
        let (mut found, odd) = self.learner.counted(tx, rules, &added, false);
        if !odd.is_empty() && holds() {
            found.extend(self.learner.counted(tx, odd.into_iter(), &added, true).0);
        }
        found
    }

    /// Lets `ask` know what transactions that are not final will probably add to the slot of a rule
    /// before the turn of `tx`. Meanwhile nobody is handed out anything, so it is to be short.
    pub fn with_additions<R>(
        &self,
        rule: u16,
        tx: TxIndex,
        ask: impl FnOnce(&Additions<'_>) -> R,
    ) -> R {
        self.learner.with_additions(rule, &|| self.committed_below(), tx, ask)
    }

    /// Whether it is of interest how long reads of the parent state take.
    pub(crate) fn times_reads(&self) -> bool {
        self.reads_timed.load(Ordering::Relaxed) < READS_TIMED && !self.learner.counts()
    }

    /// A read of the parent state took so long.
    pub(crate) fn read_took(&self, time: Duration) {
        let timed = self.reads_timed.fetch_add(1, Ordering::Relaxed) + 1;
        let slow = self.slow_reads.fetch_add(u32::from(time >= SLOW_READ), Ordering::Relaxed);
        if timed >= READS_TIMED_MIN && 2 * slow >= timed {
            self.learner.set_counts();
        }
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
            if self.claim(tx, PENDING) && !self.wait_for_predecessors(tx) {
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

    /// See [`Forecast::predecessors`].
    fn foreseen(&self, tx: TxIndex) -> &[TxIndex] {
        let (first, count) = self.txs[tx.as_usize()].forecast.predecessors;
        &self.predecessors[first as usize..][..usize::from(count)]
    }

    /// Puts `tx` aside if one of those that it probably has to wait for is still to be executed.
    fn wait_for_predecessors(&self, tx: TxIndex) -> bool {
        // The last ones probably wait for those before them.
        let foreseen = self.foreseen(tx).iter().rev().copied();
        let mut formers = foreseen.chain(self.learned(tx).map(|link| link.predecessor));
        let open = formers.find(|former| self.status(*former) < EXECUTED);
        if let Some(former) = open {
            self.wait_for(tx, former);
        }
        open.is_some()
    }

    /// Whether `tx` has run, and is not to run again as far as anybody knows.
    pub fn has_run(&self, tx: TxIndex) -> bool {
        self.status(tx) >= EXECUTED
    }

    /// Begins a run; gives the number of runs before it.
    pub fn begin(&self, tx: TxIndex, worker: usize) -> u32 {
        self.txs[tx.as_usize()].runner.store(worker as u32, Ordering::Relaxed);
        self.txs[tx.as_usize()].runs.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives `tx` back until `other` is executed.
    pub fn wait_for(&self, tx: TxIndex, other: TxIndex) {
        self.waits.fetch_add(1, Ordering::SeqCst);
        let mut dependents = self.txs[other.as_usize()].dependents.lock();
        self.set(tx, Status::Pending);
        // Either `executed` sees the count above and takes the dependents under this lock, or the
        // status it set before is seen here.
        if self.txs[other.as_usize()].status.load(Ordering::SeqCst) < EXECUTED {
            dependents.push(tx);
        } else {
            drop(dependents);
            self.push_ready([tx]);
        }
    }

    /// Gives `tx` back until it is the head.
    pub fn wait_for_head(&self, tx: TxIndex) {
        self.set(tx, Status::Pending);
    }

    /// Counts a write set that `worker` published.
    pub fn published(&self, worker: usize) {
        let changes = &self.changes[worker];
        // Nobody else writes this count.
        changes.store(changes.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    fn changes(&self) -> u64 {
        self.changes.iter().map(|count| count.load(Ordering::Acquire)).sum()
    }

    /// `tx` has run and its writes are published.
    pub fn executed(&self, tx: TxIndex) {
        self.txs[tx.as_usize()].status.store(EXECUTED, Ordering::SeqCst);
        self.wake_dependents(tx);
    }

    fn wake_dependents(&self, tx: TxIndex) {
        if self.waits.load(Ordering::SeqCst) == 0 {
            return;
        }
        let dependents = std::mem::take(&mut *self.txs[tx.as_usize()].dependents.lock());
        if !dependents.is_empty() {
            self.push_ready(dependents);
        }
    }

    /// The head, if it is executed and so can be committed. Only under the commit lock. It counts
    /// as executed for those who would wait for it: a commit wakes nobody.
    pub fn executed_head(&self) -> Option<TxIndex> {
        self.head().filter(|head| self.change(*head, EXECUTED, COMMITTING))
    }

    /// As [`Self::executed_head`], if `worker` should commit it.
    pub fn own_executed_head(&self, worker: usize) -> Option<TxIndex> {
        let head = self.head()?;
        (self.commits(worker, head) && self.change(head, EXECUTED, COMMITTING)).then_some(head)
    }

    /// Commits the head. Only under the commit lock, after [`Self::executed_head`].
    pub fn committed(&self, tx: TxIndex) {
        let cost = self.cost.load(Ordering::Relaxed);
        self.cost.store(cost.saturating_sub(1), Ordering::Relaxed);
        debug_assert_eq!(self.status(tx), COMMITTING);
        debug_assert_eq!(self.head(), Some(tx));
        self.set(tx, Status::Committed);
        self.head.store(tx.as_usize() + 1, Ordering::Release);
    }

    /// Commits the head, which ran as the head. Only under the commit lock, by who ran it.
    pub fn committed_at_once(&self, tx: TxIndex) {
        debug_assert_eq!(self.status(tx), RUNNING);
        debug_assert_eq!(self.head(), Some(tx));
        self.txs[tx.as_usize()].status.store(COMMITTED, Ordering::SeqCst);
        self.head.store(tx.as_usize() + 1, Ordering::Release);
        self.wake_dependents(tx);
    }

    /// Takes the head, whose reads have gone stale, to run it again. Only under the commit lock,
    /// after [`Self::executed_head`].
    pub fn reclaim(&self, tx: TxIndex) {
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
    use alloy_primitives::Address;

    fn scheduler(count: usize, work: u8, workers: usize) -> Scheduler<'static> {
        Scheduler::new(&Plan {
            transactions: &[],
            forecasts: &vec![Forecast { predecessors: (0, 0), work }; count],
            predecessors: &[],
            first: TxIndex(0),
            workers,
            patience: PATIENCE,
        })
    }

    #[test]
    fn who_waits_for_a_transaction_that_is_being_committed_can_run_at_once() {
        let scheduler = scheduler(3, 48, 1);
        let mut stretch = Stretch::new(0);
        for index in 0..3 {
            let task = scheduler.next(&mut stretch, false);
            assert_eq!(task, Some(Task::Run(TxIndex(index))));
        }
        scheduler.executed(TxIndex(0));
        assert_eq!(scheduler.executed_head(), Some(TxIndex(0)));
        scheduler.wait_for(TxIndex(2), TxIndex(0));
        scheduler.committed(TxIndex(0));
        let task = scheduler.next_ahead(&mut stretch);
        assert_eq!(task, Some(Task::Run(TxIndex(2))));
    }

    /// All run on one worker, in order.
    fn run_all(scheduler: &Scheduler<'_>, count: u32) {
        let mut stretch = Stretch::new(0);
        for index in (0..count).map(TxIndex) {
            assert_eq!(scheduler.next_ahead(&mut stretch), Some(Task::Run(index)));
            scheduler.begin(index, 0);
            scheduler.executed(index);
        }
    }

    #[test]
    fn who_follows_one_that_runs_again_waits_for_it_again() {
        let scheduler = scheduler(6, 48, 3);
        run_all(&scheduler, 6);
        let follows = |tx: usize, predecessor| {
            let link = Link { rule: 0, predecessor: TxIndex(predecessor), on_trial: false };
            scheduler.txs[tx].learned[0].set(&link);
        };
        follows(3, 1);
        follows(4, 0);
        follows(5, 3);
        // The head holds; the one after it is found stale ahead of its turn.
        assert!(scheduler.claim(TxIndex(1), EXECUTED));
        scheduler.conflict(TxIndex(1), Location::Account(Address::ZERO), None);
        let status = |tx| scheduler.status(TxIndex(tx));
        let all: Vec<_> = (0..6).map(status).collect();
        assert_eq!(all, [EXECUTED, RUNNING, EXECUTED, PENDING, EXECUTED, PENDING]);
        // One after the other they run again.
        assert_eq!(scheduler.pop_ready(), None);
        scheduler.executed(TxIndex(1));
        assert_eq!(scheduler.pop_ready(), Some(TxIndex(3)));
        assert_eq!(scheduler.pop_ready(), None);
        scheduler.executed(TxIndex(3));
        assert_eq!(scheduler.pop_ready(), Some(TxIndex(5)));
    }

    #[test]
    fn what_ran_ahead_before_one_went_on_alone_does_not_prolong_that() {
        let scheduler = scheduler(400, 48, 3);
        run_all(&scheduler, 400);
        let mut conflicts = 0;
        let alone_until = || scheduler.alone_until.load(Ordering::Relaxed);
        for index in (0..400).map(TxIndex) {
            assert_eq!(scheduler.executed_head(), Some(index));
            if alone_until() == 0 || index.as_usize() < alone_until() {
                scheduler.reclaim(index);
                let location = Location::Account(Address::ZERO);
                assert!(scheduler.conflict_at_head(index, location, None, 0));
                conflicts += 1;
                scheduler.committed_at_once(index);
            } else {
                scheduler.committed(index);
            }
        }
        assert_eq!(alone_until(), conflicts, "one stretch, in which all conflict");
        assert!((ALONE_MIN..2 * ALONE_MIN).contains(&conflicts), "{conflicts}");
    }

    #[test]
    fn light_transactions_are_handed_out_together_and_fewer_towards_the_end() {
        let scheduler = scheduler(100, 3, 1);
        let mut stretch = Stretch::new(0);
        let mut lengths = Vec::new();
        while scheduler.take_stretch(&mut stretch) {
            lengths.push(stretch.left.len());
        }
        assert_eq!(lengths.iter().sum::<usize>(), 100);
        assert_eq!(lengths[..4], [16; 4]);
        assert_eq!(lengths.last(), Some(&1));
    }
}
