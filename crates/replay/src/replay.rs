//! One bundle at a time: both executors, compared, timed and explained.

use crate::{
    Analysis, BlockLine, Bundle, Checks, DependencyGraph, Mismatch, MissingRead, ReplayError,
    Scale, analysis,
    compare::{check_header, first_difference, transaction_hash},
    flat_state::WatchedState,
    input::{block_input, find_rules, recover_senders},
    line::ratio,
    record::{Recording, record},
};
use alloy_consensus::proofs::calculate_transaction_root;
use heddle_chainspec::{ChainSpec, EthereumHardfork, EthereumHardforks};
use heddle_evm::{BlockInput, BlockOutput, ExecutionError, execute_block};
use heddle_parallel::{ParallelExecutor, Profile};
use std::time::{Duration, Instant};

/// How to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayOptions {
    /// Workers of the parallel executor.
    pub workers: usize,
    /// How often each executor runs each block (at least once).
    pub repeat: usize,
    /// Whether a transaction that reads what the bundle lacks makes it fail.
    pub strict: bool,
    /// Whether to work out where the speed-up went: hot locations with names, the timeline.
    pub analyse: bool,
    /// Whether to simulate other numbers of workers. Costs a few more runs of the block.
    pub simulate: bool,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { workers: 2, repeat: 1, strict: false, analyse: false, simulate: false }
    }
}

/// Replays bundles; its worker threads are started once.
#[derive(Debug)]
pub struct Replayer {
    options: ReplayOptions,
    parallel: ParallelExecutor,
    /// For the time that each transaction takes with nothing else running.
    single: ParallelExecutor,
    /// Built in.
    chains: Vec<ChainSpec>,
    /// What the user says goes before what a bundle says.
    given: Option<ChainSpec>,
}

/// What replaying one bundle showed.
#[derive(Debug, Clone)]
pub struct BlockReport {
    /// The line of `heddle replay --json`.
    pub line: BlockLine,
    /// Why it did not verify; `None` if it did.
    pub mismatch: Option<Mismatch>,
    /// What transactions read that the bundle does not hold, each once, in order. Empty accounts
    /// and zero slots are often left out by tracers, so this is a fault only if `strict`.
    pub missing: Vec<MissingRead>,
    /// What a reader of the result should know.
    pub notes: Vec<String>,
    /// Who depended on whom; empty if the block failed.
    pub graph: DependencyGraph,
    /// Where the speed-up went, if asked for and the block did not fail.
    pub analysis: Option<Analysis>,
    /// What other numbers of workers would do, if asked for and the block did not fail.
    pub scale: Option<Scale>,
}

/// Both executors' results and times.
struct Measured {
    reference: BlockOutput,
    mismatch: Option<Mismatch>,
    sequential_ms: f64,
    parallel_ms: f64,
    /// Of the last parallel run.
    profile: Profile,
}

impl Replayer {
    /// Starts the workers.
    ///
    /// # Errors
    /// If the system refuses threads.
    pub fn new(options: ReplayOptions) -> Result<Self, ReplayError> {
        let executor = |workers| ParallelExecutor::new(workers).map_err(ReplayError::Workers);
        Ok(Self {
            options,
            parallel: executor(options.workers)?,
            single: executor(1)?,
            chains: vec![ChainSpec::mainnet(), ChainSpec::dev()],
            given: None,
        })
    }

    /// Makes the rules of a chain known that is not built in, or other rules for one that is.
    #[must_use]
    pub fn with_chain(mut self, spec: ChainSpec) -> Self {
        self.given = Some(spec);
        self
    }

    /// Replays one bundle.
    ///
    /// # Errors
    /// If the bundle's chain is not known. A bundle that does not verify is a report with a
    /// [`BlockReport::mismatch`].
    pub fn replay(&self, bundle: &Bundle) -> Result<BlockReport, ReplayError> {
        let known = self.given.iter().chain(&bundle.spec).chain(&self.chains);
        let spec = find_rules(known, bundle.chain_id, &bundle.header).ok_or_else(|| {
            ReplayError::UnknownChain { path: bundle.path.clone(), chain_id: bundle.chain_id }
        })?;
        let replay = BlockReplay { replayer: self, spec: &spec, bundle };
        Ok(replay.run())
    }
}

/// One bundle under its chain's rules.
struct BlockReplay<'a> {
    replayer: &'a Replayer,
    spec: &'a ChainSpec,
    bundle: &'a Bundle,
}

