//! The thread that makes blocks.

use crate::{
    MineError,
    committer::{Committer, InFlight},
    gather::Gathering,
    shared::{NextBlock, Shared},
};
use alloy_primitives::{Address, B256, U256};
use heddle_chain::{
    Alterations, ChainBlock, ChainError, ImportError, ImportStatus, Imported, NewChain,
    ProducedBlock, State,
};
use heddle_evm::{
    AccountState, Block, BlockState, RecoveredTransaction, SkippedTransaction, StateError,
    TransactionError, account_state, as_stored,
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
    /// Somebody has said that there may be something to mine.
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
    altered: Alterations,
}

#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    committer: Committer,
    /// The block that the committer has.
    in_flight: Option<InFlight>,
    /// Instant mode: there may be something to mine.
    mining: bool,
    gathering: Gathering,
    /// How long it waits at most for what is on its way.
    wait: Duration,
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
        committer: Committer,
        gathering: Gathering,
        funded: Vec<(Address, U256)>,
    ) -> Self {
        Self {
            shared,
            commands,
            committer,
            in_flight: None,
            mining: false,
            gathering,
            wait: Duration::ZERO,
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
            match self.next_command() {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Before looking into the pool, so that a later arrival wakes again.
            // Acquire: who found it set has nothing on its way any more.
            self.mining |= self.shared.woken.swap(false, Ordering::AcqRel);
            self.do_what_is_due();
            if self.mining && !self.gathers() {
                self.mine_next();
            }
        }
        self.settle_or_log();
    }

    /// Waits for one, unless there is something to mine now.
    fn next_command(&self) -> Result<Command, RecvTimeoutError> {
        let wake_at = [Some(self.housekeeping), self.due, self.retry].into_iter().flatten().min();
        let until_due = wake_at.map(|at| at.saturating_duration_since(Instant::now()));
        let until_mining = self.mining.then_some(self.wait);
        let wait = [until_due, until_mining].into_iter().flatten().min();
        self.commands.recv_timeout(wait.unwrap_or(HOUSEKEEPING_INTERVAL))
    }

    fn obey(&mut self, command: Command) {
        if !matches!(command, Command::Wake | Command::IntervalChanged) {
            // All of these are about the head.
            self.settle_or_log();
        }
        match command {
            Command::Wake | Command::Stop => {}
            Command::IntervalChanged => self.schedule_interval(),
            Command::Mine { count, interval_s, timestamp, reply } => {
                // Nobody waiting for the answer any more is fine, here and below.
                let _ = reply.send(self.mine_count(count, interval_s, timestamp));
            }
            Command::Import { block, reply } => drop(reply.send(self.import(*block))),
            Command::RulesChanged { reply } => drop(reply.send(self.shared.reread_pool())),
            Command::Alter { change, reply } => drop(reply.send(self.alter(change))),
            Command::Rollback { depth, reply } => drop(reply.send(self.rollback(depth))),
            Command::Reorganise { blocks, reply } => drop(reply.send(self.reorganise(blocks))),
            Command::Reset { reply } => drop(reply.send(self.reset())),
            Command::Load { new, reply } => drop(reply.send(self.load(&new))),
            Command::Fork { fork, reply } => drop(reply.send(self.fork(&fork))),
            Command::Snapshots { reply } => drop(reply.send(self.list_snapshots())),
            Command::Snapshot { reply } => drop(reply.send(self.snapshot())),
            Command::Revert { id, reply } => drop(reply.send(self.revert(id))),
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
            self.settle_or_log();
            if let Err(error) = self.mine_one() {
                tracing::error!(%error, "no block was made");
            }
        }
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
            self.mining = true;
        }
        if self.housekeeping <= now {
            self.housekeeping = now + HOUSEKEEPING_INTERVAL;
            self.shared.pool.drop_expired(now);
        }
    }

    /// Instant mode: whether the next block waits for transactions on their way.
    fn gathers(&mut self) -> bool {
        let Shared { arrivals, pool, automine, .. } = &*self.shared;
        self.wait = if automine.load(Ordering::Acquire) {
            self.gathering.wait(arrivals, pool.status().0, Instant::now())
        } else {
            Duration::ZERO
        };
        let gathers = !self.wait.is_zero();
        if gathers {
            // Should it fail, that is known before more is set for the next one.
            self.settle_or_log();
        }
        gathers
    }

    /// Instant mode: makes a block if there is something for it, and sees whether there may be more.
    fn mine_next(&mut self) {
        self.gathering.end(Instant::now());
        let automine = self.shared.automine.load(Ordering::Acquire);
        let outcome = if automine { self.try_mine_next() } else { self.settle().map(|()| false) };
        self.mining = outcome.unwrap_or_else(|error| {
            tracing::error!(%error, "no block was made; trying again in {RETRY_AFTER:?}");
            self.retry = Some(Instant::now() + RETRY_AFTER);
            self.settle_or_log();
            false
        });
    }

    fn try_mine_next(&mut self) -> Result<bool, MineError> {
        if self.shared.pool.status().0 == 0 {
            self.settle()?;
            return Ok(false);
        }
        self.check_writable()?;
        let Some((produced, offered)) = self.shared.produce_pending(self.in_flight.as_ref())?
        else {
            self.settle()?;
            return Ok(false);
        };
        let dropped = self.drop_invalid(&produced.skipped, &offered);
        // What this one is made on.
        self.settle()?;
        if produced.block.transactions.is_empty() {
            // Without a drop, the next attempt would offer and skip the very same.
            return Ok(dropped > 0);
        }
        if self.is_behind(&produced.block) {
            self.begin_commit(produced)?;
        } else {
            self.commit(produced)?;
        }
        Ok(true)
    }

    /// Whether at least as many transactions wait as `block`, which is not committed, has: they come faster than blocks
    /// are made. Otherwise overlapping would only make more and smaller blocks, each of which costs something.
    fn is_behind(&self, block: &ChainBlock) -> bool {
        self.shared.pool.status().0 >= 2 * block.transactions.len()
    }

    /// Hands a block to the committer, so that the next one can be made on it.
    fn begin_commit(&mut self, produced: ProducedBlock) -> Result<(), MineError> {
        let tip = self.shared.chain.tip(&produced)?;
        let claimed = self.shared.claim(&produced.block);
        self.in_flight = Some(InFlight::new(tip, claimed));
        metrics::counter!("builder_overlapped_blocks_total").increment(1);
        self.committer.begin(produced)
    }

    /// Waits until the block that the committer has is on the chain.
    fn settle(&mut self) -> Result<(), MineError> {
        let Some(in_flight) = self.in_flight.take() else { return Ok(()) };
        let outcome = self.committer.finish();
        outcome.map(drop).inspect_err(|_| self.shared.give_back(&in_flight.claimed))
    }

    fn settle_or_log(&mut self) {
        if let Err(error) = self.settle() {
            tracing::error!(%error, "a block was lost; its transactions go into the next one");
        }
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

    /// Puts a block on the head and waits until it is there.
    fn commit(&self, produced: ProducedBlock) -> Result<Arc<ChainBlock>, MineError> {
        let claimed = self.shared.claim(&produced.block);
        self.shared.commit(produced).inspect_err(|_| self.shared.give_back(&claimed))
    }

    fn import(&self, block: Block) -> Result<Imported, MineError> {
        let imported = self.shared.chain.import(block).map_err(|error| match error {
            ImportError::Chain(error) => MineError::Chain(error),
            error => MineError::Refused(error.to_string()),
        })?;
        if imported.status == ImportStatus::Head {
            self.shared.reread_pool()?;
        }
        Ok(imported)
    }

    /// What waited may be executable now, and is in a block then when this returns.
    fn alter(&mut self, change: Alteration) -> Result<(), MineError> {
        self.shared.chain.alter(change.0)?;
        self.shared.reread_pool()?;
        self.mine_next();
        Ok(())
    }

    fn unwind(&self, depth: u64) -> Result<(), MineError> {
        let head = self.shared.chain.head().number();
        let number = head.checked_sub(depth).ok_or(MineError::TooDeep { depth, head })?;
        self.shared.chain.unwind_to(number)?;
        self.shared.pool.clear();
        self.shared.reread_pool()
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
        self.shared.reread_pool()
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
        self.shared.reread_pool()?;
        Ok(true)
    }
}
