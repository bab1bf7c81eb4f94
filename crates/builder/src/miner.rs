//! The handle through which the rest of the node asks for blocks.

use crate::{
    MineError,
    clock::Clock,
    committer::Committer,
    gather::{Arrivals, Gathering},
    head_follower::{Accounts, pool_rules},
    shared::{PendingCache, Shared},
    simulator::{Simulations, Simulator},
    worker::{Alteration, Command, Worker},
};
use alloy_consensus::transaction::Recovered;
use alloy_primitives::{Address, B256, Bytes, TxHash, U256};
use heddle_chain::{Chain, ChainBlock, ChainError, Imported, NewChain, ProducedBlock, State};
use heddle_evm::{Block, BlockState, RecoveredTransaction, StateError};
use heddle_parallel::AccessHint;
use heddle_pool::{Origin, Pool, PoolError, PoolLimits, PoolTransaction};
use heddle_remote::Fork;
use parking_lot::{Mutex, RwLock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::oneshot;

/// Requests that may wait for the mining thread; beyond it, one is refused.
const COMMANDS_MAX: usize = 1024;

/// Most blocks that one request may ask for. An empty block takes about a millisecond, so the
/// largest request holds up transactions for some minutes.
const BLOCKS_PER_REQUEST_MAX: u64 = 100_000;

/// How blocks are made.
#[derive(Debug, Clone)]
pub struct MinerConfig {
    /// Instant mode: a transaction is mined as soon as it is there.
    pub automine: bool,
    /// A block every so often, with whatever is there.
    pub interval: Option<Duration>,
    /// Who gets the fees.
    pub coinbase: Address,
    /// Gas limit of new blocks; the head's if not given.
    pub gas_limit: Option<u64>,
    /// Extra data of new blocks, at most 32 bytes.
    pub extra_data: Bytes,
    /// Bounds of the pool.
    pub pool_limits: PoolLimits,
    /// Accounts that have this balance after another node's block was forked.
    pub funded: Vec<(Address, U256)>,
    /// What waits is executed ahead of its block where a core is idle, to know what it touches.
    pub simulate: bool,
}

/// Makes blocks out of what is in the pool. Shared as `Arc<Miner>`; its thread ends with
/// [`Self::stop`] or with the last handle.
#[derive(Debug)]
pub struct Miner {
    shared: Arc<Shared>,
    commands: SyncSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    simulator: Mutex<Option<Simulator>>,
}

impl Miner {
    /// Starts the mining thread over a chain, with an empty pool.
    pub fn start(chain: Arc<Chain>, config: MinerConfig) -> std::io::Result<Arc<Self>> {
        let head = chain.head();
        let gas_limit = config.gas_limit.unwrap_or(head.header.gas_limit);
        let clock = Clock::default();
        let rules = pool_rules(&chain, clock.peek(head.header.timestamp), gas_limit);
        let gathering = Gathering::new(config.pool_limits.transactions_max);
        let shared = Arc::new(Shared {
            pool: Arc::new(Pool::new(rules, config.pool_limits)),
            chain,
            clock: Mutex::new(clock),
            automine: AtomicBool::new(config.automine),
            interval: Mutex::new(config.interval),
            arrivals: Arrivals::default(),
            woken: AtomicBool::new(false),
            coinbase: RwLock::new(config.coinbase),
            gas_limit: RwLock::new(config.gas_limit),
            next: Mutex::default(),
            extra_data: config.extra_data,
            submissions: AtomicU64::new(0),
            pending: Mutex::new(None),
            simulations: config.simulate.then(|| Arc::new(Simulations::new())),
        });
        let (commands, received) = sync_channel(COMMANDS_MAX);
        let committer = Committer::start(shared.clone())?;
        let simulator = Mutex::new(Simulator::start(shared.clone())?);
        let worker = Worker::new(shared.clone(), received, committer, gathering, config.funded);
        let thread =
            std::thread::Builder::new().name("heddle-miner".into()).spawn(move || worker.run())?;
        Ok(Arc::new(Self { shared, commands, thread: Mutex::new(Some(thread)), simulator }))
    }

    /// The pool that this miner empties.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.shared.pool
    }

    /// The chain that this miner extends.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.shared.chain
    }

    /// Says that a batch of transactions is about to be handed over, as soon as their senders are recovered: the next block
    /// of instant mode waits for it, for a while.
    pub fn announce(self: &Arc<Self>) -> Arrival {
        self.shared.arrivals.begin();
        Arrival { miner: self.clone() }
    }

    /// Checks a transaction against the head state and files it.
    pub fn submit(
        &self,
        tx: Recovered<PoolTransaction>,
        origin: Origin,
    ) -> Result<TxHash, PoolError> {
        let mut results = self.submit_many(vec![tx], origin);
        match results.pop() {
            Some(result) => result,
            None => unreachable!("the pool answers once for each transaction"),
        }
    }

    /// As [`Self::submit`], for many at once; one answer for each, in order.
    pub fn submit_many(
        &self,
        txs: Vec<Recovered<PoolTransaction>>,
        origin: Origin,
    ) -> Vec<Result<TxHash, PoolError>> {
        if let Err(error) = self.shared.chain.store().check_writable() {
            return vec![Err(PoolError::NoBlocks(error.to_string())); txs.len()];
        }
        let latest = |address| {
            use heddle_pool::AccountReader;
            let chain = &self.shared.chain;
            let code_may_send = chain.spec().code_may_send();
            Accounts { state: &chain.latest_state(), code_may_send }.account(address)
        };
        let results = self.shared.pool.add_many(txs, &latest, origin);
        if results.iter().any(Result::is_ok) {
            self.shared.submissions.fetch_add(1, Ordering::Release);
            self.shared.wake_simulations();
            self.wake();
        }
        results.into_iter().map(|result| result.map(|added| added.hash)).collect()
    }

    fn wake(&self) {
        if self.automine() && !self.shared.woken.swap(true, Ordering::AcqRel) {
            // In a full queue there is something else to wake it, and it sees that it was woken.
            let _ = self.commands.try_send(Command::Wake);
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, MineError> {
        // The thread may be waiting for room on the disk, and whoever asks is better told so than kept waiting.
        self.shared.chain.store().check_writable().map_err(ChainError::from)?;
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|_| MineError::Stopped)?;
        answer.await.map_err(|_| MineError::Stopped)
    }

    /// Makes `count` blocks, empty ones too. The first has `timestamp`, if given; `interval_s`
    /// seconds lie between them, otherwise at least one.
    pub async fn mine(
        &self,
        count: u64,
        interval_s: Option<u64>,
        timestamp: Option<u64>,
    ) -> Result<Vec<Arc<ChainBlock>>, MineError> {
        if count > BLOCKS_PER_REQUEST_MAX {
            return Err(MineError::TooManyBlocks { asked: count, max: BLOCKS_PER_REQUEST_MAX });
        }
        self.ask(|reply| Command::Mine { count, interval_s, timestamp, reply }).await?
    }

    /// The block that would be made now. Made anew only if the head or the pool has changed.
    pub fn pending_block(&self) -> Result<Arc<ProducedBlock>, MineError> {
        let submissions = self.shared.submissions.load(Ordering::Acquire);
        let head = self.shared.chain.head().hash();
        let mut pending = self.shared.pending.lock();
        if let Some(cache) = pending.as_ref()
            && cache.head == head
            && cache.submissions == submissions
        {
            return Ok(cache.block.clone());
        }
        let block = Arc::new(self.shared.preview()?);
        *pending = Some(PendingCache { head, submissions, block: block.clone() });
        Ok(block)
    }

    /// Whether a transaction is mined as soon as it is there.
    pub fn automine(&self) -> bool {
        self.shared.automine.load(Ordering::Acquire)
    }

    /// Switches instant mode.
    pub fn set_automine(&self, on: bool) {
        self.shared.automine.store(on, Ordering::Release);
        if on {
            self.wake();
        }
    }

    /// Time between blocks in interval mode.
    pub fn interval(&self) -> Option<Duration> {
        *self.shared.interval.lock()
    }

    /// Switches interval mode.
    pub fn set_interval(&self, interval: Option<Duration>) -> Result<(), MineError> {
        *self.shared.interval.lock() = interval.filter(|interval| !interval.is_zero());
        self.commands.try_send(Command::IntervalChanged).map_err(|_| MineError::Stopped)
    }

    /// Moves the clock forward; gives the whole offset from the system's clock in seconds.
    pub fn increase_time(&self, seconds: u64) -> Result<i128, MineError> {
        let head = self.shared.chain.head().header.timestamp;
        self.shared.clock.lock().advance(seconds, head)
    }

    /// Gives the next block this timestamp, in seconds; time goes on from there.
    pub fn set_next_timestamp(&self, timestamp: u64) -> Result<(), MineError> {
        let head = self.shared.chain.head().header.timestamp;
        self.shared.clock.lock().set_next(timestamp, head)
    }

    /// The timestamp that a block made now would have.
    pub fn next_timestamp(&self) -> u64 {
        let head = self.shared.chain.head().header.timestamp;
        self.shared.clock.lock().peek(head)
    }

    /// Who gets the fees.
    pub fn coinbase(&self) -> Address {
        *self.shared.coinbase.read()
    }

    /// Gas limit of new blocks.
    pub fn gas_limit(&self) -> u64 {
        self.shared.gas_limit(&self.shared.chain.head())
    }

    /// The gas limit that the configuration fixes for new blocks, if it does.
    pub fn gas_limit_configured(&self) -> Option<u64> {
        *self.shared.gas_limit.read()
    }

    /// Gives new blocks this gas limit from now on.
    pub fn set_gas_limit(&self, gas_limit: u64) {
        *self.shared.gas_limit.write() = Some(gas_limit);
        self.changed();
    }

    /// Gives the fees of new blocks to this address from now on.
    pub fn set_coinbase(&self, coinbase: Address) {
        *self.shared.coinbase.write() = coinbase;
        self.changed();
    }

    /// Gives the next block this base fee, in place of the one that follows from its parent.
    pub async fn set_next_base_fee(&self, base_fee: u64) -> Result<(), MineError> {
        self.shared.next.lock().base_fee = Some(base_fee);
        self.ask(|reply| Command::RulesChanged { reply }).await?
    }

    /// What PREVRANDAO gives in the next block.
    pub fn set_next_prev_randao(&self, prev_randao: B256) {
        self.shared.next.lock().prev_randao = Some(prev_randao);
        self.changed();
    }

    /// Seconds between blocks, in place of the time of day.
    pub fn set_timestamp_interval(&self, interval_s: Option<u64>) {
        self.shared.clock.lock().set_interval(interval_s);
        self.changed();
    }

    /// Makes it this time now, in seconds since 1970; gives by how many that moved the clock.
    pub fn set_time(&self, timestamp: u64) -> Result<i128, MineError> {
        self.shared.clock.lock().set_now(timestamp)
    }

    /// The pending block is not what it was.
    fn changed(&self) {
        self.shared.submissions.fetch_add(1, Ordering::Release);
    }

    /// Alters the state as no transaction could; see [`Chain::alter`].
    pub async fn alter(
        &self,
        change: impl FnOnce(&mut BlockState<State>) -> Result<(), StateError> + Send + 'static,
    ) -> Result<(), MineError> {
        let change = Alteration(Box::new(change));
        self.ask(|reply| Command::Alter { change, reply }).await?
    }

    /// Takes the last `depth` blocks off the chain; waiting transactions are dropped.
    pub async fn rollback(&self, depth: u64) -> Result<(), MineError> {
        self.ask(|reply| Command::Rollback { depth, reply }).await?
    }

    /// Puts other blocks in the place of the last ones, each with the given transactions.
    pub async fn reorganise(
        &self,
        blocks: Vec<Vec<RecoveredTransaction>>,
    ) -> Result<Vec<Arc<ChainBlock>>, MineError> {
        self.ask(|reply| Command::Reorganise { blocks, reply }).await?
    }

    /// Goes back to genesis, also from a chain that was loaded: blocks, alterations, snapshots, waiting transactions and
    /// what was set for the clock and the next block are gone.
    pub async fn reset(&self) -> Result<(), MineError> {
        self.ask(|reply| Command::Reset { reply }).await?
    }

    /// Puts another chain in the place of this one; what [`Self::reset`] forgets is forgotten.
    pub async fn load(&self, new: NewChain) -> Result<(), MineError> {
        let new = Box::new(new);
        self.ask(|reply| Command::Load { new, reply }).await?
    }

    /// Goes on from a block of another node, in place of this chain; what [`Self::reset`] forgets is forgotten. It is the
    /// time of that block then, and the accounts that were configured have their balance.
    ///
    /// # Errors
    /// If the accounts cannot be read there, or the block cannot be stored. Nothing has changed then.
    pub async fn fork(&self, fork: Fork) -> Result<(), MineError> {
        let fork = Box::new(fork);
        self.ask(|reply| Command::Fork { fork, reply }).await?
    }

    /// The base fee of the next block, in wei: what was set for it, or what follows from the head.
    pub fn next_base_fee(&self) -> u64 {
        self.shared.next_base_fee()
    }

    /// The snapshots that can be gone back to: id, block number, block hash.
    pub async fn snapshots(&self) -> Result<Vec<(U256, u64, B256)>, MineError> {
        self.ask(|reply| Command::Snapshots { reply }).await
    }

    /// Extra data of new blocks.
    pub fn extra_data(&self) -> &Bytes {
        &self.shared.extra_data
    }

    /// Takes a block that somebody else made, which becomes the head if it builds on it or on a
    /// better branch.
    pub async fn import(&self, block: Block) -> Result<Imported, MineError> {
        let block = Box::new(block);
        self.ask(|reply| Command::Import { block, reply }).await?
    }

    /// Remembers the head, to come back to with [`Self::revert`].
    pub async fn snapshot(&self) -> Result<U256, MineError> {
        self.ask(|reply| Command::Snapshot { reply }).await
    }

    /// Goes back to a snapshot: later blocks leave the chain, waiting transactions are dropped,
    /// the snapshot and all later ones are used up. `false` for a snapshot that does not exist.
    pub async fn revert(&self, id: U256) -> Result<bool, MineError> {
        self.ask(|reply| Command::Revert { id, reply }).await?
    }

    /// What a waiting transaction touches on a recent head, where transactions are simulated and this one was; empty if it
    /// could not be executed there.
    pub fn hint(&self, hash: &TxHash) -> Option<Arc<AccessHint>> {
        self.shared.simulations.as_ref()?.hint(hash)
    }

    /// Ends the mining thread after the block it is at.
    pub fn stop(&self) {
        drop(self.simulator.lock().take());
        // The thread takes commands faster than clients can send them, so this ends.
        while self
            .commands
            .try_send(Command::Stop)
            .is_err_and(|error| matches!(error, std::sync::mpsc::TrySendError::Full(_)))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the mining thread had panicked");
        }
    }
}

/// A batch of transactions that is about to be handed over. To be dropped when it is, or will not be.
#[derive(Debug)]
pub struct Arrival {
    miner: Arc<Miner>,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if self.miner.shared.arrivals.end() {
            self.miner.wake();
        }
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        self.stop();
    }
}
