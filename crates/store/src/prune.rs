//! Forgetting what is old: states, receipts and transactions of blocks that are so far behind the head.
//!
//! Headers stay, and so do the state of the head and all that is needed to read it. What is forgotten is forgotten in the
//! same write as a new block is committed, a few blocks at a time, so that it is as atomic as the block; the first blocks
//! that are kept are an entry in `meta`, and whoever asks for earlier ones is told so ([`StoreError::Pruned`]).

use crate::alterations::remove_alterations;
use crate::change_set::{ChangeSet, StateBefore};
use crate::schema::{ReadTables, WriteTables, account_history_key, meta, storage_history_key};
use crate::{Store, StoreError, changed_at, log_index, lookup, pending, pieces};
use redb::ReadableTable;

/// How many blocks one commit forgets, beyond as many as it adds: enough to catch up with a distance that was made
/// shorter, few enough that the block does not wait for it.
const BLOCKS_PER_COMMIT: u64 = 4;

/// How many blocks one write of [`Store::prune`] forgets: what they changed is in memory together.
const BLOCKS_PER_WRITE: u64 = 256;

/// How far behind the head things are kept, in blocks; `None` keeps them for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneDistances {
    /// States: with 0 only the head's is kept.
    pub state: Option<u64>,
    /// Receipts, and the index of logs.
    pub receipts: Option<u64>,
    /// Transactions, ommers and withdrawals.
    pub bodies: Option<u64>,
}

/// Something that can be pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prunable {
    /// The state after a block.
    State,
    /// A block's receipts and logs.
    Receipts,
    /// A block's transactions.
    Bodies,
}

impl std::fmt::Display for Prunable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::State => "state",
            Self::Receipts => "receipts",
            Self::Bodies => "transactions",
        })
    }
}

/// The first block of which each is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// The state after it.
    pub state: u64,
    /// Its receipts and logs.
    pub receipts: u64,
    /// Its transactions.
    pub bodies: u64,
}

impl Kept {
    pub(crate) fn read(
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Self, StoreError> {
        let Some(kept) = meta.get(meta::KEPT)? else {
            return Ok(Self::default());
        };
        let [state, receipts, bodies] = *kept.value().as_chunks().0 else {
            return Err(StoreError::damaged("meta", "what is kept is not three numbers"));
        };
        let [state, receipts, bodies] = [state, receipts, bodies].map(u64::from_be_bytes);
        Ok(Self { state, receipts, bodies })
    }

    fn write(&self, tables: &mut WriteTables<'_>) -> Result<(), StoreError> {
        let kept: Vec<u8> = [self.state, self.receipts, self.bodies]
            .iter()
            .flat_map(|first| first.to_be_bytes())
            .collect();
        tables.meta.insert(meta::KEPT, kept.as_slice())?;
        Ok(())
    }

    /// The first block of which this is kept.
    pub const fn first(&self, what: Prunable) -> u64 {
        match what {
            Prunable::State => self.state,
            Prunable::Receipts => self.receipts,
            Prunable::Bodies => self.bodies,
        }
    }

    /// Refuses what is not kept.
    pub(crate) const fn check(&self, what: Prunable, number: u64) -> Result<(), StoreError> {
        let first = self.first(what);
        if number < first {
            return Err(StoreError::Pruned { what, number, first });
        }
        Ok(())
    }

    /// What is to be kept with `head` as head: at most so many blocks go at once.
    fn advanced(&self, head: u64, distances: &PruneDistances, blocks_max: u64) -> Self {
        let advanced = |first: u64, distance: Option<u64>| {
            let Some(distance) = distance else { return first };
            head.saturating_sub(distance).min(first.saturating_add(blocks_max)).max(first)
        };
        Self {
            state: advanced(self.state, distances.state),
            receipts: advanced(self.receipts, distances.receipts),
            bodies: advanced(self.bodies, distances.bodies),
        }
    }
}

/// What [`Store::prune`] did: blocks of which each was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// States.
    pub state: u64,
    /// Receipts.
    pub receipts: u64,
    /// Transactions.
    pub bodies: u64,
}

impl Store {
    /// The first block of which each thing is kept.
    pub fn kept(&self) -> Kept {
        self.snapshot().kept
    }

    /// Refuses what is not kept any more of a block.
    ///
    /// # Errors
    /// [`StoreError::Pruned`].
    pub fn check_kept(&self, what: Prunable, number: u64) -> Result<(), StoreError> {
        self.kept().check(what, number)
    }

