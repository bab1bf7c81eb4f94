//! The tries of the head's state, kept in memory from block to block.

use alloy_primitives::B256;
use heddle_store::StoreError;
use heddle_trie::{NodeReader, StateTrie};
use parking_lot::Mutex;

/// The tries of the state after one block, with the nodes that recent blocks visited. Whoever makes the next block takes
/// them out and puts back those after it; what belongs to another block than the one asked for is of no use any more.
#[derive(Debug, Default)]
pub(crate) struct KeptTrie(Mutex<Option<(B256, StateTrie)>>);

impl KeptTrie {
    /// Takes out the tries after `block`, or makes them anew over `nodes`, which are those of the same state.
    pub(crate) fn take<R>(&self, block: B256, nodes: &R) -> Result<StateTrie, StoreError>
    where
        R: NodeReader<Error = StoreError>,
    {
        match self.0.lock().take() {
            Some((kept, trie)) if kept == block => Ok(trie),
            _ => Ok(StateTrie::stored(nodes)?),
        }
    }

    /// Keeps the tries after `block`.
    pub(crate) fn put(&self, block: B256, trie: StateTrie) {
        *self.0.lock() = Some((block, trie));
    }
}
