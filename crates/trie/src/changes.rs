//! The net change of state that one block makes, in plain Ethereum types.
//!
//! This is the one shape in which state changes travel: the executors produce it, the tries hash
//! it, the store writes it down.

use crate::SortedMap;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use std::collections::BTreeMap;

/// The basic part of an account: everything except its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountState {
    /// Transactions sent, or contracts created, by this account.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// keccak-256 of the code; [`KECCAK256_EMPTY`] for an account without code.
    pub code_hash: B256,
}

impl Default for AccountState {
    fn default() -> Self {
        Self { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY }
    }
}

impl AccountState {
    /// Empty in the sense of EIP-161: no nonce, no balance, no code.
    pub fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code_hash == KECCAK256_EMPTY
    }
}

/// One storage slot before and after the block. The two differ, except under
/// [`AccountChange::wiped`], where `before` is always zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotChange {
    /// Value in the parent state.
    pub before: U256,
    /// Value after the block; zero means that the slot is absent from the trie.
    pub after: U256,
}

/// What one block did to one account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// The account in the parent state, `None` where it did not exist.
    pub before: Option<AccountState>,
    /// The account after the block, `None` where it does not exist.
    pub after: Option<AccountState>,
    /// The storage of the parent state is gone as a whole (self-destruct, or creation over old
    /// storage); `storage` then lists the non-zero slots written afterwards, with `before` zero.
    pub wiped: bool,
    /// Changed slots.
    pub storage: SortedMap<U256, SlotChange>,
}

/// The net change of state of one block: only what differs from the parent state, in order of
/// address and slot, so that two equal changes compare equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// Changed accounts.
    pub accounts: SortedMap<Address, AccountChange>,
    /// Code that accounts in `accounts` refer to and that the block deployed, by its hash.
    pub code: BTreeMap<B256, Bytes>,
}

impl StateChanges {
    /// Whether the block left the state as it was.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The change that this and then `later` make together. `later` starts where this ends.
    #[must_use]
    pub fn then(mut self, later: Self) -> Self {
        let mut accounts: BTreeMap<_, _> = self.accounts.into_iter().collect();
        for (address, change) in later.accounts {
            let change = match accounts.remove(&address) {
                Some(earlier) => earlier.then(change),
                None => change,
            };
            if change.before != change.after || change.wiped || !change.storage.is_empty() {
                accounts.insert(address, change);
            }
        }
        self.accounts = accounts.into_iter().collect();
        self.code.extend(later.code);
        self
    }
}

impl AccountChange {
    fn then(self, later: Self) -> Self {
        // An account that did not exist has no storage that could go.
        let wiped = (self.wiped || later.wiped) && self.before.is_some();
        let kept = if later.wiped { SortedMap::default() } else { self.storage };
        let mut storage: BTreeMap<_, _> = kept.into_iter().collect();
        for (slot, change) in later.storage {
            let before = match storage.get(&slot) {
                _ if wiped => U256::ZERO,
                Some(earlier) => earlier.before,
                None => change.before,
            };
            storage.insert(slot, SlotChange { before, after: change.after });
        }
        storage.retain(|_, change| change.before != change.after);
        let storage = storage.into_iter().collect();
        Self { before: self.before, after: later.after, wiped, storage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Address = Address::repeat_byte(1);

    fn account(nonce: u64) -> Option<AccountState> {
        Some(AccountState { nonce, ..AccountState::default() })
    }

    fn change(
        (before, after): (Option<AccountState>, Option<AccountState>),
        wiped: bool,
        slots: &[(u64, u64, u64)],
    ) -> StateChanges {
        let word = U256::from::<u64>;
        let slot = |(slot, before, after): &(u64, u64, u64)| {
            (word(*slot), SlotChange { before: word(*before), after: word(*after) })
        };
        let storage = slots.iter().map(slot).collect();
        let change = AccountChange { before, after, wiped, storage };
        StateChanges { accounts: [(ADDRESS, change)].into_iter().collect(), code: BTreeMap::new() }
    }

    #[test]
    fn what_the_later_change_takes_back_is_no_change() {
        let there = change((account(1), account(2)), false, &[(1, 5, 6)]);
        let back = change((account(2), account(1)), false, &[(1, 6, 5)]);
        assert!(there.then(back).is_empty());
    }

    #[test]
    fn slots_of_both_changes_count_from_where_the_earlier_one_began() {
        let first = change((account(1), account(2)), false, &[(1, 5, 6), (2, 0, 1)]);
        let second = change((account(2), account(3)), false, &[(1, 6, 7), (3, 8, 9)]);
        let both = change((account(1), account(3)), false, &[(1, 5, 7), (2, 0, 1), (3, 8, 9)]);
        assert_eq!(first.then(second), both);
    }

    #[test]
    fn a_wipe_forgets_the_earlier_slots_and_lasts() {
        let write = change((account(1), account(1)), false, &[(1, 5, 6)]);
        let wipe = change((account(1), account(2)), true, &[(2, 0, 3)]);
        let wiped = change((account(1), account(2)), true, &[(2, 0, 3)]);
        assert_eq!(write.then(wipe.clone()), wiped);
        let after = change((account(2), account(2)), false, &[(1, 0, 4), (2, 3, 0)]);
        assert_eq!(wipe.then(after), change((account(1), account(2)), true, &[(1, 0, 4)]));
        // What did not exist before leaves nothing that could be wiped.
        let create = change((None, account(1)), false, &[(1, 0, 6)]);
        let wipe = change((account(1), None), true, &[]);
        assert!(create.then(wipe).is_empty());
    }
}
