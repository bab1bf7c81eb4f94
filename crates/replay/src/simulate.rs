//! A block on more workers than the machine has: the parallel executor's scheduling policy as a
//! discrete-event simulation. Whatever comes out of here is to be labelled "simulated".
//!
//! The policy is that of `heddle_parallel`: transactions are handed out in order; a worker that
//! is free looks at the head of the block first (commits it if it is executed, runs it if it is
//! pending), then at transactions that can run again, then at fresh ones, then for stale ones a
//! little ahead. A run sees of each location what has been published when it reads it. What went
//! stale is found at the head or by an idle worker, and runs again; a stale run that becomes the
//! head is given up at once.
//!
//! What is not modelled: a re-execution that takes another path than the first, one that writes
//! the same values as before, and memory bandwidth beyond the slow-down that was measured.

use crate::{Dependency, DependencyGraph};
use heddle_parallel::TxIndex;
use serde::Serialize;
use std::{cmp::Reverse, collections::BinaryHeap};

/// How far ahead of the head idle workers look for stale transactions; as in the executor.
const LOOKAHEAD_MAX: usize = 64;

/// Gas of a transfer to an account without code (yellow paper, G_transaction).
const TRANSFER_GAS: u64 = 21_000;

/// What things cost, in nanoseconds, measured in real runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SimulationCosts {
    /// Running each transaction, with nothing else running.
    pub run_ns: Vec<u64>,
    /// Publishing the writes of a run.
    pub publish_ns: u64,
    /// Validating a transaction and taking it into the block.
    pub commit_ns: u64,
    /// What a block needs before and after its transactions.
    pub fixed_ns: u64,
    /// As `fixed_ns`, in addition, where there is more than one worker.
    pub join_ns: u64,
    /// Until the first of several workers begins.
    pub first_start_ns: u64,
    /// Until the others begin.
    pub start_ns: u64,
    /// How much longer a transaction takes while other workers run: 1 or more.
    pub slowdown: f64,
}

/// A simulated run of a block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SimulatedRun {
    /// Simulated workers.
    pub workers: usize,
    /// Time for the block, in milliseconds.
    pub elapsed_ms: f64,
    /// Stale reads found.
    pub conflicts: usize,
    /// Runs to the end beyond the first of each transaction.
    pub reexecutions: usize,
}

/// Simulates the block on so many workers (at least one). `predecessors[i]` is the last
/// transaction before `i` from the same sender.
pub fn simulate(
    graph: &DependencyGraph,
    predecessors: &[Option<TxIndex>],
    costs: &SimulationCosts,
    workers: usize,
) -> SimulatedRun {
    let workers = workers.max(1);
    Simulation::new(graph, predecessors, costs, workers).run()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Pending,
    Running,
    Executed,
    Committing,
    Committed,
}

/// A moment of a run at which it reads something that matters.
#[derive(Debug, Clone, Copy)]
enum Point {
    Dependency(usize),
    Beneficiary,
}

#[derive(Debug, Clone, Copy)]
enum Activity {
    Starting,
    Idle,
    /// Executes `tx`; its `next` point or its end comes with the worker's next event.
    Running {
        tx: usize,
        next: usize,
        at_head: bool,
        started: u64,
    },
    /// Found `tx` to hold.
    Checking {
        tx: usize,
    },
    /// Holds the commit lock and commits the head.
    Committing,
}

/// Whose value a read found, and which; `None`: the parent state's.
type Seen = Option<(usize, u32)>;

struct Tx {
    status: Status,
    /// Runs to the end so far; what was published carries it as its version.
    version: u32,
    /// It is known to be stale and about to run again.
    estimate: bool,
    /// `Simulation::changes` when it was last found to hold.
    checked: u64,
    dependents: Vec<usize>,
    /// What its last run saw of each thing it depends on.
    seen: Vec<Seen>,
    points: Vec<(f64, Point)>,
}

struct Simulation<'a> {
    graph: &'a DependencyGraph,
    predecessors: &'a [Option<TxIndex>],
    costs: &'a SimulationCosts,
    txs: Vec<Tx>,
    workers: Vec<Activity>,
    /// (time, order of creation, worker)
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    created: u64,
    /// For each worker the event that it waits for; others of its are void.
    expected: Vec<u64>,
    now: u64,
    head: usize,
    fresh: usize,
    ready: BinaryHeap<Reverse<usize>>,
    commit_locked: bool,
    changes: u64,
    conflicts: usize,
}

