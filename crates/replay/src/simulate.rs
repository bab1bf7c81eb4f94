//! A block on more workers than the machine has, as a discrete-event simulation. Whatever comes
//! out of here is to be labelled "simulated".
//!
//! Who does what next is not modelled but asked: the simulated workers share one
//! [`Scheduler`], the very one that the executor's workers share, and do with its answers what the
//! executor's engine does, except that running, validating and committing a transaction takes the
//! time that was measured for it, on a clock that is only counted. A run sees of each location what
//! has been published when it reads it, and looks whether it still makes sense as often as the
//! executor's runs do.
//!
//! What is not modelled: a re-execution that takes another path than the first, or writes the same
//! values as before (which the executor then does not hold for a conflict); how many cores there
//! are, and that memory gets slower when many use it, beyond the slow-down that was measured.

use crate::{Dependency, DependencyGraph, graph::Writer};
use alloy_primitives::{U256, map::HashMap};
use heddle_evm::RecoveredTransaction;
use heddle_parallel::{
    Location, TxIndex,
    scheduling::{Additions, BlockForecast, PATIENCE, Pace, Plan, Scheduler, Stretch, Task},
};
use serde::Serialize;
use std::{cmp::Reverse, collections::BinaryHeap};

/// What things cost, in nanoseconds, measured in real runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SimulationCosts {
    /// Running each transaction, with nothing else running.
    pub run_ns: Vec<u64>,
    /// How much longer that takes among several workers: other things compete for memory, and
    /// reads are taken down.
    pub slowdown: f64,
    /// What a lone worker does for a transaction beside running it: publish and commit it.
    pub commit_alone_ns: u64,
    /// What several workers do for each: schedule, validate and commit it.
    pub commit_ns: u64,
    /// Until the second worker begins, and those after it.
    pub start_ns: u64,
    /// What comes before and after the transactions on one worker.
    pub around_alone_ns: u64,
    /// The part of that which several workers share.
    pub shared_ns: u64,
    /// What several workers need before and after in addition.
    pub join_ns: u64,
}

impl SimulationCosts {
    fn around_ns(&self, workers: usize) -> u64 {
        if workers == 1 {
            return self.around_alone_ns;
        }
        let alone = self.around_alone_ns.saturating_sub(self.shared_ns);
        alone + self.shared_ns / workers as u64 + self.join_ns
    }
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

/// What a simulation knows of a block.
#[derive(Debug, Clone, Copy)]
pub struct SimulatedBlock<'a> {
    /// Who depends on whom.
    pub graph: &'a DependencyGraph,
    /// What the executor knows beforehand.
    pub forecast: &'a BlockForecast,
    /// From these it learns what conflicts have in common. Without them it learns nothing.
    pub transactions: &'a [RecoveredTransaction],
}

/// Simulates the block on so many workers (at least one). As in the executor, one of them begins
/// alone if the forecast says that more cannot gain anything, and ends alone what turns out to be
/// one chain.
pub fn simulate(
    block: &SimulatedBlock<'_>,
    costs: &SimulationCosts,
    workers: usize,
) -> SimulatedRun {
    let workers = workers.max(1);
    let forecast = block.forecast;
    let count = block.graph.transactions.len();
    let mut done = Done::default();
    if workers == 1 || !forecast.can_gain() {
        let pace = (workers > 1).then(|| forecast.pace());
        done.go_on_alone(costs, count, pace);
    }
    if done.first < count {
        Simulation::new(block, costs, workers, done).run(&mut done);
    }
    done.go_on_alone(costs, count, None);
    SimulatedRun {
        workers,
        elapsed_ms: (done.now + costs.around_ns(workers)) as f64 / 1e6,
        conflicts: done.conflicts,
        reexecutions: done.runs - count,
    }
}

/// How far a block is.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    /// The first transaction that is not committed.
    first: usize,
    now: u64,
    conflicts: usize,
    /// Runs to the end.
    runs: usize,
}

