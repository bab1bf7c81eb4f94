//! A sealed block that is not on the chain yet, as the ground of the next one.

use crate::{Chain, ChainBlock, ChainError, ProducedBlock, State};
use heddle_store::StateView;
use heddle_trie::{OverlayReader, TrieUpdates};
use std::sync::Arc;

/// A block that was made on the head and is being committed, with the state and the tries after it. The next block can
/// be executed and sealed on it meanwhile ([`Chain::produce_after`]); should the commit fail, that one is worth nothing.
#[derive(Debug, Clone)]
pub struct Tip {
    block: Arc<ChainBlock>,
    state: State,
    trie: Arc<TrieUpdates>,
}

impl Tip {
    /// The block.
    pub const fn block(&self) -> &Arc<ChainBlock> {
        &self.block
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// The nodes after the block; a fork's state has none.
    pub(crate) fn nodes(&self) -> Option<OverlayReader<'_, &StateView>> {
        let whole = !self.state.is_fork();
        whole.then(|| OverlayReader { base: self.state.view(), updates: &self.trie })
    }
}

impl Chain {
    /// What `produced` will be once it is committed.
    ///
    /// # Errors
    /// [`ChainError::HeadMoved`] if it was not made on the head.
    pub fn tip(&self, produced: &ProducedBlock) -> Result<Tip, ChainError> {
        let head = self.head_and_state();
        let (parent, head_hash) = (produced.block.header.parent_hash, head.block.hash());
        if parent != head_hash {
            return Err(ChainError::HeadMoved { parent, head: head_hash });
        }
        Ok(Tip {
            block: produced.block.clone(),
            // What was altered since the head is among the changes.
            state: head.base.with_block(produced.block.id(), produced.changes.clone()),
            trie: produced.trie.clone(),
        })
    }

    /// The base fee of a block on `parent`, in wei; zero before London.
    pub fn base_fee_after(&self, parent: &ChainBlock) -> u64 {
        self.spec.next_base_fee(&parent.header).unwrap_or_default()
    }

    /// The price of blob gas in a block on `parent`, in wei; zero before Cancun.
    pub fn blob_base_fee_after(&self, parent: &ChainBlock) -> u128 {
        let timestamp = parent.header.timestamp.saturating_add(1);
        let excess = self.spec.next_excess_blob_gas(&parent.header, timestamp);
        let params = self.spec.blob_params_at(timestamp);
        excess.zip(params).map_or(0, |(excess, params)| params.calc_blob_fee(excess))
    }
}
