//! The optimistic execution of one block, whatever a "transaction" is: the EVM in the product, a
//! few reads and writes in the model checks.

use crate::{
    location::{Incarnation, Location, Read, TxIndex, Write},
    memory::{Found, StaleRead, VersionedMemory},
    profile::{Conflict, Ending, Span, WorkerLog},
    scheduler::{Scheduler, Task},
    sync::{Backoff, Mutex, MutexGuard},
};
use std::time::Instant;

/// What one incarnation did.
#[derive(Debug)]
pub(crate) struct Execution<T> {
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<Write>,
    pub(crate) output: T,
}

/// Why an incarnation stopped before its end.
#[derive(Debug)]
pub(crate) enum Interrupt<E> {
    /// It met an estimate of this transaction.
    After(TxIndex),
    /// It needs what only the head may read, or failed in a way that stale reads may explain.
    AtHead,
    /// It cannot go on, whatever others do.
    Failed(E),
}

/// What to do with a validated transaction.
#[derive(Debug)]
pub(crate) enum Verdict<E> {
    /// Its writes stand.
    Keep,
    /// It is not part of the block; its writes go.
    Leave,
    /// The block is over.
    Stop(E),
}

/// The transactions of one block and what committing one means.
pub(crate) trait Transactions: Sync {
    /// What a worker keeps between transactions.
    type Worker<'a>
    where
        Self: 'a;
    /// Result of one transaction.
    type Output: Send;
    /// What commits add up to.
    type Committed: Send;
    /// What ends the block.
    type Error: Send;

    /// Runs one incarnation. A run that is `at_head` reads final values only.
    fn execute<'w>(
        &'w self,
        worker: &mut Self::Worker<'w>,
        tx: TxIndex,
        view: View<'w, Self::Committed>,
    ) -> Result<Execution<Self::Output>, Interrupt<Self::Error>>;

    /// Takes a validated transaction into the block. Called in block order.
    fn commit(
        &self,
        committed: &mut Self::Committed,
        tx: TxIndex,
        output: Self::Output,
    ) -> Verdict<Self::Error>;
}

/// How one incarnation sees the block.
#[derive(Debug)]
pub(crate) struct View<'a, C> {
    memory: &'a VersionedMemory,
    committed: &'a Mutex<C>,
    scheduler: &'a Scheduler,
    tx: TxIndex,
    /// Whether everything before this transaction is final.
    pub(crate) at_head: bool,
}

impl<C> Clone for View<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C> Copy for View<'_, C> {}

impl<C> View<'_, C> {
    pub(crate) fn find(&self, location: &Location) -> Found {
        self.memory.find(location, self.tx)
    }

    /// Keeps a run from going on in vain, which costs time up to its whole gas limit: a run that
    /// has become the head is promoted to one that started as the head if all it read is final,
    /// and given up if not; all are given up if the block was stopped. Whether to go on.
    pub(crate) fn keep_up(&mut self, reads: &[Read]) -> bool {
        if self.at_head {
            return !self.scheduler.stopped();
        }
        if self.scheduler.head() == Some(self.tx) {
            self.at_head = self.memory.validate(self.tx, reads).is_ok();
            return self.at_head;
        }
        !self.scheduler.stopped()
    }

    /// What the commits so far add up to. Final only [`Self::at_head`], where nothing else can be
    /// committed before this transaction ends.
    pub(crate) fn committed<R>(&self, read: impl FnOnce(&C) -> R) -> R {
        read(&self.committed.lock())
    }
}

/// The last incarnation that ran to its end. Its writes are what stands in the memory under this
/// transaction's name, also while another incarnation runs (as estimates then).
type Slot<T> = Option<Execution<T>>;

/// One block in execution.
#[derive(Debug)]
pub(crate) struct Engine<'a, T: Transactions> {
    transactions: &'a T,
    memory: VersionedMemory,
    scheduler: Scheduler,
    slots: Vec<Mutex<Slot<T::Output>>>,
    /// Held by the one worker that commits.
    commit: Mutex<()>,
    committed: Mutex<T::Committed>,
    error: Mutex<Option<T::Error>>,
    started: Instant,
}

/// What is left of a block after its last commit.
#[derive(Debug)]
pub(crate) struct Finished<T: Transactions> {
    pub(crate) memory: VersionedMemory,
    pub(crate) committed: T::Committed,
}

impl<'a, T: Transactions> Engine<'a, T> {
    pub(crate) fn new(
        transactions: &'a T,
        predecessors: Vec<Option<TxIndex>>,
        committed: T::Committed,
    ) -> Self {
        Self {
            transactions,
            memory: VersionedMemory::new(predecessors.len()),
            slots: predecessors.iter().map(|_| Mutex::new(None)).collect(),
            scheduler: Scheduler::new(predecessors),
            commit: Mutex::new(()),
            committed: Mutex::new(committed),
            error: Mutex::new(None),
            started: Instant::now(),
        }
    }

    /// Makes all workers finish; the block then has no result.
    pub(crate) fn stop(&self) {
        self.scheduler.stop();
    }

    /// The result, once every worker has finished: `Err(None)` for a block that was stopped.
    pub(crate) fn into_result(self) -> Result<Finished<T>, Option<T::Error>> {
        if let Some(error) = self.error.into_inner() {
            return Err(Some(error));
        }
        if !self.scheduler.finished() {
            return Err(None);
        }
        Ok(Finished { memory: self.memory, committed: self.committed.into_inner() })
    }

