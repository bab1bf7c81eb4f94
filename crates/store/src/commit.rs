use crate::change_set::{AccountBefore, ChangeSet, StateBefore};
use crate::codec::{
    BodyRecord, HeaderRecord, decode_account, decode_word, encode_account, encode_receipts,
    encode_word,
};
use crate::schema::{
    WriteTables, account_node_key, meta, storage_key, storage_node_key, storage_node_key_end,
};
use crate::{
    BlockBatch, BlockId, Store, StoreError, base::note_wiped, log_index, lookup, pending, pieces,
    prune,
};
use alloy_primitives::{Address, KECCAK256_EMPTY, U256};
use heddle_trie::{AccountChange, Nibbles, NodeUpdates, StateChanges, TrieUpdates};
use redb::ReadableTable;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

impl Store {
    /// Writes the genesis block into an empty store. Its changes are the whole genesis state; it
    /// has nothing to be undone, so no history is kept of them.
    ///
    /// # Errors
    /// If there is a block already, or this one is not the genesis that the store was opened with.
    pub fn commit_genesis(&self, batch: &BlockBatch<'_>) -> Result<(), StoreError> {
        let writer = self.write_lock()?;
        if self.head().is_some() {
            return Err(StoreError::GenesisExists);
        }
        let expected = self.identity().genesis_hash;
        if batch.hash != expected || batch.header.number != 0 {
            let (number, hash) = (batch.header.number, batch.hash);
            return Err(StoreError::WrongGenesis { number, hash, expected });
        }
        check_even(batch)?;
        self.write(&writer, |tables| {
            apply_changes(tables, 0, batch.changes, false)?;
            note_storage_only(tables, batch.changes)?;
            apply_trie_updates(tables, [&**batch.trie])?;
            pending::set_settled(tables, 0)?;
            write_block(tables, batch)
        })
    }

    /// Appends one block to the chain, with its state, history and look-ups, all or nothing.
    ///
    /// # Errors
    /// If the block does not extend the head, its changes do not start from the stored state, or
    /// the database fails. Nothing is written then.
    pub fn commit_block(&self, batch: &BlockBatch<'_>) -> Result<(), StoreError> {
        self.commit_blocks(std::slice::from_ref(batch))
    }

