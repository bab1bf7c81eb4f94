//! What transactions read and write, and who wrote it.

use alloy_primitives::{Address, U256};
use std::fmt;

/// Place of a transaction in its block, from zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxIndex(pub u32);

impl TxIndex {
    /// Beyond every transaction.
    pub(crate) const END: Self = Self(u32::MAX);

    /// For indexing slices.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for TxIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Count of the attempts to execute one transaction, from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

/// One versioned piece of state, identified exactly: a hash that an attacker can make collide
/// would join unrelated state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// Balance, nonce and code hash of an account.
    Account(Address),
    /// One storage slot.
    Slot(Address, U256),
    /// All storage of an account at once: written where the account is destroyed or created anew.
    /// A slot holds what was written to it after the last of these.
    Wipe(Address),
}

impl Location {
    /// The account that this is a part of.
    pub const fn address(&self) -> Address {
        match self {
            Self::Account(address) | Self::Slot(address, _) | Self::Wipe(address) => *address,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(address) => write!(f, "account {address}"),
            Self::Slot(address, slot) => write!(f, "slot {slot:#x} of {address}"),
            Self::Wipe(address) => write!(f, "all storage of {address}"),
        }
    }
}
