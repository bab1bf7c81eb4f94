//! Where the state of a store begins. That is the genesis block, unless the chain was loaded from a
//! dump: then it is the block that was the dump's head, whose state was given as a whole. Of earlier
//! blocks such a store may hold headers, bodies and receipts, but no state.
//!
//! Or the chain is a fork: then the base is a block of another node, and nothing of its state is here but what later
//! blocks changed, which is kept as ever. An account or a slot that is not here is then either gone or was never
//! changed: if blocks here made it disappear, there is history of that; otherwise it is what it was at the base, which
//! somebody else knows ([`StateView::knows_account`], [`StateView::knows_slot`]). A wiped storage has no history of the
//! slots that are not here, so wiping is written down for itself. Where a state is not known as a whole, there is no
//! trie of it.

use crate::commit::{
    apply_changes, apply_trie_updates, check_even, check_extends, note_storage_only, write_block,
};
use crate::open::identity_entries;
use crate::schema::{ReadTables, WriteTables, meta};
use crate::{BlockBatch, BlockId, StateView, Store, StoreError, pending};
use alloy_primitives::{Address, B256, U256};
use heddle_trie::StateChanges;
use redb::ReadableTable;

/// The first block with a state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) number: u64,
    /// The root of its state, where that need not be the one in its header.
    pub(crate) root: Option<B256>,
    /// Whether its state is somewhere else.
    pub(crate) elsewhere: bool,
}

/// The length of an entry of [`meta::WIPED`]: an address and a block number.
const WIPED_BYTES: usize = 28;

/// A chain from somewhere else, to take the place of the one in a store.
#[derive(Debug, Clone, Copy)]
pub struct NewBase<'a> {
    /// Blocks before its head, ascending, each the next one's parent, whose states are not known.
    pub earlier: &'a [BlockBatch<'a>],
    /// The head. Its changes are its whole state, as a change from nothing.
    pub head: BlockBatch<'a>,
    /// The root of that state, which need not be the one in the header.
    pub root: B256,
}

impl Base {
    fn encode(number: u64, root: B256) -> [u8; 40] {
        let mut out = [0; 40];
        out[..8].copy_from_slice(&number.to_be_bytes());
        out[8..].copy_from_slice(root.as_slice());
        out
    }

    pub(crate) fn read(tables: &ReadTables) -> Result<Self, StoreError> {
        let Some(base) = tables.meta.get(meta::BASE)? else {
            return Ok(Self::default());
        };
        let elsewhere = tables.meta.get(meta::ELSEWHERE)?.is_some();
        match base.value().split_first_chunk() {
            Some((number, root)) if root.len() == B256::len_bytes() => {
                let (number, root) = (u64::from_be_bytes(*number), Some(B256::from_slice(root)));
                Ok(Self { number, root, elsewhere })
            }
            _ => Err(StoreError::damaged("meta", "the base is not a number and a root")),
        }
    }

    /// Refuses blocks whose state is not kept.
    pub(crate) const fn check(&self, number: u64) -> Result<(), StoreError> {
        if number < self.number {
            return Err(StoreError::StateNotKept { number, base: self.number });
        }
        Ok(())
    }

    /// Refuses what takes the whole state.
    pub(crate) const fn check_whole(&self) -> Result<(), StoreError> {
        if self.elsewhere {
            return Err(StoreError::NotWhole { base: self.number });
        }
        Ok(())
    }
}

/// The entries of [`meta::WIPED`], by address and number.
pub(crate) fn read_wiped(tables: &ReadTables) -> Result<Vec<(Address, u64)>, StoreError> {
    match tables.meta.get(meta::WIPED)? {
        None => Ok(Vec::new()),
        Some(list) => Ok(decode_wiped(list.value())),
    }
}

fn decode_wiped(list: &[u8]) -> Vec<(Address, u64)> {
    let entry = |entry: &[u8; WIPED_BYTES]| {
        let (address, number) = entry.split_at(Address::len_bytes());
        let number = number.try_into().map_or(0, u64::from_be_bytes);
        (Address::from_slice(address), number)
    };
    list.as_chunks().0.iter().map(entry).collect()
}

/// Writes down whose storage a block of a fork wiped.
pub(crate) fn note_wiped(
    tables: &mut WriteTables<'_>,
    number: u64,
    changes: &StateChanges,
) -> Result<(), StoreError> {
    let wiped =
        changes.accounts.iter().filter(|(_, change)| change.wiped || change.after.is_none());
    let wiped: Vec<_> = wiped.map(|(address, _)| (*address, number)).collect();
    if wiped.is_empty() { Ok(()) } else { edit_wiped(tables, |list| list.extend(wiped)) }
}

/// Forgets what blocks after `number` wiped.
pub(crate) fn forget_wiped_after(
    tables: &mut WriteTables<'_>,
    number: u64,
) -> Result<(), StoreError> {
    edit_wiped(tables, |list| list.retain(|(_, wiped)| *wiped <= number))
}

