//! Swaps through Uniswap V2.

use super::{OWNER, SENDER};
use crate::{
    WorkloadError, WorkloadOptions,
    contracts::{RouterV2, Token, uniswap},
    setup::{Setup, with_arguments},
};
use alloy_primitives::U256;
use alloy_sol_types::{SolCall, SolValue};
use heddle_evm::RecoveredTransaction;

/// Gas limit of one swap; one uses some 110,000.
const SWAP_GAS: u64 = 250_000;
/// Swaps go round the pools, so that neighbours never meet.
const POOLS: usize = 500;

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
    let token_code = with_arguments(&code("v2-periphery/build/ERC20.json")?, &supply);
    let owner = setup.funded(OWNER, 0);
    let factory = setup.deploy(owner, with_arguments(&factory_code, &owner.abi_encode()));
    let weth = setup.deploy(owner, weth_code);
    let router = setup.deploy(owner, with_arguments(&router_code, &(factory, weth).abi_encode()));
    let liquidity = U256::from(10).pow(U256::from(24));
    let pools = POOLS.min(count.max(1));
    let mut pairs = Vec::with_capacity(pools);
    for _ in 0..pools {
        let [a, b] = [(); 2].map(|()| {
            let token = setup.deploy(owner, token_code.clone());
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
    let amount = U256::from(1_000_000_000u64);
    for index in 0..count {
        let trader = setup.funded(SENDER, index);
        let [a, _] = pairs[index % pools];
        setup.call(owner, a, Token::transferCall { to: trader, value: amount }.abi_encode());
        let approve = Token::approveCall { spender: router, value: U256::MAX };
        setup.call(trader, a, approve.abi_encode());
    }
    setup.run_block()?;
    let swap = |index: usize| {
        let trader = Setup::account(SENDER, index);
        let call = RouterV2::swapExactTokensForTokensCall {
            amountIn: amount,
            amountOutMin: U256::ZERO,
            path: pairs[index % pools].to_vec(),
            to: trader,
            deadline: U256::MAX,
        };
        setup.transaction(trader, router.into(), 0, call.abi_encode(), SWAP_GAS)
    };
    Ok((0..count).map(swap).collect())
}
