//! Workers that live as long as the node, and a block through them.

use crate::{
    aftermath::{Apart, Written, receipts},
    engine::Engine,
    guard::Guard,
    location::TxIndex,
    memory::VersionedMemory,
    profile::{Profile, WorkerLog},
    scheduler::Forecast,
    vm::{BlockTransactions, Committed},
    worker::Worker,
};
use alloy_consensus::Transaction as _;
use alloy_eips::{
    eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
};
use alloy_evm::eth::spec::EthExecutorSpec;
use alloy_primitives::map::{AddressMap, AddressSet, B256Map, Entry};
use heddle_evm::{
    BlockInput, BlockOutput, BlockState, BlockTransition, ExecutionError, ParentState, Receipt,
    RecoveredTransaction, StateError, account_state,
};
use parking_lot::Mutex;
use revm::state::Bytecode;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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
    /// That of the last block, empty.
    memory: Mutex<Option<VersionedMemory>>,
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

/// Locations up to which a block's memory is kept for the next one: some 300 MB.
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
        Ok(Self { pool, workers, always_all: false, memory: Mutex::new(None) })
    }

    /// Has all workers take part in every block, also where one is expected to be faster: for
    /// tests, which want as much contention as there can be.
    #[must_use]
    pub fn with_all_workers_always(self) -> Self {
        Self { always_all: true, ..self }
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
        self.execute_cancellable(spec, parent, input, &Cancellation::default())
    }

    /// As [`Self::execute`], until `cancellation` says otherwise.
    #[tracing::instrument(skip_all, fields(number = %input.env.block_env.number, txs = input.transactions.len()))]
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
        let forecast = BlockForecast::of(input.transactions);
        let all = self.always_all || forecast.can_gain();
        let workers = if all { self.workers } else { 1 };
        let memory = self.take_memory(Size::of(input.transactions), workers);
        let mut executed =
            self.execute_in(&memory, forecast.transactions, spec, parent, input, cancellation);
        let mut clock = StageClock::start();
        self.put_back(memory);
        clock.ends("clear");
        if let Ok(executed) = &mut executed {
            executed.profile.stages.append(&mut clock.stages);
            tracing::debug!(stages = ?executed.profile.stages, "executed");
        }
        executed
    }

    fn execute_in<S, P>(
        &self,
        memory: &VersionedMemory,
        forecasts: Vec<Forecast>,
        spec: &S,
        parent: P,
        input: &BlockInput<'_>,
        cancellation: &Cancellation,
    ) -> Result<ExecutedBlock, ExecutionError>
    where
        S: EthExecutorSpec + Sync,
        P: ParentState,
    {
        let mut clock = StageClock::start();
        let guard = Guard::new(&parent);
        let begin = || BlockTransition::begin(spec, input.env.clone(), input.ctx.clone(), &guard);
        let mut block = begin()?;
        let state = block.state();
        clock.ends("begin");
        let RanTransactions { mut committed, code, mut profile } =
            self.run_transactions(memory, forecasts, state, input, cancellation)?;
        clock.ends("transactions");
        let results = std::mem::take(&mut committed.transactions);
        let (count, apart) = (results.len(), looked_at_afterwards(input, state));
        let (receipts, written) = self.spread(count, || {
            let receipts = receipts(results, input.transactions);
            (receipts, Written::gather(memory, state, |address| apart.contains(address)))
        });
        let written = written.map_err(ExecutionError::State)?;
        clock.ends("receipts");
        let wiped = memory.last_wipe(input.env.block_env.beneficiary).is_some();
        put_in(&mut block, receipts, &written.apart, &committed, &code, wiped, input)?;
        guard.watch(memory);
        let mut output = block.finish()?;
        clock.ends("end");
        let joined = (!guard.strayed())
            .then(|| self.spread(count, || written.changes(memory, &code, &output.changes)))
            .flatten();
        match joined {
            Some(changes) => output.changes = changes,
            None => {
                // What follows the transactions (a system contract, say) looked at more accounts
                // than those foreseen: once more, with all writes in the block's state.
                guard.look_away();
                let mut block = begin()?;
                let written = Written::gather(memory, block.state(), |_| true);
                let all = written.map_err(ExecutionError::State)?.apart;
                put_in(&mut block, output.receipts, &all, &committed, &code, wiped, input)?;
                output = block.finish()?;
            }
        }
        clock.ends("changes");
        profile.stages = clock.stages;
        let output = BlockOutput { skipped: committed.skipped, ..output };
        Ok(ExecutedBlock { output, profile })
    }

    /// An empty memory, that of an earlier block if it fits.
    fn take_memory(&self, size: Size, workers: usize) -> VersionedMemory {
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

    fn run_transactions<P: ParentState>(
        &self,
        memory: &VersionedMemory,
        forecasts: Vec<Forecast>,
        parent: &P,
        input: &BlockInput<'_>,
        cancellation: &Cancellation,
    ) -> Result<RanTransactions, ExecutionError> {
        let transactions =
            BlockTransactions::new(parent, &input.env, input.transactions, input.invalid);
        let beneficiary = parent.basic_ref(input.env.block_env.beneficiary);
        let beneficiary = beneficiary.map_err(ExecutionError::State)?;
        let committed = transactions.nothing_committed(beneficiary.as_ref().map(account_state));
        let engine = Engine::new(&transactions, memory, forecasts.into_iter(), committed);
        let started = Instant::now();
        let logs = self.run_workers(memory.workers(), |id| {
            let work = || {
                let mut worker = Worker::new(&transactions, memory, id);
                engine.work(id, &mut worker, || cancellation.is_cancelled())
            };
            catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
                // Nobody else may wait for what this worker was doing.
                engine.stop();
                ExecutionError::Panic(panic_message(panic.as_ref()))
            })
        });
        let profile = Profile::new(started.elapsed(), logs.into_iter().collect::<Result<_, _>>()?);
        let committed =
            engine.into_result().map_err(|error| error.unwrap_or(ExecutionError::Cancelled))?;
        Ok(RanTransactions { committed, code: transactions.into_code(), profile })
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

