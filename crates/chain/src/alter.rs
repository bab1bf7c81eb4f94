//! Changes of the state that no transaction makes: development clients ask for them.
//!
//! What is altered shows at once in the state of the head, whose header stays as it is. The next block starts from it,
//! and carries the change together with its own, so that its state root is true again. What was altered is stored with
//! the number of the block that starts from it, for running it again, also after a restart. A block file cannot say it.

use crate::{Chain, ChainBlock, ChainError, Scratch, State, chain::Head};
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
        self.put_altered(&head, Some(Arc::new(altered)))
    }

    /// What is altered in the state of the head, to be put back with [`Self::restore_altered`].
    pub fn altered(&self) -> Option<Arc<StateChanges>> {
        self.head_and_state().altered.clone()
    }

    /// Makes these the alterations of the head.
    ///
    /// # Errors
    /// If they cannot be stored; nothing changes then.
    pub fn restore_altered(&self, altered: Option<Arc<StateChanges>>) -> Result<(), ChainError> {
        let _changing = self.changing.lock();
        let head = self.head_and_state();
        self.put_altered(&head, altered)
    }

    fn put_altered(
        &self,
        head: &Head,
        altered: Option<Arc<StateChanges>>,
    ) -> Result<(), ChainError> {
        let altered = altered.filter(|changes| !changes.is_empty());
        self.store.put_alterations(altered.as_deref())?;
        self.put_head(Head::new(head.block.clone(), head.base.clone(), altered));
        Ok(())
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
        // What was altered after the head belongs to its state already, and a block on the chain has
        // its parent below the head.
        if self.hash_by_number(block.number())? != Some(block.hash()) {
            return Ok(state);
        }
        Ok(match self.store.alterations(block.number())? {
            Some(changes) => state.with_changes(Arc::new(changes)),
            None => state,
        })
    }

    /// The state that a block of the chain started from, as [`Self::state_before`] has it, with its tries.
    ///
    /// # Errors
    /// If the block is not on the chain or is genesis, lies so far back that the nodes of its tries cannot be made any
    /// more ([`crate::REORG_DEPTH_MAX`]), or the database fails.
    pub fn scratch_before(&self, block: &ChainBlock) -> Result<Scratch, ChainError> {
        let hash = block.header.parent_hash;
        let parent = self.number_by_hash(hash)?;
        let mut scratch = self.scratch_at(parent.ok_or(ChainError::UnknownParent(hash))?)?;
        if let Some(changes) = self.store.alterations(block.number())? {
            scratch.apply(changes)?;
        }
        Ok(scratch)
    }
}