impl<'a> Simulation<'a> {
    fn new(
        graph: &'a DependencyGraph,
        predecessors: &'a [Option<TxIndex>],
        costs: &'a SimulationCosts,
        workers: usize,
    ) -> Self {
        let txs = graph.transactions.iter().map(|node| {
            let reads = node.dependencies.iter().enumerate();
            let mut points: Vec<_> =
                reads.map(|(index, read)| (read.at, Point::Dependency(index))).collect();
            points.extend(node.reads_beneficiary.map(|at| (at, Point::Beneficiary)));
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Tx {
                status: Status::Pending,
                version: 0,
                estimate: false,
                checked: 0,
                dependents: Vec::new(),
                seen: vec![None; node.dependencies.len()],
                points,
            }
        });
        Self {
            graph,
            predecessors,
            costs,
            txs: txs.collect(),
            workers: vec![Activity::Starting; workers],
            events: BinaryHeap::new(),
            created: 0,
            expected: vec![0; workers],
            now: 0,
            head: 0,
            fresh: 0,
            ready: BinaryHeap::new(),
            commit_locked: false,
            changes: 0,
            conflicts: 0,
        }
    }

    fn run(mut self) -> SimulatedRun {
        let several = self.workers.len() > 1;
        for worker in 0..self.workers.len() {
            let start = match worker {
                _ if !several => 0,
                0 => self.costs.first_start_ns,
                _ => self.costs.start_ns.max(self.costs.first_start_ns),
            };
            self.schedule(worker, start);
        }
        while self.head < self.txs.len()
            && let Some(Reverse((time, event, worker))) = self.events.pop()
        {
            if self.expected[worker] != event {
                continue;
            }
            self.now = time;
            self.advance(worker);
            for idle in 0..self.workers.len() {
                if matches!(self.workers[idle], Activity::Idle) {
                    self.find_work(idle);
                }
            }
        }
        debug_assert_eq!(self.head, self.txs.len(), "a block always ends");
        let joined = if several { self.costs.join_ns } else { 0 };
        let elapsed_ns = self.now + self.costs.fixed_ns + joined;
        let again = |tx: &Tx| tx.version.saturating_sub(1) as usize;
        SimulatedRun {
            workers: self.workers.len(),
            elapsed_ms: elapsed_ns as f64 / 1e6,
            conflicts: self.conflicts,
            reexecutions: self.txs.iter().map(again).sum(),
        }
    }

    fn schedule(&mut self, worker: usize, time: u64) {
        self.created += 1;
        self.expected[worker] = self.created;
        self.events.push(Reverse((time, self.created, worker)));
    }

    fn advance(&mut self, worker: usize) {
        match self.workers[worker] {
            Activity::Starting | Activity::Idle => self.workers[worker] = Activity::Idle,
            Activity::Running { tx, next, at_head, started } => {
                self.advance_run(worker, tx, next, at_head, started);
            }
            Activity::Checking { tx } => {
                self.workers[worker] = Activity::Idle;
                self.executed(tx);
            }
            Activity::Committing => {
                self.txs[self.head].status = Status::Committed;
                self.head += 1;
                self.keep_up();
                self.commit_head(worker);
            }
        }
        if matches!(self.workers[worker], Activity::Idle) {
            self.find_work(worker);
        }
    }

    fn run_ns(&self, tx: usize) -> f64 {
        let slowdown = if self.workers.len() > 1 { self.costs.slowdown.max(1.0) } else { 1.0 };
        self.costs.run_ns.get(tx).copied().unwrap_or_default() as f64 * slowdown
    }

    fn start(&mut self, worker: usize, tx: usize) {
        self.txs[tx].status = Status::Running;
        let at_head = self.head == tx;
        self.go_on(worker, tx, 0, at_head, self.now);
    }

    /// Lets a run go on until its point number `next`, or its end.
    fn go_on(&mut self, worker: usize, tx: usize, next: usize, at_head: bool, started: u64) {
        let time = match self.txs[tx].points.get(next) {
            Some((at, _)) => started + (at * self.run_ns(tx)) as u64,
            None => started + self.run_ns(tx) as u64 + self.costs.publish_ns,
        };
        self.workers[worker] = Activity::Running { tx, next, at_head, started };
        self.schedule(worker, time.max(self.now));
    }

    fn advance_run(&mut self, worker: usize, tx: usize, next: usize, at_head: bool, started: u64) {
        let Some((_, point)) = self.txs[tx].points.get(next).copied() else {
            self.workers[worker] = Activity::Idle;
            self.txs[tx].version += 1;
            self.txs[tx].estimate = false;
            self.changes += 1;
            return self.executed(tx);
        };
        match point {
            Point::Dependency(index) => {
                let seen = self.find(&self.graph.transactions[tx].dependencies[index]);
                if let Some((writer, _)) = seen.filter(|(writer, _)| self.txs[*writer].estimate) {
                    self.workers[worker] = Activity::Idle;
                    return self.wait_for(tx, writer);
                }
                self.txs[tx].seen[index] = seen;
            }
            Point::Beneficiary if !at_head => {
                self.workers[worker] = Activity::Idle;
                self.txs[tx].status = Status::Pending;
                return;
            }
            Point::Beneficiary => {}
        }
        self.go_on(worker, tx, next + 1, at_head, started);
    }

