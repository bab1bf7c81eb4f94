//! What a block would take on other numbers of workers, and what no number can do better than.

use crate::{
    CriticalPath, DependencyGraph, SimulatedBlock, SimulatedRun, SimulationCosts,
    line::ratio,
    replay::{median_ms, timed},
    simulate,
};
use alloy_evm::eth::spec::EthExecutorSpec;
use heddle_evm::{BlockInput, ExecutionError, ParentState};
use heddle_parallel::{ParallelExecutor, Profile, scheduling::BlockForecast};
use serde::Serialize;
use std::time::Duration;

/// Numbers of workers that are simulated.
pub const SIMULATED_WORKERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Runs from which times of single transactions are taken, whatever is asked for: below three a
/// median means nothing, above nine nobody learns more.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=9;

/// Runs of a block on one worker and on several, measured, and on other numbers of them, simulated.
/// Each round of measured runs gives a simulated one, and the middle one of these counts: a few
/// nanoseconds more or less decide who conflicts with whom, in a simulation as in fact.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Median time of each transaction on a single worker, in nanoseconds.
    pub transaction_ns: Vec<u64>,
    /// The heaviest chain by that time.
    pub critical_path_ns: CriticalPath,
    /// Sum of `transaction_ns` over the critical path's: no schedule of these transactions gives a
    /// higher speed-up over running them one after the other.
    pub max_speedup_ns: Option<f64>,
    /// Simulated runs on [`SIMULATED_WORKERS`].
    pub simulated: Vec<SimulatedRun>,
    /// The simulated run on as many workers as the measured one had.
    pub simulated_as_measured: SimulatedRun,
    /// Median time on those workers in the runs that the costs come from, in milliseconds.
    pub measured_ms: f64,
}

/// What of a [`Scale`] goes into a line of output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScaleLine {
    /// Running all transactions one after the other on a single worker, without what is around
    /// them; and those of the heaviest chain.
    pub transactions_ms: f64,
    /// See `transactions_ms`.
    pub critical_path_ms: f64,
    /// Median time on `simulated.workers`, measured in the runs that the simulation's costs come
    /// from.
    pub measured_ms: f64,
    /// What the simulation says about the same.
    pub simulated: SimulatedRun,
    /// `(simulated - measured) / measured`.
    pub deviation: f64,
    /// Simulated runs on [`SIMULATED_WORKERS`].
    pub curve: Vec<SimulatedRun>,
}

impl Scale {
    /// Runs the block in turn on the one worker of `single` and on those of `parallel`, about
    /// `repeat` times, and simulates the rest. `graph` is the block's.
    ///
    /// # Errors
    /// If the block cannot be executed.
    pub fn measure<S, P>(
        spec: &S,
        state: &P,
        input: &BlockInput<'_>,
        graph: &DependencyGraph,
        [single, parallel]: [&ParallelExecutor; 2],
        repeat: usize,
    ) -> Result<Self, ExecutionError>
    where
        S: EthExecutorSpec + Sync,
        P: ParentState,
    {
        let count = input.transactions.len();
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for _ in 0..repeat.clamp(*ROUNDS.start(), *ROUNDS.end()) {
            for (executor, rounds) in [(single, &mut alone), (parallel, &mut together)] {
                executor.forget_code();
                let (executed, wall) = timed(|| executor.execute(spec, state, input));
                rounds.push(Round::new(executor.workers(), &executed?.profile, wall, count));
            }
        }
        let costs: Vec<_> =
            alone.iter().zip(&together).map(|(alone, together)| costs(alone, together)).collect();
        let transaction_ns: Vec<_> = (0..count)
            .map(|index| median(costs.iter().map(|costs| costs.run_ns[index]), |ns| ns))
            .map(Option::unwrap_or_default)
            .collect();
        let critical_path_ns = graph.critical_path(|index| transaction_ns[index]);
        let total_ns: u64 = transaction_ns.iter().sum();
        let forecast = BlockForecast::of(input.transactions, &[]);
        let block = SimulatedBlock { graph, forecast: &forecast, transactions: input.transactions };
        let simulate = |workers| {
            let runs = costs.iter().map(|costs| simulate(&block, costs, workers));
            let Some(run) = median(runs, |run| run.elapsed_ms.to_bits()) else {
                unreachable!("there is at least one round")
            };
            run
        };
        let mut walls: Vec<_> = together.iter().map(|round| round.wall).collect();
        Ok(Self {
            max_speedup_ns: ratio(total_ns as f64, critical_path_ns.weight as f64),
            critical_path_ns,
            simulated: SIMULATED_WORKERS.into_iter().map(simulate).collect(),
            simulated_as_measured: simulate(parallel.workers()),
            measured_ms: median_ms(&mut walls),
            transaction_ns,
        })
    }

