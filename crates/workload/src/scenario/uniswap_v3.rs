//! Swaps through Uniswap V3: the real factory, pools, position manager and swap router.

use super::{OWNER, SENDER, tokens};
use crate::{
    WorkloadError, WorkloadOptions,
    contracts::{PositionManager, RouterV3, Token, uniswap as contract},
    setup::{Setup, with_arguments},
};
use alloy_primitives::{
    Address, Bytes, U256,
    aliases::{I24, U24, U160},
};
use alloy_sol_types::{SolCall, SolValue};
use heddle_evm::RecoveredTransaction;

/// Gas limit of one swap; one uses some 120,000.
pub(super) const SWAP_GAS: u64 = 300_000;
/// What a trader sells in one swap: too little to move the price to where liquidity ends.
pub(super) const SOLD: u64 = 1_000_000_000_000;
/// A fee tier: 0.3 %, with positions at every 60th tick.
const FEE: u32 = 3_000;
/// The outermost ticks of that tier: liquidity everywhere.
const OUTERMOST_TICK: i32 = 887_220;
/// Swaps whose contracts are deployed in one set-up block, to bound what a block holds in memory.
const SWAPS_A_BLOCK: usize = 512;
/// On a node, where each set of router, pool and tokens takes some eight million gas to make.
const SETS_OF_A_NODE: usize = 32;

/// Uniswap V3 without its pools and routers.
pub(super) struct UniswapV3 {
    owner: Address,
    factory: Address,
    weth: Address,
    positions: Address,
    router_code: Bytes,
}

impl UniswapV3 {
    pub(super) fn deploy(
        setup: &mut Setup,
        owner: Address,
        options: &WorkloadOptions,
    ) -> Result<Self, WorkloadError> {
        let code = |path: &str| contract(&options.node_modules, path);
        let artifacts = "v3-periphery/artifacts/contracts";
        let factory_code =
            code("v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json")?;
        let router_code = code(&format!("{artifacts}/SwapRouter.sol/SwapRouter.json"))?;
        let positions_code = code(&format!(
            "{artifacts}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"
        ))?;
        let factory = setup.deploy(owner, factory_code);
        let weth = setup.deploy(owner, code("v2-periphery/build/WETH9.json")?);
        // The descriptor draws the picture of a position, which nobody asks for here.
        let arguments = (factory, weth, Address::ZERO).abi_encode();
        let positions = setup.deploy(owner, with_arguments(&positions_code, &arguments));
        Ok(Self { owner, factory, weth, positions, router_code })
    }

    pub(super) fn router(&self, setup: &mut Setup) -> Address {
        let arguments = (self.factory, self.weth).abi_encode();
        setup.deploy(self.owner, with_arguments(&self.router_code, &arguments))
    }

    /// A pool of two of our tokens at a price of one, with `liquidity` of each.
    pub(super) fn pool(&self, setup: &mut Setup, tokens: [Address; 2], liquidity: U256) {
        let [a, b] = tokens;
        let (token0, token1) = if a < b { (a, b) } else { (b, a) };
        let fee = U24::from(FEE);
        let create = PositionManager::createAndInitializePoolIfNecessaryCall {
            token0,
            token1,
            fee,
            // A price of one, as a root with 96 bits behind the point.
            sqrtPriceX96: U160::from(1) << 96,
        };
        setup.call(self.owner, self.positions, create.abi_encode());
        for token in tokens {
            let mint = Token::mintCall { to: self.owner, value: liquidity };
            setup.call(self.owner, token, mint.abi_encode());
            let approve = Token::approveCall { spender: self.positions, value: U256::MAX };
            setup.call(self.owner, token, approve.abi_encode());
        }
        let outermost = I24::unchecked_from(OUTERMOST_TICK);
        let params = PositionManager::MintParams {
            token0,
            token1,
            fee,
            tickLower: -outermost,
            tickUpper: outermost,
            amount0Desired: liquidity,
            amount1Desired: liquidity,
            amount0Min: U256::ZERO,
            amount1Min: U256::ZERO,
            recipient: self.owner,
            deadline: U256::MAX,
        };
        setup.call(self.owner, self.positions, PositionManager::mintCall { params }.abi_encode());
    }
}

