//! Compiled contracts and how they are called.

use crate::WorkloadError;
use alloy_primitives::Bytes;
use std::path::Path;

alloy_sol_types::sol! {
    interface Token {
        constructor(uint256 totalSupply);
        function mint(address to, uint256 value) external;
        function approve(address spender, uint256 value) external returns (bool);
        function transfer(address to, uint256 value) external returns (bool);
    }

    interface Router {
        function addLiquidity(address tokenA, address tokenB, uint256 amountADesired, uint256 amountBDesired, uint256 amountAMin, uint256 amountBMin, address to, uint256 deadline) external returns (uint256 amountA, uint256 amountB, uint256 liquidity);
        function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] calldata path, address to, uint256 deadline) external returns (uint256[] memory amounts);
    }
}

/// Our own ERC-20, compiled into the program.
pub(crate) fn test_token() -> Result<Bytes, WorkloadError> {
    let json = include_str!("../../../contracts/build/TestToken.json");
    init_code(Path::new("contracts/build/TestToken.json"), json)
}

/// A contract from Uniswap's npm packages, under `node_modules`.
pub(crate) fn uniswap(
    node_modules: &Path,
    package: &str,
    name: &str,
) -> Result<Bytes, WorkloadError> {
    let path =
        node_modules.join("@uniswap").join(package).join("build").join(format!("{name}.json"));
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
    // Truffle's artifacts and ours have it at the top, solc's one level down.
    let code = json["bytecode"].as_str().or_else(|| json["evm"]["bytecode"]["object"].as_str());
    let code = code.ok_or_else(|| fail("it has no bytecode".to_owned()))?;
    code.parse().map_err(|_| fail("its bytecode is not hex".to_owned()))
}
