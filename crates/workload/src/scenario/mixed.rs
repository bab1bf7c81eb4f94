//! A busy day.

use super::{
    OWNER, RECEIVER, SENDER, Scenario,
    dao::{OpenDao, PROPOSALS, VOTE_GAS},
    lending::{LENDING_GAS, Market, Role},
    nft::{MINT_GAS, expect_mint},
    tokens,
    tokens::TRANSFER_GAS,
};
use crate::{
    Reading, WorkloadError, WorkloadOptions,
    contracts::{Collectible, Dao, LendingMarket, Own, SwapPool, Token},
    random::{Random, Zipf},
    setup::Setup,
};
use alloy_primitives::{Address, U256, map::HashMap};
use alloy_sol_types::{SolCall, SolValue};
use heddle_evm::RecoveredTransaction;
use std::collections::BTreeSet;

const POOLS: usize = 20;
/// Two for each pool.
const TOKENS: usize = 2 * POOLS;
/// One transaction in so many fails.
const FAILING_ONE_IN: usize = 10;
/// How uneven users are: the busiest of 100,000 sends some 2 % of the transactions.
const USERS_EXPONENT: f64 = 0.8;
/// How uneven pools and tokens are: the busiest pool has more than a quarter of the swaps.
const POOLS_EXPONENT: f64 = 1.0;
/// Gas limit of a swap; one uses some 105,000.
const SWAP_GAS: u64 = 200_000;
/// What a mint costs, in wei.
const PRICE: u64 = 1_000_000_000_000_000;
/// What a swap sells.
const SOLD: u64 = 1_000_000_000;
/// Who transfers may go to.
const RECEIVERS: usize = 100_000;

/// What one transaction does.
#[derive(Debug, Clone, Copy)]
enum Action {
    /// Pool, and whether it sells the first of its tokens.
    Swap(usize, bool),
    Transfer(usize),
    Lend(Role),
    Mint,
    /// The proposal.
    Vote(usize),
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    user: usize,
    action: Action,
    fails: bool,
}

/// Half swaps, a fifth transfers, a tenth each of lending, mints and votes.
fn plan(
    count: usize,
    failing: usize,
    options: &WorkloadOptions,
    random: &mut Random,
) -> Vec<Planned> {
    let users = Zipf::new(options.accounts, USERS_EXPONENT);
    let pools = Zipf::new(POOLS, POOLS_EXPONENT);
    let coins = Zipf::new(TOKENS, POOLS_EXPONENT);
    // An account does one thing with the market, and votes once on each proposal.
    let mut roles: HashMap<usize, Role> = HashMap::default();
    let mut voted: HashMap<usize, usize> = HashMap::default();
    let fails = random.marks(count, failing);
    let planned = |fails: bool| {
        let user = users.draw(random);
        let action = match random.below(10) {
            0..5 => Action::Swap(pools.draw(random), random.chance(0.5)),
            5 | 6 => Action::Transfer(coins.draw(random)),
            7 => Action::Lend(*roles.entry(user).or_insert_with(|| Role::draw(random))),
            8 => Action::Mint,
            _ => match voted.entry(user).or_default() {
                votes if *votes < PROPOSALS && !fails => {
                    *votes += 1;
                    Action::Vote(*votes)
                }
                _ if fails => Action::Vote(PROPOSALS + 1),
                _ => Action::Transfer(coins.draw(random)),
            },
        };
        Planned { user, action, fails }
    };
    fails.into_iter().map(planned).collect()
}

/// Where everything is.
struct Stage {
    owner: Address,
    tokens: Vec<Address>,
    pools: Vec<Address>,
    market: Market,
    collection: Address,
    dao: OpenDao,
}

impl Stage {
    fn deploy(setup: &mut Setup) -> Result<Self, WorkloadError> {
        let owner = setup.funded(OWNER, 0);
        let coins: Vec<_> =
            (0..TOKENS).map(|_| setup.token(owner)).collect::<Result<_, WorkloadError>>()?;
        let mut pools = Vec::with_capacity(POOLS);
        for pair in coins.chunks_exact(2) {
            let arguments = (pair[0], pair[1]).abi_encode();
            let pool = setup.deploy_own(owner, Own::SwapPool, &arguments)?;
            let amount = tokens(1_000_000);
            for token in pair {
                hand_out(setup, owner, owner, *token, pool, amount);
            }
            let provide = SwapPool::provideCall { amount0: amount, amount1: amount };
            setup.call(owner, pool, provide.abi_encode());
            pools.push(pool);
        }
        let arguments = (U256::MAX, U256::MAX, U256::from(PRICE)).abi_encode();
        let collection = setup.deploy_own(owner, Own::Collectible, &arguments)?;
        let market = Market::deploy(setup, owner)?;
        let dao = OpenDao::deploy(setup, owner)?;
        setup.run_block()?;
        Ok(Self { owner, tokens: coins, pools, market, collection, dao })
    }

