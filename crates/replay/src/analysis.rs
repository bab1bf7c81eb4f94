//! Where the speed-up of a block went.

use crate::{
    Bundle, CriticalPath, DependencyGraph, HotLocation, SimulatedRun, SimulationCosts, names,
    replay::timed, simulate,
};
use alloy_primitives::map::{AddressMap, HashMap};
use heddle_chainspec::ChainSpec;
use heddle_evm::{BlockInput, ExecutionError};
use heddle_parallel::{Location, ParallelExecutor, Profile, TxIndex};
use std::time::Duration;

/// Numbers of workers that are simulated.
pub const SIMULATED_WORKERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Locations that are named and reported.
const HOT_LOCATIONS: usize = 20;

/// Runs from which times of single transactions are taken, whatever is asked for: below three a
/// median means nothing, above nine nobody learns more.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=9;

/// Where the speed-up of a block went. Measured in runs of its own, except for what is called
/// simulated.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// The heaviest chain by gas.
    pub critical_path_gas: CriticalPath,
    /// The heaviest chain by time, in nanoseconds.
    pub critical_path_ns: CriticalPath,
    /// Median time of each transaction on a single worker, in nanoseconds.
    pub transaction_ns: Vec<u64>,
    /// Sum of `transaction_ns` over the critical path's: no schedule gives a higher speed-up.
    pub max_speedup_ns: Option<f64>,
    /// The locations that cost most, the most expensive first.
    pub hot_locations: Vec<NamedLocation>,
    /// Simulated runs on [`SIMULATED_WORKERS`].
    pub simulated: Vec<SimulatedRun>,
    /// The simulated run on as many workers as the measured one had.
    pub simulated_as_measured: SimulatedRun,
    /// Median time on those workers in the runs that the costs come from, in milliseconds.
    pub measured_ms: f64,
    /// (simulated - measured) / measured.
    pub simulation_error: f64,
    /// What the simulation was told about costs.
    pub costs: SimulationCosts,
    /// The last measured parallel run.
    pub profile: Profile,
}

/// A hot location, as a person would say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLocation {
    /// The location and its cost.
    pub hot: HotLocation,
    /// What the contract calls itself: a token's symbol, `A/B pool` for a pair.
    pub name: Option<String>,
    /// How often a read of it was found stale in the measured run.
    pub conflicts: usize,
}

/// What [`analyse`] starts from.
pub(crate) struct Measurements<'a> {
    pub(crate) spec: &'a ChainSpec,
    pub(crate) bundle: &'a Bundle,
    pub(crate) input: &'a BlockInput<'a>,
    pub(crate) graph: &'a DependencyGraph,
    pub(crate) profile: Profile,
    pub(crate) single: &'a ParallelExecutor,
    pub(crate) parallel: &'a ParallelExecutor,
    pub(crate) repeat: usize,
}

pub(crate) fn analyse(measurements: &Measurements<'_>) -> Result<Analysis, ExecutionError> {
    let Measurements { bundle, input, graph, profile, .. } = measurements;
    let (costs, measured_ms) = measure_costs(measurements)?;
    let time = |index: usize| costs.run_ns.get(index).copied().unwrap_or_default();
    let critical_path_ns = graph.critical_path(time);
    let total_ns: u64 = costs.run_ns.iter().sum();
    let predecessors = sender_predecessors(input);
    let simulate = |workers| simulate(graph, &predecessors, &costs, workers);
    let simulated_as_measured = simulate(measurements.parallel.workers());
    Ok(Analysis {
        critical_path_gas: graph.critical_path_gas(),
        max_speedup_ns: crate::line::ratio(total_ns as f64, critical_path_ns.weight as f64),
        critical_path_ns,
        hot_locations: name_hot_locations(bundle, input, graph, profile),
        simulated: SIMULATED_WORKERS.into_iter().map(simulate).collect(),
        simulated_as_measured,
        measured_ms,
        simulation_error: (simulated_as_measured.elapsed_ms - measured_ms) / measured_ms,
        transaction_ns: costs.run_ns.clone(),
        costs,
        profile: profile.clone(),
    })
}

fn sender_predecessors(input: &BlockInput<'_>) -> Vec<Option<TxIndex>> {
    let mut last = AddressMap::<TxIndex>::default();
    let transactions = input.transactions.iter().enumerate();
    transactions.map(|(index, tx)| last.insert(tx.signer(), TxIndex(index as u32))).collect()
}