/// Lets a trader sell `value` of a token through a router.
pub(super) fn outfit(
    setup: &mut Setup,
    owner: Address,
    trader: Address,
    router: Address,
    token: Address,
    value: U256,
) {
    setup.mint(token, owner, trader, trader, value);
    let approve = Token::approveCall { spender: router, value: U256::MAX };
    setup.call(trader, token, approve.abi_encode());
}

pub(super) fn swap(
    setup: &mut Setup,
    trader: Address,
    router: Address,
    [sold, bought]: [Address; 2],
) -> RecoveredTransaction {
    setup.expect_swap(trader, [sold, bought], SOLD);
    let params = RouterV3::ExactInputSingleParams {
        tokenIn: sold,
        tokenOut: bought,
        fee: U24::from(FEE),
        recipient: trader,
        deadline: U256::MAX,
        amountIn: U256::from(SOLD),
        amountOutMinimum: U256::from(1),
        sqrtPriceLimitX96: U160::ZERO,
    };
    let call = RouterV3::exactInputSingleCall { params }.abi_encode();
    setup.transaction(trader, router.into(), 0, call, SWAP_GAS)
}

/// Every swap has its own sender, router, pool and tokens. They share a factory, which a swap does
/// not touch.
pub(crate) fn uniswap(
    setup: &mut Setup,
    count: usize,
    options: &WorkloadOptions,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let owner = setup.funded(OWNER, 0);
    let v3 = UniswapV3::deploy(setup, owner, options)?;
    let senders = setup.senders(count);
    let own = if setup.is_live() { SETS_OF_A_NODE.min(senders) } else { senders };
    let mut sets = Vec::with_capacity(own);
    let sold = U256::from(SOLD) * U256::from(setup.each(count));
    for index in 0..own {
        let pair = [setup.token(owner)?, setup.token(owner)?];
        v3.pool(setup, pair, tokens(1_000));
        let router = v3.router(setup);
        sets.push((router, pair));
        if !setup.is_live() {
            let trader = setup.funded(SENDER, index);
            outfit(setup, owner, trader, router, pair[0], sold);
        }
        if sets.len().is_multiple_of(SWAPS_A_BLOCK) {
            setup.run_block()?;
        }
    }
    setup.run_block()?;
    let mut traders = Vec::with_capacity(senders);
    for index in 0..senders {
        let (router, pair) = sets[index % own];
        let trader = setup.account(SENDER, index);
        if setup.is_live() {
            setup.funded(SENDER, index);
            outfit(setup, owner, trader, router, pair[0], sold);
        }
        traders.push((trader, router, pair));
    }
    setup.settle()?;
    let swap = |(trader, router, pair): &_| swap(setup, *trader, *router, *pair);
    Ok(traders.iter().cycle().take(count).map(swap).collect())
}

/// All swaps go through one pool, whose price each of them moves.
pub(crate) fn chain_uniswap(
    setup: &mut Setup,
    count: usize,
    options: &WorkloadOptions,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let owner = setup.funded(OWNER, 0);
    let v3 = UniswapV3::deploy(setup, owner, options)?;
    let pair = [setup.token(owner)?, setup.token(owner)?];
    v3.pool(setup, pair, tokens(1_000_000));
    let router = v3.router(setup);
    setup.settle()?;
    let traders: Vec<_> =
        (0..setup.senders(count)).map(|index| setup.funded(SENDER, index)).collect();
    let sold = U256::from(SOLD) * U256::from(setup.each(count));
    for trader in &traders {
        outfit(setup, owner, *trader, router, pair[0], sold);
    }
    setup.run_block()?;
    let swap = |trader: &Address| swap(setup, *trader, router, pair);
    Ok(traders.iter().cycle().take(count).map(swap).collect())
}
