//! Blocks that never get onto a chain: their states and state roots, in memory.

use crate::{Chain, ChainError, State};
use alloy_primitives::B256;
use heddle_evm::StateChanges;
use heddle_store::{BlockId, PastNodes, StateView, StoreError};
use heddle_trie::{OverlayReader, state_root};
use std::sync::Arc;

/// States on top of a block of the chain, one after the other. Nothing here is ever stored.
#[derive(Debug, Clone)]
pub struct Scratch {
    state: State,
    nodes: PastNodes,
}

impl Chain {
    /// Starts on the state after a block of the chain.
    ///
    /// # Errors
    /// If there is no such block, or it lies so far back that the nodes of its trie cannot be made
    /// any more ([`crate::REORG_DEPTH_MAX`]).
    pub fn scratch_at(&self, number: u64) -> Result<Scratch, ChainError> {
        Ok(Scratch { state: self.state_at(number)?, nodes: self.store.past_nodes(number)? })
    }
}

impl Scratch {
    /// The state.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The nodes of the state's trie.
    pub(crate) fn nodes(&self) -> OverlayReader<'_, &StateView> {
        self.nodes.reader()
    }

    /// The root of the state after these changes.
    ///
    /// # Errors
    /// When the database fails.
    pub fn root_after(&self, changes: &StateChanges) -> Result<B256, ChainError> {
        let (root, _) = state_root(&self.nodes.reader(), changes).map_err(StoreError::from)?;
        Ok(root)
    }

    /// Makes the changes; gives the root of the state after them.
    ///
    /// # Errors
    /// When the database fails.
    pub fn apply(&mut self, changes: StateChanges) -> Result<B256, ChainError> {
        let (root, nodes) = state_root(&self.nodes.reader(), &changes).map_err(StoreError::from)?;
        self.nodes.extend(nodes);
        self.state = self.state.with_changes(Arc::new(changes));
        Ok(root)
    }

    /// Says of which block the last changes were, so that BLOCKHASH finds it.
    pub fn seal(&mut self, number: u64, hash: B256) {
        self.state.seal(BlockId { number, hash });
    }
}