    /// A run that has become the head counts as one that started as the head if all it has read
    /// is final, and is given up if not. The executor looks at every read and JUMPDEST, so nearly
    /// at once, but for plain transfers, which have neither after their first reads.
    fn keep_up(&mut self) {
        let running = self.workers.iter().position(
            |activity| matches!(activity, Activity::Running { tx, .. } if *tx == self.head),
        );
        let Some(worker) = running else { return };
        let Activity::Running { tx, next, started, .. } = self.workers[worker] else { return };
        if !self.is_stale_until(tx, next) {
            self.workers[worker] = Activity::Running { tx, next, at_head: true, started };
        } else if self.graph.transactions[tx].gas > TRANSFER_GAS {
            self.txs[tx].status = Status::Pending;
            self.workers[worker] = Activity::Idle;
            self.expected[worker] = 0;
        }
    }

    fn executed(&mut self, tx: usize) {
        self.txs[tx].status = Status::Executed;
        let dependents = std::mem::take(&mut self.txs[tx].dependents);
        self.ready.extend(dependents.into_iter().map(Reverse));
    }

    fn is_executed(&self, tx: usize) -> bool {
        matches!(self.txs[tx].status, Status::Executed | Status::Committing | Status::Committed)
    }

    fn wait_for(&mut self, tx: usize, other: usize) {
        self.txs[tx].status = Status::Pending;
        if self.is_executed(other) {
            self.ready.push(Reverse(tx));
        } else {
            self.txs[other].dependents.push(tx);
        }
    }

    /// What a read finds: the value of the last writer before it that has published one.
    fn find(&self, dependency: &Dependency) -> Seen {
        let last = dependency.writer.as_usize();
        let writers = self.graph.writers.get(&dependency.location).map(Vec::as_slice);
        let earlier = writers.unwrap_or_default().iter().rev().map(|writer| writer.as_usize());
        // A wipe is no writer of the slot itself, and yet can be the last.
        let found = std::iter::once(last)
            .chain(earlier.filter(|writer| *writer < last))
            .find(|writer| self.txs[*writer].version > 0)?;
        Some((found, self.txs[found].version))
    }

    fn is_stale(&self, tx: usize) -> bool {
        self.is_stale_until(tx, self.txs[tx].points.len())
    }

    /// Whether one of the reads before point `next` no longer holds.
    fn is_stale_until(&self, tx: usize, next: usize) -> bool {
        self.txs[tx].points[..next].iter().any(|(_, point)| {
            let Point::Dependency(index) = *point else { return false };
            let now = self.find(&self.graph.transactions[tx].dependencies[index]);
            now != self.txs[tx].seen[index]
                || now.is_some_and(|(writer, _)| self.txs[writer].estimate)
        })
    }

    fn conflict(&mut self, worker: usize, tx: usize) {
        self.conflicts += 1;
        self.txs[tx].estimate = true;
        self.start(worker, tx);
    }

    /// With the commit lock: begins to commit the head, or lets go of the lock.
    fn commit_head(&mut self, worker: usize) {
        self.commit_locked = true;
        let is_executed = |tx: &Tx| tx.status == Status::Executed;
        if !self.txs.get(self.head).is_some_and(is_executed) {
            self.commit_locked = false;
            self.workers[worker] = Activity::Idle;
        } else if self.is_stale(self.head) {
            self.commit_locked = false;
            self.conflict(worker, self.head);
        } else {
            self.txs[self.head].status = Status::Committing;
            self.workers[worker] = Activity::Committing;
            self.schedule(worker, self.now + self.costs.commit_ns);
        }
    }

