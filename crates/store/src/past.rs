//! Going back: unwinding blocks, and proofs of older states.

use crate::alterations::remove_alterations;
use crate::base::forget_wiped_after;
use crate::change_set::{ChangeSet, StateBefore};
use crate::codec::{BodyRecord, HeaderRecord};
use crate::commit::{apply_changes, apply_trie_updates};
use crate::error::unless_damaged;
use crate::schema::{WriteTables, account_history_key, meta, storage_history_key};
use crate::store::Snapshot;
use crate::{
    Prunable, StateView, Store, StoreError, changed_at, log_index, lookup, pending, pieces, prune,
};
use alloy_primitives::{Address, B256, U256};
use heddle_trie::{
    AccountChange, AccountProof, OverlayReader, SlotChange, StateChanges, TrieUpdates,
    prove_account, state_root,
};
use parking_lot::MutexGuard;
use redb::ReadableTable;
use std::{collections::BTreeSet, time::Instant};

/// How many blocks behind the head a proof may be, unless a store is configured otherwise: the changes since are undone in
/// memory for it.
pub const PROOF_DEPTH_BLOCKS: u64 = 1_024;

/// How large the change sets of those blocks may be together, in bytes as stored.
pub const PROOF_CHANGE_BYTES_MAX: usize = 128 << 20;

/// How many blocks one write transaction undoes: their change sets are in memory together.
const UNWIND_BLOCKS_MAX: u64 = 256;

impl Store {
    /// How many blocks behind the head tries can be made again, see [`crate::StoreConfig::reorg_depth`].
    pub fn reorg_depth(&self) -> u64 {
        self.inner.config.reorg_depth
    }

    /// Makes block `number` the head again: undoes the state, the nodes, the history and the
    /// look-ups of every block above it. The hashes of the removed blocks, the old head first.
    /// Deployed code stays; it is found by hash only.
    ///
    /// Up to 256 blocks are undone at once, more in several steps, each of which leaves a whole
    /// block as head.
    ///
    /// # Errors
    /// If there is no such block, a state root does not come out as its header says, or the
    /// database fails.
    pub fn unwind_to(&self, number: u64) -> Result<Vec<B256>, StoreError> {
        let span = tracing::info_span!("unwind", to = number);
        let _entered = span.enter();
        let start = Instant::now();
        let writer = self.write_lock()?;
        let mut removed = Vec::new();
        loop {
            let head = self.snapshot().head()?.number;
            if number > head {
                return Err(StoreError::UnknownBlock { number, head });
            }
            if number == head {
                break;
            }
            self.snapshot().check_state(number)?;
            // By what is in them they are taken out of the look-ups.
            self.snapshot().kept.check(Prunable::Bodies, number + 1)?;
            let target = number.max(head.saturating_sub(UNWIND_BLOCKS_MAX));
            self.unwind_step(&writer, target, &mut removed)?;
        }
        metrics::counter!("heddle_store_blocks_unwound_total").increment(removed.len() as u64);
        metrics::histogram!("heddle_store_unwind_seconds").record(start.elapsed());
        Ok(removed)
    }

    fn unwind_step(
        &self,
        writer: &MutexGuard<'_, ()>,
        target: u64,
        removed: &mut Vec<B256>,
    ) -> Result<(), StoreError> {
        unless_damaged(|| {
            let snapshot = self.snapshot();
            let head = snapshot.head()?.number;
            let mut steps = Vec::new();
            let mut together = ChangeSet::default();
            for number in target + 1..=head {
                let (step, _) = change_set(&snapshot, number)?;
                together.extend_with_later(step.clone());
                steps.push((number, step));
            }
            let view = StateView::latest(snapshot)?;
            let changes = reversed(&view, &together)?;
            let elsewhere = view.snapshot().base.elsewhere;
            let updates = if elsewhere {
                TrieUpdates::default()
            } else {
                let (root, updates) = state_root(&view, &changes)?;
                check_root(view.snapshot(), target, root)?;
                updates
            };

            self.write(writer, |tables| {
                pending::settle(tables)?;
                apply_changes(tables, target, &changes, elsewhere)?;
                if elsewhere {
                    forget_wiped_after(tables, target)?;
                }
                apply_trie_updates(tables, [&updates])?;
                for (number, step) in steps.iter().rev() {
                    remove_history(tables, *number, step)?;
                    removed.push(remove_block(tables, *number)?);
                }
                remove_alterations(tables, target.saturating_add(1)..=u64::MAX)?;
                pending::set_settled(tables, target)?;
                prune::lower(tables, target)?;
                lower_tags(tables, target)
            })
        })
    }