    /// How far behind the head things are kept while blocks are committed.
    pub fn prune_distances(&self) -> PruneDistances {
        self.inner.config.prune
    }

    /// Forgets what is farther behind the head than `distances` say. The file does not become smaller: what is free in it
    /// is used for later blocks. `progress` is told the first block whose transactions, receipts and state are kept.
    ///
    /// # Errors
    /// When the database fails; what was forgotten until then stays so.
    pub fn prune(
        &self,
        distances: &PruneDistances,
        mut progress: impl FnMut(Kept),
    ) -> Result<PruneReport, StoreError> {
        let span = tracing::info_span!("prune");
        let _entered = span.enter();
        let before = self.kept();
        loop {
            let writer = self.write_lock()?;
            let head = self.snapshot().head()?.number;
            let kept = self.kept();
            let next = kept.advanced(head, distances, BLOCKS_PER_WRITE);
            if next == kept {
                break;
            }
            self.write(&writer, |tables| forget(tables, kept, next))?;
            progress(next);
        }
        let after = self.kept();
        self.flush()?;
        Ok(PruneReport {
            state: after.state - before.state,
            receipts: after.receipts - before.receipts,
            bodies: after.bodies - before.bodies,
        })
    }
}

/// After a commit of so many blocks, of which the last is `head`: forgets as many and a few more, if they are due.
pub(crate) fn follow(
    tables: &mut WriteTables<'_>,
    head: u64,
    blocks: u64,
    distances: &PruneDistances,
) -> Result<(), StoreError> {
    if *distances == PruneDistances::default() {
        return Ok(());
    }
    let kept = Kept::read(&tables.meta)?;
    let next = kept.advanced(head, distances, blocks.saturating_add(BLOCKS_PER_COMMIT));
    if next == kept { Ok(()) } else { forget(tables, kept, next) }
}

/// After blocks above `head` were undone: whatever comes there next is kept.
pub(crate) fn lower(tables: &mut WriteTables<'_>, head: u64) -> Result<(), StoreError> {
    let kept = Kept::read(&tables.meta)?;
    let next = head.saturating_add(1);
    let lowered = Kept {
        state: kept.state,
        receipts: kept.receipts.min(next),
        bodies: kept.bodies.min(next),
    };
    if lowered == kept { Ok(()) } else { lowered.write(tables) }
}

fn forget(tables: &mut WriteTables<'_>, kept: Kept, next: Kept) -> Result<(), StoreError> {
    if next.state > tables.pending.settled() {
        // What waits follows from the changes that are to be forgotten.
        pending::settle(tables)?;
    }
    for number in kept.state..next.state {
        // The state before a block is what its change set leads back to, so that the next block's is the first to stay.
        forget_changes(tables, number + 1, next.state)?;
        remove_alterations(tables, number + 1..=number + 1)?;
    }
    for number in kept.receipts..next.receipts {
        pieces::remove(&mut tables.receipts, number)?;
    }
    if next.receipts > kept.receipts {
        log_index::forget_before(tables, next.receipts)?;
    }
    for number in kept.bodies..next.bodies {
        pieces::remove(&mut tables.bodies, number)?;
    }
    if next.bodies > kept.bodies {
        lookup::forget_before(tables, next.bodies)?;
    }
    metrics::gauge!("heddle_store_first_state").set(next.state as f64);
    next.write(tables)
}

/// Forgets what block `number` overwrote, and where only blocks up to `last` have changed something, that they have.
fn forget_changes(tables: &mut WriteTables<'_>, number: u64, last: u64) -> Result<(), StoreError> {
    let Some((changes, _)) = ChangeSet::read(&tables.changes, number)? else {
        return Ok(());
    };
    for (address, before) in &changes.accounts {
        if before.state != StateBefore::Unchanged {
            let key = account_history_key(address, 0);
            changed_at::forget_up_to(&mut tables.account_history, key, last)?;
        }
        for slot in before.slots.keys() {
            let key = storage_history_key(address, *slot, 0);
            changed_at::forget_up_to(&mut tables.storage_history, key, last)?;
        }
    }
    pieces::remove(&mut tables.changes, number)?;
    Ok(())
}

impl ReadTables {
    pub(crate) fn kept(&self) -> Result<Kept, StoreError> {
        Kept::read(&self.meta)
    }
}
