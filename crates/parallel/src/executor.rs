//! Workers that live as long as the node, and a block through them.

use crate::{
    engine::{Engine, Finished},
    location::TxIndex,
    memory::FinalWrites,
    profile::{Profile, WorkerLog},
    vm::{BlockTransactions, Committed},
};
use alloy_evm::eth::spec::EthExecutorSpec;
use alloy_primitives::{
    Address,
    map::{AddressMap, B256Map},
};
use heddle_evm::{
    BlockInput, BlockOutput, BlockState, BlockTransition, ExecutionError, ParentState,
    RecoveredTransaction,
};
use revm::state::Bytecode;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
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
    /// `None` for a single worker: the calling thread does the work.
    pool: Option<rayon::ThreadPool>,
    workers: usize,
}

impl ParallelExecutor {
    /// Most workers that can be asked for; beyond the cores of any machine that runs a node, and
    /// few enough that a mistyped number does not exhaust the process's threads.
    pub const WORKERS_MAX: usize = 1024;

    /// Starts `workers` threads (at least one, at most [`Self::WORKERS_MAX`]).
    pub fn new(workers: usize) -> Result<Self, std::io::Error> {
        let workers = workers.clamp(1, Self::WORKERS_MAX);
        let pool = (workers > 1)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(workers)
                    .thread_name(|index| format!("heddle-worker-{index}"))
                    .build()
                    .map_err(std::io::Error::other)
            })
            .transpose()?;
        Ok(Self { pool, workers })
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
        S: EthExecutorSpec,
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
        S: EthExecutorSpec,
        P: ParentState,
    {
        let mut block = BlockTransition::begin(spec, input.env.clone(), input.ctx.clone(), parent)?;
        let RanTransactions { finished, code, profile } =
            self.execute_transactions(block.state(), input, cancellation)?;
        let Finished { memory, committed } = finished;
        let Committed { receipts, gas_used, blob_gas_used, skipped, beneficiary } = committed;
        let mut writes = memory.into_final();
        writes.accounts.insert(input.env.block_env.beneficiary, beneficiary);
        apply(block.state_mut(), writes, code).map_err(ExecutionError::State)?;
        block.put_results(receipts, gas_used, blob_gas_used);
        Ok(ExecutedBlock { output: BlockOutput { skipped, ..block.finish()? }, profile })
    }

    fn execute_transactions<'a, P: ParentState>(
        &self,
        parent: &'a P,
        input: &'a BlockInput<'_>,
        cancellation: &Cancellation,
    ) -> Result<RanTransactions<'a, P>, ExecutionError> {
        let transactions =
            BlockTransactions::new(parent, &input.env, input.transactions, input.invalid);
        let committed = transactions.nothing_committed().map_err(ExecutionError::State)?;
        let engine = Engine::new(&transactions, sender_predecessors(input.transactions), committed);
        let started = Instant::now();
        let logs = self.run_workers(input.transactions.len(), |id| {
            let work =
                || engine.work(id, &mut transactions.worker(), || cancellation.is_cancelled());
            catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
                // Nobody else may wait for what this worker was doing.
                engine.stop();
                ExecutionError::Panic(panic_message(panic.as_ref()))
            })
        });
        let profile = Profile::new(started.elapsed(), logs.into_iter().collect::<Result<_, _>>()?);
        let finished =
            engine.into_result().map_err(|error| error.unwrap_or(ExecutionError::Cancelled))?;
        Ok(RanTransactions { finished, code: transactions.into_code(), profile })
    }

    /// Runs `work` once on each worker. One transaction needs no second worker.
    fn run_workers(
        &self,
        transactions: usize,
        work: impl Fn(usize) -> Result<WorkerLog, ExecutionError> + Sync,
    ) -> Vec<Result<WorkerLog, ExecutionError>> {
        match &self.pool {
            Some(pool) if transactions > 1 => pool.broadcast(|worker| work(worker.index())),
            _ => vec![work(0)],
        }
    }
}

/// A block's transactions, all committed.
struct RanTransactions<'a, P: ParentState> {
    finished: Finished<BlockTransactions<'a, P>>,
    code: B256Map<Bytecode>,
    profile: Profile,
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned()
}

/// For each transaction the last one before it from the same sender.
fn sender_predecessors(transactions: &[RecoveredTransaction]) -> Vec<Option<TxIndex>> {
    let mut last = AddressMap::<TxIndex>::default();
    let predecessor = |(index, tx): (usize, &RecoveredTransaction)| {
        last.insert(tx.signer(), TxIndex(index as u32))
    };
    transactions.iter().enumerate().map(predecessor).collect()
}

/// Puts what the transactions left behind into the block's state.
fn apply<P: ParentState>(
    state: &mut BlockState<P>,
    writes: FinalWrites,
    code: B256Map<Bytecode>,
) -> Result<(), heddle_evm::StateError> {
    state.reserve(writes.accounts.len());
    let wiped = |address: &Address| writes.wipes.contains_key(address);
    for (address, account) in &writes.accounts {
        state.set_account(*address, *account, wiped(address))?;
    }
    for (address, slot, value) in writes.slots {
        state.set_storage(address, slot, value)?;
    }
    for (hash, code) in code {
        state.insert_code(hash, code);
    }
    Ok(())
}
