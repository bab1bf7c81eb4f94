//! Workers that live as long as the node, and a block through them.

use crate::{
    aftermath::{Apart, Written, changes_of, receipts, receipts_beside},
    engine::Engine,
    forecast::{AccessHint, BlockForecast, Pace, Size},
    guard::Guard,
    location::TxIndex,
    memory::VersionedMemory,
    profile::{Profile, WorkerLog},
    scheduler::{PATIENCE, Plan},
    solo::Solo,
    translation::{Eagerness, Translations},
    vm::{BlockTransactions, Committed},
    worker::Worker,
};
use alloy_eips::{
    eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
};
use alloy_evm::eth::spec::EthExecutorSpec;
use alloy_primitives::map::{AddressSet, B256Map};
use heddle_evm::{
    BlockInput, BlockOutput, BlockState, BlockTransition, ExecutionError, ParentState, Receipt,
    StateError, account_state,
};
use parking_lot::Mutex;
use revm::{DatabaseRef, state::Bytecode};
use std::{
    any::Any,
    cell::OnceCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// Stops the execution of a block from another thread.
#[derive(Debug, Clone, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// The block in execution ends with [`ExecutionError::Cancelled`].
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether [`Self::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How a block is to be executed.
#[derive(Debug, Clone, Default)]
pub struct Execution<'h> {
    /// Ends it before its time.
    pub cancellation: Cancellation,
    /// What the first transactions of the block will probably touch, in order.
    pub hints: &'h [AccessHint],
}

/// A block's result together with how it came about.
#[derive(Debug, Clone)]
pub struct ExecutedBlock {
    /// Exactly what the sequential reference gives.
    pub output: BlockOutput,
    /// What the workers did.
    pub profile: Profile,
}

/// Executes blocks on a fixed set of worker threads that are started once.
#[derive(Debug)]
pub struct ParallelExecutor {
    pool: rayon::ThreadPool,
    workers: usize,
    /// Whether all workers take part also where nothing is to be gained.
    always_all: bool,
    /// See `scheduler`.
    patience: usize,
    /// That of the last block, empty.
    memory: Mutex<Option<VersionedMemory>>,
    translations: Translations,
}

/// Takes down how long each part of a block took.
struct StageClock {
    since: Instant,
    stages: Vec<(&'static str, Duration)>,
}

impl StageClock {
    fn start() -> Self {
        Self { since: Instant::now(), stages: Vec::new() }
    }

    fn ends(&mut self, stage: &'static str) {
        let now = Instant::now();
        self.stages.push((stage, now - self.since));
        self.since = now;
    }
}

/// Locations up to which a block's memory is kept for the next one: some 200 MB.
const LOCATIONS_KEPT_MAX: usize = 1 << 20;

impl ParallelExecutor {
    /// Most workers that can be asked for; beyond the cores of any machine that runs a node, and
    /// few enough that a mistyped number does not exhaust the process's threads.
    pub const WORKERS_MAX: usize = 1024;

    /// Starts `workers` threads (at least one, at most [`Self::WORKERS_MAX`]).
    pub fn new(workers: usize) -> Result<Self, std::io::Error> {
        let workers = workers.clamp(1, Self::WORKERS_MAX);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|index| format!("heddle-worker-{index}"))
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Self {
            pool,
            workers,
            always_all: false,
            patience: PATIENCE,
            memory: Mutex::new(None),
            translations: Translations::new(Eagerness::Usual),
        })
    }

    /// Has all workers take part in every block, also where one is expected to be faster: for
    /// tests, which want as much contention as there can be.
    #[must_use]
    pub fn with_all_workers_always(self) -> Self {
        Self { always_all: true, ..self }
    }

    /// Lets one worker end the block, in order, as soon as a transaction has to run again: for
    /// tests.
    #[must_use]
    pub fn without_patience(self) -> Self {
        Self { patience: 0, ..self }
    }

    /// Translates all code before it runs, also what runs once: for tests.
    #[must_use]
    pub fn with_all_code_translated(self) -> Self {
        Self { translations: Translations::new(Eagerness::AtOnce), ..self }
    }

    /// Forgets the contracts' code that was translated: for measurements that are to begin with
    /// nothing.
    pub fn forget_code(&self) {
        self.translations.forget();
    }

    /// Number of workers.
    pub const fn workers(&self) -> usize {
        self.workers
    }

    /// Executes a block on the parent state.
    pub fn execute<S, P>(
        &self,
        spec: &S,
        parent: P,
        input: &BlockInput<'_>,
    ) -> Result<ExecutedBlock, ExecutionError>
    where
        S: EthExecutorSpec + Sync,
        P: ParentState,
    {
        self.execute_with(spec, parent, input, Execution::default())
    }

    /// As [`Self::execute`], until `cancellation` says otherwise.
    pub fn execute_cancellable<S, P>(
        &self,
        spec: &S,
        parent: P,
        input: &BlockInput<'_>,
        cancellation: &Cancellation,
    ) -> Result<ExecutedBlock, ExecutionError>
    where
        S: EthExecutorSpec + Sync,
        P: ParentState,
    {
        let cancellation = cancellation.clone();
        self.execute_with(spec, parent, input, Execution { cancellation, hints: &[] })
    }

    /// As [`Self::execute`], with what else is known.
    #[tracing::instrument(skip_all, fields(number = %input.env.block_env.number, txs = input.transactions.len()))]
    pub fn execute_with<S, P>(
        &self,
        spec: &S,
        parent: P,
        input: &BlockInput<'_>,
        Execution { cancellation, hints }: Execution<'_>,
    ) -> Result<ExecutedBlock, ExecutionError>
    where
        S: EthExecutorSpec + Sync,
        P: ParentState,
    {
        let mut clock = StageClock::start();
        let forecast = BlockForecast::of(input.transactions, hints);
        let job =
            Job { input, cancellation: &cancellation, translations: &self.translations, forecast };
        clock.ends("forecast");
        let memory = OnceCell::new();
        let executed = self.execute_job(&job, &memory, spec, &parent, &mut clock);
        if let Some(memory) = memory.into_inner() {
            self.put_back(memory);
            clock.ends("clear");
        }
        let mut executed = executed?;
        executed.profile.stages = clock.stages;
        tracing::debug!(forecast = %job.forecast, stages = ?executed.profile.stages, "executed");
        Ok(executed)
    }

    /// `memory` is filled if it is needed.
    fn execute_job<S, P>(
        &self,
        job: &Job<'_, '_>,
        memory: &OnceCell<VersionedMemory>,
        spec: &S,
        parent: &P,
        clock: &mut StageClock,
    ) -> Result<ExecutedBlock, ExecutionError>
    where
        S: EthExecutorSpec + Sync,
        P: ParentState,
    {
        let input = job.input;
        let guard = Guard::new(parent);
        let begin = || BlockTransition::begin(spec, input.env.clone(), input.ctx.clone(), &guard);
        let mut block = begin()?;
        let mut progress = Progress::new(input, block.state())?;
        clock.ends("begin");
        if !(self.always_all || self.workers > 1 && job.forecast.can_gain()) {
            block.reserve_accounts(input.transactions.len());
            let pace = (self.workers > 1).then(|| job.forecast.pace());
            self.run_alone(job, &mut block, &guard, &mut progress, pace)?;
            clock.ends("transactions");
        }
        if !progress.is_done(input) {
            let from_the_start = progress.first == TxIndex(0);
            let memory = memory.get_or_init(|| self.take_memory(Size::of(input.transactions)));
            let code = self.run_ahead(job, block.state(), memory, &mut progress)?;
            clock.ends("transactions");
            if from_the_start && progress.is_done(input) {
                let code = &code;
                return self.end_ahead(job, block, begin, &guard, memory, code, progress, clock);
            }
            // The rest is for one worker, if there is a rest, with the writes so far in place.
            let writes = Apart::below(memory, progress.first);
            let wiped = memory.settled_wipe(input.env.block_env.beneficiary, progress.first);
            let wiped = wiped.is_some();
            put_writes(block.state_mut(), &writes, &progress.committed, &code, wiped, input)?;
            clock.ends("put in place");
            self.run_alone(job, &mut block, &guard, &mut progress, None)?;
            clock.ends("transactions alone");
        }
        self.end_in_place(job, block, progress, clock)
    }

    /// Ends a block that has all writes in its state but the beneficiary's account.
    fn end_in_place<S, P>(
        &self,
        job: &Job<'_, '_>,
        mut block: BlockTransition<'_, S, P>,
        mut progress: Progress,
        clock: &mut StageClock,
    ) -> Result<ExecutedBlock, ExecutionError>
    where
        S: EthExecutorSpec,
        P: ParentState,
    {
        let mut made = std::mem::take(&mut progress.receipts);
        let (profile, mut committed) = progress.into_profile();
        let results = std::mem::take(&mut committed.transactions);
        let count = made.len() + results.len();
        let rest = self.spread(results.len(), || receipts(results, job.input.transactions));
        made.extend(rest);
        let beneficiary = job.input.env.block_env.beneficiary;
        let paid = block.state_mut().set_account(beneficiary, committed.beneficiary, false);
        paid.map_err(ExecutionError::State)?;
        block.put_results(made, committed.gas_used, committed.blob_gas_used);
        clock.ends("receipts");
        let output = block.finish_with(|state| self.spread(count, || changes_of(state)))?;
        clock.ends("end");
        let output = BlockOutput { skipped: committed.skipped, ..output };
        Ok(ExecutedBlock { output, profile })
    }

    /// Ends a block whose transactions were all run ahead.
    #[expect(clippy::too_many_arguments, reason = "a block, and how far it is")]
    fn end_ahead<'b, 'g, 'm, S, P>(
        &self,
        job: &Job<'_, '_>,
        mut block: GuardedBlock<'b, 'g, 'm, S, P>,
        begin: impl Fn() -> Result<GuardedBlock<'b, 'g, 'm, S, P>, ExecutionError>,
        guard: &Guard<'_, 'm, P>,
        memory: &'m VersionedMemory,
        code: &B256Map<Bytecode>,
        progress: Progress,
        clock: &mut StageClock,
    ) -> Result<ExecutedBlock, ExecutionError>
    where
        S: EthExecutorSpec,
        P: ParentState,
    {
        let input = job.input;
        let (profile, mut committed) = progress.into_profile();
        let results = std::mem::take(&mut committed.transactions);
        let state = block.state();
        let (count, apart) = (results.len(), looked_at_afterwards(input, state));
        let make_receipts = || receipts(results, input.transactions);
        let gather = || Written::gather(memory, state, |address| apart.contains(address));
        let (receipts, written) = if (BESIDE_MIN..SPREAD_MIN).contains(&count) {
            // One of the workers is here already: two halves, without waking another for this one.
            let mut receipts = Vec::new();
            let written = self.pool.in_place_scope(|scope| {
                scope.spawn(|_| receipts = make_receipts());
                gather()
            });
            (receipts, written)
        } else {
            self.spread(count, || (make_receipts(), gather()))
        };
        let written = written.map_err(ExecutionError::State)?;
        clock.ends("receipts");
        let wiped = memory.last_wipe(input.env.block_env.beneficiary).is_some();
        put_writes(block.state_mut(), &written.apart, &committed, code, wiped, input)?;
        block.put_results(receipts, committed.gas_used, committed.blob_gas_used);
        guard.watch(memory);
        let mut output = block.finish()?;
        clock.ends("end");
        let joined = (!guard.strayed())
            .then(|| self.spread(count, || written.changes(memory, code, &output.changes)))
            .flatten();
        match joined {
            Some(changes) => output.changes = changes,
            None => {
                // What follows the transactions (a system contract, say) looked at more accounts
                // than those foreseen: once more, with all writes in the block's state.
                guard.look_away();
                let mut block = begin()?;
                let all = Apart::below(memory, TxIndex::END);
                put_writes(block.state_mut(), &all, &committed, code, wiped, input)?;
                let (gas_used, blob_gas_used) = (committed.gas_used, committed.blob_gas_used);
                block.put_results(output.receipts, gas_used, blob_gas_used);
                output = block.finish()?;
            }
        }
        clock.ends("changes");
        let output = BlockOutput { skipped: committed.skipped, ..output };
        Ok(ExecutedBlock { output, profile })
    }

    /// An empty memory, that of an earlier block if it fits.
    fn take_memory(&self, size: Size) -> VersionedMemory {
        let workers = self.workers;
        let kept = self.memory.lock().take();
        kept.filter(|memory| memory.fits(size.accounts, size.slots, workers))
            .unwrap_or_else(|| VersionedMemory::new(size.accounts, size.slots, workers))
    }

    /// Keeps a memory for the next block: to get as much anew from the system takes as long as
    /// running plain payments does.
    fn put_back(&self, mut memory: VersionedMemory) {
        if memory.locations() <= LOCATIONS_KEPT_MAX {
            memory.clear();
            *self.memory.lock() = Some(memory);
        }
    }

    /// Runs `work` where its parallel parts are shared among the workers, if there are enough
    /// transactions to pay for waking them.
    fn spread<R: Send>(&self, transactions: usize, work: impl FnOnce() -> R + Send) -> R {
        if transactions >= SPREAD_MIN && self.workers > 1 {
            self.pool.install(work)
        } else {
            work()
        }
    }

    /// Runs transactions on this thread, on the block's own state, to the end, or until the `pace`
    /// says that others should help. Another worker makes their receipts meanwhile, if there are
    /// enough of them to pay for waking it.
    fn run_alone<S, P>(
        &self,
        job: &Job<'_, '_>,
        block: &mut BlockTransition<'_, S, P>,
        parent: P,
        progress: &mut Progress,
        pace: Option<Pace<'_>>,
    ) -> Result<(), ExecutionError>
    where
        S: EthExecutorSpec,
        P: ParentState + Copy,
    {
        if progress.is_done(job.input) {
            return Ok(());
        }
        let transactions = job.transactions(&parent, progress.committed.gas_used);
        let state = std::mem::replace(block.state_mut(), BlockState::new(parent));
        let mut solo = Solo {
            transactions: &transactions,
            committed: progress.take_committed(),
            log: WorkerLog::new(0),
            started: progress.started,
            pace,
            receipts: None,
        };
        let first = progress.first;
        let run = |solo: &mut Solo<'_, P>| {
            let run = || solo.run(first, state, || job.cancellation.is_cancelled());
            catch_unwind(AssertUnwindSafe(run))
                .map_err(|panic| ExecutionError::Panic(panic_message(panic.as_ref())))?
        };
        let left = job.input.transactions.len() - first.as_usize();
        let ran = if left >= SPREAD_MIN && self.workers > 1 {
            let receipts = &mut progress.receipts;
            self.pool.in_place_scope(|scope| {
                let (sender, committed) = mpsc::channel();
                scope.spawn(|_| receipts_beside(receipts, committed, job.input.transactions));
                solo.receipts = Some(sender);
                let ran = run(&mut solo);
                // This ends the other worker's part, which the scope waits for.
                solo.receipts = None;
                ran
            })
        } else {
            run(&mut solo)
        };
        let (state, first) = ran?;
        (*block.state_mut(), progress.first, progress.committed) = (state, first, solo.committed);
        progress.logs.push(solo.log);
        Ok(())
    }

    /// Runs transactions on all workers, up to the first one that is better left to one worker
    /// alone. Gives the code that they deployed.
    fn run_ahead<P: ParentState>(
        &self,
        job: &Job<'_, '_>,
        parent: &P,
        memory: &VersionedMemory,
        progress: &mut Progress,
    ) -> Result<B256Map<Bytecode>, ExecutionError> {
        let committed = progress.take_committed();
        let transactions = job.transactions(parent, committed.gas_used);
        let plan = Plan {
            transactions: job.input.transactions,
            forecasts: &job.forecast.transactions,
            predecessors: &job.forecast.predecessors,
            first: progress.first,
            workers: memory.workers(),
            patience: self.patience,
        };
        let engine = Engine::new(&transactions, memory, &plan, committed, progress.started);
        let logs = self.run_workers(memory.workers(), |id| {
            let work = || {
                let mut worker = Worker::new(&transactions, memory, id);
                engine.work(id, &mut worker, || job.cancellation.is_cancelled())
            };
            catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
                // Nobody else may wait for what this worker was doing.
                engine.stop();
                ExecutionError::Panic(panic_message(panic.as_ref()))
            })
        });
        progress.logs.extend(logs.into_iter().collect::<Result<Vec<_>, _>>()?);
        let (committed, first) =
            engine.into_result().map_err(|error| error.unwrap_or(ExecutionError::Cancelled))?;
        (progress.committed, progress.first) = (committed, first);
        Ok(transactions.into_code())
    }

    /// Runs `work` once on each of so many workers. The caller is the first of them: it begins at
    /// once, and if the others are slow to wake it is not idle meanwhile.
    fn run_workers(
        &self,
        workers: usize,
        work: impl Fn(usize) -> Result<WorkerLog, ExecutionError> + Sync,
    ) -> Vec<Result<WorkerLog, ExecutionError>> {
        if workers == 1 {
            return vec![work(0)];
        }
        let logs = Mutex::new(Vec::with_capacity(workers));
        let run = &|worker| {
            let log = work(worker);
            logs.lock().push((worker, log));
        };
        self.pool.in_place_scope(|scope| {
            for worker in 1..workers {
                scope.spawn(move |_| run(worker));
            }
            run(0);
        });
        let mut logs = logs.into_inner();
        logs.sort_unstable_by_key(|(worker, _)| *worker);
        logs.into_iter().map(|(_, log)| log).collect()
    }
}

/// A block over a state that is watched.
type GuardedBlock<'b, 'g, 'm, S, P> = BlockTransition<'b, S, &'g Guard<'g, 'm, P>>;

/// A block to execute.
struct Job<'j, 'b> {
    input: &'j BlockInput<'b>,
    cancellation: &'j Cancellation,
    translations: &'j Translations,
    forecast: BlockForecast,
}

impl Job<'_, '_> {
    fn transactions<'a, P>(&'a self, parent: &'a P, gas_used: u64) -> BlockTransactions<'a, P> {
        let BlockInput { env, transactions, invalid, .. } = self.input;
        BlockTransactions::new(parent, env, transactions, self.translations, *invalid, gas_used)
    }
}

/// How far a block's transactions are.
struct Progress {
    /// The first one that is not committed.
    first: TxIndex,
    committed: Committed,
    /// Receipts of the first transactions; those of the others are still to be made from
    /// `committed`.
    receipts: Vec<Receipt>,
    logs: Vec<WorkerLog>,
    started: Instant,
}

impl Progress {
    /// None of them.
    fn new<P: ParentState>(
        input: &BlockInput<'_>,
        state: &BlockState<P>,
    ) -> Result<Self, ExecutionError> {
        let beneficiary = state.basic_ref(input.env.block_env.beneficiary);
        let beneficiary = beneficiary.map_err(ExecutionError::State)?;
        Ok(Self {
            first: TxIndex(0),
            committed: Committed::new(
                input.transactions.len(),
                beneficiary.as_ref().map(account_state),
            ),
            receipts: Vec::new(),
            logs: Vec::new(),
            started: Instant::now(),
        })
    }

    fn is_done(&self, input: &BlockInput<'_>) -> bool {
        self.first.as_usize() == input.transactions.len()
    }

    fn take_committed(&mut self) -> Committed {
        std::mem::replace(&mut self.committed, Committed::new(0, None))
    }

    fn into_profile(self) -> (Profile, Committed) {
        (Profile::new(self.started.elapsed(), self.logs), self.committed)
    }
}

/// Transactions from which on the workers share what is to do after them.
const SPREAD_MIN: usize = 1_024;
/// Transactions from which on two of them do.
const BESIDE_MIN: usize = 32;

/// The accounts that what follows the transactions in a block may look at.
fn looked_at_afterwards<P: ParentState>(
    input: &BlockInput<'_>,
    state: &BlockState<P>,
) -> AddressSet {
    let ctx = &input.ctx;
    let withdrawals = ctx.withdrawals.iter().flat_map(|withdrawals| withdrawals.iter());
    let system = [WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS];
    state
        .addresses()
        .chain(withdrawals.map(|withdrawal| withdrawal.address))
        .chain(ctx.ommers.iter().map(|ommer| ommer.beneficiary))
        .chain(system)
        .chain([input.env.block_env.beneficiary])
        .collect()
}

/// Puts into a block's state what the transactions wrote to some accounts, and the beneficiary's.
fn put_writes<P: ParentState>(
    state: &mut BlockState<P>,
    writes: &Apart,
    committed: &Committed,
    code: &B256Map<Bytecode>,
    beneficiary_wiped: bool,
    input: &BlockInput<'_>,
) -> Result<(), ExecutionError> {
    let mut put = || -> Result<(), StateError> {
        for (address, account, wiped) in &writes.accounts {
            state.set_account(*address, *account, *wiped)?;
        }
        let beneficiary = input.env.block_env.beneficiary;
        state.set_account(beneficiary, committed.beneficiary, beneficiary_wiped)?;
        for (address, slot, value) in &writes.slots {
            state.set_storage(*address, *slot, *value)?;
        }
        for (hash, code) in code {
            state.insert_code(*hash, code.clone());
        }
        Ok(())
    };
    put().map_err(ExecutionError::State)
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned()
}
