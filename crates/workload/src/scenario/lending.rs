//! A lending market.

use super::{OWNER, SENDER, tokens};
use crate::{
    Reading, WorkloadError,
    contracts::{LendingMarket, Own, Token},
    random::Random,
    setup::{Setup, Step},
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
        setup.mint(token, self.owner, to, to, value);
        let approve = Token::approveCall { spender: self.address, value: U256::MAX };
        setup.call(to, token, approve.abi_encode());
    }

    /// Brings an account to where it can do what it is to do, so many times.
    pub(super) fn prepare(&self, setup: &mut Setup, account: Address, role: Role, times: usize) {
        // Of the collateral three quarters can be borrowed.
        let value = tokens((4 * times as u64).max(1_000));
        self.give(setup, account, self.asset, value);
        if role == Role::Deposits {
            return;
        }
        self.give(setup, account, self.collateral, value);
        let supply = LendingMarket::supplyCollateralCall { value };
        setup.call_in(Step::Second, account, self.address, supply.abi_encode());
        if role == Role::Repays {
            let value = tokens((2 * times as u64).max(100));
            let borrow = LendingMarket::borrowCall { value };
            setup.call_in(Step::Second, account, self.address, borrow.abi_encode());
        }
    }

    pub(super) fn operation(
        &self,
        setup: &mut Setup,
        account: Address,
        role: Role,
    ) -> RecoveredTransaction {
        let value = tokens(1);
        self.expect(setup, account, role);
        let call = match role {
            Role::Deposits => LendingMarket::depositCall { value }.abi_encode(),
            Role::Borrows => LendingMarket::borrowCall { value }.abi_encode(),
            Role::Repays => LendingMarket::repayCall { value }.abi_encode(),
        };
        setup.transaction(account, self.address.into(), 0, call, LENDING_GAS)
    }
}

impl Market {
    /// Notes an operation on one token.
    fn expect(&self, setup: &mut Setup, account: Address, role: Role) {
        let one = 1_000_000_000_000_000_000;
        let paid_in = if role == Role::Borrows { -one } else { one };
        setup.expect(Reading::Cash { market: self.address }, paid_in, paid_in);
        let held = Reading::Tokens { token: self.asset, holder: account };
        setup.expect(held, -paid_in, -paid_in);
        if role == Role::Deposits {
            // A share is worth a token at first, and interest makes it worth more.
            setup.expect(Reading::Shares { market: self.address }, one / 2, one);
        }
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
    setup.settle()?;
    let senders = setup.draw_senders(count, EACH, random);
    let times = EACH.max(setup.each(count));
    let accounts = senders.iter().max().map_or(0, |last| last + 1);
    let roles: Vec<_> = (0..accounts).map(|_| Role::draw(random)).collect();
    for (index, role) in roles.iter().enumerate() {
        let account = setup.funded(SENDER, index);
        market.prepare(setup, account, *role, times);
    }
    setup.run_block()?;
    let operation = |sender: usize| {
        let account = setup.account(SENDER, sender);
        market.operation(setup, account, roles[sender])
    };
    Ok(senders.into_iter().map(operation).collect())
}
