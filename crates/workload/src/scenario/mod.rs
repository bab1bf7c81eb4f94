//! What the blocks do: one function for each workload, which sets the stage and gives the block.

mod dao;
mod hybrid;
mod lending;
mod mixed;
mod nft;
mod tokens;
mod uniswap_v2;
mod uniswap_v3;

pub(crate) use dao::dao_vote;
pub(crate) use hybrid::hybrid;
pub(crate) use lending::lending;
pub(crate) use mixed::mixed_defi;
pub(crate) use nft::nft_mint;
pub(crate) use tokens::{chain_erc20, erc20, transfers};
pub(crate) use uniswap_v2::uniswap_v2;
pub(crate) use uniswap_v3::{chain_uniswap, uniswap};

use crate::live::Group;
use alloy_primitives::U256;
use heddle_evm::RecoveredTransaction;

/// A block's transactions, and which of them are made to fail.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) transactions: Vec<RecoveredTransaction>,
    pub(crate) failing: Vec<usize>,
}

impl From<Vec<RecoveredTransaction>> for Scenario {
    fn from(transactions: Vec<RecoveredTransaction>) -> Self {
        Self { transactions, failing: Vec::new() }
    }
}

// Groups of accounts.
const SENDER: Group = Group::Sender;
const RECEIVER: Group = Group::Receiver;
const OWNER: Group = Group::Owner;

/// Whole tokens, in their smallest unit.
fn tokens(count: u64) -> U256 {
    U256::from(count) * U256::from(1_000_000_000_000_000_000_u64)
}
