//! The optimistic execution of one block, whatever a "transaction" is: the EVM in the product, a
//! few reads and writes in the model checks.

use crate::{
    cell::Found,
    counter::Additions,
    location::{Incarnation, Location, TxIndex},
    memory::{Read, SlotCell, StaleRead, VersionedMemory, Write},
    profile::{Conflict, Ending, WorkerLog},
    scheduler::{Plan, Scheduler, Stretch, Task},
    sync::{Backoff, Mutex, MutexGuard},
};
use alloy_primitives::U256;
use std::time::Instant;

/// What one incarnation read and wrote.
#[derive(Debug, Default)]
pub(crate) struct Trace<'m> {
    pub(crate) reads: Vec<Read<'m>>,
    pub(crate) writes: Vec<Write<'m>>,
}

impl Trace<'_> {
    fn touched(&self, location: Location) -> bool {
        self.writes.iter().any(|write| write.location() == location)
            || self.reads.iter().any(|read| read.location() == location)
    }
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
pub(crate) trait Transactions<'m>: Sync {
    /// What a worker keeps between transactions.
    type Worker<'w>
    where
        Self: 'w,
        'm: 'w;
    /// Result of one transaction.
    type Output: Send;
    /// What commits add up to.
    type Committed: Send;
    /// What ends the block.
    type Error: Send;

    /// Runs one incarnation and puts what it read and wrote into the empty `trace`. A run that is
    /// `at_head` reads final values only and need not take down what it read.
    fn execute<'w>(
        &'w self,
        worker: &mut Self::Worker<'w>,
        view: &mut View<'w, 'm, Self::Committed>,
        trace: &mut Trace<'m>,
    ) -> Result<Self::Output, Interrupt<Self::Error>>
    where
        'm: 'w;

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
pub(crate) struct View<'w, 'm, C> {
    pub(crate) memory: &'m VersionedMemory,
    committed: &'w Mutex<C>,
    scheduler: &'w Scheduler<'w>,
    pub(crate) tx: TxIndex,
    /// Whether everything before this transaction is final, and what it has seen is all true.
    pub(crate) at_head: bool,
    /// Whether everything before it is final, and what it depends on is true.
    pub(crate) holds: bool,
}

impl<C> Clone for View<'_, '_, C> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C> Copy for View<'_, '_, C> {}

impl<C> View<'_, '_, C> {
    /// Keeps a run from going on in vain, which costs time up to its whole gas limit: a run that
    /// has become the head is promoted to one that started as the head if all it saw is final, and
    /// given up if something that it depends on is not; all are given up if the block was stopped.
    /// Whether to go on.
    pub(crate) fn keep_up(&mut self, reads: &[Read<'_>]) -> bool {
        if self.at_head {
            return !self.scheduler.stopped();
        }
        if self.scheduler.head() == Some(self.tx) {
            // Once is enough: what it reads from now on is final. Who comes to depend on more of what
            // it has seen takes `holds` back where that is not true any more.
            if !self.holds {
                self.at_head = self.memory.still_sees(self.tx, reads);
                self.holds = self.at_head || self.memory.validate(self.tx, reads).is_ok();
            }
            return self.holds && !self.scheduler.stopped();
        }
        !self.scheduler.stopped()
    }

    /// Reads the parent state; takes down how long that takes as long as it is of interest.
    pub(crate) fn read_parent<R>(&self, read: impl FnOnce() -> R) -> R {
        if !self.scheduler.times_reads() {
            return read();
        }
        let started = Instant::now();
        let value = read();
        self.scheduler.read_took(started.elapsed());
        value
    }

    /// See [`VersionedMemory::foresee`].
    pub(crate) fn foresee(&self, cell: &SlotCell, rule: u16) -> (Found<U256>, U256) {
        let foresee = |additions: &Additions<'_>| self.memory.foresee(cell, self.tx, additions);
        self.scheduler.with_additions(rule, self.tx, foresee)
    }

    /// What the commits so far add up to. Final only [`Self::at_head`], where nothing else can be
    /// committed before this transaction ends.
    pub(crate) fn committed<R>(&self, read: impl FnOnce(&C) -> R) -> R {
        read(&self.committed.lock())
    }
}

/// The last incarnation that ran to its end. Its writes are what stands in the memory under this
/// transaction's name, also while another incarnation runs (as estimates then).
type Slot<'m, T> = Option<(Trace<'m>, T)>;

/// One block in execution.
#[derive(Debug)]
pub(crate) struct Engine<'a, 'm, T: Transactions<'m>> {
    transactions: &'a T,
    memory: &'m VersionedMemory,
    scheduler: Scheduler<'a>,
    slots: Vec<Mutex<Slot<'m, T::Output>>>,
    /// Held by the one worker that commits.
    committed: Mutex<T::Committed>,
    error: Mutex<Option<T::Error>>,
    started: Instant,
}

