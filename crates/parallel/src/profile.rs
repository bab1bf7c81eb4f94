//! What happened while a block executed, measured in that run.

use crate::location::{Incarnation, Location, TxIndex};
use alloy_primitives::map::HashMap;
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

/// What one worker wrote down; merged into a [`Profile`] when the block is done.
#[derive(Debug)]
pub(crate) struct WorkerLog {
    worker: usize,
    pub(crate) spans: Vec<Span>,
    pub(crate) conflicts: Vec<Conflict>,
}

impl WorkerLog {
    pub(crate) const fn new(worker: usize) -> Self {
        Self { worker, spans: Vec::new(), conflicts: Vec::new() }
    }

    pub(crate) const fn worker(&self) -> usize {
        self.worker
    }
}

/// The execution of one block's transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Workers that took part.
    pub workers: usize,
    /// Wall time of the transactions, without what comes before and after them in the block.
    pub elapsed: Duration,
    /// Every run, by start time.
    pub spans: Vec<Span>,
    /// Every stale read found.
    pub conflicts: Vec<Conflict>,
}

impl Profile {
    pub(crate) fn new(elapsed: Duration, logs: Vec<WorkerLog>) -> Self {
        let mut profile = Self { workers: logs.len(), elapsed, ..Self::default() };
        for mut log in logs {
            profile.spans.append(&mut log.spans);
            profile.conflicts.append(&mut log.conflicts);
        }
        profile.spans.sort_unstable_by_key(|span| span.start_ns);
        profile
    }

    /// Runs to the end beyond the first one of each transaction.
    pub fn reexecutions(&self) -> usize {
        let mut executed = HashMap::<TxIndex, usize>::default();
        for span in self.spans.iter().filter(|span| span.ending == Ending::Executed) {
            *executed.entry(span.tx).or_default() += 1;
        }
        executed.values().map(|runs| runs - 1).sum()
    }

    /// Nanoseconds that the run of each of `count` transactions took whose result was committed.
    pub fn transaction_ns(&self, count: usize) -> Vec<u64> {
        let mut times = vec![0; count];
        for span in self.spans.iter().filter(|span| span.ending == Ending::Executed) {
            if let Some(time) = times.get_mut(span.tx.as_usize()) {
                *time = span.end_ns.saturating_sub(span.start_ns);
            }
        }
        times
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
