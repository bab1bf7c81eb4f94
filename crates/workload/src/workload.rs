//! The workloads by name.

use crate::{
    MemoryState, WorkloadError,
    contracts::{Router, Token, test_token, uniswap},
    setup::Setup,
};
use alloy_consensus::Header;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, SolValue};
use heddle_chainspec::ChainSpec;
use heddle_evm::{BlockInput, InvalidTransactions, RecoveredTransaction, block_context};
use std::{fmt, path::Path, str::FromStr};

/// What a block does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// Plain transfers between accounts of their own: nothing depends on anything.
    Transfers,
    /// Transfers of one ERC-20 token between accounts of their own.
    Erc20,
    /// Swaps through the Uniswap V2 router over many pools, a sender for each swap.
    UniswapV2,
    /// ERC-20 transfers along a chain of accounts: each needs the one before.
    ChainErc20,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Transfers, Self::Erc20, Self::UniswapV2, Self::ChainErc20];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfers => "transfers",
            Self::Erc20 => "erc20",
            Self::UniswapV2 => "uniswap-v2",
            Self::ChainErc20 => "chain-erc20",
        }
    }

    /// How many transactions it has if nobody says otherwise: about one gigagas, but for
    /// Uniswap V2, where the set-up of the pools would take longer than anyone waits.
    pub const fn default_size(self) -> usize {
        match self {
            Self::Transfers => 47_620,
            Self::Erc20 | Self::ChainErc20 => 37_123,
            Self::UniswapV2 => 4_000,
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WorkloadKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("there is no workload {name}; there are {}", known.join(", "))
        })
    }
}

/// A block to measure, and the state it starts from.
#[derive(Debug)]
pub struct Workload {
    /// The rules.
    pub spec: ChainSpec,
    /// The state before the block.
    pub state: MemoryState,
    /// The block's transactions.
    pub transactions: Vec<RecoveredTransaction>,
    header: Header,
    env: EvmEnv,
}

/// Gas limit of one ERC-20 transfer; a cold one to a new holder uses some 52,000.
const TRANSFER_GAS: u64 = 80_000;
/// Gas limit of one Uniswap V2 swap; one uses some 110,000.
const SWAP_GAS: u64 = 250_000;
/// Pools of the Uniswap workload. Swaps go round them, so that neighbours never meet.
const POOLS: usize = 500;

impl Workload {
    /// Makes the workload. `node_modules` is where Uniswap's packages are, for those that need
    /// them.
    pub fn new(
        kind: WorkloadKind,
        transactions: usize,
        node_modules: &Path,
    ) -> Result<Self, WorkloadError> {
        let mut setup = Setup::new()?;
        let transactions = match kind {
            WorkloadKind::Transfers => transfers(&mut setup, transactions),
            WorkloadKind::Erc20 => erc20(&mut setup, transactions)?,
            WorkloadKind::ChainErc20 => chain_erc20(&mut setup, transactions)?,
            WorkloadKind::UniswapV2 => uniswap_v2(&mut setup, transactions, node_modules)?,
        };
        let (header, env) = setup.next_header();
        Ok(Self { spec: setup.spec, state: setup.state, transactions, header, env })
    }

    /// The block as an executor wants it.
    pub fn input(&self) -> BlockInput<'_> {
        BlockInput {
            env: self.env.clone(),
            ctx: block_context(&self.header, &[], Some(&[])),
            transactions: &self.transactions,
            invalid: InvalidTransactions::Reject,
        }
    }
}

const SENDER: u8 = 1;
const RECEIVER: u8 = 2;
const OWNER: u8 = 3;

fn transfers(setup: &mut Setup, count: usize) -> Vec<RecoveredTransaction> {
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
    let token = setup.deploy(owner, test_token()?);
    for holder in holders {
        let value = U256::from(1_000_000_000u64);
        setup.call(owner, token, Token::mintCall { to: *holder, value }.abi_encode());
    }
    setup.run_block()?;
    Ok(token)
}

fn erc20(setup: &mut Setup, count: usize) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let holders: Vec<_> = (0..count).map(|index| setup.funded(SENDER, index)).collect();
    let token = token_with_holders(setup, &holders)?;
    let transfer = |(index, from): (usize, &Address)| {
        let to = Setup::account(RECEIVER, index);
        let call = Token::transferCall { to, value: U256::from(1) };
        setup.transaction(*from, token.into(), 0, call.abi_encode(), TRANSFER_GAS)
    };
    Ok(holders.iter().enumerate().map(transfer).collect())
}

fn chain_erc20(
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

fn uniswap_v2(
    setup: &mut Setup,
    count: usize,
    node_modules: &Path,
) -> Result<Vec<RecoveredTransaction>, WorkloadError> {
    let core = |name| uniswap(node_modules, "v2-core", name);
    let periphery = |name| uniswap(node_modules, "v2-periphery", name);
    let owner = setup.funded(OWNER, 0);
    let with =
        |code: alloy_primitives::Bytes, arguments: Vec<u8>| [code.to_vec(), arguments].concat();
    let factory = setup.deploy(owner, with(core("UniswapV2Factory")?, owner.abi_encode()));
    let weth = setup.deploy(owner, periphery("WETH9")?);
    let router_code = periphery("UniswapV2Router02")?;
    let router = setup.deploy(owner, with(router_code, (factory, weth).abi_encode()));
    let token_code = with(periphery("ERC20")?, U256::from(10).pow(U256::from(30)).abi_encode());
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
        let call = Router::addLiquidityCall {
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
        let call = Router::swapExactTokensForTokensCall {
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

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_evm::execute_block;
    use heddle_parallel::ParallelExecutor;

    #[test]
    fn every_workload_that_needs_no_download_succeeds_and_gives_the_same_in_parallel() {
        let executor = ParallelExecutor::new(4).unwrap();
        for kind in [WorkloadKind::Transfers, WorkloadKind::Erc20, WorkloadKind::ChainErc20] {
            let workload = Workload::new(kind, 300, Path::new("nowhere")).unwrap();
            let expected =
                execute_block(&workload.spec, &workload.state, &workload.input()).unwrap();
            assert!(expected.receipts.iter().all(|receipt| receipt.status()), "{kind}");
            let executed =
                executor.execute(&workload.spec, &workload.state, &workload.input()).unwrap();
            assert_eq!(executed.output, expected, "{kind}");
        }
    }

    #[test]
    fn a_missing_package_is_named() {
        let error = Workload::new(WorkloadKind::UniswapV2, 1, Path::new("nowhere")).unwrap_err();
        assert!(error.to_string().contains("nowhere/@uniswap"), "{error}");
    }
}