impl Done {
    /// One worker runs transactions in order and in place, to the end or until the `pace` says that
    /// others should help.
    fn go_on_alone(&mut self, costs: &SimulationCosts, count: usize, mut pace: Option<Pace<'_>>) {
        while self.first < count {
            let tx = TxIndex(self.first as u32);
            self.now += costs.run_ns.get(self.first).copied().unwrap_or_default();
            let ended = self.now;
            self.now += costs.commit_alone_ns;
            self.first += 1;
            self.runs += 1;
            if pace.as_mut().is_some_and(|pace| pace.is_slow(tx, ended)) {
                return;
            }
        }
    }
}

/// A moment of a run that matters.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// It reads what others wrote.
    Dependency(usize),
    /// It reads the sum of all fees.
    Beneficiary,
    /// It looks whether it still makes sense.
    Look,
}

/// A run of a transaction.
#[derive(Debug, Clone, Copy)]
struct Run {
    tx: TxIndex,
    /// The point that it comes to next, or its end.
    next: usize,
    at_head: bool,
    started: u64,
}

#[derive(Debug, Clone, Copy)]
enum Activity {
    Starting,
    /// Looks for work and finds none.
    Waiting,
    Running(Run),
    /// Found it to hold.
    Checking(TxIndex),
    /// Holds the commit lock and commits what it has run as the head.
    CommittingAtOnce(TxIndex),
    /// Holds the commit lock and commits the head.
    Committing(TxIndex),
    Finished,
}

struct Worker {
    activity: Activity,
    stretch: Stretch,
    /// It found the commit lock taken.
    look_ahead: bool,
}

/// Which value a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// A fingerprint of who has written it how often. `None`: the parent state's.
    Written(Option<u64>),
    /// A counter's, and by how much that will turn out to be wrong.
    Foreseen(U256),
}

struct Tx {
    /// Runs to the end so far; what was published carries it as its version.
    version: u32,
    /// It is known to be stale and about to run again.
    estimate: bool,
    /// What its last run saw of each thing it depends on.
    seen: Vec<Seen>,
    points: Vec<(f64, Point)>,
}

impl Tx {
    fn new(graph: &DependencyGraph, index: usize) -> Self {
        let node = &graph.transactions[index];
        let reads = node.dependencies.iter().enumerate();
        let reads = reads.map(|(index, read)| (read.at, Point::Dependency(index)));
        let beneficiary = node.reads_beneficiary.map(|at| (at, Point::Beneficiary));
        let looks = node.looks.iter().map(|at| (*at, Point::Look));
        let mut points: Vec<_> = reads.chain(beneficiary).chain(looks).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self {
            version: 0,
            estimate: false,
            seen: vec![Seen::Written(None); node.dependencies.len()],
            points,
        }
    }
}

struct Simulation<'a> {
    graph: &'a DependencyGraph,
    costs: &'a SimulationCosts,
    scheduler: Scheduler<'a>,
    txs: Vec<Tx>,
    workers: Vec<Worker>,
    /// Slots that count, and the rules that know how.
    counters: HashMap<Location, u16>,
    /// (time, order of creation, worker): each worker that does something has one.
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    created: u64,
    now: u64,
    commit_locked: bool,
    conflicts: usize,
}

impl<'a> Simulation<'a> {
    fn new(
        block: &SimulatedBlock<'a>,
        costs: &'a SimulationCosts,
        workers: usize,
        done: Done,
    ) -> Self {
        let SimulatedBlock { graph, forecast, transactions } = *block;
        let scheduler = Scheduler::new(&Plan {
            transactions,
            forecasts: &forecast.transactions,
            predecessors: &forecast.predecessors,
            first: TxIndex(done.first as u32),
            workers,
            patience: PATIENCE,
        });
        let worker = |id| Worker {
            activity: Activity::Starting,
            stretch: Stretch::new(id),
            look_ahead: false,
        };
        let mut txs: Vec<_> =
            (0..graph.transactions.len()).map(|index| Tx::new(graph, index)).collect();
        for tx in &mut txs[..done.first] {
            tx.version = 1;
        }
        Self {
            graph,
            costs,
            scheduler,
            txs,
            workers: (0..workers).map(worker).collect(),
            counters: HashMap::default(),
            events: BinaryHeap::new(),
            created: 0,
            now: done.now,
            commit_locked: false,
            conflicts: 0,
        }
    }