    /// (simulated - measured) / measured.
    pub fn deviation(&self) -> f64 {
        (self.simulated_as_measured.elapsed_ms - self.measured_ms) / self.measured_ms
    }

    /// What goes into a line of output.
    pub fn line(&self) -> ScaleLine {
        ScaleLine {
            transactions_ms: self.transaction_ns.iter().sum::<u64>() as f64 / 1e6,
            critical_path_ms: self.critical_path_ns.weight as f64 / 1e6,
            measured_ms: self.measured_ms,
            simulated: self.simulated_as_measured,
            deviation: self.deviation(),
            curve: self.simulated.clone(),
        }
    }
}

/// One point of the curve beside its bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScalePoint {
    /// Simulated workers.
    pub workers: usize,
    /// Simulated time, in milliseconds.
    pub simulated_ms: f64,
    /// The sequential reference's measured time over `simulated_ms`.
    pub simulated_speedup: f64,
    /// What so many workers could do at best: `min(workers, total / critical path)` by measured
    /// time.
    pub bound: f64,
}

impl ScalePoint {
    /// The curve over one or more blocks, each with the median time of the sequential reference.
    pub fn curve<'a>(
        blocks: impl IntoIterator<Item = (f64, &'a ScaleLine), IntoIter: Clone>,
    ) -> Vec<Self> {
        let blocks = blocks.into_iter();
        let sum = |of: &dyn Fn(f64, &ScaleLine) -> f64| -> f64 {
            blocks.clone().map(|(sequential_ms, line)| of(sequential_ms, line)).sum()
        };
        let sequential_ms = sum(&|sequential_ms, _| sequential_ms);
        let transactions_ms = sum(&|_, line| line.transactions_ms);
        let point = |(index, workers): (usize, usize)| {
            let simulated_ms =
                sum(&|_, line| line.curve.get(index).map_or(0.0, |run| run.elapsed_ms));
            let best_ms =
                sum(&|_, line| line.critical_path_ms.max(line.transactions_ms / workers as f64));
            Self {
                workers,
                simulated_ms,
                simulated_speedup: ratio(sequential_ms, simulated_ms).unwrap_or(1.0),
                bound: ratio(transactions_ms, best_ms).unwrap_or(1.0),
            }
        };
        SIMULATED_WORKERS.into_iter().enumerate().map(point).collect()
    }
}

impl ScaleLine {
    /// What so many workers could do at best: `min(workers, total / critical path)` by measured
    /// time.
    pub fn bound(&self, workers: usize) -> f64 {
        let by_dependencies = ratio(self.transactions_ms, self.critical_path_ms).unwrap_or(1.0);
        by_dependencies.min(workers as f64)
    }
}

/// The times of one run, in nanoseconds.
#[derive(Debug)]
struct Round {
    /// Workers of the executor.
    workers: usize,
    /// Whether all of them took part, for a while at least.
    ran_ahead: bool,
    transactions: Vec<u64>,
    /// What the workers did beside running transactions.
    beside: u64,
    /// The whole block.
    wall: Duration,
    /// The block before its workers began and after the last of them had ended.
    around: u64,
    /// From the start of the first of several workers to that of the last.
    start: u64,
}

impl Round {
    fn new(workers: usize, profile: &Profile, wall: Duration, transactions: usize) -> Self {
        let times: Vec<_> = profile.worker_times().collect();
        let began = times.iter().map(|times| times.began_ns).min().unwrap_or_default();
        let ended = times.iter().map(|times| times.ended_ns).max().unwrap_or_default();
        let there = times
            .iter()
            .map(|times| times.ended_ns.saturating_sub(times.began_ns + times.waited_ns));
        let ran = profile.spans().into_iter().map(|span| span.end_ns.saturating_sub(span.start_ns));
        let several = times.iter().position(|times| times.worker == 1);
        let first = several.and_then(|second| times.get(second.checked_sub(1)?));
        let last = times.iter().filter(|times| times.worker > 0).map(|times| times.began_ns).max();
        let start = first.zip(last).map(|(first, last)| last.saturating_sub(first.began_ns));
        let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        Self {
            workers,
            ran_ahead: several.is_some(),
            transactions: profile.transaction_ns(transactions),
            beside: there.sum::<u64>().saturating_sub(ran.sum()),
            wall,
            around: wall_ns.saturating_sub(ended.saturating_sub(began)),
            start: start.unwrap_or_default(),
        }
    }

