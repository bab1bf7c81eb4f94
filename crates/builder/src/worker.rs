//! The thread that makes blocks.

use crate::{
    MineError,
    head_follower::Accounts,
    shared::{NextBlock, Shared},
};
use alloy_primitives::{Address, B256, TxHash, U256};
use heddle_chain::{
    ChainBlock, ChainError, ImportError, ImportStatus, Imported, NewChain, ProducedBlock, State,
};
use heddle_evm::{
    AccountState, Block, BlockState, RecoveredTransaction, SkippedTransaction, StateChanges,
    StateError, TransactionError, account_state, as_stored,
};
use heddle_pool::PooledTx;
use heddle_remote::Fork;
use revm::{Database, context::result::InvalidTransaction};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How often the pool is asked to drop what has waited too long.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(60);

/// How long after a failure (a full disk, say) the next block is tried.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Snapshots remembered; the oldest is forgotten first.
const SNAPSHOTS_MAX: usize = 65_536;

type Change = dyn FnOnce(&mut BlockState<State>) -> Result<(), StateError> + Send;

/// A change of the state that no transaction makes.
pub(crate) struct Alteration(pub(crate) Box<Change>);

impl fmt::Debug for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alteration")
    }
}

#[derive(Debug)]
pub(crate) enum Command {
    /// There may be something to mine.
    Wake,
    IntervalChanged,
    Mine {
        count: u64,
        interval_s: Option<u64>,
        timestamp: Option<u64>,
        reply: oneshot::Sender<Result<Vec<Arc<ChainBlock>>, MineError>>,
    },
    Import {
        block: Box<Block>,
        reply: oneshot::Sender<Result<Imported, MineError>>,
    },
    /// What transactions for the next block must obey has changed.
    RulesChanged {
        reply: oneshot::Sender<Result<(), MineError>>,
    },
    Alter {
        change: Alteration,
        reply: oneshot::Sender<Result<(), MineError>>,
    },
    Rollback {
        depth: u64,
        reply: oneshot::Sender<Result<(), MineError>>,
    },
    Reorganise {
        blocks: Vec<Vec<RecoveredTransaction>>,
        reply: oneshot::Sender<Result<Vec<Arc<ChainBlock>>, MineError>>,
    },
    Reset {
        reply: oneshot::Sender<Result<(), MineError>>,
    },
    Load {
        new: Box<NewChain>,
        reply: oneshot::Sender<Result<(), MineError>>,
    },
    Fork {
        fork: Box<Fork>,
        reply: oneshot::Sender<Result<(), MineError>>,
    },
    Snapshots {
        reply: oneshot::Sender<Vec<(U256, u64, B256)>>,
    },
    Snapshot {
        reply: oneshot::Sender<U256>,
    },
    Revert {
        id: U256,
        reply: oneshot::Sender<Result<bool, MineError>>,
    },
    Stop,
}

#[derive(Debug)]
struct Snapshot {
    number: u64,
    hash: B256,
    clock_offset_s: i128,
    altered: Option<Arc<StateChanges>>,
}

