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
    /// Not on a fork.
    nodes: Option<PastNodes>,
}

impl Chain {
    /// Starts on the state after a block of the chain.
    ///
    /// # Errors
    /// If there is no such block, or it lies so far back that the nodes of its trie cannot be made
    /// any more ([`heddle_store::Store::reorg_depth`]).
    pub fn scratch_at(&self, number: u64) -> Result<Scratch, ChainError> {
        let state = self.state_at(number)?;
        let nodes = if state.is_fork() { None } else { Some(self.store.past_nodes(number)?) };
        Ok(Scratch { state, nodes })
    }
}

impl Scratch {
    /// The state.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The nodes of the state's trie; a fork's has none.
    pub(crate) fn nodes(&self) -> Option<OverlayReader<'_, &StateView>> {
        self.nodes.as_ref().map(PastNodes::reader)
    }

    pub(crate) const fn past_nodes(&self) -> Option<&PastNodes> {
        self.nodes.as_ref()
    }

    /// Whether the state has a root: on a fork it is zero instead.
    pub const fn has_root(&self) -> bool {
        self.nodes.is_some()
    }

    /// The root of the state after these changes; zero on a fork.
    ///
    /// # Errors
    /// When the database fails.
    pub fn root_after(&self, changes: &StateChanges) -> Result<B256, ChainError> {
        let Some(nodes) = self.nodes() else { return Ok(B256::ZERO) };
        let (root, _) = state_root(&nodes, changes).map_err(StoreError::from)?;
        Ok(root)
    }

    /// Makes the changes; gives the root of the state after them, zero on a fork.
    ///
    /// # Errors
    /// When the database fails.
    pub fn apply(&mut self, changes: StateChanges) -> Result<B256, ChainError> {
        let mut after = B256::ZERO;
        if let Some(nodes) = &mut self.nodes {
            let (root, updates) =
                state_root(&nodes.reader(), &changes).map_err(StoreError::from)?;
            nodes.extend(updates);
            after = root;
        }
        self.state = self.state.with_changes(Arc::new(changes));
        Ok(after)
    }

    /// Says of which block the last changes were, so that BLOCKHASH finds it.
    pub fn seal(&mut self, number: u64, hash: B256) {
        self.state.seal(BlockId { number, hash });
    }
}
