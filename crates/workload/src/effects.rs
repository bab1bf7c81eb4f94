//! What a workload leaves behind, as a node can be asked about it.

use crate::contracts::{Collectible, Dao, LendingMarket, PairV2, Token};
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;
use std::{collections::BTreeMap, fmt};

/// A number that a contract's view function gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reading {
    /// An account's balance of an ERC-20 token.
    Tokens {
        /// The token.
        token: Address,
        /// The account.
        holder: Address,
    },
    /// What a Uniswap V2 pool believes to have.
    Reserve {
        /// The pool.
        pair: Address,
        /// Which of its tokens, 0 or 1.
        token: u8,
    },
    /// How many collectibles were minted.
    Supply {
        /// The contract.
        collection: Address,
    },
    /// How many an account has.
    Collectibles {
        /// The contract.
        collection: Address,
        /// The account.
        holder: Address,
    },
    /// Votes on a proposal of one kind.
    Tally {
        /// The contract.
        dao: Address,
        /// The proposal's number.
        proposal: u64,
        /// 0 against, 1 for, 2 abstaining.
        support: u8,
    },
    /// What a lending market has at hand.
    Cash {
        /// The contract.
        market: Address,
    },
    /// The shares of those who deposited in it.
    Shares {
        /// The contract.
        market: Address,
    },
}

impl Reading {
    /// The contract to ask.
    pub const fn contract(&self) -> Address {
        match *self {
            Self::Tokens { token, .. } => token,
            Self::Reserve { pair, .. } => pair,
            Self::Supply { collection } | Self::Collectibles { collection, .. } => collection,
            Self::Tally { dao, .. } => dao,
            Self::Cash { market } | Self::Shares { market } => market,
        }
    }

    /// The call data of the question.
    pub fn call(&self) -> Bytes {
        match *self {
            Self::Tokens { holder, .. } => Token::balanceOfCall { holder }.abi_encode(),
            Self::Reserve { .. } => PairV2::getReservesCall {}.abi_encode(),
            Self::Supply { .. } => Collectible::totalSupplyCall {}.abi_encode(),
            Self::Collectibles { holder, .. } => Collectible::balanceOfCall { holder }.abi_encode(),
            Self::Tally { proposal, .. } => {
                Dao::proposalsCall { id: U256::from(proposal) }.abi_encode()
            }
            Self::Cash { .. } => LendingMarket::cashCall {}.abi_encode(),
            Self::Shares { .. } => LendingMarket::totalSharesCall {}.abi_encode(),
        }
        .into()
    }

    /// Which word of the answer it is.
    pub const fn word(&self) -> usize {
        match *self {
            Self::Reserve { token, .. } => token as usize,
            // proposer, start, end, against, for, abstain
            Self::Tally { support, .. } => 3 + support as usize,
            _ => 0,
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens { token, holder } => write!(f, "{holder}'s balance of token {token}"),
            Self::Reserve { pair, token } => write!(f, "reserve {token} of pool {pair}"),
            Self::Supply { collection } => write!(f, "supply of collection {collection}"),
            Self::Collectibles { collection, holder } => {
                write!(f, "{holder}'s share of collection {collection}")
            }
            Self::Tally { dao, proposal, support } => {
                let kind = ["against", "for", "abstaining"].get(usize::from(*support));
                let kind = kind.unwrap_or(&"of an unknown kind");
                write!(f, "votes {kind} on proposal {proposal} of {dao}")
            }
            Self::Cash { market } => write!(f, "cash of market {market}"),
            Self::Shares { market } => write!(f, "shares of market {market}"),
        }
    }
}

/// By how much a reading changes: exactly so much, or, where that depends on the order of
/// transactions, something in between. Both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// At least.
    pub low: i128,
    /// At most.
    pub high: i128,
}

impl Change {
    /// Whether a reading went as it was to.
    pub fn is_met(&self, before: U256, after: U256) -> bool {
        let difference = if after >= before {
            i128::try_from(after - before).ok()
        } else {
            i128::try_from(before - after).ok().map(|less| -less)
        };
        difference.is_some_and(|difference| (self.low..=self.high).contains(&difference))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{:+}", self.low)
        } else {
            write!(f, "{:+} to {:+}", self.low, self.high)
        }
    }
}

/// The changes of many transactions, summed.
#[derive(Debug, Default)]
pub(crate) struct Effects(BTreeMap<Reading, Change>);

impl Effects {
    pub(crate) fn add(&mut self, reading: Reading, low: i128, high: i128) {
        let change = self.0.entry(reading).or_default();
        change.low += low;
        change.high += high;
    }

    pub(crate) fn into_vec(self) -> Vec<(Reading, Change)> {
        self.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_met_between_their_ends() {
        let change = Change { low: -3, high: 2 };
        for (before, after, met) in
            [(10_u64, 7_u64, true), (10, 12, true), (10, 6, false), (10, 13, false)]
        {
            assert_eq!(change.is_met(U256::from(before), U256::from(after)), met, "{after}");
        }
        assert!(!change.is_met(U256::ZERO, U256::MAX), "more than fits is no change in between");
        assert!(!change.is_met(U256::MAX, U256::ZERO));
    }

    #[test]
    fn what_several_transactions_do_is_summed() {
        let mut effects = Effects::default();
        let reading = Reading::Supply { collection: Address::ZERO };
        effects.add(reading, 1, 1);
        effects.add(reading, -5, 2);
        assert_eq!(effects.into_vec(), [(reading, Change { low: -4, high: 3 })]);
    }
}