fn name_hot_locations(
    bundle: &Bundle,
    input: &BlockInput<'_>,
    graph: &DependencyGraph,
    profile: &Profile,
) -> Vec<NamedLocation> {
    let conflicts: HashMap<Location, usize> = profile
        .conflicts_by_location()
        .into_iter()
        .map(|entry| (entry.location, entry.count))
        .collect();
    let mut names = AddressMap::<Option<String>>::default();
    let hot = graph.hot_locations(HOT_LOCATIONS).into_iter();
    hot.map(|hot| {
        let address = hot.location.address();
        let name = names
            .entry(address)
            .or_insert_with(|| names::contract_name(&bundle.state, &input.env, address));
        let conflicts = conflicts.get(&hot.location).copied().unwrap_or_default();
        NamedLocation { name: name.clone(), conflicts, hot }
    })
    .collect()
}

/// Times of one executor over several rounds.
#[derive(Default)]
struct Rounds {
    transactions: Vec<Vec<u64>>,
    /// From the start of the transactions to their end, without the runs that count.
    between: Vec<u64>,
    /// The whole block.
    wall: Vec<u64>,
    /// The block without its transactions.
    around: Vec<u64>,
    first_start: Vec<u64>,
    last_start: Vec<u64>,
    /// From the end of the last run to the return of the last worker.
    join: Vec<u64>,
}

impl Rounds {
    fn run(
        &mut self,
        measurements: &Measurements<'_>,
        executor: &ParallelExecutor,
    ) -> Result<(), ExecutionError> {
        let Measurements { spec, bundle, input, .. } = measurements;
        let (executed, wall) = timed(|| executor.execute(*spec, &bundle.state, input));
        let profile = executed?.profile;
        let times = profile.transaction_ns(input.transactions.len());
        let elapsed = nanoseconds(profile.elapsed);
        self.between.push(elapsed.saturating_sub(times.iter().sum()));
        self.transactions.push(times);
        self.wall.push(nanoseconds(wall));
        self.around.push(nanoseconds(wall).saturating_sub(elapsed));
        let mut starts = HashMap::<usize, u64>::default();
        for span in &profile.spans() {
            let start = starts.entry(span.worker).or_insert(span.start_ns);
            *start = span.start_ns.min(*start);
        }
        self.first_start.push(starts.values().copied().min().unwrap_or_default());
        self.last_start.push(starts.values().copied().max().unwrap_or_default());
        let end = profile.spans().iter().map(|span| span.end_ns).max().unwrap_or_default();
        self.join.push(elapsed.saturating_sub(end));
        Ok(())
    }

    fn transaction_ns(&self, count: usize) -> Vec<u64> {
        (0..count)
            .map(|index| median(self.transactions.iter().map(|times| times[index]).collect()))
            .collect()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Runs the block alone and on all workers in turn, and takes from it what the simulation needs,
/// and what it is to be compared with: the median time on all workers, in milliseconds.
fn measure_costs(
    measurements: &Measurements<'_>,
) -> Result<(SimulationCosts, f64), ExecutionError> {
    let count = measurements.input.transactions.len();
    let (mut single, mut parallel) = (Rounds::default(), Rounds::default());
    for _ in 0..measurements.repeat.clamp(*ROUNDS.start(), *ROUNDS.end()) {
        single.run(measurements, measurements.single)?;
        parallel.run(measurements, measurements.parallel)?;
    }
    let run_ns = single.transaction_ns(count);
    let alone: u64 = run_ns.iter().sum();
    let together: u64 = parallel.transaction_ns(count).iter().sum();
    let slowdown = if alone == 0 { 1.0 } else { together as f64 / alone as f64 };
    // What one worker does between two runs is publishing one and committing it; which is how
    // much of it cannot be told from outside.
    let between = median(single.between) / count.max(1) as u64;
    let fixed_ns = median(single.around);
    let measured_ms = median(parallel.wall) as f64 / 1e6;
    let costs = SimulationCosts {
        run_ns,
        publish_ns: between / 2,
        commit_ns: between - between / 2,
        fixed_ns,
        join_ns: median(parallel.join) + median(parallel.around).saturating_sub(fixed_ns),
        first_start_ns: median(parallel.first_start),
        start_ns: median(parallel.last_start),
        slowdown: slowdown.max(1.0),
    };
    Ok((costs, measured_ms))
}