/// A block's transactions, all committed.
struct RanTransactions {
    committed: Committed,
    code: B256Map<Bytecode>,
    profile: Profile,
}

/// Transactions from which on the workers share what is to do after them.
const SPREAD_MIN: usize = 1_024;

/// About how many locations a block touches.
#[derive(Debug, Clone, Copy)]
struct Size {
    accounts: usize,
    slots: usize,
}

/// Gas for which a transaction may be expected to touch another slot.
const GAS_PER_SLOT: u64 = 20_000;
/// Most slots to expect of one transaction, and of a block: beyond, tables get slower.
const SLOTS_PER_TRANSACTION_MAX: u64 = 64;
const SLOTS_MAX: usize = 1 << 20;

impl Size {
    fn of(transactions: &[RecoveredTransaction]) -> Self {
        let slots = |tx: &RecoveredTransaction| {
            if tx.input().is_empty() {
                return 0;
            }
            (tx.gas_limit() / GAS_PER_SLOT).min(SLOTS_PER_TRANSACTION_MAX) as usize
        };
        let slots: usize = transactions.iter().map(slots).sum();
        Self { accounts: 2 * transactions.len() + 16, slots: slots.clamp(16, SLOTS_MAX) }
    }
}

/// What is known about a block before it runs.
struct BlockForecast {
    transactions: Vec<Forecast>,
    /// Work of all transactions, in units of a plain payment, and of the heaviest sender's: those
    /// have to wait for each other.
    work: u64,
    chain_work: u64,
}

/// Gas of a call that counts as much as a plain payment: less than a payment's, because the EVM
/// takes longer to start than a payment takes in all.
const GAS_PER_WORK: u64 = 5_000;
/// Work up to which one worker is done before a second one is awake.
const WORK_ALONE_MAX: u64 = 256;
/// Share of the work, in percent, that one sender's transactions may have where more workers than
/// one are to gain anything.
const CHAIN_PERCENT_MAX: u64 = 60;

impl BlockForecast {
    fn of(transactions: &[RecoveredTransaction]) -> Self {
        let mut senders = AddressMap::<(TxIndex, u64)>::with_capacity_and_hasher(
            transactions.len(),
            Default::default(),
        );
        let (mut block_work, mut chain_work) = (0, 0);
        let forecast = |(index, tx): (usize, &RecoveredTransaction)| {
            let work = if tx.input().is_empty() && tx.to().is_some() {
                1
            } else {
                (tx.gas_limit() / GAS_PER_WORK).clamp(4, 64)
            };
            let tx_index = TxIndex(index as u32);
            let (before, of_sender) = match senders.entry(tx.signer()) {
                Entry::Vacant(entry) => {
                    entry.insert((tx_index, work));
                    (None, work)
                }
                Entry::Occupied(mut entry) => {
                    let (last, of_sender) = entry.get_mut();
                    *of_sender += work;
                    (Some(std::mem::replace(last, tx_index)), *of_sender)
                }
            };
            block_work += work;
            chain_work = chain_work.max(of_sender);
            Forecast { sender_before: before, work: work as u8 }
        };
        let transactions = transactions.iter().enumerate().map(forecast).collect();
        Self { transactions, work: block_work, chain_work }
    }

    /// Whether more than one worker may make the block faster.
    fn can_gain(&self) -> bool {
        self.work > WORK_ALONE_MAX && self.chain_work * 100 <= self.work * CHAIN_PERCENT_MAX
    }
}

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

/// Puts the results of the transactions into the block, and what they wrote to some accounts.
fn put_in<S, P>(
    block: &mut BlockTransition<'_, S, P>,
    receipts: Vec<Receipt>,
    writes: &Apart,
    committed: &Committed,
    code: &B256Map<Bytecode>,
    beneficiary_wiped: bool,
    input: &BlockInput<'_>,
) -> Result<(), ExecutionError>
where
    S: EthExecutorSpec,
    P: ParentState,
{
    let state = block.state_mut();
    let put = |state: &mut BlockState<P>| -> Result<(), StateError> {
        for (address, account, wiped) in &writes.accounts {
            state.set_account(*address, *account, *wiped)?;
        }
        let beneficiary = input.env.block_env.beneficiary;
        state.set_account(beneficiary, committed.beneficiary, beneficiary_wiped)?;
        for (address, slot, value) in &writes.slots {
            state.set_storage(*address, *slot, *value)?;
        }
        Ok(())
    };
    put(state).map_err(ExecutionError::State)?;
    for (hash, code) in code {
        state.insert_code(*hash, code.clone());
    }
    block.put_results(receipts, committed.gas_used, committed.blob_gas_used);
    Ok(())
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned()
}
