//! Executes waiting transactions before their block is made, so that more is known of it when it is.
//!
//! A thread that gives way to everything else takes the pool's best transactions, runs each by itself on the head's state,
//! and keeps what it touched as a hint for the executor and for the order of the block. State and neighbours can be others
//! by the time the block is made; the executor finds out, so this saves time or costs some and changes no result.

use crate::{shared::Shared, simulation::Simulation};
use alloy_consensus::Transaction as _;
use alloy_primitives::TxHash;
use heddle_parallel::AccessHint;
use heddle_pool::PooledTx;
use lru::LruCache;
use parking_lot::{Condvar, Mutex};
use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Hints kept. A block of a gigagas has at most some 20,000 transactions that are more than payments. A usual hint takes
/// half a kilobyte; were all of them as long as they may be (`LOCATIONS_PER_HINT_MAX`), it would be 4 and 130 MB in all.
const HINTS_MAX: NonZeroUsize = NonZeroUsize::new(32_768).expect("is not zero");

/// Transactions that one look into the pool brings. With half of the hints for them, what is found out of the last ones
/// does not push out what was found out of the first.
const AHEAD_MAX: usize = HINTS_MAX.get() / 2;

/// Blocks whose gas one look covers: the next one, and the one after it, since that begins while the next is committed.
const BLOCKS_AHEAD: u64 = 2;

/// Rest before each look into the pool. Transactions come in bursts, and what the miner takes at once is not worth it.
const REST_MIN: Duration = Duration::from_millis(5);

/// A look copies a pointer for each pending transaction under the pool's lock, some milliseconds if there are 200,000. The
/// rest after it is so many times as long, to leave the lock to others, but not longer than the other limit.
const RESTS_PER_LOOK: u32 = 4;
const REST_MAX: Duration = Duration::from_millis(100);

/// How long what one look brought is gone through: what came meanwhile may be better.
const LOOK_KEPT_MAX: Duration = Duration::from_millis(250);

/// How long a view of the state is kept. One that is held for long makes the database grow; and on a new one what the
/// last block changed is seen.
const VIEW_HELD_MAX: Duration = Duration::from_millis(50);

/// Gas of a transaction that can only pay (yellow paper, G_transaction).
const PAYMENT_GAS: u64 = 21_000;

/// What was found out of waiting transactions, and what the thread that does it is told.
#[derive(Debug)]
pub(crate) struct Simulations {
    /// By the transaction's hash; empty where it could not be executed. Held for look-ups alone.
    hints: Mutex<LruCache<TxHash, Arc<AccessHint>>>,
    /// Whether there may be something to do. Held for that alone.
    woken: Mutex<bool>,
    bell: Condvar,
    is_paused: AtomicBool,
    is_stopped: AtomicBool,
}

impl Simulations {
    pub(crate) fn new() -> Self {
        Self {
            hints: Mutex::new(LruCache::new(HINTS_MAX)),
            woken: Mutex::new(false),
            bell: Condvar::new(),
            is_paused: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// There may be something to do. While that is known already, it costs next to nothing to say it again.
    pub(crate) fn wake(&self) {
        let was_woken = std::mem::replace(&mut *self.woken.lock(), true);
        if !was_woken {
            self.bell.notify_one();
        }
    }

    fn wait_until_woken(&self) {
        let mut woken = self.woken.lock();
        self.bell.wait_while(&mut woken, |woken| !*woken);
        *woken = false;
    }

    /// No transaction is begun until the answer is dropped. One that is being executed is ended: mostly that takes less
    /// than it takes to hear of this.
    pub(crate) fn pause(&self) -> Paused<'_> {
        // Relaxed, here and where it is ended: no data comes with it, and a thread that waits is woken through a lock.
        self.is_paused.store(true, Ordering::Relaxed);
        Paused(self)
    }

    fn stop(&self) {
        // Relaxed: as above.
        self.is_stopped.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// What is known of a transaction.
    pub(crate) fn hint(&self, hash: &TxHash) -> Option<Arc<AccessHint>> {
        self.hints.lock().peek(hash).cloned()
    }

    /// What is known of each of these. It does not make them last longer: they are about to leave the pool.
    pub(crate) fn hints(&self, transactions: &[Arc<PooledTx>]) -> Vec<Option<Arc<AccessHint>>> {
        let hints = self.hints.lock();
        transactions.iter().map(|tx| hints.peek(&tx.hash()).cloned()).collect()
    }

    /// Leaves those that were not simulated.
    fn retain_unknown(&self, transactions: &mut Vec<Arc<PooledTx>>) {
        let mut hints = self.hints.lock();
        // Those that are known and wait on are to be known longer than those that are gone.
        transactions.retain(|tx| hints.get(&tx.hash()).is_none());
    }

    fn put(&self, hash: TxHash, hint: AccessHint) {
        self.hints.lock().put(hash, Arc::new(hint));
    }
}

/// While it lives, nothing is simulated.
#[derive(Debug)]
pub(crate) struct Paused<'s>(&'s Simulations);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.is_paused.store(false, Ordering::Relaxed);
        self.0.wake();
    }
}

