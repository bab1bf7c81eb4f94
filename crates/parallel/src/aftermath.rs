//! What is left to do when all transactions are committed: receipts, and the block's change of
//! state. All workers do it together: for light transactions it is as much work as running them.
//!
//! What is called inside a rayon pool is shared among its threads; outside, it runs on the caller's.

use crate::{
    location::TxIndex,
    memory::{AccountCell, SlotCell, VersionedMemory},
    vm::CommittedTransaction,
};
use alloy_primitives::{Address, Bloom, KECCAK256_EMPTY, U256, map::B256Map};
use heddle_evm::{
    AccountChange, AccountState, BlockState, CachedAccount, LogBlooms, ParentState, Receipt,
    RecoveredTransaction, SlotChange, SlotInOrder, SortedMap, StateChanges, StateError,
    account_state, as_stored, build_receipt,
};
use rayon::prelude::*;
use revm::state::Bytecode;
use std::{cmp::Ordering, ops::Range, sync::mpsc::Receiver};

fn in_pool() -> bool {
    rayon::current_thread_index().is_some()
}

/// Items for which it is not worth waking another worker.
const ITEMS_MIN: usize = 256;

/// The receipts of the block, in order.
pub(crate) fn receipts(
    committed: Vec<CommittedTransaction>,
    transactions: &[RecoveredTransaction],
) -> Vec<Receipt> {
    let receipt = receipt_of(transactions);
    if in_pool() {
        let committed = committed.into_par_iter().with_min_len(ITEMS_MIN);
        committed.map_init(LogBlooms::default, receipt).collect()
    } else {
        let mut blooms = LogBlooms::default();
        committed.into_iter().map(|committed| receipt(&mut blooms, committed)).collect()
    }
}

fn receipt_of(
    transactions: &[RecoveredTransaction],
) -> impl Fn(&mut LogBlooms, CommittedTransaction) -> Receipt {
    |blooms, CommittedTransaction { tx, success, cumulative_gas_used, logs }| {
        let tx_type = transactions[tx.as_usize()].tx_type();
        let bloom = if logs.is_empty() { Bloom::ZERO } else { blooms.bloom(&logs) };
        build_receipt(tx_type, success, cumulative_gas_used, logs, bloom)
    }
}

/// Adds the receipts of what another thread has `committed`, as it comes, until it says no more.
pub(crate) fn receipts_beside(
    receipts: &mut Vec<Receipt>,
    committed: Receiver<Vec<CommittedTransaction>>,
    transactions: &[RecoveredTransaction],
) {
    let mut blooms = LogBlooms::default();
    let receipt = receipt_of(transactions);
    receipts.reserve_exact(transactions.len() - receipts.len());
    for ready in committed {
        receipts.extend(ready.into_iter().map(|committed| receipt(&mut blooms, committed)));
    }
}

/// The net change of a block's state, as [`BlockState::changes`] gives it.
pub(crate) fn changes_of<P: ParentState>(
    state: &BlockState<P>,
) -> Result<StateChanges, StateError> {
    if !in_pool() {
        return state.changes();
    }
    state.check()?;
    let changed = state.accounts().par_iter().with_min_len(ITEMS_MIN);
    let mut sorted: Vec<_> = changed
        .filter(|account| account.is_changed())
        .map(|account| (account.address(), account))
        .collect();
    sorted.par_sort_unstable_by_key(|(address, _)| *address);
    let change = |(address, account): (&Address, &CachedAccount)| {
        let change = account.change_sorted(|slots| {
            if slots.len() > ITEMS_MIN {
                slots.par_sort_unstable_by(SlotInOrder::compare);
            } else {
                slots.sort_unstable_by(SlotInOrder::compare);
            }
        });
        (*address, change)
    };
    let accounts: Vec<_> = sorted.into_par_iter().with_min_len(ITEMS_MIN).map(change).collect();
    let code = accounts.iter().filter_map(|(_, change)| state.new_code(change)).collect();
    Ok(StateChanges { accounts: SortedMap::from_sorted(accounts), code })
}

/// What the transactions wrote, by account and slot.
#[derive(Debug, Default)]
pub(crate) struct Written<'m> {
    /// Accounts that changed, or whose storage did, by address.
    accounts: Vec<(Address, &'m AccountCell)>,
    /// Slots that changed, by address and slot.
    slots: Vec<WrittenSlot<'m>>,
    /// Where in `slots` those of each account are, by address.
    owners: Vec<(Address, Range<usize>)>,
    /// Those that were to be kept apart.
    pub(crate) apart: Apart,
}

