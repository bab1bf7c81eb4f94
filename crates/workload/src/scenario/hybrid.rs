//! Transfers, token transfers and swaps among the same accounts.

use super::{
    OWNER, SENDER, tokens,
    tokens::TRANSFER_GAS,
    uniswap_v3::{SOLD, UniswapV3, outfit, swap},
};
use crate::{WorkloadError, WorkloadOptions, contracts::Token, random::Random, setup::Setup};
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use heddle_evm::RecoveredTransaction;
use std::collections::BTreeSet;

/// What each kind of transaction uses on average; shares of gas divided by it are shares of
/// transactions.
const GAS: [(Action, f64); 3] =
    [(Action::Plain, 21_000.0), (Action::Token, 43_000.0), (Action::Swap, 123_000.0)];
/// Shares of the block's gas, in the same order.
const SHARES: [f64; 3] = [0.6, 0.2, 0.2];
/// One account in so many is hot.
const HOT_ONE_IN: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Plain,
    Token,
    Swap,
}

/// The accounts, the hot ones first.
struct Accounts {
    count: usize,
    hot: usize,
    hot_ratio: f64,
}

impl Accounts {
    fn draw(&self, random: &mut Random) -> usize {
        if self.hot == self.count || random.chance(self.hot_ratio) {
            random.below(self.hot)
        } else {
            self.hot + random.below(self.count - self.hot)
        }
    }
}

/// What is done in `count` transactions, in random order.
fn actions(count: usize, random: &mut Random) -> Vec<Action> {
    let weights = GAS.iter().zip(SHARES).map(|((_, gas), share)| share / gas);
    let sum: f64 = weights.clone().sum();
    let mut actions = Vec::with_capacity(count);
    for ((action, _), weight) in GAS.iter().zip(weights).skip(1) {
        let number = (count as f64 * weight / sum).round() as usize;
        actions.extend(std::iter::repeat_n(*action, number));
    }
    actions.resize(count, Action::Plain);
    random.shuffle(&mut actions);
    actions
}

pub(crate) fn hybrid(
    setup: &mut Setup,
    count: usize,
    options: &WorkloadOptions,
    random: &mut Random,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let owner = setup.funded(OWNER, 0);
    let v3 = UniswapV3::deploy(setup, owner, options)?;
    let [a, b, c] = [setup.token(owner)?, setup.token(owner)?, setup.token(owner)?];
    let pools = [[a, b], [b, c]];
    for pool in pools {
        v3.pool(setup, pool, tokens(1_000_000));
    }
    let router = v3.router(setup);
    setup.run_block()?;

    let count_accounts = options.accounts.max(1);
    let hot = (count_accounts / HOT_ONE_IN).max(1);
    let accounts = Accounts { count: count_accounts, hot, hot_ratio: options.hot_ratio };
    let parties: Vec<_> = (0..accounts.count).map(|index| setup.funded(SENDER, index)).collect();
    let plan: Vec<_> = actions(count, random)
        .into_iter()
        .map(|action| {
            let (from, to) = (parties[accounts.draw(random)], parties[accounts.draw(random)]);
            let mut pair = pools[random.below(pools.len())];
            random.shuffle(&mut pair);
            (action, from, to, pair)
        })
        .collect();

    // Who needs which token is known now; everything else would be set up for nobody.
    let needed: BTreeSet<(Address, Address)> = plan
        .iter()
        .filter(|(action, ..)| *action != Action::Plain)
        .map(|(_, from, _, [token, _])| (*from, *token))
        .collect();
    for (holder, token) in needed {
        outfit(setup, owner, holder, router, token, U256::from(SOLD) * U256::from(count));
    }
    setup.run_block()?;

    let transaction = |(action, from, to, pair): (Action, Address, Address, [Address; 2])| {
        let one = U256::from(1);
        match action {
            Action::Plain => setup.transaction(from, to.into(), 1, [], 21_000),
            Action::Token => {
                setup.expect_transfer(pair[0], from, to, 1);
                let call = Token::transferCall { to, value: one }.abi_encode();
                setup.transaction(from, pair[0].into(), 0, call, TRANSFER_GAS)
            }
            Action::Swap => swap(setup, from, router, pair),
        }
    };
    Ok(plan.into_iter().map(transaction).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_accounts_get_the_share_that_is_asked_for() {
        for hot_ratio in [0.0, 0.3, 1.0] {
            let accounts = Accounts { count: 10_000, hot: 100, hot_ratio };
            let mut random = Random::new(3);
            let draws = 20_000;
            let hot = (0..draws).filter(|_| accounts.draw(&mut random) < accounts.hot).count();
            let share = hot as f64 / f64::from(draws);
            assert!((share - hot_ratio).abs() < 0.01, "{share} of {hot_ratio}");
        }
    }

    #[test]
    fn transactions_are_in_proportion_to_shares_of_gas() {
        let actions = actions(34_000, &mut Random::new(0));
        let gas = |wanted: Action| {
            let each = GAS.iter().find(|(action, _)| *action == wanted).map_or(0.0, |(_, g)| *g);
            actions.iter().filter(|action| **action == wanted).count() as f64 * each
        };
        let shares = GAS.map(|(action, _)| gas(action));
        let sum: f64 = shares.iter().sum();
        for (gas, share) in shares.iter().zip(SHARES) {
            assert!((gas / sum - share).abs() < 0.001, "{gas} of {sum} is not {share}");
        }
    }
}