fn edit_wiped(
    tables: &mut WriteTables<'_>,
    edit: impl FnOnce(&mut Vec<(Address, u64)>),
) -> Result<(), StoreError> {
    let mut list = match tables.meta.get(meta::WIPED)? {
        None => Vec::new(),
        Some(list) => decode_wiped(list.value()),
    };
    edit(&mut list);
    list.sort_unstable();
    let encoded: Vec<u8> = list
        .iter()
        .flat_map(|(address, number)| address.0.0.into_iter().chain(number.to_be_bytes()))
        .collect();
    tables.meta.insert(meta::WIPED, encoded.as_slice())?;
    Ok(())
}

impl StateView {
    /// The block whose state is somewhere else, if this is the state of a fork.
    pub fn elsewhere(&self) -> Option<u64> {
        let base = self.snapshot().base;
        base.elsewhere.then_some(base.number)
    }

    /// On a fork, of an account that [`Self::account`] says is not there: whether that is known here. Otherwise it is
    /// what it was at the base.
    ///
    /// # Errors
    /// When the database fails.
    pub fn knows_account(&self, address: &Address) -> Result<bool, StoreError> {
        // A fork's blocks come after the one that was forked, and so after zero.
        Ok(self.snapshot().account_changed_after(address, 0)?.is_some())
    }

    /// As [`Self::knows_account`], of a slot that [`Self::storage`] says is zero.
    ///
    /// # Errors
    /// When the database fails.
    pub fn knows_slot(&self, address: &Address, slot: U256) -> Result<bool, StoreError> {
        if self.wipes(address).any(|number| number <= self.number()) {
            return Ok(true);
        }
        let first = self.snapshot().slot_changed_after(address, slot, 0)?;
        let last = self.next_wipe(address).unwrap_or(u64::MAX);
        Ok(first.is_some_and(|first| first <= last))
    }

    /// The blocks of a fork that wiped the storage of an account, ascending.
    fn wipes(&self, address: &Address) -> impl Iterator<Item = u64> {
        let wiped = &self.snapshot().wiped;
        let from = wiped.partition_point(|entry| *entry < (*address, 0));
        let of = *address;
        wiped[from..]
            .iter()
            .take_while(move |(address, _)| *address == of)
            .map(|(_, number)| *number)
    }

    /// The first of these after the block of this view. History of later changes says nothing about this view then: it
    /// begins with what the wiping left.
    pub(crate) fn next_wipe(&self, address: &Address) -> Option<u64> {
        self.wipes(address).find(|number| *number > self.number())
    }
}

impl Store {
    /// Replaces the whole chain by one whose first block is another node's, and whose state up to it is somewhere else.
    /// All or nothing; which chain the store belongs to stays.
    ///
    /// # Errors
    /// If the store is on disk, where nobody could tell later whose state it was, or the database fails. Nothing has
    /// changed then.
    pub fn fork(&self, head: &BlockBatch<'_>) -> Result<(), StoreError> {
        if self.is_on_disk() {
            return Err(StoreError::ForkOnDisk);
        }
        check_even(head)?;
        let writer = self.write_lock()?;
        self.rewrite(&writer, |tables| {
            for (key, value) in identity_entries(&self.identity()) {
                tables.meta.insert(key, value.as_slice())?;
            }
            let base = Base::encode(head.header.number, head.header.state_root);
            tables.meta.insert(meta::BASE, base.as_slice())?;
            tables.meta.insert(meta::ELSEWHERE, [].as_slice())?;
            pending::set_settled(tables, head.header.number)?;
            write_block(tables, head)
        })
    }

    /// Replaces the whole chain, all or nothing. Which chain the store belongs to stays.
    ///
    /// # Errors
    /// If the blocks do not follow on one another, or the database fails. Nothing has changed then.
    pub fn replace(&self, new: &NewBase<'_>) -> Result<(), StoreError> {
        let mut parent = None;
        for batch in new.earlier.iter().chain([&new.head]) {
            check_even(batch)?;
            if let Some(parent) = parent {
                check_extends(batch, parent)?;
            }
            parent = Some(BlockId { number: batch.header.number, hash: batch.hash });
        }
        let number = new.head.header.number;
        let is_genesis =
            new.head.hash == self.identity().genesis_hash && new.head.header.state_root == new.root;
        let writer = self.write_lock()?;
        self.rewrite(&writer, |tables| {
            for (key, value) in identity_entries(&self.identity()) {
                tables.meta.insert(key, value.as_slice())?;
            }
            if !is_genesis {
                tables.meta.insert(meta::BASE, Base::encode(number, new.root).as_slice())?;
            }
            for batch in new.earlier {
                write_block(tables, batch)?;
            }
            apply_changes(tables, number, new.head.changes, false)?;
            note_storage_only(tables, new.head.changes)?;
            apply_trie_updates(tables, [&**new.head.trie])?;
            pending::set_settled(tables, number)?;
            write_block(tables, &new.head)
        })
    }

    /// The number of the first block whose state is kept: zero, unless the chain was loaded.
    pub fn first_state(&self) -> u64 {
        self.snapshot().base.number
    }

    /// The number of the first block that is here: zero, unless the chain was loaded without it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn first_block(&self) -> Result<u64, StoreError> {
        let snapshot = self.snapshot();
        let first = snapshot.tables.headers.first()?;
        Ok(first.map_or(0, |(number, _)| number.value()))
    }

    /// Whether the state does not begin at the genesis block: [`Self::replace`] was called.
    pub fn is_loaded(&self) -> bool {
        self.snapshot().base.root.is_some()
    }
}