/// A slot that changed. Sorted by what is beside the reference, so that sorting moves little and
/// looks at a cell only where the highest limbs are equal.
#[derive(Debug)]
struct WrittenSlot<'m> {
    owner: Address,
    high: u64,
    cell: &'m SlotCell,
}

impl<'m> WrittenSlot<'m> {
    fn new(cell: &'m SlotCell) -> Self {
        let (owner, slot) = &cell.key;
        Self { owner: *owner, high: slot.as_limbs()[3], cell }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let by_prefix = (&self.owner, self.high).cmp(&(&other.owner, other.high));
        by_prefix.then_with(|| self.cell.key.1.cmp(&other.cell.key.1))
    }
}

/// The final writes to some accounts.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    /// Account, what it is now, whether its storage was wiped.
    pub(crate) accounts: Vec<(Address, Option<AccountState>, bool)>,
    pub(crate) slots: Vec<(Address, U256, U256)>,
}

impl Apart {
    /// What the transactions below `head` wrote, once all of them are committed. There may be
    /// writes of later ones.
    pub(crate) fn below(memory: &VersionedMemory, head: TxIndex) -> Self {
        let mut all = Self::default();
        for worker in 0..memory.workers() {
            all.accounts.extend(memory.accounts_of(worker).filter_map(|cell| {
                let (_, after) = cell.settled(head)?;
                Some((cell.key, after, memory.settled_wipe(cell.key, head).is_some()))
            }));
            all.slots.extend(memory.slots_of(worker).filter_map(|cell| {
                Some((cell.key.0, cell.key.1, memory.settled_slot(cell, head)?))
            }));
        }
        all
    }
}

impl<'m> Written<'m> {
    /// Goes through the memory and makes sure that the parent's values are known wherever
    /// something was written.
    pub(crate) fn gather<P: ParentState>(
        memory: &'m VersionedMemory,
        parent: &P,
        is_apart: impl Fn(&Address) -> bool + Sync,
    ) -> Result<Self, StateError> {
        let of_worker = |worker| Self::of_worker(memory, parent, &is_apart, worker);
        let workers = 0..memory.workers();
        let each: Vec<_> = if in_pool() {
            workers.into_par_iter().map(of_worker).collect::<Result<_, _>>()?
        } else {
            workers.map(of_worker).collect::<Result<_, _>>()?
        };
        let mut all = Self::default();
        all.accounts.reserve_exact(each.iter().map(|written| written.accounts.len()).sum());
        all.slots.reserve_exact(each.iter().map(|written| written.slots.len()).sum());
        for mut written in each {
            all.accounts.append(&mut written.accounts);
            all.slots.append(&mut written.slots);
            all.apart.accounts.append(&mut written.apart.accounts);
            all.apart.slots.append(&mut written.apart.slots);
        }
        if in_pool() {
            rayon::join(
                || all.accounts.par_sort_unstable_by_key(|(address, _)| *address),
                || all.slots.par_sort_unstable_by(WrittenSlot::compare),
            );
        } else {
            all.accounts.sort_unstable_by_key(|(address, _)| *address);
            all.slots.sort_unstable_by(WrittenSlot::compare);
        }
        all.add_owners_of_slots(memory, parent)?;
        Ok(all)
    }

    fn of_worker<P: ParentState>(
        memory: &'m VersionedMemory,
        parent: &P,
        is_apart: impl Fn(&Address) -> bool,
        worker: usize,
    ) -> Result<Self, StateError> {
        let mut written = Self::default();
        for cell in memory.accounts_of(worker) {
            let Some((_, after)) = cell.last() else { continue };
            let address = cell.key;
            let wiped = memory.last_wipe(address).is_some();
            if is_apart(&address) {
                written.apart.accounts.push((address, after, wiped));
                continue;
            }
            let before = parent_account(cell, parent)?;
            if before.map(as_stored) != after.map(as_stored) || wiped && before.is_some() {
                written.accounts.push((address, cell));
            }
        }
        for cell in memory.slots_of(worker) {
            let Some(after) = memory.last_slot(cell) else { continue };
            let (address, slot) = cell.key;
            if is_apart(&address) {
                written.apart.slots.push((address, slot, after));
                continue;
            }
            let wiped = memory.last_wipe(address).is_some();
            let before = cell.parent(|| parent.storage_ref(address, slot))?;
            if after != (if wiped { U256::ZERO } else { before }) {
                written.slots.push(WrittenSlot::new(cell));
            }
        }
        Ok(written)
    }

