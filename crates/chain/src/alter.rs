//! Changes of the state that no transaction makes: development clients ask for them.
//!
//! What is altered shows at once in the state of the head, whose header stays as it is. The next block starts from it,
//! and carries the change together with its own, so that its state root is true again. What was altered is stored with
//! the number of the block that starts from it, for running it again, also after a restart. A block file cannot say it.

use crate::{Chain, ChainBlock, ChainError, Scratch, State, chain::Head};
use heddle_evm::{BlockState, StateChanges, StateError};
use std::sync::Arc;

/// What is altered after a block: pieces, oldest first, each of which starts where the one before it ends.
///
/// A new alteration is a piece of its own, which is joined with the one before unless that is more than twice as large.
/// So there are few pieces (the logarithm of how much is altered) and an alteration is joined a few times only: thousands
/// of them, one after the other, take time in proportion to their number.
#[derive(Clone, Debug, Default)]
pub struct Alterations {
    pieces: Vec<Arc<StateChanges>>,
}

impl Alterations {
    /// These together with a later change, and how many of the pieces are the same as before.
    fn then(&self, change: StateChanges) -> (Self, usize) {
        let mut pieces = self.pieces.clone();
        let mut last = change;
        while let Some(before) = pieces.pop_if(|before| size(before) <= size(&last) * 2) {
            last = (*before).clone().then(last);
        }
        let kept = pieces.len();
        if !last.is_empty() {
            pieces.push(Arc::new(last));
        }
        (Self { pieces }, kept)
    }

    /// As one change, `None` if nothing is altered.
    pub(crate) fn together(&self) -> Option<StateChanges> {
        let mut newest_first = self.pieces.iter().rev();
        let mut together = (**newest_first.next()?).clone();
        for before in newest_first {
            together = (**before).clone().then(together);
        }
        Some(together)
    }

    /// The state with all of it.
    pub(crate) fn over(&self, base: &State) -> State {
        self.pieces.iter().fold(base.clone(), |state, piece| state.with_changes(piece.clone()))
    }

    /// As they are stored.
    pub(crate) fn stored(pieces: Vec<StateChanges>) -> Self {
        Self { pieces: pieces.into_iter().map(Arc::new).collect() }
    }
}

/// How much there is to copy, roughly.
fn size(changes: &StateChanges) -> usize {
    let slots: usize = changes.accounts.values().map(|account| account.storage.len()).sum();
    changes.accounts.len() + slots + changes.code.len()
}

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
        let (altered, kept) = head.altered.then(changes);
        self.put_altered(&head, altered, kept)
    }

    /// What is altered in the state of the head, to be put back with [`Self::restore_altered`].
    pub fn altered(&self) -> Alterations {
        self.head_and_state().altered.clone()
    }

    /// Makes these the alterations of the head.
    ///
    /// # Errors
    /// If they cannot be stored; nothing changes then.
    pub fn restore_altered(&self, altered: Alterations) -> Result<(), ChainError> {
        let _changing = self.changing.lock();
        let head = self.head_and_state();
        self.put_altered(&head, altered, 0)
    }

    /// The first `kept` pieces are in the store already.
    fn put_altered(
        &self,
        head: &Head,
        altered: Alterations,
        kept: usize,
    ) -> Result<(), ChainError> {
        self.store.put_alterations(kept, &altered.pieces[kept..])?;
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
        Ok(Alterations::stored(self.store.alterations(block.number())?).over(&state))
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
        for changes in self.store.alterations(block.number())? {
            scratch.apply(changes)?;
        }
        Ok(scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, U256};
    use heddle_evm::{AccountChange, AccountState};
    use std::collections::BTreeMap;

    /// Gives accounts balances, one alteration for each; zero takes the account away.
    fn altered(balances: &[(u8, u8)]) -> (Alterations, BTreeMap<Address, AccountChange>) {
        let (mut all, mut plain) = (Alterations::default(), BTreeMap::new());
        for (account, balance) in balances {
            let address = Address::repeat_byte(*account);
            let earlier: Option<&AccountChange> = plain.get(&address);
            let before = earlier.and_then(|change| change.after);
            let balance = U256::from(*balance);
            let state = AccountState { balance, ..AccountState::default() };
            let after = (!balance.is_zero()).then_some(state);
            let change = AccountChange { before, after, ..AccountChange::default() };
            if change.before != change.after {
                let changes = [(address, change)].into_iter().collect();
                all = all.then(StateChanges { accounts: changes, code: BTreeMap::new() }).0;
            }
            plain.insert(address, AccountChange { after, ..AccountChange::default() });
        }
        plain.retain(|_, change| change.before != change.after);
        (all, plain)
    }

    #[test]
    fn pieces_say_together_what_was_altered_one_after_the_other() {
        let mut seed = 1u64;
        let mut below = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((seed >> 33) % bound) as u8
        };
        for accounts in [1, 3, 40, 200] {
            for alterations in [0, 1, 7, 100, 300] {
                let balances: Vec<_> =
                    (0..alterations).map(|_| (below(accounts), below(3))).collect();
                let (all, plain) = altered(&balances);
                let together = all.together().unwrap_or_default();
                assert_eq!(together.accounts.into_iter().collect::<BTreeMap<_, _>>(), plain);
                for pair in all.pieces.windows(2) {
                    assert!(size(&pair[0]) > 2 * size(&pair[1]), "few pieces");
                }
            }
        }
    }

    #[test]
    fn a_piece_that_is_much_smaller_leaves_the_larger_one_as_it_is() {
        let balances: Vec<(u8, u8)> = (0..100).map(|account| (account, 1)).collect();
        let (all, _) = altered(&balances);
        let change = StateChanges {
            accounts: [(Address::ZERO, AccountChange { before: None, ..AccountChange::default() })]
                .into_iter()
                .collect(),
            code: BTreeMap::new(),
        };
        let (more, kept) = all.then(change);
        assert!(kept > 0 && Arc::ptr_eq(&more.pieces[0], &all.pieces[0]));
    }
}