    /// Goes on from `done`, to the end of the block or until the rest is better left to one worker.
    fn run(mut self, done: &mut Done) {
        for worker in 0..self.workers.len() {
            // The calling thread is the first.
            let start = if worker == 0 { 0 } else { self.costs.start_ns };
            self.does(worker, Activity::Starting, self.now + start);
        }
        while self.scheduler.head().is_some() && !self.scheduler.abandoned() {
            let Some(Reverse((time, _, worker))) = self.events.pop() else {
                unreachable!("the head is always pending, executed or in the hands of a worker")
            };
            self.now = self.now.max(time);
            self.advance(worker);
            for other in 0..self.workers.len() {
                if matches!(self.workers[other].activity, Activity::Waiting) {
                    self.find_work(other);
                }
            }
        }
        let runs = self.txs[done.first..].iter().map(|tx| tx.version as usize);
        done.runs += runs.sum::<usize>();
        done.conflicts = self.conflicts;
        done.now = self.now;
        done.first = self.scheduler.committed_below().as_usize();
    }

    /// Lets a worker do something that takes until `time`.
    fn does(&mut self, worker: usize, activity: Activity, time: u64) {
        self.workers[worker].activity = activity;
        self.created += 1;
        self.events.push(Reverse((time, self.created, worker)));
    }

    /// What a worker was doing is done, or a run has come to its next point.
    fn advance(&mut self, worker: usize) {
        match self.workers[worker].activity {
            Activity::Starting => self.find_work(worker),
            Activity::Waiting | Activity::Finished => {
                unreachable!("a worker that does nothing has no event")
            }
            Activity::Running(run) => self.advance_run(worker, run),
            Activity::Checking(tx) => {
                self.scheduler.executed(tx);
                self.find_work(worker);
            }
            Activity::CommittingAtOnce(tx) => {
                self.scheduler.committed_at_once(tx);
                let next = self.scheduler.executed_head();
                self.commit(worker, next);
            }
            Activity::Committing(tx) => {
                self.scheduler.committed(tx);
                let next = self.scheduler.own_executed_head(worker);
                self.commit(worker, next);
            }
        }
    }

    fn find_work(&mut self, worker: usize) {
        self.workers[worker].activity = Activity::Waiting;
        loop {
            let Worker { stretch, look_ahead, .. } = &mut self.workers[worker];
            let looks_ahead = std::mem::take(look_ahead);
            match self.scheduler.next(stretch, looks_ahead) {
                None => return,
                Some(Task::Finished) => {
                    self.workers[worker].activity = Activity::Finished;
                    return;
                }
                Some(Task::Run(tx)) => return self.begin(worker, tx),
                Some(Task::Check(tx)) => {
                    let Some((location, writer)) = self.stale(tx, Turn::Ahead) else {
                        let until = self.now + self.costs.commit_ns;
                        return self.does(worker, Activity::Checking(tx), until);
                    };
                    self.scheduler.conflict(tx, location, Some(writer));
                    self.conflict(tx);
                    if self.scheduler.has_run(writer) {
                        return self.begin(worker, tx);
                    }
                    // It would find what it has found now.
                    self.scheduler.wait_for(tx, writer);
                    continue;
                }
                Some(Task::Commit) if !self.commit_locked => {
                    let head = self.scheduler.executed_head();
                    return self.commit(worker, head);
                }
                Some(Task::Commit) => self.workers[worker].look_ahead = true,
            }
            if looks_ahead {
                return;
            }
        }
    }

    fn begin(&mut self, worker: usize, tx: TxIndex) {
        self.scheduler.begin(tx, worker);
        let at_head = self.scheduler.head() == Some(tx);
        self.go_on(worker, Run { tx, next: 0, at_head, started: self.now });
    }

    /// Lets a run go on until its next point, or its end.
    fn go_on(&mut self, worker: usize, run: Run) {
        let index = run.tx.as_usize();
        let all = self.costs.run_ns.get(index).copied().unwrap_or_default() as f64;
        let all = all * self.costs.slowdown;
        let part = self.txs[index].points.get(run.next).map_or(1.0, |(at, _)| *at);
        let time = run.started + (all * part) as u64;
        self.does(worker, Activity::Running(run), time.max(self.now));
    }