#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    snapshots: BTreeMap<U256, Snapshot>,
    snapshots_taken: u64,
    /// When the next block of interval mode is due.
    due: Option<Instant>,
    retry: Option<Instant>,
    housekeeping: Instant,
    /// What accounts have after a block of another node was forked.
    funded: Vec<(Address, U256)>,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        funded: Vec<(Address, U256)>,
    ) -> Self {
        Self {
            shared,
            commands,
            snapshots: BTreeMap::new(),
            snapshots_taken: 0,
            due: None,
            retry: None,
            housekeeping: Instant::now() + HOUSEKEEPING_INTERVAL,
            funded,
        }
    }

    pub(crate) fn run(mut self) {
        self.schedule_interval();
        loop {
            let wake_at =
                [Some(self.housekeeping), self.due, self.retry].into_iter().flatten().min();
            let wait = wake_at
                .map_or(HOUSEKEEPING_INTERVAL, |at| at.saturating_duration_since(Instant::now()));
            match self.commands.recv_timeout(wait) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.do_what_is_due();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Wake => {
                // Before looking into the pool, so that a later arrival wakes again.
                self.shared.woken.store(false, Ordering::Release);
                self.mine_pending();
            }
            Command::IntervalChanged => self.schedule_interval(),
            Command::Mine { count, interval_s, timestamp, reply } => {
                // Nobody waiting for the answer any more is fine, here and below.
                let _ = reply.send(self.mine_count(count, interval_s, timestamp));
            }
            Command::Import { block, reply } => drop(reply.send(self.import(*block))),
            Command::RulesChanged { reply } => drop(reply.send(self.reread_pool())),
            Command::Alter { change, reply } => drop(reply.send(self.alter(change))),
            Command::Rollback { depth, reply } => drop(reply.send(self.rollback(depth))),
            Command::Reorganise { blocks, reply } => drop(reply.send(self.reorganise(blocks))),
            Command::Reset { reply } => drop(reply.send(self.reset())),
            Command::Load { new, reply } => drop(reply.send(self.load(&new))),
            Command::Fork { fork, reply } => drop(reply.send(self.fork(&fork))),
            Command::Snapshots { reply } => drop(reply.send(self.list_snapshots())),
            Command::Snapshot { reply } => drop(reply.send(self.snapshot())),
            Command::Revert { id, reply } => drop(reply.send(self.revert(id))),
            Command::Stop => {}
        }
    }

    fn schedule_interval(&mut self) {
        // An interval beyond what the clock can count never ends.
        let interval = *self.shared.interval.lock();
        self.due = interval.and_then(|interval| Instant::now().checked_add(interval));
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            // From the time it was due, so that blocks keep their pace; but after a stall the
            // missed ones are not made up for.
            let interval = *self.shared.interval.lock();
            self.due = interval
                .zip(self.due)
                .and_then(|(interval, due)| due.checked_add(interval))
                .map(|due| due.max(now));
            if let Err(error) = self.mine_one() {
                tracing::error!(%error, "no block was made");
            }
        }
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
            self.mine_pending();
        }
        if self.housekeeping <= now {
            self.housekeeping = now + HOUSEKEEPING_INTERVAL;
            self.shared.pool.drop_expired(now);
        }
    }

    /// Instant mode: makes blocks until nothing executable is left.
    fn mine_pending(&mut self) {
        while self.shared.automine.load(Ordering::Acquire) {
            match self.try_mine_pending() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%error, "no block was made; trying again in {RETRY_AFTER:?}");
                    self.retry = Some(Instant::now() + RETRY_AFTER);
                    return;
                }
            }
        }
    }

    /// Makes one block if there is something for it. Whether there may be more.
    fn try_mine_pending(&self) -> Result<bool, MineError> {
        if self.shared.pool.status().0 == 0 {
            return Ok(false);
        }
        self.check_writable()?;
        let (produced, offered) = self.shared.produce()?;
        if offered.is_empty() {
            return Ok(false);
        }
        let dropped = self.drop_invalid(&produced.skipped, &offered);
        if produced.block.transactions.is_empty() {
            // Without a drop, the next attempt would offer and skip the very same.
            return Ok(dropped > 0);
        }
        self.commit(produced)?;
        Ok(true)
    }

    /// Before a block is executed in vain.
    fn check_writable(&self) -> Result<(), MineError> {
        Ok(self.shared.chain.store().check_writable().map_err(ChainError::from)?)
    }

    /// Makes one block with whatever is there.
    fn mine_one(&self) -> Result<Arc<ChainBlock>, MineError> {
        self.check_writable()?;
        let (produced, offered) = self.shared.produce()?;
        self.drop_invalid(&produced.skipped, &offered);
        self.commit(produced)
    }

    fn mine_count(
        &self,
        count: u64,
        interval_s: Option<u64>,
        timestamp: Option<u64>,
    ) -> Result<Vec<Arc<ChainBlock>>, MineError> {
        let head_timestamp = || self.shared.chain.head().header.timestamp;
        if let Some(timestamp) = timestamp {
            self.shared.clock.lock().set_next(timestamp, head_timestamp())?;
        }
        let mut blocks = Vec::new();
        for index in 0..count {
            if let Some(interval) = interval_s.filter(|_| index > 0) {
                let head = head_timestamp();
                let next = head.saturating_add(interval.max(1));
                self.shared.clock.lock().set_next(next, head)?;
            }
            blocks.push(self.mine_one()?);
        }
        Ok(blocks)
    }

    fn commit(&self, produced: ProducedBlock) -> Result<Arc<ChainBlock>, MineError> {
        let changes = produced.changes.clone();
        let (conflicts, workers) = (produced.profile.conflicts.len(), produced.profile.workers);
        let elapsed = produced.profile.elapsed;
        // Before anybody can see the block: what is set from then on is for the one after it.
        let next = std::mem::take(&mut *self.shared.next.lock());
        let clock = {
            let mut clock = self.shared.clock.lock();
            let before = clock.clone();
            clock.used(produced.block.header.timestamp);
            before
        };
        let block = match self.shared.chain.commit(produced) {
            Ok(block) => block,
            Err(error) => {
                *self.shared.next.lock() = next;
                *self.shared.clock.lock() = clock;
                return Err(error.into());
            }
        };
        let rules = self.shared.rules();
        let mined: Vec<TxHash> =
            block.transactions.iter().map(|tx| *tx.inner().tx_hash()).collect();
        let state = self.shared.chain.latest_state();
        let code_may_send = self.shared.chain.spec().code_may_send();
        match (Accounts { state: &state, code_may_send }).changed(&changes) {
            Ok(changed) => self.shared.pool.on_new_head(rules, changed, &mined),
            Err(error) => {
                tracing::error!(%error, "the pool could not follow the new head; reading it anew");
                self.reread_pool()?;
            }
        }
        tracing::info!(
            number = block.number(),
            hash = %block.hash(),
            txs = block.transactions.len(),
            gas = block.header.gas_used,
            workers,
            conflicts,
            execution_us = elapsed.as_micros() as u64,
            "block"
        );
        Ok(block)
    }

    fn import(&self, block: Block) -> Result<Imported, MineError> {
        let imported = self.shared.chain.import(block).map_err(|error| match error {
            ImportError::Chain(error) => MineError::Chain(error),
            error => MineError::Refused(error.to_string()),
        })?;
        if imported.status == ImportStatus::Head {
            self.reread_pool()?;
        }
        Ok(imported)
    }

    fn reread_pool(&self) -> Result<(), MineError> {
        let state = self.shared.chain.latest_state();
        let code_may_send = self.shared.chain.spec().code_may_send();
        let accounts = Accounts { state: &state, code_may_send };
        let reread = self.shared.pool.on_state_replaced(self.shared.rules(), &accounts);
        // The pending block is not what it was.
        self.shared.submissions.fetch_add(1, Ordering::Release);
        reread.map_err(|error| MineError::Chain(StateError::new(error.to_string()).into()))
    }

    /// What waited may be executable now.
    fn alter(&mut self, change: Alteration) -> Result<(), MineError> {
        self.shared.chain.alter(change.0)?;
        self.reread_pool()?;
        self.mine_pending();
        Ok(())
    }

    fn unwind(&self, depth: u64) -> Result<(), MineError> {
        let head = self.shared.chain.head().number();
        let number = head.checked_sub(depth).ok_or(MineError::TooDeep { depth, head })?;
        self.shared.chain.unwind_to(number)?;
        self.shared.pool.clear();
        self.reread_pool()
    }

    fn rollback(&mut self, depth: u64) -> Result<(), MineError> {
        self.unwind(depth)?;
        self.forget_snapshots();
        Ok(())
    }

    fn reorganise(
        &mut self,
        blocks: Vec<Vec<RecoveredTransaction>>,
    ) -> Result<Vec<Arc<ChainBlock>>, MineError> {
        self.unwind(blocks.len() as u64)?;
        self.forget_snapshots();
        let made = blocks.into_iter().map(|transactions| {
            let produced = self.shared.produce_of(transactions)?;
            if let Some(skipped) = produced.skipped.first() {
                return Err(MineError::Refused(skipped.reason.to_string()));
            }
            self.commit(produced)
        });
        made.collect()
    }

    /// Those of blocks that are gone.
    fn forget_snapshots(&mut self) {
        let head = self.shared.chain.head().number();
        self.snapshots.retain(|_, snapshot| snapshot.number <= head);
    }

    fn reset(&mut self) -> Result<(), MineError> {
        self.shared.chain.reset()?;
        self.start_anew()
    }

    fn load(&mut self, new: &NewChain) -> Result<(), MineError> {
        self.shared.chain.load(new)?;
        self.start_anew()
    }

    fn fork(&mut self, fork: &Fork) -> Result<(), MineError> {
        // While there is a way back: all that can fail at the other node.
        let addresses: Vec<Address> = self.funded.iter().map(|(address, _)| *address).collect();
        fork.state.read_ahead(&addresses).map_err(StateError::new).map_err(ChainError::from)?;
        self.shared.chain.fork(fork)?;
        self.start_anew()?;
        let time = fork.header.timestamp;
        self.shared.clock.lock().set_now(time)?;
        let funded = self.funded.clone();
        let give = move |state: &mut BlockState<State>| {
            for (address, balance) in funded {
                let now = state.basic(address)?.map(|info| account_state(&info));
                let now = AccountState { balance, ..as_stored(now.unwrap_or_default()) };
                let now = Some(now).filter(|now| !now.is_empty());
                state.set_account(address, now, false)?;
            }
            Ok(())
        };
        self.alter(Alteration(Box::new(give)))
    }

    /// Forgets what belongs to the chain that was.
    fn start_anew(&mut self) -> Result<(), MineError> {
        self.shared.clock.lock().reset();
        *self.shared.next.lock() = NextBlock::default();
        self.snapshots.clear();
        self.shared.pool.clear();
        self.reread_pool()
    }

    fn list_snapshots(&self) -> Vec<(U256, u64, B256)> {
        let snapshots = self.snapshots.iter();
        snapshots.map(|(id, snapshot)| (*id, snapshot.number, snapshot.hash)).collect()
    }

    /// Drops transactions from the pool that execution found to be invalid for good; gives how
    /// many. One that merely found no room, or whose predecessor did not, stays.
    fn drop_invalid(&self, skipped: &[SkippedTransaction], offered: &[Arc<PooledTx>]) -> usize {
        let mut dropped = 0;
        for skipped in skipped {
            let stays = matches!(
                skipped.reason,
                TransactionError::BlockGasExceeded { .. }
                    | TransactionError::Invalid(InvalidTransaction::NonceTooHigh { .. })
            );
            let Some(tx) = offered.get(skipped.index).filter(|_| !stays) else {
                continue;
            };
            tracing::debug!(hash = %tx.hash(), reason = %skipped.reason, "dropped a transaction");
            self.shared.pool.remove(&tx.hash());
            dropped += 1;
        }
        dropped
    }

    fn snapshot(&mut self) -> U256 {
        let head = self.shared.chain.head();
        let id = U256::from(self.snapshots_taken);
        self.snapshots_taken += 1;
        let clock_offset_s = self.shared.clock.lock().offset_s();
        let altered = self.shared.chain.altered();
        let snapshot =
            Snapshot { number: head.number(), hash: head.hash(), clock_offset_s, altered };
        self.snapshots.insert(id, snapshot);
        if self.snapshots.len() > SNAPSHOTS_MAX {
            self.snapshots.pop_first();
        }
        id
    }

    fn revert(&mut self, id: U256) -> Result<bool, MineError> {
        let Some(snapshot) = self.snapshots.get(&id) else {
            return Ok(false);
        };
        if self.shared.chain.hash_by_number(snapshot.number)? != Some(snapshot.hash) {
            return Ok(false);
        }
        self.shared.chain.unwind_to(snapshot.number)?;
        self.shared.chain.restore_altered(snapshot.altered.clone())?;
        self.shared.clock.lock().restore(snapshot.clock_offset_s);
        self.snapshots.split_off(&id);
        self.shared.pool.clear();
        self.reread_pool()?;
        Ok(true)
    }
}
