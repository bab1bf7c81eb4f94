//! What the tables of nodes and of histories still lack.
//!
//! Their keys are hashes, addresses and slots, so that what one block writes lies apart: written block by block, nearly
//! every entry costs a page of its own, and with a million accounts a transfer costs ten kilobytes of them. So entries
//! wait here, in memory, until several blocks' can be written in order and together ([`settle`]).
//!
//! Nothing is lost in a crash: what waits follows from what is written with each block, its change set and the flat state
//! ([`Pending::rebuild`]). Until it is written, readers find it here: every snapshot has what its tables lack.

use crate::chain::decode_tag;
use crate::change_set::{ChangeSet, StateBefore};
use crate::past::{change_set, check_root};
use crate::schema::{WriteTables, account_history_key, meta, storage_history_key};
use crate::store::Snapshot;
use crate::{StateView, StoreError, changed_at, commit::apply_trie_updates};
use alloy_primitives::{Address, B256, U256};
use heddle_trie::{AccountChange, Nibbles, SlotChange, StateChanges, TrieUpdates, state_root};
use redb::ReadableTable;
use std::{sync::Arc, time::Instant};

/// Entries that may wait. A node of a branch with sixteen children takes 600 bytes here, a leaf 200, so these are up to
/// some 150 MB.
pub const PENDING_ENTRIES_MAX: usize = 400_000;

/// Entries of as many blocks like the newest wait: while blocks are small nobody waits long for what they leave to be
/// written, and while they are large most of what several of them changed is written once.
const BLOCKS_TOGETHER: usize = 16;

/// So many entries wait in any case: a few milliseconds of writing.
const ENTRIES_TOGETHER_MIN: usize = 4_096;

/// Blocks that may wait, however little they changed: after a crash their change sets are read one by one.
const BLOCKS_MAX: u64 = 1_024;

/// Steps of a look-up. Beyond it the two neighbours that have the least become one.
const LAYERS_MAX: usize = 32;

/// Nodes and histories of the newest blocks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    /// The last block whose nodes and histories are in their tables.
    settled: u64,
    /// Of one block, or several, each after the one before.
    layers: Vec<Arc<Layer>>,
}

#[derive(Debug)]
struct Layer {
    last: u64,
    nodes: Arc<TrieUpdates>,
    /// Which account changed in which block, ascending.
    accounts: Vec<(Address, u64)>,
    /// Which slot changed in which block, ascending.
    slots: Vec<(Address, U256, u64)>,
    entries: usize,
}

impl Layer {
    fn new(
        last: u64,
        nodes: Arc<TrieUpdates>,
        accounts: Vec<(Address, u64)>,
        slots: Vec<(Address, U256, u64)>,
    ) -> Arc<Self> {
        let storage_nodes: usize = nodes.storage_nodes.values().map(|trie| trie.nodes.len()).sum();
        let entries = nodes.account_nodes.len() + storage_nodes + accounts.len() + slots.len();
        Arc::new(Self { last, nodes, accounts, slots, entries })
    }

    fn of(number: u64, overwritten: &ChangeSet, nodes: Arc<TrieUpdates>) -> Arc<Self> {
        let (mut accounts, mut slots) = (Vec::new(), Vec::new());
        note(number, overwritten, &mut accounts, &mut slots);
        Self::new(number, nodes, accounts, slots)
    }

    fn and_then(&self, next: &Self) -> Arc<Self> {
        let mut nodes = TrieUpdates::clone(&self.nodes);
        nodes.extend(TrieUpdates::clone(&next.nodes));
        let accounts = merged([&self.accounts, &next.accounts]);
        let slots = merged([&self.slots, &next.slots]);
        Self::new(next.last, Arc::new(nodes), accounts, slots)
    }
}

/// What a block changed, in order of address and slot.
fn note(
    number: u64,
    overwritten: &ChangeSet,
    accounts: &mut Vec<(Address, u64)>,
    slots: &mut Vec<(Address, U256, u64)>,
) {
    for (address, before) in &overwritten.accounts {
        if before.state != StateBefore::Unchanged {
            accounts.push((*address, number));
        }
        slots.extend(before.slots.keys().map(|slot| (*address, *slot, number)));
    }
}

/// All of several ascending lists, ascending.
fn merged<'l, T: Copy + Ord + 'l>(lists: impl IntoIterator<Item = &'l Vec<T>>) -> Vec<T> {
    let mut all: Vec<T> = lists.into_iter().flatten().copied().collect();
    // The stable sort finds the lists again and merges them.
    all.sort();
    all
}