    /// Appends several blocks, each on the one before it, all or nothing.
    ///
    /// # Errors
    /// As [`Self::commit_block`].
    pub fn commit_blocks(&self, batches: &[BlockBatch<'_>]) -> Result<(), StoreError> {
        let Some(last) = batches.last() else {
            return Ok(());
        };
        let span = tracing::debug_span!(
            "commit_blocks",
            last = last.header.number,
            blocks = batches.len()
        );
        let _entered = span.enter();
        let start = Instant::now();

        let writer = self.write_lock()?;
        let elsewhere = self.snapshot().base.elsewhere;
        let mut head = self.head().ok_or(StoreError::Empty)?;
        for batch in batches {
            check_extends(batch, head)?;
            check_even(batch)?;
            head = BlockId { number: batch.header.number, hash: batch.hash };
        }
        self.write(&writer, |tables| {
            for batch in batches {
                let number = batch.header.number;
                let overwritten = apply_changes(tables, number, batch.changes, elsewhere)?;
                note_storage_only(tables, batch.changes)?;
                if elsewhere {
                    note_wiped(tables, number, batch.changes)?;
                }
                for (place, piece) in (0..).zip(overwritten.encode()) {
                    tables.changes.insert((number, place), piece.as_slice())?;
                }
                tables.pending.add(number, &overwritten, batch.trie);
                write_block(tables, batch)?;
                if tables.pending.is_due(self.inner.config.pending_entries_max) {
                    pending::settle(tables)?;
                }
            }
            prune::follow(tables, head.number, batches.len() as u64, &self.inner.config.prune)
        })?;

        metrics::counter!("heddle_store_blocks_committed_total").increment(batches.len() as u64);
        metrics::histogram!("heddle_store_commit_seconds").record(start.elapsed());
        metrics::gauge!("heddle_store_head_block_number").set(head.number as f64);
        Ok(())
    }
}

pub(crate) fn check_extends(batch: &BlockBatch<'_>, head: BlockId) -> Result<(), StoreError> {
    let (number, parent_hash) = (batch.header.number, batch.header.parent_hash);
    if head.number.checked_add(1) == Some(number) && parent_hash == head.hash {
        return Ok(());
    }
    Err(StoreError::NotOnHead {
        number,
        parent_hash,
        head_number: head.number,
        head_hash: head.hash,
    })
}

pub(crate) fn check_even(batch: &BlockBatch<'_>) -> Result<(), StoreError> {
    let transactions = batch.transactions.len();
    let (senders, receipts) = (batch.senders.len(), batch.receipts.len());
    if senders == transactions && receipts == transactions {
        return Ok(());
    }
    Err(StoreError::UnevenBatch { number: batch.header.number, transactions, senders, receipts })
}

pub(crate) fn write_block(
    tables: &mut WriteTables<'_>,
    batch: &BlockBatch<'_>,
) -> Result<(), StoreError> {
    let number = batch.header.number;
    let header = HeaderRecord::encode(batch.hash, batch.total_difficulty, batch.header);
    tables.headers.insert(number, header.as_slice())?;
    tables.block_numbers.insert(&*batch.hash, number)?;
    let body =
        BodyRecord::encode(batch.transactions, batch.senders, batch.ommers, batch.withdrawals);
    pieces::write(&mut tables.bodies, number, &body)?;
    pieces::write(&mut tables.receipts, number, &encode_receipts(batch.receipts))?;
    lookup::add_block(tables, number, batch.transactions.iter().map(|tx| tx.tx_hash()))?;
    let start = Instant::now();
    log_index::add_block(tables, number, batch.receipts)?;
    metrics::histogram!("heddle_store_log_index_seconds").record(start.elapsed());
    Ok(())
}

/// Applies a block's changes to the flat state; what they overwrote. `number` is for errors. What is not here of a state
/// that is `elsewhere` is taken to have been as the changes say.
pub(crate) fn apply_changes(
    tables: &mut WriteTables<'_>,
    number: u64,
    changes: &StateChanges,
    elsewhere: bool,
) -> Result<ChangeSet, StoreError> {
    let mut overwritten = ChangeSet::default();
    for (address, change) in &changes.accounts {
        let stale = |slot| StoreError::StaleChanges { number, address: *address, slot };
        let mut before = AccountBefore::default();
        if change.before != change.after {
            let mut replaced = replace_account(tables, address, change)?;
            if elsewhere && replaced.is_none() {
                replaced = change.before;
            }
            if replaced != change.before {
                return Err(stale(None));
            }
            before.state = StateBefore::from_overwritten(replaced);
        } else if elsewhere {
            // An account with slots here is here itself, so that undoing a block tells it from one that is gone.
            replace_account(tables, address, change)?;
        }
        if change.wiped || change.after.is_none() {
            before.slots = wipe_storage(tables, address)?;
            for (slot, slot_change) in &change.storage {
                if change.after.is_some() && !slot_change.after.is_zero() {
                    replace_slot(tables, address, *slot, slot_change.after)?;
                    // Not zero only if it is elsewhere what it was.
                    before.slots.entry(*slot).or_insert(slot_change.before);
                }
            }
        } else {
            for (slot, slot_change) in &change.storage {
                let mut replaced = replace_slot(tables, address, *slot, slot_change.after)?;
                if elsewhere && replaced.is_zero() {
                    replaced = slot_change.before;
                }
                if replaced != slot_change.before {
                    return Err(stale(Some(*slot)));
                }
                if replaced != slot_change.after {
                    before.slots.insert(*slot, replaced);
                }
            }
        }
        if before != AccountBefore::default() {
            overwritten.accounts.insert(*address, before);
        }
    }
    for (hash, code) in &changes.code {
        if tables.code.get(&**hash)?.is_none() {
            tables.code.insert(&**hash, code.as_ref())?;
        }
    }
    Ok(overwritten)
}

/// The addresses in an entry of [`meta`], ascending.
pub(crate) fn addresses_in(list: &[u8]) -> impl Iterator<Item = Address> {
    list.chunks_exact(Address::len_bytes()).map(Address::from_slice)
}

/// Writes down the accounts that a block leaves with storage but neither nonce nor code: nothing can
/// be created there (EIP-7610), and reading every account's storage to know would be dear. They come
/// about in the genesis state or before EIP-161; mainnet has 28. The list only grows, which is fine,
/// since [`crate::StateView::has_only_storage`] looks at the storage of those in it.
pub(crate) fn note_storage_only(
    tables: &mut WriteTables<'_>,
    changes: &StateChanges,
) -> Result<(), StoreError> {
    let mut addresses = changes.accounts.iter().filter(|(_, change)| {
        let bare = |state: heddle_trie::AccountState| {
            state.nonce == 0 && state.code_hash == KECCAK256_EMPTY
        };
        change.after.is_some_and(bare) && change.storage.values().any(|slot| !slot.after.is_zero())
    });
    let Some((first, _)) = addresses.next() else {
        return Ok(());
    };
    let mut list: BTreeSet<Address> = match tables.meta.get(meta::STORAGE_ONLY)? {
        Some(list) => addresses_in(list.value()).collect(),
        None => BTreeSet::new(),
    };
    list.insert(*first);
    list.extend(addresses.map(|(address, _)| *address));
    let list: Vec<u8> = list.iter().flat_map(|address| address.0.0).collect();
    tables.meta.insert(meta::STORAGE_ONLY, list.as_slice())?;
    Ok(())
}

/// The account that was there.
fn replace_account(
    tables: &mut WriteTables<'_>,
    address: &Address,
    change: &AccountChange,
) -> Result<Option<heddle_trie::AccountState>, StoreError> {
    let replaced = match &change.after {
        Some(after) => tables.accounts.insert(&address.0.0, encode_account(after).as_slice())?,
        None => tables.accounts.remove(&address.0.0)?,
    };
    replaced.map(|account| decode_account("accounts", account.value())).transpose()
}

/// The value that was there.
fn replace_slot(
    tables: &mut WriteTables<'_>,
    address: &Address,
    slot: U256,
    value: U256,
) -> Result<U256, StoreError> {
    let key = storage_key(address, slot);
    let replaced = if value.is_zero() {
        tables.storage.remove(&key)?
    } else {
        tables.storage.insert(&key, encode_word(&value).as_slice())?
    };
    replaced.map_or(Ok(U256::ZERO), |value| decode_word("storage", value.value()))
}

/// Deletes all slots of an account; what they held. Before Cancun one self-destruct can delete any
/// number of slots; they are all in memory once, as they are in the block's change set.
fn wipe_storage(
    tables: &mut WriteTables<'_>,
    address: &Address,
) -> Result<BTreeMap<U256, U256>, StoreError> {
    let (first, last) = (storage_key(address, U256::ZERO), storage_key(address, U256::MAX));
    let mut slots = BTreeMap::new();
    for entry in tables.storage.range::<&[u8; 52]>(&first..=&last)? {
        let (key, value) = entry?;
        let slot = U256::from_be_slice(&key.value()[20..]);
        slots.insert(slot, decode_word("storage", value.value())?);
    }
    if !slots.is_empty() {
        tables.storage.retain_in::<&[u8; 52], _>(&first..=&last, |_, _| false)?;
    }
    Ok(slots)
}

/// Does to the stored nodes what these updates do one after the other, each node written once.
pub(crate) fn apply_trie_updates<'u>(
    tables: &mut WriteTables<'_>,
    updates: impl IntoIterator<Item = &'u TrieUpdates, IntoIter: Clone>,
) -> Result<(), StoreError> {
    let updates = updates.into_iter();
    for (path, node) in newest(updates.clone().map(|updates| &updates.account_nodes)) {
        let key = account_node_key(path);
        match node {
            Some(rlp) => tables.account_nodes.insert(key.as_slice(), rlp.as_slice())?,
            None => tables.account_nodes.remove(key.as_slice())?,
        };
    }
    let mut storages = BTreeMap::<_, Vec<_>>::new();
    for (hashed_address, updates) in updates.flat_map(|updates| &updates.storage_nodes) {
        storages.entry(*hashed_address).or_default().push(updates);
    }
    for (hashed_address, mut updates) in storages {
        if let Some(wiped) = updates.iter().rposition(|updates| updates.wiped) {
            let end = storage_node_key_end(hashed_address);
            let range = hashed_address.as_slice()..end.as_slice();
            tables.storage_nodes.retain_in(range, |_, _| false)?;
            updates.drain(..wiped);
        }
        for (path, node) in newest(updates.iter().map(|updates| &updates.nodes)) {
            let key = storage_node_key(hashed_address, path);
            match node {
                Some(rlp) => tables.storage_nodes.insert(key.as_slice(), rlp.as_slice())?,
                None => tables.storage_nodes.remove(key.as_slice())?,
            };
        }
    }
    Ok(())
}

/// Every path in order with what the last of several updates makes of its node.
fn newest<'u>(
    updates: impl Iterator<Item = &'u NodeUpdates>,
) -> impl Iterator<Item = (&'u Nibbles, &'u Option<Vec<u8>>)> {
    let mut all: Vec<_> = updates.flatten().collect();
    // Stable: of one path, the newest stays the last.
    all.sort_by_key(|(path, _)| *path);
    let mut all = all.into_iter().peekable();
    std::iter::from_fn(move || {
        loop {
            let (path, node) = all.next()?;
            if all.peek().is_none_or(|(next, _)| *next != path) {
                return Some((path, node));
            }
        }
    })
}