    /// Works on the block until it is done, or until `cancelled`.
    pub(crate) fn work<'w>(
        &'w self,
        id: usize,
        worker: &mut T::Worker<'w>,
        cancelled: impl Fn() -> bool,
    ) -> WorkerLog {
        let mut log = WorkerLog::new(id);
        let mut look_ahead = false;
        let mut backoff = Backoff::default();
        loop {
            if cancelled() {
                self.stop();
            }
            match self.scheduler.next(std::mem::take(&mut look_ahead), &mut backoff) {
                Task::Finished => return log,
                Task::Run(tx) => self.run(tx, worker, &mut log),
                Task::Check(tx) => self.check(tx, worker, &mut log),
                Task::Commit => match self.commit.try_lock() {
                    Some(guard) => self.commit_prefix(guard, worker, &mut log),
                    None => {
                        look_ahead = true;
                        backoff.pause();
                    }
                },
            }
        }
    }

    fn nanoseconds(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Runs a claimed transaction.
    fn run<'w>(&'w self, tx: TxIndex, worker: &mut T::Worker<'w>, log: &mut WorkerLog) {
        let incarnation = Incarnation(self.scheduler.begin(tx));
        let at_head = self.scheduler.head() == Some(tx);
        let (memory, committed, scheduler) = (&self.memory, &self.committed, &self.scheduler);
        let view = View { memory, committed, scheduler, tx, at_head };
        let start_ns = self.nanoseconds();
        let result = self.transactions.execute(worker, tx, view);
        let span = |ending| Span {
            worker: log.worker(),
            tx,
            incarnation,
            start_ns,
            end_ns: self.nanoseconds(),
            ending,
        };
        let span = match result {
            Ok(execution) => {
                let span = span(Ending::Executed);
                self.publish(tx, incarnation, execution);
                span
            }
            Err(Interrupt::After(other)) => {
                let span = span(Ending::Waited(other));
                self.scheduler.wait_for(tx, other);
                span
            }
            Err(Interrupt::AtHead) => {
                debug_assert!(
                    !at_head || self.scheduler.stopped(),
                    "the head asked for what only the head may read"
                );
                let span = span(Ending::NeededHead);
                self.scheduler.wait_for_head(tx);
                span
            }
            Err(Interrupt::Failed(error)) => {
                let span = span(Ending::Failed);
                self.fail(error);
                span
            }
        };
        log.spans.push(span);
    }

    fn publish(&self, tx: TxIndex, incarnation: Incarnation, execution: Execution<T::Output>) {
        let mut slot = self.slots[tx.as_usize()].lock();
        let former = slot.as_ref().map_or(&[][..], |former| &former.writes);
        self.memory.publish(tx, incarnation, former, &execution.writes);
        *slot = Some(execution);
        drop(slot);
        self.scheduler.executed(tx, true);
    }

    fn fail(&self, error: T::Error) {
        self.error.lock().get_or_insert(error);
        self.scheduler.stop();
    }

    fn stale(&self, tx: TxIndex, slot: &Slot<T::Output>) -> Option<StaleRead> {
        let reads = &slot.as_ref()?.reads;
        self.memory.validate(tx, reads).err()
    }

    fn conflict(&self, tx: TxIndex, stale: StaleRead, slot: &Slot<T::Output>, log: &mut WorkerLog) {
        if let Some(former) = slot {
            self.memory.mark_estimates(tx, &former.writes);
        }
        log.conflicts.push(Conflict { location: stale.location, writer: stale.writer, reader: tx });
    }

    /// Validates a claimed transaction ahead of its turn and runs it again if it is stale.
    fn check<'w>(&'w self, tx: TxIndex, worker: &mut T::Worker<'w>, log: &mut WorkerLog) {
        let slot = self.slots[tx.as_usize()].lock();
        match self.stale(tx, &slot) {
            None => {
                drop(slot);
                self.scheduler.executed(tx, false);
            }
            Some(stale) => {
                self.conflict(tx, stale, &slot, log);
                drop(slot);
                self.run(tx, worker, log);
            }
        }
    }

    /// Commits executed transactions from the head on; one that is stale runs again at once, as
    /// the head, with the commit lock released.
    fn commit_prefix<'w>(
        &'w self,
        guard: MutexGuard<'_, ()>,
        worker: &mut T::Worker<'w>,
        log: &mut WorkerLog,
    ) {
        while let Some(tx) = self.scheduler.executed_head() {
            let mut slot = self.slots[tx.as_usize()].lock();
            if let Some(stale) = self.stale(tx, &slot) {
                self.scheduler.reclaim(tx);
                self.conflict(tx, stale, &slot, log);
                drop((slot, guard));
                return self.run(tx, worker, log);
            }
            // Nobody looks at it again, and what it frees serves the transactions to come.
            let Some(Execution { writes, output, .. }) = slot.take() else {
                unreachable!("transaction {tx} counts as executed, so it has a result")
            };
            match self.transactions.commit(&mut self.committed.lock(), tx, output) {
                Verdict::Keep => {}
                Verdict::Leave => self.memory.remove(tx, &writes),
                Verdict::Stop(error) => return self.fail(error),
            }
            self.scheduler.committed(tx);
        }
    }
}