impl BlockReplay<'_> {
    fn byzantium(&self) -> bool {
        self.spec.is_byzantium_active_at_block(self.bundle.header.number)
    }

    fn run(&self) -> BlockReport {
        let transactions = match recover_senders(self.bundle, self.spec) {
            Ok(transactions) => transactions,
            Err(mismatch) => return self.failed(*mismatch, Vec::new()),
        };
        let input = block_input(self.bundle, self.spec, &transactions);
        // Also warms the caches up for the runs that are timed.
        let watched = WatchedState::new(&self.bundle.state);
        let recorded = record(self.spec, &watched, &input, |tx| watched.enter(tx));
        let missing = watched.into_missing();
        let measured = match self.measure(&input) {
            Ok(measured) => measured,
            Err(mismatch) => return self.failed(*mismatch, missing),
        };
        let Measured { reference, mismatch, sequential_ms, parallel_ms, profile } = measured;
        let (checks, header_mismatch) = check_header(self.bundle, &reference, self.byzantium());
        let mismatch = mismatch
            .or(header_mismatch)
            .or_else(|| self.recording_mismatch(&reference, &recorded))
            .or_else(|| self.strict_mismatch(&missing));
        let beneficiary = self.bundle.header.beneficiary;
        let graph = recorded.map_or_else(
            |_| DependencyGraph::default(),
            |recording| DependencyGraph::new(&recording.transactions, beneficiary),
        );
        let critical_path_gas = graph.critical_path_gas().weight;
        let line = BlockLine {
            verified: mismatch.is_none() && checks.hold(),
            checks,
            gas: reference.gas_used,
            sequential_ms: Some(sequential_ms),
            parallel_ms: Some(parallel_ms),
            speedup: ratio(sequential_ms, parallel_ms),
            conflicts: profile.conflicts.len(),
            reexecutions: profile.reexecutions(),
            critical_path_gas,
            max_speedup: ratio(reference.gas_used as f64, critical_path_gas as f64),
            ..self.empty_line()
        };
        let Replayer { options, single, parallel, .. } = self.replayer;
        let analysis =
            options.analyse.then(|| analysis::analyse(self.bundle, &input, &graph, profile));
        let scale = options.simulate.then(|| {
            let executors = [single, parallel];
            Scale::measure(self.spec, &self.bundle.state, &input, &graph, executors, options.repeat)
        });
        // What fails here failed above.
        let scale = scale.and_then(Result::ok);
        let line = BlockLine { simulation: scale.as_ref().map(Scale::line), ..line };
        BlockReport { line, mismatch, missing, notes: self.notes(), graph, analysis, scale }
    }

    /// Runs both executors in turn, so that whatever slows the machine down hits both.
    fn measure(&self, input: &BlockInput<'_>) -> Result<Measured, Box<Mismatch>> {
        let (mut sequential, mut parallel) = (Vec::new(), Vec::new());
        let mut last: Option<(BlockOutput, Profile)> = None;
        let mut mismatch = None;
        let state = &self.bundle.state;
        for round in 0..self.replayer.options.repeat.max(1) {
            let run_reference = || timed(|| execute_block(self.spec, state, input));
            let run_parallel = || {
                // Each run begins with the same: nothing.
                self.replayer.parallel.forget_code();
                timed(|| self.replayer.parallel.execute(self.spec, state, input))
            };
            // Whoever goes second finds warmer caches: take turns.
            let (reference, executed) = if round % 2 == 0 {
                let reference = run_reference();
                (reference, run_parallel())
            } else {
                let executed = run_parallel();
                (run_reference(), executed)
            };
            let (reference, executed) = match (reference, executed) {
                ((Ok(reference), time), (Ok(executed), parallel_time)) => {
                    sequential.push(time);
                    parallel.push(parallel_time);
                    (reference, executed)
                }
                ((Err(error), _), (Err(other), _)) if error.to_string() == other.to_string() => {
                    return Err(self.execution_mismatch("a valid block", &error));
                }
                ((Err(error), _), _) => {
                    return Err(self.execution_mismatch("a valid block", &error));
                }
                ((Ok(_), _), (Err(error), _)) => {
                    let expected = "the sequential reference's result from the parallel executor";
                    return Err(self.execution_mismatch(expected, &error));
                }
            };
            if mismatch.is_none() {
                let name = "parallel executor";
                mismatch = first_difference(self.bundle, &reference, &executed.output, name);
            }
            // Runs of the same executor must agree as well.
            if let (None, Some((before, _))) = (&mismatch, &last) {
                mismatch = first_difference(self.bundle, before, &reference, "next run of it");
            }
            last = Some((reference, executed.profile));
        }
        let Some((reference, profile)) = last else {
            unreachable!("there is at least one round, and each leaves its result")
        };
        let (sequential_ms, parallel_ms) = (median_ms(&mut sequential), median_ms(&mut parallel));
        Ok(Measured { reference, mismatch, sequential_ms, parallel_ms, profile })
    }

    fn execution_mismatch(&self, expected: &str, error: &ExecutionError) -> Box<Mismatch> {
        Box::new(Mismatch::execution(self.bundle, expected, error))
    }

    fn recording_mismatch(
        &self,
        reference: &BlockOutput,
        recorded: &Result<Recording, ExecutionError>,
    ) -> Option<Mismatch> {
        match recorded {
            Ok(recording) => {
                first_difference(self.bundle, reference, &recording.output, "recording run")
            }
            Err(error) => Some(*self.execution_mismatch("the reference's result", error)),
        }
    }

    fn strict_mismatch(&self, missing: &[MissingRead]) -> Option<Mismatch> {
        let first = missing.first().filter(|_| self.replayer.options.strict)?;
        let index = first.transaction.as_usize();
        Some(Mismatch {
            transaction: Some(index),
            hash: transaction_hash(self.bundle, index),
            field: "prestate".to_owned(),
            expected: "every read to be answered by the bundle (strict)".to_owned(),
            found: format!(
                "it reads {}, which the bundle lacks, and {} more reads are so",
                first.location,
                missing.len() - 1
            ),
        })
    }

    fn empty_line(&self) -> BlockLine {
        let header = &self.bundle.header;
        let fork: EthereumHardfork = self.spec.fork_at(header.number, header.timestamp);
        BlockLine {
            number: header.number,
            spec: fork.to_string(),
            txs: self.bundle.transactions.len(),
            gas: 0,
            verified: false,
            checks: Checks::failed(self.byzantium()),
            sequential_ms: None,
            parallel_ms: None,
            speedup: None,
            workers: self.replayer.parallel.workers(),
            conflicts: 0,
            reexecutions: 0,
            critical_path_gas: 0,
            max_speedup: None,
            simulation: None,
        }
    }

    fn failed(&self, mismatch: Mismatch, missing: Vec<MissingRead>) -> BlockReport {
        BlockReport {
            line: self.empty_line(),
            mismatch: Some(mismatch),
            missing,
            notes: self.notes(),
            graph: DependencyGraph::default(),
            analysis: None,
            scale: None,
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let ommers = self.bundle.ommers.len();
        if ommers > 0 && self.bundle.ommer_headers.is_none() {
            notes.push(format!(
                "{ommers} ommer(s): the bundle has only their hashes, so their rewards are not \
                 paid; no receipt depends on them"
            ));
        }
        let hash = self.bundle.header.hash_slow();
        if let Some(given) = self.bundle.hash.filter(|given| *given != hash) {
            notes.push(format!("the header's fields hash to {hash}, not to {given} as given"));
        }
        let unsigned = self.bundle.transactions.iter().filter(|tx| !tx.signed).count();
        let transactions: Vec<_> =
            self.bundle.transactions.iter().map(|bundled| &bundled.transaction).collect();
        let (given, root) =
            (self.bundle.header.transactions_root, calculate_transaction_root(&transactions));
        // A bundle need not give it.
        if unsigned == 0 && !given.is_zero() && given != root {
            notes.push(format!("the transactions have the root {root}, not {given} as given"));
        }
        if unsigned > 0 {
            notes.push(format!(
                "{unsigned} transaction(s) without signature: their senders are taken on trust"
            ));
        }
        notes
    }
}

pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let result = run();
    (result, started.elapsed())
}

/// The median, in milliseconds.
pub(crate) fn median_ms(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let middle = times.len() / 2;
    let ms = |time: &Duration| time.as_secs_f64() * 1_000.0;
    match times.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => ms(&times[middle]),
        _ => (ms(&times[middle - 1]) + ms(&times[middle])) / 2.0,
    }
}