impl Pending {
    /// Nothing: the tables have all up to and including block `number`.
    pub(crate) const fn none_after(number: u64) -> Self {
        Self { settled: number, layers: Vec::new() }
    }

    /// The last block whose nodes and histories are in their tables.
    pub(crate) const fn settled(&self) -> u64 {
        self.settled
    }

    fn entries(&self) -> usize {
        self.layers.iter().map(|layer| layer.entries).sum()
    }

    /// Adds what block `number` did, which follows on the last one.
    pub(crate) fn add(&mut self, number: u64, overwritten: &ChangeSet, nodes: &Arc<TrieUpdates>) {
        self.layers.push(Layer::of(number, overwritten, nodes.clone()));
        while self.layers.len() > LAYERS_MAX {
            let pair = |at: usize| self.layers[at].entries + self.layers[at + 1].entries;
            let Some(at) = (0..self.layers.len() - 1).min_by_key(|at| pair(*at)) else { break };
            self.layers[at] = self.layers[at].and_then(&self.layers[at + 1]);
            self.layers.remove(at + 1);
        }
        metrics::gauge!("heddle_store_pending_entries").set(self.entries() as f64);
    }

    /// Whether so much waits that it is to be written, of which `entries_max` may.
    pub(crate) fn is_due(&self, entries_max: usize) -> bool {
        let Some(newest) = self.layers.last() else {
            return false;
        };
        let together = newest.entries.saturating_mul(BLOCKS_TOGETHER).max(ENTRIES_TOGETHER_MIN);
        self.entries() >= together.min(entries_max) || newest.last - self.settled >= BLOCKS_MAX
    }

    /// The node of the account trie at `path`, where it waits.
    pub(crate) fn account_node(&self, path: &Nibbles) -> Option<&Option<Vec<u8>>> {
        self.newest_first().find_map(|layer| layer.nodes.account_nodes.get(path))
    }

    /// The node at `path` of a storage trie, where it waits.
    pub(crate) fn storage_node(
        &self,
        hashed_address: B256,
        path: &Nibbles,
    ) -> Option<&Option<Vec<u8>>> {
        let updates =
            self.newest_first().filter_map(|layer| layer.nodes.storage_nodes.get(&hashed_address));
        for updates in updates {
            match updates.nodes.get(path) {
                None if updates.wiped => return Some(&None),
                None => {}
                waiting => return waiting,
            }
        }
        None
    }

    fn newest_first(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().rev().map(|layer| &**layer)
    }

    /// The first waiting block after block `number` that changed the account.
    fn account_changed_after(&self, address: &Address, number: u64) -> Option<u64> {
        self.layers.iter().filter(|layer| layer.last > number).find_map(|layer| {
            let at = layer.accounts.partition_point(|entry| *entry <= (*address, number));
            layer.accounts.get(at).filter(|(of, _)| of == address).map(|(_, changed)| *changed)
        })
    }

    /// The first waiting block after block `number` that changed the slot.
    fn slot_changed_after(&self, address: &Address, slot: U256, number: u64) -> Option<u64> {
        self.layers.iter().filter(|layer| layer.last > number).find_map(|layer| {
            let at = layer.slots.partition_point(|entry| *entry <= (*address, slot, number));
            let found = layer.slots.get(at).filter(|(of, at, _)| (of, *at) == (address, slot));
            found.map(|(.., changed)| *changed)
        })
    }

    /// The accounts in the waiting histories; some come twice.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.layers.iter().flat_map(|layer| layer.accounts.iter().map(|(address, _)| *address))
    }

    /// The slots of an account in the waiting histories; some come twice.
    pub(crate) fn slots_of(&self, address: Address) -> impl Iterator<Item = U256> {
        self.layers.iter().flat_map(move |layer| {
            let from = layer.slots.partition_point(|(of, ..)| *of < address);
            let of = layer.slots[from..].iter().take_while(move |(of, ..)| *of == address);
            of.map(|(_, slot, _)| *slot)
        })
    }

    /// What waits by what a store says that was opened, none of it in memory: of the blocks after the last that is
    /// settled.
    pub(crate) fn rebuild(snapshot: Snapshot) -> Result<Self, StoreError> {
        let (head, settled) = (snapshot.head()?.number, snapshot.pending.settled);
        let start = Instant::now();
        let (mut accounts, mut slots) = (Vec::new(), Vec::new());
        let mut together = ChangeSet::default();
        for number in settled + 1..=head {
            let (overwritten, _) = change_set(&snapshot, number)?;
            note(number, &overwritten, &mut accounts, &mut slots);
            together.extend_with_later(overwritten);
        }
        accounts.sort_unstable();
        slots.sort_unstable();
        // The flat state is the head's, the nodes are those of the last settled block.
        let view = StateView::latest(Arc::new(snapshot))?;
        let nodes = if view.elsewhere().is_some() {
            TrieUpdates::default()
        } else {
            let (root, nodes) = state_root(&view, &onward(&view, &together)?)?;
            check_root(view.snapshot(), head, root)?;
            nodes
        };
        let layer = Layer::new(head, Arc::new(nodes), accounts, slots);
        let (blocks, entries, seconds) =
            (head - settled, layer.entries, start.elapsed().as_secs_f64());
        tracing::info!(
            blocks,
            entries,
            seconds,
            "made the newest blocks' nodes and histories anew"
        );
        Ok(Self { settled, layers: vec![layer] })
    }
}

