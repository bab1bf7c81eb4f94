//! Plain transfers, and transfers of one token.

use super::{OWNER, RECEIVER, SENDER};
use crate::{WorkloadError, contracts::Token, setup::Setup};
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use heddle_evm::RecoveredTransaction;

/// Gas limit of one ERC-20 transfer; one to a new holder uses some 52,000.
pub(super) const TRANSFER_GAS: u64 = 80_000;
/// Tokens that a holder has.
const HELD: u64 = 1_000_000_000;

pub(crate) fn transfers(setup: &mut Setup, count: usize) -> Vec<RecoveredTransaction> {
    let senders = setup.senders(count);
    (0..count)
        .map(|index| {
            let from = setup.funded(SENDER, index % senders);
            let to = setup.account(RECEIVER, index % senders);
            setup.transaction(from, to.into(), 1, [], 21_000)
        })
        .collect()
}

/// A token that each of `holders` has, the second of a pair through a mint by the first.
fn token_with_holders(
    setup: &mut Setup,
    holders: impl Iterator<Item = (Address, Address)>,
) -> Result<Address, WorkloadError> {
    let owner = setup.funded(OWNER, 0);
    let token = setup.token(owner)?;
    setup.settle()?;
    for (minter, holder) in holders {
        setup.mint(token, owner, minter, holder, U256::from(HELD));
    }
    setup.run_block()?;
    Ok(token)
}

fn transfer(
    setup: &mut Setup,
    token: Address,
    [from, to]: [Address; 2],
    value: u64,
) -> RecoveredTransaction {
    setup.expect_transfer(token, from, to, value);
    let call = Token::transferCall { to, value: U256::from(value) };
    setup.transaction(from, token.into(), 0, call.abi_encode(), TRANSFER_GAS)
}

/// Both sides hold the token before, as they mostly do.
pub(crate) fn erc20(
    setup: &mut Setup,
    count: usize,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let parties = setup.senders(count);
    let senders: Vec<_> = (0..parties).map(|index| setup.funded(SENDER, index)).collect();
    let receivers: Vec<_> = (0..parties).map(|index| setup.account(RECEIVER, index)).collect();
    let holders = senders.iter().chain(&receivers).copied();
    let minters = senders.iter().chain(&senders).copied();
    let token = token_with_holders(setup, minters.zip(holders))?;
    let pairs = senders.iter().zip(&receivers).cycle().take(count);
    Ok(pairs.map(|(from, to)| transfer(setup, token, [*from, *to], 1)).collect())
}

pub(crate) fn chain_erc20(
    setup: &mut Setup,
    count: usize,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let parties = setup.senders(count + 1);
    let holders: Vec<_> = (0..parties).map(|index| setup.funded(SENDER, index)).collect();
    // In a block only the first has tokens: everyone passes on what the one before gave. A node may
    // take them in another order, so there everyone has some, and passes them round a ring.
    let (first, value) = if setup.is_live() { (parties, 1) } else { (1, HELD) };
    let first = holders[..first].iter().copied();
    let token = token_with_holders(setup, first.clone().zip(first))?;
    let at = |index: usize| holders[index % parties];
    let pair = |index| transfer(setup, token, [at(index), at(index + 1)], value);
    Ok((0..count).map(pair).collect())
}