/// The thread; it ends with this.
#[derive(Debug)]
pub(crate) struct Simulator {
    simulations: Arc<Simulations>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts it, if simulations are wanted.
    pub(crate) fn start(shared: Arc<Shared>) -> std::io::Result<Option<Self>> {
        let Some(simulations) = shared.simulations.clone() else { return Ok(None) };
        let simulating = Simulating { shared, simulations: simulations.clone() };
        let thread = std::thread::Builder::new()
            .name("heddle-simulate".into())
            .spawn(move || simulating.run())?;
        Ok(Some(Self { simulations, thread: Some(thread) }))
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.simulations.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that simulates transactions had panicked");
        }
    }
}

/// What the thread has.
struct Simulating {
    shared: Arc<Shared>,
    simulations: Arc<Simulations>,
}

impl Simulating {
    fn run(self) {
        give_way();
        let mut rest = REST_MIN;
        while !self.simulations.is_stopped() {
            self.simulations.wait_until_woken();
            loop {
                std::thread::sleep(rest);
                let started = Instant::now();
                let waiting = self.not_simulated();
                rest = (started.elapsed() * RESTS_PER_LOOK).clamp(REST_MIN, REST_MAX);
                if waiting.is_empty() || self.simulations.is_stopped() {
                    break;
                }
                self.simulate(&waiting);
            }
        }
    }

    /// What the next blocks can have and nothing is known of, best first.
    fn not_simulated(&self) -> Vec<Arc<PooledTx>> {
        let Shared { chain, pool, .. } = &*self.shared;
        let head = chain.head();
        let mut gas_left = self.shared.gas_limit(&head).saturating_mul(BLOCKS_AHEAD);
        let has_room = |tx: &Arc<PooledTx>| {
            let left = gas_left.checked_sub(tx.gas_limit());
            gas_left = left.unwrap_or_default();
            left.is_some()
        };
        let best = pool.best(self.shared.base_fee_after(&head), chain.blob_base_fee_after(&head));
        let calls = best.take_while(has_room).filter(|tx| !only_pays(tx)).take(AHEAD_MAX);
        let mut waiting = calls.collect();
        self.simulations.retain_unknown(&mut waiting);
        waiting
    }

    fn simulate(&self, mut waiting: &[Arc<PooledTx>]) {
        let started = Instant::now();
        let goes_on = || !self.simulations.is_stopped() && started.elapsed() < LOOK_KEPT_MAX;
        while !waiting.is_empty() && goes_on() {
            if self.simulations.is_paused() {
                self.simulations.wait_until_woken();
                continue;
            }
            waiting = &waiting[self.simulate_first(waiting)..];
        }
    }

    /// Simulates the first of these on one view of the state; gives how many.
    fn simulate_first(&self, waiting: &[Arc<PooledTx>]) -> usize {
        let Shared { chain, pool, .. } = &*self.shared;
        let started = Instant::now();
        let head = chain.head();
        let env = chain.evm_env(&chain.draft_on(&head.header, &self.shared.attributes(&head)));
        let is_stopped = &self.simulations.is_stopped;
        let mut simulation = Simulation::new(chain.latest_state(), env, is_stopped);
        for (index, tx) in waiting.iter().enumerate() {
            let goes_on = !self.simulations.is_paused() && !self.simulations.is_stopped();
            if !goes_on || started.elapsed() > VIEW_HELD_MAX {
                return index;
            }
            let hash = tx.hash();
            if !pool.contains(&hash) {
                continue;
            }
            let began = Instant::now();
            // Also where it fails, so that it is not tried again and again.
            let Ok(hint) = catch_unwind(AssertUnwindSafe(|| {
                let simulated = simulation.run(&tx.into_block_transaction());
                simulated.inspect_err(|error| tracing::trace!(%hash, %error, "not simulated"))
            })) else {
                tracing::error!(%hash, "simulating a transaction panicked");
                self.simulations.put(hash, AccessHint::default());
                return index + 1;
            };
            self.simulations.put(hash, hint.unwrap_or_default());
            metrics::counter!("builder_simulated_transactions_total").increment(1);
            metrics::histogram!("builder_simulation_seconds").record(began.elapsed());
        }
        waiting.len()
    }
}

/// Whether it is known without looking what it touches: so little that a hint would take longer than it saves.
fn only_pays(tx: &PooledTx) -> bool {
    let transaction = tx.transaction();
    let is_call_without_input = transaction.to().is_some() && transaction.input().is_empty();
    is_call_without_input && tx.gas_limit() == PAYMENT_GAS
}

/// The system runs this thread when no other wants the core.
fn give_way() {
    // On Linux a thread has a niceness of its own; elsewhere this would be the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(19) {
        tracing::warn!(%error, "simulations run at the priority of everything else");
    }
}