    /// Accounts of which only storage changed.
    fn add_owners_of_slots<P: ParentState>(
        &mut self,
        memory: &'m VersionedMemory,
        parent: &P,
    ) -> Result<(), StateError> {
        let mut owners = Vec::new();
        let mut end = 0;
        for owned in self.slots.chunk_by(|a, b| a.owner == b.owner) {
            let owner = owned[0].owner;
            let start = end;
            end += owned.len();
            self.owners.push((owner, start..end));
            if self.accounts.binary_search_by_key(&owner, |(address, _)| *address).is_err() {
                let cell = memory.account(owner, 0);
                parent_account(cell, parent)?;
                owners.push((owner, cell));
            }
        }
        if !owners.is_empty() {
            self.accounts.append(&mut owners);
            // Two sorted parts: a stable sort merges them.
            self.accounts.sort_by_key(|(address, _)| *address);
        }
        Ok(())
    }

    /// The net change that the transactions made, joined with the one made around them; `None` if
    /// both changed one account.
    pub(crate) fn changes(
        self,
        memory: &VersionedMemory,
        code: &B256Map<Bytecode>,
        around: &StateChanges,
    ) -> Option<StateChanges> {
        let mut entries: Vec<_> =
            self.accounts.iter().map(|(address, cell)| (*address, Entry::Written(cell))).collect();
        entries.extend(around.accounts.iter().map(|(address, it)| (*address, Entry::Around(it))));
        entries.sort_by_key(|(address, _)| *address);
        if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return None;
        }
        let change = |(address, entry): &(Address, Entry<'_, 'm>)| match entry {
            Entry::Around(change) => (*address, (*change).clone()),
            Entry::Written(cell) => (*address, self.change(memory, cell)),
        };
        let accounts = if in_pool() {
            entries.par_iter().with_min_len(ITEMS_MIN).map(change).collect()
        } else {
            entries.iter().map(change).collect()
        };
        let mut changes =
            StateChanges { accounts: SortedMap::from_sorted(accounts), code: around.code.clone() };
        if !code.is_empty() {
            let new = changes.accounts.values().filter_map(|change| {
                let hash = change.after.map_or(KECCAK256_EMPTY, |after| after.code_hash);
                let is_new = change.before.is_none_or(|before| before.code_hash != hash);
                Some((hash, code.get(&hash).filter(|_| is_new)?.original_bytes()))
            });
            changes.code.extend(new);
        }
        Some(changes)
    }

    fn change(&self, memory: &VersionedMemory, cell: &AccountCell) -> AccountChange {
        let address = cell.key;
        let own = match self.owners.binary_search_by_key(&address, |(owner, _)| *owner) {
            Ok(place) => &self.slots[self.owners[place].1.clone()],
            Err(_) => &[],
        };
        let before = cell.known_parent().flatten().map(as_stored);
        let after = cell.last().map_or(before, |(_, after)| after.map(as_stored));
        let was_wiped = memory.last_wipe(address).is_some();
        let slot = |WrittenSlot { cell, .. }: &WrittenSlot<'_>| {
            let before =
                if was_wiped { U256::ZERO } else { cell.known_parent().unwrap_or_default() };
            (cell.key.1, SlotChange { before, after: memory.last_slot(cell).unwrap_or(before) })
        };
        AccountChange {
            before,
            after,
            // An account that did not exist has no storage that could go.
            wiped: was_wiped && before.is_some(),
            // One token can hold most of what a block changed.
            storage: SortedMap::from_sorted(if own.len() > 2 * ITEMS_MIN && in_pool() {
                own.par_iter().with_min_len(ITEMS_MIN).map(slot).collect()
            } else {
                own.iter().map(slot).collect()
            }),
        }
    }
}

/// Where an account's change comes from.
enum Entry<'a, 'm> {
    Written(&'m AccountCell),
    Around(&'a AccountChange),
}

fn parent_account<P: ParentState>(
    cell: &AccountCell,
    parent: &P,
) -> Result<Option<AccountState>, StateError> {
    cell.parent(|| Ok(parent.basic_ref(cell.key)?.as_ref().map(account_state)))
}
