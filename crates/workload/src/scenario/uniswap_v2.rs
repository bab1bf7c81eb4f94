//! Swaps through Uniswap V2.

use super::{OWNER, SENDER};
use crate::{
    Reading, WorkloadError, WorkloadOptions,
    contracts::{Own, RouterV2, Token, uniswap},
    setup::{Setup, with_arguments},
};
use alloy_primitives::{Address, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use heddle_evm::RecoveredTransaction;

/// Gas limit of one swap; one uses some 110,000.
const SWAP_GAS: u64 = 250_000;
/// Swaps go round the pools, so that neighbours never meet.
const POOLS: usize = 500;
/// On a node, where each takes some millions of gas to make.
const POOLS_OF_A_NODE: usize = 20;
/// What a swap sells.
const SOLD: u64 = 1_000_000_000;

pub(crate) fn uniswap_v2(
    setup: &mut Setup,
    count: usize,
    options: &WorkloadOptions,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let code = |path| uniswap(&options.node_modules, path);
    let factory_code = code("v2-core/build/UniswapV2Factory.json")?;
    let weth_code = code("v2-periphery/build/WETH9.json")?;
    let router_code = code("v2-periphery/build/UniswapV2Router02.json")?;
    let supply = U256::from(10).pow(U256::from(30)).abi_encode();
    let pair_code = code("v2-core/build/UniswapV2Pair.json")?;
    let token_code = if setup.is_live() {
        // Everyone may mint it.
        Own::TestToken.init_code()?
    } else {
        with_arguments(&code("v2-periphery/build/ERC20.json")?, &supply)
    };
    let owner = setup.funded(OWNER, 0);
    let factory = setup.deploy(owner, with_arguments(&factory_code, &owner.abi_encode()));
    let weth = setup.deploy(owner, weth_code);
    let router = setup.deploy(owner, with_arguments(&router_code, &(factory, weth).abi_encode()));
    let liquidity = U256::from(10).pow(U256::from(24));
    let pools = if setup.is_live() { POOLS_OF_A_NODE } else { POOLS }.min(count.max(1));
    let mut pairs = Vec::with_capacity(pools);
    for _ in 0..pools {
        let [a, b] = [(); 2].map(|()| {
            let token = setup.deploy(owner, token_code.clone());
            if setup.is_live() {
                setup.mint(token, owner, owner, owner, liquidity);
            }
            let approve = Token::approveCall { spender: router, value: U256::MAX };
            setup.call(owner, token, approve.abi_encode());
            token
        });
        let call = RouterV2::addLiquidityCall {
            tokenA: a,
            tokenB: b,
            amountADesired: liquidity,
            amountBDesired: liquidity,
            amountAMin: U256::ZERO,
            amountBMin: U256::ZERO,
            to: owner,
            deadline: U256::MAX,
        };
        setup.call(owner, router, call.abi_encode());
        pairs.push([a, b]);
    }
    setup.run_block()?;
    let amount = U256::from(SOLD);
    let traders = setup.senders(count);
    for index in 0..traders {
        let trader = setup.funded(SENDER, index);
        let [a, _] = pairs[index % pools];
        if setup.is_live() {
            let value = amount * U256::from(setup.each(count));
            setup.mint(a, owner, trader, trader, value);
        } else {
            setup.call(owner, a, Token::transferCall { to: trader, value: amount }.abi_encode());
        }
        let approve = Token::approveCall { spender: router, value: U256::MAX };
        setup.call(trader, a, approve.abi_encode());
    }
    setup.run_block()?;
    let swap = |index: usize| {
        let index = index % traders;
        let trader = setup.account(SENDER, index);
        let pair = pairs[index % pools];
        setup.expect_swap(trader, pair, SOLD);
        expect_reserves(setup, pair_address(factory, pair, &pair_code), pair);
        let call = RouterV2::swapExactTokensForTokensCall {
            amountIn: amount,
            amountOutMin: U256::ZERO,
            path: pair.to_vec(),
            to: trader,
            deadline: U256::MAX,
        };
        setup.transaction(trader, router.into(), 0, call.abi_encode(), SWAP_GAS)
    };
    Ok((0..count).map(swap).collect())
}

/// Where the factory puts the pool of two tokens.
fn pair_address(factory: Address, [a, b]: [Address; 2], pair_code: &[u8]) -> Address {
    let salt = keccak256([a.min(b).0.0, a.max(b).0.0].concat());
    factory.create2_from_code(salt, pair_code)
}

/// Notes a swap of the first token for the second, seen by the pool.
fn expect_reserves(setup: &mut Setup, pair: Address, [sold, bought]: [Address; 2]) {
    let (sold, bought) = if sold < bought { (0, 1) } else { (1, 0) };
    let value = i128::from(SOLD);
    setup.expect(Reading::Reserve { pair, token: sold }, value, value);
    setup.expect(Reading::Reserve { pair, token: bought }, -2 * value, -1);
}
