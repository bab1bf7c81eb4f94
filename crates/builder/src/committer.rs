//! Commits sealed blocks beside the thread that makes them.

use crate::{
    MineError,
    clock::Used,
    shared::{NextBlock, Shared},
};
use alloy_primitives::{TxHash, map::B256Set};
use heddle_chain::{ChainBlock, ProducedBlock, Tip};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Instant,
};

/// Blocks that are handed over and not on the chain yet. With one, the next block is executed while it is written; more
/// would only make failures dearer, since whoever writes is never idle then.
const IN_FLIGHT_MAX: usize = 1;

/// A thread that puts sealed blocks on the chain, one after the other.
#[derive(Debug)]
pub(crate) struct Committer {
    /// `None` while it ends.
    blocks: Option<SyncSender<ProducedBlock>>,
    outcomes: Receiver<Result<Arc<ChainBlock>, MineError>>,
    thread: Option<JoinHandle<()>>,
}

/// A block that the committer has.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) tip: Tip,
    /// Its transactions, which are still in the pool.
    pub(crate) transactions: B256Set,
    pub(crate) claimed: Claimed,
}

/// What was set for a block, to be put back should it not get onto the chain.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) next: NextBlock,
    pub(crate) clock: Used,
}

impl Committer {
    pub(crate) fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (blocks, received) = sync_channel::<ProducedBlock>(IN_FLIGHT_MAX);
        let (done, outcomes) = sync_channel(IN_FLIGHT_MAX);
        let thread = std::thread::Builder::new().name("heddle-commit".into()).spawn(move || {
            for produced in received {
                if done.send(shared.commit(produced)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { blocks: Some(blocks), outcomes, thread: Some(thread) })
    }

    /// Hands a block over. The one before must have been [finished](Self::finish).
    pub(crate) fn begin(&self, produced: ProducedBlock) -> Result<(), MineError> {
        let blocks = self.blocks.as_ref().ok_or(MineError::Stopped)?;
        blocks.send(produced).map_err(|_| MineError::Stopped)
    }

    /// Waits for the block that was handed over.
    pub(crate) fn finish(&self) -> Result<Arc<ChainBlock>, MineError> {
        let started = Instant::now();
        let outcome = self.outcomes.recv().map_err(|_| MineError::Stopped)?;
        metrics::histogram!("builder_commit_wait_seconds").record(started.elapsed());
        outcome
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.blocks = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that commits blocks had panicked");
        }
    }
}

impl InFlight {
    pub(crate) fn new(tip: Tip, claimed: Claimed) -> Self {
        let hashes = tip.block().transactions.iter().map(|tx| -> TxHash { *tx.inner().tx_hash() });
        Self { transactions: hashes.collect(), tip, claimed }
    }
}