    fn advance_run(&mut self, worker: usize, mut run: Run) {
        let tx = run.tx;
        let Some((_, point)) = self.txs[tx.as_usize()].points.get(run.next).copied() else {
            return self.finish(worker, run);
        };
        match point {
            Point::Dependency(index) => {
                let dependency = &self.graph.transactions[tx.as_usize()].dependencies[index];
                let rule = self.counters.get(&dependency.location).filter(|_| !run.at_head);
                let found = match rule {
                    Some(rule) => self.foresee(tx, dependency, *rule),
                    None => self.find(tx, dependency),
                };
                match found {
                    Ok(seen) => self.txs[tx.as_usize()].seen[index] = seen,
                    Err(estimate) => {
                        self.scheduler.wait_for(tx, estimate);
                        return self.find_work(worker);
                    }
                }
            }
            Point::Beneficiary | Point::Look => {
                let must_be_head = matches!(point, Point::Beneficiary);
                let is_head = self.scheduler.head() == Some(tx);
                if is_head && !run.at_head {
                    run.at_head = self.stale_until(tx, run.next, Turn::Now).is_none();
                }
                if !run.at_head && (is_head || must_be_head) {
                    self.scheduler.wait_for_head(tx);
                    return self.find_work(worker);
                }
            }
        }
        self.go_on(worker, Run { next: run.next + 1, ..run });
    }

    /// Publishes what a run wrote, and commits it at once if it ran as the head.
    fn finish(&mut self, worker: usize, Run { tx, at_head, .. }: Run) {
        self.txs[tx.as_usize()].version += 1;
        self.txs[tx.as_usize()].estimate = false;
        self.scheduler.published(worker);
        let dependencies = &self.graph.transactions[tx.as_usize()].dependencies;
        let depends_on = |location| dependencies.iter().any(|read| read.location == location);
        self.scheduler.ran(tx, depends_on);
        let added = |slot: &Location| self.graph.added(tx, slot);
        let holds = || at_head || self.stale(tx, Turn::Ahead).is_none();
        let found = self.scheduler.counted(tx, added, holds);
        self.counters.extend(found);
        if at_head && !self.commit_locked {
            self.commit_locked = true;
            let until = self.now + self.costs.commit_ns;
            return self.does(worker, Activity::CommittingAtOnce(tx), until);
        }
        self.scheduler.executed(tx);
        self.find_work(worker);
    }

    /// With the commit lock: begins to commit `head`, or lets go of the lock.
    fn commit(&mut self, worker: usize, head: Option<TxIndex>) {
        self.commit_locked = false;
        let Some(tx) = head else { return self.find_work(worker) };
        if let Some((location, writer)) = self.stale(tx, Turn::Now) {
            self.scheduler.reclaim(tx);
            let goes_on = self.scheduler.conflict_at_head(tx, location, Some(writer), worker);
            self.conflict(tx);
            if goes_on {
                self.begin(worker, tx);
            }
            return;
        }
        self.commit_locked = true;
        let until = self.now + self.costs.commit_ns;
        self.does(worker, Activity::Committing(tx), until);
    }

    fn conflict(&mut self, tx: TxIndex) {
        self.conflicts += 1;
        for (location, writer) in self.all_stale(tx, usize::MAX, Turn::Ahead).skip(1) {
            self.scheduler.stale_too(tx, location, Some(writer));
        }
        self.txs[tx.as_usize()].estimate = true;
    }

    /// What a read finds: what those before it that have run have left there, or a value that is
    /// about to be written again.
    fn find(&self, reader: TxIndex, dependency: &Dependency) -> Result<Seen, TxIndex> {
        let mut seen = None;
        for writer in self.graph.writers_before(dependency, reader) {
            let Tx { version, estimate, .. } = self.txs[writer.tx.as_usize()];
            if version == 0 {
                continue;
            }
            if estimate {
                return Err(writer.tx);
            }
            let this = u64::from(writer.tx.0) << 32 | u64::from(version);
            // Exact but for sums, whose parts are mixed.
            seen = Some(seen.map_or(this, |sum: u64| sum.rotate_left(7).wrapping_add(this)));
            if !writer.credit {
                break;
            }
        }
        Ok(Seen::Written(seen))
    }