    fn beside_each(&self) -> u64 {
        self.beside / self.transactions.len().max(1) as u64
    }
}

/// The middle one by `key`.
fn median<T: Copy, K: Ord>(values: impl Iterator<Item = T>, key: fn(T) -> K) -> Option<T> {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by_key(|value| key(*value));
    values.get(values.len() / 2).copied()
}

/// What the simulation needs to know of one round.
fn costs(alone: &Round, together: &Round) -> SimulationCosts {
    // Of what several workers save before and after the transactions, one keeps its share.
    let saved = alone.around.saturating_sub(together.around);
    let others = together.workers.saturating_sub(1) as u64;
    let shared_ns = (saved * together.workers as u64).checked_div(others).unwrap_or_default();
    let costs = SimulationCosts {
        run_ns: alone.transactions.clone(),
        slowdown: 1.0,
        commit_alone_ns: alone.beside_each(),
        commit_ns: alone.beside_each(),
        start_ns: 0,
        around_alone_ns: alone.around,
        shared_ns: shared_ns.min(alone.around),
        join_ns: together.around.saturating_sub(alone.around),
    };
    if !together.ran_ahead {
        return costs;
    }
    let sum = |round: &Round| round.transactions.iter().sum::<u64>() as f64;
    SimulationCosts {
        slowdown: ratio(sum(together), sum(alone)).unwrap_or(1.0).max(1.0),
        commit_ns: together.beside_each(),
        start_ns: together.start,
        ..costs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(transactions_ms: f64, critical_path_ms: f64, elapsed_ms: f64) -> ScaleLine {
        let run = |workers| SimulatedRun { workers, elapsed_ms, conflicts: 0, reexecutions: 0 };
        ScaleLine {
            transactions_ms,
            critical_path_ms,
            measured_ms: elapsed_ms,
            simulated: run(2),
            deviation: 0.0,
            curve: SIMULATED_WORKERS.map(run).to_vec(),
        }
    }

    #[test]
    fn the_curve_of_several_blocks_adds_up_times_and_not_ratios() {
        let blocks = [line(8.0, 1.0, 2.0), line(4.0, 4.0, 6.0)];
        let points = ScalePoint::curve(blocks.iter().map(|line| (10.0, line)));
        let workers: Vec<_> = points.iter().map(|point| point.workers).collect();
        assert_eq!(workers, SIMULATED_WORKERS);
        assert!(points.iter().all(|point| point.simulated_speedup == 2.5));
        // The first block takes 8, 4, 2 and then 1 ms at best, the second always 4.
        let bounds: Vec<_> = points.iter().map(|point| point.bound).collect();
        assert_eq!(bounds[..4], [1.0, 12.0 / 8.0, 12.0 / 6.0, 12.0 / 5.0]);
        assert_eq!(bounds[6], 12.0 / 5.0);
        assert_eq!((blocks[0].bound(2), blocks[0].bound(64), blocks[1].bound(2)), (2.0, 8.0, 1.0));
    }

    #[test]
    fn what_several_workers_save_around_the_transactions_is_what_they_share() {
        let round = |workers, transactions, beside, around, start| Round {
            workers,
            ran_ahead: start > 0,
            transactions,
            beside,
            wall: Duration::ZERO,
            around,
            start,
        };
        let alone = round(1, vec![100, 300], 50, 90, 0);
        let expected = SimulationCosts {
            run_ns: vec![100, 300],
            slowdown: 1.25,
            commit_alone_ns: 25,
            commit_ns: 40,
            start_ns: 7,
            around_alone_ns: 90,
            shared_ns: 60,
            join_ns: 0,
        };
        assert_eq!(costs(&alone, &round(2, vec![150, 350], 80, 60, 7)), expected);
        let slower = costs(&alone, &round(2, vec![100, 300], 80, 99, 7));
        assert_eq!((slower.shared_ns, slower.join_ns, slower.slowdown), (0, 9, 1.0));
        let in_place = costs(&alone, &round(2, vec![120, 310], 60, 70, 0));
        assert_eq!((in_place.slowdown, in_place.commit_ns, in_place.shared_ns), (1.0, 25, 40));
        let single = costs(&alone, &round(1, vec![100, 300], 50, 70, 0));
        assert_eq!((single.shared_ns, single.join_ns), (0, 0));
    }
}