/// What a worker has at hand while it works on a block.
struct Desk<'d, 'm, W> {
    worker: &'d mut W,
    log: WorkerLog,
    /// Emptied traces, for their memory.
    spare: Vec<Trace<'m>>,
}

/// Reads that went stale with another from which something is learned.
const STALE_TOO_MAX: usize = 8;

/// Emptied traces that a worker keeps: more than it can have between execution and commit for
/// long.
const SPARE_MAX: usize = 1_024;

impl<'m, W> Desk<'_, 'm, W> {
    fn trace(&mut self) -> Trace<'m> {
        self.spare.pop().unwrap_or_default()
    }

    fn put_back(&mut self, mut trace: Trace<'m>) {
        if self.spare.len() < SPARE_MAX {
            trace.reads.clear();
            trace.writes.clear();
            self.spare.push(trace);
        }
    }
}

impl<'a, 'm, T: Transactions<'m>> Engine<'a, 'm, T> {
    pub(crate) fn new(
        transactions: &'a T,
        memory: &'m VersionedMemory,
        plan: &Plan<'_, 'a>,
        committed: T::Committed,
        started: Instant,
    ) -> Self {
        Self {
            transactions,
            memory,
            slots: plan.forecasts.iter().map(|_| Mutex::new(None)).collect(),
            scheduler: Scheduler::new(plan),
            committed: Mutex::new(committed),
            error: Mutex::new(None),
            started,
        }
    }

    /// Makes all workers finish; the block then has no result.
    pub(crate) fn stop(&self) {
        self.scheduler.stop();
    }

    /// What the commits added up to, once every worker has finished, and the first transaction that
    /// is not among them, for somebody else to go on with: `Err(None)` for a block that was stopped.
    pub(crate) fn into_result(self) -> Result<(T::Committed, TxIndex), Option<T::Error>> {
        if let Some(error) = self.error.into_inner() {
            return Err(Some(error));
        }
        if !self.scheduler.finished() && !self.scheduler.abandoned() {
            return Err(None);
        }
        Ok((self.committed.into_inner(), self.scheduler.committed_below()))
    }

    /// Works on the block until it is done, or until `cancelled`.
    pub(crate) fn work<'w>(
        &'w self,
        id: usize,
        worker: &mut T::Worker<'w>,
        cancelled: impl Fn() -> bool,
    ) -> WorkerLog {
        let mut desk = Desk { worker, log: WorkerLog::new(id), spare: Vec::new() };
        let mut stretch = Stretch::new(id);
        let mut look_ahead = false;
        let mut backoff = Backoff::default();
        desk.log.begin(self.nanoseconds());
        loop {
            if cancelled() {
                self.stop();
            }
            if stretch.is_empty() {
                desk.log.pause();
            }
            let task = self.scheduler.next(&mut stretch, std::mem::take(&mut look_ahead));
            let Some(task) = task else {
                desk.log.wait(|| self.nanoseconds());
                backoff.pause();
                continue;
            };
            match task {
                Task::Finished => {
                    desk.log.finish(self.nanoseconds());
                    return desk.log;
                }
                Task::Run(tx) => {
                    desk.log.go_on(|| self.nanoseconds());
                    self.run(tx, &mut desk);
                }
                Task::Check(tx) => {
                    desk.log.go_on(|| self.nanoseconds());
                    self.check(tx, &mut desk);
                }
                Task::Commit => match self.committed.try_lock() {
                    Some(guard) => {
                        desk.log.go_on(|| self.nanoseconds());
                        if let Some(stale) = self.commit_prefix(guard, &mut desk) {
                            self.run(stale, &mut desk);
                        }
                    }
                    None => {
                        look_ahead = true;
                        desk.log.wait(|| self.nanoseconds());
                        backoff.pause();
                    }
                },
            }
        }
    }

    fn nanoseconds(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Runs a claimed transaction, and then those that it leaves to be run as the head.
    fn run<'w>(&'w self, tx: TxIndex, desk: &mut Desk<'_, 'm, T::Worker<'w>>) {
        let mut next = Some(tx);
        while let Some(tx) = next {
            next = self.run_once(tx, desk);
        }
    }

    fn run_once<'w>(
        &'w self,
        tx: TxIndex,
        desk: &mut Desk<'_, 'm, T::Worker<'w>>,
    ) -> Option<TxIndex> {
        let incarnation = Incarnation(self.scheduler.begin(tx, desk.log.worker()));
        let at_head = self.scheduler.head() == Some(tx);
        let mut view = View {
            memory: self.memory,
            committed: &self.committed,
            scheduler: &self.scheduler,
            tx,
            at_head,
            holds: at_head,
        };
        let mut trace = desk.trace();
        desk.log.start(|| self.nanoseconds());
        let result = self.transactions.execute(desk.worker, &mut view, &mut trace);
        let end = |desk: &mut Desk<'_, 'm, _>, ending| {
            desk.log.end(tx, incarnation, ending, || self.nanoseconds());
        };
        match result {
            Ok(output) => {
                end(desk, Ending::Executed);
                return self.finish(incarnation, &view, trace, output, desk);
            }
            Err(Interrupt::After(other)) => {
                end(desk, Ending::Waited(other));
                desk.put_back(trace);
                self.scheduler.wait_for(tx, other);
            }
            Err(Interrupt::AtHead) => {
                debug_assert!(
                    !at_head || self.scheduler.stopped(),
                    "the head asked for what only the head may read"
                );
                end(desk, Ending::NeededHead);
                desk.put_back(trace);
                self.scheduler.wait_for_head(tx);
            }
            Err(Interrupt::Failed(error)) => {
                end(desk, Ending::Failed);
                self.fail(error);
            }
        }
        None
    }

    /// Publishes what an incarnation wrote; commits it at once if it ran as the head, and what
    /// can be after it. Gives the one to run again as the head, see [`Self::commit_prefix`].
    fn finish<'w>(
        &'w self,
        incarnation: Incarnation,
        view: &View<'w, 'm, T::Committed>,
        trace: Trace<'m>,
        output: T::Output,
        desk: &mut Desk<'_, 'm, T::Worker<'w>>,
    ) -> Option<TxIndex> {
        let tx = view.tx;
        let mut slot = self.slots[tx.as_usize()].lock();
        let former = slot.as_ref().map_or(&[][..], |(former, _)| &former.writes);
        let head = self.scheduler.committed_below();
        self.memory.publish(tx, incarnation, former, &trace.writes, head);
        self.scheduler.published(desk.log.worker());
        // What the head read is not taken down; then the writes say it.
        self.scheduler.ran(tx, |location| trace.touched(location));
        let added = |slot: &Location| self.added(tx, &trace, slot);
        let holds = || view.at_head || self.seems_stale(tx, &trace).is_none();
        for (slot, rule) in self.scheduler.counted(tx, added, holds) {
            self.slot(&slot).inspect(|cell| cell.set_rule(rule));
        }
        if view.at_head
            && let Some(mut committed) = self.committed.try_lock()
        {
            let former = slot.take();
            drop(slot);
            let mut stale = None;
            if self.take_in(&mut committed, tx, &trace, output) {
                self.scheduler.committed_at_once(tx);
                stale = self.commit_prefix(committed, desk);
            }
            desk.put_back(trace);
            if let Some((former, _)) = former {
                desk.put_back(former);
            }
            return stale;
        }
        let former = slot.replace((trace, output));
        drop(slot);
        self.scheduler.executed(tx);
        if let Some((former, _)) = former {
            desk.put_back(former);
        }
        None
    }

    /// Takes the validated head into the block; whether the block goes on.
    fn take_in(
        &self,
        committed: &mut T::Committed,
        tx: TxIndex,
        trace: &Trace<'m>,
        output: T::Output,
    ) -> bool {
        match self.transactions.commit(committed, tx, output) {
            Verdict::Keep => {}
            Verdict::Leave => self.memory.retract(tx, &trace.writes),
            Verdict::Stop(error) => {
                self.fail(error);
                return false;
            }
        }
        true
    }

    fn fail(&self, error: T::Error) {
        self.error.lock().get_or_insert(error);
        self.scheduler.stop();
    }

    fn stale(&self, tx: TxIndex, slot: &Slot<'m, T::Output>) -> Option<StaleRead> {
        let (trace, _) = slot.as_ref()?;
        self.memory.validate(tx, &trace.reads).err()
    }

    /// As [`Self::stale`], ahead of its turn: what it was told of a counter is to be what it would be
    /// told now.
    fn seems_stale(&self, tx: TxIndex, trace: &Trace<'m>) -> Option<StaleRead> {
        let holds = |read: &Read<'m>| {
            let Read::Counter(cell, told) = *read else {
                return self.memory.validate(tx, std::slice::from_ref(read));
            };
            let foresee = |additions: &Additions<'_>| self.memory.foresee(cell, tx, additions);
            let (found, more) = match cell.rule() {
                Some(rule) => self.scheduler.with_additions(rule, tx, foresee),
                None => (self.memory.find_slot(cell, tx), U256::ZERO),
            };
            let told_before = |now: &U256| now.wrapping_add(more) == told;
            cell.check_found(found, told_before)
                .map_err(|writer| StaleRead { location: read.location(), writer })
        };
        trace.reads.iter().find_map(|read| holds(read).err())
    }

    fn slot(&self, slot: &Location) -> Option<&'m SlotCell> {
        let Location::Slot(address, key) = *slot else { return None };
        self.memory.known_slot(address, key)
    }

    /// How much a run of `tx` has added to a slot.
    fn added(&self, tx: TxIndex, trace: &Trace<'m>, slot: &Location) -> U256 {
        let Some(cell) = self.slot(slot) else { return U256::ZERO };
        let written = trace.writes.iter().find_map(|write| match write {
            Write::Slot(written, value) if std::ptr::eq(*written, cell) => Some(*value),
            _ => None,
        });
        let Some(written) = written else { return U256::ZERO };
        let read = trace.reads.iter().find_map(|read| match read {
            Read::Slot(read, value) | Read::Counter(read, value) if std::ptr::eq(*read, cell) => {
                Some(*value)
            }
            _ => None,
        });
        // What the head reads is not taken down, but final.
        let read = read.or_else(|| match self.memory.find_slot(cell, tx) {
            Found::Written(_, value) => Some(value),
            Found::Parent => cell.known_parent(),
            Found::Estimate(_) => None,
        });
        written.wrapping_sub(read.unwrap_or_default())
    }

    fn conflict(
        &self,
        tx: TxIndex,
        stale: StaleRead,
        slot: &Slot<'m, T::Output>,
        log: &mut WorkerLog,
    ) {
        if let Some((former, _)) = slot {
            self.memory.mark_estimates(tx, &former.writes);
            // Whatever else went stale with it need not come to a conflict of its own.
            let slots = former.reads.iter().filter(|read| matches!(read, Read::Slot(..)));
            let stale_too =
                slots.filter_map(|read| self.memory.validate(tx, std::slice::from_ref(read)).err());
            let others = stale_too.filter(|other| other.location != stale.location);
            for other in others.take(STALE_TOO_MAX) {
                self.scheduler.stale_too(tx, other.location, other.writer);
            }
        }
        log.conflicts.push(Conflict { location: stale.location, writer: stale.writer, reader: tx });
    }

    /// Validates a claimed transaction ahead of its turn and runs it again if it is stale.
    fn check<'w>(&'w self, tx: TxIndex, desk: &mut Desk<'_, 'm, T::Worker<'w>>) {
        let slot = self.slots[tx.as_usize()].lock();
        match slot.as_ref().and_then(|(trace, _)| self.seems_stale(tx, trace)) {
            None => {
                drop(slot);
                self.scheduler.executed(tx);
            }
            Some(stale) => {
                self.scheduler.conflict(tx, stale.location, stale.writer);
                self.conflict(tx, stale, &slot, &mut desk.log);
                drop(slot);
                match stale.writer {
                    // It would find what it has found now.
                    Some(writer) if !self.scheduler.has_run(writer) => {
                        self.scheduler.wait_for(tx, writer);
                    }
                    _ => self.run(tx, desk),
                }
            }
        }
    }

    /// Commits executed transactions from the head on, up to one that is stale: that one is the
    /// caller's to run again at once, as the head, with the commit lock released.
    fn commit_prefix<'w>(
        &'w self,
        mut committed: MutexGuard<'_, T::Committed>,
        desk: &mut Desk<'_, 'm, T::Worker<'w>>,
    ) -> Option<TxIndex> {
        desk.log.pause();
        let worker = desk.log.worker();
        let mut next = self.scheduler.executed_head();
        while let Some(tx) = next {
            let mut slot = self.slots[tx.as_usize()].lock();
            if let Some(stale) = self.stale(tx, &slot) {
                self.scheduler.reclaim(tx);
                let StaleRead { location, writer } = stale;
                let goes_on = self.scheduler.conflict_at_head(tx, location, writer, worker);
                self.conflict(tx, stale, &slot, &mut desk.log);
                return goes_on.then_some(tx);
            }
            // Nobody looks at it again, and what it frees serves the transactions to come.
            let Some((trace, output)) = slot.take() else {
                unreachable!("transaction {tx} counts as executed, so it has a result")
            };
            drop(slot);
            if !self.take_in(&mut committed, tx, &trace, output) {
                return None;
            }
            self.scheduler.committed(tx);
            desk.put_back(trace);
            next = self.scheduler.own_executed_head(worker);
        }
        None
    }
}