/// The change to the state of `view`, which is after the blocks that overwrote `overwritten`, from the one before them.
fn onward(view: &StateView, overwritten: &ChangeSet) -> Result<StateChanges, StoreError> {
    let mut changes = StateChanges::default();
    for (address, before) in &overwritten.accounts {
        let after = view.account(address)?;
        let mut change = AccountChange { after, ..Default::default() };
        change.before = match before.state {
            StateBefore::Unchanged => after,
            StateBefore::Absent => None,
            StateBefore::Was(state) => Some(state),
        };
        if after.is_some() {
            for (slot, before) in &before.slots {
                let after = view.storage(address, *slot)?;
                change.storage.insert(*slot, SlotChange { before: *before, after });
            }
        }
        changes.accounts.insert(*address, change);
    }
    Ok(changes)
}

impl Snapshot {
    /// The first block after block `number` that changed the account.
    pub(crate) fn account_changed_after(
        &self,
        address: &Address,
        number: u64,
    ) -> Result<Option<u64>, StoreError> {
        let (history, key) = (&self.tables.account_history, account_history_key(address, 0));
        let settled = number < self.pending.settled;
        let found = settled.then(|| changed_at::first_after(history, key, number)).transpose()?;
        Ok(found.flatten().or_else(|| self.pending.account_changed_after(address, number)))
    }

    /// The first block after block `number` that changed the slot.
    pub(crate) fn slot_changed_after(
        &self,
        address: &Address,
        slot: U256,
        number: u64,
    ) -> Result<Option<u64>, StoreError> {
        let (history, key) = (&self.tables.storage_history, storage_history_key(address, slot, 0));
        let settled = number < self.pending.settled;
        let found = settled.then(|| changed_at::first_after(history, key, number)).transpose()?;
        Ok(found.flatten().or_else(|| self.pending.slot_changed_after(address, slot, number)))
    }
}

/// The last settled block, as a database says.
pub(crate) fn settled_block(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<u64, StoreError> {
    table.get(meta::SETTLED)?.map_or(Ok(0), |number| decode_tag(number.value()))
}

/// From now on the tables have all up to and including block `number`, and nothing waits.
pub(crate) fn set_settled(tables: &mut WriteTables<'_>, number: u64) -> Result<(), StoreError> {
    tables.meta.insert(meta::SETTLED, number.to_be_bytes().as_slice())?;
    tables.pending = Pending::none_after(number);
    Ok(())
}

/// Writes all that waits into its tables.
pub(crate) fn settle(tables: &mut WriteTables<'_>) -> Result<(), StoreError> {
    let pending = std::mem::take(&mut tables.pending);
    let Some(last) = pending.layers.last().map(|layer| layer.last) else {
        tables.pending = pending;
        return Ok(());
    };
    let span = tracing::debug_span!("settle", last, entries = pending.entries());
    let _entered = span.enter();
    let start = Instant::now();

    let layers = pending.layers.iter();
    apply_trie_updates(tables, layers.clone().map(|layer| &*layer.nodes))?;
    let accounts = merged(layers.clone().map(|layer| &layer.accounts));
    for changes in accounts.chunk_by(|a, b| a.0 == b.0) {
        let key = account_history_key(&changes[0].0, 0);
        let numbers = changes.iter().map(|(_, number)| *number);
        changed_at::note(&mut tables.account_history, key, numbers)?;
    }
    let slots = merged(layers.map(|layer| &layer.slots));
    for changes in slots.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let key = storage_history_key(&changes[0].0, changes[0].1, 0);
        let numbers = changes.iter().map(|(.., number)| *number);
        changed_at::note(&mut tables.storage_history, key, numbers)?;
    }
    set_settled(tables, last)?;
    metrics::gauge!("heddle_store_pending_entries").set(0);
    metrics::histogram!("heddle_store_settle_seconds").record(start.elapsed());
    Ok(())
}
