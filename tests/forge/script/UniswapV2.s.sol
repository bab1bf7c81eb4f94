// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "./Vm.sol";

interface Erc20 {
    function approve(address spender, uint256 value) external returns (bool);
    function balanceOf(address owner) external view returns (uint256);
}

interface Router {
    function addLiquidity(
        address tokenA,
        address tokenB,
        uint256 amountA,
        uint256 amountB,
        uint256 minA,
        uint256 minB,
        address to,
        uint256 deadline
    ) external returns (uint256, uint256, uint256);
    function addLiquidityETH(
        address token,
        uint256 amount,
        uint256 minToken,
        uint256 minEth,
        address to,
        uint256 deadline
    ) external payable returns (uint256, uint256, uint256);
    function swapExactTokensForTokens(
        uint256 amountIn,
        uint256 minOut,
        address[] calldata path,
        address to,
        uint256 deadline
    ) external returns (uint256[] memory);
    function swapExactETHForTokens(uint256 minOut, address[] calldata path, address to, uint256 deadline)
        external
        payable
        returns (uint256[] memory);
}

/// Deploys Uniswap V2 and two tokens from the bytecode in Uniswap's npm packages, adds liquidity and swaps.
/// The returned values are what the simulation saw; the test compares them with the chain afterwards.
contract UniswapV2 {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    string private constant CORE = "../node_modules/@uniswap/v2-core/build/";
    string private constant PERIPHERY = "../node_modules/@uniswap/v2-periphery/build/";
    uint256 private constant FOREVER = type(uint256).max;

    function run()
        external
        returns (address factory, address router, address weth, address tokenA, address tokenB, uint256 tokenBOut)
    {
        uint256 key = vm.envUint("DEPLOYER_KEY");
        address deployer = vm.addr(key);
        vm.startBroadcast(key);
        factory = deploy(CORE, "UniswapV2Factory", abi.encode(deployer));
        weth = deploy(PERIPHERY, "WETH9", "");
        router = deploy(PERIPHERY, "UniswapV2Router02", abi.encode(factory, weth));
        tokenA = deploy(PERIPHERY, "ERC20", abi.encode(1_000_000 ether));
        tokenB = deploy(PERIPHERY, "ERC20", abi.encode(1_000_000 ether));

        Erc20(tokenA).approve(router, type(uint256).max);
        Erc20(tokenB).approve(router, type(uint256).max);
        Router(router).addLiquidity(tokenA, tokenB, 1000 ether, 4000 ether, 0, 0, deployer, FOREVER);
        Router(router).addLiquidityETH{value: 100 ether}(tokenA, 1000 ether, 0, 0, deployer, FOREVER);

        uint256 before = Erc20(tokenB).balanceOf(deployer);
        address[] memory path = new address[](2);
        (path[0], path[1]) = (tokenA, tokenB);
        Router(router).swapExactTokensForTokens(1 ether, 1, path, deployer, FOREVER);
        address[] memory throughWeth = new address[](3);
        (throughWeth[0], throughWeth[1], throughWeth[2]) = (weth, tokenA, tokenB);
        Router(router).swapExactETHForTokens{value: 1 ether}(1, throughWeth, deployer, FOREVER);
        tokenBOut = Erc20(tokenB).balanceOf(deployer) - before;
        vm.stopBroadcast();
    }

    function deploy(string memory folder, string memory name, bytes memory arguments) private returns (address made) {
        string memory artifact = vm.readFile(string.concat(folder, name, ".json"));
        string memory code = vm.parseJsonString(artifact, ".evm.bytecode.object");
        bytes memory initCode = bytes.concat(vm.parseBytes(string.concat("0x", code)), arguments);
        assembly {
            made := create(0, add(initCode, 32), mload(initCode))
        }
        require(made != address(0), string.concat("cannot deploy ", name));
    }
}
