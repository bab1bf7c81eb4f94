//! Changes of the state that no transaction makes: development clients ask for them.
//!
//! What is altered shows at once in the state of the head, whose header stays as it is. The next block starts from it,
//! and carries the change together with its own, so that its state root is true again. The state that such a block
//! started from is remembered, for running it again; after a restart it is not, and a block file cannot say it.

use crate::{Chain, ChainBlock, ChainError, State, chain::Head};
use alloy_primitives::B256;
use heddle_evm::{BlockState, StateChanges, StateError};
use std::sync::Arc;

impl Chain {
    /// Alters the state of the head. Blocks must not be made at the same time: whoever makes them
    /// has to call this.
    ///
    /// # Errors
    /// If the state cannot be read; nothing is altered then.
    pub fn alter(
        &self,
        change: impl FnOnce(&mut BlockState<State>) -> Result<(), StateError>,
    ) -> Result<(), ChainError> {
        let _changing = self.changing.lock();
        let head = self.head_and_state();
        let mut state = BlockState::new(head.state.clone());
        change(&mut state)?;
        let changes = state.into_changes()?;
        let altered = match &head.altered {
            Some(earlier) => (**earlier).clone().then(changes),
            None => changes,
        };
        self.put_altered(&head, Some(Arc::new(altered)));
        Ok(())
    }

    /// What is altered in the state of the head, to be put back with [`Self::restore_altered`].
    pub fn altered(&self) -> Option<Arc<StateChanges>> {
        self.head_and_state().altered.clone()
    }

    /// Makes these the alterations of the head.
    pub fn restore_altered(&self, altered: Option<Arc<StateChanges>>) {
        let _changing = self.changing.lock();
        let head = self.head_and_state();
        self.put_altered(&head, altered);
    }

    fn put_altered(&self, head: &Head, altered: Option<Arc<StateChanges>>) {
        let altered = altered.filter(|changes| !changes.is_empty());
        let base = head.base.clone();
        let state = match &altered {
            Some(changes) => base.with_changes(changes.clone()),
            None => base.clone(),
        };
        self.put_head(Head { block: head.block.clone(), base, altered, state });
    }

    /// The state that a block started from: its parent's, altered if it was. The parent must be on
    /// the chain.
    ///
    /// # Errors
    /// If it is not, or the state cannot be read.
    pub fn state_before(&self, block: &ChainBlock) -> Result<State, ChainError> {
        let hash = block.header.parent_hash;
        let parent = self.number_by_hash(hash)?;
        let parent = parent.ok_or(ChainError::UnknownParent(hash))?;
        let state = self.state_at(parent)?;
        Ok(match self.altered_before.lock().get(&block.hash()) {
            Some(changes) => state.with_changes(changes.clone()),
            None => state,
        })
    }

    /// Remembers what was altered before a block. Only under `changing`.
    pub(crate) fn remember_altered(&self, block: B256, altered: Arc<StateChanges>) {
        self.altered_before.lock().put(block, altered);
    }
}