    /// What a read is told of a counter: as the executor's.
    fn foresee(
        &self,
        reader: TxIndex,
        dependency: &Dependency,
        rule: u16,
    ) -> Result<Seen, TxIndex> {
        let foresee = |additions: &Additions<'_>| self.foresee_with(reader, dependency, additions);
        self.scheduler.with_additions(rule, reader, foresee)
    }

    fn foresee_with(
        &self,
        reader: TxIndex,
        dependency: &Dependency,
        additions: &Additions<'_>,
    ) -> Result<Seen, TxIndex> {
        let (mut first, mut truth) = (TxIndex(0), U256::ZERO);
        for writer in self.graph.writers_before(dependency, reader) {
            let Tx { version, estimate, .. } = self.txs[writer.tx.as_usize()];
            if version > 0 && !additions.know(writer.tx) {
                if estimate {
                    return Err(writer.tx);
                }
                first = TxIndex(writer.tx.0 + 1);
                break;
            }
            truth = truth.wrapping_add(writer.added);
        }
        Ok(Seen::Foreseen(additions.sum(first).wrapping_sub(truth)))
    }

    /// The first of its reads that no longer holds, and whose write is to blame.
    fn stale(&self, tx: TxIndex, turn: Turn) -> Option<(Location, TxIndex)> {
        self.stale_until(tx, usize::MAX, turn)
    }

    /// The first of the reads before point `next` that no longer holds.
    fn stale_until(&self, tx: TxIndex, next: usize, turn: Turn) -> Option<(Location, TxIndex)> {
        self.all_stale(tx, next, turn).next()
    }

    fn all_stale(
        &self,
        tx: TxIndex,
        next: usize,
        turn: Turn,
    ) -> impl Iterator<Item = (Location, TxIndex)> {
        let Tx { points, seen, .. } = &self.txs[tx.as_usize()];
        points.iter().take(next).filter_map(move |(_, point)| {
            let Point::Dependency(index) = *point else { return None };
            let dependency = &self.graph.transactions[tx.as_usize()].dependencies[index];
            let rule = self.counters.get(&dependency.location);
            let holds = match (seen[index], turn) {
                (Seen::Written(_), _) => self.find(tx, dependency) == Ok(seen[index]),
                (Seen::Foreseen(error), Turn::Now) => error.is_zero(),
                (Seen::Foreseen(_), Turn::Ahead) => {
                    rule.is_some_and(|rule| self.foresee(tx, dependency, *rule) == Ok(seen[index]))
                }
            };
            if holds {
                return None;
            }
            let has_run = |writer: &Writer| self.txs[writer.tx.as_usize()].version > 0;
            let writer = self.graph.writers_before(dependency, tx).find(has_run);
            Some((dependency.location, writer.map_or(dependency.writer, |writer| writer.tx)))
        })
    }
}

