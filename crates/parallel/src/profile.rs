//! What happened while a block executed, measured in that run.

use crate::location::{Incarnation, Location, TxIndex};
use alloy_primitives::map::{HashMap, HashSet};
use std::time::Duration;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It ran to its end.
    Executed,
    /// It met a value that this transaction was about to write again.
    Waited(TxIndex),
    /// It needs what only the first uncommitted transaction may read.
    NeededHead,
    /// The block failed in it.
    Failed,
}

/// One run of one transaction on one worker: a bar of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Who ran it, from zero.
    pub worker: usize,
    /// What was run.
    pub tx: TxIndex,
    /// Which attempt it was.
    pub incarnation: Incarnation,
    /// Nanoseconds from the start of the block's transactions.
    pub start_ns: u64,
    /// Nanoseconds from the start of the block's transactions.
    pub end_ns: u64,
    /// How it ended.
    pub ending: Ending,
}

/// A read that was found stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// What was read.
    pub location: Location,
    /// The earlier transaction that wrote it since; `None` if an earlier one took its write back.
    pub writer: Option<TxIndex>,
    /// Who had read it.
    pub reader: TxIndex,
}

/// The conflicts at one location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationConflicts {
    /// What was fought over.
    pub location: Location,
    /// How often a read of it was found stale.
    pub count: usize,
    /// The transactions that fought, in block order.
    pub transactions: Vec<TxIndex>,
}

/// How long a worker was there, in nanoseconds from the start of the block's transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerTimes {
    /// Who, from zero.
    pub worker: usize,
    /// When it began to look for work.
    pub began_ns: u64,
    /// When there was none left.
    pub ended_ns: u64,
    /// How long it had nothing to do in between.
    pub waited_ns: u64,
}

/// What one worker wrote down; merged into a [`Profile`] when the block is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerLog {
    worker: usize,
    spans: Vec<Span>,
    pub(crate) conflicts: Vec<Conflict>,
    /// When the run that is going on began.
    started_ns: u64,
    /// Whether a run begins when the one before ended: asking the clock is a good part of what a
    /// plain payment costs.
    goes_on: bool,
    /// Since when it has had nothing to do.
    waits_since: Option<u64>,
    times: WorkerTimes,
}

impl WorkerLog {
    pub(crate) const fn new(worker: usize) -> Self {
        Self {
            worker,
            spans: Vec::new(),
            conflicts: Vec::new(),
            started_ns: 0,
            goes_on: false,
            waits_since: None,
            times: WorkerTimes { worker, began_ns: 0, ended_ns: 0, waited_ns: 0 },
        }
    }

    /// The worker begins to look for work.
    pub(crate) const fn begin(&mut self, now_ns: u64) {
        self.times.began_ns = now_ns;
    }

    /// There is nothing to do.
    pub(crate) fn wait(&mut self, now_ns: impl FnOnce() -> u64) {
        self.waits_since.get_or_insert_with(now_ns);
    }

    /// There is something to do, again perhaps.
    pub(crate) fn go_on(&mut self, now_ns: impl FnOnce() -> u64) {
        if let Some(since) = self.waits_since.take() {
            self.times.waited_ns += now_ns().saturating_sub(since);
        }
    }

    /// There will not be anything to do any more.
    pub(crate) fn finish(&mut self, now_ns: u64) {
        self.go_on(|| now_ns);
        self.times.ended_ns = now_ns;
    }

    pub(crate) const fn worker(&self) -> usize {
        self.worker
    }

    /// When the last run ended.
    pub(crate) fn last_ns(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.end_ns)
    }

    /// A run begins.
    pub(crate) fn start(&mut self, now_ns: impl FnOnce() -> u64) {
        if !self.goes_on {
            self.started_ns = now_ns();
        }
    }

    /// A run ends, and the next one begins unless [`Self::pause`] is called.
    pub(crate) fn end(
        &mut self,
        tx: TxIndex,
        incarnation: Incarnation,
        ending: Ending,
        now_ns: impl FnOnce() -> u64,
    ) {
        let (worker, start_ns, end_ns) = (self.worker, self.started_ns, now_ns());
        self.spans.push(Span { worker, tx, incarnation, start_ns, end_ns, ending });
        self.started_ns = end_ns;
        self.goes_on = true;
    }

    /// Something else than running transactions begins.
    pub(crate) const fn pause(&mut self) {
        self.goes_on = false;
    }
}

/// The execution of one block's transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Workers that took part.
    pub workers: usize,
    /// Wall time of the transactions, without what comes before and after them in the block.
    pub elapsed: Duration,
    /// Every stale read found.
    pub conflicts: Vec<Conflict>,
    /// Wall time of each part of the block, in order.
    pub stages: Vec<(&'static str, Duration)>,
    logs: Vec<WorkerLog>,
}

impl Profile {
    pub(crate) fn new(elapsed: Duration, mut logs: Vec<WorkerLog>) -> Self {
        let conflicts = logs.iter_mut().flat_map(|log| log.conflicts.drain(..)).collect();
        // One that worked alone for a while has a log of that.
        let workers = logs.iter().map(|log| log.worker + 1).max().unwrap_or(0);
        Self { workers, elapsed, conflicts, stages: Vec::new(), logs }
    }

    fn unordered_spans(&self) -> impl Iterator<Item = &Span> {
        self.logs.iter().flat_map(|log| &log.spans)
    }

    /// Every run, by start time.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<_> = self.unordered_spans().copied().collect();
        spans.sort_unstable_by_key(|span| span.start_ns);
        spans
    }

    /// When each worker was there, in the order in which they began; the first one up to three
    /// times, if it began or ended the block alone.
    pub fn worker_times(&self) -> impl Iterator<Item = WorkerTimes> {
        self.logs.iter().map(|log| log.times)
    }

    /// Runs to the end beyond the first one of each transaction.
    pub fn reexecutions(&self) -> usize {
        let ran = self.unordered_spans().filter(|span| span.ending == Ending::Executed);
        let (mut runs, mut txs) = (0, HashSet::<TxIndex>::default());
        for span in ran {
            runs += 1;
            txs.insert(span.tx);
        }
        runs - txs.len()
    }

    /// Nanoseconds that the run of each of `count` transactions took whose result was committed.
    pub fn transaction_ns(&self, count: usize) -> Vec<u64> {
        let mut times = vec![(Incarnation(0), 0); count];
        for span in self.unordered_spans().filter(|span| span.ending == Ending::Executed) {
            if let Some(time) = times.get_mut(span.tx.as_usize())
                && time.0 <= span.incarnation
            {
                *time = (span.incarnation, span.end_ns.saturating_sub(span.start_ns));
            }
        }
        times.into_iter().map(|(_, time)| time).collect()
    }

    /// Conflicts by location, the most fought-over first.
    pub fn conflicts_by_location(&self) -> Vec<LocationConflicts> {
        let mut by_location = HashMap::<Location, (usize, Vec<TxIndex>)>::default();
        for conflict in &self.conflicts {
            let (count, transactions) = by_location.entry(conflict.location).or_default();
            *count += 1;
            transactions.extend(conflict.writer);
            transactions.push(conflict.reader);
        }
        let mut all: Vec<_> = by_location
            .into_iter()
            .map(|(location, (count, mut transactions))| {
                transactions.sort_unstable();
                transactions.dedup();
                LocationConflicts { location, count, transactions }
            })
            .collect();
        all.sort_unstable_by_key(|entry| (std::cmp::Reverse(entry.count), entry.location));
        all
    }
}
