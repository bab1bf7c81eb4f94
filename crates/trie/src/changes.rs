//! The net change of state that one block makes, in plain Ethereum types.
//!
//! This is the one shape in which state changes travel: the executors produce it, the tries hash
//! it, the store writes it down.

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
    pub storage: BTreeMap<U256, SlotChange>,
}

/// The net change of state of one block: only what differs from the parent state, in order of
/// address and slot, so that two equal changes compare equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// Changed accounts.
    pub accounts: BTreeMap<Address, AccountChange>,
    /// Code that accounts in `accounts` refer to and that the block deployed, by its hash.
    pub code: BTreeMap<B256, Bytes>,
}

impl StateChanges {
    /// Whether the block left the state as it was.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}
