//! Where the state of a store begins. That is the genesis block, unless the chain was loaded from a
//! dump: then it is the block that was the dump's head, whose state was given as a whole. Of earlier
//! blocks such a store may hold headers, bodies and receipts, but no state.

use crate::commit::{
    apply_changes, apply_trie_updates, check_even, check_extends, note_storage_only, write_block,
};
use crate::open::identity_entries;
use crate::schema::{ReadTables, meta};
use crate::{BlockBatch, BlockId, Store, StoreError};
use alloy_primitives::B256;
use redb::ReadableTable;

/// The first block with a state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) number: u64,
    /// The root of its state, where that need not be the one in its header.
    pub(crate) root: Option<B256>,
}

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
        match base.value().split_first_chunk() {
            Some((number, root)) if root.len() == B256::len_bytes() => {
                Ok(Self { number: u64::from_be_bytes(*number), root: Some(B256::from_slice(root)) })
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
}

impl Store {
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
            apply_changes(tables, number, new.head.changes)?;
            note_storage_only(tables, new.head.changes)?;
            apply_trie_updates(tables, new.head.trie)?;
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
