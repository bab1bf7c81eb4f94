//! A lending market.

use super::{OWNER, SENDER, tokens};
use crate::{
    WorkloadError,
    contracts::{LendingMarket, Own, Token},
    random::Random,
    setup::Setup,
};
use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, SolValue};
use heddle_evm::RecoveredTransaction;

/// Gas limit of one operation; they use 80,000 to 140,000.
pub(super) const LENDING_GAS: u64 = 250_000;
/// Operations that one account does at most.
const EACH: usize = 5;

/// What somebody does with the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Deposits,
    Borrows,
    Repays,
}

impl Role {
    /// Half deposits, a quarter borrows, a quarter repays.
    pub(super) fn draw(random: &mut Random) -> Self {
        match random.below(4) {
            0 | 1 => Self::Deposits,
            2 => Self::Borrows,
            _ => Self::Repays,
        }
    }
}

/// A market with money in it.
pub(super) struct Market {
    owner: Address,
    asset: Address,
    collateral: Address,
    pub(super) address: Address,
}

impl Market {
    pub(super) fn deploy(setup: &mut Setup, owner: Address) -> Result<Self, WorkloadError> {
        let (asset, collateral) = (setup.token(owner)?, setup.token(owner)?);
        let arguments = (asset, collateral).abi_encode();
        let address = setup.deploy_own(owner, Own::LendingMarket, &arguments)?;
        let market = Self { owner, asset, collateral, address };
        let value = tokens(100_000_000);
        market.give(setup, owner, asset, value);
        setup.call(owner, address, LendingMarket::depositCall { value }.abi_encode());
        Ok(market)
    }

    fn give(&self, setup: &mut Setup, to: Address, token: Address, value: U256) {
        setup.call(self.owner, token, Token::mintCall { to, value }.abi_encode());
        let approve = Token::approveCall { spender: self.address, value: U256::MAX };
        setup.call(to, token, approve.abi_encode());
    }

    /// Brings an account to where it can do what it is to do.
    pub(super) fn prepare(&self, setup: &mut Setup, account: Address, role: Role) {
        self.give(setup, account, self.asset, tokens(1_000));
        if role == Role::Deposits {
            return;
        }
        let value = tokens(1_000);
        self.give(setup, account, self.collateral, value);
        let supply = LendingMarket::supplyCollateralCall { value };
        setup.call(account, self.address, supply.abi_encode());
        if role == Role::Repays {
            let borrow = LendingMarket::borrowCall { value: tokens(100) };
            setup.call(account, self.address, borrow.abi_encode());
        }
    }

    pub(super) fn operation(
        &self,
        setup: &mut Setup,
        account: Address,
        role: Role,
    ) -> RecoveredTransaction {
        let value = tokens(1);
        let call = match role {
            Role::Deposits => LendingMarket::depositCall { value }.abi_encode(),
            Role::Borrows => LendingMarket::borrowCall { value }.abi_encode(),
            Role::Repays => LendingMarket::repayCall { value }.abi_encode(),
        };
        setup.transaction(account, self.address.into(), 0, call, LENDING_GAS)
    }
}

/// Everyone deposits, borrows or repays, some again.
pub(crate) fn lending(
    setup: &mut Setup,
    count: usize,
    random: &mut Random,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let owner = setup.funded(OWNER, 0);
    let market = Market::deploy(setup, owner)?;
    let senders = random.senders(count, EACH);
    let accounts = senders.iter().max().map_or(0, |last| last + 1);
    let roles: Vec<_> = (0..accounts).map(|_| Role::draw(random)).collect();
    for (index, role) in roles.iter().enumerate() {
        let account = setup.funded(SENDER, index);
        market.prepare(setup, account, *role);
    }
    setup.run_block()?;
    let operation =
        |sender: usize| market.operation(setup, Setup::account(SENDER, sender), roles[sender]);
    Ok(senders.into_iter().map(operation).collect())
}