    /// Gives everyone what the plan needs, and nobody anything else.
    fn outfit(&self, setup: &mut Setup, plan: &[Planned]) -> Result<(), WorkloadError> {
        let users: BTreeSet<_> = plan.iter().map(|planned| planned.user).collect();
        for user in users {
            setup.funded(SENDER, user);
        }
        let mut holdings = BTreeSet::new();
        let mut roles: HashMap<usize, (Role, usize)> = HashMap::default();
        let mut voters = BTreeSet::new();
        for Planned { user, action, .. } in plan {
            match action {
                Action::Swap(pool, first) => {
                    holdings.insert((*user, self.sold(*pool, *first), self.pools[*pool]));
                }
                Action::Transfer(token) => {
                    holdings.insert((*user, self.tokens[*token], Address::ZERO));
                }
                Action::Lend(role) => roles.entry(*user).or_insert((*role, 0)).1 += 1,
                Action::Vote(_) => drop(voters.insert(*user)),
                Action::Mint => {}
            }
        }
        for (user, token, pool) in holdings {
            let holder = setup.account(SENDER, user);
            // Enough for all that anybody does here, far from enough for what fails.
            let value = U256::from(SOLD) * U256::from(plan.len());
            hand_out(setup, self.owner, holder, token, pool, value);
        }
        let mut roles: Vec<_> = roles.into_iter().collect();
        roles.sort_unstable_by_key(|(user, _)| *user);
        for (user, (role, times)) in roles {
            let account = setup.account(SENDER, user);
            self.market.prepare(setup, account, role, times);
        }
        for user in voters {
            let voter = setup.account(SENDER, user);
            self.dao.enrol(setup, voter);
        }
        self.dao.open(setup, PROPOSALS)
    }

    fn sold(&self, pool: usize, first: bool) -> Address {
        self.tokens[2 * pool + usize::from(!first)]
    }

    /// The transaction; one that is to fail is refused by its contract, for the reason that is the
    /// most usual there.
    fn transaction(
        &self,
        setup: &mut Setup,
        random: &mut Random,
        Planned { user, action, fails }: Planned,
    ) -> RecoveredTransaction {
        let from = setup.account(SENDER, user);
        if !fails {
            self.expect(setup, from, action);
        }
        match action {
            Action::Swap(pool, first) => {
                // Refused for slippage: the price is about one.
                let minimum = if fails { 2 * SOLD } else { 1 };
                let call = SwapPool::swapCall {
                    tokenIn: self.sold(pool, first),
                    amountIn: U256::from(SOLD),
                    minimumOut: U256::from(minimum),
                    deadline: U256::MAX,
                };
                setup.transaction(from, self.pools[pool].into(), 0, call.abi_encode(), SWAP_GAS)
            }
            Action::Transfer(token) => {
                // Refused for lack of balance.
                let value = if fails { tokens(1_000_000) } else { U256::from(1) };
                let to = setup.account(RECEIVER, random.below(RECEIVERS));
                if !fails {
                    setup.expect_transfer(self.tokens[token], from, to, 1);
                }
                let call = Token::transferCall { to, value }.abi_encode();
                setup.transaction(from, self.tokens[token].into(), 0, call, TRANSFER_GAS)
            }
            Action::Lend(_) if fails => {
                // Refused for lack of collateral.
                let call = LendingMarket::borrowCall { value: tokens(1_000_000) }.abi_encode();
                setup.transaction(from, self.market.address.into(), 0, call, LENDING_GAS)
            }
            Action::Lend(role) => self.market.operation(setup, from, role),
            Action::Mint => {
                // Refused for the wrong payment.
                let value = if fails { 1 } else { PRICE };
                let call = Collectible::mintCall { quantity: U256::from(1) }.abi_encode();
                setup.transaction(from, self.collection.into(), value.into(), call, MINT_GAS)
            }
            Action::Vote(proposal) if fails => {
                // Refused because there is no such proposal.
                let call = Dao::castVoteCall { id: U256::from(proposal), support: 1 }.abi_encode();
                setup.transaction(from, self.dao.address.into(), 0, call, VOTE_GAS)
            }
            Action::Vote(proposal) => self.dao.vote(setup, random, from, proposal),
        }
    }
}

impl Stage {
    /// Notes what a transaction that is not made to fail does, where that is known from its action.
    fn expect(&self, setup: &mut Setup, from: Address, action: Action) {
        match action {
            Action::Swap(pool, first) => {
                let pair = [self.sold(pool, first), self.sold(pool, !first)];
                setup.expect_swap(from, pair, SOLD);
                let (sold, holder) = (i128::from(SOLD), self.pools[pool]);
                setup.expect(Reading::Tokens { token: pair[0], holder }, sold, sold);
                setup.expect(Reading::Tokens { token: pair[1], holder }, -2 * sold, -1);
            }
            Action::Mint => expect_mint(setup, self.collection, from),
            // Noted where their receiver, value or support is chosen.
            Action::Transfer(_) | Action::Lend(_) | Action::Vote(_) => {}
        }
    }
}

/// Gives `holder` tokens that `spender` may move.
fn hand_out(
    setup: &mut Setup,
    owner: Address,
    holder: Address,
    token: Address,
    spender: Address,
    value: U256,
) {
    setup.mint(token, owner, holder, holder, value);
    let approve = Token::approveCall { spender, value: U256::MAX };
    setup.call(holder, token, approve.abi_encode());
}

pub(crate) fn mixed_defi(
    setup: &mut Setup,
    count: usize,
    options: &WorkloadOptions,
    random: &mut Random,
) -> Result<Scenario, WorkloadError> {
    let stage = Stage::deploy(setup)?;
    let failing = count / FAILING_ONE_IN;
    let plan = plan(count, failing, options, random);
    stage.outfit(setup, &plan)?;
    let fails = |(index, planned): (usize, &Planned)| planned.fails.then_some(index);
    let failing = plan.iter().enumerate().filter_map(fails).collect();
    let transaction = |planned| stage.transaction(setup, random, planned);
    Ok(Scenario { transactions: plan.into_iter().map(transaction).collect(), failing })
}