    /// What a free worker does.
    fn find_work(&mut self, worker: usize) {
        let Some(head) = self.txs.get(self.head) else { return };
        match head.status {
            Status::Executed if !self.commit_locked => return self.commit_head(worker),
            Status::Pending => return self.start(worker, self.head),
            _ => {}
        }
        while let Some(Reverse(tx)) = self.ready.pop() {
            if self.txs[tx].status == Status::Pending {
                return self.start(worker, tx);
            }
        }
        while self.fresh < self.txs.len() {
            let tx = self.fresh;
            self.fresh += 1;
            if self.txs[tx].status != Status::Pending {
                continue;
            }
            match self.predecessors.get(tx).copied().flatten() {
                Some(former) if !self.is_executed(former.as_usize()) => {
                    self.wait_for(tx, former.as_usize());
                }
                _ => return self.start(worker, tx),
            }
        }
        for tx in self.head + 1..self.txs.len().min(self.head + LOOKAHEAD_MAX) {
            if self.txs[tx].checked < self.changes && self.txs[tx].status == Status::Executed {
                self.txs[tx].checked = self.changes;
                if self.is_stale(tx) {
                    return self.conflict(worker, tx);
                }
                self.txs[tx].status = Status::Running;
                self.workers[worker] = Activity::Checking { tx };
                return self.schedule(worker, self.now + self.costs.commit_ns);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::{Described, graph};

    const ALONE: Described<'_> = (1, &[], &[]);
    const CHAINED: Described<'_> = (1, &[1], &[1]);
    const MS: u64 = 1_000_000;

    fn costs(run_ms: &[u64]) -> SimulationCosts {
        let run_ns = run_ms.iter().map(|ms| ms * MS).collect();
        SimulationCosts { run_ns, slowdown: 1.0, ..Default::default() }
    }

    fn none(count: usize) -> Vec<Option<TxIndex>> {
        vec![None; count]
    }

    #[test]
    fn independent_transactions_scale_with_the_workers() {
        let graph = graph(&[ALONE; 64]);
        for workers in [1, 2, 4, 8, 16, 32, 64] {
            let run = simulate(&graph, &none(64), &costs(&[1; 64]), workers);
            assert_eq!((run.elapsed_ms, run.conflicts), (64.0 / workers as f64, 0));
        }
    }

    #[test]
    fn a_chain_takes_as_long_as_on_one_worker_however_many_there_are() {
        let graph = graph(&[CHAINED; 12]);
        for workers in [1, 2, 8, 64] {
            let run = simulate(&graph, &none(12), &costs(&[1; 12]), workers);
            assert_eq!(run.elapsed_ms, 12.0, "{workers} workers");
        }
        assert_eq!(simulate(&graph, &none(12), &costs(&[1; 12]), 1).conflicts, 0);
    }

    #[test]
    fn a_read_before_the_write_is_published_is_found_stale_and_runs_again() {
        let graph = graph(&[(1, &[], &[1]), (1, &[1], &[])]);
        let run = simulate(&graph, &none(2), &costs(&[2, 3]), 2);
        // 3 ms on the second worker came to nothing but for the 2 ms on the first; then 3 ms more.
        assert_eq!((run.elapsed_ms, run.conflicts, run.reexecutions), (6.0, 1, 1));
        let late = DependencyGraph {
            transactions: {
                let mut transactions = graph.transactions.clone();
                transactions[1].dependencies[0].at = 0.9;
                transactions
            },
            ..graph
        };
        let run = simulate(&late, &none(2), &costs(&[2, 3]), 2);
        assert_eq!((run.elapsed_ms, run.conflicts), (3.0, 0));
    }

    #[test]
    fn a_stale_run_that_becomes_the_head_is_given_up_and_starts_anew() {
        let graph = graph(&[(50_000, &[], &[1]), (50_000, &[1], &[])]);
        let run = simulate(&graph, &none(2), &costs(&[2, 9]), 2);
        assert_eq!((run.elapsed_ms, run.conflicts, run.reexecutions), (11.0, 0, 0));
    }

    #[test]
    fn a_sender_waits_for_its_own_former_transaction() {
        let graph = graph(&[(1, &[1], &[1]), (1, &[1], &[1]), (1, &[], &[])]);
        let predecessors = [None, Some(TxIndex(0)), None];
        let run = simulate(&graph, &predecessors, &costs(&[5, 5, 5]), 2);
        assert_eq!((run.elapsed_ms, run.conflicts), (10.0, 0));
    }

    #[test]
    fn a_reader_of_the_beneficiary_runs_to_its_end_only_as_the_head() {
        let mut graph = graph(&[ALONE; 3]);
        graph.transactions[1].reads_beneficiary = Some(0.5);
        let run = simulate(&graph, &none(3), &costs(&[4, 2, 1]), 2);
        // 1 ms until it stops, the third transaction meanwhile, then 2 ms after the first.
        assert_eq!((run.elapsed_ms, run.reexecutions), (6.0, 0));
    }

    #[test]
    fn every_cost_counts_and_an_empty_block_ends() {
        let graph = graph(&[ALONE; 2]);
        let costs = SimulationCosts {
            run_ns: vec![MS; 2],
            publish_ns: MS,
            commit_ns: MS,
            fixed_ns: MS,
            join_ns: 10 * MS,
            first_start_ns: 0,
            start_ns: 100 * MS,
            slowdown: 2.0,
        };
        assert_eq!(simulate(&graph, &none(2), &costs, 1).elapsed_ms, 7.0);
        assert_eq!(simulate(&graph, &none(2), &costs, 2).elapsed_ms, 19.0);
        assert_eq!(simulate(&DependencyGraph::default(), &[], &costs, 1).elapsed_ms, 1.0);
    }
}
