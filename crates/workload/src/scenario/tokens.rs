//! Plain transfers, and transfers of one token.

use super::{OWNER, RECEIVER, SENDER};
use crate::{WorkloadError, contracts::Token, setup::Setup};
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use heddle_evm::RecoveredTransaction;

/// Gas limit of one ERC-20 transfer; one to a new holder uses some 52,000.
pub(super) const TRANSFER_GAS: u64 = 80_000;

pub(crate) fn transfers(setup: &mut Setup, count: usize) -> Vec<RecoveredTransaction> {
    (0..count)
        .map(|index| {
            let from = setup.funded(SENDER, index);
            let to = Setup::account(RECEIVER, index);
            setup.transaction(from, to.into(), 1, [], 21_000)
        })
        .collect()
}

fn token_with_holders(setup: &mut Setup, holders: &[Address]) -> Result<Address, WorkloadError> {
    let owner = setup.funded(OWNER, 0);
    let token = setup.token(owner)?;
    for holder in holders {
        let value = U256::from(1_000_000_000u64);
        setup.call(owner, token, Token::mintCall { to: *holder, value }.abi_encode());
    }
    setup.run_block()?;
    Ok(token)
}

/// Both sides hold the token before, as they mostly do.
pub(crate) fn erc20(
    setup: &mut Setup,
    count: usize,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let senders: Vec<_> = (0..count).map(|index| setup.funded(SENDER, index)).collect();
    let receivers: Vec<_> = (0..count).map(|index| Setup::account(RECEIVER, index)).collect();
    let token = token_with_holders(setup, &[&senders[..], &receivers[..]].concat())?;
    let transfer = |(from, to): (&Address, &Address)| {
        let call = Token::transferCall { to: *to, value: U256::from(1) };
        setup.transaction(*from, token.into(), 0, call.abi_encode(), TRANSFER_GAS)
    };
    Ok(senders.iter().zip(&receivers).map(transfer).collect())
}

pub(crate) fn chain_erc20(
    setup: &mut Setup,
    count: usize,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let holders: Vec<_> = (0..=count).map(|index| setup.funded(SENDER, index)).collect();
    // Only the first has tokens: everyone passes on what the one before gave.
    let token = token_with_holders(setup, &holders[..1])?;
    let transfer = |pair: &[Address]| {
        let call = Token::transferCall { to: pair[1], value: U256::from(1_000_000_000u64) };
        setup.transaction(pair[0], token.into(), 0, call.abi_encode(), TRANSFER_GAS)
    };
    Ok(holders.windows(2).map(transfer).collect())
}