    /// The proof of the account at `address` and of some of its slots in the state after block
    /// `number`.
    ///
    /// # Errors
    /// [`StoreError::ProofTooOld`] beyond [`Self::reorg_depth`] blocks or
    /// [`PROOF_CHANGE_BYTES_MAX`] bytes of changes; [`StoreError::NotWhole`] on a fork; if there is
    /// no such block; or when the database fails.
    pub fn proof_at(
        &self,
        number: u64,
        address: Address,
        slots: &[U256],
    ) -> Result<AccountProof, StoreError> {
        let span = tracing::debug_span!("proof", number);
        let _entered = span.enter();
        Ok(prove_account(&self.past_nodes(number)?.reader(), address, slots)?)
    }

    /// The accounts that the blocks `from..=to` changed, in themselves or in their storage, also those that are again
    /// what they were.
    ///
    /// # Errors
    /// If there is no such block, or when the database fails.
    pub fn changed_accounts(&self, from: u64, to: u64) -> Result<BTreeSet<Address>, StoreError> {
        unless_damaged(|| {
            let snapshot = self.snapshot();
            let head = snapshot.head()?.number;
            if to > head {
                return Err(StoreError::UnknownBlock { number: to, head });
            }
            // A block's changes start from the state before it.
            snapshot.check_state(from.saturating_sub(1))?;
            let mut changed = BTreeSet::new();
            for number in from..=to {
                changed.extend(change_set(&snapshot, number)?.0.accounts.into_keys());
            }
            Ok(changed)
        })
    }

    /// The nodes of all tries of the state after block `number`: what a block that branches off
    /// there is computed over.
    ///
    /// # Errors
    /// As [`Self::proof_at`].
    pub fn past_nodes(&self, number: u64) -> Result<PastNodes, StoreError> {
        unless_damaged(|| {
            let snapshot = self.snapshot();
            let head = snapshot.head()?.number;
            if number > head {
                return Err(StoreError::UnknownBlock { number, head });
            }
            snapshot.check_state(number)?;
            snapshot.base.check_whole()?;
            let too_old = |limit| StoreError::ProofTooOld { number, head, limit };
            let depth = self.inner.config.reorg_depth;
            if head - number > depth {
                return Err(too_old(format!("{depth} blocks")));
            }
            let mut together = ChangeSet::default();
            let mut bytes = 0;
            for number in number + 1..=head {
                let (step, step_bytes) = change_set(&snapshot, number)?;
                bytes += step_bytes;
                if bytes > PROOF_CHANGE_BYTES_MAX {
                    return Err(too_old(format!("{PROOF_CHANGE_BYTES_MAX} bytes of changes")));
                }
                together.extend_with_later(step);
            }
            let view = StateView::latest(snapshot)?;
            let (root, updates) = state_root(&view, &reversed(&view, &together)?)?;
            check_root(view.snapshot(), number, root)?;
            Ok(PastNodes { view, updates })
        })
    }
}

/// The nodes of the state after an older block; see [`Store::past_nodes`].
#[derive(Debug, Clone)]
pub struct PastNodes {
    /// The newest state when this was made.
    view: StateView,
    /// What leads from there back to the older one.
    updates: TrieUpdates,
}

impl PastNodes {
    /// Reads them.
    pub fn reader(&self) -> OverlayReader<'_, &StateView> {
        OverlayReader { base: &self.view, updates: &self.updates }
    }

    pub(crate) const fn view(&self) -> &StateView {
        &self.view
    }

    /// Goes on to the state after a further change, whose updates these are.
    pub fn extend(&mut self, next: TrieUpdates) {
        self.updates.extend(next);
    }
}

