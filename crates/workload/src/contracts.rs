//! Compiled contracts and how they are called.

use crate::WorkloadError;
use alloy_primitives::Bytes;
use std::path::Path;

alloy_sol_types::sol! {
    interface Token {
        function mint(address to, uint256 value) external;
        function approve(address spender, uint256 value) external returns (bool);
        function transfer(address to, uint256 value) external returns (bool);
        function balanceOf(address holder) external view returns (uint256);
    }

    interface Collectible {
        function mint(uint256 quantity) external payable;
        function totalSupply() external view returns (uint256);
        function balanceOf(address holder) external view returns (uint256);
    }

    interface Dao {
        function lock(uint256 value) external;
        function propose(string calldata description) external returns (uint256 id);
        function castVote(uint256 id, uint8 support) external;
        function proposals(uint256 id) external view returns (address proposer, uint48 start, uint48 end, uint256 againstVotes, uint256 forVotes, uint256 abstainVotes, bytes32 description);
    }

    interface LendingMarket {
        function deposit(uint256 value) external;
        function supplyCollateral(uint256 value) external;
        function borrow(uint256 value) external;
        function repay(uint256 value) external;
        function cash() external view returns (uint256);
        function totalShares() external view returns (uint256);
    }

    interface SwapPool {
        function provide(uint256 amount0, uint256 amount1) external returns (uint256 shares);
        function swap(address tokenIn, uint256 amountIn, uint256 minimumOut, uint256 deadline) external returns (uint256 amountOut);
    }

    /// Uniswap V2's.
    interface PairV2 {
        function getReserves() external view returns (uint112 reserve0, uint112 reserve1, uint32 blockTimestampLast);
    }

    /// Uniswap V2's.
    interface RouterV2 {
        function addLiquidity(address tokenA, address tokenB, uint256 amountADesired, uint256 amountBDesired, uint256 amountAMin, uint256 amountBMin, address to, uint256 deadline) external returns (uint256 amountA, uint256 amountB, uint256 liquidity);
        function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] calldata path, address to, uint256 deadline) external returns (uint256[] memory amounts);
    }

    /// Uniswap V3's.
    interface PositionManager {
        struct MintParams {
            address token0;
            address token1;
            uint24 fee;
            int24 tickLower;
            int24 tickUpper;
            uint256 amount0Desired;
            uint256 amount1Desired;
            uint256 amount0Min;
            uint256 amount1Min;
            address recipient;
            uint256 deadline;
        }
        function createAndInitializePoolIfNecessary(address token0, address token1, uint24 fee, uint160 sqrtPriceX96) external payable returns (address pool);
        function mint(MintParams calldata params) external payable returns (uint256 tokenId, uint128 liquidity, uint256 amount0, uint256 amount1);
    }

    /// Uniswap V3's.
    interface RouterV3 {
        struct ExactInputSingleParams {
            address tokenIn;
            address tokenOut;
            uint24 fee;
            address recipient;
            uint256 deadline;
            uint256 amountIn;
            uint256 amountOutMinimum;
            uint160 sqrtPriceLimitX96;
        }
        function exactInputSingle(ExactInputSingleParams calldata params) external payable returns (uint256 amountOut);
    }
}

/// Our own contracts, compiled into the program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Own {
    TestToken,
    Collectible,
    Dao,
    LendingMarket,
    SwapPool,
    Disperse,
}

impl Own {
    /// What creates it, without the constructor's arguments.
    pub(crate) fn init_code(self) -> Result<Bytes, WorkloadError> {
        macro_rules! built {
            ($name:literal) => {
                (
                    concat!("contracts/build/", $name, ".json"),
                    include_str!(concat!("../../../contracts/build/", $name, ".json")),
                )
            };
        }
        let (path, json) = match self {
            Self::TestToken => built!("TestToken"),
            Self::Collectible => built!("Collectible"),
            Self::Dao => built!("Dao"),
            Self::LendingMarket => built!("LendingMarket"),
            Self::SwapPool => built!("SwapPool"),
            Self::Disperse => built!("Disperse"),
        };
        init_code(Path::new(path), json)
    }
}

/// A contract from Uniswap's npm packages, `path` in `node_modules/@uniswap`.
pub(crate) fn uniswap(node_modules: &Path, path: &str) -> Result<Bytes, WorkloadError> {
    let path = node_modules.join("@uniswap").join(path);
    let json = std::fs::read_to_string(&path).map_err(|error| WorkloadError::Contract {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    init_code(&path, &json)
}

fn init_code(path: &Path, json: &str) -> Result<Bytes, WorkloadError> {
    let fail = |reason: String| WorkloadError::Contract { path: path.to_owned(), reason };
    let json: serde_json::Value =
        serde_json::from_str(json).map_err(|error| fail(error.to_string()))?;
    // Truffle's artifacts, Hardhat's and ours have it at the top, solc's one level down.
    let code = json["bytecode"].as_str().or_else(|| json["evm"]["bytecode"]["object"].as_str());
    let code = code.ok_or_else(|| fail("it has no bytecode".to_owned()))?;
    code.parse().map_err(|_| fail("its bytecode is not hex".to_owned()))
}