/// Whether it is a transaction's turn, so that all before it is final.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Ahead,
    Now,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::tests::{Described, graph},
        record::{RecordedRead, RecordedTransaction},
    };
    use alloy_primitives::Address;
    use heddle_parallel::scheduling::Forecast;

    const ALONE: Described<'_> = (1, &[], &[]);
    const CHAINED: Described<'_> = (1, &[1], &[1]);
    const MS: u64 = 1_000_000;

    fn costs(run_ms: &[u64]) -> SimulationCosts {
        let run_ns = run_ms.iter().map(|ms| ms * MS).collect();
        SimulationCosts { run_ns, slowdown: 1.0, ..Default::default() }
    }

    fn simulate(
        graph: &DependencyGraph,
        forecast: &BlockForecast,
        costs: &SimulationCosts,
        workers: usize,
    ) -> SimulatedRun {
        super::simulate(&SimulatedBlock { graph, forecast, transactions: &[] }, costs, workers)
    }

    /// Transactions so heavy that each is a stretch of its own, each by another sender.
    fn heavy(count: usize) -> BlockForecast {
        forecast(count, 64, |_| None)
    }

    fn forecast(
        count: usize,
        work: u8,
        sender_before: impl Fn(usize) -> Option<u32>,
    ) -> BlockForecast {
        // More work than one worker is given alone, however few there are.
        let mut forecast = BlockForecast {
            transactions: Vec::new(),
            predecessors: Vec::new(),
            work: 1 << 20,
            payments: 0,
            chain_work: 1,
        };
        for index in 0..count {
            let first = forecast.predecessors.len() as u32;
            forecast.predecessors.extend(sender_before(index).map(TxIndex));
            let count = forecast.predecessors.len() as u32 - first;
            let predecessors = (first, count as u8);
            forecast.transactions.push(Forecast { predecessors, work });
        }
        forecast
    }

    #[test]
    fn independent_transactions_scale_with_the_workers() {
        let graph = graph(&[ALONE; 64]);
        for workers in [1, 2, 4, 8, 16, 32, 64] {
            let run = simulate(&graph, &heavy(64), &costs(&[1; 64]), workers);
            assert_eq!((run.elapsed_ms, run.conflicts), (64.0 / workers as f64, 0));
        }
    }

    #[test]
    fn a_block_that_is_forecast_to_gain_nothing_runs_in_place_on_one_worker() {
        let graph = graph(&[ALONE; 64]);
        let mut forecast = heavy(64);
        forecast.chain_work = forecast.work;
        let costs = SimulationCosts { slowdown: 2.0, ..costs(&[1; 64]) };
        let run = simulate(&graph, &forecast, &costs, 16);
        assert_eq!((run.workers, run.elapsed_ms), (16, 64.0));
    }

    #[test]
    fn light_transactions_are_run_and_committed_in_stretches() {
        let graph = graph(&[ALONE; 96]);
        let costs = SimulationCosts { commit_ns: MS, ..costs(&[1; 96]) };
        let run = simulate(&graph, &forecast(96, 6, |_| None), &costs, 2);
        // Eight in a stretch. Both workers commit what they have run, one of them at a time: half of
        // the 192 ms of work for each, and some waiting for the lock and at the end.
        assert!((96.0..=120.0).contains(&run.elapsed_ms), "{} ms", run.elapsed_ms);
        assert_eq!(run.conflicts, 0);
    }

    #[test]
    fn a_chain_that_nobody_foresaw_is_soon_left_to_one_worker() {
        let graph = graph(&[CHAINED; 1_600]);
        let costs = SimulationCosts { slowdown: 1.5, ..costs(&[1; 1_600]) };
        for workers in [2, 8] {
            let run = simulate(&graph, &heavy(1_600), &costs, workers);
            // Running ahead is given up for good once one worker had to go on alone in several
            // pieces, of some hundred transactions at most; until then each takes half as much again.
            assert!((1_600.0..2_000.0).contains(&run.elapsed_ms), "{run:?}");
            assert!(run.conflicts < 400, "{run:?}");
        }
        assert_eq!(simulate(&graph, &heavy(1_600), &costs, 1).elapsed_ms, 1_600.0);
    }

    #[test]
    fn a_small_block_of_slow_transactions_is_shared_when_that_shows() {
        let graph = graph(&[ALONE; 20]);
        let mut forecast = forecast(20, 4, |_| None);
        forecast.work = 80;
        let costs = costs(&[1; 20]);
        // One worker measures its pace over four of them; the other sixteen take two half the time.
        assert_eq!(simulate(&graph, &forecast, &costs, 2).elapsed_ms, 12.0);
        assert_eq!(simulate(&graph, &forecast, &costs, 1).elapsed_ms, 20.0);
    }

    #[test]
    fn few_slow_transactions_are_shared_only_if_they_take_long() {
        let graph = graph(&[ALONE; 10]);
        let mut forecast = forecast(10, 4, |_| None);
        forecast.work = 40;
        // Six are left when the pace is known: of 6 ms, and of 60.
        assert_eq!(simulate(&graph, &forecast, &costs(&[1; 10]), 2).elapsed_ms, 10.0);
        assert_eq!(simulate(&graph, &forecast, &costs(&[10; 10]), 2).elapsed_ms, 70.0);
    }

    #[test]
    fn a_read_before_the_write_is_published_is_found_stale_and_runs_again() {
        let graph = graph(&[(1, &[], &[1]), (1, &[1], &[])]);
        let run = simulate(&graph, &heavy(2), &costs(&[2, 3]), 2);
        // 3 ms on the second worker came to nothing but for the 2 ms on the first; then 3 ms more.
        assert_eq!((run.elapsed_ms, run.conflicts, run.reexecutions), (6.0, 1, 1));
        let mut late = graph;
        late.transactions[1].dependencies[0].at = 0.9;
        let run = simulate(&late, &heavy(2), &costs(&[2, 3]), 2);
        assert_eq!((run.elapsed_ms, run.conflicts), (3.0, 0));
    }

    #[test]
    fn a_stale_run_that_has_become_the_head_is_given_up_when_it_next_looks() {
        let mut graph = graph(&[(1, &[], &[1]), (1, &[1], &[])]);
        graph.transactions[1].looks = vec![0.1, 0.5, 0.9];
        let run = simulate(&graph, &heavy(2), &costs(&[2, 8]), 2);
        // The look at 0.8 ms is too early, that at 4 ms gives up, and 8 ms follow.
        assert_eq!((run.elapsed_ms, run.conflicts, run.reexecutions), (12.0, 0, 0));
    }

    #[test]
    fn a_sender_waits_for_its_own_former_transaction() {
        let graph = graph(&[(1, &[1], &[1]), (1, &[1], &[1]), (1, &[], &[])]);
        let forecast = forecast(3, 64, |index| (index == 1).then_some(0));
        let run = simulate(&graph, &forecast, &costs(&[5, 5, 5]), 2);
        assert_eq!((run.elapsed_ms, run.conflicts), (10.0, 0));
    }

    #[test]
    fn a_reader_of_the_beneficiary_runs_to_its_end_only_as_the_head() {
        let mut graph = graph(&[ALONE; 3]);
        graph.transactions[1].reads_beneficiary = Some(0.5);
        let run = simulate(&graph, &heavy(3), &costs(&[4, 2, 1]), 2);
        // 1 ms until it stops, the third transaction meanwhile, then 2 ms after the first.
        assert_eq!((run.elapsed_ms, run.reexecutions), (6.0, 0));
    }

    #[test]
    fn payments_to_one_account_do_not_wait_for_each_other() {
        let hot = Address::repeat_byte(0xcc);
        let payment = RecordedTransaction { gas: 1, pays: vec![hot], ..Default::default() };
        let read = RecordedRead { location: Location::Account(hot), at: 0.0 };
        let reader = RecordedTransaction { gas: 1, reads: vec![read], ..Default::default() };
        let mut transactions = vec![payment; 15];
        transactions.push(reader);
        let graph = DependencyGraph::new(&transactions, Address::ZERO);
        let run = simulate(&graph, &heavy(16), &costs(&[1; 16]), 4);
        // The reader runs together with the last three payments, and then again.
        assert_eq!((run.elapsed_ms, run.conflicts, run.reexecutions), (5.0, 1, 1));
    }

    #[test]
    fn every_cost_counts_and_an_empty_block_ends() {
        let graph = graph(&[ALONE; 2]);
        let costs = SimulationCosts {
            run_ns: vec![MS; 2],
            slowdown: 2.0,
            commit_alone_ns: 3 * MS,
            commit_ns: 4 * MS,
            start_ns: 100 * MS,
            around_alone_ns: 10 * MS,
            shared_ns: 8 * MS,
            join_ns: MS,
        };
        assert_eq!(simulate(&graph, &heavy(2), &costs, 1).elapsed_ms, 2.0 + 6.0 + 10.0);
        assert_eq!(simulate(&graph, &heavy(2), &costs, 2).elapsed_ms, 4.0 + 8.0 + 2.0 + 4.0 + 1.0);
        assert_eq!(simulate(&graph, &heavy(2), &costs, 8).elapsed_ms, 12.0 + 2.0 + 1.0 + 1.0);
        let none = DependencyGraph::default();
        assert_eq!(simulate(&none, &heavy(0), &costs, 1).elapsed_ms, 10.0);
    }
}