/// What a block overwrote, and how many bytes that takes.
pub(crate) fn change_set(
    snapshot: &Snapshot,
    number: u64,
) -> Result<(ChangeSet, usize), StoreError> {
    let changes = ChangeSet::read(&snapshot.tables.changes, number)?;
    changes.ok_or_else(|| StoreError::damaged("changes", format!("block {number} has no entry")))
}
/// The change from the state of `view` to the state in which `overwritten` was not overwritten yet.
fn reversed(view: &StateView, overwritten: &ChangeSet) -> Result<StateChanges, StoreError> {
    let mut changes = StateChanges::default();
    for (address, earlier) in &overwritten.accounts {
        let before = view.account(address)?;
        let after = match earlier.state {
            StateBefore::Unchanged => before,
            StateBefore::Absent => None,
            StateBefore::Was(state) => Some(state),
        };
        let mut change = AccountChange { before, after, ..Default::default() };
        // An account that is to be absent loses its storage as a whole.
        if after.is_some() {
            for (slot, after) in &earlier.slots {
                let before = view.storage(address, *slot)?;
                if before != *after {
                    change.storage.insert(*slot, SlotChange { before, after: *after });
                }
            }
        }
        changes.accounts.insert(*address, change);
    }
    Ok(changes)
}

/// The root of the state after a block: its header's, or what was found when the chain was loaded.
pub(crate) fn root_of(snapshot: &Snapshot, number: u64) -> Result<B256, StoreError> {
    if let Some(root) = snapshot.base.root.filter(|_| number == snapshot.base.number) {
        return Ok(root);
    }
    match snapshot.tables.headers.get(number)? {
        Some(record) => Ok(HeaderRecord::decode("headers", &mut record.value())?.header.state_root),
        None => Err(StoreError::damaged("headers", format!("block {number} is missing"))),
    }
}

pub(crate) fn check_root(snapshot: &Snapshot, number: u64, actual: B256) -> Result<(), StoreError> {
    let expected = root_of(snapshot, number)?;
    if actual == expected {
        Ok(())
    } else {
        Err(StoreError::WrongStateRoot { number, actual, expected })
    }
}

fn remove_history(
    tables: &mut WriteTables<'_>,
    number: u64,
    overwritten: &ChangeSet,
) -> Result<(), StoreError> {
    pieces::remove(&mut tables.changes, number)?;
    for (address, before) in &overwritten.accounts {
        if before.state != StateBefore::Unchanged {
            let key = account_history_key(address, number);
            changed_at::forget_last(&mut tables.account_history, key, number)?;
        }
        for slot in before.slots.keys() {
            let key = storage_history_key(address, *slot, number);
            changed_at::forget_last(&mut tables.storage_history, key, number)?;
        }
    }
    Ok(())
}

/// The hash of the removed block.
fn remove_block(tables: &mut WriteTables<'_>, number: u64) -> Result<B256, StoreError> {
    let missing = |table| StoreError::damaged(table, format!("block {number} is missing"));
    let hash = {
        let record = tables.headers.remove(number)?.ok_or_else(|| missing("headers"))?;
        HeaderRecord::decode_hash("headers", record.value())?
    };
    tables.block_numbers.remove(&*hash)?;
    let body = pieces::read("bodies", &tables.bodies, number)?.ok_or_else(|| missing("bodies"))?;
    let body = BodyRecord::decode("bodies", &body)?;
    pieces::remove(&mut tables.bodies, number)?;
    lookup::remove_block(tables, number, body.transactions.iter().map(|tx| tx.tx_hash()))?;
    pieces::remove(&mut tables.receipts, number)?;
    log_index::remove_block(tables, number)?;
    Ok(hash)
}

/// A block that is gone can be neither safe nor finalized.
fn lower_tags(tables: &mut WriteTables<'_>, head: u64) -> Result<(), StoreError> {
    for tag in [meta::FINALIZED, meta::SAFE] {
        let above = match tables.meta.get(tag)? {
            Some(number) => crate::chain::decode_tag(number.value())? > head,
            None => false,
        };
        if above {
            tables.meta.insert(tag, head.to_be_bytes().as_slice())?;
        }
    }
    Ok(())
}
